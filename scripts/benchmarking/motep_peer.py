"""The motep side: its C engine on the `.mtp` file that jaxmlip wrote. No JAX here."""

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from benchmarking.cases import Job, structure
from benchmarking.clock import median, timed


def missing() -> str | None:
    """Why motep cannot run here, or None."""
    return None if importlib.util.find_spec("motep") else "not installed: motep (uv run --group peers …)"


def environment() -> dict[str, str]:
    """Nothing that it needs."""
    return {}


def run(job: Job) -> dict[str, Any]:
    """Energy, forces and stress of one large cell whose atoms do not move, so that its neighbour list is kept."""
    from motep.calculator import make_mtp_engine  # pyright: ignore[reportMissingImports]
    from motep.io.mlip.mtp import read_mtp  # pyright: ignore[reportMissingImports]

    atoms, folder = structure(job), Path(job.folder)
    data: Any = read_mtp(folder / f"{job.name}.mtp")
    data.species = sorted(set(atoms.numbers))
    engine = make_mtp_engine("cext")(data)
    first = timed(lambda: engine.calculate(atoms))
    steady = [timed(lambda: engine.calculate(atoms)) for _ in range(job.repeats)]
    found = {name: np.asarray(engine.results[name], float) for name in ("energy", "forces")}
    np.savez(folder / f"{job.name}_{job.code}_{job.precision}.npz", energy=found["energy"], forces=found["forces"])
    version = importlib.metadata.version("motep")
    return {"n_atoms": len(atoms), "first": first, "steady": median(steady), "version": version}
