"""Cluster functions (ACE) as sums of products of two real moments, for `jaxmlip.descriptors.contraction`.

The atomic base is real here: S_{l m} with Y_{l ±m} = (∓1)^m (S_{l m} ± i S_{l,−m})/√2 for m > 0, Y_{l 0} = S_{l 0}.
A result of the tree with momentum L is then i^p Σ_M U_{mM} R_M with real R, and p odd where an odd sum of momenta was
coupled, so that all products stay real. Results that several functions share are stored once.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Complex, Float, Int

from jaxmlip.basis.couplings import clebsch_gordan
from jaxmlip.descriptors.cluster_functions import Function, Momenta, momenta, tree
from jaxmlip.descriptors.contraction import Contraction, Lists, contraction

Slot = tuple[int, int, int]  # channel, n, l


class ClusterTables(NamedTuple):
    """The basic moments of some functions, and how the functions follow from them."""

    radial: Int[np.ndarray, "n_radial 2"]  # channel and n of each basic moment of the functions of rank 1: Σ_j g_n
    angular: Int[np.ndarray, "n_angular 4"]  # channel, n, l, m of the further ones: Σ_j R_nl S_lm
    contraction: Contraction


class _Result(NamedTuple):
    """A node of the tree: the places of its 2L + 1 components, their common sign, and p of its factor i^p."""

    places: tuple[int, ...]
    sign: float
    phase: int


def cluster_tables(functions: Sequence[Function]) -> ClusterTables:
    """Lists for the scalars that ``functions`` are, in their order."""
    radial = sorted({(f.channels[0], f.ns[0]) for f in functions if f.rank == 1})
    slots = sorted({slot for f in functions if f.rank > 1 for slot in _slots(f)})
    lists = _Builder(radial, slots)
    scalars = np.array([lists.scalar(f) for f in functions], np.int32).reshape(-1)
    angular = [(*slot, m) for slot in slots for m in range(-slot[2], slot[2] + 1)]
    tables = Lists(lists.n_basic, *lists.products(), scalars, lists.n_moments)
    return ClusterTables(_table(radial, 2), _table(angular, 4), contraction(tables))


def _slots(function: Function) -> list[Slot]:
    return list(zip(function.channels, function.ns, function.ls))


def _table(rows: list, width: int) -> Int[np.ndarray, "n_rows width"]:
    return np.array(rows, np.int32).reshape(-1, width)


class _Complex(NamedTuple):
    """A complex number: the moments of its parts with their factors; None: zero."""

    real: tuple[int, float]
    imaginary: tuple[int, float] | None


class _Builder:
    """Collects moments and their products; results are found again by what they couple."""

    def __init__(self, radial: Sequence[tuple[int, int]], slots: Sequence[Slot]):
        self._radial = {name: k for k, name in enumerate(radial)}
        self._first: dict[Slot, int] = {}
        start = len(radial)
        for slot in slots:
            self._first[slot] = start
            start += 2 * slot[2] + 1
        self.n_basic = self.n_moments = start
        self._rows: dict[tuple[int, int, int], float] = {}
        self._results: dict[tuple, _Result] = {}
        self._complex: dict[tuple, _Complex] = {}

    def products(self) -> tuple[Int[np.ndarray, "n_products 3"], Float[np.ndarray, " n_products"]]:
        return _table(list(self._rows), 3), np.array(list(self._rows.values()), float)

    def scalar(self, function: Function) -> int:
        """The moment that is the function."""
        if function.rank == 1:
            return self._radial[function.channels[0], function.ns[0]]
        if function.orders is not None:
            return self._single_product(function)
        every, names = momenta(function.ls, function.couplings), list(_slots(function))
        results = [self._slot(slot) for slot in names]
        nodes = tree(function.rank)
        for k, (left, right) in enumerate(nodes[:-1]):
            name, result = self._coupled((names[left], names[right]), (results[left], results[right]), every, k)
            names.append(name)
            results.append(result)
        left, right = (results[n] for n in nodes[-1])
        L, phase = every[nodes[-1].left], left.phase + right.phase
        factor = left.sign * right.sign * (-1) ** (phase // 2) * float(_real_coupling(L, L, 0)[0, 0, 0])
        place = self._new(1)
        for i, j in zip(left.places, right.places):
            self._add(i, j, place, factor)
        return place

    def _slot(self, slot: Slot) -> _Result:
        first = self._first[slot]
        return _Result(tuple(range(first, first + 2 * slot[2] + 1)), 1.0, 0)

    def _coupled(self, names: tuple, pair: tuple[_Result, _Result], every: Momenta, k: int) -> tuple[tuple, _Result]:
        """Two results coupled, by a name that does not depend on their order: it only changes the sign."""
        left, right = pair
        l1, l2 = (len(result.places) // 2 for result in pair)
        L = every[(len(every) + 1) // 2 + k]
        swapped = repr(names[0]) > repr(names[1])
        if swapped:
            left, right, l1, l2, names = right, left, l2, l1, names[::-1]
        name = (*names, L)
        if name not in self._results:
            first = self._new(2 * L + 1)
            coupling = _real_coupling(l1, l2, L)
            for a, b, c in np.argwhere(coupling):
                self._add(left.places[a], right.places[b], first + int(c), float(coupling[a, b, c]))
            self._results[name] = _Result(tuple(range(first, first + 2 * L + 1)), 1.0, (l1 + l2 + L) % 2)
        found = self._results[name]
        sign = found.sign * left.sign * right.sign * (-1.0 if swapped and (l1 + l2 - L) % 2 else 1.0)
        return name, _Result(found.places, sign, found.phase + left.phase + right.phase)

    def _single_product(self, function: Function) -> int:
        """Re Π A_{z n l m}."""
        *others, last = sorted(zip(_slots(function), function.orders or ()))
        place = self._new(1)
        self._multiply(self._product(tuple(others)), self._factor(*last), place, None)
        return place

    def _product(self, factors: tuple[tuple[Slot, int], ...]) -> _Complex:
        """Π A over ``factors``: that of all but the last, times the last."""
        if len(factors) == 1:
            return self._factor(*factors[0])
        if factors not in self._complex:
            left, right = self._product(factors[:-1]), self._factor(*factors[-1])
            is_real = left.imaginary is None and right.imaginary is None
            real, imaginary = self._new(1), None if is_real else self._new(1)
            self._multiply(left, right, real, imaginary)
            self._complex[factors] = _Complex((real, 1.0), None if imaginary is None else (imaginary, 1.0))
        return self._complex[factors]

    def _factor(self, slot: Slot, m: int) -> _Complex:
        """A_{z n l m} = (S_m + i S_{−m})/√2 (−1)^m for m > 0, and A_{−m} = (−1)^m A_m*."""
        middle = self._first[slot] + slot[2]
        if m == 0:
            return _Complex((middle, 1.0), None)
        size = 0.5**0.5 * (-1.0 if m > 0 and m % 2 else 1.0)
        return _Complex((middle + abs(m), size), (middle - abs(m), size if m > 0 else -size))

    def _multiply(self, left: _Complex, right: _Complex, real: int, imaginary: int | None) -> None:
        """Adds the products of two complex numbers to the moments of their real and imaginary part."""
        parts = [(left.real, right.real, real, 1.0), (left.imaginary, right.imaginary, real, -1.0)]
        parts += [(left.real, right.imaginary, imaginary, 1.0), (left.imaginary, right.real, imaginary, 1.0)]
        for a, b, place, sign in parts:
            if a is not None and b is not None and place is not None:
                self._add(a[0], b[0], place, sign * a[1] * b[1])

    def _new(self, n: int) -> int:
        self.n_moments += n
        return self.n_moments - n

    def _add(self, i: int, j: int, k: int, factor: float) -> None:
        name = (min(i, j), max(i, j), k)
        self._rows[name] = self._rows.get(name, 0.0) + factor


@lru_cache
def _real_coupling(l1: int, l2: int, L: int) -> Float[np.ndarray, "m1 m2 m"]:
    """K of R_m = Σ K S_m1 S_m2: Clebsch-Gordan coefficients between real components, without the factor i^p."""
    C = np.zeros((2 * l1 + 1, 2 * l2 + 1, 2 * L + 1))
    for m1 in range(-l1, l1 + 1):
        for m2 in range(max(-l2, -L - m1), min(l2, L - m1) + 1):
            C[m1 + l1, m2 + l2, m1 + m2 + L] = clebsch_gordan((l1, m1), (l2, m2), (L, m1 + m2))
    K = np.einsum("abc,ai,bj,ck->ijk", C, _to_complex(l1), _to_complex(l2), _to_complex(L).conj())
    K = K.imag if (l1 + l2 + L) % 2 else K.real
    return np.where(np.abs(K) > 1e-14, K, 0)


def _to_complex(degree: int) -> Complex[np.ndarray, "m m"]:
    """U of Y = U S."""
    U = np.zeros((2 * degree + 1, 2 * degree + 1), complex)
    U[degree, degree] = 1
    for m in range(1, degree + 1):
        sign = (-1) ** m
        U[degree + m, [degree + m, degree - m]] = sign * np.array([1, 1j]) / np.sqrt(2)
        U[degree - m, [degree + m, degree - m]] = np.array([1, -1j]) / np.sqrt(2)
    return U
