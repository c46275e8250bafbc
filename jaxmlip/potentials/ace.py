"""Atomic cluster expansion (ACE), exactly as pacemaker (python-ace, LAMMPS ``pair_style pace``) evaluates it.

    E_i = ε_{z_i} + S(ρ_core) Σ_p w_p F(ρ_p; m_p) + ρ_core,        ρ_p = Σ_f c_{z_i p f} B_f(i),
    B_f = Re Σ_m C_f(m1 … mr) A_{1 m1} … A_{r mr},                 A_{z n l m}(i) = Σ_{j of z} R_nl(r_ij) Y_lm(r̂_ij),

R_nl = Σ_k c_nlk g_k of each two elements, ρ_core = Σ_j u(r_ij); functions of one factor take g_k itself. By default
there is one density, which is the energy (linear ACE), and no core repulsion.

References:
    Drautz, Phys. Rev. B 99, 014104 (2019): basis (equations 20-27, 53), embedding.
    Lysogorskiy et al., npj Comput. Mater. 7, 97 (2021): pacemaker.
    Bochkarev et al., Phys. Rev. Materials 6, 013804 (2022): fitting, order of the functions.
"""

import dataclasses
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxmlip.config import ConfigError, Count, NotNegative, Positive, Range, Whole
from jaxmlip.descriptors.atomic_base import columns, combined, harmonics, neighbor_sums
from jaxmlip.descriptors.cluster_functions import Sizes, functions
from jaxmlip.descriptors.cluster_tables import ClusterTables, cluster_tables
from jaxmlip.descriptors.contraction import Slopes, scalar_moments, scalar_slopes, slopes
from jaxmlip.descriptors.soap import alchemical_embedding
from jaxmlip.graph.batch import Graph
from jaxmlip.potentials.ace_definition import Definition, from_text, pair_index
from jaxmlip.potentials.ace_embedding import Centre, Embedding, embedded, faded
from jaxmlip.potentials.ace_radial import Basis, Bond, Inner, Pairs, pair_functions, pair_table
from jaxmlip.potentials.base import Config, Linear, Params, Potential, factory
from jaxmlip.potentials.registry import Family, Format

MANY_CHANNELS = 3  # elements that keep a channel each unless told otherwise


@dataclasses.dataclass(frozen=True)
class ACEConfig(Config):
    """pacemaker's settings, the same for all elements; a file's, which may differ by element, are in ``definition``.

    >>> ACEConfig(species=("Mo",)).n_features, ACEConfig(species=("Mo",), n_max=(8, 4), l_max=(0, 3)).n_features
    (122, 48)
    """

    cutoff: float = 5.0
    """Å; rcut, where all radial functions end."""
    n_max: tuple[Count, ...] = (8, 4, 3)
    """nradmax_by_orders: radial functions in products of one, two, three … factors; as many numbers as ranks."""
    l_max: tuple[Whole, ...] = (0, 3, 2)
    """lmax_by_orders: highest angular momentum in products of one (0), two, three … factors."""
    degree: Whole = 0
    """Keep functions up to this sum of all n and l (n from 1); 0: all."""
    n_channels: Count | None = None
    """Channels that elements of neighbours are mixed into by chemical similarity; None: one an element, at most 3."""
    radial_basis: Basis = "SBessel"
    """radbase: spherical Bessel functions, or Chebyshev polynomials of an exponential, a power or the distance."""
    decay: Positive = 5.25
    """radparameters: λ of the Chebyshev bases."""
    dcut: NotNegative = 0.01
    """Å; width in which ChebExpCos, and the core repulsion of "zbl", fade out before the cutoff."""
    embedding: Embedding = "FinnisSinclair"
    """npoti: the function F of each density."""
    parameters: tuple[float, ...] = (1.0, 1.0)
    """w_1, m_1, w_2, m_2, …: weight and power of each density; 1, 1 is linear ACE, 1, 1, 1, 0.5 pacemaker's default."""
    inner_cutoff: Inner = "distance"
    """inner_cutoff_type: how the core is told: by a distance, by its repulsion (density), or with ZBL within."""
    r_in: NotNegative = 0.0
    """Å; where the core ends."""
    delta_in: NotNegative = 0.0
    """Å; width in which it fades out before r_in."""
    core: tuple[float, float] = (0.0, 0.0)
    """core-repulsion: prefactor and λ (1/Å²); for "zbl" a factor (1: as it is) and nothing."""
    spline_step: NotNegative = 0.0
    """Å; deltaSplineBins: step of the splines that replace radial functions, as in the original; 0: none."""
    definition: str | None = None
    """Bonds, embeddings and functions of a file as JSON text, instead of all of the above but the splines."""
    tunable: ClassVar[Mapping[str, Range]] = {"cutoff": Range(4.0, 7.0), "degree": Range(6, 16, step=1)}

    def __post_init__(self) -> None:
        """Refuses what has no meaning."""
        super().__post_init__()
        if len(self.n_max) != len(self.l_max) or not self.n_max or self.l_max[0]:
            raise ConfigError(
                f"n_max and l_max need a number for each rank, l_max starts with 0: got {self.n_max} and {self.l_max}"
            )
        if len(self.n_max) > 6:
            raise ConfigError(f"ranks go up to 6, n_max has {len(self.n_max)}")
        if len(self.parameters) % 2 or not self.parameters or min(self.parameters[1::2]) <= 0:
            raise ConfigError(f"parameters are w_1, m_1, w_2, m_2, … with m > 0, got {self.parameters}")
        if self.n_channels is not None and self.n_channels > len(self.species):
            raise ConfigError(
                f"n_channels must be 1 … {len(self.species)}, the number of species: got {self.n_channels}"
            )
        if self.delta_in > self.r_in or self.r_in > self.cutoff:
            raise ConfigError(f"delta_in ≤ r_in ≤ cutoff {self.cutoff} Å, got {self.delta_in} and {self.r_in}")

    @property
    def parts(self) -> Definition:
        """Bonds, embeddings and functions by element."""
        return _parts(self) if self.definition is None else from_text(self.definition)

    @property
    def mixing(self) -> tuple[tuple[float, ...], ...] | None:
        """Weight of each species in each channel; None: a channel a species."""
        n_channels = min(len(self.species), MANY_CHANNELS) if self.n_channels is None else self.n_channels
        if self.definition is not None or n_channels == len(self.species):
            return None
        return alchemical_embedding(self.species, n_channels)

    @property
    def n_features(self) -> int:
        """Functions B of an atom."""
        return len(self.parts.functions)


@lru_cache
def _parts(config: ACEConfig) -> Definition:
    n_species = len(config.species)
    n_channels = n_species if config.mixing is None else len(config.mixing[0])
    found = tuple(functions(n_channels, Sizes(config.n_max, config.l_max, config.degree)))
    n_basis, rest = config.n_max[0], (max(config.n_max[1:], default=1), max(config.l_max))
    inner = (config.r_in, config.delta_in)
    bond = Bond(
        config.radial_basis,
        config.decay,
        config.cutoff,
        config.dcut,
        max(n_basis, rest[0]),
        *rest,
        *config.core,
        *inner,
    )
    n_pairs, every = n_species * (n_species + 1) // 2, tuple(range(len(found)))
    centre = Centre(config.embedding, config.parameters)
    return Definition((bond,) * n_pairs, (centre,) * n_species, found, (every,) * n_species, config.inner_cutoff)


class _Tables(NamedTuple):
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


@factory
def ace(config: ACEConfig) -> Potential:
    """The potential of ``config``.

    Params: ``offsets [n_species]`` eV, ``coefficients [n_species, n_features]`` eV (of several densities, or with a
    core: ``[n_species, n_densities, n_features]``), and of a file ``radial [n_pairs, n_max, l_max + 1, n_basis]``, the
    c_nlk of species i ≤ j; without them R_nl = g_n.

    >>> ace(ACEConfig(species=("Li", "O"), n_max=(6, 3), l_max=(0, 2))).config.n_features
    75
    """
    tables = _tables(config)
    parts, n_species, n_features = tables.parts, len(config.species), config.n_features
    shape = (n_features,) if parts.is_linear else (parts.n_densities, n_features)

    def init(key: Array | None, graph: Graph | None = None) -> Params:
        start = jnp.zeros((n_species, *shape))
        if len(shape) > 1 and parts.n_densities > 1:  # densities that are not all alike
            start = 1e-3 * jax.random.normal(jax.random.key(0) if key is None else key, start.shape)
        params = {"offsets": jnp.zeros(n_species), "coefficients": start}
        return params if config.definition is None else {**params, "radial": identity(parts)}

    def atomic_energies(params: Params, graph: Graph, vectors: Array) -> Array:
        g, u, r, Y = _pair_terms(tables, graph, vectors)
        sums = neighbor_sums(g, Y, _channels(tables, graph, vectors.dtype))
        B = scalar_moments(
            _basic(tables, params, graph, sums.reshape(-1, r.shape[0])[tables.sums]), tables.cluster.contraction
        )
        c = params["coefficients"][graph.species]
        offsets = params["offsets"][graph.species]
        if parts.is_linear:
            return offsets + jnp.sum(c * B.T, axis=1)
        energy = embedded(jnp.einsum("apf,fa->ap", c, B), graph.species, parts.centres)
        return offsets + _with_core(tables, graph, r, energy, u.sum(axis=1))

    def density(params: Params, graph: Graph, vectors: Array) -> Array:
        g, _, _, Y = _pair_terms(tables, graph, vectors)
        channels = _channels(tables, graph, vectors.dtype)
        weighted = g[None] if channels is None else channels[:, None] * g[None]
        n_functions, n_harmonics = g.shape[0], Y.shape[0]
        channel, rest = np.divmod(tables.sums, n_functions * n_harmonics)
        k, lm = np.divmod(rest, n_harmonics)
        return jnp.moveaxis(weighted[channel, k] * Y[lm], 0, -1)

    def invariants(params: Params, graph: Graph, total: Array) -> Array:
        return scalar_moments(_basic(tables, params, graph, total.T), tables.cluster.contraction).T

    def jacobian(params: Params, graph: Graph, total: Array) -> Array:
        return scalar_slopes(tables.cluster.contraction, _slopes(config), total)

    def roughness() -> np.ndarray:
        return np.array(
            [sum((n + 1) ** 2 + degree**2 for n, degree in zip(f.ns, f.ls)) for f in parts.functions], float
        )

    own = jacobian if config.definition is None else None
    stages = Linear(density, invariants, own, roughness=roughness)
    return Potential(config, init, atomic_energies, stages if parts.is_linear else None)


@lru_cache(maxsize=16)
def _slopes(config: ACEConfig) -> Slopes:
    return slopes(_tables(config).cluster.contraction)


@lru_cache(maxsize=64)
def _tables(config: ACEConfig) -> _Tables:
    parts, n_species = config.parts, len(config.species)
    cluster = cluster_tables(parts.functions)
    bonds = parts.table
    kinds = tuple(sorted({bond.basis for bond in parts.bonds}))
    kind = np.array([[kinds.index(bond.basis) for bond in row] for row in bonds])
    l_max = max((bond.l_max for bond in parts.bonds), default=0)
    n_harmonics = (l_max + 1) ** 2
    mixing = np.eye(n_species) if config.mixing is None else np.array(config.mixing).T
    if config.definition is None:
        radial = np.pad(cluster.radial, ((0, 0), (0, 2)))
        used = columns(np.concatenate([radial, cluster.angular]), parts.n_basis, n_harmonics)
    else:
        used = np.arange(len(mixing) * parts.n_basis * n_harmonics)
    pairs = pair_table(bonds, tuple(map(int, config.species)), config.spline_step)
    return _Tables(parts, cluster, n_harmonics, pairs, kinds, kind, used, mixing, bool(config.spline_step))


def identity(parts: Definition) -> Float[Array, "n_pairs n_max n_degrees n_basis"]:
    """c_nlk = δ_nk of every pair."""
    n_max, l_max = max(bond.n_max for bond in parts.bonds), max(bond.l_max for bond in parts.bonds)
    one = jnp.broadcast_to(jnp.eye(n_max, parts.n_basis)[:, None], (n_max, l_max + 1, parts.n_basis))
    return jnp.broadcast_to(one[None], (len(parts.bonds), *one.shape))


def _pair_terms(tables: _Tables, graph: Graph, vectors: Array) -> tuple[Array, Array, Array, Array]:
    """Radial functions g ``[n_basis, n_atoms, max_neighbors]`` and u, zero for padding, distances, harmonics."""
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
    Y = harmonics(v / r[None], int(np.sqrt(tables.n_harmonics)) - 1)
    return found[:-1], found[-1], r, Y


def _of_pairs(table: np.ndarray, graph: Graph, dtype: Any) -> Array:
    """Values ``[n_species, n_species, …]`` of the two species of each pair."""
    if len(table) == 1:
        return jnp.broadcast_to(jnp.asarray(table[0], dtype), (*graph.mask.shape, *table.shape[2:]))
    return jnp.asarray(table, dtype)[graph.species[:, None], graph.neighbor_species]


def _channels(tables: _Tables, graph: Graph, dtype: Any) -> Array | None:
    """Weight of each neighbour in each channel ``[n_channels, n_atoms, max_neighbors]``."""
    if tables.mixing.shape == (1, 1):
        return None
    return jnp.asarray(tables.mixing, dtype)[:, graph.neighbor_species]


def _basic(tables: _Tables, params: Params, graph: Graph, sums: Float[Array, "n_columns n_atoms"]) -> Array:
    """The basic moments ``[n_basic, n_atoms]`` of `ClusterTables` from the sums that are needed."""
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


def _with_core(tables: _Tables, graph: Graph, r: Array, energy: Array, core: Array) -> Array:
    """Energies with the core repulsion ``core`` = Σ_j u, and faded where it is large or a neighbour is near."""
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


_FORMAT = Format("jaxmlip.formats.ace:read_ace", "jaxmlip.formats.ace_write:write_ace")
ACE = Family(
    "ace",
    ACEConfig,
    ace,
    label="ACE",
    color="#56b4e9",
    method="linear",
    example={"species": ("Li", "Mn", "O"), "cutoff": 3.2, "n_max": (3, 2), "l_max": (0, 1), "n_channels": 2},
    formats={".yace": _FORMAT, ".yaml": _FORMAT._replace(accepts="jaxmlip.formats.ace:is_ace")},
)
