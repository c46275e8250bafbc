"""What one rank sees: its own atoms, those of other ranks around them, and all pairs, on the host.

Every atom stands here once, whatever number of periodic images LAMMPS keeps of it: pairs carry images of the cell, as
in any `Graph`. So a single rank evaluates exactly its own atoms, and of two ranks each evaluates no atom twice.
"""

import re
from typing import Any, NamedTuple

import ase
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxmlip.graph.neighbors import Frame, Pairs, neighbor_pairs, reverse_pairs
from jaxmlip.simulate.lammps.library import Atoms
from jaxmlip.simulate.neighbor_list import most_neighbors

_FAR = 1 << 30


class Reach(NamedTuple):
    """How far a potential sees."""

    cutoff: float  # Å
    skin: float  # Å
    n_hops: int  # cutoffs away that an atom changes the energy of another
    local: bool  # an energy is made of vectors alone: the atoms at the end of them need no row

    @property
    def ghosts(self) -> float:
        """Å around a rank within which it must know all atoms, also while they move by the skin."""
        return 2 * self.n_hops * (self.cutoff + self.skin) + self.skin


class Sizes(NamedTuple):
    """Of the padded tables: a program is compiled for them."""

    n_points: int
    n_rows: int
    width: int  # listed neighbours of an atom
    inner: int  # neighbours within the cutoff


class Tables(NamedTuple):
    """Atoms with neighbours (rows) first, then those that are only neighbours (points); own atoms come first."""

    species: Int[Array, " n_points"]
    neighbors: Int[Array, "n_rows width"]
    shifts: Int[Array, "n_rows width 3"]
    reverse: Int[Array, "n_rows width"]  # flat slot of the reversed pair; its own where the neighbour has no row
    mask: Bool[Array, "n_rows width"]
    counted: Bool[Array, " n_rows"]  # energies that forces on own atoms depend on


class Surroundings(NamedTuple):
    """What is kept from one list of LAMMPS's to the next."""

    points: Int[np.ndarray, " n_used"]  # which of LAMMPS's atoms they are
    n_owned: int
    frame: Frame  # where the points were
    types: Int[np.ndarray, " n_all"]
    tables: Tables
    sizes: Sizes
    checks: Int[np.ndarray, "2 n_checked"]  # tag, and neighbours within a little more than the cutoff


def surroundings(
    atoms: Atoms, box: Frame, reach: Reach, species: Int[np.ndarray, " n_types"], sizes: Sizes | None
) -> Surroundings:
    """The rank's atoms and their pairs within cutoff + skin; ``sizes`` are those of before, which may grow.

    Raises:
        ValueError: atoms overlap.
    """
    chosen = _once_each(atoms)
    frame = Frame(atoms.positions[chosen], box.cell, box.pbc)
    pairs = _pairs(frame, atoms.tags[chosen], reach.cutoff + reach.skin)
    pairs = Pairs(pairs.centers.astype(np.int64), pairs.neighbors.astype(np.int64), *pairs[2:])
    hops = _hops(pairs, len(chosen), atoms.n_owned, reach)
    last_row = 1 if reach.local else 2 * reach.n_hops
    order = np.argsort(hops, kind="stable")
    n_rows, n_used = (int(np.sum(hops <= last)) for last in (last_row, last_row + 1 if reach.local else last_row))
    new = np.empty_like(order)
    new[order] = np.arange(len(order))
    kept = (hops[pairs.centers] <= last_row) & (hops[pairs.neighbors] <= (_FAR - 1 if reach.local else last_row))
    pairs = Pairs(new[pairs.centers[kept]], new[pairs.neighbors[kept]], pairs.shifts[kept], pairs.distances[kept])
    pairs = Pairs(*(x[np.argsort(pairs.centers, kind="stable")] for x in pairs))
    order = order[:n_used]
    points = chosen[order]
    sizes = _grown(sizes, (n_used, n_rows), pairs, reach)
    tables = _tables(pairs, species[atoms.types[points] - 1], hops[order][:n_rows] <= reach.n_hops, sizes)
    return Surroundings(
        points,
        atoms.n_owned,
        frame._replace(positions=frame.positions[order]),
        atoms.types.copy(),
        tables,
        sizes,
        _checks(pairs, atoms.tags[points], hops[order], reach),
    )


def _pairs(frame: Frame, tags: np.ndarray, reach: float) -> Pairs:
    try:
        numbers = np.ones(len(tags), int)
        return neighbor_pairs(ase.Atoms(numbers, frame.positions, cell=frame.cell, pbc=frame.pbc), reach)
    except ValueError as error:
        named = re.sub(r"^atoms (\d+) and (\d+) of \S+", lambda m: _ids(tags, m), str(error))
        raise ValueError(named) from None


def _ids(tags: np.ndarray, found: re.Match) -> str:
    return f"LAMMPS's atoms {tags[int(found[1])]} and {tags[int(found[2])]}"


def _once_each(atoms: Atoms) -> Int[np.ndarray, " n_chosen"]:
    """Own atoms, and one ghost of each atom of other ranks."""
    own, ghosts = atoms.tags[: atoms.n_owned], atoms.tags[atoms.n_owned :]
    foreign = np.flatnonzero(~np.isin(ghosts, own))
    _, first = np.unique(ghosts[foreign], return_index=True)
    return np.concatenate([np.arange(atoms.n_owned), atoms.n_owned + foreign[first]])


def _hops(pairs: Pairs, n: int, n_owned: int, reach: Reach) -> Int[np.ndarray, " n"]:
    """How many pairs away from the rank's own atoms each atom is."""
    hops = np.full(n, _FAR)
    hops[:n_owned] = 0
    for k in range(2 * reach.n_hops):
        found = pairs.neighbors[hops[pairs.centers] == k]
        hops[found] = np.minimum(hops[found], k + 1)
    return hops


def _grown(old: Sizes | None, n: tuple[int, int], pairs: Pairs, reach: Reach) -> Sizes:
    """Sizes with room, and those of before where they are enough, so that a run compiles a few times only."""
    width = int(np.bincount(pairs.centers, minlength=1).max(initial=1))
    inner = min(width + width // 8, int(most_neighbors(pairs, reach.cutoff)))
    needed = Sizes(n[0], n[1], width, 1)
    if old is not None and all(have >= need for have, need in zip(old, needed)):
        return old
    room = [-(-(size + size // 32 + 8) // 8) * 8 for size in n]
    fresh = Sizes(room[0], room[1], -(-(width + width // 8) // 4) * 4, max(2, -(-inner // 2) * 2))
    return fresh if old is None else Sizes(*map(max, old, fresh))


def _tables(pairs: Pairs, species: np.ndarray, counted: np.ndarray, sizes: Sizes) -> Tables:
    n_points, n_rows, width, _ = sizes
    centers = pairs.centers
    slots = np.arange(len(centers)) - np.searchsorted(centers, centers)
    flat = centers * width + slots
    neighbors = np.repeat(np.arange(n_rows, dtype=np.int32), width)
    shifts = np.zeros((n_rows * width, 3), np.int16)
    reverse = np.arange(n_rows * width, dtype=np.int32)
    mask = np.zeros(n_rows * width, bool)
    neighbors[flat], shifts[flat], mask[flat] = pairs.neighbors, pairs.shifts, True
    both = np.flatnonzero(pairs.neighbors < len(counted))
    back = reverse_pairs(Pairs(*(x[both] for x in pairs)))
    reverse[flat[both]] = flat[both][back]
    shape = (n_rows, width)
    padded_arrays: Any = (
        np.pad(species.astype(np.int32), (0, n_points - len(species))),
        neighbors.reshape(shape),
        shifts.reshape(*shape, 3),
        reverse.reshape(shape),
        mask.reshape(shape),
        np.pad(counted, (0, n_rows - len(counted))),
    )
    return Tables(*padded_arrays)


def _checks(pairs: Pairs, tags: np.ndarray, hops: np.ndarray, reach: Reach) -> Int[np.ndarray, "2 n_checked"]:
    """Of own atoms and of those whose neighbours must all be known here, how many neighbours they have.

    An odd part of the skin is added to the cutoff, so that no perfect crystal has pairs at just this distance.
    """
    near = pairs.distances < reach.cutoff + 0.7357 * reach.skin
    counts = np.bincount(pairs.centers[near], minlength=len(tags))
    checked = np.flatnonzero(hops <= 2 * reach.n_hops - 1)
    return np.stack([tags[checked], counts[checked]]).astype(np.int64)


def padded(points: Float[np.ndarray, "n_used 3"], n_points: int) -> Float[np.ndarray, "n_points 3"]:
    """Positions filled up with zeros."""
    return np.concatenate([points, np.zeros((n_points - len(points), 3), points.dtype)])


def unknown_neighbors(found: Surroundings | None, comm: Any) -> int:
    """Atoms around this rank that have other neighbours for their own rank than here; asks all ranks of ``comm``."""
    n_owned, (tags, counts) = (0, np.zeros((2, 0), int)) if found is None else (found.n_owned, found.checks)
    most = comm.allreduce(int(tags.max(initial=0)), op=_operation("MAX"))
    own = np.zeros(most + 1, np.int64)
    own[tags[:n_owned]] = counts[:n_owned]
    total = np.empty_like(own)
    comm.Allreduce(own, total)
    return int(np.sum(total[tags] != counts))


def _operation(name: str) -> Any:
    from mpi4py import MPI

    return getattr(MPI, name)
