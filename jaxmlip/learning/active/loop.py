"""Active learning: a potential explores, asks for the calculations that it needs, and is fitted again.

The folder keeps each stage of each round as soon as it is done; after a kill the same call goes on, and ends with the
same structures and numbers, for whatever is drawn at random depends on the seed, the round and a number alone.

References:
    Podryabinkin, Shapeev, Comput. Mater. Sci. 140, 171 (2017): learning on the fly.
    Zhang, Lin, Wang, Car, E, Phys. Rev. Mater. 3, 023804 (2019): exploring, labelling and training in rounds.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ase

from jaxmlip.config import ConfigError, to_mapping
from jaxmlip.data.labels import labels
from jaxmlip.data.read import write
from jaxmlip.evaluate.provenance import write_json, write_rows
from jaxmlip.files import atomic_path
from jaxmlip.fitting import default_settings
from jaxmlip.learning.active import rounds
from jaxmlip.learning.active.explorers import explorer
from jaxmlip.learning.active.keeping import read_json
from jaxmlip.learning.active.labellers import Told, check_labeller
from jaxmlip.learning.active.page import write_page
from jaxmlip.learning.active.rounds import Round
from jaxmlip.learning.active.settings import Learning
from jaxmlip.learning.distillation import Place, Student
from jaxmlip.learning.jobs import add_structures
from jaxmlip.learning.structures import bare
from jaxmlip.potentials.base import Potential
from jaxmlip.potentials.model import Model
from jaxmlip.programs import forget_programs
from jaxmlip.units import MEV

_HOPELESS = 3  # calculations that all fail are the fault of the labeller
_FORMAT = 2  # raise when the meaning of a kept file changes


class _Known(NamedTuple):
    """What a round works with."""

    train: list[ase.Atoms]
    pool: list[ase.Atoms]
    """Structures to explore from."""
    given: list[ase.Atoms]
    """Those without labels that nobody has asked for, each with its number in ``info["given"]``."""
    test: Sequence[ase.Atoms]


class Learned(NamedTuple):
    """What a learning ends with; the same is in its folder."""

    model: Model
    train: list[ase.Atoms]
    """All labels, those given first."""
    rows: list[dict[str, Any]]
    """One a round: structures, errors in eV/atom and eV/Å, seconds."""
    ended: str
    """Why it ended: inside, budget or rounds."""


def learn(
    student: Student,
    atoms: Sequence[ase.Atoms],
    settings: Learning,
    place: Place,
    *,
    test: Sequence[ase.Atoms] = (),
) -> Learned:
    """Explore, label and fit in rounds until an exploration stays inside of the training data, or labels are spent.

    >>> from jaxmlip.learning.active import Labelling
    >>> settings = Learning(budget=50, label=Labelling(calculator="ase.calculators.emt.EMT"))
    >>> settings.explore[0].kind  # learn(Student(potential), frames, settings, Place(folder)) takes minutes
    'dynamics'

    Args:
        student: what is fitted, and how; a model to start from may know the structures already.
        atoms: structures to start from. Those with labels are the first training data; without any, those are labelled
            first that tell the potential most as it starts. The others are explored from, and each round may ask for
            their labels too.
        settings: how it explores, selects and labels.
        place: the folder (``round-NNN/`` with all stages, ``model.npz``, ``active.npz``, ``train.extxyz``, tables of
            rounds and labels, ``learning.html``), and an executor for labels.
        test: structures with labels, for the errors of each round.

    Raises:
        ValueError: a folder of another learning, settings that cannot be run, or no calculation of a round succeeded.
    """
    for one in settings.explore:
        explorer(one)
    check_labeller(settings.label)
    frames = [frame for frame in atoms if len(frame)]
    _claim(place.folder, student, frames, settings)
    start = student.begin(frames)
    fit = student.fit or default_settings(start if isinstance(start, Potential) else start.potential)
    pool = _pool(frames, settings)
    given = _given(pool)
    train = [frame for frame in frames if labels(frame).energy is not None]
    first = Told([], []) if train else _first_labels(start, given, settings, place)
    spent = len(first.good) + len(first.failed)
    rows: list[dict[str, Any]] = []
    fresh: list[dict[str, Any]] = []
    known, ended = _Known([*train, *first.good], pool, _others(given, first), test), ""
    for number in range(settings.rounds + 1):
        here = Round(number, settings, place)
        here.folder.mkdir(exist_ok=True)
        forget_programs()
        left = min(settings.per_round, settings.budget - spent) if number < settings.rounds else 0
        model, row, found = _round(here, start, fit, known, left)
        if left < 1:
            ended = "rounds" if number == settings.rounds else "budget"
        elif not (found.good or found.failed):
            ended = "inside"
        new = found.good
        fresh += rounds.fresh_rows(model, new)
        spent += len(found.good) + len(found.failed)
        rows.append({**row, "spent": spent, "ended": ended})
        _tell(here, rows[-1])
        known = _Known([*known.train, *new], [*known.pool, *new], _others(known.given, found), test)
        if ended or not here._replace(number=number + 1).folder.exists():  # else it was written before a kill
            write_page(place.folder, rows, fresh, settings)
        if ended:
            break
    _finish(here, known.train)
    for name, table in (("rounds", rows), ("labels", fresh)):
        write_rows(place.folder, name, table)
    return Learned(model, known.train, rows, ended)


def _round(
    here: Round, start: Potential | Model, fit: Any, known: _Known, left: int
) -> tuple[Model, dict[str, Any], Told]:
    """Fit, and unless no label is left: explore, choose and label."""
    train, test = known.train, known.test
    model, doubt = rounds.fitted(here, start, train, fit)
    row: dict[str, Any] = {"round": here.number, "n_train": len(train), **rounds.error_columns("test", model, test)}
    if left < 1:
        return model, {**row, "seconds": here.times.read()}, Told([], [])
    seen = rounds.explored(here, model, doubt, known.pool, known.given)
    row |= {"n_explored": len(seen.atoms), "outside": seen.outside, "kind": doubt.kind, "edge": doubt.edge}
    row |= {"apart": min(doubt.apart, 1e300)}  # JSON knows no infinity
    row["largest_doubt"] = float(seen.doubts.max(initial=0.0))
    found = Told([], [])
    if seen.outside > here.settings.inside or here.settings.choice == "random":
        asked = rounds.chosen(here, model, seen, train, left)
        found = rounds.told(here, asked)
        if len(asked) >= _HOPELESS and not found.good:
            raise ValueError(
                f"round {here.number}: none of {len(asked)} calculations succeeded; the first failed so: "
                f"{found.failed[0].reason}. Repair the labeller, delete {here.folder / 'failed'} and call again"
            )
    row |= {"n_labelled": len(found.good), "n_failed": len(found.failed)}
    row |= rounds.error_columns("fresh", model, found.good)
    return model, {**row, "seconds": here.times.read()}, found


def _first_labels(start: Potential | Model, given: list[ase.Atoms], settings: Learning, place: Place) -> Told:
    """Labels of some of the structures, where none has any."""
    here = Round(0, settings, Place(place.folder / "first", place.executor, place.report))
    here.folder.mkdir(parents=True, exist_ok=True)
    found = rounds.told(here, rounds.first(here, start, given, min(settings.per_round, settings.budget)))
    if not found.good:
        raise ValueError(
            f"none of the first {len(found.failed)} calculations succeeded; the first failed so: "
            f"{found.failed[0].reason}. Repair the labeller, delete {here.folder / 'failed'} and call again"
        )
    place.report(f"first labels: {len(found.good)}, failed: {len(found.failed)}")
    return found


def _pool(frames: Sequence[ase.Atoms], settings: Learning) -> list[ase.Atoms]:
    """Structures to explore from.

    Raises:
        ConfigError: none is small enough.
    """
    small = [frame for frame in frames if len(frame) <= settings.max_atoms]
    if not small:
        raise ConfigError(f"none of the {len(frames)} structures to start from has at most {settings.max_atoms} atoms")
    return small


def _given(pool: Sequence[ase.Atoms]) -> list[ase.Atoms]:
    """The structures without labels, numbered."""
    found = [bare(frame) for frame in pool if labels(frame).energy is None]
    for k, frame in enumerate(found):
        frame.info["given"] = k
    return found


def _others(given: Sequence[ase.Atoms], told: Told) -> list[ase.Atoms]:
    """Those that were not calculated."""
    asked = {frame.info.get("given") for frame in (*told.good, *(failure.atoms for failure in told.failed))}
    return [frame for frame in given if frame.info["given"] not in asked]


def _claim(folder: Path, student: Student, frames: list[ase.Atoms], settings: Learning) -> None:
    """Note in the folder what it belongs to; refuse one that belongs to something else.

    The budget and the number of rounds may change: a learning can be prolonged. So may who labels, and how many at
    once.
    """
    free = ("budget", "rounds", "label")
    facts = {key: value for key, value in to_mapping(settings).items() if key not in free}
    start = student.start
    potential = start.potential if isinstance(start, Model) else start
    config = repr(potential.config) if isinstance(potential, Potential) else "made from data"
    words = [_FORMAT, facts, config, repr(student.fit)]
    digest = hashlib.sha256(json.dumps(words, sort_keys=True, default=str).encode())
    add_structures(digest, frames)
    folder.mkdir(parents=True, exist_ok=True)
    note, key = folder / "learning.json", digest.hexdigest()[:16]
    if note.exists() and read_json(note)["key"] != key:
        raise ValueError(
            f"{folder} holds a learning from other data, of another potential or with other settings: give another "
            "folder, or delete it to start again"
        )
    if not note.exists():
        write_json(note, {"key": key, "settings": settings})


def _tell(here: Round, row: dict[str, Any]) -> None:
    """The line of a round."""
    words = [f"round {row['round']}: {row['n_train']} labels"]
    if "test_energy_rmse" in row:
        words.append(f"test {MEV * row['test_energy_rmse']:.3g} meV/atom")
    if "test_forces_rmse" in row:
        words.append(f"{row['test_forces_rmse']:.3g} eV/Å")
    if "n_explored" in row:
        words.append(f"explored {row['n_explored']}, {100 * row['outside']:.3g} % outside")
        words.append(f"{row['n_labelled']} labelled" + (f", {row['n_failed']} failed" if row["n_failed"] else ""))
    if "fresh_energy_rmse" in row:
        words.append(f"wrong on them by {MEV * row['fresh_energy_rmse']:.3g} meV/atom")
    if row["ended"]:
        reasons = {"inside": "it stays inside", "budget": "the budget is spent", "rounds": "no rounds are left"}
        words.append(f"end: {reasons[row['ended']]}")
    here.place.report(", ".join(words))


def _finish(here: Round, train: list[ase.Atoms]) -> None:
    """The last model, its domain and all labels, in the folder itself."""
    folder = here.place.folder
    for name in ("model.npz", "active.npz"):
        if (here.folder / name).exists():
            with atomic_path(folder / name) as temporary:
                shutil.copyfile(here.folder / name, temporary)
    write(folder / "train.extxyz", train)
