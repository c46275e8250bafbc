"""What a run leaves: rows of a log, frames, and checkpoints from which it continues."""

import csv
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import ase
import ase.io
import jax
import jax.numpy as jnp
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.trajectory import Trajectory

from jaxmlip.files import atomic_path
from jaxmlip.potentials.model import Model
from jaxmlip.simulate.integrators import State
from jaxmlip.simulate.motion import Row
from jaxmlip.simulate.neighbor_list import Plan
from jaxmlip.units import BOLTZMANN, GPA

_COLUMNS = ("step", "time_fs", "temperature_K", "potential_eV", "kinetic_eV", "conserved_eV", "pressure_GPa")
_COLUMNS += ("volume_A3", *(f"stress_{a}{b}_GPa" for a, b in ("xx", "yy", "zz", "yz", "xz", "xy")))
_VOIGT = ((0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1))


class Recorder:
    """Keeps rows and frames in memory."""

    def __init__(self, atoms: ase.Atoms, settings: Any) -> None:
        self.atoms, self.settings = atoms, settings
        self.rows: list[tuple[float, ...]] = []
        self.frames: tuple[list[int], list[ase.Atoms]] = ([], [])

    def row(self, step: int, row: Row) -> None:
        """One row of the log, GPa in it."""
        numbers = (row.temperature / BOLTZMANN, row.potential, row.kinetic, row.conserved, row.pressure * GPA)
        stress = np.asarray(row.stress)[_VOIGT] * GPA
        self.rows.append(
            (step, step * self.settings.timestep, *map(float, numbers), float(row.volume), *map(float, stress))
        )

    def frame(self, step: int, atoms: ase.Atoms, row: Row) -> None:
        """One frame with momenta."""
        self.frames[0].append(step)
        self.frames[1].append(atoms)

    def restore(self, state: State) -> tuple | None:
        """State, sizes of the neighbour list, step, and where the list was built; None at the start of a run."""
        return None

    def checkpoint(self, state: State, sizes: Plan, step: int) -> None:
        """Nothing: this run is in memory only."""

    def log(self) -> dict[str, np.ndarray]:
        """The rows as arrays in eV and Å."""
        table = dict(zip(_COLUMNS, np.array(self.rows).T, strict=True))
        voigt = np.stack([table[name] for name in _COLUMNS[8:]], axis=1) / GPA
        return {
            "time": table["time_fs"],
            "potential_energy": table["potential_eV"],
            "kinetic_energy": table["kinetic_eV"],
            "conserved_energy": table["conserved_eV"],
            "temperature": table["temperature_K"],
            "pressure": table["pressure_GPa"] / GPA,
            "volume": table["volume_A3"],
            "stress": voigt[:, [[0, 5, 4], [5, 1, 3], [4, 3, 2]]],
        }


class _FolderRecorder(Recorder):
    """Writes rows and frames as they come."""

    def __init__(self, folder: Path, key: str, atoms: ase.Atoms, settings: Any) -> None:
        super().__init__(atoms, settings)
        self.folder, self.key = folder, key
        self.path = folder / f"trajectory.{settings.trajectory}"

    def row(self, step: int, row: Row) -> None:
        super().row(step, row)
        self.folder.mkdir(exist_ok=True)
        with (self.folder / "log.csv").open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if len(self.rows) == 1:
                writer.writerow(_COLUMNS)
            writer.writerow([repr(x) for x in self.rows[-1]])

    def frame(self, step: int, atoms: ase.Atoms, row: Row) -> None:
        atoms.info["step"], atoms.info["time_fs"] = step, step * self.settings.timestep
        atoms.calc = SinglePointCalculator(atoms, energy=float(row.potential))
        _append(self.path, [atoms])

    def checkpoint(self, state: State, sizes: Plan, step: int) -> None:
        """All of the state but the neighbour list, of which it keeps where it was built."""
        facts = {"key": self.key, "step": step, "plan": sizes._asdict()}
        listed = state.neighbors
        leaves = [np.asarray(x) for x in jax.tree.leaves(state._replace(neighbors=None))]
        arrays = {f"state_{k}": leaf for k, leaf in enumerate(leaves)}
        with atomic_path(self.folder / "checkpoint.npz") as temporary:
            np.savez(temporary, facts=json.dumps(facts), listed=listed.position, box=listed.box, **arrays)  # pyright: ignore[reportArgumentType]

    def restore(self, state: State) -> tuple | None:
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
        leaves, tree = jax.tree.flatten(state._replace(neighbors=None))
        state = tree.unflatten([jnp.asarray(saved[f"state_{k}"]) for k in range(len(leaves))])
        sizes: Any = {name: tuple(x) if isinstance(x, list) else x for name, x in facts["plan"].items()}
        self._rewind(facts["step"])
        return state, Plan(**sizes), facts["step"], (jnp.asarray(saved["listed"]), jnp.asarray(saved["box"]))

    def _rewind(self, step: int) -> None:
        """Take away what was written after the checkpoint."""
        with (self.folder / "log.csv").open(newline="", encoding="utf-8") as file:
            rows = [(int(row[0]), *map(float, row[1:])) for row in list(csv.reader(file))[1:]]
        self.rows = [row for row in rows if row[0] <= step]
        with atomic_path(self.folder / "log.csv") as temporary, temporary.open("w", newline="") as file:
            csv.writer(file).writerows([_COLUMNS, *([repr(x) for x in row] for row in self.rows)])
        n_frames = step // self.settings.frame_every + 1
        frames: Any = ase.io.read(self.path, index=f":{n_frames}")
        with atomic_path(self.path) as temporary:
            temporary.unlink()
            _append(temporary, frames)


def _append(path: Path, frames: list[ase.Atoms]) -> None:
    if path.suffix == ".traj":
        with Trajectory(path, "a") as file:  # pyright: ignore[reportGeneralTypeIssues]
            for frame in frames:
                file.write(frame)  # pyright: ignore[reportAttributeAccessIssue]
    else:
        ase.io.write(path, frames, append=True)


def open_folder(folder: str | Path, model: Model, atoms: ase.Atoms, settings: Any) -> Recorder:
    """A recorder for a run in ``folder``, which its first row makes: a run that is refused leaves none."""
    path = Path(folder)
    if not path.is_dir() and not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: its folder {path.parent} does not exist; create it first")
    return _FolderRecorder(path, _key(model, atoms, settings), atoms, settings)


def _key(model: Model, atoms: ase.Atoms, settings: Any) -> str:
    """A hash of what a run's numbers depend on; how long it is does not count."""
    digest = hashlib.sha256()
    facts = {k: v for k, v in dataclasses.asdict(settings).items() if k not in ("n_steps", "checkpoint_every")}
    digest.update(repr((sorted(facts.items()), model.potential.config)).encode())
    arrays = [atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, atoms.get_masses(), atoms.get_momenta()]
    for array in [*arrays, *jax.tree.leaves(model.params)]:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:32]
