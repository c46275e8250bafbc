"""Spherical harmonics, their couplings and the radial functions."""

from itertools import product
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxmlip.basis.couplings import component_harmonics, wigner_3j
from jaxmlip.basis.radial import bessel, polynomial_cutoff

REFERENCE = Path(__file__).parent / "reference" / "nequip" / "wigner_3j_e3nn_torch.npz"


def test_couplings_are_those_of_e3nn():
    """1e-15: rounding of numbers below 1."""
    with np.load(REFERENCE) as content:
        for name in content.files:
            found = wigner_3j(*map(int, name.split("_")))
            np.testing.assert_allclose(found, content[name], rtol=0, atol=1e-15)


def rotations(degrees):
    """A rotation, and what it does to each degree: from harmonics of many directions."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(200, 3))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    matrix = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    matrix *= np.linalg.det(matrix)
    before = np.array(component_harmonics(*directions.T, degrees))
    after = np.array(component_harmonics(*(directions @ matrix.T).T, degrees))
    D = []
    for k in range(degrees + 1):
        rows = slice(k**2, (k + 1) ** 2)
        D.append(np.linalg.lstsq(before[rows].T, after[rows].T, rcond=None)[0].T)
        np.testing.assert_allclose(D[-1] @ before[rows], after[rows], atol=1e-12)
        np.testing.assert_allclose(np.sum(before[rows] ** 2, axis=0), 2 * k + 1, rtol=1e-12)
    return D


def test_couplings_commute_with_rotations():
    """1e-12: sums of some 300 terms below 1; up to degree 4, beyond the reference file."""
    D = rotations(4)
    for l1, l2, l3 in product(range(5), repeat=3):
        if abs(l1 - l2) <= l3 <= l1 + l2:
            C = wigner_3j(l1, l2, l3)
            turned = np.einsum("ia,jb,kc,abc->ijk", D[l1], D[l2], D[l3], C)
            np.testing.assert_allclose(turned, C, atol=1e-12)
            assert np.linalg.norm(C) == pytest.approx(1, rel=1e-14)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-13), ("float32", 2e-5)])
def test_bessel_functions_of_whole_numbers(dtype, tolerance):
    """The recurrence against sines; its error grows as n² (64) roundings."""
    r = np.linspace(0.3, 5.0, 500)
    expected = 2 / 5 * np.sin(np.arange(1, 9) * np.pi * r[:, None] / 5) / r[:, None]
    np.testing.assert_allclose(bessel(jnp.asarray(r, dtype), 5.0, 8), expected, rtol=0, atol=tolerance)
    given = bessel(jnp.asarray(r, dtype), 5.0, jnp.arange(1, 9, dtype=dtype))
    np.testing.assert_allclose(given, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("p", [2, 6])
def test_the_envelope_ends_smoothly(p):
    x = np.array([0.0, 1 - 1e-4, 1.0, 1.2])
    u = np.asarray(polynomial_cutoff(jnp.asarray(x), p))
    assert u[0] == 1
    assert 0 < u[1] < (p + 2) ** 3 * 1e-12  # third order in the distance to 1
    assert not u[2:].any()
