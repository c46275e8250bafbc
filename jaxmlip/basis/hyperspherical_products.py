"""Products of two functions on the 3-sphere, level by level: what Clebsch-Gordan coefficients say, for real harmonics.

With f = Σ c_n φ_n (`harmonics`) the part of the product f_{l1} g_{l2} in level l has the coefficients

    Z_m = (mean of f_{l1} g_{l2} φ_m) = Σ_{n n'} ⟨φ_n φ_n' φ_m⟩ c_n c_n',

of which few are not zero: phases of a and of b must match. For Wigner functions the mean ⟨u u u*⟩ is the product of two
Clebsch-Gordan coefficients over l + 1.

References:
    Varshalovich, Moskalev, Khersonskii, Quantum Theory of Angular Momentum (1988), equation 4.11.1.
    Thompson et al., J. Comput. Phys. 285, 316 (2015), equation 5.
"""

from collections.abc import Iterator
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
    factors: Float[np.ndarray, "n_terms n_rows 1 1 1"]


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
    counts = np.bincount(row, minlength=n_rows)
    by_count = np.argsort(counts, kind="stable")
    order = np.argsort(by_count).astype(np.int32)
    entries = np.argsort(order[row], kind="stable")
    row, first, second, factor = order[row][entries], first[entries], second[entries], factor[entries]
    return Products(pairs, tuple(_tables(counts[by_count], row, (first, second, factor))), order)


def _tables(counts: np.ndarray, row: np.ndarray, entries: tuple[np.ndarray, ...]) -> Iterator[Terms]:
    """Rows with about as many terms each, from few to many; ``row`` rises, and of row r there are ``counts[r]``."""
    place, begin = np.arange(row.size) - (np.cumsum(counts) - counts)[row], 0
    while begin < counts.size:
        end = int(np.searchsorted(counts, max(_UNROLL, _WIDER * counts[begin]), side="right"))
        shape = (-(-int(counts[end - 1]) // _UNROLL) * _UNROLL, end - begin)
        table = Terms(np.zeros(shape, np.uint16), np.zeros(shape, np.uint16), np.zeros((*shape, 1, 1, 1)))
        own = slice(*np.searchsorted(row, [begin, end]))
        for values, entry in zip(table, entries, strict=True):
            values.reshape(shape)[place[own], row[own] - begin] = entry[own]
        yield table
        begin = end


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


def coupled(c: Float[Array, "n_harmonics n_channels n_atoms"], twojmax: int) -> list[Array]:
    """Z of each level ``[n_pairs, (l+1)², n_channels, n_channels, n_atoms]``: channels of l1, then of l2.

    Atoms run fastest in memory, so that a processor works on several at once.
    """
    table, n_atoms = products(twojmax, symmetric=c.shape[1] == 1), c.shape[-1]
    c = jnp.pad(c, ((0, 0), (0, 0), (0, max(0, _FEWEST - n_atoms))))
    sums = [_sums(c[:, :, None], c[:, None], terms) for terms in table.terms]
    sums = jnp.concatenate(sums)[table.order, ..., :n_atoms]
    ends = np.cumsum([len(own) * (level + 1) ** 2 for level, own in enumerate(table.pairs)])
    return [
        part.reshape(len(own), -1, *part.shape[1:])
        for own, part in zip(table.pairs, jnp.split(sums, ends[:-1]), strict=True)
    ]


def _sums(first: Array, second: Array, terms: Terms) -> Array:
    """One table's rows ``[n_rows, n_channels, n_channels, n_atoms]``."""

    def product(term: Terms) -> Array:
        return first[term.first] * second[term.second] * term.factors

    terms = terms._replace(factors=terms.factors.astype(first.dtype))
    if jax.default_backend() != "cpu":
        return jnp.sum(product(terms), axis=0)
    start = jnp.zeros((terms.first.shape[1], *first.shape[1:2], *second.shape[2:]), first.dtype)
    found, _ = jax.lax.scan(lambda total, term: (total + product(term), None), start, terms, unroll=_UNROLL)
    return jnp.asarray(found)
