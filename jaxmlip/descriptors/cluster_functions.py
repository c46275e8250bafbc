"""Which products of the atomic base make invariant functions (ACE), and their generalised coupling coefficients.

    B = Re Σ_{m1 … mr} C(m1 … mr) A_{1,m1} … A_{r,mr},      A_{k,m} = A_{z_k n_k l_k m},

where C couples the angular momenta of all factors to 0 along a fixed binary tree: (1 2) (3 4) …, then pairs of these in
turn, an odd last factor at the end. The intermediate momenta L are numbered as they arise; the last one is fixed.

References:
    Drautz, Phys. Rev. B 99, 014104 (2019): cluster functions and their couplings.
    Dusson et al., J. Comput. Phys. 454, 110946 (2022): which of them are independent.
    Bochkarev et al., Phys. Rev. Materials 6, 013804 (2022): the order and the trees of pacemaker.
"""

import itertools
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from jaxmlip.basis.couplings import clebsch_gordan

Momenta = tuple[int, ...]


class Function(NamedTuple):
    """A product of the atomic base: channel (an element), n from 0 and l of each factor, and how they are coupled.

    ``couplings`` are the intermediate L. Where ``orders`` are given it is the single product Re Π A_{z n l m} instead.
    """

    channels: tuple[int, ...]
    ns: tuple[int, ...]
    ls: Momenta
    couplings: Momenta = ()
    orders: Momenta | None = None

    @property
    def rank(self) -> int:
        """Factors: body order − 1."""
        return len(self.ls)

    @property
    def degree(self) -> int:
        """Σ (n + l) over the factors, with n from 1."""
        return sum(self.ns) + sum(self.ls) + self.rank


class Node(NamedTuple):
    """A step of the tree: which two results (numbers from 0: the factors, then the nodes in turn) become which L."""

    left: int
    right: int


class Sizes(NamedTuple):
    """Per rank, from 1 on: radial functions and the highest l; no function beyond ``degree`` (0: all)."""

    n_max: tuple[int, ...]
    l_max: tuple[int, ...]
    degree: int = 0


@lru_cache
def tree(rank: int) -> tuple[Node, ...]:
    """The steps of coupling ``rank`` momenta, the last of which gives 0.

    >>> [tuple(node) for node in tree(4)], [tuple(node) for node in tree(5)]
    ([(0, 1), (2, 3), (4, 5)], [(0, 1), (2, 3), (5, 6), (7, 4)])
    """
    nodes, waiting = [], []
    for k in range(0, rank - 1, 2):
        nodes.append(Node(k, k + 1))
        waiting.append(rank + len(nodes) - 1)
    while len(waiting) > 1:
        nodes.append(Node(waiting.pop(0), waiting.pop(0)))
        waiting.append(rank + len(nodes) - 1)
    if rank % 2 and rank > 1:
        nodes.append(Node(waiting[0], rank - 1))
    return tuple(nodes)


def momenta(ls: Momenta, couplings: Momenta) -> Momenta:
    """L of all factors and nodes of the tree, the last 0.

    Raises:
        ValueError: they cannot be coupled so.
    """
    rank = len(ls)
    if len(couplings) != max(0, rank - 2):
        raise ValueError(f"rank {rank} has {max(0, rank - 2)} intermediate momenta, got {list(couplings)}")
    every = (*ls, *couplings, 0)
    for k, (left, right) in enumerate(tree(rank)):
        if not abs(every[left] - every[right]) <= every[rank + k] <= every[left] + every[right]:
            raise ValueError(f"l = {list(ls)} cannot be coupled by {list(couplings)}")
    if sum(ls) % 2 or (rank == 1 and ls[0]):
        raise ValueError(f"l = {list(ls)} has no invariant: their sum must be even, that of one factor 0")
    return every if rank > 1 else ls


@lru_cache(maxsize=4096)
def coefficients(ls: Momenta, couplings: Momenta) -> dict[Momenta, float]:
    """C(m1 … mr) by the m, those that are zero left out.

    >>> {m: round(c, 4) for m, c in coefficients((1, 1), ()).items()}
    {(-1, 1): 0.5774, (0, 0): -0.5774, (1, -1): 0.5774}
    """
    every, rank = momenta(ls, couplings), len(ls)
    found: dict[int, dict] = {k: {(m,): (m, 1.0) for m in range(-l, l + 1)} for k, l in enumerate(ls)}  # noqa: E741
    for k, (left, right) in enumerate(tree(rank)):
        found[rank + k] = merged = {}
        for (ms1, (m1, c1)), (ms2, (m2, c2)) in itertools.product(found[left].items(), found[right].items()):
            L, M = every[rank + k], m1 + m2
            if abs(M) <= L:
                c = clebsch_gordan((every[left], m1), (every[right], m2), (L, M))
                if c:
                    merged[ms1 + ms2] = (M, c1 * c2 * c)
    places = _places(rank)
    last = found[max(found)]
    return {tuple(ms[place] for place in places): c for ms, (_, c) in last.items()}


def _places(rank: int) -> list[int]:
    """Where in a concatenation along the tree each factor stands."""
    leaves: dict[int, list[int]] = {k: [k] for k in range(rank)}
    for k, (left, right) in enumerate(tree(rank)):
        leaves[rank + k] = leaves[left] + leaves[right]
    order = leaves[max(leaves)]
    return [order.index(k) for k in range(rank)]


def functions(n_channels: int, sizes: Sizes) -> list[Function]:
    """All independent functions of an atom whose neighbours are in ``n_channels``, rank by rank.

    >>> [len(functions(1, Sizes((8, 4, 3)[:rank], (0, 3, 2)[:rank]))) for rank in (1, 2, 3)]
    [8, 48, 122]
    """
    found = []
    for rank, (n_max, l_max) in enumerate(zip(sizes.n_max, sizes.l_max), 1):
        for channels in itertools.combinations_with_replacement(range(n_channels), rank):
            for ns in _radial(channels, n_max):
                kinds = tuple(zip(channels, ns))
                for ls in _angular(kinds, l_max):
                    if sizes.degree and sum(ns) + sum(ls) + rank > sizes.degree:
                        continue
                    slots = [(*kind, degree) for kind, degree in zip(kinds, ls)]
                    groups = tuple(slots.index(slot) for slot in slots)
                    found += [Function(channels, ns, ls, LS) for LS in independent(ls, groups)]
    return found


def _radial(channels: tuple[int, ...], n_max: int) -> Iterator[tuple[int, ...]]:
    """The n of the factors, each set of (channel, n) once."""
    seen = set()
    for ns in itertools.product(range(n_max), repeat=len(channels)):
        name = tuple(sorted(zip(channels, ns)))
        if name not in seen:
            seen.add(name)
            yield ns


def _angular(kinds: Sequence[tuple[int, int]], l_max: int) -> Iterator[Momenta]:
    """The l of the factors, with an even sum, that do not fall among equal factors."""
    before = [[j for j in range(k) if kinds[j] == kinds[k]][-1:] for k in range(len(kinds))]
    for ls in itertools.product(range(l_max + 1), repeat=len(kinds)):
        if sum(ls) % 2 == 0 and all(ls[k] >= ls[j] for k, earlier in enumerate(before) for j in earlier):
            yield ls


@lru_cache(maxsize=4096)
def independent(ls: Momenta, groups: tuple[int, ...]) -> tuple[Momenta, ...]:
    """Intermediate L of independent functions; ``groups`` names equal factors alike.

    >>> independent((1, 1, 1, 1), (0, 0, 0, 0)), independent((1, 1, 1, 1), (0, 1, 2, 3))
    (((0, 0),), ((0, 0), (1, 1), (2, 2)))
    """
    rank = len(ls)
    if rank == 1:
        return ((),) if ls == (0,) else ()
    kept: list[np.ndarray] = []
    found = []
    columns: dict[Momenta, int] = {}
    for couplings in _couplings(ls):
        vector: dict[Momenta, float] = {}
        for ms, c in coefficients(ls, couplings).items():
            name = tuple(m for _, m in sorted(zip(groups, ms)))
            vector[name] = vector.get(name, 0.0) + c
        for name in vector:
            columns.setdefault(name, len(columns))
        dense = np.zeros(len(columns))
        dense[[columns[name] for name in vector]] = list(vector.values())
        size = np.linalg.norm(dense)
        for _ in range(2):  # twice, against rounding
            for other in kept:
                dense = dense - (other @ dense[: len(other)]) * np.pad(other, (0, len(dense) - len(other)))
        if np.linalg.norm(dense) > 1e-9 * max(size, 1e-3):
            kept.append(dense / np.linalg.norm(dense))
            found.append(couplings)
    return tuple(found)


def _couplings(ls: Momenta) -> Iterator[Momenta]:
    """All intermediate L, in lexicographic order."""
    nodes, rank = tree(len(ls)), len(ls)

    def extended(every: Momenta) -> Iterator[Momenta]:
        k = len(every) - rank
        if k == len(nodes) - 1:
            left, right = nodes[k]
            if every[left] == every[right]:
                yield every[rank:]
            return
        left, right = (every[n] for n in nodes[k])
        for L in range(abs(left - right), left + right + 1):
            yield from extended((*every, L))

    return extended(ls)
