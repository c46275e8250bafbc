"""Average voltages of layered cathodes from relaxed cells.

V = −[E(LiTMO2) − E(TMO2) − n_Li E(Li)] / n_Li in volts, with E in eV and one electron a lithium.

References:
    Aydinol et al., Phys. Rev. B 56, 1354 (1997), equation 4.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

import ase
import numpy as np

from jaxmlip.cathodes.structures import layered
from jaxmlip.evaluate.grade import ActiveSet, grades
from jaxmlip.graph.neighbors import neighbor_pairs
from jaxmlip.potentials.model import Model
from jaxmlip.simulate.calculator import calculator
from jaxmlip.simulate.relax import Relaxed, relax
from jaxmlip.units import LITHIUM_BCC

PLAUSIBLE = (0.0, 7.0)
"""V; beyond, one of the two minima is none of an oxide: no intercalation cathode comes near either limit."""

_BOND_STRETCH = 1.3  # a metal keeps its six oxygens within this times the longest bond of the start


METALS = ("Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu")
"""Of layered oxides whose voltages are asked for unless others are named."""


class Voltage(NamedTuple):
    """One row: a voltage, or in words why there is none; never a number from cells that are no minima."""

    metal: str
    voltage: float | None  # V
    status: str  # "converged" (or "not relaxed", if that was asked for), else what went wrong
    energy_lithiated: float | None  # eV per formula unit
    energy_delithiated: float | None  # eV per formula unit
    seconds: float
    grade: float | None = None  # extrapolation grade of the worse of the two relaxed cells, where it was asked for


def average_voltage(
    lithiated: float, delithiated: float, *, n_lithium: int = 1, lithium_energy: float = LITHIUM_BCC
) -> float:
    """V = −[E(lithiated) − E(delithiated) − n_Li E(Li)] / n_Li in volts, for energies in eV of the same host.

    >>> round(average_voltage(-22.0, -16.0), 4)
    4.0911

    Raises:
        ValueError: no lithium is exchanged.
    """
    if n_lithium < 1:
        raise ValueError(f"n_lithium must be the number of lithium atoms taken out, at least 1; got {n_lithium}")
    return -(lithiated - delithiated - n_lithium * lithium_energy) / n_lithium


def voltages(
    model: Model,
    metals: Sequence[str] = METALS,
    *,
    lithium_energy: float = LITHIUM_BCC,
    active: ActiveSet | None = None,
    relaxed: bool = True,
    max_steps: int = 1000,
) -> list[Voltage]:
    """Average voltage of layered LiTMO2 to TMO2 for each metal, positions and cells relaxed with ``model``.

    A cell that did not converge or ran away or is no layered oxide any more, a voltage that no oxide has, and a metal
    that the model does not know give a row without voltage whose ``status`` says so: a potential that extrapolates
    often has a deep minimum where no structure is.

    >>> from jaxmlip.potentials.zbl import ZBLConfig, zbl
    >>> potential = zbl(ZBLConfig(species=("Li", "O", "Co"), cutoff=1.0))
    >>> model = Model(potential, potential.init(None, None))  # no energies at all: V = E(Li)
    >>> rows = voltages(model, metals=("Co", "Ni"), lithium_energy=3.0, relaxed=False)
    >>> [(row.metal, row.voltage, row.status) for row in rows]
    [('Co', 3.0, 'not relaxed'), ('Ni', None, 'the model does not know Ni')]

    Args:
        model: a potential with its parameters.
        metals: symbols.
        lithium_energy: eV per atom of metallic lithium, on the energy scale of the model's training data.
        active: of the model's training data (`jaxmlip.evaluate.grade.active_set`): each row then tells how far its
            relaxed cells lie outside of them.
        relaxed: False takes the energies of the unrelaxed starts, `jaxmlip.cathodes.layered`.
        max_steps: of each relaxation.
    """
    start = time.perf_counter()
    ends = _ends(model, metals, max_steps if relaxed else 0)
    rows = [_row(model, metal, ends.get(metal, []), lithium_energy, relaxed) for metal in metals]
    if active is not None:
        worst = _grades(model, active, ends)
        rows = [row._replace(grade=worst.get(row.metal)) for row in rows]
    seconds = (time.perf_counter() - start) / max(len(rows), 1)  # all cells are relaxed side by side
    return [row._replace(seconds=seconds) for row in rows]


def _ends(model: Model, metals: Sequence[str], max_steps: int) -> dict[str, list[tuple[ase.Atoms, Relaxed]]]:
    """Start and end of the lithiated and the delithiated cell of each metal that the model knows."""
    known = model.potential.config.symbols
    wanted = [metal for metal in dict.fromkeys(metals) if {metal, "Li", "O"} <= set(known)]
    starts = [layered(metal, lithium=lithium) for metal in wanted for lithium in (True, False)]
    found = relax(model, starts, max_steps=max_steps) if max_steps else [_unrelaxed(model, a) for a in starts]
    pairs = list(zip(starts, found, strict=True))
    return {metal: pairs[2 * k : 2 * k + 2] for k, metal in enumerate(wanted)}


def _grades(model: Model, active: ActiveSet, ends: dict[str, list[tuple[ase.Atoms, Relaxed]]]) -> dict[str, float]:
    """Of each metal whose cells are structures still."""
    whole = {metal: [end.atoms for _, end in pair] for metal, pair in ends.items()}
    kept = {metal: cells for metal, cells in whole.items() if all(not end.problem for _, end in ends[metal])}
    if not kept:
        return {}
    found = grades(model, active, [atoms for cells in kept.values() for atoms in cells]).structures
    return {metal: float(max(found[2 * k : 2 * k + 2])) for k, metal in enumerate(kept)}


def _row(
    model: Model, metal: str, ends: list[tuple[ase.Atoms, Relaxed]], lithium_energy: float, relaxed: bool
) -> Voltage:
    missing = [s for s in (metal, "Li", "O") if s not in model.potential.config.symbols]
    problem = f"the model does not know {', '.join(missing)}" if missing else ""
    for start, end in ends:
        trouble = end.problem or _lost_host(start, end.atoms, metal)
        if trouble and not problem:
            problem = f"{start.get_chemical_formula()}: {trouble}"
    voltage = float("nan")
    if not problem:
        voltage = average_voltage(ends[0][1].energy, ends[1][1].energy, lithium_energy=lithium_energy)
        if not PLAUSIBLE[0] <= voltage <= PLAUSIBLE[1]:
            problem = f"{voltage:.1f} V is no voltage of an oxide: the model extrapolates"
    if problem:
        return Voltage(metal, None, problem, None, None, 0.0)
    status = "converged" if relaxed else "not relaxed"
    return Voltage(metal, voltage, status, ends[0][1].energy, ends[1][1].energy, 0.0)


def _lost_host(start: ase.Atoms, end: ase.Atoms, metal: str) -> str:
    """Why the relaxed cell is no layered oxide any more: its metal left the octahedron; or an empty string."""
    bonds = np.sort(_bonds(start, metal, 3.0))[:6]
    n_bonds = len(_bonds(end, metal, _BOND_STRETCH * float(bonds[-1])))
    if n_bonds == len(bonds):
        return ""
    return f"no layered oxide any more, {metal} has {n_bonds} oxygens around it instead of {len(bonds)}"


def _bonds(atoms: ase.Atoms, metal: str, reach: float) -> np.ndarray:
    """Lengths of the metal-oxygen bonds up to ``reach`` in Å."""
    pairs = neighbor_pairs(atoms, reach)
    bond = (atoms.symbols[pairs.centers] == metal) & (atoms.symbols[pairs.neighbors] == "O")
    return pairs.distances[bond]


def _unrelaxed(model: Model, atoms: ase.Atoms) -> Relaxed:
    atoms.calc = calculator(model)
    try:
        return Relaxed(atoms, atoms.get_potential_energy(), False, 0, np.nan, np.nan, "")
    except RuntimeError as error:
        return Relaxed(atoms, np.nan, False, 0, np.nan, np.nan, str(error))
