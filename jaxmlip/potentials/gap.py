"""GAP: sparse Gaussian-process regression of atomic energies on SOAP, exactly as QUIP evaluates it.

    E_i = e0(Z_i) + Σ_m α_m k(x_i, s_m),        k(x, s) = δ² (x · s)^ζ,

x_i the SOAP vector of atom i (`jaxmlip.descriptors.soap`), s_m the sparse points of its element. With a pair term
(QUIP's ``distance_2b``) each neighbour adds, for the unordered pair of elements,

    Σ_j Σ_m α_m k(r_ij, r_m),                   k(r, r') = δ₂² f_c(r) f_c(r') exp(−(r − r')²/2θ²).

Params: ``offsets`` (e0, eV), ``alpha`` and ``points``, dicts with ``soap`` ([n_species, n_sparse] in 1/eV and
[n_species, n_sparse, n_features]) and, with the pair term, ``distance_2b`` (both [n_pairs_of_species, n_sparse], points
in Å). The energy is linear in α. How many sparse points there are is nobody's setting but the shape of these arrays;
an element with fewer has rows of zeros.

References:
    Bartók, Payne, Kondor, Csányi, Phys. Rev. Lett. 104, 136403 (2010).
    Bartók and Csányi, Int. J. Quantum Chem. 115, 1051 (2015): sums of descriptors, sparse points.
    Deringer et al., Chem. Rev. 121, 10073 (2021), equations 1-30.
"""

import dataclasses
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxmlip.basis.cutoff import transition_cutoff
from jaxmlip.config import Bounds, ConfigError, Count, Positive, Range, replaced
from jaxmlip.descriptors.soap import SOAP, alchemical_embedding, power_spectrum, soap_vectors
from jaxmlip.graph.batch import Graph
from jaxmlip.potentials.base import Config, Params, Potential, safe_edges

N_SPARSE = 8  # of a species in initial params: enough to be a model, a fit chooses its own
FEW_SPECIES = 2  # up to here one matrix product with the points of all species beats fetching those of each atom


@dataclasses.dataclass(frozen=True)
class GAPConfig(Config):
    """QUIP's settings, by its names; the defaults are those of the published study of disordered rocksalts.

    >>> GAPConfig(species=("Li", "O")).soap.n_features
    181
    """

    cutoff: float = 5.0
    """Å; the larger one where SOAP and the pair term have different ones."""
    n_max: Count = 4
    """Radial functions of SOAP."""
    l_max: Annotated[int, Bounds(0, 20)] = 4
    """Largest degree of the spherical harmonics of SOAP."""
    sigma_atom: Positive = 0.5
    """Å; width of the Gaussian of a neighbour (QUIP: ``atom_sigma``)."""
    zeta: Positive = 4.0
    """Power of the dot product of two spectra: larger tells environments apart more sharply."""
    delta: Positive = 1.0
    """eV; prior standard deviation of an atomic energy."""
    cutoff_transition_width: Positive = 0.5
    """Å; over which neighbours fade out before the cutoff of SOAP."""
    soap_cutoff: Positive | None = None
    """Å; None: the cutoff."""
    central_weight: float = 1.0
    """Weight of the central atom's own Gaussian."""
    basis_error_exponent: float = 10.0
    """The radial basis reaches to where a Gaussian at the cutoff has fallen to ten to the power of minus this."""
    covariance_sigma0: float = 0.0
    """Size of a last component, the same for all atoms, added after normalisation."""
    normalise: bool = True
    """Divide the spectrum of each atom by its norm."""
    central_reference_all_species: bool | None = None
    """The central atom stands in the density of every element. None: with one species, as QUIP does."""
    nu_R: Annotated[int, Bounds(0, 2)] = 2  # noqa: N815
    """Densities of the product that keep their radial index; 2: exact; 1, 0: compressed (`SOAP`)."""
    nu_S: Annotated[int, Bounds(0, 2)] = 2  # noqa: N815
    """Densities that keep their species index; 2: exact; 1, 0: compressed."""
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
        shared = {field.name for field in dataclasses.fields(SOAP)} & {field.name for field in dataclasses.fields(self)}
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


@lru_cache
def gap(config: GAPConfig) -> Potential:
    """The potential of ``config``; the params are described at the top of this module.

    ``init(key, graph)`` takes sparse points from the atoms of ``graph``, without a graph from random densities; α = 0.

    >>> potential = gap(GAPConfig(species=("Li", "O")))
    >>> potential.init(jax.random.key(0), None)["points"]["soap"].shape
    (2, 8, 181)
    """

    def init(key: Array | None, graph: Graph | None = None) -> Params:
        key = jax.random.key(0) if key is None else key
        points = _random_points(key, config) if graph is None else _points_of(key, config, graph)
        parts = {"soap": points}
        if config.distance_2b_cutoff is not None:
            distances = jnp.linspace(0.25, 0.95, N_SPARSE) * config.distance_2b_cutoff
            parts["distance_2b"] = jnp.tile(distances, (len(config.pairs), 1))
        alpha = {name: jnp.zeros(value.shape[:2]) for name, value in parts.items()}
        return {"offsets": jnp.zeros(len(config.species)), "alpha": alpha, "points": parts}

    def atomic_energies(params: Params, graph: Graph, vectors: Array) -> Array:
        energies = regressor(params, graph.species, descriptor(params, graph, vectors))
        if config.distance_2b_cutoff is not None:
            energies = energies + _pair_energies(config, params, graph, vectors)
        return energies

    def descriptor(params: Params, graph: Graph, vectors: Array) -> Array:
        return soap_vectors(graph, vectors, config.soap)

    def regressor(params: Params, species: Array, x: Array) -> Array:
        alpha, points = params["alpha"]["soap"], params["points"]["soap"]
        K = dot_product_kernel(config, _overlaps(x, points, species))
        return params["offsets"][species] + jnp.sum(K * alpha[species], axis=1)

    alone = config.distance_2b_cutoff is None
    return Potential(
        config,
        init,
        atomic_energies,
        descriptor=descriptor if alone else None,
        regressor=regressor if alone else None,
        fixed=("points",),
        resizable=("alpha", "points"),
    )


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


def _pair_energies(config: GAPConfig, params: Params, graph: Graph, vectors: Array) -> Array:
    """Σ_j Σ_m α_m k(r_ij, r_m): each pair counts from both of its atoms."""
    kind = pair_types(config, graph)
    r = jnp.sqrt(jnp.sum(vectors**2, axis=-1))[:, :, None]
    K = pair_kernel(config, r, params["points"]["distance_2b"][kind])
    energies = jnp.sum(K * params["alpha"]["distance_2b"][kind], axis=2)
    return jnp.sum(jnp.where(graph.mask, energies, 0), axis=1)


def _overlaps(x: Array, points: Array, species: Array) -> Float[Array, "n_atoms n_sparse"]:
    """x_i · s_m for the points of the element of each atom.

    A CPU reads the points of one species an atom, without copying them; elsewhere one large product is faster.
    """
    n_species = points.shape[0]
    if n_species == 1:
        return x @ points[0].T
    if n_species > FEW_SPECIES and jax.default_backend() == "cpu":
        return jax.lax.map(jax.checkpoint(lambda atom: points[atom[0]] @ atom[1]), (species, x))
    chosen = jax.nn.one_hot(species, n_species, dtype=x.dtype)
    return jnp.einsum("asm,as->am", jnp.einsum("ad,smd->asm", x, points), chosen)


def _random_points(key: Array, config: GAPConfig) -> Array:
    """SOAP vectors of random densities, [n_species, N_SPARSE, n_features]."""
    n_species = len(config.species)
    density = jax.random.normal(key, (n_species * N_SPARSE, config.soap.n_density))
    species = jnp.repeat(jnp.arange(n_species, dtype=jnp.int32), N_SPARSE)
    blank = Graph(*[jnp.zeros(0)] * (len(Graph._fields) - 1))._replace(species=species)
    return power_spectrum(density, blank, config.soap).reshape(n_species, N_SPARSE, -1)


def _points_of(key: Array, config: GAPConfig, graph: Graph) -> Array:
    """SOAP vectors of atoms of the graph at random; zeros for elements that it has not, or has too few of."""
    vectors = safe_edges(graph, config)
    x = soap_vectors(graph, vectors, config.soap)
    order = jax.random.permutation(key, graph.n_atoms)
    result = []
    for k in range(len(config.species)):
        mine = (graph.atom_mask & (graph.species == k))[order]
        first = order[jnp.argsort(~mine, stable=True)[:N_SPARSE]]
        found = jnp.sort(mine, descending=True)[:N_SPARSE]
        missing = N_SPARSE - first.shape[0]
        result.append(jnp.pad(jnp.where(found[:, None], x[first], 0), ((0, missing), (0, 0))))
    return jnp.stack(result)
