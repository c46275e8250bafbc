"""``jaxmlip distil``: a fast potential learns from a slow one."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ase
import tyro

from jaxmlip.commands.cache import double_precision
from jaxmlip.commands.evaluation import load_model, report_errors
from jaxmlip.commands.output import console, record_beside, structures
from jaxmlip.commands.parse import flags_class, parse, take_config, take_word
from jaxmlip.config import ConfigError, unknown_name
from jaxmlip.data.options import ReadOptions
from jaxmlip.learning.distillation import Distillation


@dataclasses.dataclass(frozen=True)
class Distil(ReadOptions):
    """Train a fast potential on what a slow one says of structures around yours, and on your own labels.

    The teacher is a universal potential, or one that was fine-tuned (jaxmlip fit --start). New structures are made
    around the given ones: rattled, strained, with metals swapped, partly delithiated, and snapshots of the teacher's
    dynamics and relaxations. A run that was stopped goes on with the same command.

    example: jaxmlip distil tuned/model.npz --student mtp --data train.xyz --test test.xyz --out distilled
    """

    teacher: tyro.conf.Positional[str] = ""
    """Our model.npz, a file of another program, or a name such as sevennet-0."""
    data: tuple[str, ...] = ()
    """Structures to start from, with DFT labels or without: files, folders, patterns or shipped data sets."""
    test: tuple[str, ...] = ()
    """Structures with DFT labels for the errors of teacher and student; none of them may be in --data."""
    out: Path = Path("distilled")
    """Folder for model.npz, errors and all stages."""
    dask: str | None = None
    """Label on a Dask cluster: its scheduler's address, or local."""


def main(words: Sequence[str]) -> int:
    """Run the command."""
    mapping, where, rest = take_config(words)
    mapping, rest, kind = _student(mapping, rest)
    job: Any = _parse(kind, mapping, where, rest)
    if not job.teacher:
        raise ConfigError("no teacher: jaxmlip distil TEACHER --student mtp --data SEEDS")
    with double_precision():
        seeds = structures(job.data, "structures to start from (--data)", job)
        test = structures(job.test, "test data", job) if job.test else []
        _distil(job, kind[0], seeds, test, ["distil", *words])
    return 0


def _student(mapping: dict[str, Any], words: list[str]) -> tuple[dict[str, Any], list[str], tuple[str, str]]:
    """The student's family and the method of its fit: by ``--student``, ``--preset`` and ``--fit.method``."""
    from jaxmlip.fitting import method_of, named_method
    from jaxmlip.potentials import trainable
    from jaxmlip.study.presets import preset

    mapping = dict(mapping)
    name, words = take_word(words, "--preset", mapping.pop("preset", None))
    family, words = take_word(words, "--student", mapping.pop("student", None))
    if name is not None:
        chosen = preset(name)
        family = family or chosen.family
        for part, settings in (("potential", chosen.potential), ("fit", chosen.fit)):
            mapping[part] = {**settings, **mapping.get(part, {})}
    family = family or "mtp"
    if family not in trainable():
        raise ConfigError(
            f"{unknown_name('family', family, trainable())}. Use: jaxmlip distil TEACHER --student FAMILY"
        )
    fit = dict(mapping.pop("fit", {}))
    method: Any
    method, words = take_word(words, "--fit.method", fit.pop("method", method_of(family)))
    named_method(method)
    return {**mapping, "fit": fit}, words, (family, method)


def _parse(kind: tuple[str, str], mapping: dict[str, Any], where: str, words: list[str]) -> Any:
    """The job with the student's ``potential`` and ``fit``, and what the teacher is asked."""
    from jaxmlip.fitting import FIT_METHODS
    from jaxmlip.potentials import FAMILIES

    family, method = kind
    potential = flags_class(FAMILIES[family].config, name=family.upper(), defaults={"species": (), "cutoff": 5.0})
    parts = (("ask", Distillation), ("potential", potential), ("fit", FIT_METHODS[method].settings))
    fields: list[Any] = [(name, cls, dataclasses.field(default=cls())) for name, cls in parts]
    cls = dataclasses.make_dataclass("Distil", fields, bases=(Distil,), frozen=True)
    cls.__doc__ = Distil.__doc__
    return parse(cls, words, prog=f"jaxmlip distil --student {family}", mapping=mapping, where=where)


def _distil(job: Any, family: str, seeds: list[ase.Atoms], test: list[ase.Atoms], words: list[str]) -> None:
    from jaxmlip.commands.study import executor_of
    from jaxmlip.learning import Place, Student, distil

    out = console()
    teacher = load_model(job.teacher)
    with executor_of(job.dask) as executor:
        place = Place(job.out, executor, lambda text: out.print(text, highlight=False))
        found = distil(teacher, Student(_start(job, family), job.fit), seeds, job.ask, place)
    held_out = {"teacher, held out": found.against_teacher, "seeds": found.against_reference}
    from jaxmlip.evaluate.errors import rich_table

    out.print(rich_table({name: table for name, table in held_out.items() if table is not None}))
    if test:
        report_errors(found.model, {"test": test}, out=job.out)
    record_beside(job.out, job, words, n_seeds=len(seeds), n_test=len(test), fit_summary=found.history.summary)
    out.print(f"wrote {job.out / 'model.npz'}; every stage is kept beside it", highlight=False)


def _start(job: Any, family: str) -> Callable[[Sequence[ase.Atoms]], Any]:
    """The student's potential, completed from what it is trained on."""
    import jaxmlip
    from jaxmlip.config import to_mapping
    from jaxmlip.potentials import suggested
    from jaxmlip.study.tasks import elements

    def start(train: Sequence[ase.Atoms]) -> Any:
        settings = to_mapping(job.potential)
        settings["species"] = settings["species"] or elements(train)
        return jaxmlip.build(family, **suggested(family, settings, train))

    return start
