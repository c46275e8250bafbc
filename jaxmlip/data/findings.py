"""What the audit looks for (settings) and what it reports (findings)."""

from dataclasses import dataclass, fields
from typing import Literal, NamedTuple

from ase import Atoms

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
class AuditSettings:
    """Thresholds of the audit; the defaults are physical limits, and real sets of extreme geometries pass them.

    Attributes:
        overlap_broken: distance as a fraction of the sum of two covalent radii. A third of a bond length (0.7 Å for
            Ti–O) is inside the cores that pseudopotentials replace, so no such calculation means anything. The most
            compressed pair of the TiO2 set of Artrith and Urban, made to sample repulsion, is at 0.40; the O–O of an
            O2 dimer at 0.81–0.9; three published structures with a corrupt cell at 0.01–0.32.
        overlap_suspicious: as before; below every thermal or strained pair of the sets of Zuo et al. (0.61 for Mo).
        packing_broken: volume of the covalent spheres over that of the cell. Close-packed metals have 0.6–1.0, bcc Mo
            compressed by 10 % 1.07, Cs2O 1.2; 2 is far above all of these.
        packing_suspicious: as before.
        volume_factor: ratio of the volume per atom to the median of structures of the same elements, either way.
        energy_broken: distance from the fit of one energy per element, eV/atom. Nothing lies so far below, as no bond
            is so strong (W: 8.9); nothing so far above without large forces, or ten times as far with them.
        energy_deviations: robust standard deviations from that fit, to be suspicious …
        energy_suspicious: … and at least this far, eV/atom.
        force_broken: eV/Å; beyond what atoms at `overlap_broken` feel.
        force_suspicious: eV/Å; such structures dominate a least-squares fit.
        net_force: |ΣF| of a cell in eV/Å; it is zero by symmetry, DFT grids leave up to some 0.1.
        stress_suspicious: largest component in eV/Å³ (1 eV/Å³ = 160 GPa); values in GPa or kbar end up above it.
        stress_usual: median over the set of the largest component, eV/Å³ (0.2 is 32 GPa): most sets are near their
            equilibrium, so a set beyond it is in another unit; asked only where no neighbouring volumes tell.
        duplicate_distance: largest displacement in Å between two structures that are the same.
        near_distance: root mean square displacement in Å (mean shift removed) below which two structures of the same
            formula and cell shape are one structure vibrating or relaxing: the atoms keep their sites.
        near_strain: largest strain between cells of the same shape.
    """

    overlap_broken: float = 0.35
    overlap_suspicious: float = 0.55
    packing_broken: float = 2.0
    packing_suspicious: float = 1.5
    volume_factor: float = 3.0
    energy_broken: float = 10.0
    energy_deviations: float = 8.0
    energy_suspicious: float = 0.2
    force_broken: float = 1000.0
    force_suspicious: float = 30.0
    net_force: float = 0.2
    stress_suspicious: float = 1.0
    stress_usual: float = 0.2
    duplicate_distance: float = 1e-3
    near_distance: float = 0.3
    near_strain: float = 0.05

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise ValueError(f"{field.name}: expected a positive number, got {value!r}")


def structure_name(atoms: Atoms) -> str:
    """The formula, with what ``info`` says to find the structure again."""
    formula = atoms.get_chemical_formula(mode="metal")
    key = next((key for key in _NAME_KEYS if atoms.info.get(key) not in (None, "", "None")), None)
    return formula if key is None else f"{formula} {key}={atoms.info[key]}"
