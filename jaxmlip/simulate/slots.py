"""Structures that are minimized side by side: a table with a slot for each, refilled from a queue on the host.

Neighbours are found on the host, for a structure whenever its atoms have moved too far; nothing else crosses the
border. All slots have the same padded size, so that one compiled program serves them all.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import ase
import jax
import jax.numpy as jnp
import numpy as np
from ase.constraints import FixAtoms
from jaxtyping import Float

from jaxmlip.graph.batch import Shape, graph_arrays, max_neighbors
from jaxmlip.graph.neighbors import Pairs, neighbor_pairs
from jaxmlip.graph.stack import join
from jaxmlip.potentials.base import Config
from jaxmlip.simulate.deformation import Structures, Symmetry
from jaxmlip.simulate.symmetry import operations

_ROUND_NEIGHBORS = 8
_SKIN, _LEAST_SKIN = 0.5, 0.2  # Å


@dataclasses.dataclass
class Slots:
    """The host's side of `Structures`: arrays with a first axis of slots, and how to fill them."""

    config: Config
    frames: Sequence[ase.Atoms]
    holds: np.ndarray  # [n_slots], index of the structure in a slot; −1: none
    shape: Shape  # of each structure
    graphs: Any  # a `Graph` of NumPy arrays, [n_slots, …]
    cell: np.ndarray  # [n_slots, 3, 3], undeformed
    listed_cell: np.ndarray
    reach: np.ndarray  # [n_slots], Å, of each neighbour list
    free: np.ndarray  # [n_slots, n_atoms]
    symmetry: dict[int, tuple[np.ndarray, np.ndarray]] | None  # of each structure


def new_slots(config: Config, frames: Sequence[ase.Atoms], sizes: tuple[int, int]) -> Slots:
    """``sizes``: n_slots, and atoms in each; all empty. ``frames`` are the structures that will be put in."""
    n_slots, n_atoms = sizes
    shape = Shape(1, n_atoms, _ROUND_NEIGHBORS)
    holds = np.full(n_slots, -1)
    cells = np.broadcast_to(np.eye(3), (n_slots, 3, 3))
    free = np.zeros((n_slots, n_atoms), bool)
    graphs = _empty(config, shape, n_slots)
    return Slots(config, frames, holds, shape, graphs, cells.copy(), cells.copy(), np.zeros(n_slots), free, None)


def find_symmetry(slots: Slots) -> None:
    """Look for the operations that each structure must keep."""
    slots.symmetry = {k: operations(frame) for k, frame in enumerate(slots.frames)}


def put(slots: Slots, slot: int, which: int) -> Float[np.ndarray, "n 3"]:
    """Put structure ``which`` into a slot; returns its padded positions.

    Raises:
        ValueError: atoms overlap, or the cell has no volume.
    """
    frame = slots.frames[which]
    slots.holds[slot] = which
    slots.cell[slot] = frame.cell.complete().array
    slots.free[slot] = _free(frame, slots.shape.n_atoms)
    find_neighbors(slots, slot, frame.positions, slots.cell[slot])
    return slots.graphs.positions[slot]


def find_neighbors(
    slots: Slots, slot: int, positions: Float[np.ndarray, "n 3"], cell: Float[np.ndarray, "3 3"]
) -> None:
    """A new neighbour list for the structure in ``slot`` at ``positions`` in ``cell``.

    Where the tables have not enough columns the list reaches less far; if that is too little, they grow.

    Raises:
        ValueError: atoms overlap, or the cell has no volume.
    """
    frame = at(slots, slot, positions, cell)
    reach = slots.config.cutoff + _SKIN
    pairs = neighbor_pairs(frame, reach)
    fitting = _reach_of_width(pairs, slots.shape.max_neighbors, reach)
    if fitting < slots.config.cutoff + _LEAST_SKIN:
        width = max_neighbors(frame, pairs)
        _widen(slots, width + width // 8)
    elif fitting < reach:
        pairs, reach = Pairs(*(x[pairs.distances < fitting] for x in pairs)), fitting
    slots.reach[slot] = reach
    row = graph_arrays([frame], [pairs], slots.config, shape=slots.shape, dtype="float64")
    for table, values in zip(jax.tree.leaves(slots.graphs), jax.tree.leaves(row), strict=True):
        table[slot] = values
    slots.graphs.cell[slot] = slots.listed_cell[slot] = cell


def _reach_of_width(pairs: Pairs, width: int, reach: float) -> float:
    """The largest reach, at most ``reach``, with which no atom has more than ``width`` neighbours."""
    order = np.lexsort((pairs.distances, pairs.centers))
    centers = pairs.centers[order].astype(np.int64)
    rank = np.arange(len(centers)) - np.searchsorted(centers, centers)
    return float(pairs.distances[order][rank == width].min(initial=reach))


def at(slots: Slots, slot: int, positions: Float[np.ndarray, "n 3"], cell: Float[np.ndarray, "3 3"]) -> ase.Atoms:
    """The structure in ``slot``, at ``positions`` in ``cell``; vectors that were absent stay absent."""
    old = slots.frames[slots.holds[slot]]
    frame = old.copy()
    frame.set_constraint()
    frame.positions = positions[: len(frame)]
    frame.cell = np.where(np.any(old.cell.array, axis=1, keepdims=True), cell, 0)
    frame.set_constraint(old.constraints)
    return frame


def on_device(slots: Slots) -> Structures:
    """All slots as one `Structures`."""
    graphs = jax.tree.map(jnp.asarray, slots.graphs)
    sizes = [len(slots.frames[k]) if k >= 0 else 1 for k in slots.holds]
    return Structures(
        graph=join(graphs, jnp.asarray(slots.holds >= 0)),
        cell=jnp.asarray(slots.cell),
        listed_positions=graphs.positions,
        listed_cell=jnp.asarray(slots.listed_cell),
        reach=jnp.asarray(slots.reach),
        n_atoms=jnp.asarray(sizes, float),
        free=jnp.asarray(slots.free),
        symmetry=_symmetry(slots),
    )


def _symmetry(slots: Slots) -> Symmetry | None:
    if slots.symmetry is None:
        return None
    n_slots, n_atoms = len(slots.holds), slots.shape.n_atoms
    most = max(len(rotations) for rotations, _ in slots.symmetry.values())
    rotation = np.broadcast_to(np.eye(3), (n_slots, most, 3, 3)).copy()
    source = np.broadcast_to(np.arange(n_atoms, dtype=np.int32), (n_slots, most, n_atoms)).copy()
    weight = np.zeros((n_slots, most))
    for slot, which in enumerate(slots.holds):
        if which >= 0:
            rotations, sources = slots.symmetry[int(which)]
            n = len(rotations)
            rotation[slot, :n], source[slot, :n, : sources.shape[1]], weight[slot, :n] = rotations, sources, 1 / n
    return Symmetry(jnp.asarray(rotation), jnp.asarray(source), jnp.asarray(weight))


def _free(frame: ase.Atoms, n_atoms: int) -> np.ndarray:
    free = np.arange(n_atoms) < len(frame)
    for constraint in frame.constraints:
        if not isinstance(constraint, FixAtoms):
            raise ValueError(
                f"{frame.get_chemical_formula()} has the constraint {type(constraint).__name__}; only FixAtoms can be "
                "kept: remove it (atoms.set_constraint()), or relax with ASE and jaxmlip.calculator"
            )
        free[constraint.get_indices()] = False
    return free


def _empty(config: Config, shape: Shape, n_slots: int) -> Any:
    """Tables of slots without atoms."""
    one = graph_arrays([], [], config, shape=shape, dtype="float64")
    tables: Any = jax.tree.map(lambda x: np.repeat(np.asarray(x)[None], n_slots, axis=0), one)
    tables.cell[:] = np.eye(3)
    return tables


def _widen(slots: Slots, width: int) -> None:
    """Room for ``width`` neighbours an atom; rows keep their content."""
    width = -(-width // _ROUND_NEIGHBORS) * _ROUND_NEIGHBORS
    old, n_slots = slots.graphs, len(slots.holds)
    slots.shape = slots.shape._replace(max_neighbors=width)
    new = _empty(slots.config, slots.shape, n_slots)
    was = old.mask.shape[2]
    for name in ("positions", "species", "cell", "atom_graph", "atom_mask"):
        getattr(new, name)[:] = getattr(old, name)
    for name in ("neighbors", "neighbor_species", "shifts", "mask"):
        getattr(new, name)[:, :, :was] = getattr(old, name)
    rows, columns = np.divmod(old.reverse, was)
    new.reverse[:, :, :was] = rows * width + columns
    slots.graphs = new
