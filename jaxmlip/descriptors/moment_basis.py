"""Which contractions of moment tensors make a basis of a given level, as index lists of the kind MLIP writes.

A scalar of the basis is a product of at most four tensors M_{μ,ν} with all indices contracted in pairs: a multigraph
without loops, a node for each tensor, of degree ν, and an edge for each pair of contracted indices. The level of a node
is 2 + 4μ + ν, that of a graph the sum over its nodes; graphs that differ by the names of their nodes are the same.

M_{μ,ν} is symmetric, so its components are monomials x^p y^q z^t, and a contraction over e indices is a sum over
monomials of degree e, each counted e!/(p! q! t!) times. Products of pairs and triples of tensors that several scalars
share are stored; of the ways to build a scalar the one that adds the fewest products is taken.

References:
    Shapeev, Multiscale Model. Simul. 14, 1153 (2016), section 3.
    Novikov, Gubaev, Podryabinkin, Shapeev, Mach. Learn.: Sci. Technol. 2, 025002 (2021), equations 3-5 (levels).
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

Monomial = tuple[int, int, int]
Node = tuple[int, int]  # μ, ν

MAX_MU, MAX_NU, MAX_NODES = 5, 10, 4  # of the published levels: the first two matter to 26 and 28 only
_PAIRS = {n: list(itertools.combinations(range(n), 2)) for n in range(1, MAX_NODES + 1)}


class MomentBasis(NamedTuple):
    """Index lists as in a `.mtp` file: the first moments are basic, M[k] += m M[i] M[j] gives the others in order."""

    basic: Int[np.ndarray, "n_basic 4"]  # μ, p, q, t: Σ_j f_μ(r_j) x^p y^q z^t / r^(p+q+t)
    times: Int[np.ndarray, "n_times 4"]  # i, j, m, k
    scalars: Int[np.ndarray, " n_scalars"]  # which moments are the basis functions
    n_moments: int

    @property
    def n_mu(self) -> int:
        """Number of radial functions of a pair of species."""
        return 1 + int(self.basic[:, 0].max())


class ScalarGraph(NamedTuple):
    """One scalar: its tensors and how often each two of them are contracted."""

    level: int
    nodes: tuple[Node, ...]
    edges: dict[tuple[int, int], int]

    def between(self, a: int, b: int) -> int:
        """Indices contracted between two nodes."""
        return self.edges[min(a, b), max(a, b)]


class _Leg(NamedTuple):
    """Indices of one kind: contracted between two tensors, or left open (then it has a group of the result)."""

    degree: int
    left: int | None  # group of indices of the left factor, if it has these
    right: int | None
    result: int | None = None


class _Tensor(NamedTuple):
    """A product of two tensors with some indices contracted; its open indices are symmetric within groups."""

    left: "Node | _Tensor"
    right: "Node | _Tensor"
    legs: tuple[_Leg, ...]
    weighted: bool = False  # open indices are multiplied by how often they occur, ready to be contracted with one node

    @property
    def n_products(self) -> int:
        """Products needed for all components."""
        return math.prod(len(monomials(leg.degree)) for leg in self.legs)


@dataclass
class _Tables:
    """What is built so far: moments of each tensor by component, and the products that make each moment."""

    tensors: dict = field(default_factory=dict)
    products: list[dict[tuple[int, int], int]] = field(default_factory=list)  # of each moment: m by (i, j)
    known: dict[frozenset, int] = field(default_factory=dict)  # equal moments are one


def scalar_graphs(level: int) -> list[ScalarGraph]:
    """All scalars up to ``level``, by level and number of tensors.

    >>> [len(scalar_graphs(level)) for level in (2, 8, 16, 20)]
    [1, 9, 92, 288]
    """
    found = []
    for n in range(1, min(MAX_NODES, level // 2) + 1):
        for row in _distinct(n, level // 2 - n):
            mu, edges = row[:n], dict(zip(_PAIRS[n], row[n:]))
            nu = [sum(count for pair, count in edges.items() if a in pair) for a in range(n)]
            if max(mu) <= MAX_MU and max(nu) <= MAX_NU:
                found.append(ScalarGraph(2 * n + 4 * sum(mu) + sum(nu), tuple(zip(mu, nu)), edges))
    return sorted(found, key=lambda graph: (graph.level, len(graph.nodes), graph.nodes))


@lru_cache
def moment_basis(level: int) -> MomentBasis:
    """The basis of a level: 9 scalars at level 8, 92 at 16, 288 at 20, 2,445 at 28.

    The order of the scalars must never change: saved models give their level and coefficients in this order.

    >>> basis = moment_basis(16)
    >>> len(basis.basic), len(basis.scalars), basis.n_mu
    (130, 92, 4)
    """
    graphs = scalar_graphs(level)
    nodes = sorted({node for graph in graphs for node in graph.nodes})
    basic = [(mu, *c) for mu, nu in nodes for c in monomials(nu)]
    tables = _Tables(products=[{} for _ in basic])
    places = iter(range(len(basic)))
    for node in nodes:
        tables.tensors[node] = {(c,): next(places) for c in monomials(node[1])}
    scalars = [_add_scalar(tables, graph) for graph in graphs]
    times = [(i, j, m, k) for k, products in enumerate(tables.products) for (i, j), m in products.items()]
    lists = [np.array(rows, np.int32) for rows in (basic, times, scalars)]
    return MomentBasis(lists[0], lists[1].reshape(-1, 4), lists[2], len(tables.products))


@lru_cache
def monomials(degree: int) -> tuple[Monomial, ...]:
    """Exponents (p, q, t) with p + q + t = ``degree``, x first."""
    return tuple((p, q, degree - p - q) for p in range(degree, -1, -1) for q in range(degree - p, -1, -1))


def _distinct(n: int, budget: int) -> list[list[int]]:
    """(μ of each node, edges of each pair) with 2 Σμ + Σ edges ≤ budget, one of each set of equal graphs."""
    pairs, radices = _PAIRS[n], 16 ** np.arange(n + len(_PAIRS[n]), dtype=np.int64)
    rows = np.array(
        [
            (*mu, *edges)
            for edges in _up_to(budget, len(pairs))
            for mu in itertools.combinations_with_replacement(range((budget - sum(edges)) // 2 + 1), n)
            if 2 * sum(mu) + sum(edges) <= budget
        ]
    )
    codes = []
    for order in itertools.permutations(range(n)):
        ends = [sorted((order[a], order[b])) for a, b in pairs]
        moved = [n + pairs.index((a, b)) for a, b in ends]
        codes.append(rows[:, [*order, *moved]] @ radices)
    first = np.unique(np.min(codes, axis=0), return_index=True)[1]
    return rows[first].tolist()


def _up_to(total: int, parts: int) -> list[tuple[int, ...]]:
    if parts == 0:
        return [()]
    return [(first, *rest) for first in range(total + 1) for rest in _up_to(total - first, parts - 1)]


def _add_scalar(tables: _Tables, graph: ScalarGraph) -> int:
    """The moment that is this scalar, in the way that adds the fewest products."""
    if len(graph.nodes) == 1:
        return tables.tensors[graph.nodes[0]][(0, 0, 0),]
    return _build(tables, min(_ways(graph), key=lambda way: _missing(tables, way)))[()]


def _missing(tables: _Tables, tensor: "_Tensor | Node") -> int:
    """Products needed for a tensor and those of its factors that are not built yet."""
    if tensor in tables.tensors or not isinstance(tensor, _Tensor):
        return 0
    return tensor.n_products + _missing(tables, tensor.left) + _missing(tables, tensor.right)


def _build(tables: _Tables, tensor: "_Tensor | Node") -> dict[tuple[Monomial, ...], int]:
    """The moment of each component of ``tensor``, built from its factors if it is new."""
    if tensor in tables.tensors or not isinstance(tensor, _Tensor):
        return tables.tensors[tensor]
    left, right = _build(tables, tensor.left), _build(tables, tensor.right)
    sums: dict[tuple[Monomial, ...], dict[tuple[int, int], int]] = {}
    legs = tensor.legs
    done = isinstance(tensor.left, _Tensor) and tensor.left.weighted
    counts = [tensor.weighted if leg.result is not None else not done for leg in legs]
    for chosen in itertools.product(*(monomials(leg.degree) for leg in legs)):
        counted = [_count(c) for c, count in zip(chosen, counts) if count]
        i = left[_component(chosen, [leg.left for leg in legs])]
        j = right[_component(chosen, [leg.right for leg in legs])]
        terms = sums.setdefault(_component(chosen, [leg.result for leg in legs]), {})
        pair = (i, j) if i <= j else (j, i)
        terms[pair] = terms.get(pair, 0) + math.prod(counted)
    tables.tensors[tensor] = {component: _moment(tables, terms) for component, terms in sums.items()}
    return tables.tensors[tensor]


def _moment(tables: _Tables, terms: dict[tuple[int, int], int]) -> int:
    """A moment that is this sum of products."""
    name = frozenset(terms.items())
    if name not in tables.known:
        tables.known[name] = len(tables.products)
        tables.products.append(terms)
    return tables.known[name]


def _component(chosen: tuple[Monomial, ...], groups: list[int | None]) -> tuple[Monomial, ...]:
    """The monomial of each group: the product of the monomials of its legs."""
    n_groups = 1 + max((group for group in groups if group is not None), default=-1)
    totals = [(0, 0, 0)] * n_groups
    for (p, q, t), group in zip(chosen, groups):
        if group is not None:
            x, y, z = totals[group]
            totals[group] = (x + p, y + q, z + t)
    return tuple(totals)


@lru_cache
def _count(c: Monomial) -> int:
    """How many index sequences a monomial stands for."""
    return math.factorial(sum(c)) // math.prod(map(math.factorial, c))


def _ways(graph: ScalarGraph) -> list[_Tensor]:
    """Ways to build a scalar of two or more tensors, all equal in value."""
    n, between = graph.nodes, graph.between
    if len(n) == 2:
        return [_Tensor(n[0], n[1], (_Leg(between(0, 1), 0, 0),))]
    if len(n) == 3:
        return [way for a, b, c in ((0, 1, 2), (0, 2, 1), (1, 2, 0)) for way in _pair_and_node(n, between, (a, b, c))]
    ways = [_two_pairs(n, between, order) for order in ((0, 1, 2, 3), (0, 2, 1, 3), (0, 3, 1, 2))]
    for a, b in _PAIRS[4]:
        c, d = (x for x in range(4) if x not in (a, b))
        ways += [_triple_and_node(n, between, (a, b, c, d)), _triple_and_node(n, between, (a, b, d, c))]
    return ways


def _pair(n: tuple[Node, ...], between: Callable, a: int, b: int) -> _Tensor:
    """M_a · M_b, contracted with each other; the open indices of each are a group."""
    e = between(a, b)
    legs = (_Leg(e, 0, 0), _Leg(n[a][1] - e, 0, None, 0), _Leg(n[b][1] - e, None, 0, 1))
    return _Tensor(n[a], n[b], legs)


def _pair_and_node(n: tuple[Node, ...], between: Callable, order: tuple[int, ...]) -> list[_Tensor]:
    """(M_a M_b) M_c, from the pair as it is or from its symmetric part."""
    a, b = sorted(order[:2], key=lambda x: n[x])
    c = order[2]
    pair = _pair(n, between, a, b)
    merged = tuple(leg if leg.result is None else leg._replace(result=0) for leg in pair.legs)
    legs = (_Leg(between(a, c), 0, 0), _Leg(between(b, c), 1, 0))
    return [_Tensor(pair, n[c], legs), _Tensor(pair._replace(legs=merged, weighted=True), n[c], (_Leg(n[c][1], 0, 0),))]


def _two_pairs(n: tuple[Node, ...], between: Callable, order: tuple[int, ...]) -> _Tensor:
    """(M_a M_b)(M_c M_d)."""
    a, b = sorted(order[:2], key=lambda x: n[x])
    c, d = sorted(order[2:], key=lambda x: n[x])
    ends = itertools.product(enumerate((a, b)), enumerate((c, d)))
    legs = tuple(_Leg(between(x, y), left, right) for (left, x), (right, y) in ends)
    return _Tensor(_pair(n, between, a, b), _pair(n, between, c, d), legs)


def _triple_and_node(n: tuple[Node, ...], between: Callable, order: tuple[int, ...]) -> _Tensor:
    """((M_a M_b) M_c) M_d."""
    c, d = order[2:]
    a, b = sorted(order[:2], key=lambda x: (n[x], between(x, c)))
    inner = (_Leg(between(a, c), 0, 0), _Leg(between(b, c), 1, 0))
    outer = (_Leg(between(a, d), 0, None, 0), _Leg(between(b, d), 1, None, 0), _Leg(between(c, d), None, 0, 0))
    triple = _Tensor(_pair(n, between, a, b), n[c], inner + outer, weighted=True)
    return _Tensor(triple, n[d], (_Leg(n[d][1], 0, 0),))
