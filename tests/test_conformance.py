"""Every family does what a potential must do, on every kind of structure; the checks are `jaxmlip.testing`'s."""

import pytest

from jaxmlip import testing
from jaxmlip.potentials import FAMILIES
from jaxmlip.potentials.base import Potential
from jaxmlip.potentials.offsets import ZBLConfig, add, zbl

CASES = testing.cases(4.0)


def _potentials() -> dict[str, Potential]:
    built = {name: kind.build(kind.config(species=testing.ELEMENTS, cutoff=4.0)) for name, kind in FAMILIES.items()}
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
