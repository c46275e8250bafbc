"""Sums of products by lists against NumPy; derivatives of several orders against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxmlip.basis.bilinear import Form, bilinear


@pytest.fixture(scope="module")
def form() -> Form:
    """A row without terms, one with many, and terms that occur twice."""
    rng = np.random.default_rng(0)
    result = np.concatenate([rng.integers(1, 6, 40), np.full(30, 3)])
    return Form(rng.integers(0, 4, 70), rng.integers(0, 5, 70), result, rng.normal(size=70), (4, 5, 6))


def values(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(sum(shape)).normal(size=shape))


@pytest.mark.parametrize("device", ["cpu", "gpu"])
@pytest.mark.parametrize("n_atoms", [1, 20])
def test_sums(form, device, n_atoms, monkeypatch):
    """1e-13: the same terms in another order. Elsewhere than on a CPU they are not added one by one."""
    monkeypatch.setattr(jax, "default_backend", lambda: device)
    x, y, expected = values(4, n_atoms), values(5, n_atoms), np.zeros((6, n_atoms))
    np.add.at(expected, form.result, form.factors[:, None] * np.asarray(x)[form.first] * np.asarray(y)[form.second])
    np.testing.assert_allclose(bilinear(x, y, form), expected, rtol=0, atol=1e-13)


def test_derivatives(form):
    """Forwards and backwards, twice; of arguments that are one and the same too. 1e-4: differences of derivatives."""

    def energy(x, y, form=form):
        return jnp.sum(jnp.sin(bilinear(jnp.asarray(x), jnp.asarray(y), form)))

    square = Form(form.first, form.first[::-1], form.result, form.factors, (4, 4, 6))
    check_grads(jax.jit(energy), (values(4, 2), values(5, 2)), order=2, rtol=1e-4)
    check_grads(jax.jit(lambda x: energy(x, x, square)), (values(4, 2),), order=2, rtol=1e-4)


@pytest.mark.parametrize("axes", [(0, 0), (2, None), (None, 1)])
def test_vmap(form, axes):
    """1e-13: rounding."""
    shapes = [[4, 2], [5, 2]]
    for shape, axis in zip(shapes, axes, strict=True):
        if axis is not None:
            shape.insert(axis, 3)
    x, y = (values(*shape) for shape in shapes)
    found = jax.vmap(lambda x, y: bilinear(x, y, form), axes)(x, y)
    each = [
        bilinear(*(part if axis is None else jnp.take(part, k, axis) for part, axis in zip((x, y), axes)), form)
        for k in range(3)
    ]
    np.testing.assert_allclose(found, jnp.stack(each), rtol=0, atol=1e-13)
