"""Relaxation of positions and cells to a minimum of the enthalpy, many structures side by side, on the device.

References:
    Liu and Nocedal, Math. Program. 45, 503 (1989): L-BFGS.
    Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006): FIRE.
    Gubler et al., J. Chem. Phys. X 17, 100131 (2023): positions and cell relaxed together, on one scale.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, overload

import ase
import jax
import numpy as np
from ase.data import covalent_radii

from jaxmlip.config import Count, Positive, Settings
from jaxmlip.data.structures import frames_of, is_structure
from jaxmlip.graph.neighbors import neighbor_pairs
from jaxmlip.potentials.model import Model, as_model
from jaxmlip.simulate.deformation import Freedom
from jaxmlip.simulate.jaxmd import species_of
from jaxmlip.simulate.minimization import VOLUME_FACTOR, Ended, How, Limits, minimize

_OVERLAP = 0.5  # of the sum of covalent radii


@dataclasses.dataclass(frozen=True)
class Relaxation(Settings):
    """What is relaxed, how, and when it is done."""

    method: Literal["lbfgs", "fire"] = "lbfgs"
    """L-BFGS with backtracking, or FIRE: slower, and robust on rough ground."""
    positions: bool = True
    """False moves atoms with the cell only."""
    cell: bool = True
    """Relax the cell too; needs three periodic directions."""
    fixed_volume: bool = False
    """Relax the shape of the cell only."""
    fixed_symmetry: bool = False
    """Keep the space group that the start has (within 1e-3 Å)."""
    pressure: float = 0.0
    """eV/Å³ (1 GPa is 0.00624); of the surroundings, positive compresses."""
    fmax: Positive = 0.01
    """eV/Å, the largest norm of a force."""
    smax: Positive | None = 3e-4
    """eV/Å³, the largest component of the stress; None: as ASE, rows of V σ / N no longer than ``fmax``."""
    max_steps: Count = 1000
    """An answer that needs more is reported as not converged."""

    def __post_init__(self) -> None:
        """Refuses what has no meaning."""
        super().__post_init__()
        if not (self.positions or self.cell):
            raise ValueError("nothing to relax: positions and cell are both False")
        if (self.pressure or self.fixed_volume) and not self.cell:
            raise ValueError("a pressure and a fixed volume need a cell that relaxes: set cell=True")
        if self.pressure and self.fixed_volume:
            raise ValueError("a pressure changes the volume: give either pressure or fixed_volume")


class Relaxed(NamedTuple):
    """Where a relaxation ended. Only ``converged`` tells that ``energy`` belongs to a minimum."""

    atoms: ase.Atoms
    energy: float  # eV, without P V; NaN when the relaxation ran away
    converged: bool
    n_steps: int
    max_force: float  # eV/Å, largest norm
    max_stress: float  # eV/Å³, largest component of σ + P (of its shear, with a fixed volume); 0 with a fixed cell
    problem: str  # why it did not converge, else empty


@overload
def relax(model: Any, atoms: ase.Atoms, settings: Relaxation = ..., **changes: Any) -> Relaxed: ...
@overload
def relax(model: Any, atoms: Sequence[Any], settings: Relaxation = ..., **changes: Any) -> list[Relaxed]: ...
def relax(
    model: Model | str | Path, atoms: Any, settings: Relaxation | None = None, **changes: Any
) -> Relaxed | list[Relaxed]:
    """The nearest minimum of the enthalpy E + P V of one or of many structures, in float64.

    Many structures are relaxed side by side in one compiled program, those of like size together: hundreds of small
    cells take little more time than a few. ``atoms`` is not changed; of its constraints `ase.constraints.FixAtoms` is
    kept (with a cell that relaxes, such an atom keeps its fractional position).

    >>> from ase.build import bulk
    >>> from jaxmlip.potentials.zbl import ZBLConfig, zbl
    >>> potential = zbl(ZBLConfig(species=("Si",), cutoff=2.2))  # diamond, 2.35 Å: beyond the repulsion
    >>> relaxed = relax(Model(potential, potential.init(None, None)), bulk("Si"))
    >>> relaxed.converged, relaxed.n_steps, relaxed.energy
    (True, 0, 0.0)

    Args:
        model: a potential with its parameters, or its file.
        atoms: one structure, or several, of ASE or pymatgen.
        settings: what is relaxed and when it is done.
        changes: fields of `Relaxation` that differ from ``settings``, as ``cell=False``.

    Raises:
        ValueError: an element that the potential does not know, a cell to relax that is not periodic, settings
            without meaning, or a constraint that cannot be kept.
    """
    chosen = dataclasses.replace(settings or Relaxation(), **changes)
    model, frames, single = as_model(model), frames_of(atoms), is_structure(atoms)
    for frame in frames:
        _check(model, frame, chosen)
    limits = Limits(chosen.fmax, chosen.smax, chosen.max_steps, chosen.pressure)
    how = How(chosen.method, Freedom(chosen.positions, chosen.cell, chosen.fixed_volume), chosen.fixed_symmetry)
    with jax.enable_x64(True):
        ends = minimize(model, frames, limits, how) if frames else []
    results = [_judged(frame, end, limits) for frame, end in zip(frames, ends, strict=True)]
    return results[0] if single else results


def _check(model: Model, atoms: ase.Atoms, settings: Relaxation) -> None:
    if settings.cell and not atoms.pbc.all():
        raise ValueError(
            f"the cell of {atoms.get_chemical_formula()} is periodic along {atoms.pbc.tolist()} only: relax positions "
            "with cell=False, or set atoms.pbc = True"
        )
    species_of(model.potential, atoms)  # an unknown element is the caller's mistake, not a relaxation that failed


def _judged(start: ase.Atoms, end: Ended, limits: Limits) -> Relaxed:
    """Judges where the run ended; a number is returned only where it means something."""
    values = (end.n_steps, end.max_force, end.max_stress)
    runaway = end.problem or _runaway(start, end.atoms, end.energy)
    if runaway:
        return Relaxed(end.atoms, float("nan"), False, *values, f"ran away: {runaway}")
    if end.converged:
        return Relaxed(end.atoms, end.energy, True, *values, "")
    problem = f"not converged in {end.n_steps} steps: largest force {end.max_force:.3g} eV/Å, largest stress "
    return Relaxed(end.atoms, end.energy, False, *values, problem + f"{end.max_stress:.3g} eV/Å³")


def _runaway(start: ase.Atoms, atoms: ase.Atoms, energy: float) -> str:
    """Why the final structure is none, or an empty string."""
    if not np.isfinite(energy):
        return "the energy or a force is not a finite number"
    volume = abs(np.linalg.det(start.cell.complete().array))
    ratio = abs(np.linalg.det(atoms.cell.complete().array)) / volume
    if not 1 / VOLUME_FACTOR < ratio < VOLUME_FACTOR:
        return f"the volume became {ratio:.2g} times the initial one"
    try:
        pairs = neighbor_pairs(atoms, 2 * float(covalent_radii[atoms.numbers].max()) * _OVERLAP)
    except ValueError as error:
        return str(error)
    radii = covalent_radii[atoms.numbers]
    near = pairs.distances < _OVERLAP * (radii[pairs.centers] + radii[pairs.neighbors])
    if near.any():
        k = int(np.argmax(near))
        return f"atoms {pairs.centers[k]} and {pairs.neighbors[k]} came as near as {pairs.distances[k]:.2f} Å"
    return ""
