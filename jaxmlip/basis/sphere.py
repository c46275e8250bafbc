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
