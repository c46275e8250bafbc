"""New structures around known ones: rattled, strained, with metals swapped, partly delithiated, layers moved.

Each is a pure function of a structure and a random generator, and keeps neither labels nor ``info``. Species are told
apart by what they do in an ionic solid: anions stay, carriers (lithium) may leave, all others are metals.
"""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import ase
import numpy as np
from ase.data import atomic_numbers, covalent_radii
from jaxtyping import Float, Int

from jaxmlip.graph.neighbors import neighbor_pairs

ANIONS = ("N", "O", "F", "P", "S", "Cl", "Se", "Br", "Te", "I")
CARRIERS = ("Li", "Na", "K")
_BOND = 1.3  # of the sum of covalent radii: nearer atoms are bonded
_LARGEST_INDEX = 4  # of planes between layers: those of a primitive cell in supercells of up to four
CLOSE = 0.6
"""Of the sum of covalent radii: atoms nearer than that are no structure to learn from."""


def bare(atoms: ase.Atoms) -> ase.Atoms:
    """Elements, positions and cell alone: what is made from a structure has none of its labels.

    >>> bare(ase.Atoms("Li", info={"energy": -1.0})).info
    {}
    """
    return ase.Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)


def rattled(atoms: ase.Atoms, rng: np.random.Generator, *, largest: float = 0.15) -> ase.Atoms:
    """Each coordinate moved at random, normally distributed with a width drawn from a fifth of ``largest`` up to it, Å.

    >>> moved = rattled(ase.Atoms("LiO", [[0, 0, 0], [0, 0, 2.0]]), np.random.default_rng(0))
    >>> bool(0 < np.abs(moved.positions - [[0, 0, 0], [0, 0, 2.0]]).max() < 0.5)
    True
    """
    found = bare(atoms)
    width = rng.uniform(largest / 5, largest)
    found.positions += rng.normal(0.0, width, found.positions.shape)
    return found


def strained(atoms: ase.Atoms, rng: np.random.Generator, *, largest: float = 0.05) -> ase.Atoms:
    """The cell under a random symmetric strain of at most ``largest`` a component, atoms moved along, then a little."""
    found = bare(atoms)
    strain = rng.uniform(-largest, largest, (3, 3)) / 2
    strain = strain + strain.T  # diagonal within ±largest
    found.set_cell(found.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    found.positions += rng.normal(0.0, 0.02, found.positions.shape)
    return found


def swapped(atoms: ase.Atoms, rng: np.random.Generator, *, metals: Sequence[str]) -> ase.Atoms:
    """Metals replaced by others of ``metals`` (each metal by one, or each site by its own), cations shuffled.

    The cell is scaled by the mean change of the covalent radii of metals, weighted by their share of the atoms.
    Without a metal in the structure only carriers and vacancies stay as they are: it is rattled.
    """
    found = bare(atoms)
    sites = metal_sites(found)
    if not len(sites) or not metals:
        return rattled(atoms, rng)
    choices = np.array([atomic_numbers[symbol] for symbol in metals])
    old = found.numbers[sites].copy()
    if rng.random() < 0.5:
        table = {z: rng.choice(choices) for z in np.unique(old)}
        new = np.array([table[z] for z in old])
    else:
        new = np.where(rng.random(len(sites)) < 0.5, rng.choice(choices, len(sites)), old)
    found.numbers[sites] = new
    if rng.random() < 0.5:
        cations = np.flatnonzero(~np.isin(found.symbols, ANIONS))
        found.numbers[cations] = rng.permutation(found.numbers[cations])
    growth = (covalent_radii[new] / covalent_radii[old] - 1).sum() / len(found) / 2
    found.set_cell(found.cell.array * (1 + growth), scale_atoms=True)
    found.positions += rng.normal(0.0, 0.04, found.positions.shape)
    return found


def delithiated(atoms: ase.Atoms, rng: np.random.Generator) -> ase.Atoms:
    """With a random part of its carriers taken out, at least one; rattled a little. None there: rattled alone.

    >>> left = delithiated(ase.Atoms("Li2O", np.eye(3) * 2), np.random.default_rng(0))
    >>> left.get_chemical_formula() in ("LiO", "O")
    True
    """
    carriers = np.flatnonzero(np.isin(atoms.symbols, CARRIERS))
    if not len(carriers):
        return rattled(atoms, rng)
    n_out = int(rng.integers(1, len(carriers) + 1))
    stays = np.ones(len(atoms), bool)
    stays[rng.choice(carriers, n_out, replace=False)] = False
    found = bare(atoms)[stays]
    found.positions += rng.normal(0.0, 0.03, found.positions.shape)
    return found


def moved_layers(atoms: ase.Atoms, rng: np.random.Generator, *, largest: float = 1.0) -> ase.Atoms | None:
    """Layers that no bond connects moved apart by up to ``largest`` Å, or together by a quarter of it, with the cell.

    Every second time they also slide along each other by up to ``largest``. None of a structure without such layers.

    >>> from ase.build import bulk
    >>> graphite = ase.Atoms("C4", cell=[2.46, 2.46, 6.7, 90, 90, 120], pbc=True)
    >>> graphite.set_scaled_positions([[0, 0, 0], [0, 0, 0.5], [1 / 3, 2 / 3, 0], [2 / 3, 1 / 3, 0.5]])
    >>> found = moved_layers(graphite, np.random.default_rng(0))
    >>> bool(found.cell[2, 2] != 6.7), moved_layers(bulk("LiO", "rocksalt", a=4.2), np.random.default_rng(0)) is None
    (True, True)
    """
    found = bare(atoms)
    gap = _widest_gap(found)
    if gap is None:
        return None
    step = gap.normal * rng.uniform(-largest / 4, largest)
    if rng.random() < 0.5:
        along = rng.normal(size=3)
        along -= (along @ gap.normal) * gap.normal
        step = step + along / np.linalg.norm(along) * rng.uniform(0.0, largest)
    found.positions += gap.layers[:, None] * step
    found.set_cell(found.cell.array + gap.indices[:, None] * step)
    return found


class _Gap(NamedTuple):
    """Between layers that no bond connects."""

    width: float  # Å
    normal: Float[np.ndarray, "3"]
    indices: Int[np.ndarray, "3"]  # Miller's, of the planes: layers that each lattice vector crosses
    layers: Int[np.ndarray, " n_atoms"]  # which each atom is in


def _widest_gap(atoms: ase.Atoms) -> _Gap | None:
    if not (len(atoms) and atoms.pbc.all() and is_sound(atoms)):
        return None
    radii = covalent_radii[atoms.numbers]
    pairs = neighbor_pairs(atoms, 2 * _BOND * float(radii.max()))
    bonded = pairs.distances < _BOND * (radii[pairs.centers] + radii[pairs.neighbors])
    here, there, image = pairs.centers[bonded], pairs.neighbors[bonded], pairs.shifts[bonded]
    fractional, reciprocal = atoms.cell.scaled_positions(atoms.positions), atoms.cell.reciprocal().array
    found: _Gap | None = None
    for indices in product(range(-_LARGEST_INDEX, _LARGEST_INDEX + 1), repeat=3):
        if indices <= (0, 0, 0) or np.gcd.reduce(indices) != 1:
            continue
        heights = np.sort(fractional @ indices % 1.0)
        gaps = np.diff(heights, append=heights[0] + 1)
        widest, size = int(np.argmax(gaps)), np.linalg.norm(indices @ reciprocal)
        layers = np.floor(fractional @ indices - heights[widest] - gaps[widest] / 2).astype(int)
        crossed = layers[here] != layers[there] + image @ indices
        if not crossed.any() and (found is None or gaps[widest] / size > found.width):
            normal = indices @ reciprocal / size
            found = _Gap(float(gaps[widest] / size), normal, np.array(indices), layers)
    return found


def metal_sites(atoms: ase.Atoms) -> Int[np.ndarray, " n_metals"]:
    """Indices of the atoms that are neither anions nor carriers."""
    return np.flatnonzero(~np.isin(atoms.symbols, (*ANIONS, *CARRIERS)))


def metals_of(atoms: Sequence[ase.Atoms]) -> tuple[str, ...]:
    """Symbols of the metals in the structures, by atomic number.

    >>> metals_of([ase.Atoms("LiNiO2"), ase.Atoms("MnO")])
    ('Mn', 'Ni')
    """
    found = {symbol for frame in atoms for symbol in frame.symbols[metal_sites(frame)]}
    return tuple(sorted(found, key=lambda symbol: atomic_numbers[symbol]))


def is_sound(atoms: ase.Atoms) -> bool:
    """Whether no two atoms are nearer than `CLOSE` times the sum of their covalent radii."""
    radii = covalent_radii[atoms.numbers]
    try:
        pairs = neighbor_pairs(atoms, 2 * CLOSE * float(radii.max()))
    except ValueError:  # overlapping, or a cell that is none
        return False
    return not bool((pairs.distances < CLOSE * (radii[pairs.centers] + radii[pairs.neighbors])).any())
