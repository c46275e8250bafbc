"""What the audit looks for (settings) and what it reports (findings)."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from ase import Atoms

from jaxmlip.config import Positive, Settings

Severity = Literal["broken", "suspicious"]

_NAME_KEYS = ("id", "name", "entry_id", "material_id", "file", "source")


class Finding(NamedTuple):
    """One thing wrong with one structure.

    Attributes:
        index: position of the structure in the list that was audited, from 0.
        name: its formula, and what its ``info`` calls it.
        check: which check found it.
        message: what was found, with numbers and units, and what it means.
        severity: "broken" (training on it does harm) or "suspicious" (look at it).
        value: the number that the check compares, in the unit of the message; a larger excess is worse.
    """

    index: int
    name: str
    check: str
    message: str
    severity: Severity
    value: float


@dataclass(frozen=True)
class AuditSettings(Settings):
    """Thresholds of the audit; the defaults are physical limits, and real sets of extreme geometries pass them."""

    overlap_broken: Positive = 0.35
    """Distance as a fraction of the sum of two covalent radii. A third of a bond length (0.7 Å for Ti-O) is inside the
    cores that pseudopotentials replace, so no such calculation means anything. The most compressed pair of the TiO2 set
    of Artrith and Urban, made to sample repulsion, is at 0.40; the O-O of an O2 dimer at 0.81 to 0.9; three published
    structures with a corrupt cell at 0.01 to 0.32."""
    overlap_suspicious: Positive = 0.55
    """The same; below every thermal or strained pair of the sets of Zuo et al. (0.61 for Mo)."""
    packing_broken: Positive = 2.0
    """Volume of the covalent spheres over that of the cell. Close-packed metals have 0.6 to 1.0, bcc Mo compressed by
    10 % 1.07, Cs2O 1.2; 2 is far above all of these."""
    packing_suspicious: Positive = 1.5
    """The same."""
    volume_factor: Positive = 3.0
    """Ratio of the volume per atom to the median of structures of the same elements, either way."""
    energy_broken: Positive = 10.0
    """Distance from the fit of one energy per element, eV/atom. Nothing lies so far below, as no bond is so strong
    (W: 8.9); nothing so far above without large forces, or ten times as far with them."""
    energy_deviations: Positive = 8.0
    """Robust standard deviations from that fit, to be suspicious ..."""
    energy_suspicious: Positive = 0.2
    """... and at least this far, eV/atom."""
    force_broken: Positive = 1000.0
    """eV/Å; beyond what atoms at overlap_broken feel."""
    force_suspicious: Positive = 30.0
    """eV/Å; such structures dominate a least-squares fit."""
    net_force: Positive = 0.2
    """Length of the sum of all forces of a cell, eV/Å; it is zero by symmetry, DFT grids leave up to some 0.1."""
    stress_suspicious: Positive = 1.0
    """Largest component in eV/Å³ (1 eV/Å³ is 160 GPa); values in GPa or kbar end up above it."""
    stress_usual: Positive = 0.2
    """Median over the set of the largest component, eV/Å³ (0.2 is 32 GPa): most sets are near their equilibrium, so a
    set beyond it is in another unit; asked only where no neighbouring volumes tell."""
    duplicate_distance: Positive = 1e-3
    """Largest displacement in Å between two structures that are the same."""
    near_distance: Positive = 0.3
    """Root mean square displacement in Å (mean shift removed) below which two structures of the same formula and cell
    shape are one structure vibrating or relaxing: the atoms keep their sites."""
    near_strain: Positive = 0.05
    """Largest strain between cells of the same shape."""


def structure_name(atoms: Atoms) -> str:
    """The formula, with what ``info`` says to find the structure again."""
    formula = atoms.get_chemical_formula(mode="metal")
    key = next((key for key in _NAME_KEYS if atoms.info.get(key) not in (None, "", "None")), None)
    return formula if key is None else f"{formula} {key}={atoms.info[key]}"
