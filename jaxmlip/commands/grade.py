"""``jaxmlip grade``: how far structures lie outside of a model's training data, and which would teach it most."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from jaxmlip.commands.cache import double_precision
from jaxmlip.commands.evaluation import domain, load_model
from jaxmlip.commands.output import console, need_folder, record_beside, structures
from jaxmlip.commands.parse import parse, take_config
from jaxmlip.config import ConfigError
from jaxmlip.data.options import ReadOptions


@dataclass(frozen=True)
class Grade(ReadOptions):
    """Extrapolation grades: up to 1 inside the training data, from about 10 on unreliable; exits with 1 above --limit.

    example: jaxmlip grade fit/model.npz new.xyz --train train.xyz --out graded.xyz --select 20
    """

    model: tyro.conf.Positional[str] = ""
    """Our model.npz, or a file of another program."""
    data: tyro.conf.Positional[tuple[str, ...]] = ()
    """Structures to grade: files, folders, patterns or shipped data sets; labels are not needed."""
    train: tuple[str, ...] = ()
    """The model's training data; a shipped potential brings its own domain, atom by atom."""
    mode: Literal["structures", "atoms"] = "structures"
    """Grade structures as wholes, or atom by atom (then a structure has the grade of its worst atom)."""
    select: int | None = None
    """Write only the structures that belong in the training set, at most so many, the most informative first."""
    limit: float = 10.0
    """Grade that counts as unreliable."""
    out: Path | None = None
    """Write the structures here with their grade in info (and in arrays, with --mode atoms)."""


def main(words: Sequence[str]) -> int:
    """Run the command; 1 when a structure is graded above the limit."""
    mapping, where, rest = take_config(words)
    job = parse(Grade, rest, prog="jaxmlip grade", mapping=mapping, where=where)
    if job.out is not None:
        need_folder(job.out)
    from jaxmlip.evaluate.grade import grades, select

    with double_precision():
        model, frames = load_model(job.model), structures(job.data, "structures", job)
        active = domain(job, model, job.mode)
        if active is None:
            raise ConfigError(f"no training data (--train): grades of {job.model} are distances to them")
        found = grades(model, active, frames)
        order = list(range(len(frames)))
        if job.select is not None:
            train = structures(job.train, "training data (--train)", job)
            order = select(model, train, frames, mode=job.mode)[: job.select]
    _show(frames, found.structures, order, job.limit)
    unseen = int((active.rows.index < 0).sum())
    if unseen:
        words = f"{unseen} of the model's {len(active.rows.index)} parameters are not determined by the training data"
        console().print(f"{words}: every structure that depends on them is graded high", highlight=False)
    if job.out is not None:
        _write(job.out, frames, found, order)
        record_beside(job.out, job, ["grade", *words], n_structures=len(order))
    return 1 if (found.structures > job.limit).any() else 0


def _show(frames, grade, order: list[int], limit: float) -> None:
    from rich.table import Table

    table = Table("number", "structure", "grade", "", title="Extrapolation grades", title_justify="left")
    for k in order:
        table.add_row(
            str(k), frames[k].get_chemical_formula(), f"{grade[k]:.2f}", "" if grade[k] <= limit else "unreliable"
        )
    console().print(table)


def _write(out: Path, frames, found, order: list[int]) -> None:
    from jaxmlip.data import write

    graded = []
    for k in order:
        frame = frames[k].copy()
        frame.calc = frames[k].calc
        frame.info["grade"] = float(found.structures[k])
        if found.atoms is not None:
            frame.set_array("grades", found.atoms[k])
        graded.append(frame)
    if graded:
        write(out, graded)
    console().print(f"wrote {len(graded)} structures to {out}" if graded else "nothing to write: no structure is new")
