"""Wigner functions u^j on the 3-sphere and an exact quadrature over rotations. All angular momenta are doubled.

A pair of Cayley-Klein parameters (a, b), |a|² + |b|² = 1, is a rotation; u^j[m', m] (m', m = 0 … j) its matrix of
angular momentum j/2. Since u^j[j−m', j−m] = (−1)^(m+m') conj(u^j[m', m]), only the rows m' ≤ j/2 are kept. The
axes after the first two are free: put there what should run fastest in memory.

References:
    Varshalovich, Moskalev, Khersonskii, Quantum Theory of Angular Momentum (1988), section 4.8.
    Thompson et al., J. Comput. Phys. 285, 316 (2015), equation 5 and appendix A.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

Level = tuple[Any, Any]  # real and imaginary part of the rows m' ≤ j/2: [j // 2 + 1, j + 1, ...]


def wigner_u(a: Level, b: Level, weight: Any, twojmax: int, *, xp: Any = jnp) -> list[Level]:
    """``weight`` · u^j for j = 0 … twojmax, by the recursion

        u^j[m', m] = √((j−m)/(j−m')) a* u^{j−1}[m', m] − √(m/(j−m')) b* u^{j−1}[m', m−1],   u^0 = 1.

    Args:
        a: real and imaginary part, each of any shape [...].
        b: as ``a``.
        weight: [...]; multiplies all levels, since the recursion is linear.
        twojmax: the highest level.
        xp: the array module, `jax.numpy` or `numpy`.
    """
    levels = [(weight[None, None], xp.zeros_like(weight)[None, None])]
    for j in range(1, twojmax + 1):
        re, im = _rows(levels[-1], j, xp)
        zero = xp.zeros_like(re[:, :1])
        keep, shift = (c.reshape(c.shape + (1,) * weight.ndim).astype(weight.dtype) for c in _recursion(j))
        re0, im0 = keep * xp.concatenate([re, zero], 1), keep * xp.concatenate([im, zero], 1)
        re1, im1 = shift * xp.concatenate([zero, re], 1), shift * xp.concatenate([zero, im], 1)
        levels.append(
            (
                a[0] * re0 + a[1] * im0 - b[0] * re1 - b[1] * im1,
                a[0] * im0 - a[1] * re0 - b[0] * im1 + b[1] * re1,
            )
        )
    return levels


def _rows(level: Level, j: int, xp: Any) -> Level:
    """Rows m' ≤ j/2 of u^{j−1}; for even j the last is outside the stored half and comes from the symmetry."""
    re, im = level
    if j % 2:
        return re, im
    last = j // 2 - 1
    sign = ((-1.0) ** (np.arange(j) + j // 2)).reshape(j, *(1,) * (re.ndim - 2)).astype(re.dtype)
    mirrored_re, mirrored_im = sign * re[last, ::-1], -sign * im[last, ::-1]
    return xp.concatenate([re, mirrored_re[None]]), xp.concatenate([im, mirrored_im[None]])


def _recursion(j: int) -> tuple[np.ndarray, np.ndarray]:
    row, column = np.arange(j // 2 + 1)[:, None], np.arange(j + 1)[None, :]
    return np.sqrt((j - column) / (j - row)), np.sqrt(column / (j - row))


class Quadrature(NamedTuple):
    """Points on the rotation group: f_j(q) = synthesis[j][q] · (Re, Im of the kept u^j), ∫ f = Σ_q weights[q] f(q)."""

    weights: Float[np.ndarray, " n_points"]
    synthesis: tuple[Float[np.ndarray, "n_points n_components"], ...]


@lru_cache
def rotation_quadrature(twojmax: int) -> Quadrature:
    """A quadrature that is exact for products of three functions of levels up to ``twojmax``.

    Rotations are points on the sphere (Lebedev's rule) times a turn about the axis (equal angles): a product of
    three levels holds spherical harmonics and Fourier components up to L = 3·twojmax/2, so a rule of degree L on
    the sphere and L + 1 angles are enough.

    f_j(R) = Σ_{m'm} U^j[m', m] u^j[m', m](R) is real for the sums U that descriptors form.

    References:
        Lebedev and Laikov, Dokl. Math. 59, 477 (1999).
        Gräf and Potts, Numer. Funct. Anal. Optim. 30, 665 (2009): exactness on the rotation group.
    """
    from scipy.integrate import lebedev_rule

    degree = 3 * twojmax // 2
    orders = [*range(3, 33, 2), 35, 41, 47, 53, 59, 65]
    points, weights = lebedev_rule(next(order for order in orders if order >= degree))
    alpha, beta = np.arctan2(points[1], points[0])[:, None], np.arccos(np.clip(points[2], -1, 1))[:, None]
    gamma = 2 * np.pi * np.arange(degree + 1) / (degree + 1)
    a = (np.cos(beta / 2) * np.exp(-0.5j * (alpha + gamma))).ravel()
    b = (np.sin(beta / 2) * np.exp(-0.5j * (alpha - gamma))).ravel()
    levels = wigner_u((a.real, a.imag), (b.real, b.imag), np.ones(a.size), twojmax, xp=np)
    synthesis = tuple(_synthesis(j, *level) for j, level in enumerate(levels))
    turns = np.repeat(weights / (4 * np.pi * gamma.size), gamma.size)
    return Quadrature(turns, synthesis)


def _synthesis(j: int, re: np.ndarray, im: np.ndarray) -> np.ndarray:
    """Rows below j/2 stand for their mirror image as well, so they count twice."""
    count = np.where(2 * np.arange(j // 2 + 1) < j, 2.0, 1.0)[:, None, None]
    components = np.concatenate([(count * re).reshape(-1, re.shape[-1]), (-count * im).reshape(-1, re.shape[-1])])
    return np.ascontiguousarray(components.T)
