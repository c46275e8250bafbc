"""Radial functions of pairs: Bessel functions of a sphere and the polynomial that takes them to zero at the cutoff.

References:
    Gasteiger, Groß, Günnemann, ICLR 2020 (arXiv:2003.03123), equations 7 and 8.
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmlip.basis.chebyshev import recurrence
from jaxmlip.basis.cutoff import Scalar

_TERMS = {2: (4, 4), 4: (7, 7), 8: (12, 12)}  # of the two series, by bytes of a number; the next is below rounding


def bessel(
    r: Float[Array, "*pairs"], cutoff: Scalar | Float[Array, "*pairs"], n: int | Float[Array, " n_functions"]
) -> Float[Array, "*pairs n_functions"]:
    """b_n(r) = (2/R) sin(nπ r/R) / r for 0 < r ≤ R (Å): the first ``n`` functions, or those of the numbers ``n``.

    For whole numbers sin nθ = U_{n−1}(cos θ) sin θ, with sine and cosine of θ by Taylor's series around π/2: on a CPU
    several times faster than one sine a function.

    >>> [round(b, 3) for b in bessel(jnp.array([1.0]), 4.0, 3)[0].tolist()]
    [0.354, 0.5, 0.354]
    """
    if not isinstance(n, int):
        return (
            (2 / cutoff) * jnp.sin((math.pi / cutoff) * jnp.expand_dims(n, range(r.ndim)) * r[..., None]) / r[..., None]
        )
    cosine, sine = _cos_and_sin(r / cutoff)
    first = (2 / cutoff) * sine / r
    return jnp.stack(recurrence(cosine, first, 2 * cosine * first, n - 1), axis=-1)


def polynomial_cutoff(x: Float[Array, "*pairs"], p: int) -> Float[Array, "*pairs"]:
    """u(x) = 1 − (p+1)(p+2)/2 x^p + p(p+2) x^{p+1} − p(p+1)/2 x^{p+2} for x < 1, else 0; u, u′, u″ vanish at 1.

    >>> polynomial_cutoff(jnp.array([0.0, 0.5, 1.0]), 2).tolist()
    [1.0, 0.3125, 0.0]
    """
    inside = x < 1
    x = jnp.where(inside, x, 1)
    u = 1 - x**p * ((p + 1) * (p + 2) / 2 - x * (p * (p + 2) - x * (p * (p + 1) / 2)))
    return jnp.where(inside, u, 0)


def xplor_cutoff(r: Float[Array, "*pairs"], cutoff: Scalar, on: Scalar) -> Float[Array, "*pairs"]:
    """(R² − r²)² (R² + 2r² − 3r_on²) / (R² − r_on²)³ between r_on and R (Å), 1 below, 0 above; once differentiable.

    >>> xplor_cutoff(jnp.array([1.0, 4.5, 5.0]), 5.0, 4.5).tolist()
    [1.0, 1.0, 0.0]

    References:
        Brünger, X-PLOR manual; the form of HOOMD-blue and LAMMPS.
    """
    R, start = cutoff**2, on**2
    s = jnp.clip(r, on, cutoff) ** 2
    return (R - s) ** 2 * (R + 2 * s - 3 * start) / (R - start) ** 3


def _cos_and_sin(x: Array) -> tuple[Array, Array]:
    """Cos and sin of π x, 0 ≤ x ≤ 1: −sin and cos of π y, y = x − ½."""
    y = x - 0.5
    odd, even = _TERMS[x.dtype.itemsize]
    square = (math.pi * y) ** 2
    sine = _series(square, [(-1) ** k / math.factorial(2 * k + 1) for k in range(odd)]) * (math.pi * y)
    cosine = _series(square, [(-1) ** k / math.factorial(2 * k) for k in range(even + 1)])
    return -sine, cosine


def _series(x: Array, coefficients: list[float]) -> Array:
    """Σ_k c_k x^k by Horner's rule."""
    result = jnp.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        result = result * x + c
    return result
