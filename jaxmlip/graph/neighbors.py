"""Neighbour pairs on the host: all periodic images, any cell, any cutoff (``vesin``, Bigi et al. 2025)."""

from typing import NamedTuple

import ase
import numpy as np
from jaxtyping import Bool, Float, Int

CLOSEST = 0.01  # Å; nearer atoms are a broken structure, not physics: 1/r and directions lose their digits


class Pairs(NamedTuple):
    """Directed pairs i → j within a cutoff, sorted by i; each pair stands in both directions.

    The vector from i to j is ``positions[j] - positions[i] + shifts @ cell``.
    """

    centers: Int[np.ndarray, " n_edges"]
    neighbors: Int[np.ndarray, " n_edges"]
    shifts: Int[np.ndarray, "n_edges 3"]
    distances: Float[np.ndarray, " n_edges"]


class Frame(NamedTuple):
    """Where atoms are, in which box."""

    positions: Float[np.ndarray, "n_atoms 3"]  # Å
    cell: Float[np.ndarray, "3 3"]  # Å; rows are vectors; any along directions that are not periodic
    pbc: Bool[np.ndarray, "3"]


def still_listed(old: Frame, new: Frame, *, cutoff: float, skin: float) -> bool:
    """Whether a list of all pairs within cutoff + skin (Å) of ``old`` has all pairs within the cutoff of ``new``.

    The cell's change A = L⁻¹ L′ shrinks a distance at most by its smallest singular value s; what remains of the
    displacements, u = r′ − r A, changes it by at most 2 max|u|: so it is if s (cutoff + skin) − 2 max|u| ≥ cutoff.
    """
    shrink, moved = 1.0, new.positions - old.positions
    cells = [np.where(one.pbc[:, None], one.cell, np.eye(3)) for one in (old, new)]
    if old.pbc.any() and not np.array_equal(cells[0], cells[1]):
        if not old.pbc.all():
            return False  # rare: a slab whose cell changes
        change = np.linalg.solve(cells[0], cells[1])
        shrink = float(np.linalg.svd(change, compute_uv=False).min())
        moved = new.positions - old.positions @ change
    return bool(shrink * (cutoff + skin) - 2 * np.linalg.norm(moved, axis=1).max(initial=0) >= cutoff)


def neighbor_pairs(atoms: ase.Atoms, cutoff: float) -> Pairs:
    """All pairs closer than ``cutoff`` (Å), images of an atom with itself included.

    >>> cell = ase.Atoms("Po", cell=[3.0, 3.0, 3.0], pbc=True)
    >>> len(neighbor_pairs(cell, cutoff=3.1).centers)
    6

    Raises:
        ValueError: ``cutoff`` is not positive, a position or the cell is not finite, a periodic direction has
            no cell vector, or two atoms are closer than 0.01 Å.
    """
    if not (np.isfinite(cutoff) and cutoff > 0):
        raise ValueError(f"the cutoff must be a positive number of Å, got {cutoff}")
    cell = _checked_cell(atoms)
    if len(atoms) == 0:
        raise ValueError("a structure without atoms has no neighbours; remove it from the data")
    centers, neighbors, shifts, distances = _compute(atoms.positions, cell, atoms.pbc, cutoff)
    if distances.size and distances.min() < CLOSEST:
        k = int(distances.argmin())
        raise ValueError(
            f"atoms {centers[k]} and {neighbors[k]} of {atoms.get_chemical_formula()} are {distances[k]:.2g} Å apart: "
            "overlapping atoms have no energy; find such structures with `jaxmlip audit`"
        )
    return Pairs(centers, neighbors, shifts, distances)


def _checked_cell(atoms: ase.Atoms) -> Float[np.ndarray, "3 3"]:
    cell = atoms.cell.array
    if not (np.isfinite(atoms.positions).all() and np.isfinite(cell).all()):
        raise ValueError(f"{atoms.get_chemical_formula()} has positions or a cell that are not finite numbers")
    if atoms.pbc.any():
        lengths = np.linalg.norm(cell[atoms.pbc], axis=1)
        cell = atoms.cell.complete().array
        flat = abs(np.linalg.det(cell)) < 1e-6 * np.prod(np.linalg.norm(cell, axis=1))
        if lengths.min() < CLOSEST or flat:
            raise ValueError(
                f"{atoms.get_chemical_formula()} is periodic along {atoms.pbc.tolist()} but its cell vectors "
                f"{atoms.cell.array.tolist()} do not span a volume: give it a Lattice, or pbc='F F F' to a molecule"
            )
    return cell


def _compute(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float) -> tuple[np.ndarray, ...]:
    import vesin

    if not pbc.any():
        cell = np.zeros((3, 3))
    calculator = vesin.NeighborList(cutoff=float(cutoff), full_list=True, sorted=True, n_threads=1)
    return tuple(calculator.compute(points=positions, box=cell, periodic=pbc.tolist(), quantities="ijSd", copy=True))


def reverse_pairs(pairs: Pairs) -> Int[np.ndarray, " n_edges"]:
    """For each directed pair the index of the same pair seen from its neighbour, j → i with the opposite shift.

    Raises:
        ValueError: a pair stands in one direction only (a broken neighbour list).
    """
    n_atoms = int(pairs.centers.max(initial=0)) + 1
    reach = int(np.abs(pairs.shifts).max(initial=0))
    centers, neighbors, shifts = (array.astype(np.int64) for array in pairs[:3])
    keys = _pair_keys(centers, neighbors, shifts + reach, (n_atoms, 2 * reach + 1))
    mirrored = _pair_keys(neighbors, centers, reach - shifts, (n_atoms, 2 * reach + 1))
    order, mirrored_order = np.argsort(keys), np.argsort(mirrored)
    if not np.array_equal(keys[order], mirrored[mirrored_order]):
        raise ValueError("the neighbour list is not symmetric: a pair i → j has no partner j → i")
    reverse = np.empty(len(keys), dtype=np.int64)
    reverse[mirrored_order] = order
    return reverse


def _pair_keys(first: np.ndarray, second: np.ndarray, shifts: np.ndarray, sizes: tuple[int, int]) -> np.ndarray:
    """One integer a pair, unique for (first, second, shift); ``sizes`` bounds the atoms and each shift."""
    n_atoms, width = sizes
    return (((first * n_atoms + second) * width + shifts[:, 0]) * width + shifts[:, 1]) * width + shifts[:, 2]
