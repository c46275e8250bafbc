"""Average voltages of disordered cathodes: means over snapshots with their standard errors, not one random cell.

Each snapshot is relaxed with all of its lithium and without any; the voltage is that of `average_voltage`.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import ase
import numpy as np
from jaxtyping import Float

from jaxmlip.cathodes.disorder.relaxed import RelaxedSampling, sample_relaxed
from jaxmlip.cathodes.disorder.sampling import Chains, Sampling, sample
from jaxmlip.cathodes.disorder.sites import Sites, occupied, parse_formula, random_numbers, rocksalt
from jaxmlip.cathodes.voltage import LITHIUM_BCC, PLAUSIBLE, average_voltage
from jaxmlip.config import Count, Positive, Settings
from jaxmlip.potentials.model import Model
from jaxmlip.simulate.relax import relax

_CANDIDATES = 40  # before a snapshot of relaxed chains


@dataclasses.dataclass(frozen=True)
class Cells(Settings):
    """Disordered cells whose voltages are compared."""

    cell: Count = 2
    """Conventional cells of 8 sites along each axis."""
    temperature: Positive = 1300.0
    """Of synthesis, in K."""
    n: Count = 4
    """Cells of each kind."""
    relaxed: bool = False
    """Relaxed energies decide, which takes minutes; those of unrelaxed sites take seconds and exaggerate the order."""


class DisorderedVoltage(NamedTuple):
    """Voltages of the snapshots that have one, and in words why others have none."""

    voltages: Float[np.ndarray, " n"]  # V
    problems: tuple[str, ...]

    @property
    def mean(self) -> float:
        """V; NaN where no snapshot has a voltage."""
        return float(self.voltages.mean()) if len(self.voltages) else float("nan")

    @property
    def error(self) -> float:
        """Standard error in V, of independent snapshots; NaN with fewer than two."""
        n = len(self.voltages)
        return float(self.voltages.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")


def relaxed_lattice(model: Model, formula: str, *, repeat: tuple[int, int, int] = (2, 2, 2), seed: int = 0) -> float:
    """The lattice constant in Å of a random rocksalt, from the volume that a small cell relaxes to.

    Not run here, it takes a minute:

    >>> lattice = relaxed_lattice(model, "LiMnO2")  # doctest: +SKIP

    Raises:
        ValueError: the relaxation ran away: the potential knows no such crystal; give the constant.
    """
    sites = rocksalt(formula, repeat=repeat)
    found = relax(model, occupied(sites, random_numbers(sites, parse_formula(formula), seed)), fmax=0.05, smax=1e-3)
    if not np.isfinite(found.energy):
        raise ValueError(f"a random {formula} {found.problem}: the potential knows no such rocksalt; give its lattice")
    return float((found.atoms.get_volume() / np.prod(repeat)) ** (1 / 3))


def snapshots(
    model: Model,
    sites: Sites,
    formula: str,
    *,
    temperature: float | None,
    n: int = 4,
    settings: Sampling | RelaxedSampling | None = None,
) -> list[ase.Atoms]:
    """Independent structures on ideal sites: ends of chains at a temperature in K, or random ones (None).

    Energies of unrelaxed sites decide, or with `RelaxedSampling` as ``settings`` those of relaxed cells.

    Not run here, it takes a minute:

    >>> frames = snapshots(model, rocksalt("LiMnO2", repeat=(2, 2, 2)), "LiMnO2", temperature=1300.0)  # doctest: +SKIP

    Raises:
        ValueError: what `sample` or `sample_relaxed` refuse.
    """
    amounts = parse_formula(formula)
    starts = np.array([random_numbers(sites, amounts, seed) for seed in range(n)])
    if temperature is not None:
        chains = Chains(starts, [temperature] * n)
        if isinstance(settings, RelaxedSampling):
            starts = sample_relaxed(model, sites, chains, settings=settings).numbers[-1]
        else:
            chosen = settings or Sampling(n_samples=1, equilibration=100)
            starts = sample(model, sites, chains, settings=chosen).numbers[-1]
    return [occupied(sites, one) for one in starts]


def disordered_voltage(
    model: Model, frames: Sequence[ase.Atoms], *, lithium_energy: float = LITHIUM_BCC, max_steps: int = 300
) -> DisorderedVoltage:
    """The average voltage of lithiated ``frames``, each relaxed with and without its lithium, all side by side.

    A snapshot with a relaxation that does not end in a minimum, or a voltage that no oxide has, counts as a problem
    and not in the mean.

    Not run here, it takes a minute:

    >>> disordered_voltage(model, frames).mean  # doctest: +SKIP

    Raises:
        ValueError: a frame without lithium.
    """
    for frame in frames:
        if "Li" not in frame.get_chemical_symbols():
            raise ValueError(f"{frame.get_chemical_formula()} holds no lithium: give lithiated structures")
    empty = [frame[frame.numbers != 3] for frame in frames]
    ends = relax(model, [*frames, *empty], fmax=0.03, smax=5e-4, max_steps=max_steps)  # type: ignore[list-item]
    found, problems = [], []
    for full, bare, frame in zip(ends[: len(frames)], ends[len(frames) :], frames, strict=True):
        if full.problem or bare.problem:
            problems.append(full.problem or bare.problem)
            continue
        n_lithium = int((frame.numbers == 3).sum())
        voltage = average_voltage(full.energy, bare.energy, n_lithium=n_lithium, lithium_energy=lithium_energy)
        if PLAUSIBLE[0] <= voltage <= PLAUSIBLE[1]:
            found.append(voltage)
        else:
            problems.append(f"{voltage:.1f} V is no voltage of an oxide: the model extrapolates")
    return DisorderedVoltage(np.array(found, float), tuple(problems))


def compared_voltages(
    model: Model, formula: str, *, cells: Cells | None = None, lithium_energy: float = LITHIUM_BCC
) -> dict[str, DisorderedVoltage]:
    """Average voltages of a rocksalt with its cations at random and as they are at a temperature.

    Not run here, it takes minutes:

    >>> compared_voltages(model, "LiMnO2", cells=Cells(temperature=1100.0))  # doctest: +SKIP

    Args:
        model: a potential with its parameters.
        formula: such as LiMnO2.
        cells: their size, number and temperature.
        lithium_energy: eV per atom of metallic lithium, on the energy scale of the model's training data.

    Raises:
        ValueError: no such rocksalt, or one without lithium.
    """
    chosen = cells or Cells()
    repeat = (chosen.cell, chosen.cell, chosen.cell)
    sites = rocksalt(formula, repeat=repeat, lattice=relaxed_lattice(model, formula, repeat=repeat))
    settings = RelaxedSampling(n_samples=1, equilibration=_CANDIDATES) if chosen.relaxed else None
    kinds = {"random": None, f"{chosen.temperature:g} K": chosen.temperature}
    frames = {
        name: snapshots(model, sites, formula, temperature=T, n=chosen.n, settings=settings)
        for name, T in kinds.items()
    }
    return {name: disordered_voltage(model, one, lithium_energy=lithium_energy) for name, one in frames.items()}
