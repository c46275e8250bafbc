"""Every family does what a potential must do, on every kind of structure; the checks are `jaxmlip.testing`'s."""

import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import families
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmlip import testing
from jaxmlip.potentials import FAMILIES, trainable
from jaxmlip.potentials.base import Potential
from jaxmlip.potentials.sums import add
from jaxmlip.potentials.zbl import ZBLConfig, zbl

CASES = testing.cases(4.0)


def _potentials() -> dict[str, Potential]:
    kinds = {name: FAMILIES[name] for name in trainable()}
    fewest = {"nequip": {"num_layers": 3}}  # one from types, one between, one to the energy: further ones only repeat
    built = {
        name: kind.build(kind.config(species=testing.ELEMENTS, cutoff=4.0, **fewest.get(name, {})))
        for name, kind in kinds.items()
    }
    repulsion = zbl(ZBLConfig(species=testing.ELEMENTS, cutoff=3.5))
    return {**built, "zbl": repulsion, "snap + zbl": add(built["snap"], repulsion)}


POTENTIALS = _potentials()


@pytest.fixture(scope="module", params=POTENTIALS)
def subject(request):
    return testing.subject(POTENTIALS[request.param])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("check", testing.EVERY_CASE, ids=lambda check: check.__name__)
def test_every_case(subject, check, case):
    check(subject, CASES[case])


@pytest.mark.parametrize("check", testing.ONE_CASE, ids=lambda check: check.__name__)
def test_one_case(subject, check):
    check(subject, CASES[testing.ONE_CASE[check]])


def _with_step(params, graph, vectors):
    """A hundredth of an eV for each neighbour."""
    return ZBL.atomic_energies(params, graph, vectors) + 0.01 * jnp.sum(graph.mask, axis=1, dtype=vectors.dtype)


def _of_places(params, graph, vectors):
    """Atoms know where they are: no force comes of it."""
    return ZBL.atomic_energies(params, graph, vectors) + jnp.sum(graph.positions**2, axis=1)


def _with_padding(params, graph, vectors):
    """Padding repels like neighbours."""
    return ZBL.atomic_energies(params, graph._replace(mask=jnp.ones_like(graph.mask)), vectors)


ZBL = POTENTIALS["zbl"]


@pytest.mark.parametrize(
    ("energies", "message"),
    [
        (ZBL.atomic_energies, None),
        (_with_step, "a step at the cutoff|another potential"),  # also: no factory makes it
        (_of_places, "forces are not"),
        (_with_padding, "padding changes"),
    ],
)
def test_all_checks_together_find_what_is_wrong(energies, message):
    """Repulsion passes; what is done to it does not."""
    with nullcontext() if message is None else pytest.raises(AssertionError, match=message):
        testing.check_all(ZBL._replace(atomic_energies=energies, local=energies is ZBL.atomic_energies))


def test_programs_as_users_compile_them(tmp_path):
    """Tests compile quickly, without optimisation (conftest): 1e-11 of the largest, sums in another order."""
    user = {"XLA_FLAGS": "", "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}
    command = [sys.executable, str(Path(families.__file__)), str(tmp_path / "found.npz")]
    subprocess.run(command, env={**os.environ, **user}, check=True)
    expected = families.predictions()
    with np.load(tmp_path / "found.npz") as found:
        assert set(found.files) == set(expected)
        for name, value in expected.items():
            atol = 1e-11 * np.abs(value).max()
            np.testing.assert_allclose(found[name], value, rtol=0, atol=atol, err_msg=name)
