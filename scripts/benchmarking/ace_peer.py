"""The python-ace side: its evaluators on the `.yace` file that jaxmlip wrote. No JAX here."""

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from benchmarking.cases import Job, structure
from benchmarking.clock import median, timed


def missing() -> str | None:
    """Why python-ace cannot run here, or None."""
    return None if importlib.util.find_spec("pyace") else "not installed: python-ace (pip install python-ace==0.4.0rc1)"


def environment() -> dict[str, str]:
    """Nothing that it needs."""
    return {}


def run(job: Job) -> dict[str, Any]:
    """Energy, forces and virial of one large cell by the faster of two evaluators; its neighbour list is not timed."""
    from pyace import PyACECalculator  # pyright: ignore[reportMissingImports]

    atoms, folder = structure(job), Path(job.folder)
    times: dict[str, list[dict[str, float]]] = {}
    for name, recursive in (("product", False), ("recursive", True)):
        calculator: Any = PyACECalculator(
            str(folder / f"{job.name}.yace"), recursive_evaluator=recursive, recursive=recursive
        )
        calculator.get_atomic_env(atoms)
        compute = lambda calculator=calculator: calculator.ace.compute(calculator.ae, False)  # noqa: E731
        times[name] = [timed(compute) for _ in range(1 + job.repeats)]
    atoms.calc = PyACECalculator(str(folder / f"{job.name}.yace"))
    found = {"energy": np.asarray(atoms.get_potential_energy()), "forces": atoms.get_forces()}
    np.savez(folder / f"{job.name}_{job.code}_{job.precision}.npz", **found)
    first, *steady = min(times.values(), key=lambda one: median(one[1:])["cpu"])
    version = importlib.metadata.version("python-ace")
    return {"n_atoms": len(atoms), "first": first, "steady": median(steady), "version": version}
