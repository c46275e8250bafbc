"""The quippy side: QUIP's GAP from the `gap.xml` that jaxmlip wrote, and its SOAP vectors. No JAX here."""

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from benchmarking.cases import Job, molybdenum
from benchmarking.clock import median, timed


def missing() -> str | None:
    """Why quippy cannot run here, or None."""
    return None if importlib.util.find_spec("quippy") else "not installed: quippy-ase (uv run --group peers …)"


def environment() -> dict[str, str]:
    """Nothing that it needs."""
    return {}


def run(job: Job) -> dict[str, Any]:
    """Times of ``job``."""
    result = (_predict if job.kind == "predict" else _soap)(job)
    return result | {"version": importlib.metadata.version("quippy-ase")}


def _predict(job: Job) -> dict[str, Any]:
    """Energy, forces and stress of one large cell."""
    from quippy.potential import Potential  # pyright: ignore[reportMissingImports]

    atoms, folder = molybdenum(job.size), Path(job.folder)
    potential = Potential(param_filename=str(folder / f"{job.name}.xml"))

    def evaluate() -> None:
        potential.reset()
        potential.calculate(atoms, properties=["energy", "forces", "stress"])

    first = timed(evaluate)
    steady = [timed(evaluate) for _ in range(job.repeats)]
    found = {name: np.asarray(potential.results[name], float) for name in ("energy", "forces")}
    np.savez(folder / f"{job.name}_{job.code}_{job.precision}.npz", energy=found["energy"], forces=found["forces"])
    return {"n_atoms": len(atoms), "first": first, "steady": median(steady)}


def _soap(job: Job) -> dict[str, Any]:
    """SOAP vectors, with their derivatives for "soap gradients"; neighbour list included."""
    from quippy.descriptors import Descriptor  # pyright: ignore[reportMissingImports]

    atoms, s, gradients = molybdenum(job.size), job.settings, job.kind == "soap gradients"
    words = f"cutoff={s['cutoff']} n_max={s['n_max']} l_max={s['l_max']} atom_sigma=0.5"
    descriptor = Descriptor(f"soap {words} n_species=1 species_Z={{42}} Z=42")
    found: dict[str, Any] = {}

    def evaluate() -> None:
        found.update(descriptor.calc(atoms, grad=gradients))

    first = timed(evaluate)
    steady = [timed(evaluate) for _ in range(job.repeats)]
    values = np.asarray(found["data"])
    if gradients:
        centre = np.asarray(found["grad_index_0based"])[:, 0]
        itself = np.append(True, centre[1:] != centre[:-1])  # the first of each centre is by its own position
        values = -np.asarray(found["grad_data"])[itself]
    np.savez(Path(job.folder) / f"{job.name}_{job.code}_{job.precision}.npz", energy=0.0, forces=values)
    return {"n_atoms": len(atoms), "first": first, "steady": median(steady)}
