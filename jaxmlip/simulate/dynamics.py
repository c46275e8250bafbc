"""Molecular dynamics on the device: constant energy, temperature or pressure, with a log, frames and checkpoints."""

import dataclasses
from pathlib import Path
from typing import Any, Literal, NamedTuple

import ase
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxmlip.config import Count, NotNegative, Positive, Settings, Whole
from jaxmlip.potentials.base import cast_params
from jaxmlip.potentials.model import Model
from jaxmlip.simulate.integrators import Bath, State
from jaxmlip.simulate.jaxmd import jaxmd_context, placed, species_of
from jaxmlip.simulate.motion import Program, first_state, program
from jaxmlip.simulate.neighbor_list import Plan, grown, plan
from jaxmlip.simulate.recorder import Recorder, open_folder
from jaxmlip.units import BOLTZMANN, FEMTOSECOND, MEV

_MAX_REALLOCATIONS = 10


@dataclasses.dataclass(frozen=True)
class Dynamics(Settings):
    """What a run is: an ensemble, its constants, and what is written how often."""

    ensemble: Literal["nve", "nvt", "langevin", "npt"] = "nvt"
    """Constant energy; Nosé-Hoover chains; Langevin (BAOAB); Martyna-Tobias-Klein with a fully flexible cell."""
    timestep: Positive = 1.0
    """fs."""
    n_steps: Count = 1000
    """A multiple of log_every."""
    temperature: NotNegative = 300.0
    """K; of the initial velocities, and of the bath."""
    pressure: float = 0.0
    """eV/Å³ (1 GPa is 0.00624), of npt."""
    thermostat_time: Positive = 100.0
    """fs, about the period of the thermostat's oscillation."""
    barostat_time: Positive = 1000.0
    """fs, of the barostat's."""
    friction: Positive = 0.01
    """1/fs, of Langevin dynamics."""
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
    """Of the initial velocities, and of Langevin's noise."""

    def __post_init__(self) -> None:
        """Refuses what has no meaning."""
        super().__post_init__()
        if self.ensemble != "nve" and not self.temperature:
            raise ValueError(f"a bath at 0 K has no dynamics: give {self.ensemble} a temperature, or relax instead")
        multiples = (self.n_steps, self.frame_every, self.checkpoint_every)
        if any(n % self.log_every for n in multiples):
            raise ValueError(
                f"n_steps, frame_every and checkpoint_every must be multiples of log_every "
                f"({self.log_every}), got {multiples}"
            )


class Trajectory(NamedTuple):
    """The log of a run and its frames, the first ones its start; positions are never wrapped into the cell.

    Of a run into a folder the frames are in the file there, and only the last one is here.
    """

    time: Float[np.ndarray, " n_rows"]  # fs
    potential_energy: Float[np.ndarray, " n_rows"]  # eV
    kinetic_energy: Float[np.ndarray, " n_rows"]  # eV
    conserved_energy: Float[np.ndarray, " n_rows"]  # eV
    temperature: Float[np.ndarray, " n_rows"]  # K
    pressure: Float[np.ndarray, " n_rows"]  # eV/Å³
    volume: Float[np.ndarray, " n_rows"]  # Å³
    stress: Float[np.ndarray, "n_rows 3 3"]  # eV/Å³, ASE's sign, with the part of the motion
    frame_time: Float[np.ndarray, " n_frames"]  # fs
    positions: Float[np.ndarray, "n_frames n_atoms 3"]  # Å
    velocities: Float[np.ndarray, "n_frames n_atoms 3"]  # Å/fs
    cells: Float[np.ndarray, "n_frames 3 3"]  # Å
    atoms: ase.Atoms  # the last frame, with momenta in ASE's units

    @property
    def drift(self) -> float:
        """Slope of the conserved energy against time in meV/atom/ps: zero for exact dynamics."""
        slope = np.polyfit(self.time, self.conserved_energy, 1)[0]
        return float(slope * 1000 * MEV / len(self.atoms))


class _Run(NamedTuple):
    """What a run needs beside its state."""

    program: Program
    settings: Dynamics
    bath: Bath
    fixed: tuple  # params, species
    atoms: ase.Atoms
    cutoff: float


def molecular_dynamics(
    model: Model,
    atoms: ase.Atoms,
    settings: Dynamics | None = None,
    *,
    folder: str | Path | None = None,
    **changes: Any,
) -> Trajectory:
    """A run of any length in one call: small cells with their images, large ones with linked cells.

    With a ``folder`` the log (``log.csv``), the frames (``trajectory.extxyz`` or ``.traj``) and a checkpoint are
    written as the run goes; the same call continues a run that was stopped, and gives the same trajectory.

    >>> from ase.build import bulk
    >>> from jaxmlip.potentials.zbl import ZBLConfig, zbl
    >>> potential = zbl(ZBLConfig(species=("Si",), cutoff=2.2))
    >>> model = Model(potential, potential.init(None, None))
    >>> run = molecular_dynamics(model, bulk("Si"), ensemble="nve", n_steps=20, temperature=10.0)
    >>> run.time.tolist(), abs(run.drift) < 0.1
    ([0.0, 10.0, 20.0], True)

    Args:
        model: a potential with its parameters.
        atoms: the start, periodic or not; masses as ASE has them. Not changed.
        settings: what the run is.
        folder: where it is written; None keeps the frames in memory.
        changes: fields of `Dynamics` that differ from ``settings``, as ``temperature=600``.

    Raises:
        ValueError: settings without meaning, an element that the potential does not know, constraints, an npt run of a
            structure that is not periodic, or a folder with another run.
        RuntimeError: the run blew up.
    """
    chosen = dataclasses.replace(settings or Dynamics(), **changes)
    _check(atoms, chosen)
    with jaxmd_context("float64"):
        run = _prepared(model, atoms, chosen)
        recorder = Recorder(atoms, chosen) if folder is None else open_folder(folder, model, atoms, chosen)
        sizes, state, step = _first(run, recorder)
        if not step:
            _record(run, recorder, state, step)
        while step < chosen.n_steps:
            sizes, state = _chunk(run, sizes, state, step)
            step += chosen.log_every
            _record(run, recorder, state, step)
            if step % chosen.checkpoint_every == 0 or step == chosen.n_steps:
                recorder.checkpoint(state, sizes, step)
        last = _frame(run, state)
    return _trajectory(recorder, last, chosen)


def nve(
    model: Model,
    atoms: ase.Atoms,
    *,
    timestep: float = 1.0,
    n_steps: int = 1000,
    temperature: float = 300.0,
    seed: int = 0,
) -> Trajectory:
    """A run at constant energy, cell and number of atoms; every tenth step is kept. See `molecular_dynamics`."""
    settings = Dynamics("nve", timestep=timestep, n_steps=n_steps, temperature=temperature, seed=seed, frame_every=10)
    return molecular_dynamics(model, atoms, settings)


def _check(atoms: ase.Atoms, settings: Dynamics) -> None:
    if atoms.constraints:
        raise ValueError(
            f"{atoms.get_chemical_formula()} has constraints, which dynamics here cannot keep: remove them "
            "(atoms.set_constraint()), or run it with ASE and jaxmlip.calculator"
        )
    if settings.ensemble == "npt" and not atoms.pbc.all():
        raise ValueError(
            f"npt changes the cell, but {atoms.get_chemical_formula()} is periodic along {atoms.pbc.tolist()} only: "
            "take nvt, or set atoms.pbc = True"
        )


def _prepared(model: Model, atoms: ase.Atoms, settings: Dynamics) -> _Run:
    n_dof = 3 * len(atoms) - (3 if settings.ensemble != "langevin" and len(atoms) > 1 else 0)
    numbers = (
        settings.timestep * FEMTOSECOND,
        settings.temperature * BOLTZMANN,
        settings.pressure,
        settings.thermostat_time * FEMTOSECOND,
        settings.barostat_time * FEMTOSECOND,
        settings.friction / FEMTOSECOND,
        float(n_dof),
    )
    compiled = program(model.potential, settings.ensemble, settings.precision)
    fixed = (cast_params(model.params, settings.precision), species_of(model.potential, atoms))
    bath = Bath._make(jnp.asarray(x, float) for x in (*numbers, 6.0))
    return _Run(compiled, settings, bath, fixed, atoms, model.potential.config.cutoff)


def _first(run: _Run, recorder: Recorder) -> tuple[Plan, State, int]:
    """Where the run starts, or where it was stopped."""
    state = first_state(run.atoms, _velocities(run), run.settings.seed)
    found = recorder.restore(state)
    if found is None:
        sizes = plan(run.atoms, run.cutoff, run.settings.skin)
        return sizes, run.program.start(sizes, state, *run.fixed), 0
    state, sizes, step, (position, box) = found
    # The list as it was: built where it was built then.
    there = run.program.start(sizes, state._replace(position=position, box=box), *run.fixed)
    return sizes, state._replace(neighbors=there.neighbors), step


def _velocities(run: _Run) -> np.ndarray:
    """Drawn at random, the centre of mass at rest, of exactly the temperature; or the structure's. In ASE's units."""
    masses = run.atoms.get_masses()[:, None]
    if run.settings.keep_velocities:
        return run.atoms.get_velocities()
    rng = np.random.default_rng(run.settings.seed)
    velocities = rng.standard_normal((len(masses), 3)) / np.sqrt(masses)
    if len(masses) > 1:
        velocities -= (masses * velocities).sum(axis=0) / masses.sum()
    n_dof = max(1, 3 * len(masses) - 3 * (len(masses) > 1))
    return velocities * np.sqrt(n_dof * run.settings.temperature * BOLTZMANN / (masses * velocities**2).sum())


def _chunk(run: _Run, sizes: Plan, state: State, step: int) -> tuple[Plan, State]:
    """``log_every`` steps; with a neighbour list without room they are thrown away and repeated with a larger one."""
    n_steps, overflow, lost = jnp.asarray(run.settings.log_every), True, False
    for _ in range(_MAX_REALLOCATIONS):
        new = run.program.advance(sizes, n_steps, state, run.bath, run.fixed)
        overflow, lost = np.asarray(new.failed)
        if not overflow:
            break
        sizes = grown(sizes, plan(_frame(run, state), run.cutoff, run.settings.skin))
        state = run.program.start(sizes, state._replace(failed=jnp.zeros(2, bool)), *run.fixed)
    if overflow or lost:
        raise RuntimeError(
            f"the run of {run.atoms.get_chemical_formula()} blew up after {step} steps: positions are not finite, or "
            "an atom moved by more than 0.5 Å in one step. Take a shorter timestep or a lower temperature, relax the "
            "start first (jaxmlip.simulate.relax), or check the potential's errors on such structures"
        )
    return sizes, new


def _record(run: _Run, recorder: Recorder, state: State, step: int) -> None:
    row = jax.device_get(run.program.row(state, run.bath))
    recorder.row(step, row)
    if step % run.settings.frame_every == 0:
        recorder.frame(step, _frame(run, state), row)


def _frame(run: _Run, state: State) -> ase.Atoms:
    atoms = placed(run.atoms, state.position, state.box)
    atoms.set_momenta(np.asarray(state.momentum))
    return atoms


def _trajectory(recorder: Recorder, last: ase.Atoms, settings: Dynamics) -> Trajectory:
    log = recorder.log()
    steps, frames = recorder.frames if recorder.frames[0] else ([settings.n_steps], [last])
    return Trajectory(
        **log,
        frame_time=np.array(steps) * settings.timestep,
        positions=np.stack([frame.positions for frame in frames]),
        velocities=np.stack([frame.get_velocities() for frame in frames]) * FEMTOSECOND,
        cells=np.stack([frame.cell.array for frame in frames]),
        atoms=last,
    )
