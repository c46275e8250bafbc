"""Rows of a GAP's linear system: energies, forces and stresses as functions of the coefficients α of its sparse points.

With p_i the SOAP vector of atom i the derivative of a kernel follows from the chain rule,

    ∂k(p_i, s_m)/∂r_j = δ² ζ (p_i · s_m)^(ζ−1) s_m · ∂p_i/∂r_j,

and ∂p_i/∂r_j from what one pair adds to the density. Two orders of the same products: the Jacobian of the
descriptor times all points (`overlap_slopes`), or all points contracted with the density first; whichever
needs fewer operations is taken. There is no backward pass a sparse point.

Columns: the points of each species in turn, then those of each pair of species; rows of padding are columns of zeros.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxmlip.descriptors.soap import SOAP, pair_density, power_spectrum, soap_vectors
from jaxmlip.descriptors.soap_gradient import overlap_slopes, overlap_slopes_by_density
from jaxmlip.graph.batch import Batch, Graph, edge_vectors
from jaxmlip.graph.derivatives import forces_by_species, per_graph, virials
from jaxmlip.potentials.base import CPU_BLOCK, Kernel, Params, safe_edges
from jaxmlip.potentials.gap_kernels import GAPConfig, dot_product_kernel, pair_kernel, pair_types, power
from jaxmlip.programs import program

Points = dict[str, Any]


class KernelRows(NamedTuple):
    """A row times α is an energy in eV, a force component in eV/Å, a component of dE/dstrain in eV."""

    energy: Float[Array, "n_graphs n_columns"]
    forces: Float[Array, "n_atoms 3 n_columns"]
    virial: Float[Array, "n_graphs 3 3 n_columns"]


def kernel_stages(config: GAPConfig) -> Kernel:
    """How a Gaussian process sees a GAP."""

    def descriptor(params: Params, graph: Graph, vectors: Array) -> Array:
        return soap_vectors(graph, vectors, config.soap)

    def rows(points: Points, graph: Graph, with_stress: bool) -> KernelRows:
        blocks = species_blocks(graph, len(config.species))
        return kernel_rows(config, points, graph, blocks, with_stress)

    parts = (partial(function, config) for function in (_pair_points, _covariances, _prior))
    further_points, covariances, prior = parts
    return Kernel("soap", descriptor, further_points, covariances, rows, prior)


class _Derivatives(NamedTuple):
    """Kernels of each atom with the points of its species, and their derivatives by its neighbours' vectors."""

    values: Float[Array, "n_atoms n_sparse"]
    gradient: Float[Array, "n_atoms max_neighbors 3 n_sparse"]


class SpeciesBlocks(NamedTuple):
    """Atoms in blocks of one species each."""

    atoms: Int[Any, "n_blocks block"]
    """Indices; the number of atoms: none."""
    kinds: Int[Any, " n_blocks"]
    """Their species."""


def species_blocks(graph: Graph, n_species: int) -> SpeciesBlocks:
    """Atoms in blocks of one species each, on the host: their indices (the number of atoms: none), and the species.

    There are as many blocks as any graph of this shape can need, so that one compiled function serves all.
    """
    species = np.where(np.asarray(graph.atom_mask), np.asarray(graph.species), -1)
    n_blocks = -(-graph.n_atoms // CPU_BLOCK) + min(n_species, graph.n_atoms) - 1
    blocks = np.full((n_blocks, CPU_BLOCK), graph.n_atoms, np.int32)
    kinds = np.zeros(n_blocks, np.int32)
    filled = 0
    for kind in range(n_species):
        atoms = np.flatnonzero(species == kind)
        for start in range(0, len(atoms), CPU_BLOCK):
            part = atoms[start : start + CPU_BLOCK]
            blocks[filled, : len(part)], kinds[filled] = part, kind
            filled += 1
    return SpeciesBlocks(blocks, kinds)


@program(static_argnums=(0, 4))
def kernel_rows(
    config: GAPConfig, points: Points, graph: Graph, blocks: SpeciesBlocks, with_stress: bool = False
) -> KernelRows:
    """The rows of one batch; ``blocks`` from `species_blocks`.

    References:
        Bartók and Csányi, Int. J. Quantum Chem. 115, 1051 (2015), equations 15-20: kernels of sums and derivatives.
    """
    vectors = safe_edges(graph, config)
    k, D = _soap_derivatives(config, points["soap"], graph, vectors, blocks)
    n_species = len(config.species)
    own = jnp.where(graph.atom_mask[:, None], jax.nn.one_hot(graph.species, n_species, dtype=k.dtype), 0)
    energy = per_graph(graph, own[:, :, None] * k[:, None, :])
    forces = forces_by_species(graph, D, own)
    parts: list[Any] = [(energy.reshape(graph.n_graphs, -1), forces.reshape(graph.n_atoms, 3, -1))]
    virial = [_virial(graph, vectors, D, own)] if with_stress else []
    if "distance_2b" in points:
        *rows, strain = _pair_rows(config, points["distance_2b"], graph, vectors)
        parts.append(rows)
        virial += [strain] if with_stress else []
    energies, forces = (jnp.concatenate(both, axis=-1) for both in zip(*parts))
    blank = jnp.zeros((graph.n_graphs, 3, 3, 0), k.dtype)
    return KernelRows(energies, forces, jnp.concatenate([blank, *virial], axis=-1))


def _soap_derivatives(
    config: GAPConfig, points: Array, graph: Graph, vectors: Array, blocks: SpeciesBlocks
) -> _Derivatives:
    """Kernels and derivatives of all atoms, computed in blocks of one species."""
    order, kinds = blocks
    slopes_fn = partial(_slopes_fn(config, points.shape[1], vectors.shape[1]), settings=config.soap)

    def one(block: tuple[Array, Array]) -> _Derivatives:
        atoms, kind = block
        rows = jnp.minimum(atoms, graph.n_atoms - 1)
        mask = graph.mask[rows] & (atoms < graph.n_atoms)[:, None]
        part = graph._replace(species=graph.species[rows], neighbor_species=graph.neighbor_species[rows], mask=mask)
        overlap, slopes = slopes_fn(part, vectors[rows], points=points[kind])
        steepness = config.delta**2 * config.zeta * power(overlap, config.zeta - 1)
        slopes = jnp.where(mask[:, :, None, None], slopes * steepness[:, None, None], 0)
        return _Derivatives(dot_product_kernel(config, overlap), slopes)

    values, gradient = jax.lax.map(one, (jnp.asarray(order), jnp.asarray(kinds)))
    values, gradient = (x.reshape(-1, *x.shape[2:]) for x in (values, gradient))
    if len(config.species) > 1:
        place = jnp.zeros(graph.n_atoms, jnp.int32)
        place = place.at[order.ravel()].set(jnp.arange(order.size, dtype=jnp.int32), mode="drop")
        return _Derivatives(values[place], gradient[place])
    # With one species the real atoms stand first, in their order: what is cut off or follows them is padding.
    return _Derivatives(values[: graph.n_atoms], gradient[: graph.n_atoms])


def _slopes_fn(config: GAPConfig, n_sparse: int, max_neighbors: int) -> Callable:
    """The function that needs the fewest multiplications."""
    soap = config.soap
    if not soap.nu_R == soap.nu_S == 2:
        return _compressed_slopes
    pushed, pulled = _operations(config, n_sparse, max_neighbors)
    return overlap_slopes if pushed <= pulled else overlap_slopes_by_density


def _compressed_slopes(part: Graph, vectors: Array, settings: SOAP, points: Array) -> tuple[Array, Array]:
    """Dot products with the points and their derivatives for any form of the spectrum.

    One backward pass a point from the spectrum to the density, atom by atom to keep intermediate arrays small.
    """
    density_fn = partial(pair_density, part, settings=settings)

    def along(direction: Array) -> Array:
        return jax.jvp(density_fn, (vectors,), (jnp.broadcast_to(direction, vectors.shape),))[1]

    slope = jax.vmap(along, out_axes=2)(jnp.eye(3, dtype=vectors.dtype))  # [n_atoms, max_neighbors, 3, n_density]
    total = density_fn(vectors).sum(axis=1)

    def of_atom(one: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        density, slopes, species = one
        graph = part._replace(species=species[None])
        p, pullback = jax.vjp(lambda c: power_spectrum(c[None], graph, settings)[0], density)
        return points @ p, slopes @ jax.vmap(lambda s: pullback(s)[0])(points).T

    return jax.lax.map(of_atom, (total, slope, part.species))


def _operations(config: GAPConfig, n_sparse: int, max_neighbors: int) -> tuple[int, int]:
    """Multiplications an atom of `overlap_slopes` and of `overlap_slopes_by_density`."""
    soap = config.soap
    n_functions, n_slopes = soap.channels.shape[1] * soap.n_max, 3 * max_neighbors
    products = n_functions * soap.n_density
    pushed = n_slopes * soap.n_features * (n_sparse + 4)
    return pushed, n_sparse * (products + n_slopes * soap.n_density)


def _virial(graph: Graph, vectors: Array, D: Array, own: Array) -> Float[Array, "n_graphs 3 3 n_columns"]:
    """dE/dstrain."""
    rows = own[:, None, None, :, None] * virials(vectors, D)[:, :, :, None, :]
    return per_graph(graph, rows).reshape(graph.n_graphs, 3, 3, -1)


def _pair_rows(config: GAPConfig, points: Array, graph: Graph, vectors: Array) -> tuple[Array, Array, Array]:
    """Energies, forces and dE/dstrain of the pair term."""
    kind = pair_types(config, graph)
    r = jnp.sqrt(jnp.sum(vectors**2, axis=-1))[:, :, None]
    k, slope = jax.jvp(lambda r: pair_kernel(config, r, points[kind]), (r,), (jnp.ones_like(r),))
    member = jnp.where(graph.mask[:, :, None], jax.nn.one_hot(kind, len(config.pairs), dtype=r.dtype), 0)
    energy = per_graph(graph, jnp.einsum("amp,amk->apk", member, k))
    gradient = (vectors / r)[:, :, :, None] * slope[:, :, None, :]
    forces = 2 * jnp.einsum("amp,amck->acpk", member, gradient)  # the pair counts from both of its atoms
    virial = jnp.einsum("amp,amx,amyk->axypk", member, vectors, gradient)
    virial = per_graph(graph, virial)
    n_graphs = graph.n_graphs
    return energy.reshape(n_graphs, -1), forces.reshape(graph.n_atoms, 3, -1), virial.reshape(n_graphs, 3, 3, -1)


def _pair_points(config: GAPConfig, stream: Iterable[Batch], n: int) -> Points:
    """Distances equally spaced from the smallest of each pair of species to the cutoff, which is left out."""
    cutoff = config.distance_2b_cutoff
    if cutoff is None:
        return {}
    smallest = np.full(len(config.pairs), np.inf)
    for batch in stream:
        r = np.linalg.norm(np.asarray(edge_vectors(batch.graph)), axis=-1)
        kind, mask = np.asarray(pair_types(config, batch.graph)), np.asarray(batch.graph.mask)
        np.minimum.at(smallest, kind[mask], r[mask])
    rows = [np.linspace(r, cutoff, n, endpoint=False) if r < cutoff else np.zeros(n) for r in smallest]
    return {"distance_2b": np.array(rows)}


def _covariances(config: GAPConfig, points: Points) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each species, then of each pair of species: which points are no padding, and their covariances K_mm."""
    found = []
    for x in np.asarray(points["soap"], float):
        used = x.any(axis=1)
        found.append((used, np.asarray(dot_product_kernel(config, jnp.asarray(x[used] @ x[used].T)))))
    for r in np.asarray(points.get("distance_2b", np.zeros((0, 0))), float):
        used = r > 0
        found.append((used, np.asarray(pair_kernel(config, jnp.asarray(r[used, None]), jnp.asarray(r[None, used])))))
    return found


def _prior(config: GAPConfig, points: Points, graph: Graph, vectors: Array) -> tuple[Array, Array]:
    """Prior covariances of the atoms with each other [n_atoms, n_atoms], and with all columns of points."""
    x = soap_vectors(graph, vectors, config.soap)
    same = graph.species[:, None] == graph.species[None]
    prior = jnp.where(same, dot_product_kernel(config, x @ x.T), 0)
    own = jax.nn.one_hot(graph.species, len(config.species), dtype=x.dtype)
    k = dot_product_kernel(config, jnp.einsum("ad,smd->asm", x, points["soap"])) * own[:, :, None]
    parts = [k.reshape(graph.n_atoms, -1)]
    if "distance_2b" in points:
        kind = pair_types(config, graph)
        r = jnp.sqrt(jnp.sum(vectors**2, axis=-1))[:, :, None]
        member = jnp.where(graph.mask[:, :, None], jax.nn.one_hot(kind, len(config.pairs), dtype=x.dtype), 0)
        pair = jnp.einsum("amp,amk->apk", member, pair_kernel(config, r, points["distance_2b"][kind]))
        parts.append(pair.reshape(graph.n_atoms, -1))
    return prior, jnp.concatenate(parts, axis=1)
