"""GAP's settings and its kernels of environments and of distances; see `jaxmlip.potentials.gap`."""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxmlip.basis.cutoff import transition_cutoff
from jaxmlip.config import ConfigError, Count, Positive, Range, replaced
from jaxmlip.descriptors.alchemical import alchemical_embedding
from jaxmlip.descriptors.soap import SOAP, Spectrum
from jaxmlip.graph.batch import Graph
from jaxmlip.potentials.base import Config


@dataclasses.dataclass(frozen=True)
class GAPConfig(Spectrum, Config):
    """QUIP's settings, by its names; the defaults are those of the published study of disordered rocksalts.

    >>> GAPConfig(species=("Li", "O")).soap.n_features
    181
    """

    cutoff: float = 5.0
    """Å; the larger one where SOAP and the pair term have different ones."""
    zeta: Positive = 4.0
    """Power of the dot product of two spectra: larger tells environments apart more sharply."""
    delta: Positive = 1.0
    """eV; prior standard deviation of an atomic energy."""
    soap_cutoff: Positive | None = None
    """Å; None: the cutoff."""
    n_channels: Count | None = None
    """Put the species into so many channels (`alchemical_embedding`); None: one each, exact."""
    distance_2b_cutoff: Positive | None = None
    """Å; None: no pair term."""
    distance_2b_delta: Positive = 1.0
    """eV; prior standard deviation of the energy of a pair."""
    distance_2b_theta: Positive = 1.0
    """Å; length scale of the pair kernel."""
    distance_2b_transition_width: Positive = 0.5
    """Å; over which a pair fades out before the cutoff of the pair term."""
    tunable: ClassVar[Mapping[str, Range]] = {
        "cutoff": Range(4.0, 6.5),
        "n_max": Range(3, 8, step=1),
        "l_max": Range(2, 6, step=1),
        "sigma_atom": Range(0.25, 0.8),
        "zeta": Range(2.0, 4.0),
    }
    cutoffs: ClassVar[tuple[str, ...]] = ("cutoff", "soap_cutoff", "distance_2b_cutoff")

    def __post_init__(self) -> None:
        """Refuses what has no meaning."""
        super().__post_init__()
        for name in ("soap_cutoff", "distance_2b_cutoff"):
            given = getattr(self, name)
            if given is not None and given > self.cutoff:
                raise ConfigError(f"{name} must lie within the cutoff {self.cutoff} Å, got {given}")
        if self.distance_2b_cutoff and self.distance_2b_transition_width > self.distance_2b_cutoff:
            raise ConfigError(f"distance_2b_transition_width must lie within {self.distance_2b_cutoff} Å")
        SOAP(**self._soap_settings)  # refuses what the descriptor cannot be

    @property
    def soap(self) -> SOAP:
        """The descriptor."""
        return replaced(SOAP(self.species), self._soap_settings)

    @property
    def _soap_settings(self) -> dict[str, Any]:
        shared = {"species", *(field.name for field in dataclasses.fields(Spectrum))}
        settings: dict[str, Any] = {name: getattr(self, name) for name in shared}
        settings["cutoff"] = self.cutoff if self.soap_cutoff is None else self.soap_cutoff
        if self.n_channels is not None:
            settings["embedding"] = alchemical_embedding(self.species, self.n_channels)
        return settings

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Unordered pairs of species, as indices, in the order of the pair term's arrays."""
        n = len(self.species)
        return tuple((a, b) for a in range(n) for b in range(a, n))


def dot_product_kernel(config: GAPConfig, overlap: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """δ² (x · s)^ζ from the dot products, eV²."""
    return config.delta**2 * power(overlap, config.zeta)


def power(base: Float[Array, "*shape"], exponent: Any) -> Float[Array, "*shape"]:
    """``base`` to a power; one that is not a whole number takes negative bases (rounding of zero) as zero."""
    if not isinstance(exponent, jax.Array) and float(exponent).is_integer():
        return base ** int(exponent)
    return jnp.where(base > 0, jnp.where(base > 0, base, 1) ** exponent, 0)


def pair_kernel(
    config: GAPConfig, r: Float[Array, "*shape"], points: Float[Array, "*shape2"]
) -> Float[Array, "*shape3"]:
    """δ₂² f_c(r) f_c(r') exp(−(r − r')²/2θ²) of distances in Å that broadcast, eV²."""
    reach, width = config.distance_2b_cutoff or config.cutoff, config.distance_2b_transition_width
    cut = partial(transition_cutoff, cutoff=reach, width=width)
    gaussian = jnp.exp(-(((r - points) / config.distance_2b_theta) ** 2) / 2)
    return config.distance_2b_delta**2 * cut(r) * cut(points) * gaussian


def pair_types(config: GAPConfig, graph: Graph) -> Int[Array, "n_atoms max_neighbors"]:
    """Which row of the pair term's arrays each neighbour belongs to."""
    table = np.zeros((len(config.species),) * 2, np.int32)
    for k, (a, b) in enumerate(config.pairs):
        table[a, b] = table[b, a] = k
    return jnp.asarray(table)[graph.species[:, None], graph.neighbor_species]
