"""Cathode structures: layered LiTMO2 and TMO2, spinels, and rocksalts with cations in random order."""

from collections.abc import Mapping
from typing import Literal

import ase
import ase.build
import ase.geometry
import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from jaxtyping import Float

from jaxmlip.config import unknown_name
from jaxmlip.datasets import load
from jaxmlip.graph.neighbors import neighbor_pairs

_OXYGEN = 1.40  # Å, radius of O²⁻
# Å: radii of trivalent ions in sixfold coordination (high spin for Mn and Fe, low spin for Co and Ni).
_RADII = {
    "Sc": 0.745, "Ti": 0.670, "V": 0.640, "Cr": 0.615, "Mn": 0.645,
    "Fe": 0.645, "Co": 0.545, "Ni": 0.560, "Cu": 0.540, "Al": 0.535,
}  # fmt: skip
_C_OVER_A = 5.0
_SQS_STEPS = 3000  # of the annealing


def layered(
    metal: str,
    *,
    lithium: bool = True,
    lattice: tuple[float, float, float] | None = None,
    stacking: Literal["O3", "O1"] = "O3",
) -> ase.Atoms:
    """Layered LiTMO2, primitive cell of four atoms, or TMO2 in the same cell without its lithium.

    O3 (R-3m): TM at (0, 0, 0), Li at (½, ½, ½), O at ±(z, z, z) of the rhombohedral cell with hexagonal a and c. O1
    (P-3m1, as many delithiated oxides): the same layers straight above each other, in a hexagonal cell of height c/3.
    The order of the atoms is TM, O, O, Li. A start for a relaxation, not a relaxed structure.

    >>> layered("Co").get_chemical_formula(), layered("Co", lithium=False).get_chemical_formula()
    ('CoLiO2', 'CoO2')

    Args:
        metal: symbol.
        lithium: False takes the lithium out.
        lattice: a and c of the hexagonal cell of O3 in Å, and z of oxygen; default: `default_lattice`.
        stacking: of the oxygen layers.

    Raises:
        ValueError: no element of that name, or without default lattice parameters.
    """
    _known(metal)
    a, c, z = default_lattice(metal) if lattice is None else lattice
    if stacking == "O1":
        height = abs(1 / 3 - z) * 3  # of oxygen above its metal, in layers
        places = np.array([[0, 0, 0], [1 / 3, 2 / 3, height], [2 / 3, 1 / 3, -height], [0, 0, 0.5]])
        cell = ase.geometry.cellpar_to_cell([a, a, c / 3, 90, 90, 120])
    elif stacking == "O3":
        angles, flat = np.radians([90, 210, 330]), a / np.sqrt(3)
        cell = np.stack([flat * np.cos(angles), flat * np.sin(angles), np.full(3, c / 3)], axis=1)
        places = np.array([0, z, -z, 0.5])[:, None] * np.ones(3)
    else:
        raise ValueError(f"stacking must be 'O3' or 'O1', got {stacking!r}")
    atoms = ase.Atoms([metal, "O", "O", "Li"], scaled_positions=places, cell=cell, pbc=True)
    return atoms if lithium else atoms[:3]  # type: ignore[return-value]


def spinel(metal: str, *, lithium: bool = True, lattice: float | None = None, u: float = 0.2625) -> ase.Atoms:
    """Spinel LiTM2O4 (Fd-3m, primitive cell of 14 atoms), or λ-TM2O4 without its lithium.

    Origin at the inversion centre: Li on 8a (⅛, ⅛, ⅛), TM on 16d (½, ½, ½), O on 32e (u, u, u).

    >>> spinel("Mn").get_chemical_formula(), spinel("Mn", lithium=False).get_chemical_formula()
    ('Li2Mn4O8', 'Mn4O8')

    Args:
        metal: symbol.
        lithium: False takes the lithium out.
        lattice: constant of the cubic cell in Å; default: 2√2 times a of the layered oxide, the same oxygen lattice.
        u: of oxygen; ¼ would be ideal cubic packing.

    Raises:
        ValueError: as `layered`.
    """
    from ase.spacegroup import crystal

    _known(metal)
    a = 2 * np.sqrt(2) * default_lattice(metal)[0] if lattice is None else lattice
    places = [(1 / 8,) * 3, (1 / 2,) * 3, (u,) * 3]
    size = [a, a, a, 90, 90, 90]
    atoms = crystal(["Li", metal, "O"], places, spacegroup=227, setting=2, cellpar=size, primitive_cell=True)
    atoms = ase.Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    return atoms if lithium else atoms[atoms.numbers != 3]  # type: ignore[return-value]


def _known(metal: str) -> None:
    if metal not in atomic_numbers or metal == "X":
        raise ValueError(unknown_name("element", metal, chemical_symbols[1:]).split(" Known:")[0])


def default_lattice(metal: str) -> tuple[float, float, float]:
    """Hexagonal a and c in Å and z of oxygen for `layered`.

    From the shipped data set "layered" where it has the metal (surrogate relaxations with CHGNet 0.3.0, averaged
    over the three directions where the cell is distorted); else from ionic radii: a = √2 (r_TM + r_O) of a regular
    octahedron, c = 5.0 a (PBE+U and experiment: 4.9 to 5.1), z = ⅓ − a / (√6 c).

    >>> a, c, z = default_lattice("Sc")
    >>> round(a, 3), round(c, 2), round(z, 3)
    (3.033, 15.17, 0.252)

    Raises:
        ValueError: neither knows the metal.

    References:
        Shannon, Acta Cryst. A 32, 751 (1976): ionic radii.
    """
    for atoms in load("layered"):
        if atoms.info["metal"] == metal and atoms.info["kind"] == "LiTMO2":
            return _hexagonal(atoms)
    if metal not in _RADII:
        raise ValueError(
            unknown_name("metal", metal, _RADII) + ". Give its lattice=(a, c, z): a and c in Å of the hexagonal cell, "
            "z of oxygen (about 0.25)"
        )
    a = float(np.sqrt(2) * (_RADII[metal] + _OXYGEN))
    return a, _C_OVER_A * a, float(1 / 3 - 1 / (np.sqrt(6) * _C_OVER_A))


def _hexagonal(atoms: ase.Atoms) -> tuple[float, float, float]:
    """a, c and z of a primitive O3 cell, averaged where it is distorted; c from the volume, a² c √3/6."""
    cell = atoms.cell.array
    a = float(np.mean([np.linalg.norm(cell[i] - cell[j]) for i, j in ((0, 1), (1, 2), (2, 0))]))
    metal = next(k for k, symbol in enumerate(atoms.symbols) if symbol not in ("Li", "O"))
    oxygen = np.flatnonzero(atoms.numbers == atomic_numbers["O"])
    scaled: Float[np.ndarray, "2 3"] = atoms.get_scaled_positions()[oxygen] - atoms.get_scaled_positions()[metal]
    height = (scaled % 1).mean(axis=1)  # one oxygen at z, one at 1 − z
    z = float(np.abs(height - np.round(height)).mean())
    return a, float(6 * atoms.get_volume() / (np.sqrt(3) * a**2)), z


def disordered_rocksalt(
    cations: Mapping[str, float],
    *,
    repeat: tuple[int, int, int] = (2, 2, 1),
    lattice: float = 4.15,
    seed: int = 0,
    order: Literal["random", "sqs"] = "random",
) -> ase.Atoms:
    """Rocksalt oxide whose cation sites are occupied in the given proportions, without order.

    ``repeat`` conventional cells of 4 cation and 4 oxygen sites; the numbers of cations are the nearest possible
    ones (largest remainders). "X" is a vacancy. A special quasirandom structure ("sqs") has the pairs of cations up to
    1.5 lattice constants as near to those of a random alloy as annealing finds.

    >>> disordered_rocksalt({"Li": 1.0, "Mn": 1.0}).get_chemical_formula()
    'Li8Mn8O16'
    >>> disordered_rocksalt({"X": 1.0, "Mn": 1.0}, seed=3).get_chemical_formula()
    'Mn8O16'

    Args:
        cations: proportions, of any sum.
        repeat: conventional cells along each axis.
        lattice: constant a of the conventional cell in Å.
        seed: of the occupation.
        order: random, or special quasirandom.

    Raises:
        ValueError: no cation, an unknown element, a proportion that is not positive, or oxygen as a cation.

    References:
        Zunger et al., Phys. Rev. Lett. 65, 353 (1990): special quasirandom structures.
    """
    shares = np.array(list(cations.values()), float)
    if not cations or not (np.isfinite(shares).all() and (shares > 0).all()):
        raise ValueError(f"cations must name elements with positive proportions, got {dict(cations)}")
    for symbol in cations:
        if symbol not in atomic_numbers or symbol == "O":
            raise ValueError(unknown_name("cation", symbol, chemical_symbols[1:]).split(" Known:")[0])
    atoms = ase.build.bulk("MgO", "rocksalt", a=lattice, cubic=True).repeat(repeat)
    sites = np.flatnonzero(atoms.symbols == "Mg")
    exact = shares / shares.sum() * len(sites)
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: len(sites) - counts.sum()]] += 1
    kinds = np.repeat([atomic_numbers[symbol] for symbol in cations], counts)
    if order == "sqs":
        atoms.numbers[sites] = _quasirandom(atoms, sites, kinds, seed)
    else:
        atoms.numbers[sites[np.random.default_rng(seed).permutation(len(sites))]] = kinds
    return atoms[atoms.numbers != 0]  # type: ignore[return-value]


def _quasirandom(atoms: ase.Atoms, sites: np.ndarray, kinds: np.ndarray, seed: int) -> np.ndarray:
    """``kinds`` in an order whose pairs come nearest to those of a random alloy: swaps of two sites, annealed."""
    rng = np.random.default_rng(seed)
    cations: ase.Atoms = atoms[sites]  # type: ignore[assignment]
    a = float((4 * atoms.get_volume() / len(sites)) ** (1 / 3))
    pairs = neighbor_pairs(cations, 1.5 * a)
    shells = np.unique(np.round((pairs.distances / a) ** 2 * 2).astype(int), return_inverse=True)[1]
    counts = np.zeros((shells.max() + 1, len(sites), len(sites)))
    np.add.at(counts, (shells, pairs.centers, pairs.neighbors), 1.0)
    counts /= counts.sum(axis=(1, 2), keepdims=True)
    names = np.unique(kinds)

    def mismatch(kinds: np.ndarray) -> float:
        share = (kinds[:, None] == names).astype(float)
        found = share.T @ counts @ share  # [n_shells, n_kinds, n_kinds]: shares of pairs
        return float(np.sum((found - np.outer(share.mean(axis=0), share.mean(axis=0))) ** 2))

    now = rng.permutation(kinds)
    best, least = now, mismatch(now)
    cost = least
    for temperature in np.geomspace(max(least, 1e-12), 1e-3 * max(least, 1e-12), _SQS_STEPS):
        i, j = rng.integers(len(sites), size=2)
        tried = now.copy()
        tried[[i, j]] = now[[j, i]]
        change = mismatch(tried) - cost
        if change <= 0 or rng.random() < np.exp(-change / temperature):
            now, cost = tried, cost + change
            if cost < least:
                best, least = now, cost
    return best
