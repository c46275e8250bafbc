"""The only numbers with units. Inside: eV, Å, eV/Å, eV/Å³, amu, fs, K; other units stand in reports and files only."""

from typing import NamedTuple

import ase.units

GPA = 1 / ase.units.GPa
"""GPa in one eV/Å³."""
MEV = 1000.0
"""meV in one eV."""
BAR = 1e4 * GPA
"""bar in one eV/Å³."""
BOLTZMANN = ase.units.kB
"""eV/K."""
LITHIUM_BCC = -1.9089
"""Energy of bcc lithium in eV/atom, PBE: the reference of the uncorrected PBE(+U) energies of the shipped data."""
FEMTOSECOND = ase.units.fs
"""One fs in Å·sqrt(amu/eV), the unit of time that makes eV, Å and amu consistent."""
HARTREE = 27.211386245988
"""eV in one Hartree (CODATA 2018)."""
BOHR = 0.529177210903
"""Å in one Bohr radius (CODATA 2018)."""
KCAL_PER_MOL = 4184.0 / 96485.33212
"""eV in one kcal/mol."""


class ErrorUnit(NamedTuple):
    """How tables and figures show an error that is eV/atom, eV/Å or eV/Å³ inside."""

    name: str
    factor: float
    """Shown number over the number inside."""


SHOWN = {"energy": ErrorUnit("meV/atom", MEV), "forces": ErrorUnit("eV/Å", 1.0), "stress": ErrorUnit("GPa", GPA)}
"""Units of errors on paper; inside they are eV/atom, eV/Å and eV/Å³."""
