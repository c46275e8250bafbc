"""Functions that take a pair's contribution smoothly to zero at the cutoff."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

Scalar = float | Float[Array, ""]
"""A setting: a number, or one that JAX traces to differentiate by it."""

_TERMS = {2: 4, 4: 7, 8: 12}  # of the series, by bytes of a number; the next one is below rounding


def cosine_cutoff(r: Float[Array, "*shape"], cutoff: Scalar | Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """f_c(r) = ½ (cos(π r / R_c) + 1) for r < R_c (Å), else 0.

    Evaluated as ½ (1 + sin π y), y = ½ − r/R_c, with Taylor's series of the sine: on a CPU a polynomial is some five
    times faster than XLA's cosine, which is also repeated wherever the value is used.

    >>> cosine_cutoff(jnp.array([0.0, 4.0, 8.0, 9.0]), 8.0).round(6).tolist()
    [1.0, 0.5, 0.0, 0.0]

    References:
        Behler and Parrinello, Phys. Rev. Lett. 98, 146401 (2007), equation 4.
    """
    y = 0.5 - r / cutoff
    n_terms = _TERMS[r.dtype.itemsize]
    *others, series = [(-1) ** k * math.pi ** (2 * k + 1) / math.factorial(2 * k + 1) for k in range(n_terms)]
    for coefficient in reversed(others):
        series = series * (y * y) + coefficient
    return jnp.where(r < cutoff, 0.5 + 0.5 * series * y, 0)


def transition_cutoff(r: Float[Array, "*shape"], cutoff: Scalar, width: Scalar) -> Float[Array, "*shape"]:
    """f_c(r) = 1 up to R_c − w, ½ (1 + cos(π (r − R_c + w) / w)) up to R_c, 0 beyond; all in Å. Once differentiable.

    >>> transition_cutoff(jnp.array([1.0, 3.5, 3.75, 4.0, 9.0]), 4.0, 0.5).round(6).tolist()
    [1.0, 1.0, 0.5, 0.0, 0.0]

    References:
        Bartók and Csányi, Int. J. Quantum Chem. 115, 1051 (2015), equation 41.
    """
    return jnp.where(r > cutoff - width, cosine_cutoff(r - (cutoff - width), width), 1)
