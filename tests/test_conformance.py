"""Every family does what a potential must do, on every kind of structure; the checks are `jaxmlip.testing`'s."""

import os
import subprocess
import sys
from pathlib import Path

import families
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
    built = {name: kind.build(kind.config(species=testing.ELEMENTS, cutoff=4.0)) for name, kind in kinds.items()}
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
