"""QUIP's radial basis of SOAP: equally spaced Gaussians, orthonormalised, as a table of Chebyshev coefficients.

A Gaussian of width σ at distance r, projected on Gaussians of the same width at r_b = (b − 1) R/n_max and on spherical
harmonics, gives (a = 1/2σ², i_l the modified spherical Bessel function of the first kind)

    h_lb(r) = exp(−a (r² + r_b²)) i_l(2 a r r_b),        g_ln(r) = Σ_b h_lb(r) U_bn,    U = C⁻¹ L,

with the covariance C_bb' = exp(−a (r_b − r_b')²) and the overlap S = L Lᵀ of the Gaussians; R lies beyond the cutoff,
where a Gaussian has fallen to 10^−p. These are smooth functions of one variable, so they are interpolated once, to
rounding, by Chebyshev polynomials: evaluating them is then one matrix product, without exponentials, divisions or
recurrences that lose digits at small distances.

References:
    Bartók, Kondor, Csányi, Phys. Rev. B 87, 184115 (2013), equations 28-31 (SOAP).
    The convention of QUIP's `soap` with `radial_basis=EQUISPACED_GAUSS`.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.fft import dct
from scipy.linalg import cholesky, solve
from scipy.special import erf, ive

from jaxmlip.basis.chebyshev import unfolding

_DEGREES = tuple(p * p - 1 for p in range(4, 17))  # so that products of p and p polynomials span exactly these


class Radial(NamedTuple):
    """What the basis is made of: all lengths in Å."""

    cutoff: float
    n_max: int
    l_max: int
    sigma: float
    basis_error_exponent: float


class RadialTable(NamedTuple):
    """g_ln as a combination of products of Chebyshev polynomials of 2 r/cutoff − 1; a pytree.

    ``origin`` is the one number left at r = 0: g_01 of an atom at the centre.
    """

    coefficients: Float[np.ndarray, "n_products n_degrees n_max"]
    origin: Float[np.ndarray, ""]


def radial_functions(r: Float[np.ndarray, " n_points"], radial: Radial) -> Float[np.ndarray, "n_points n_l n_max"]:
    """g_ln at distances ``r`` in Å, without the cutoff function; on the host, exact for any distance.

    >>> radial_functions(np.array([0.0, 2.0]), Radial(5.0, 4, 4, 0.5, 10.0)).shape
    (2, 5, 4)
    """
    a = 0.5 / radial.sigma**2
    U, _ = _orthonormal(radial)
    r_b = _centres(radial)
    x = 2 * a * np.asarray(r, float)[:, None] * r_b
    gaussian = np.exp(-a * (np.asarray(r, float)[:, None] - r_b) ** 2)
    h = np.stack([gaussian * _scaled_bessel(degree, x) for degree in range(radial.l_max + 1)], axis=1)
    return h @ U


@lru_cache(maxsize=64)
def radial_table(radial: Radial, itemsize: int = 8, *, like: Radial | None = None) -> RadialTable:
    """The interpolated basis, to rounding of floating-point numbers of ``itemsize`` bytes.

    ``like``, a basis of narrower Gaussians, says how many polynomials to take: tables of one shape for several widths.

    >>> radial_table(Radial(5.0, 4, 4, 0.5, 10.0)).coefficients.shape[1:]
    (5, 4)
    """
    tolerance = {8: 1e-14, 4: 2e-7, 2: 1e-3}[itemsize]
    for highest in _DEGREES if like is None else (degree_of(radial_table(like, itemsize)),):
        coefficients = _interpolated(radial, highest)
        size = np.abs(coefficients).reshape(highest + 1, -1).max(axis=1)
        if size[-3:].max() <= tolerance * size.max() or highest == _DEGREES[-1]:
            break
    _, L = _orthonormal(radial)
    products = np.tensordot(unfolding(highest), coefficients, axes=1)
    return RadialTable(products, np.asarray(L[0, 0]))


def degree_of(table: RadialTable) -> int:
    """The highest Chebyshev polynomial in ``table``."""
    return table.coefficients.shape[0] - 1


def _interpolated(radial: Radial, highest: int) -> Float[np.ndarray, "n_polynomials n_degrees n_max"]:
    """Coefficients of T_0 … T_highest through the Chebyshev points of 0 … cutoff."""
    nodes = np.cos(np.pi * (np.arange(highest + 1) + 0.5) / (highest + 1))
    values = radial_functions(radial.cutoff * (nodes + 1) / 2, radial)
    coefficients = np.asarray(dct(values, type=2, axis=0)) / (highest + 1)
    coefficients[0] /= 2
    return coefficients


def _centres(radial: Radial) -> np.ndarray:
    """r_b, without the end of the interval."""
    reach = radial.cutoff + radial.sigma * np.sqrt(2 * radial.basis_error_exponent * np.log(10))
    return np.arange(radial.n_max) * reach / radial.n_max


def _orthonormal(radial: Radial) -> tuple[np.ndarray, np.ndarray]:
    """U = C⁻¹ L and L, the lower Cholesky factor of the overlap ∫ r² exp(−a (r − r_b)²) exp(−a (r − r_b')²) dr."""
    a, r_b = 0.5 / radial.sigma**2, _centres(radial)
    P, D = r_b[:, None] + r_b, r_b[:, None] - r_b
    S = np.sqrt(2) * a**1.5 * P * np.exp(-a * (r_b[:, None] ** 2 + r_b**2))
    S += a * np.sqrt(np.pi) * np.exp(-a * D**2 / 2) * (1 + a * P**2) * (1 + erf(np.sqrt(a / 2) * P))
    L = cholesky(S / np.sqrt(128 * a**5), lower=True)
    return solve(np.exp(-a * D**2), L, assume_a="pos"), L


def _scaled_bessel(degree: int, x: np.ndarray) -> np.ndarray:
    """e^{−x} i_l(x)."""
    safe = np.where(x > 0, x, 1.0)
    return np.where(x > 0, np.sqrt(np.pi / (2 * safe)) * ive(degree + 0.5, safe), float(degree == 0))
