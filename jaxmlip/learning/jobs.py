"""What a teacher has to do, in jobs of some hundred atoms: each is one file, written whole or not at all.

A job runs here or on any `concurrent.futures.Executor` (`jaxmlip.study.executor` for Dask); its file must be on a disk
that all workers see. A job whose file is there is not run again.
"""

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, as_completed
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import ase
import numpy as np

from jaxmlip.data.labels import labels
from jaxmlip.data.read import read, write
from jaxmlip.formats import load
from jaxmlip.learning.exploration import Exploration, dynamics, in_chunks, labelled, relaxations
from jaxmlip.potentials.model import Model


class Job(NamedTuple):
    """Structures, and what the teacher does with them."""

    kind: Literal["label", "dynamics", "relaxation"]
    number: int
    frames: list[ase.Atoms]
    exploration: Exploration

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.kind}-{self.number:04d}.extxyz"


def add_structures(digest: Any, frames: Sequence[ase.Atoms]) -> None:
    """Adds structures with their labels to a hash of what a folder belongs to."""
    for frame in frames:
        for array in (frame.numbers, frame.positions, frame.cell.array, *labels(frame)):
            digest.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())


def job_list(seeds: Sequence[ase.Atoms], candidates: Sequence[ase.Atoms], settings) -> list[Job]:
    """All jobs of a `Distillation`; the same for the same arguments."""
    rng = np.random.default_rng(settings.seed)
    small = [seed for seed in seeds if len(seed) <= settings.around.max_atoms]
    unlabelled = [seed for seed in seeds if labels(seed).energy is None and labels(seed).forces is None]
    pool = list(candidates) or small
    starts: dict[Any, list[ase.Atoms]] = {
        "label": [*unlabelled, *candidates],
        "dynamics": [small[k] for k in rng.permutation(len(small))[: settings.dynamics]],
        "relaxation": [pool[k] for k in rng.permutation(len(pool))[: settings.relaxations]],
    }
    found: list[Job] = []
    for kind, frames in starts.items():
        for number, chunk in enumerate(in_chunks(frames, settings.atoms_per_job)):
            how = dataclasses.replace(settings.exploration, seed=settings.exploration.seed + 1000 * number)
            found.append(Job(kind, number, chunk, how))
    return found


def run_jobs(
    jobs: Sequence[Job], teacher: Path, folder: Path, executor: Executor | None, report: Callable[[str], None]
) -> None:
    """Run what has not been run, here or on the executor."""
    open_jobs = [job for job in jobs if not (folder / job.name).exists()]
    if executor is None:
        for number, job in enumerate(open_jobs, 1):
            run_job(job, teacher, folder)
            report(f"{job.name} ({number} of {len(open_jobs)})")
        return
    futures = {executor.submit(run_job, job, teacher, folder): job for job in open_jobs}
    for number, future in enumerate(as_completed(futures), 1):
        future.result()
        report(f"{futures[future].name} ({number} of {len(open_jobs)})")


def run_job(job: Job, teacher: Path, folder: Path) -> None:
    """Do what the job says, and write its file."""
    model = _loaded(teacher, teacher.stat().st_mtime)
    if job.kind == "label":
        found = labelled(model, job.frames, dtype=job.exploration.dtype)
    else:
        found = {"dynamics": dynamics, "relaxation": relaxations}[job.kind](model, job.frames, job.exploration)
    write(folder / job.name, found)


def finished(job: Job, folder: Path) -> list[ase.Atoms]:
    """What a job that was run found."""
    return read(folder / job.name)


@lru_cache(maxsize=2)
def _loaded(path: Path, changed: float) -> Model:
    return load(path)
