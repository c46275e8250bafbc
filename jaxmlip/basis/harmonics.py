"""Polynomials on the unit sphere in factors, and real spherical harmonics as combinations of their products.

With x + iy = sin θ e^{iφ}, a harmonic of degree l and order m is a polynomial in z times (x + iy)^m. So the products of
T_p(z) and (Re, Im)(x + iy)^m with p + m ≤ N span all harmonics up to degree N, and the addition theorem,

    P_l(r̂ · r̂') = Σ_m Y_lm(r̂) Y_lm(r̂')          (Y normalised to Σ_m Y_lm² = 1),

makes a double sum over neighbours of a polynomial of cos θ a sum of squares of single sums.

References:
    Varshalovich, Moskalev, Khersonskii, Quantum Theory of Angular Momentum (1988), section 5.17.2.
"""

from functools import lru_cache, partial
from math import factorial
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.polynomial import chebyshev as cheb
from numpy.polynomial import legendre

from jaxmlip.basis.chebyshev import chebyshev
from jaxmlip.basis.hyperspherical import powers


def sphere_factors(x: Any, y: Any, z: Any, highest: int) -> tuple[list[Any], list[Any]]:
    """T_0 … T_highest of z, and 1, Re, Im of (x + iy)^m for m = 1 … highest; (x, y, z) is a unit vector."""
    right = [part for m, power in enumerate(powers((x, y), highest)) for part in power[: 2 if m else 1]]
    return chebyshev(z, highest), right


@lru_cache
def harmonics(highest: int) -> Float[np.ndarray, "n_products n_harmonics"]:
    """The matrix that turns products of `sphere_factors`, row by row, into Y_lm with Σ_m Y_lm² = 1, degree by degree.

    >>> harmonics(4).shape
    (45, 25)
    """
    columns = []
    for degree in range(highest + 1):
        for m in range(degree + 1):
            norm = np.sqrt((2 if m else 1) * factorial(degree - m) / factorial(degree + m))
            for right in (2 * m - 1, 2 * m) if m else (0,):
                column = np.zeros((highest + 1, 2 * highest + 1))
                function: Any = partial(_legendre_derivative, degree=degree, m=m)
                in_z = cheb.chebinterpolate(function, degree - m)
                column[: len(in_z), right] = norm * in_z
                columns.append(column.ravel())
    return np.array(columns).T


@lru_cache
def squares_to_chebyshev(highest: int) -> Float[np.ndarray, "n_harmonics n_polynomials"]:
    """The matrix that turns squares of harmonics into Σ_jk T_n(cos θ_jk), n = 0 … highest: T_n = Σ_l c_nl P_l."""
    z, weights = legendre.leggauss(highest + 1)
    T, P = cheb.chebvander(z, highest), legendre.legvander(z, highest)
    degrees = np.arange(highest + 1)
    c = (T.T * weights) @ P * (degrees + 0.5)  # c_nl = (l + ½) ∫ T_n P_l dz, exact by Gauss's rule
    return np.repeat(c, 2 * degrees + 1, axis=1).T


def _legendre_derivative(z: np.ndarray, degree: int, m: int) -> np.ndarray:
    """d^m P_degree / dz^m, a polynomial of degree ``degree`` − m."""
    return legendre.legval(z, legendre.legder(np.eye(degree + 1)[degree], m))


def spherical_harmonics(x: Any, y: Any, z: Any, highest: int) -> list[list[Any]]:
    """Real spherical harmonics of unit vectors, orthonormal on the sphere: for each degree l the 2l + 1 of m = −l … l.

    Y_lm = N_lm Π_l|m|(z) Re or Im (x + iy)^|m|, polynomials in x, y, z: nothing is singular at the poles. The
    normalised Π follow the recurrence in l that is stable (each m for itself), and no sign (−1)^m is put in.

    >>> [round(float(Y), 6) for Y in spherical_harmonics(0.0, 0.6, 0.8, 1)[1]]
    [0.293162, 0.390882, 0.0]
    """
    towers = [power[: 2 if m else 1] for m, power in enumerate(powers((x, y), highest))]
    column: dict[tuple[int, int], Any] = {}
    for m in range(highest + 1):
        column[m, m] = _sectoral(m) * z**0
        for degree in range(m + 1, highest + 1):
            up = _recurrence(degree, m)
            column[degree, m] = up * z * column[degree - 1, m]
            if degree > m + 1:
                column[degree, m] = column[degree, m] - up / _recurrence(degree - 1, m) * column[degree - 2, m]
    return [_ordered(column, towers, degree) for degree in range(highest + 1)]


def _ordered(column: dict[tuple[int, int], Any], towers: list, degree: int) -> list[Any]:
    """M = −l … l: sines (imaginary parts) for negative m, cosines for positive."""
    sines = [column[degree, m] * towers[m][1] for m in range(degree, 0, -1)]
    return [*sines, column[degree, 0], *(column[degree, m] * towers[m][0] for m in range(1, degree + 1))]


def _sectoral(m: int) -> float:
    """N of Y_mm: √((2 − δ_m0) (2m + 1)!! / (4π (2m)!!))."""
    double_factorials = np.prod([(2 * k + 1) / (2 * k) for k in range(1, m + 1)])
    return float(np.sqrt((2 if m else 1) * double_factorials / (4 * np.pi)))


def _recurrence(degree: int, m: int) -> float:
    return float(np.sqrt((4 * degree**2 - 1) / (degree**2 - m**2)))
