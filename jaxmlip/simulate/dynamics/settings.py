"""What a run is: an ensemble, its constants, and the functions that a user brings."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Literal

import ase

from jaxmlip.config import Count, NotNegative, Positive, Settings, Whole
from jaxmlip.units import GPA

_LARGEST_PRESSURE = 5.0  # eV/Å³, 800 GPa: more was meant as GPa


@dataclasses.dataclass(frozen=True)
class Dynamics(Settings):
    """What a run is: an ensemble, its constants, and what is written how often."""

    ensemble: Literal["nve", "nvt", "langevin", "csvr", "brownian", "npt", "npt-isotropic"] = "nvt"
    """Constant energy; Nosé-Hoover chains; Langevin; velocities rescaled at random (CSVR); Brownian motion without
    momenta; Martyna-Tobias-Klein with a fully flexible cell, or with one that keeps its shape. All but the flexible
    cell are jax-md's; its isotropic barostat evaluates the potential twice a step."""
    timestep: Positive = 1.0
    """fs."""
    n_steps: Count = 1000
    """A multiple of log_every."""
    temperature: NotNegative = 300.0
    """K; of the initial velocities, and of the bath."""
    final_temperature: NotNegative | None = None
    """K; the bath's temperature goes there evenly from ``temperature`` in the course of the run."""
    pressure: float = 0.0
    """eV/Å³ (1 GPa is 0.00624), of npt and npt-isotropic."""
    thermostat_time: Positive = 100.0
    """fs, about the period of the thermostat's oscillation."""
    barostat_time: Positive = 1000.0
    """fs, of the barostat's."""
    friction: Positive = 0.01
    """1/fs, of Langevin and Brownian dynamics."""
    keep_velocities: bool = False
    """Start with the velocities that the structure has, instead of drawing new ones."""
    log_every: Count = 10
    """Steps from one row of the log to the next."""
    frame_every: Count = 100
    """Steps from one kept frame to the next, a multiple of log_every."""
    checkpoint_every: Count = 1000
    """Steps, a multiple of log_every; needs a folder."""
    trajectory: Literal["extxyz", "traj"] = "extxyz"
    """How frames are written into the folder: extended XYZ, or ASE's binary format."""
    precision: Literal["float64", "float32"] = "float64"
    """Of the potential; the motion is always in float64."""
    skin: Positive = 1.0
    """Å beyond the cutoff that neighbour lists reach; a larger one is rebuilt less often."""
    seed: Whole = 0
    """Of the initial velocities and of what a bath does at random."""

    def __post_init__(self) -> None:
        """Refuses what has no meaning."""
        super().__post_init__()
        if self.ensemble != "nve" and not self.temperature:
            raise ValueError(f"a bath at 0 K has no dynamics: give {self.ensemble} a temperature, or relax instead")
        if abs(self.pressure) > _LARGEST_PRESSURE:
            raise ValueError(
                f"a pressure of {self.pressure} eV/Å³ is {self.pressure * GPA:.0f} GPa: give it in eV/Å³ (1 GPa is "
                f"{1 / GPA:.5f} eV/Å³, jaxmlip.units.GPA GPa are one)"
            )
        multiples = (self.n_steps, self.frame_every, self.checkpoint_every)
        if any(n % self.log_every for n in multiples):
            raise ValueError(
                "n_steps, frame_every and checkpoint_every must be multiples of log_every "
                f"({self.log_every}), got {multiples}"
            )


@dataclasses.dataclass(frozen=True)
class Hooks:
    """Functions that a run takes beside its settings."""

    simulator: Callable | None = None
    """``simulator(energy_fn, shift_fn, dt, …) -> (init, apply)``, as all of `jax_md.simulate` are; it replaces the
    ensemble. Time is measured in steps (dt is 1), energy in eV; a parameter kT or pressure is given where it has no
    default."""
    bias: Callable | None = None
    """``bias(positions, cell)``: eV added to the energy, of Cartesian positions that are never wrapped."""
    observables: Mapping[str, Callable[[ase.Atoms], float]] = dataclasses.field(default_factory=dict)
    """Numbers of a structure that are logged beside the rest."""
    temperature: Callable[[float], float] | None = None
    """K of the bath at a time in fs."""
    pressure: Callable[[float], float] | None = None
    """eV/Å³ at a time in fs."""
