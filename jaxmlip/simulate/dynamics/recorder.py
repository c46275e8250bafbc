"""What a run leaves: rows of a log, frames, and checkpoints from which it continues."""

import csv
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import ase
import ase.io
import jax
import jax.numpy as jnp
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.trajectory import Trajectory as AseTrajectory
from jaxtyping import Float

from jaxmlip.data.labels import FROM_VOIGT, VOIGT
from jaxmlip.files import atomic_path
from jaxmlip.potentials.model import Model
from jaxmlip.simulate.dynamics.motion import Moment, Row
from jaxmlip.simulate.neighbor_list import Plan
from jaxmlip.units import BOLTZMANN, FEMTOSECOND, GPA, MEV

_COLUMNS = ("step", "time_fs", "temperature_K", "potential_eV", "kinetic_eV", "conserved_eV", "pressure_GPa")
_COLUMNS += ("volume_A3", *(f"stress_{a}{b}_GPa" for a, b in ("xx", "yy", "zz", "yz", "xz", "xy")))


class Trajectory(NamedTuple):
    """The log of a run and its frames, the first ones its start; positions are never wrapped into the cell.

    Of a run into a folder the arrays of frames have the last one only; ``frames`` reads the file there.
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
    observables: dict[str, np.ndarray]  # what the caller's functions gave, row by row
    file: Path | None = None  # of the frames of a run into a folder

    @property
    def drift(self) -> float:
        """Slope of the conserved energy against time in meV/atom/ps: zero for exact dynamics."""
        if len(self.time) < 2:
            return 0.0
        slope = np.polyfit(self.time, self.conserved_energy, 1)[0]
        return float(slope * 1000 * MEV / len(self.atoms))

    @property
    def frames(self) -> list[ase.Atoms]:
        """All frames with momenta."""
        if self.file is not None:
            return ase.io.read(self.file, index=":")  # pyright: ignore[reportReturnType]
        frames = []
        for positions, velocities, cell in zip(self.positions, self.velocities, self.cells, strict=True):
            frame = self.atoms.copy()
            frame.set_cell(cell)
            frame.set_positions(positions, apply_constraint=False)
            frame.set_velocities(velocities / FEMTOSECOND)
            frames.append(frame)
        return frames

    def __repr__(self) -> str:
        """What the run was, in a line."""
        what = f"{self.atoms.get_chemical_formula()}, {len(self.atoms)} atoms, {self.time[-1]:g} fs"
        last = f"{self.temperature[-1]:.0f} K, {self.potential_energy[-1]:.6g} eV, {self.pressure[-1] * GPA:.3g} GPa"
        return f"Trajectory({what}, {len(self.time)} rows, {len(self.positions)} frames; at the end {last})"


class Restored(NamedTuple):
    """Where a run was stopped."""

    moment: Moment
    """Without its neighbour list."""
    sizes: Plan
    step: int
    listed: Float[jax.Array, "n_atoms 3"]
    """Positions at which the list was built."""
    box: Float[jax.Array, "3 3"]
    """The cell at which it was."""


class Recorder:
    """Keeps rows and frames in memory."""

    file: Path | None = None

    def __init__(self, settings: Any, hooks: Any) -> None:
        self.settings, self.observables = settings, dict(hooks.observables)
        self.rows: list[tuple[float, ...]] = []
        self.kept: tuple[list[int], list[ase.Atoms]] = ([], [])

    def row(self, step: int, row: Row, atoms: ase.Atoms | None) -> None:
        """One row of the log, GPa in it; and the frame, where one is due."""
        if self.rows and self.rows[-1][0] >= step:
            return
        numbers = (row.temperature / BOLTZMANN, row.potential, row.kinetic, row.conserved, row.pressure * GPA)
        stress = np.asarray(row.stress)[VOIGT] * GPA
        seen = [float(function(atoms)) for function in self.observables.values()]  # type: ignore[arg-type]
        self.rows.append(
            (step, step * self.settings.timestep, *map(float, numbers), float(row.volume), *map(float, stress), *seen)
        )
        self._write()
        if step % self.settings.frame_every == 0 and atoms is not None:
            self._frame(step, atoms, row)

    def _write(self) -> None:
        """Nothing: this run is in memory only."""

    def _frame(self, step: int, atoms: ase.Atoms, row: Row) -> None:
        self.kept[0].append(step)
        self.kept[1].append(atoms)

    def restore(self, moment: Moment) -> Restored | None:
        """Where a run was stopped; None at its start."""
        return None

    def checkpoint(self, moment: Moment, sizes: Plan, step: int) -> None:
        """Nothing: this run is in memory only."""

    @property
    def columns(self) -> list[str]:
        """Names of the numbers of a row."""
        return [*_COLUMNS, *self.observables]

    def trajectory(self, last: ase.Atoms) -> Trajectory:
        """The rows as arrays in eV and Å, and the frames; ``last`` is where the run ended."""
        table = dict(zip(self.columns, np.array(self.rows).T, strict=True))
        voigt = np.stack([table[name] for name in _COLUMNS[8:]], axis=1) / GPA
        steps, frames = self.kept if self.kept[0] else ([int(self.rows[-1][0])], [last])
        return Trajectory(
            time=table["time_fs"],
            potential_energy=table["potential_eV"],
            kinetic_energy=table["kinetic_eV"],
            conserved_energy=table["conserved_eV"],
            temperature=table["temperature_K"],
            pressure=table["pressure_GPa"] / GPA,
            volume=table["volume_A3"],
            stress=voigt[:, FROM_VOIGT],
            frame_time=np.array(steps) * self.settings.timestep,
            positions=np.stack([frame.positions for frame in frames]),
            velocities=np.stack([frame.get_velocities() for frame in frames]) * FEMTOSECOND,
            cells=np.stack([frame.cell.array for frame in frames]),
            atoms=last,
            observables={name: table[name] for name in self.observables},
            file=self.file,
        )


class _FolderRecorder(Recorder):
    """Writes rows and frames as they come."""

    def __init__(self, folder: Path, key: str, settings: Any, hooks: Any) -> None:
        super().__init__(settings, hooks)
        self.folder, self.key = folder, key
        self.path = self.file = self.folder / f"trajectory.{settings.trajectory}"

    def _write(self) -> None:
        self.folder.mkdir(exist_ok=True)
        with (self.folder / "log.csv").open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if len(self.rows) == 1:
                writer.writerow(self.columns)
            writer.writerow([repr(x) for x in self.rows[-1]])

    def _frame(self, step: int, atoms: ase.Atoms, row: Row) -> None:
        atoms.info["step"], atoms.info["time_fs"] = step, step * self.settings.timestep
        atoms.calc = SinglePointCalculator(atoms, energy=float(row.potential))
        _append(self.path, [atoms])

    def checkpoint(self, moment: Moment, sizes: Plan, step: int) -> None:
        """All of the state but the neighbour list, of which it keeps where it was built."""
        facts = {"key": self.key, "step": step, "plan": sizes._asdict()}
        listed = moment.neighbors
        leaves = [np.asarray(x) for x in jax.tree.leaves(moment._replace(neighbors=None))]
        arrays = {f"state_{k}": leaf for k, leaf in enumerate(leaves)}
        with atomic_path(self.folder / "checkpoint.npz") as temporary:
            np.savez(temporary, facts=json.dumps(facts), listed=listed.reference_position, box=listed.box, **arrays)  # pyright: ignore[reportArgumentType]

    def restore(self, moment: Moment) -> Restored | None:
        path = self.folder / "checkpoint.npz"
        if not path.exists():
            for old in (self.folder / "log.csv", self.path):
                old.unlink(missing_ok=True)  # of a run that was stopped before its first checkpoint
            return None
        saved = np.load(path)
        facts = json.loads(str(saved["facts"]))
        if facts["key"] != self.key:
            raise ValueError(
                f"{path} belongs to a run with another model, start or settings: give another folder, or delete it to "
                "start again"
            )
        leaves, tree = jax.tree.flatten(moment._replace(neighbors=None))
        moment = tree.unflatten([jnp.asarray(saved[f"state_{k}"]) for k in range(len(leaves))])
        sizes: Any = {name: tuple(x) if isinstance(x, list) else x for name, x in facts["plan"].items()}
        self._rewind(facts["step"])
        return Restored(moment, Plan(**sizes), facts["step"], jnp.asarray(saved["listed"]), jnp.asarray(saved["box"]))

    def _rewind(self, step: int) -> None:
        """Take away what was written after the checkpoint."""
        with (self.folder / "log.csv").open(newline="", encoding="utf-8") as file:
            rows = [(int(row[0]), *map(float, row[1:])) for row in list(csv.reader(file))[1:]]
        self.rows = [row for row in rows if row[0] <= step]
        with atomic_path(self.folder / "log.csv") as temporary, temporary.open("w", newline="") as file:
            csv.writer(file).writerows([self.columns, *([repr(x) for x in row] for row in self.rows)])
        n_frames = step // self.settings.frame_every + 1
        frames: Any = ase.io.read(self.path, index=f":{n_frames}")
        with atomic_path(self.path) as temporary:
            temporary.unlink()
            _append(temporary, frames)


def _append(path: Path, frames: list[ase.Atoms]) -> None:
    if path.suffix == ".traj":
        with AseTrajectory(path, "a") as file:  # pyright: ignore[reportGeneralTypeIssues]
            for frame in frames:
                file.write(frame)  # pyright: ignore[reportAttributeAccessIssue]
    else:
        ase.io.write(path, frames, append=True)


def open_folder(folder: Path, model: Model, atoms: ase.Atoms, settings: Any, hooks: Any) -> Recorder:
    """A recorder for a run in ``folder``, which its first row makes: a run that is refused leaves none."""
    if not folder.is_dir() and not folder.parent.is_dir():
        raise FileNotFoundError(f"cannot write {folder}: its folder {folder.parent} does not exist; create it first")
    return _FolderRecorder(folder, _key(model, atoms, settings, hooks), settings, hooks)


def _key(model: Model, atoms: ase.Atoms, settings: Any, hooks: Any) -> str:
    """A hash of what a run's numbers depend on; how long it is does not count."""
    digest = hashlib.sha256()
    facts = {k: v for k, v in dataclasses.asdict(settings).items() if k not in ("n_steps", "checkpoint_every")}
    functions = [(name, _named(function)) for name, function in vars(hooks).items()]  # their code is not compared
    digest.update(repr((sorted(facts.items()), model.potential.config, functions)).encode())
    arrays = [atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, atoms.get_masses(), atoms.get_momenta()]
    for array in [*arrays, *jax.tree.leaves(model.params)]:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:32]


def _named(function: Any) -> Any:
    """The name of a function, or the names in a dict of them."""
    return sorted(function) if isinstance(function, dict) else getattr(function, "__qualname__", repr(type(function)))
