"""Products of two functions on the 3-sphere, level by level: what Clebsch-Gordan coefficients say, for real harmonics.

With f = Σ c_n φ_n (`harmonics`) the part of the product f_{l1} g_{l2} in level l has the coefficients

    Z_m = (mean of f_{l1} g_{l2} φ_m) = Σ_{n n'} ⟨φ_n φ_n' φ_m⟩ c_n c_n',

of which few are not zero: phases of a and of b must match. For Wigner functions the mean ⟨u u u*⟩ is the product of two
Clebsch-Gordan coefficients over l + 1.

References:
    Varshalovich, Moskalev, Khersonskii, Quantum Theory of Angular Momentum (1988), equation 4.11.1.
    Thompson et al., J. Comput. Phys. 285, 316 (2015), equation 5.
"""

from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxmlip.basis.hyperspherical import harmonics, radial_part

_WIDER = 1.25
"""Rows whose numbers of terms differ by less than this are summed together."""
_UNROLL = 4
_FEWEST = 16  # atoms; XLA makes slow programs for fewer (86 instead of 26 µs/atom for 8)


class Terms(NamedTuple):
    """Rows of sums Σ factors · c[first] · c[second], padded with zeros to the same number of terms."""

    first: Int[np.ndarray, "n_terms n_rows"]
    second: Int[np.ndarray, "n_terms n_rows"]
    factors: Float[np.ndarray, "n_terms n_rows"]


class Products(NamedTuple):
    """All Z that occur up to a level."""

    pairs: tuple[tuple[tuple[int, int], ...], ...]
    """Of each level l: the (l1, l2), l1 ≤ l2, whose product is projected on it."""
    terms: tuple[Terms, ...]
    order: Int[np.ndarray, " n_rows"]
    """Rows of all terms in the order level, pair, harmonic."""


@lru_cache
def products(twojmax: int, *, symmetric: bool = False) -> Products:
    """Pairs of levels that couple to a third, all at most ``twojmax``, and the terms of their sums.

    ``symmetric``: the factors belong to one function, so that c_n c_n' of one level stands once.
    """
    levels = range(twojmax + 1)
    pairs = tuple(
        tuple((a, b) for a in levels for b in levels if a <= b <= a + l and l <= a + b and (a + b - l) % 2 == 0)
        for l in levels  # noqa: E741
    )
    found, start = [], 0
    for l, own in zip(levels, pairs, strict=True):  # noqa: E741
        for a, b in own:
            row, first, second, factor = _integrals((a, b, l), twojmax)
            if symmetric and a == b:
                once = first <= second
                row, first, second = row[once], first[once], second[once]
                factor = factor[once] * np.where(first < second, 2, 1)
            found.append((row + start, first, second, factor))
            start += (l + 1) ** 2
    row, first, second, factor = (np.concatenate(parts) for parts in zip(*found, strict=True))
    by_row = np.argsort(row, kind="stable")
    row, first, second, factor = row[by_row], first[by_row], second[by_row], factor[by_row]
    counts = np.bincount(row, minlength=start)
    place = np.arange(row.size) - (np.cumsum(counts) - counts)[row]  # of a term in its row
    sequence = np.argsort(counts, kind="stable")
    position = np.argsort(sequence).astype(np.int32)
    terms, begin = [], 0
    while begin < start:
        end = int(np.searchsorted(counts[sequence], max(4.0, _WIDER * counts[sequence[begin]]), side="right"))
        mine = (position[row] >= begin) & (position[row] < end)
        shape = (-(-int(counts[sequence[end - 1]]) // _UNROLL) * _UNROLL, end - begin)
        table = Terms(np.zeros(shape, np.int32), np.zeros(shape, np.int32), np.zeros(shape))
        for values, entries in zip(table, (first, second, factor), strict=True):
            values[place[mine], position[row[mine]] - begin] = entries[mine]
        terms.append(table)
        begin = end
    return Products(pairs, tuple(terms), position)


def _integrals(levels: tuple[int, int, int], twojmax: int) -> tuple[np.ndarray, ...]:
    """⟨φ_n φ_n' φ_m⟩ that are not zero: m within its level, n, n', value."""
    nodes, weights = np.polynomial.legendre.leggauss(sum(levels) // 4 + 1)
    left, right = _phase_integrals(levels), _phase_integrals(levels)
    kept = np.ones((len(left[0]), len(right[0])), bool)
    for l, u, v in zip(levels, left, right, strict=False):  # noqa: E741
        degree = ((u + 1) // 2)[:, None] + ((v + 1) // 2)[None]
        kept &= (degree <= l) & ((l - degree) % 2 == 0)
    x, y = np.nonzero(kept)
    value, numbers = np.tile(weights / 2, (x.size, 1)), []
    for l, u, v in zip(levels, left, right, strict=False):  # noqa: E741
        number, radial = _level(l, twojmax, tuple(nodes))
        value *= radial[(u[x] + 1) // 2, (v[y] + 1) // 2]
        numbers.append(number[u[x], v[y]])
    values = value.sum(axis=1) * left[3][x] * right[3][y]
    some = np.abs(values) > 1e-13
    first, second, third = (number[some] for number in numbers)
    return third - harmonics(twojmax).own(levels[2]).start, first, second, values[some]


@lru_cache(maxsize=1024)
def _phase_integrals(levels: tuple[int, int, int]) -> tuple[np.ndarray, ...]:
    """Means over a circle of three of 1, cos, sin, cos 2·, … that are not zero: their numbers, and the values."""
    angles = 2 * np.pi * np.arange(sum(levels) + 1) / (sum(levels) + 1)
    waves = [
        np.stack([np.ones_like(angles), *(f(p * angles) for p in range(1, l + 1) for f in (np.cos, np.sin))])
        for l in levels  # noqa: E741
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
        for q in range(level % 2 ^ p % 2, level - p + 1, 2):
            radial[p, q] = radial_part(p, q, (level - p - q) // 2, np.array(nodes))
    return number, radial


def coupled(c: Float[Array, "n_harmonics n_channels n_atoms"], twojmax: int) -> list[Array]:
    """Z of each level ``[n_pairs, (l+1)², n_channels, n_channels, n_atoms]``: channels of l1, then of l2.

    Atoms run fastest in memory, so that a processor works on several at once.
    """
    table, n_atoms = products(twojmax, symmetric=c.shape[1] == 1), c.shape[-1]
    c = jnp.pad(c, ((0, 0), (0, 0), (0, max(0, _FEWEST - n_atoms))))
    sums = jnp.concatenate([_sums(c, terms) for terms in table.terms])[table.order, ..., :n_atoms]
    ends = np.cumsum([len(own) * (l + 1) ** 2 for l, own in enumerate(table.pairs)])
    return [
        part.reshape(len(own), -1, *part.shape[1:])
        for own, part in zip(table.pairs, jnp.split(sums, ends[:-1]), strict=True)
    ]


def _sums(c: Array, terms: Terms) -> Array:
    """One bucket of rows ``[n_rows, n_channels, n_channels, n_atoms]``."""
    at = (slice(None), None, None, None)

    def product(first: Array, second: Array, factors: Array) -> Array:
        return factors[at] * c[first][:, :, None] * c[second][:, None]

    def add(total: Array, term: tuple[Array, Array, Array]) -> tuple[Array, None]:
        return total + product(*term), None

    n_channels, n_atoms = c.shape[1:]
    start = jnp.zeros((terms.first.shape[1], n_channels, n_channels, n_atoms), c.dtype)
    tables = (jnp.asarray(terms.first), jnp.asarray(terms.second), jnp.asarray(terms.factors, c.dtype))
    return jax.lax.scan(add, start, tables, unroll=_UNROLL)[0]
