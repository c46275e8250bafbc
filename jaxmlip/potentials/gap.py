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

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmlip.descriptors.soap import power_spectrum, soap_vectors
from jaxmlip.graph.batch import Graph
from jaxmlip.potentials.base import Params, Potential, factory, safe_edges
from jaxmlip.potentials.gap_kernels import GAPConfig, dot_product_kernel, pair_kernel, pair_types
from jaxmlip.potentials.gap_rows import kernel_stages
from jaxmlip.potentials.presets import presets_of
from jaxmlip.potentials.registry import Family, Format

N_SPARSE = 8  # of a species in initial params: enough to be a model, a fit chooses its own
FEW_SPECIES = 2  # up to here one matrix product with the points of all species beats fetching those of each atom


@factory
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
        energies = regressor(params, graph.species, soap_vectors(graph, vectors, config.soap))
        if config.distance_2b_cutoff is not None:
            energies = energies + _pair_energies(config, params, graph, vectors)
        return energies

    def regressor(params: Params, species: Array, x: Array) -> Array:
        alpha, points = params["alpha"]["soap"], params["points"]["soap"]
        K = dot_product_kernel(config, _overlaps(x, points, species))
        return params["offsets"][species] + jnp.sum(K * alpha[species], axis=1)

    stages = kernel_stages(config)._replace(regressor=regressor if config.distance_2b_cutoff is None else None)
    return Potential(config, init, atomic_energies, stages, fixed=("points",))


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
    nothing: list[Any] = [jnp.zeros(0)] * (len(Graph._fields) - 1)
    blank = Graph(*nothing)._replace(species=species)
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


_EXAMPLE = {"species": ("Li", "Mn", "O"), "cutoff": 3.2, "n_max": 2, "l_max": 2}
GAP = Family(
    "gap",
    GAPConfig,
    gap,
    label="GAP",
    color="#cc79a7",
    method="gaussian-process",
    presets=presets_of("gap"),
    example={**_EXAMPLE, "sigma_atom": 0.5, "zeta": 3.0, "delta": 1.2},
    formats={".xml": Format("jaxmlip.formats.gap:read_gap", "jaxmlip.formats.gap_write:write_gap")},
)
