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
    The convention of QUIP's ``soap`` with ``radial_basis=EQUISPACED_GAUSS``.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Float

from jaxmlip.basis.chebyshev import unfolding

_DEGREES = tuple(p * p - 1 for p in range(4, 17))  # so that products of p and p polynomials span exactly these
_NODES = 256  # of a quadrature: exact to rounding for arguments of the Bessel functions up to some 3,000


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


def radial_functions(r: Float[Any, " n_points"], radial: Radial) -> Float[Any, "n_points n_l n_max"]:
    """g_ln at distances ``r`` in Å, without the cutoff function; exact for any distance.

    >>> radial_functions(np.array([0.0, 2.0]), Radial(5.0, 4, 4, 0.5, 10.0)).shape
    (2, 5, 4)
    """
    xp, a, r_b = _numpy(radial), 0.5 / radial.sigma**2, _centres(radial)
    U, _ = _orthonormal(radial)
    gaussian = xp.exp(-a * (r[:, None] - r_b[None]) ** 2)
    return (gaussian[:, None] * _scaled_bessel(2 * a * r[:, None] * r_b[None], radial.l_max, xp)) @ U


def radial_table(radial: Radial, itemsize: int = 8, *, like: Radial | None = None) -> RadialTable:
    """The interpolated basis, to rounding of floating-point numbers of ``itemsize`` bytes.

    ``cutoff``, ``sigma`` and ``basis_error_exponent`` may be numbers that JAX traces: the table is differentiable by
    them. ``like``, a basis of plain numbers, then says how many polynomials to take; without it they are the most.

    >>> radial_table(Radial(5.0, 4, 4, 0.5, 10.0)).coefficients.shape[1:]
    (5, 4)
    >>> slope = jax.jacfwd(lambda sigma: radial_table(Radial(5.0, 4, 4, sigma, 10.0)).coefficients)(0.5)
    >>> slope.shape[1:]
    (5, 4)

    Raises:
        TypeError: traced numbers that are not float64, too short for the inverse of a covariance.
    """
    if _numpy(radial) is np:
        return _table(radial, itemsize)
    dtypes = {str(x.dtype) for x in radial if isinstance(x, jax.Array)}
    if dtypes != {"float64"}:
        raise TypeError(f"derivatives of SOAP's radial basis need float64, got {dtypes}: use jax.enable_x64(True)")
    return _interpolated(radial, _DEGREES[-1] if like is None else degree_of(_table(like, itemsize)))


def degree_of(table: RadialTable) -> int:
    """The highest Chebyshev polynomial in ``table``."""
    return table.coefficients.shape[0] - 1


@lru_cache(maxsize=64)
def _table(radial: Radial, itemsize: int) -> RadialTable:
    """Of as many polynomials as it takes."""
    tolerance = {8: 1e-14, 4: 2e-7, 2: 1e-3}[itemsize]
    for highest in _DEGREES:
        table = _interpolated(radial, highest)
        coefficients = np.linalg.solve(unfolding(highest), table.coefficients.reshape(highest + 1, -1))
        size = np.abs(coefficients).max(axis=1)
        if size[-3:].max() <= tolerance * size.max():
            break
    return table


def _interpolated(radial: Radial, highest: int) -> RadialTable:
    """Through the Chebyshev points of 0 … cutoff by T_0 … T_highest."""
    xp, n = _numpy(radial), np.arange(highest + 1)
    angles = np.pi * (n + 0.5) / (highest + 1)
    transform = np.cos(n[:, None] * angles) * (2 - (n[:, None] == 0)) / (highest + 1)
    values = radial_functions(radial.cutoff * ((np.cos(angles) + 1) / 2), radial)
    _, L = _orthonormal(radial)
    return RadialTable(xp.tensordot(unfolding(highest) @ transform, values, axes=1), L[0, 0])


def _centres(radial: Radial) -> Any:
    """r_b, without the end of the interval."""
    reach = radial.cutoff + radial.sigma * (2 * radial.basis_error_exponent * np.log(10)) ** 0.5
    return np.arange(radial.n_max) / radial.n_max * reach


def _orthonormal(radial: Radial) -> tuple[Any, Any]:
    """U = C⁻¹ L and L, the lower Cholesky factor of the overlap ∫ r² exp(−a (r − r_b)²) exp(−a (r − r_b')²) dr."""
    xp, a, r_b = _numpy(radial), 0.5 / radial.sigma**2, _centres(radial)
    erf: Any = scipy.special.erf if xp is np else jax.scipy.special.erf
    P, D = r_b[:, None] + r_b[None], r_b[:, None] - r_b[None]
    S = np.sqrt(2) * a**1.5 * P * xp.exp(-a * (r_b[:, None] ** 2 + r_b[None] ** 2))
    S += a * np.sqrt(np.pi) * xp.exp(-a * D**2 / 2) * (1 + a * P**2) * (1 + erf((a / 2) ** 0.5 * P))
    L = xp.linalg.cholesky(S / (128 * a**5) ** 0.5)
    return xp.linalg.solve(xp.exp(-a * D**2), L), L


def _scaled_bessel(x: Any, l_max: int, xp: Any) -> Any:
    """e^{−x} i_l(x) = ½ ∫ exp(x (t − 1)) P_l(t) dt, l = 0 … l_max before the last axis, by a Gauss quadrature."""
    t, weights, P = _quadrature(l_max)
    return xp.swapaxes(xp.exp(xp.tensordot(x, t - 1, axes=0)) @ (weights[:, None] / 2 * P), -1, -2)


@lru_cache
def _quadrature(l_max: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    t, weights = np.polynomial.legendre.leggauss(_NODES)
    return t, weights, np.polynomial.legendre.legvander(t, l_max)


def _numpy(radial: Radial) -> Any:
    """NumPy, or JAX's where a number is traced."""
    return jnp if any(isinstance(x, jax.Array) for x in radial) else np
