"""Products of two functions on the 3-sphere, level by level: what Clebsch-Gordan coefficients say, for real harmonics.

With f = Σ c_n φ_n (`harmonics`) the part of the product f_{l1} g_{l2} in level l has the coefficients

    Z_m = (mean of f_{l1} g_{l2} φ_m) = Σ_{n n'} ⟨φ_n φ_n' φ_m⟩ c_n c_n',

of which few are not zero: phases of a and of b must match. For Wigner functions the mean ⟨u u u*⟩ is the product of two
Clebsch-Gordan coefficients over l + 1.

References:
    Varshalovich, Moskalev, Khersonskii, Quantum Theory of Angular Momentum (1988), section 4.11.
    Thompson et al., J. Comput. Phys. 285, 316 (2015), equation 5.
"""

from functools import lru_cache
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmlip.basis.bilinear import Form, bilinear
from jaxmlip.basis.hyperspherical import harmonics, radial_part


class Products(NamedTuple):
    """All Z that occur up to a level."""

    pairs: tuple[tuple[tuple[int, int], ...], ...]
    """Of each level l: the (l1, l2), l1 ≤ l2, whose product is projected on it."""
    form: Form
    """Results in the order level, pair, harmonic."""


@lru_cache
def products(twojmax: int, *, symmetric: bool = False) -> Products:
    """Pairs of levels that couple to a third, all at most ``twojmax``, and the terms of their sums.

    ``symmetric``: the factors belong to one function, so that c_n c_n' of one level stands once.
    """
    levels = range(twojmax + 1)
    pairs = tuple(
        tuple((a, b) for a in levels for b in levels[a:] if b - a <= own <= a + b and (a + b - own) % 2 == 0)
        for own in levels
    )
    found, n_rows = [], 0
    for a, b, level in [(*both, own) for own in levels for both in pairs[own]]:
        row, first, second, factor = _integrals((a, b, level), twojmax)
        if symmetric and a == b:
            once = first <= second
            factor = np.where(first < second, 2, 1)[once] * factor[once]
            row, first, second = row[once], first[once], second[once]
        found.append((row + n_rows, first, second, factor))
        n_rows += (level + 1) ** 2
    row, first, second, factor = (np.concatenate(parts) for parts in zip(*found, strict=True))
    n_harmonics = harmonics(twojmax).level.size
    return Products(pairs, Form(first, second, row, factor, (n_harmonics, n_harmonics, n_rows)))


def _integrals(levels: tuple[int, int, int], twojmax: int) -> tuple[np.ndarray, ...]:
    """⟨φ_n φ_n' φ_m⟩ that are not zero: m within its level, n, n', value.

    Integrals over the phases of a, over those of b, and over x = |a|² − |b|².
    """
    nodes, weights = np.polynomial.legendre.leggauss(sum(levels) // 4 + 1)
    *phases, means = _phase_integrals(levels)
    kept = np.ones((means.size, means.size), bool)
    for level, phase in zip(levels, phases, strict=True):
        degree = ((phase + 1) // 2)[:, None] + ((phase + 1) // 2)[None]
        kept &= (degree <= level) & ((level - degree) % 2 == 0)
    of_a, of_b = np.nonzero(kept)
    radial, numbers = np.tile(weights / 2, (of_a.size, 1)), []
    for level, phase in zip(levels, phases, strict=True):
        number, parts = _level(level, twojmax, tuple(nodes))
        radial *= parts[(phase[of_a] + 1) // 2, (phase[of_b] + 1) // 2]
        numbers.append(number[phase[of_a], phase[of_b]])
    values = radial.sum(axis=1) * means[of_a] * means[of_b]
    some = np.abs(values) > 1e-13
    first, second, own = (number[some] for number in numbers)
    return own - harmonics(twojmax).own(levels[2]).start, first, second, values[some]


@lru_cache(maxsize=1024)
def _phase_integrals(levels: tuple[int, int, int]) -> tuple[np.ndarray, ...]:
    """Means over a circle of three of 1, cos, sin, cos 2·, … that are not zero: their numbers, and the values."""
    angles = 2 * np.pi * np.arange(sum(levels) + 1) / (sum(levels) + 1)
    waves = [
        np.stack([np.ones_like(angles), *(f(p * angles) for p in range(1, level + 1) for f in (np.cos, np.sin))])
        for level in levels
    ]
    mean = np.einsum("ux,vx,wx->uvw", *waves, optimize=True) / angles.size
    where = np.nonzero(np.abs(mean) > 1e-10)
    return *where, mean[where]


@lru_cache(maxsize=1024)
def _level(level: int, twojmax: int, nodes: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of a level's harmonics by the phases of a and b, and radial parts at the nodes by p and q."""
    table, own = harmonics(twojmax), harmonics(twojmax).own(level)
    number = np.zeros((2 * level + 1, 2 * level + 1), np.int32)
    number[table.a[own], table.b[own]] = np.arange(own.start, own.stop)
    radial = np.zeros((level + 1, level + 1, len(nodes)))
    for p in range(level + 1):
        for q in range((level - p) % 2, level - p + 1, 2):
            radial[p, q] = radial_part(p, q, (level - p - q) // 2, np.array(nodes))
    return number, radial


def coupled(
    c: Float[Array, "n_harmonics n_channels n_atoms"], twojmax: int
) -> list[Float[Array, "_ _ n_channels n_channels n_atoms"]]:
    """Z of each level ``[n_pairs, (l+1)², n_channels, n_channels, n_atoms]``: channels of l1, then of l2.

    Atoms run fastest in memory, so that a processor works on several at once.
    """
    table, shape = products(twojmax, symmetric=c.shape[1] == 1), (*c.shape[:2], *c.shape[1:])
    of_first, of_second = jnp.broadcast_to(c[:, :, None], shape), jnp.broadcast_to(c[:, None], shape)
    sums = bilinear(of_first.reshape(len(c), -1), of_second.reshape(len(c), -1), table.form).reshape(-1, *shape[1:])
    ends = np.cumsum([len(own) * (level + 1) ** 2 for level, own in enumerate(table.pairs)])
    return [
        part.reshape(len(own), -1, *part.shape[1:])
        for own, part in zip(table.pairs, jnp.split(sums, ends[:-1]), strict=True)
    ]
