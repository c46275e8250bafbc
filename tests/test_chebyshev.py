"""Chebyshev fingerprints against aenet's own numbers, and against the plain double sum over neighbours.

Tolerances: the issue asks for 1e-10 relative to each number; aenet itself is rounded near 1e-14 of the largest term of
a sum, and small results of large terms keep 3e-11 (seen). The plain sum: 1e-12 of the largest number of its kind.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from aenet_reference import NAMES, frames, reference

import jaxmlip
from jaxmlip.basis.chebyshev import chebyshev, chebyshev_factors, unfolding
from jaxmlip.basis.cutoff import cosine_cutoff
from jaxmlip.basis.harmonics import harmonics, sphere_factors
from jaxmlip.descriptors.chebyshev import Expansion, chebyshev_fingerprints
from jaxmlip.graph import edge_vectors
from jaxmlip.potentials.aenet import AENETConfig, fingerprints
from jaxmlip.potentials.base import safe_vectors


@pytest.mark.parametrize("name", NAMES)
def test_aenets_own_fingerprints(name):
    arrays = reference(name)
    config = AENETConfig(species=tuple(map(str, arrays["species"])))
    graph = jaxmlip.batch(frames(arrays), config)
    vectors = safe_vectors(edge_vectors(graph), graph, config.cutoff)
    expected = np.concatenate([arrays[f"f{k}_fingerprints"] for k in range(arrays["n_frames"])])
    np.testing.assert_allclose(fingerprints(config, None, graph, vectors), expected, rtol=1e-10)


def double_sum(vectors, weights, expansion):
    """The definition, pair by pair."""
    r = np.linalg.norm(vectors, axis=1)

    def cutoff(R):
        return weights * np.where(r < R, (np.cos(np.pi * r / R) + 1) / 2, 0)

    x, f = 2 * r / expansion.radial_cutoff - 1, cutoff(expansion.angular_cutoff)
    radial = [
        np.sum(cutoff(expansion.radial_cutoff) * np.cos(n * np.arccos(x))) for n in range(expansion.radial_order + 1)
    ]
    theta = np.arccos(np.clip((vectors / r[:, None]) @ (vectors / r[:, None]).T, -1, 1))
    pairs = np.triu(f[:, None] * f, 1)
    return radial, [np.sum(pairs * np.cos(n * theta)) for n in range(expansion.angular_order + 1)]


@pytest.mark.parametrize("orders", [(0, 0), (1, 2), (7, 9), (30, 20)])
def test_the_double_sum_at_any_order(orders):
    """Radial terms to 1e-12 and angular ones to 1e-10 of the largest: arccos loses digits near straight angles."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 3)) * 2.2
    vectors = vectors[np.linalg.norm(vectors, axis=1) < 6]
    weights = rng.normal(size=len(vectors))
    expansion = Expansion(6.0, orders[0], 4.5, orders[1])
    both = jnp.asarray(np.stack([np.ones_like(weights), weights]))[None]
    mask = jnp.ones((1, len(vectors)), bool)
    found = np.asarray(chebyshev_fingerprints(jnp.asarray(vectors)[None], both, mask, expansion))[0].reshape(2, -1)
    for row, w in zip(found, (np.ones_like(weights), weights)):
        radial, angular = double_sum(vectors, w, expansion)
        np.testing.assert_allclose(row[: orders[0] + 1], radial, rtol=0, atol=1e-12 * np.abs(radial).max())
        np.testing.assert_allclose(row[orders[0] + 1 :], angular, rtol=0, atol=1e-10 * np.abs(angular).max())


def test_no_intermediate_grows_with_pairs_of_neighbors():
    """Cost proportional to neighbours: no array of the compiled function has a second axis of that size."""
    n = 211
    shapes = [jax.ShapeDtypeStruct(s, float) for s in ((2, n, 3), (2, 2, n))]
    mask = jax.ShapeDtypeStruct((2, n), bool)
    gradient = jax.grad(lambda *a: chebyshev_fingerprints(*a, Expansion(8.0, 16, 6.5, 4)).sum())
    jaxpr = jax.make_jaxpr(gradient)(*shapes, mask)
    sizes = [v.aval.shape.count(n) for e in jaxpr.jaxpr.eqns for v in e.outvars]
    assert max(sizes) == 1


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-15), (np.float32, 3e-7)])
def test_cosine_cutoff(dtype, tolerance):
    """To a few roundings; it ends without a step in value or slope."""
    r = jnp.linspace(0, 9, 1001, dtype=dtype)
    exact = np.where(np.asarray(r) < 8, (np.cos(np.pi * np.asarray(r, float) / 8) + 1) / 2, 0)
    assert cosine_cutoff(r, 8.0).dtype == dtype
    np.testing.assert_allclose(cosine_cutoff(r, 8.0), exact, rtol=0, atol=tolerance)
    slopes = jax.vmap(jax.grad(lambda x: cosine_cutoff(x, 8.0)))(jnp.asarray([7.9999999, 8.0, 8.5]))
    np.testing.assert_allclose(slopes, 0, atol=1e-7)


@pytest.mark.parametrize("highest", [0, 1, 4, 16, 40])
def test_products_span_the_polynomials(highest):
    x = np.linspace(-1, 1, 50)
    left, right = chebyshev_factors(x, highest)
    products = np.array([a * b for a in left for b in right])
    np.testing.assert_allclose(unfolding(highest).T @ products, chebyshev(x, highest), rtol=0, atol=1e-13)


def test_addition_theorem():
    rng = np.random.default_rng(1)
    u = rng.normal(size=(20, 3))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    left, right = sphere_factors(*u.T, 6)
    Y = harmonics(6).T @ np.array([a * b for a in left for b in right])
    for degree in range(7):
        part = Y[degree**2 : (degree + 1) ** 2]
        expected = np.polynomial.legendre.legval(np.clip(u @ u.T, -1, 1), np.eye(7)[degree])
        np.testing.assert_allclose(part.T @ part, expected, rtol=0, atol=1e-13)
