"""Moment tensor potentials (MTP), exactly as MLIP-2, MLIP-3 and motep evaluate them.

E_i = ε_{z_i} + Σ_n ξ_n B_n(i),  B_n: contractions of M_{μ,ν}(i) = Σ_j f_μ(r_ij; z_i, z_j) r̂_ij^{⊗ν},
f_μ(r; z_i, z_j) = Σ_k c_{z_i z_j μ k} Q_k(r),  Q_k(r) = T_k(s) (R − r)²: all species share the coefficients ξ.

References:
    Shapeev, Multiscale Model. Simul. 14, 1153 (2016).
    Gubaev, Podryabinkin, Hart, Shapeev, Comput. Mater. Sci. 156, 148 (2019), equations 2-5 (several species).
    Novikov, Gubaev, Podryabinkin, Shapeev, Mach. Learn.: Sci. Technol. 2, 025002 (2021), equations 1-6.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

import ase
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmlip.config import ConfigError, Count, NotNegative, Range
from jaxmlip.descriptors.contraction import Slopes, moment_energy, scalar_moments, scalar_slopes, slopes
from jaxmlip.descriptors.moment_basis import MomentBasis, moment_basis
from jaxmlip.descriptors.moments import (
    MomentTables,
    basic_moments,
    direction_monomials,
    moment_tables,
    pair_moments,
    radial_basis,
    radial_functions,
    radial_slopes,
)
from jaxmlip.graph.batch import Graph
from jaxmlip.graph.neighbors import neighbor_pairs
from jaxmlip.potentials.base import Config, Inner, Linear, Params, Potential, factory
from jaxmlip.potentials.presets import presets_of
from jaxmlip.potentials.registry import Family, Format


@dataclasses.dataclass(frozen=True)
class MTPConfig(Config):
    """MLIP's keys of the same names; the defaults are those of the study. ``cutoff`` is MLIP's max_dist.

    >>> config = MTPConfig(species=("Li", "O"))
    >>> config.level, config.n_features, config.n_mu
    (16, 92, 4)
    """

    cutoff: float = 5.0
    """Å; MLIP's max_dist."""
    level: int = 16
    """lev_max: which contractions of moment tensors are basis functions."""
    radial_basis_size: Count = 8
    """N_Q: Chebyshev polynomials of each radial function."""
    min_dist: NotNegative | None = None
    """R_min, Å: the polynomials' interval is [min_dist, cutoff]. None: the shortest distance of the data, where there
    are data to see (`suggest`), else 1.5."""
    scaling: float = 1.0
    """Factor on all radial functions."""
    repulsive: bool = False
    """RBChebyshev_repuls: below min_dist the radial functions keep their value."""
    index_lists: str | None = None
    """The alpha lists of a `.mtp` file that are not ours, as JSON text; None: the basis of ``level``."""
    tunable: ClassVar[Mapping[str, Range]] = {
        "cutoff": Range(4.0, 7.0),
        "level": Range(6, 16, step=2),
        "radial_basis_size": Range(4, 12, step=1),
    }

    def __post_init__(self) -> None:
        """Refuses what has no meaning."""
        super().__post_init__()
        if self.min_dist is None:
            object.__setattr__(self, "min_dist", min(1.5, self.cutoff / 2))
        if self.level not in range(2, 29, 2) and self.index_lists is None:
            raise ConfigError(f"level must be an even number 2 … 28, got {self.level}")
        if self.r_min >= self.cutoff:
            raise ConfigError(f"min_dist must lie between 0 and the cutoff {self.cutoff} Å, got {self.min_dist}")
        if not self.scaling:
            raise ConfigError(f"scaling must be a number that is not zero, got {self.scaling}")

    @property
    def r_min(self) -> Any:
        """R_min in Å."""
        return self.min_dist  # a number since __post_init__

    @property
    def basis(self) -> MomentBasis:
        """The index lists."""
        return moment_basis(self.level) if self.index_lists is None else _from_text(self.index_lists)

    @property
    def n_features(self) -> int:
        """Basis functions, which all species share."""
        return len(self.basis.scalars)

    @property
    def n_mu(self) -> int:
        """Radial functions of a pair of species."""
        return self.basis.n_mu


@factory
def mtp(config: MTPConfig) -> Potential:
    """The potential of ``config``.

    Params: ``offsets [n_species]`` eV, ``radial [n_species, n_species, n_mu, radial_basis_size]`` by central and
    neighbouring species, ``coefficients [n_features]``.

    >>> mtp(MTPConfig(species=("Mo",), level=8)).config.n_features
    9
    """
    tables, n_species = _tables(config.level, config.index_lists), len(config.species)
    shape = (n_species, n_species, config.n_mu, config.radial_basis_size)

    def init(key: Array | None, graph: Graph | None = None) -> Params:
        key = jax.random.key(0) if key is None else key
        radial = jax.random.uniform(key, shape, minval=-1.0, maxval=1.0) * _initial_size(config)
        return {"offsets": jnp.zeros(n_species), "radial": radial, "coefficients": jnp.zeros(config.n_features)}

    def pairs(params: Params, graph: Graph, vectors: Array) -> tuple[Array, Array]:
        return _pairs(config, tables, params["radial"], graph, vectors)

    def atomic_energies(params: Params, graph: Graph, vectors: Array) -> Array:
        M = basic_moments(*pairs(params, graph, vectors), tables)
        return params["offsets"][graph.species] + moment_energy(M, params["coefficients"], tables.contraction)

    def density(params: Params, graph: Graph, vectors: Array) -> Array:
        return jnp.moveaxis(pair_moments(*pairs(params, graph, vectors), tables), 0, -1)

    def invariants(params: Params, graph: Graph, total: Array) -> Array:
        return scalar_moments(total.T, tables.contraction).T

    def by_radial(params: Params, graph: Graph, vectors: Array, weights: Array) -> tuple[Array, Array]:
        r, directions = _spherical(vectors)
        Q = jnp.where(graph.mask[None], radial_basis(r, config), 0)
        neighbor = jax.nn.one_hot(graph.neighbor_species, n_species, dtype=vectors.dtype)
        return radial_slopes(Q, direction_monomials(directions, tables.max_degree), neighbor, weights, tables)

    def jacobian(params: Params, graph: Graph, total: Array) -> Array:
        return scalar_slopes(tables.contraction, _scalar_lists(config.level, config.index_lists), total)

    stages = Linear(density, invariants, jacobian, inner=Inner("radial", by_radial))
    return Potential(config, init, atomic_energies, stages)


def shortest_distance(atoms: Sequence[ase.Atoms], cutoff: float = 5.0) -> float:
    """The shortest distance between two atoms in Å, which suits `MTPConfig.min_dist`; what MLIP-3 takes by itself.

    >>> shortest_distance([ase.Atoms("LiO", [[0, 0, 0], [0, 0, 1.9]])])
    1.9

    Raises:
        ValueError: no two atoms are nearer than ``cutoff``.
    """
    found = [float(neighbor_pairs(frame, cutoff).distances.min(initial=np.inf)) for frame in atoms]
    if not np.isfinite(min(found, default=np.inf)):
        raise ValueError(f"none of the {len(found)} structures has two atoms within {cutoff} Å: give min_dist yourself")
    return min(found)


def suggest(atoms: Sequence[ase.Atoms]) -> dict[str, float]:
    """Settings that depend on the data: R_min is the shortest distance."""
    return {"min_dist": shortest_distance(atoms)}


def index_text(basis: MomentBasis) -> str:
    """Index lists as the text that `MTPConfig.index_lists` holds: hashed once, compared quickly."""
    lists = [basis.n_moments, basis.basic.tolist(), basis.times.tolist(), basis.scalars.tolist()]
    return json.dumps(lists, separators=(",", ":"))


def _pairs(
    config: MTPConfig, tables: MomentTables, radial: Array, graph: Graph, vectors: Array
) -> tuple[Float[Array, "n_mu n_atoms max_neighbors"], Float[Array, "n_monomials n_atoms max_neighbors"]]:
    """Radial functions, zero for padding, and monomials of the directions of all pairs."""
    r, directions = _spherical(vectors)
    if len(config.species) == 1:
        coefficients = radial[0, 0][:, :, None, None]
    else:
        by_pair = radial[graph.species[:, None], graph.neighbor_species]  # one contiguous row a pair
        coefficients = jnp.transpose(by_pair, (2, 3, 0, 1))
    f = jnp.where(graph.mask[None], radial_functions(r, coefficients, config), 0)
    return f, direction_monomials(directions, tables.max_degree)


def _spherical(vectors: Array) -> tuple[Array, Array]:
    """Lengths ``[n_atoms, max_neighbors]`` and directions ``[3, n_atoms, max_neighbors]``."""
    v = jnp.moveaxis(vectors, -1, 0)
    r = jnp.sqrt(jnp.sum(v**2, axis=0))
    return r, v / r[None]


def _initial_size(config: MTPConfig) -> float:
    """Of random radial coefficients, such that a neighbour at half the cutoff counts about one tenth."""
    return 0.1 / (abs(config.scaling) * (config.cutoff / 2) ** 2)


@lru_cache
def _tables(level: int, index_lists: str | None) -> MomentTables:
    return moment_tables(moment_basis(level) if index_lists is None else _from_text(index_lists))


@lru_cache
def _scalar_lists(level: int, index_lists: str | None) -> Slopes:
    return slopes(_tables(level, index_lists).contraction)  # made when a fit needs them


@lru_cache
def _from_text(text: str) -> MomentBasis:
    n_moments, *lists = json.loads(text)
    basic, times, scalars = (np.array(rows, np.int32) for rows in lists)
    return MomentBasis(basic.reshape(-1, 4), times.reshape(-1, 4), scalars, n_moments)


MTP = Family(
    "mtp",
    MTPConfig,
    mtp,
    label="MTP",
    color="#009e73",
    method="gauss-newton",
    suggest=suggest,
    presets=presets_of("mtp"),
    example={"species": ("Li", "Mn", "O"), "cutoff": 3.2, "level": 4, "radial_basis_size": 3, "min_dist": 1.5},
    formats={
        ".mtp": Format("jaxmlip.formats.mtp:read_mtp", "jaxmlip.formats.mtp:write_mtp"),
        ".almtp": Format("jaxmlip.formats.mtp:read_mtp"),
    },
)
