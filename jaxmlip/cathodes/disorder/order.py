"""Short-range order of sampled occupations: Warren–Cowley parameters and tetrahedra of cations.

α_ij(shell) = 1 − P(j at a site of the shell of an i) / c_j: zero in a random alloy (−1/(N − 1) for N sites of fixed
composition), positive where i and j avoid each other.

References:
    Cowley, Phys. Rev. 77, 669 (1950), equation 1; de Fontaine, J. Appl. Cryst. 4, 15 (1971) for several species.
"""

from collections.abc import Sequence
from typing import NamedTuple

import ase
import numpy as np
from ase.data import atomic_numbers
from jaxtyping import Bool, Float, Integer

from jaxmlip.cathodes.disorder.sites import Sites
from jaxmlip.cathodes.disorder.statistics import Estimate, estimate
from jaxmlip.graph.neighbors import neighbor_pairs

_SAME_SHELL = 1e-3  # Å


class WarrenCowley(NamedTuple):
    """α of each shell and ordered pair of species."""

    symbols: tuple[str, ...]
    distances: Float[np.ndarray, " n_shells"]  # Å
    alpha: Estimate  # [n_shells, n_symbols, n_symbols]


class Tetrahedra(NamedTuple):
    """The tetrahedra of nearest cations around the tetrahedral sites, one row each, seen from its first corner."""

    corners: Integer[np.ndarray, "n_tetrahedra 4"]
    images: Integer[np.ndarray, "n_tetrahedra 4 3"]  # cells of the corners, the first is at home


def warren_cowley(
    sites: Sites, numbers: Integer[np.ndarray, "n_samples n_chains n_sites"], *, sublattice: int = 0, n_shells: int = 3
) -> WarrenCowley:
    """Warren–Cowley parameters of the first shells of a sublattice, with standard errors.

    >>> from jaxmlip.cathodes.disorder.sites import random_numbers, rocksalt
    >>> sites = rocksalt("LiMnO2", repeat=(2, 2, 2))
    >>> numbers = np.stack([[random_numbers(sites, {"Li": 1, "Mn": 1, "O": 2}, seed)] for seed in range(2)])
    >>> found = warren_cowley(sites, numbers, n_shells=2)
    >>> found.symbols, found.alpha.mean.shape
    (('Li', 'Mn'), (2, 2, 2))

    Args:
        sites: of the cell.
        numbers: atomic numbers of samples, 0 for a vacancy.
        sublattice: whose sites.
        n_shells: distances that are told apart, from the nearest on.
    """
    part = sites.sublattices[sublattice]
    frame: ase.Atoms = sites.frame[part.sites]  # type: ignore[assignment]
    reach = _shell_radius(frame, n_shells)
    pairs = neighbor_pairs(frame, reach)
    distances = _distinct(pairs.distances)[:n_shells]
    shell = np.abs(pairs.distances[:, None] - distances).argmin(axis=1)
    own = np.asarray(numbers)[..., part.sites]
    codes = np.stack([own == atomic_numbers[symbol] for symbol in part.symbols])  # [n_symbols, …, n]
    n = len(part.symbols)
    alpha = np.zeros((*own.shape[:-1], len(distances), n, n))
    for k in range(len(distances)):
        i, j = pairs.centers[shell == k].astype(int), pairs.neighbors[shell == k].astype(int)
        for a in range(n):
            inside = codes[a][..., i]
            for b in range(n):
                share = (inside & codes[b][..., j]).sum(axis=-1) / np.maximum(inside.sum(axis=-1), 1)
                alpha[..., k, a, b] = 1 - share / np.maximum(codes[b].mean(axis=-1), 1e-12)
    return WarrenCowley(part.symbols, distances, estimate(alpha))


def tetrahedra_of(frame: ase.Atoms) -> Tetrahedra:
    """All sets of four sites of ``frame`` that are nearest neighbours of each other: of fcc two a site.

    Slightly distorted lattices (layered, spinel) count too: neighbours up to 1.2 times the shortest distance.

    >>> import ase.build
    >>> tetrahedra_of(ase.build.bulk("Cu", cubic=True)).corners.shape
    (8, 4)

    Raises:
        ValueError: the sites are no fcc lattice: they have no tetrahedra.
    """
    shortest = float(neighbor_pairs(frame, _shell_radius(frame, 1)).distances.min())
    reach = 1.2 * shortest
    pairs = neighbor_pairs(frame, reach)
    vectors = frame.positions[pairs.neighbors] - frame.positions[pairs.centers] + pairs.shifts @ frame.cell.array
    along = np.array([1.0, np.sqrt(2.0) / 2, np.pi / 7])  # no two sites of a lattice lie equally far along it
    first = vectors @ along > 0  # a tetrahedron is counted at its lowest corner
    corners, images = [], []
    starts = np.searchsorted(pairs.centers, np.arange(len(frame) + 1))
    for i in range(len(frame)):
        rows = np.arange(starts[i], starts[i + 1])
        rows = rows[first[rows]]
        near = np.linalg.norm(vectors[rows][:, None] - vectors[rows][None], axis=2) < reach
        for a, b, c in _triangles(near):
            chosen = rows[[a, b, c]]
            corners.append([i, *pairs.neighbors[chosen]])
            images.append(np.concatenate([np.zeros((1, 3), int), pairs.shifts[chosen]]))
    if not corners:
        raise ValueError("these sites have no tetrahedra of nearest neighbours: cations of a rocksalt have two a site")
    return Tetrahedra(np.array(corners, int), np.array(images, int))


def tetrahedron_fractions(
    tetrahedra: Tetrahedra, numbers: Integer[np.ndarray, "n_samples n_chains n_sites"], symbol: str = "Li"
) -> Estimate:
    """Fractions of tetrahedra with 0 … 4 corners of ``symbol``, ``[5]``; at random binomial in the content.

    The last of them, Li4, is the fraction of 0-TM sites.

    >>> import ase.build
    >>> found = tetrahedra_of(ase.build.bulk("Cu", cubic=True))
    >>> tetrahedron_fractions(found, np.array([[[3, 3, 3, 25]], [[3, 3, 3, 3]]])).mean.tolist()
    [0.0, 0.0, 0.0, 0.5, 0.5]
    """
    held = np.asarray(numbers) == atomic_numbers[symbol]
    filled = held[..., tetrahedra.corners].sum(axis=-1)
    return estimate(np.stack([(filled == k).mean(axis=-1) for k in range(5)], axis=-1))


def random_tetrahedra(content: float) -> Float[np.ndarray, " 5"]:
    """What `tetrahedron_fractions` are without any order: binomial coefficients of the content of cation sites.

    >>> random_tetrahedra(0.5).tolist()
    [0.0625, 0.25, 0.375, 0.25, 0.0625]
    """
    k = np.arange(5)
    return np.array([1, 4, 6, 4, 1]) * content**k * (1 - content) ** (4 - k)


def _shell_radius(frame: ase.Atoms, n_shells: int) -> float:
    """A cutoff between shell ``n_shells`` and the next."""
    reach = 1.2 * (frame.get_volume() / len(frame)) ** (1 / 3)
    while len(found := _distinct(neighbor_pairs(frame, reach).distances)) <= n_shells:
        reach *= 1.3
    return float(found[n_shells - 1] + found[n_shells]) / 2


def _distinct(distances: np.ndarray) -> np.ndarray:
    ordered = np.sort(distances)
    return ordered[np.concatenate([[True], np.diff(ordered) > _SAME_SHELL])[: len(ordered)]]


def _triangles(near: Bool[np.ndarray, "n n"]) -> Sequence[tuple[int, int, int]]:
    n = len(near)
    return [
        (a, b, c)
        for a in range(n)
        for b in range(a + 1, n)
        if near[a, b]
        for c in range(b + 1, n)
        if near[a, c] and near[b, c]
    ]
