"""The border to jax-md, and the only place that knows its conventions.

jax-md's box has the lattice vectors as columns (our cell transposed), its positions here are fractional, its forces
Cartesian, and its stress is −(1/V) ∂E/∂ε, the opposite of ours. Neighbours come from
`jax_md.custom_partition.neighbor_list_multi_image`: every periodic image counts, also in cells shorter than the
cutoff. Its search compares all pairs in all images, n_atoms² × images: meant for cells of up to a few thousand atoms.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache, partial
from typing import Any, NamedTuple

import ase
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxmlip.graph.batch import Graph, edge_vectors, max_neighbors, species_index
from jaxmlip.graph.neighbors import neighbor_pairs
from jaxmlip.potentials.base import Params, Potential, cast_params, energies_and_gradient, safe_vectors
from jaxmlip.potentials.model import Model

NeighborList = Any  # jax_md.custom_partition.NeighborListMultiImage; naming it would import jax-md


class NeighborFns(NamedTuple):
    """``allocate(positions, box=box)`` on the host, ``update(positions, neighbor, box=box)`` on the device.

    A list whose ``did_buffer_overflow`` is true is wrong: throw the result away, allocate again, repeat the step.
    """

    allocate: Callable[..., NeighborList]
    update: Callable[..., NeighborList]


class JaxMD(NamedTuple):
    """One structure in jax-md's terms; what its simulators, minimizers and ``quantity.stress`` take."""

    positions: Float[Array, "n_atoms 3"]  # fractional
    box: Float[Array, "3 3"]  # lattice vectors are columns
    neighbor_fn: NeighborFns
    energy_fn: Callable[..., Array]  # (positions, neighbor=, box=, perturbation=None) -> eV
    shift_fn: Callable[..., Array]  # (positions, Cartesian displacement, box=) -> positions, never wrapped


class Engine(NamedTuple):
    """The compiled part of an adapter: shared by all structures of one potential."""

    update: Callable[..., NeighborList]
    energy_fn: Callable[..., Array]  # (positions, neighbor=, box=, params=, species=, perturbation=None) -> eV
    shift_fn: Callable[..., Array]


def to_jaxmd(model: Model, atoms: ase.Atoms, *, skin: float = 0.5, dtype=None) -> JaxMD:
    """``model`` and ``atoms`` as jax-md wants them: E(fractional positions, box), neighbours updated on the device.

    Gradients of ``energy_fn`` with respect to the positions are Cartesian, −F in eV/Å, as in all of jax-md;
    `jax_md.quantity.stress` of it is minus our stress. It has reverse-mode derivatives of any order, no forward mode.

    >>> from ase.build import bulk
    >>> from jaxmlip.potentials.snap import SNAPConfig, snap
    >>> potential = snap(SNAPConfig(species=("Mo",), cutoff=4.6, twojmax=2))
    >>> system = to_jaxmd(Model(potential, potential.init(jax.random.key(0), None)), bulk("Mo"))
    >>> neighbor = system.neighbor_fn.allocate(system.positions, box=system.box)
    >>> float(system.energy_fn(system.positions, neighbor=neighbor, box=system.box))
    0.0

    Args:
        model: a potential with its parameters.
        atoms: the structure; directions that are not periodic are neither repeated nor wrapped.
        skin: Å beyond the cutoff; the list is rebuilt when a pair may have changed by half of it.
        dtype: of positions, box and parameters; the default is JAX's float.

    Raises:
        ValueError: an element that the potential does not know, or a structure without neighbour list.
    """
    dtype = jnp.zeros(0, dtype).dtype
    pbc = (bool(atoms.pbc[0]), bool(atoms.pbc[1]), bool(atoms.pbc[2]))
    with jaxmd_context(dtype.name):
        engine = engine_of(model.potential, skin, pbc, dtype.name)
        params, species = cast_params(model.params, dtype), species_of(model.potential, atoms)
        positions, box = fractional(atoms, dtype)

    def allocate(positions: Array, *, box: Array, extra_capacity: int = 0) -> NeighborList:
        at = placed(atoms, positions, box)
        size = list_size(at, model.potential.config.cutoff + skin, extra_capacity)
        with jaxmd_context(dtype.name):
            return allocate_list(engine, positions, box, size)

    energy_fn = partial(engine.energy_fn, params=params, species=species)
    return JaxMD(positions, box, NeighborFns(allocate, engine.update), energy_fn, engine.shift_fn)


@contextmanager
def jaxmd_context(dtype: str) -> Iterator[None]:
    """JAX as jax-md needs it: 64-bit numbers if ``dtype`` asks for them, and its mixed dtypes and ranks allowed."""
    with ExitStack() as stack:
        stack.enter_context(jax.enable_x64(np.dtype(dtype).itemsize == 8))
        stack.enter_context(jax.numpy_dtype_promotion("standard"))
        stack.enter_context(jax.numpy_rank_promotion("allow"))
        yield


def species_of(potential: Potential, atoms: ase.Atoms) -> Int[Array, " n_atoms"]:
    """Species index of each atom.

    Raises:
        ValueError: an element that the potential does not know.
    """
    return jnp.asarray(species_index(atoms.numbers, [int(z) for z in potential.config.species]), jnp.int32)


def fractional(atoms: ase.Atoms, dtype) -> tuple[Float[Array, "n_atoms 3"], Float[Array, "3 3"]]:
    """Fractional positions and box (lattice vectors as columns); missing vectors are completed as ASE does."""
    cell = atoms.cell.complete().array
    positions = np.linalg.solve(cell.T, atoms.positions.T).T
    return jnp.asarray(positions, dtype), jnp.asarray(cell.T, dtype)


def placed(atoms: ase.Atoms, positions: Array, box: Array) -> ase.Atoms:
    """A copy of ``atoms`` at fractional ``positions`` in ``box``; a cell that was absent stays absent."""
    cell = np.asarray(box, np.float64).T
    new = atoms.copy()
    new.positions = np.asarray(positions, np.float64) @ cell
    new.cell = np.where(np.any(atoms.cell.array, axis=1, keepdims=True), cell, 0)
    return new


class ListSize(NamedTuple):
    """The static sizes of a neighbour list: everything that a compiled step depends on beside the number of atoms."""

    max_neighbors: int
    images: tuple[int, int, int]  # searched from −n to n along each lattice vector


def list_size(atoms: ase.Atoms, reach: float, extra: int = 0) -> ListSize:
    """Sizes for neighbours within ``reach`` (Å), with room so that like structures get equal sizes and share code.

    Room: an eighth of the neighbours, rounded up to a multiple of 8.
    """
    found = max_neighbors(atoms, neighbor_pairs(atoms, reach))
    heights = 1 / np.linalg.norm(np.linalg.inv(atoms.cell.complete().array), axis=0)
    images = np.where(atoms.pbc, np.ceil(reach / heights), 0).astype(int)
    width = -(-int(found * 1.125 + extra) // 8) * 8
    return ListSize(width, (int(images[0]), int(images[1]), int(images[2])))


def allocate_list(engine: Engine, positions: Array, box: Array, size: ListSize) -> NeighborList:
    """A new neighbour list at ``positions``, of given sizes."""
    from jax_md import custom_partition, partition

    n_atoms, (a, b, c) = len(positions), size.images
    images = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in (a, b, c)), indexing="ij"), axis=-1).reshape(-1, 3)
    width = min(size.max_neighbors, n_atoms * len(images))
    integer = jnp.zeros(0, int).dtype
    # Never a valid list: a reference far away makes the update below build it. jax-md's own allocation would compile
    # two programs for each structure, to find the sizes that the host knows already.
    make: Any = custom_partition.NeighborListMultiImage
    empty = make(
        idx=jnp.full((n_atoms, width), n_atoms, integer),
        shifts=jnp.zeros((n_atoms, width, 3), integer),
        reference_position=jnp.full_like(positions, 1e3),
        reference_box=box,
        box=box,
        search_shifts=jnp.asarray(images, integer),
        format=partition.Dense,
        max_occupancy=width,
        update_fn=engine.update,
        did_buffer_overflow=jnp.asarray(False),
    )
    return jax.jit(engine.update)(positions, empty, box=box)


@lru_cache(maxsize=64)
def engine_of(potential: Potential, skin: float, pbc: tuple[bool, bool, bool], dtype: str) -> Engine:
    """The functions that all structures of one potential share, so that equal shapes compile once."""
    from jax_md import custom_partition, partition, space

    with jaxmd_context(dtype):
        # The list reaches cutoff + skin and is rebuilt when half the skin is used up: the other half is for the step
        # that jax-md takes between an update and the forces at the new positions.
        make: Any = custom_partition.neighbor_list_multi_image
        unit, half = np.eye(3, dtype=dtype), skin / 2
        cutoff = potential.config.cutoff + half
        raw = make(None, unit, cutoff, half, pbc=np.array(pbc), format=partition.Dense).update
        _, shift_fn = space.periodic_general(jnp.asarray(unit), fractional_coordinates=True, wrapped=False)
    periodic = np.array(pbc)

    def update(positions: Array, neighbor: NeighborList, *, box: Array, **_: Any) -> NeighborList:
        # jax-md searches images for atoms inside the box. An atom that leaves it jumps by a lattice vector here,
        # which rebuilds the list.
        inside = positions - jnp.where(periodic, jnp.floor(positions), 0)
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            new = raw(inside, neighbor.set(update_fn=raw), box=box)
        return new.set(update_fn=update)

    def energy_fn(
        positions: Array, *, neighbor: NeighborList, box: Array, params: Params, species: Array, perturbation=None, **_
    ) -> Array:
        graph = neighbor_graph(positions, neighbor, box=box, species=species, periodic=periodic)
        strain = jnp.eye(3, dtype=box.dtype) if perturbation is None else perturbation
        vectors = safe_vectors(edge_vectors(graph) @ strain.T, graph, potential.config.cutoff)
        return _energy(potential, params, graph, vectors)

    return Engine(update, energy_fn, shift_fn)


def neighbor_graph(
    positions: Array, neighbor: NeighborList, *, box: Array, species: Array, periodic: Bool[np.ndarray, "3"]
) -> Graph:
    """The `Graph` of a jax-md neighbour list (dense, both directions), made on the device.

    Positions are differentiable in jax-md's way: gradients are Cartesian.
    """
    from jax_md import space

    n_atoms = len(neighbor.idx)
    mask = neighbor.idx < n_atoms
    itself = jnp.arange(n_atoms, dtype=neighbor.idx.dtype)[:, None]
    neighbors = jnp.where(mask, neighbor.idx, itself)
    return Graph(
        positions=space.transform(box, _anchored(positions, neighbor, periodic)),
        species=species,
        cell=box.T[None],
        atom_graph=jnp.zeros(n_atoms, jnp.int32),
        atom_mask=jnp.ones(n_atoms, bool),
        neighbors=neighbors,
        neighbor_species=species[neighbors],
        shifts=neighbor.shifts,
        reverse=_reverse(neighbors, neighbor.shifts, mask),
        mask=mask,
    )


def _reverse(neighbors: Array, shifts: Array, mask: Array) -> Int[Array, "n_atoms max_neighbors"]:
    """Flat slot of the same pair seen from the neighbour (compiled away where nothing reads it)."""
    n_atoms, width = neighbors.shape

    def row(i: Array, own: Array, own_shifts: Array) -> Array:
        same = (neighbors[own] == i) & mask[own] & jnp.all(shifts[own] == -own_shifts[:, None, :], axis=-1)
        return own * width + jnp.argmax(same, axis=1)

    slots = jnp.arange(n_atoms * width).reshape(n_atoms, width)
    found = jax.lax.map(lambda rows: row(*rows), (jnp.arange(n_atoms), neighbors, shifts))
    return jnp.where(mask, found, slots)


def _anchored(positions: Array, neighbor: NeighborList, periodic: np.ndarray) -> Array:
    """Each atom at the image nearest to where the list was built, because the list's shifts belong to that image."""
    lattice = jnp.round(jax.lax.stop_gradient(positions) - neighbor.reference_position)
    return positions - jnp.where(periodic, lattice, 0)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _energy(potential: Potential, params: Params, graph: Graph, vectors: Array) -> Array:
    """Σ E_i; one backward pass over the edge vectors, in blocks of atoms, serves forces, stress and the energy."""
    return energies_and_gradient(potential, params, graph, vectors)[0].sum()


def _energy_forward(potential: Potential, params: Params, graph: Graph, vectors: Array) -> tuple[Array, tuple]:
    energies, gradient = energies_and_gradient(potential, params, graph, vectors)
    return energies.sum(), (params, graph, vectors, jnp.where(graph.mask[:, :, None], gradient, 0))


def _energy_backward(potential: Potential, saved: tuple, cotangent: Array) -> tuple:
    params, graph, vectors, gradient = saved
    # The compiler drops this pass where nobody asks for derivatives with respect to the parameters.
    _, pullback = jax.vjp(lambda p: potential.atomic_energies(p, graph, vectors).sum(), params)
    return *pullback(cotangent), None, cotangent * gradient


_energy.defvjp(_energy_forward, _energy_backward)
