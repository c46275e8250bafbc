"""Molecular dynamics on the device: constant energy, temperature or pressure, with a log, frames and checkpoints."""

import dataclasses
import time
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any, overload

import ase
import jax
import jax.numpy as jnp
import numpy as np

from jaxmlip.potentials.model import Model
from jaxmlip.progress import Report, live
from jaxmlip.simulate.dynamics.motion import Moment, box_of, positions_of
from jaxmlip.simulate.dynamics.recorder import Recorder, Trajectory, open_folder
from jaxmlip.simulate.dynamics.settings import Dynamics, Hooks
from jaxmlip.simulate.dynamics.start import Run, bath_at, both, check, each, first_moment, frames_of, prepared
from jaxmlip.simulate.jaxmd import jaxmd_context
from jaxmlip.simulate.neighbor_list import Plan, grown, plan
from jaxmlip.units import GPA

_MAX_REALLOCATIONS = 3  # in one chunk of steps
_VOLUME_FACTOR = 4.0  # a cell that swells or shrinks by more is no dynamics any more


@overload
def molecular_dynamics(
    model: Model, atoms: ase.Atoms, settings: Dynamics | None = ..., *, folder: str | Path | None = ...,
    show_progress: bool | Report = ..., **changes: Any,
) -> Trajectory: ...  # fmt: skip
@overload
def molecular_dynamics(
    model: Model, atoms: Sequence[ase.Atoms], settings: Dynamics | None = ..., *, folder: str | Path | None = ...,
    show_progress: bool | Report = ..., **changes: Any,
) -> list[Trajectory]: ...  # fmt: skip
def molecular_dynamics(
    model: Model,
    atoms: ase.Atoms | Sequence[ase.Atoms],
    settings: Dynamics | None = None,
    *,
    folder: str | Path | None = None,
    show_progress: bool | Report = False,
    **changes: Any,
) -> Trajectory | list[Trajectory]:
    """A run of any length in one call: small cells with their images, large ones with linked cells.

    With a ``folder`` the log (``log.csv``), the frames (``trajectory.extxyz`` or ``.traj``) and a checkpoint are
    written as the run goes; the same call continues a run that was stopped, and gives the same trajectory. Of several
    structures those with equal numbers of atoms move side by side in one program, each with its own random numbers
    (and a folder 000, 001, … of its own). An interrupt (Ctrl-C) ends the run; what was run is returned.

    >>> from ase.build import bulk
    >>> from jaxmlip.potentials.zbl import ZBLConfig, zbl
    >>> potential = zbl(ZBLConfig(species=("Si",), cutoff=2.2))
    >>> model = Model(potential, potential.init(None, None))
    >>> run = molecular_dynamics(model, bulk("Si"), ensemble="nve", n_steps=20, temperature=10.0)
    >>> run.time.tolist(), abs(run.drift) < 0.1
    ([0.0, 10.0, 20.0], True)

    Args:
        model: a potential with its parameters.
        atoms: the start, periodic or not; masses as ASE has them. Atoms of `ase.constraints.FixAtoms` do not move.
            Not changed.
        settings: what the run is.
        folder: where it is written; None keeps the frames in memory.
        show_progress: a bar with the speed and the time left; a function gets these numbers instead.
        changes: fields of `Dynamics` that differ from ``settings``, as ``temperature=600``; and of `Hooks`, as
            ``temperature=lambda t: 300 + t / 10`` or ``bias=…``.

    Raises:
        ValueError: settings without meaning, an element that the potential does not know, a constraint that cannot be
            kept, an npt run of a structure that is not periodic, or a folder with another run.
        RuntimeError: the run blew up.
    """
    hooks, chosen = _split(settings or Dynamics(), changes)
    single = isinstance(atoms, ase.Atoms)
    frames: list[ase.Atoms] = [atoms] if single else list(atoms)  # type: ignore[list-item]
    for frame in frames:
        check(frame, chosen)
    runs: dict[int, Trajectory] = {}
    for n_atoms in dict.fromkeys(map(len, frames)):
        members = [k for k, frame in enumerate(frames) if len(frame) == n_atoms]
        with jaxmd_context("float64"):
            run = prepared(model, [frames[k] for k in members], chosen, hooks, many=not single)
            recorders = [_recorder(model, run, k, _folder(folder, member, single)) for k, member in enumerate(members)]
            ends = _run(run, recorders, show_progress)
        runs.update(zip(members, ends, strict=True))
    return runs[0] if single else [runs[k] for k in range(len(frames))]


def nve(
    model: Model,
    atoms: ase.Atoms,
    *,
    timestep: float = 1.0,
    n_steps: int = 1000,
    temperature: float = 300.0,
    seed: int = 0,
) -> Trajectory:
    """A run at constant energy, cell and number of atoms; every tenth step is kept. See `molecular_dynamics`.

    Not run here, it takes some seconds:

    >>> run = nve(model, bulk("Mo", cubic=True) * (3, 3, 3), timestep=2.0, temperature=300.0)  # doctest: +SKIP
    """
    settings = Dynamics("nve", timestep=timestep, n_steps=n_steps, temperature=temperature, seed=seed, frame_every=10)
    return molecular_dynamics(model, atoms, settings)


def _split(settings: Dynamics, changes: dict[str, Any]) -> tuple[Hooks, Dynamics]:
    """Functions from numbers; where the temperature is a function, velocities begin at its first value."""
    names = {field.name for field in dataclasses.fields(Hooks)}
    functions: dict[str, Any] = {
        k: v for k, v in changes.items() if k in names and (callable(v) or not isinstance(v, float | int))
    }
    numbers = {k: v for k, v in changes.items() if k not in functions}
    numbers |= {k: float(functions[k](0.0)) for k in ("temperature", "pressure") if k in functions}
    return Hooks(**functions), dataclasses.replace(settings, **numbers)


def _folder(folder: str | Path | None, member: int, single: bool) -> Path | None:
    if folder is None or single:
        return None if folder is None else Path(folder)
    Path(folder).mkdir(exist_ok=True)
    return Path(folder) / f"{member:03d}"


def _recorder(model: Model, run: Run, k: int, folder: Path | None) -> Recorder:
    if folder is None:
        return Recorder(run.settings, run.hooks)
    return open_folder(folder, model, run.frames[k], run.settings, run.hooks)


def _run(run: Run, recorders: list[Recorder], show_progress: bool | Report) -> list[Trajectory]:
    settings = run.settings
    sizes, moment, step = first_moment(run, recorders)
    if not step:
        _record(run, recorders, moment, step)
    began, first = time.perf_counter(), step
    with live("dynamics", settings.n_steps, show=show_progress) as shown:
        try:
            while step < settings.n_steps:
                sizes, moment = _chunk(run, sizes, moment, step)
                step += settings.log_every
                _record(run, recorders, moment, step)
                if step % settings.checkpoint_every == 0 or step == settings.n_steps:
                    _checkpoint(run, recorders, moment, sizes, step)
                shown(_speed(run, step, step - first, time.perf_counter() - began))
        except KeyboardInterrupt:
            _record(run, recorders, moment, step)
            _checkpoint(run, recorders, moment, sizes, step)
    frames = frames_of(run, moment)
    return [recorder.trajectory(frame) for recorder, frame in zip(recorders, frames, strict=True)]


def _speed(run: Run, step: int, done: int, seconds: float) -> dict[str, Any]:
    """What a bar shows, or a function gets."""
    rate = done / max(seconds, 1e-9)
    nanoseconds = rate * run.settings.timestep * 1e-6 * 86400
    atoms = rate * len(run.frames) * len(run.frames[0])
    text = f"{nanoseconds:.3g} ns/day, {atoms:.3g} atom steps/s"
    left = (run.settings.n_steps - step) / max(rate, 1e-9)
    row = {"epoch": step, "text": text, "step": step, "ns_per_day": nanoseconds}
    return row | {"atom_steps_per_s": atoms, "seconds_left": left}


def _chunk(run: Run, sizes: Plan, moment: Moment, step: int) -> tuple[Plan, Moment]:
    """``log_every`` steps; with a neighbour list that did not hold they are thrown away and repeated with a larger."""
    n_steps = run.settings.log_every
    baths = (bath_at(run, step), bath_at(run, step + n_steps))
    for _ in range(_MAX_REALLOCATIONS + 1):
        new = run.program.advance(jnp.asarray(n_steps), moment, baths, run.world)
        full, late, lost = (bool(x.any()) for x in np.asarray(new.failed).reshape(-1, 3).T)
        if not (full or late or lost):
            return sizes, new
        if not (full or late):
            break
        sizes = _larger(run, sizes, moment) if full else sizes
        sizes = _more_patient(run, sizes, moment) if late else sizes
        place = jax.vmap(positions_of)(moment.state) if run.many else positions_of(moment.state)
        box = jax.vmap(box_of)(moment) if run.many else box_of(moment)
        moment = run.program.relist(sizes, moment._replace(failed=jnp.zeros_like(moment.failed)), place, box)
    what = "positions are not finite, or an atom moved by more than 0.5 Å in one step"
    raise RuntimeError(_blown_up(run, step, what))


def _larger(run: Run, sizes: Plan, moment: Moment) -> Plan:
    needed = reduce(both, [plan(frame, run.cutoff, sizes.skin) for frame in frames_of(run, moment)])
    return grown(sizes, needed)._replace(margin=sizes.margin)


def _more_patient(run: Run, sizes: Plan, moment: Moment) -> Plan:
    """More reserve for the motion in a step: half of the skin, then a larger skin."""
    if sizes.margin < sizes.skin / 2:
        return sizes._replace(margin=sizes.skin / 2)
    wider = sizes._replace(skin=2 * sizes.skin)
    return _larger(run, wider, moment)._replace(margin=sizes.skin)


def _blown_up(run: Run, step: int, what: str) -> str:
    return (
        f"the run of {run.frames[0].get_chemical_formula()} blew up after {step} steps: {what}. Take a shorter "
        "timestep or a lower temperature, relax the start first (jaxmlip.simulate.relax), or check the potential's "
        f"errors on such structures; a pressure is meant in eV/Å³ (1 GPa is {1 / GPA:.5f})"
    )


def _record(run: Run, recorders: list[Recorder], moment: Moment, step: int) -> None:
    rows = each(run, run.program.row(moment, bath_at(run, step), run.world))
    frames = frames_of(run, moment) if step % run.settings.frame_every == 0 or run.hooks.observables else None
    for k, (recorder, row) in enumerate(zip(recorders, rows, strict=True)):
        ratio = row.volume / abs(np.linalg.det(run.frames[k].cell.complete().array))
        if not 1 / _VOLUME_FACTOR < ratio < _VOLUME_FACTOR:
            raise RuntimeError(_blown_up(run, step, f"the volume became {ratio:.2g} times the initial one"))
        recorder.row(step, row, None if frames is None else frames[k])


def _checkpoint(run: Run, recorders: list[Recorder], moment: Moment, sizes: Plan, step: int) -> None:
    for recorder, one in zip(recorders, each(run, moment), strict=True):
        recorder.checkpoint(one, sizes, step)
