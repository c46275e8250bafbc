"""`Graph`: structures and their neighbours as arrays of a few fixed shapes, the border between host and device.

Neighbours stand in a dense ``[n_atoms, max_neighbors]`` table: reductions run along its second axis and forces are
gathered through ``reverse``, so nothing is scattered. Padding is masked; it contributes exactly zero.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import ase
import jax
import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Array, Bool, Float, Int, Integer

from jaxmlip.config import unknown_name
from jaxmlip.data.structures import frames_of
from jaxmlip.graph.labels import GraphLabels, label_arrays
from jaxmlip.graph.neighbors import Pairs, neighbor_pairs, reverse_pairs
from jaxmlip.programs import QUICK_EDGES


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Scope:
    """What the indices and neighbours of a `Graph` mean: static, so that it is compared when a function is traced."""

    species: tuple[int, ...]
    """Atomic numbers in the order of the indices."""
    cutoff: float
    """Å; all pairs nearer than this are there, farther ones may be."""


class Graph(NamedTuple):
    """A batch of structures; a pytree. Units: Å."""

    positions: Float[Array, "n_atoms 3"]
    species: Int[Array, " n_atoms"]  # index into the potential's species
    cell: Float[Array, "n_graphs 3 3"]  # rows are vectors; without periodicity any cell, or zeros
    atom_graph: Int[Array, " n_atoms"]
    atom_mask: Bool[Array, " n_atoms"]  # False: padding
    neighbors: Int[Array, "n_atoms max_neighbors"]  # padding points at the atom itself
    neighbor_species: Int[Array, "n_atoms max_neighbors"]
    shifts: Int[Array, "n_atoms max_neighbors 3"]  # integer images
    reverse: Int[Array, "n_atoms max_neighbors"]  # flat slot of the same pair seen from the neighbour
    mask: Bool[Array, "n_atoms max_neighbors"]
    scope: Scope | None = None  # None: whoever made it answers for it

    @property
    def n_atoms(self) -> int:
        """Number of atoms, padding included."""
        return self.positions.shape[0]

    @property
    def n_graphs(self) -> int:
        """Number of structures, padding included."""
        return self.cell.shape[0]


class Member(NamedTuple):
    """A structure of a `Batch`: its place in the data and in the batch, and which rows of atoms are its own."""

    index: int
    slot: int
    atoms: Bool[np.ndarray, " n_atoms"]


class Batch(NamedTuple):
    """A graph, its labels, and where each of its structures stood in the data (−1: padding)."""

    graph: Graph
    labels: GraphLabels
    index: Int[np.ndarray, " n_graphs"]

    def members(self) -> Iterator[Member]:
        """Its structures, without padding."""
        owner = np.where(self.graph.atom_mask, self.graph.atom_graph, -1)
        for slot in np.flatnonzero(self.index >= 0).tolist():
            yield Member(int(self.index[slot]), slot, owner == slot)


class Shape(NamedTuple):
    """The sizes that a compiled function depends on."""

    n_graphs: int
    n_atoms: int
    max_neighbors: int


COARSE, FINE = Shape(8, 64, 8), Shape(8, 8, 2)  # multiples that sizes of batches are rounded up to


def edge_vectors(graph: Graph) -> Float[Array, "n_atoms max_neighbors 3"]:
    """Vectors r_ij = r_j − r_i + shift · cell in Å; zero for padding.

    >>> import jaxmlip
    >>> config = jaxmlip.build("snap", species=("Li", "O"), cutoff=4.0).config
    >>> graph = batch(ase.Atoms("LiO", [[0, 0, 0], [0, 0, 1.9]]), config)
    >>> round(float(edge_vectors(graph)[0, 0, 2]), 4)
    1.9
    """
    cell = graph.cell[graph.atom_graph]
    shifts = graph.shifts.astype(cell.dtype)
    # Three products written out: a batched matrix product of so small matrices costs several times more.
    images = sum(shifts[:, :, k, None] * cell[:, None, k, :] for k in range(3))
    return graph.positions[graph.neighbors] - graph.positions[:, None, :] + images


def check_scope(graph: Graph, config: Any) -> None:
    """Refuses a graph that was made for other species or a shorter cutoff than those of a potential's ``config``.

    A graph that reaches farther (calculators list neighbours with a skin) is right: potentials end at their own cutoff.

    Raises:
        ValueError: energies would silently be wrong.
    """
    scope = graph.scope
    if scope is None or (scope.species == config.species and scope.cutoff >= config.cutoff):
        return
    (made, cutoff), (wanted, needed) = (
        (", ".join(chemical_symbols[z] for z in one.species), one.cutoff) for one in (scope, config)
    )
    raise ValueError(
        f"the graph was made for {made} with a cutoff of {cutoff:g} Å, the potential is one of {wanted} with "
        f"{needed:g} Å: make it with jaxmlip.batch(atoms, potential.config)"
    )


def species_index(numbers: Integer[np.ndarray, " n_atoms"], species: Sequence[int]) -> Int[np.ndarray, " n_atoms"]:
    """The position of each atomic number in ``species``.

    Raises:
        ValueError: an element that the potential does not know.
    """
    table = np.full(max(max(species), int(np.max(numbers))) + 1, -1)
    table[list(species)] = np.arange(len(species))
    index = table[numbers]
    if (index < 0).any():
        symbols = chemical_symbols
        unknown = symbols[int(np.asarray(numbers)[index < 0][0])]
        raise ValueError(
            unknown_name("element", unknown, [symbols[z] for z in species])
            + ". The potential has no parameters for it: fit one whose species include it"
        )
    return index


def batch(atoms: Any, config, *, shape: Shape | None = None, dtype=None) -> Graph:
    """One `Graph` of one or several structures, for the species and cutoff of a potential's ``config``.

    >>> from jaxmlip.potentials.snap import SNAPConfig
    >>> graph = batch(ase.Atoms("LiO", [[0, 0, 0], [0, 0, 1.9]]), SNAPConfig(species=("Li", "O"), cutoff=4.0))
    >>> graph.n_atoms, graph.mask.sum().item()
    (2, 2)

    Args:
        atoms: one structure or several, of ASE or pymatgen.
        config: has ``species`` (atomic numbers) and ``cutoff`` (Å).
        shape: pad to this shape, to reuse a compiled function; the default is the smallest.
        dtype: of positions and cells; the default is JAX's float.

    Raises:
        ValueError: an element not in ``config.species``, overlapping atoms, or ``shape`` is too small.
    """
    frames = frames_of(atoms)
    if not frames:
        raise ValueError("no structures: an empty list cannot become a graph")
    found = [neighbor_pairs(frame, config.cutoff) for frame in frames]
    needed = Shape(len(frames), sum(map(len, frames)), max(max_neighbors(f, p) for f, p in zip(frames, found)))
    shape = needed if shape is None else shape
    if any(have < need for have, need in zip(shape, needed)):
        raise ValueError(f"the structures need {needed}, more than the given {shape}: allocate a larger shape")
    return _on_device(graph_arrays(frames, found, config, shape=shape, dtype=dtype))


def batches(
    atoms: Sequence[ase.Atoms],
    config,
    *,
    max_atoms: int = 512,
    n_shapes: int = 4,
    dtype=None,
    factors: Float[np.ndarray, "n_structures 3"] | None = None,
) -> list[Batch]:
    """All structures as batches of at most ``n_shapes`` different shapes, so that few functions compile.

    Structures are sorted by their number of neighbours and filled into batches of about ``max_atoms`` atoms (one
    larger structure stands alone); ``Batch.index`` tells which structure is where. ``factors`` of the residuals of
    energy, forces and stress of each structure end in the labels (1 where None).

    >>> import jaxmlip
    >>> config = jaxmlip.build("snap", species=("Mo",), cutoff=4.0).config
    >>> found = batches(jaxmlip.datasets.load("mo", split="test")[:3], config, max_atoms=60)
    >>> sorted(int(k) for one in found for k in one.index if k >= 0)
    [0, 1, 2]

    Raises:
        ValueError: as `batch`.
    """
    frames = frames_of(atoms)
    if not frames:
        raise ValueError("no structures: an empty list cannot become graphs")
    found = [neighbor_pairs(frame, config.cutoff) for frame in frames]
    widths = np.array([max_neighbors(frame, pairs) for frame, pairs in zip(frames, found)])
    sizes = np.array([len(frame) for frame in frames])
    members = _members(widths, sizes, max_atoms)
    shapes = _merge_shapes([Shape(len(m), int(sizes[m].sum()), int(widths[m].max())) for m in members], n_shapes)
    result = []
    for chosen, shape in zip(members, shapes):
        chosen_frames = [frames[k] for k in chosen]
        graph = _on_device(graph_arrays(chosen_frames, [found[k] for k in chosen], config, shape=shape, dtype=dtype))
        index = np.full(shape.n_graphs, -1)
        index[: len(chosen)] = chosen
        own = None if factors is None else factors[chosen]
        labels = label_arrays(chosen_frames, shape, graph.positions.dtype, own)
        result.append(Batch(graph, _on_device(labels), index))
    return result


def max_neighbors(frame: ase.Atoms, pairs: Pairs) -> int:
    """The largest number of neighbours of an atom, at least 1 so that no axis is empty."""
    return max(1, int(np.bincount(pairs.centers.astype(np.int64), minlength=len(frame)).max(initial=0)))


def _members(widths: np.ndarray, sizes: np.ndarray, max_atoms: int) -> list[np.ndarray]:
    """Which structures share a batch: neighbours in the order of their table width."""
    members, current, filled = [], [], 0
    for k in np.lexsort((sizes, widths)):
        if current and filled + sizes[k] > max_atoms:
            members.append(np.array(current))
            current, filled = [], 0
        current.append(int(k))
        filled += int(sizes[k])
    members.append(np.array(current))
    return members


def _merge_shapes(shapes: list[Shape], n_shapes: int) -> list[Shape]:
    """A shape for each batch, of at most ``n_shapes`` kinds: consecutive batches share the largest of each size.

    Sizes are rounded up, so that data sets of different sizes share compiled functions too. Where there is little to
    evaluate, another function would cost more than padding: all have one shape of a coarse size.
    """
    n_slots = len(shapes) * max(shape.n_atoms for shape in shapes) * max(shape.max_neighbors for shape in shapes)
    n_shapes, rounding = (1, COARSE) if n_slots < QUICK_EDGES else (n_shapes, FINE)
    kinds = np.array_split(np.arange(len(shapes)), min(n_shapes, len(shapes)))
    merged: list[Shape] = []
    for kind in kinds:
        largest = (max(shapes[k][axis] for k in kind) for axis in range(3))
        rounded = (-(-size // step) * step for size, step in zip(largest, rounding))
        merged += [Shape(*map(int, rounded))] * len(kind)
    return merged


def graph_arrays(frames: list[ase.Atoms], found: list[Pairs], config, *, shape: Shape, dtype=None) -> Graph:
    """The padded arrays of one batch, on the host: `batch` without its checks of the shape."""
    n_atoms, width = shape.n_atoms, shape.max_neighbors
    dtype = jax.dtypes.canonicalize_dtype(float if dtype is None else dtype)  # float32 without 64-bit numbers
    arrays = SimpleNamespace(
        positions=np.zeros((n_atoms, 3)),
        species=np.zeros(n_atoms, np.int32),
        cell=np.zeros((shape.n_graphs, 3, 3)),
        atom_graph=np.full(n_atoms, shape.n_graphs - 1, np.int32),
        atom_mask=np.zeros(n_atoms, bool),
        neighbors=np.repeat(np.arange(n_atoms, dtype=np.int32)[:, None], width, axis=1),
        neighbor_species=np.zeros((n_atoms, width), np.int32),
        shifts=np.zeros((n_atoms, width, 3), np.int16),
        reverse=np.arange(n_atoms * width, dtype=np.int32).reshape(n_atoms, width),
        mask=np.zeros((n_atoms, width), bool),
    )
    start = 0
    for k, (frame, pairs) in enumerate(zip(frames, found)):
        _fill_one(arrays, frame, pairs, (k, start), config)
        start += len(frame)
    arrays.neighbor_species = arrays.species[arrays.neighbors]
    arrays.positions, arrays.cell = arrays.positions.astype(dtype), arrays.cell.astype(dtype)
    return Graph(**vars(arrays), scope=Scope(tuple(map(int, config.species)), float(config.cutoff)))


def _on_device(arrays: Any) -> Any:
    return jax.device_put(arrays)  # all at once: jnp.asarray compiles a program for each shape


def _fill_one(arrays: SimpleNamespace, frame: ase.Atoms, pairs: Pairs, where: tuple[int, int], config) -> None:
    graph_index, start = where
    rows = slice(start, start + len(frame))
    arrays.positions[rows] = frame.positions
    arrays.species[rows] = species_index(frame.numbers, config.species)
    arrays.cell[graph_index] = frame.cell.array
    arrays.atom_graph[rows] = graph_index
    arrays.atom_mask[rows] = True
    centers = pairs.centers.astype(np.int64)
    slots = np.arange(len(centers)) - np.searchsorted(centers, np.arange(len(frame)))[centers]
    at = (centers + start, slots)
    arrays.neighbors[at] = pairs.neighbors.astype(np.int64) + start
    arrays.shifts[at] = pairs.shifts
    arrays.reverse[at] = (at[0] * arrays.mask.shape[1] + slots)[reverse_pairs(pairs)]
    arrays.mask[at] = True
