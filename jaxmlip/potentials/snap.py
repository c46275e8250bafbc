"""SNAP and quadratic SNAP: energies linear or quadratic in bispectrum components, exactly as LAMMPS evaluates them.

E_i = c_0 + Σ_k c_k B_k  [+ Σ_k (½ c_kk B_k² + Σ_{l>k} c_kl B_k B_l)],   coefficients of the element of atom i.

References:
    Thompson et al., J. Comput. Phys. 285, 316 (2015), equation 10.
    Wood and Thompson, J. Chem. Phys. 148, 241721 (2018), equation 9 (quadratic).
"""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmlip.basis.hyperspherical import (
    Factors,
    at_identity,
    factors,
    harmonic_sums,
    harmonics,
    pair_harmonics,
)
from jaxmlip.config import Bounds, ConfigError, NotNegative, Positive, Range
from jaxmlip.descriptors.bispectrum import (
    PairGeometry,
    bispectrum,
    bispectrum_indices,
    bispectrum_slopes,
    rotations,
)
from jaxmlip.graph.batch import Graph
from jaxmlip.potentials.base import Config, Linear, Params, Potential, Products, factory
from jaxmlip.potentials.registry import Family, Format

_BLOCK = 32  # atoms side by side in a processor's registers


@dataclasses.dataclass(frozen=True)
class SNAPConfig(Config):
    """LAMMPS's keys of the same names; ``cutoff`` is the largest R_ij = (R_i + R_j)·rcutfac, in Å.

    >>> SNAPConfig(species=("Li", "O"), cutoff=5.0).n_features
    30
    """

    twojmax: Annotated[int, Bounds(0, 14)] = 6
    """Twice the largest angular momentum J of the bispectrum: 2, 4, 6, 8 give 5, 14, 30, 55 components an element."""
    rfac0: Annotated[float, Bounds(0, 1, above=True, below=True)] = 0.99363
    """Part of the 3-sphere that distances up to the cutoff fill."""
    rmin0: NotNegative = 0.0
    """Å; all pairs must be farther apart."""
    switchflag: bool = True
    """Let neighbours fade out towards the cutoff."""
    bzeroflag: bool = True
    """Subtract the components of an atom without neighbours."""
    quadratic: bool = False
    """Add all products of two components (qSNAP; LAMMPS: quadraticflag)."""
    chemflag: bool = False
    """Keep the elements of neighbours apart: n_species³ times as many components."""
    bnormflag: bool = False
    """Divide each component by 2j + 1."""
    wselfallflag: bool = False
    """With chemflag: the central atom stands in the density of every element, not of its own alone."""
    radii: tuple[Positive, ...] | None = None
    """R per element, relative: R_ij = cutoff · (R_i + R_j) / (2 max R). None: all equal."""
    weights: tuple[float, ...] | None = None
    """w per element. None: all 1."""
    sinner: tuple[float, ...] | None = None
    """Middle of the inner switch per element, Å."""
    dinner: tuple[float, ...] | None = None
    """Half width of the inner switch per element, Å."""
    tunable: ClassVar[Mapping[str, Range]] = {"cutoff": Range(3.5, 7.0), "twojmax": Range(2, 8, step=2)}

    def __post_init__(self) -> None:
        """Refuses what has no meaning."""
        super().__post_init__()
        if self.rmin0 >= self.cutoff:
            raise ConfigError(f"rmin0 must lie between 0 and the cutoff {self.cutoff} Å, got {self.rmin0}")
        if (self.sinner is None) != (self.dinner is None):
            raise ConfigError("sinner and dinner go together: give both or none")
        for name in ("radii", "weights", "sinner", "dinner"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.species):
                raise ConfigError(f"{name} needs one number for each of {self.symbols}, got {values}")

    @property
    def n_invariants(self) -> int:
        """Bispectrum components K an atom (times n_species³ with ``chemflag``)."""
        n_channels = len(self.species) if self.chemflag else 1
        return len(bispectrum_indices(self.twojmax)) * n_channels**3

    @property
    def n_features(self) -> int:
        """Coefficients per element beside c_0: K, or K + K(K+1)/2 with ``quadratic``."""
        k = self.n_invariants
        return k + k * (k + 1) // 2 if self.quadratic else k


@dataclasses.dataclass(frozen=True)
class QSNAPConfig(SNAPConfig):
    """`SNAPConfig` with the quadratic terms."""

    quadratic: bool = True
    """Always, of this family."""


@factory
def snap(config: SNAPConfig) -> Potential:
    """The potential of ``config``; params: ``offsets [n_species]`` eV and ``coefficients [n_species, n_features]``.

    >>> snap(SNAPConfig(species=("Mo",), cutoff=4.6, twojmax=8)).config.n_features
    55
    """
    n_species, n_features = len(config.species), config.n_features

    def init(key: Array | None, graph: Graph | None = None) -> Params:
        return {"offsets": jnp.zeros(n_species), "coefficients": jnp.zeros((n_species, n_features))}

    def atomic_energies(params: Params, graph: Graph, vectors: Array) -> Array:
        B = _bispectrum(config, graph, _density(config, graph, vectors))
        c = params["coefficients"][graph.species]
        energies = params["offsets"][graph.species] + jnp.sum(c[:, : config.n_invariants] * B, axis=1)
        return energies + (_quadratic_energy(c[:, config.n_invariants :], B) if config.quadratic else 0)

    def pair_density(params: Params, graph: Graph, vectors: Array) -> Array:
        of = factors(rotations(vectors, _pairs(config, graph, vectors.dtype), config), config.twojmax)
        phi = pair_harmonics(of, config.twojmax)[:, :, None] * _channels(config, graph, vectors.dtype)[:, None]
        return jnp.moveaxis(phi.reshape(phi.shape[0], -1, phi.shape[-1]), 1, 2)

    def invariants(params: Params, graph: Graph, total: Array) -> Array:
        return _bispectrum(config, graph, total.T.reshape(harmonics(config.twojmax).level.size, -1, total.shape[0]))

    def gradient(params: Params, graph: Graph, vectors: Array) -> tuple[Array, Array]:
        pairs = _pairs(config, graph, vectors.dtype)

        def along(direction: Array) -> tuple[Factors, Factors]:
            moving = jnp.broadcast_to(direction, vectors.shape)
            return jax.jvp(lambda r: factors(rotations(r, pairs, config), config.twojmax), (vectors,), (moving,))

        of, moved = jax.vmap(along, out_axes=(None, 1))(jnp.eye(3, dtype=vectors.dtype))
        density, own = _with_center(config, graph, harmonic_sums(of, config.twojmax)[:, None])
        B, slopes = bispectrum_slopes(density, of, moved, config)
        return _less_isolated(config, B, own), jnp.transpose(slopes, (0, 3, 2, 1))

    stages = Linear(
        pair_density,
        invariants,
        products=products if config.quadratic else None,
        gradient=None if config.chemflag else gradient,
    )
    return Potential(config, init, atomic_energies, stages, block=_BLOCK)


def products(n_invariants: int) -> Products:
    """½ B_k² and B_k B_l (l > k), row by row of the upper triangle, as LAMMPS orders them."""
    k, l = np.triu_indices(n_invariants)  # noqa: E741
    return Products(k, l, np.where(k == l, 0.5, 1.0))


def _quadratic_energy(c: Array, B: Array) -> Array:
    """½ Bᵀ α B with α from the upper triangle ``c [n_atoms, n_products]``."""
    k, l = np.triu_indices(B.shape[1])  # noqa: E741
    slot = np.zeros((B.shape[1], B.shape[1]), int)
    slot[k, l] = slot[l, k] = np.arange(k.size)
    return jnp.einsum("akl,ak,al->a", c[:, slot], B, B) / 2


def _density(config: SNAPConfig, graph: Graph, vectors: Array) -> Float[Array, "n_harmonics n_channels n_atoms"]:
    """Σ of the harmonics of all neighbours, without the self term."""
    of = factors(rotations(vectors, _pairs(config, graph, vectors.dtype), config), config.twojmax)
    channels = jnp.moveaxis(_channels(config, graph, vectors.dtype), 0, 2)
    sums = [harmonic_sums(of._replace(x=of.x * channel[None]), config.twojmax) for channel in channels]
    return jnp.stack(sums, axis=1)


def _pairs(config: SNAPConfig, graph: Graph, dtype) -> PairGeometry:
    """R_ij, w_j and the inner switch of each pair."""
    n_species = len(config.species)

    def mean(table: Array) -> Array:
        return ((table[:, None] + table[None]) / 2)[graph.species[:, None], graph.neighbor_species]

    equal = (1.0,) * n_species
    radii = jnp.asarray(equal if config.radii is None else config.radii, dtype)
    weights = jnp.asarray(equal if config.weights is None else config.weights, dtype)
    inner = None
    if config.sinner is not None and config.dinner is not None:
        inner = (mean(jnp.asarray(config.sinner, dtype)), mean(jnp.asarray(config.dinner, dtype)))
    cutoff = mean(config.cutoff * radii / jnp.max(radii))
    return PairGeometry(cutoff, weights[graph.neighbor_species], graph.mask, inner)


def _channels(config: SNAPConfig, graph: Graph, dtype) -> Float[Array, "n_atoms n_channels max_neighbors"]:
    """One where a neighbour belongs to a channel."""
    if not config.chemflag:
        return jnp.ones((1, 1, 1), dtype)
    return jax.nn.one_hot(graph.neighbor_species, len(config.species), axis=1, dtype=dtype)


def _bispectrum(config: SNAPConfig, graph: Graph, density: Array) -> Float[Array, "n_atoms n_invariants"]:
    """B with the self term added and the isolated atom's value taken off as the flags say."""
    density, own = _with_center(config, graph, density)
    return _less_isolated(config, bispectrum(density, config), own)


def _with_center(config: SNAPConfig, graph: Graph, density: Array) -> tuple[Array, Array]:
    """The density with the central atom, and in which channels that stands ``[n_atoms, n_channels]``."""
    _, n_channels, n_atoms = density.shape
    own = jnp.ones((n_atoms, n_channels), density.dtype)
    if config.chemflag and not config.wselfallflag:
        own = jax.nn.one_hot(graph.species, n_channels, dtype=density.dtype)
    return density + jnp.asarray(at_identity(config.twojmax), density.dtype)[:, None, None] * own.T[None], own


def _less_isolated(config: SNAPConfig, B: Array, own: Array) -> Array:
    if not config.bzeroflag:
        return B
    isolated = [1.0 if config.bnormflag else j + 1.0 for _, _, j in bispectrum_indices(config.twojmax)]
    blocks = jnp.einsum("ae,af,ag->aefg", own, own, own).reshape(len(own), -1, 1)
    return B - (blocks * jnp.asarray(isolated, B.dtype)[None, None]).reshape(B.shape)


_EXAMPLE = {"species": ("Li", "Mn", "O"), "cutoff": 3.2, "twojmax": 1, "rfac0": 0.98}
_EXAMPLE |= {"radii": (0.4, 0.5, 0.45), "weights": (0.8, 1.0, 0.5)}
_FORMAT = Format("jaxmlip.formats.snap:read_snap", "jaxmlip.formats.snap:write_snap")
SNAP = Family(
    "snap",
    SNAPConfig,
    snap,
    label="SNAP",
    color="#0072b2",
    method="linear",
    example=_EXAMPLE,
    formats={".snapcoeff": _FORMAT, ".snapparam": _FORMAT},
)
QSNAP = Family("qsnap", QSNAPConfig, snap, label="qSNAP", color="#d55e00", method="linear", example=_EXAMPLE)
