"""Distillation: a slow, accurate teacher makes the training data of a fast student.

Structures costs hours of DFT, evaluations microseconds: so what a universal potential knows, fine-tuned on the DFT
calculations that there are, goes into a family that runs a thousand times as fast. In four stages, each kept in the
folder as soon as it is done, so that the same call goes on after a kill:

1. **candidates** around the seeds (`jaxmlip.learning.candidates`); where more are made than labels are paid for, a
   first student, fitted to the seeds, chooses the most informative (`jaxmlip.learning.selection`);
2. **labels** of the teacher for them, and snapshots of its dynamics and relaxations, in jobs of some hundred atoms here
   or on an executor;
3. **fit** of the student to the teacher's labels and those of the seeds, which may count more;
4. **errors** against both: against the teacher on structures that the student has not seen.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, NamedTuple

import ase
import numpy as np

from jaxmlip.config import ConfigError, Settings, to_mapping
from jaxmlip.data.labels import labels
from jaxmlip.data.read import read, write
from jaxmlip.data.split import random_split
from jaxmlip.evaluate.errors import ErrorTable, errors
from jaxmlip.evaluate.provenance import write_json
from jaxmlip.fitting import fit as fit_model
from jaxmlip.formats import save
from jaxmlip.learning.candidates import Around, around
from jaxmlip.learning.exploration import Exploration
from jaxmlip.learning.jobs import Job, add_structures, finished, job_list, run_jobs
from jaxmlip.learning.offsets import aligned
from jaxmlip.learning.selection import informative
from jaxmlip.potentials.base import Potential
from jaxmlip.potentials.model import Model


@dataclasses.dataclass(frozen=True)
class Distillation(Settings):
    """What a teacher is asked, and how much its answers weigh."""

    labels: int = 600
    """Structures around the seeds that the teacher labels: the most informative of those made. Its own snapshots and
    seeds without labels come on top."""
    around: Around = dataclasses.field(default_factory=Around)
    """What is made around the seeds; ``around.number`` at most ``labels``: all of it is labelled."""
    dynamics: int = 8
    """Seeds from which the teacher's dynamics start; 0: none."""
    relaxations: int = 16
    """Structures, of the candidates, that the teacher relaxes; 0: none."""
    exploration: Exploration = dataclasses.field(default_factory=Exploration)
    """How it moves them."""
    align: bool = True
    """Fit the teacher's energies per element to the energies of the seeds first."""
    largest_force: float = 10.0
    """eV/Å; structures on which the teacher finds larger ones are left out."""
    reference_weight: int = 2
    """Weight of a seed with its own labels, of DFT, relative to a structure that the teacher labelled: it stands so
    many times in the training data. 0: the student learns from the teacher alone."""
    held_out: float = 0.05
    """Part of the teacher's labels that is kept for the errors against it."""
    atoms_per_job: int = 512
    """Atoms that one job labels or moves."""
    seed: int = 0
    """Of what is drawn here."""

    def __post_init__(self) -> None:
        """Refuses what cannot be run."""
        super().__post_init__()
        counts = (self.labels, self.dynamics, self.relaxations)
        if min(counts) < 0 or not any(counts):
            raise ConfigError(f"labels, dynamics and relaxations must not be negative, nor all zero: got {counts}")
        if self.reference_weight < 0 or self.largest_force <= 0 or self.atoms_per_job < 1:
            raise ConfigError("reference_weight must not be negative, largest_force and atoms_per_job must be positive")
        if not 0 <= self.held_out < 1:
            raise ConfigError(f"held_out must lie in 0 … 1 (1 excluded), got {self.held_out}")


class Student(NamedTuple):
    """What is fitted: a potential, a model to go on from, or a function that makes one for training structures."""

    start: Potential | Model | Callable[[Sequence[ase.Atoms]], Potential | Model]
    fit: Any = None  # settings of its fit; None: the family's

    def begin(self, train: Sequence[ase.Atoms]) -> Potential | Model:
        """What its fit to these structures starts from."""
        return self.start if isinstance(self.start, (Potential, Model)) else self.start(train)


class Place(NamedTuple):
    """Where a distillation is kept and runs."""

    folder: Path
    executor: Executor | None = None  # None: this process
    report: Callable[[str], None] = lambda text: None  # gets a line when a stage is done


class Distilled(NamedTuple):
    """The student, and its errors: against the teacher on structures held out, against the seeds' own labels."""

    model: Model
    against_teacher: ErrorTable | None
    against_reference: ErrorTable | None
    history: Any


def distil(
    teacher: Model, student: Student, seeds: Sequence[ase.Atoms], settings: Distillation, place: Place
) -> Distilled:
    """A ``student`` taught by ``teacher`` around the structures ``seeds``; the folder keeps each stage.

    >>> Distillation(labels=100, dynamics=0).relaxations  # distil(jaxmlip.load("sevennet-0"), …) takes minutes
    16

    Args:
        teacher: any model; of a universal potential the elements of the seeds are enough.
        student: what is fitted and how. Its elements must be those of the seeds.
        seeds: structures, with DFT labels or without; none of a test set.
        settings: what is asked.
        place: the folder (``teacher.npz``, ``candidates.extxyz``, ``jobs/``, ``train.extxyz``, ``fit/``,
            ``model.npz``, ``errors.json``), and an executor for the jobs.

    Raises:
        ValueError: a folder of another distillation, no usable seed, or a student that cannot be fitted.
    """
    seeds = list(seeds)
    _claim(place.folder, [teacher, seeds, settings])
    teacher_file = _teacher(teacher, seeds, settings, place)
    candidates = _candidates(student, seeds, settings, place)
    jobs = job_list(seeds, candidates, settings)
    place.report(f"{sum(len(job.frames) for job in jobs)} structures in {len(jobs)} jobs for the teacher")
    run_jobs(jobs, teacher_file, place.folder / "jobs", place.executor, place.report)
    train, held_out = _training_set(seeds, jobs, settings, place)
    start = student.begin(train)
    model, history = fit_model(start, train, settings=student.fit, folder=place.folder / "fit")
    save(model, place.folder / "model.npz")
    own = [seed for seed in seeds if labels(seed).energy is not None]
    found = Distilled(
        model, errors(model, held_out) if held_out else None, errors(model, own) if own else None, history
    )
    tables = {"teacher, held out": found.against_teacher, "seeds": found.against_reference}
    rows = [{"against": name, **row} for name, table in tables.items() if table for row in table.records()]
    write_json(place.folder / "errors.json", rows)
    return found


def _claim(folder: Path, facts: list[Any]) -> None:
    """Notes in the folder what it belongs to, and refuses one that belongs to something else."""
    teacher, seeds, settings = facts
    digest = hashlib.sha256(json.dumps(to_mapping(settings), sort_keys=True, default=str).encode())
    add_structures(digest, seeds)
    digest.update(repr(teacher.potential.config).encode())
    key = {"key": digest.hexdigest()[:16]}
    (folder / "jobs").mkdir(parents=True, exist_ok=True)
    note = folder / "distillation.json"
    if note.exists() and json.loads(note.read_text(encoding="utf-8"))["key"] != key["key"]:
        raise ValueError(
            f"{folder} holds a distillation of another teacher, other seeds or settings: give another folder, or "
            "delete it to start again"
        )
    if not note.exists():
        write_json(note, {**key, "settings": settings})


def _teacher(teacher: Model, seeds: list[ase.Atoms], settings: Distillation, place: Place) -> Path:
    """The file of the teacher, on the energy scale of the seeds."""
    path = place.folder / "teacher.npz"
    if not path.exists():
        labelled = [seed for seed in seeds if labels(seed).energy is not None]
        save(aligned(teacher, labelled) if settings.align and labelled else teacher, path)
    return path


def _candidates(student: Student, seeds: list[ase.Atoms], settings: Distillation, place: Place) -> list[ase.Atoms]:
    path = place.folder / "candidates.extxyz"
    if not path.exists():
        made = around(seeds, settings.around) if settings.labels and settings.around.number else []
        if len(made) > settings.labels:
            first = _first_student(student, seeds, made)
            made = [made[k] for k in informative(first, made, settings.labels, seed=settings.seed)]
        place.report(f"{len(made)} candidates")
        write(path, made)
    return read(path)


def _first_student(student: Student, seeds: list[ase.Atoms], made: list[ase.Atoms]) -> Model:
    """Fitted to the seeds' own labels; without any, as it starts."""
    import jax

    from jaxmlip.graph.batch import batch

    start = student.begin([*seeds, *made])
    if isinstance(start, Model):
        return start
    own = [seed for seed in seeds if labels(seed).energy is not None]
    if own:
        return fit_model(start, own, settings=student.fit)[0]
    return Model(start, start.init(jax.random.key(0), batch(seeds[:16], start.config)))


def _largest_force(frame: ase.Atoms) -> float:
    """In eV/Å; infinite where the teacher had no answer."""
    forces = labels(frame).forces
    return float("inf") if forces is None else float(np.abs(forces).max(initial=0.0))


def _training_set(
    seeds: list[ase.Atoms], jobs: list[Job], settings: Distillation, place: Place
) -> tuple[list[ase.Atoms], list[ase.Atoms]]:
    """What the student learns from, and what is held out; written once all labels are there."""
    told = [frame for job in jobs for frame in finished(job, place.folder / "jobs")]
    small = [frame for frame in told if _largest_force(frame) <= settings.largest_force]
    place.report(f"{len(small)} labels of the teacher, {len(told) - len(small)} left out for their forces")
    held_out: list[ase.Atoms] = []
    if settings.held_out and len(small) > 2:
        parts = random_split(len(small), test=settings.held_out, seed=settings.seed)
        small, held_out = [small[k] for k in parts.train], [small[k] for k in parts.test]
    own = [seed for seed in seeds if labels(seed).energy is not None or labels(seed).forces is not None]
    train = [*own * settings.reference_weight, *small]
    write(place.folder / "train.extxyz", train)
    return train, held_out
