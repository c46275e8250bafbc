"""How an ACE is evaluated: its tables, functions of pairs, basic moments, and what happens near the core."""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxmlip.descriptors.atomic_base import columns, combined, harmonics, neighbor_sums
from jaxmlip.descriptors.cluster_tables import ClusterTables, cluster_tables
from jaxmlip.graph.batch import Graph
from jaxmlip.potentials.ace_definition import Definition, pair_index
from jaxmlip.potentials.ace_embedding import faded
from jaxmlip.potentials.ace_radial import Pairs, pair_functions, pair_table
from jaxmlip.potentials.base import Params

Mixing = tuple[tuple[float, ...], ...] | None


class Tables(NamedTuple):
    """What is made once for a potential, in NumPy."""

    parts: Definition
    cluster: ClusterTables
    n_harmonics: int
    pairs: Float[np.ndarray, "n_species n_species n_values"]
    kinds: tuple[str, ...]  # bases that occur
    kind: Int[np.ndarray, "n_species n_species"]  # which of them a pair has
    sums: Int[np.ndarray, " n_columns"]  # which of all sums G_{c k l m} are needed, in the order of the density
    mixing: Float[np.ndarray, "n_channels n_species"]
    splines: bool


def make_tables(parts: Definition, numbers: tuple[int, ...], mixing: Mixing, step: float, *, radial: bool) -> Tables:
    """Tables of the elements of atomic ``numbers``.

    Args:
        parts: what the potential is made of.
        numbers: atomic numbers of its species.
        mixing: weights of each species in each channel; None: a channel a species.
        step: of the splines, Å; 0: none.
        radial: whether there are coefficients c_nlk; else R_nl = g_n.
    """
    cluster, bonds = cluster_tables(parts.functions), parts.table
    kinds = tuple(sorted({bond.basis for bond in parts.bonds}))
    kind = np.array([[kinds.index(bond.basis) for bond in row] for row in bonds])
    n_harmonics = (max(bond.l_max for bond in parts.bonds) + 1) ** 2
    weights = np.eye(len(numbers)) if mixing is None else np.array(mixing).T
    scalar = np.column_stack([cluster.radial, np.zeros_like(cluster.radial)])  # l = m = 0
    rows = np.concatenate([scalar, cluster.angular])
    used = np.arange(len(weights) * parts.n_basis * n_harmonics)
    used = used if radial else columns(rows, parts.n_basis, n_harmonics)
    return Tables(parts, cluster, n_harmonics, pair_table(bonds, numbers, step), kinds, kind, used, weights, bool(step))


def identity(parts: Definition) -> Float[Array, "n_pairs n_max n_degrees n_basis"]:
    """c_nlk = δ_nk of every pair."""
    n_max, l_max = max(bond.n_max for bond in parts.bonds), max(bond.l_max for bond in parts.bonds)
    one = jnp.broadcast_to(jnp.eye(n_max, parts.n_basis)[:, None], (n_max, l_max + 1, parts.n_basis))
    return jnp.broadcast_to(one[None], (len(parts.bonds), *one.shape))


class PairTerms(NamedTuple):
    """Functions of all pairs, zero for padding where they are energies or sums are made of them."""

    g: Float[Array, "n_basis n_atoms max_neighbors"]
    core: Float[Array, "n_atoms max_neighbors"]  # u, eV
    r: Float[Array, "n_atoms max_neighbors"]
    Y: Float[Array, "n_harmonics n_atoms max_neighbors"]
    channels: Float[Array, "n_channels n_atoms max_neighbors"] | None  # weights; None: one channel of weight 1

    def weighted(self) -> Float[Array, "n_channels n_basis n_atoms max_neighbors"]:
        """The radial functions in each channel."""
        return self.g[None] if self.channels is None else self.channels[:, None] * self.g[None]


def pair_terms(tables: Tables, graph: Graph, vectors: Float[Array, "n_atoms max_neighbors 3"]) -> PairTerms:
    """Radial functions, core repulsion and harmonics of all pairs."""
    v = jnp.moveaxis(vectors, -1, 0)
    r = jnp.sqrt(jnp.sum(v**2, axis=0))
    values = _of_pairs(tables.pairs, graph, r.dtype)
    pairs = Pairs(*(values[..., k] for k in range(len(Pairs._fields))))
    n_basis, inner = tables.parts.n_basis, tables.parts.inner
    found = jnp.zeros((n_basis + 1, *r.shape), r.dtype)
    for k, basis in enumerate(tables.kinds):
        mine = graph.mask if len(tables.kinds) == 1 else graph.mask & (_of_pairs(tables.kind, graph, int) == k)
        terms = pair_functions(r, pairs, basis, inner, n_basis, splines=tables.splines)
        found = jnp.where(mine[None], terms, found)
    Y = harmonics(v / r[None], math.isqrt(tables.n_harmonics) - 1)
    mixed = None
    if tables.mixing.shape != (1, 1):
        mixed = jnp.asarray(tables.mixing, r.dtype)[:, graph.neighbor_species]
    return PairTerms(found[:-1], found[-1], r, Y, mixed)


def neighbor_terms(tables: Tables, terms: PairTerms) -> Float[Array, "n_atoms max_neighbors n_columns"]:
    """What each neighbour adds to the sums that are needed."""
    channel, rest = np.divmod(tables.sums, terms.g.shape[0] * tables.n_harmonics)
    k, lm = np.divmod(rest, tables.n_harmonics)
    return jnp.moveaxis(terms.weighted()[channel, k] * terms.Y[lm], 0, -1)


def needed_sums(tables: Tables, terms: PairTerms) -> Float[Array, "n_columns n_atoms"]:
    """The sums over neighbours that are needed."""
    return neighbor_sums(terms.weighted(), terms.Y).reshape(-1, terms.r.shape[0])[tables.sums]


def basic_moments(
    tables: Tables, params: Params, graph: Graph, sums: Float[Array, "n_columns n_atoms"]
) -> Float[Array, "n_basic n_atoms"]:
    """The basic moments of `ClusterTables` from the sums that are needed."""
    if "radial" not in params:
        return sums
    n_species, n_atoms = len(tables.parts.centres), sums.shape[1]
    sums = sums.reshape(-1, tables.parts.n_basis, tables.n_harmonics, n_atoms)
    place = np.array([[pair_index(i, j, n_species) for j in range(n_species)] for i in range(n_species)])
    by_centre = params["radial"][place]
    A = combined(sums, by_centre if n_species == 1 else by_centre[graph.species])
    radial, angular = tables.cluster.radial, tables.cluster.angular
    first = sums[radial[:, 0], radial[:, 1], 0]
    rest = A.reshape(-1, n_atoms)[columns(angular, A.shape[1], A.shape[2])]
    return jnp.concatenate([first, rest])


def with_core(
    tables: Tables, graph: Graph, terms: PairTerms, energy: Float[Array, " n_atoms"]
) -> Float[Array, " n_atoms"]:
    """Energies with the core repulsion Σ_j u in eV, and faded where it is large or a neighbour is near."""
    core, r = terms.core.sum(axis=1), terms.r
    parts = tables.parts
    if parts.inner != "zbl":
        return faded(energy, core, graph.species, parts.centres) + core
    values = _of_pairs(tables.pairs, graph, r.dtype)
    cutoff, inner, width = (values[..., Pairs._fields.index(name)] for name in ("cutoff", "inner", "inner_width"))
    depth = jnp.where(graph.mask & (r < cutoff), r - (inner - width), jnp.inf)
    nearest = jnp.argmin(depth, axis=1)[:, None]
    d, w = (jnp.take_along_axis(x, nearest, axis=1)[:, 0] for x in (depth, width))
    t = jnp.where(w > 0, d / jnp.where(w > 0, w, 1), (d > 0).astype(r.dtype))
    t = jnp.clip(jnp.where(jnp.isfinite(d), t, 1), 0, 1)
    f = t**3 * (10 - t * (15 - 6 * t))
    return f * energy + (1 - f) * core


def _of_pairs(table: np.ndarray, graph: Graph, dtype: Any) -> Array:
    """Values ``[n_species, n_species, …]`` of the two species of each pair."""
    if len(table) == 1:
        return jnp.broadcast_to(jnp.asarray(table[0], dtype), (*graph.mask.shape, *table.shape[2:]))
    return jnp.asarray(table, dtype)[graph.species[:, None], graph.neighbor_species]
