"""``jaxmlip learn``: a potential asks for the calculations that it needs."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase

from jaxmlip.commands.cache import double_precision
from jaxmlip.commands.output import console, record_beside, structures
from jaxmlip.commands.parse import flags_class, parse, settings_of, take_config
from jaxmlip.config import ConfigError, from_mapping
from jaxmlip.data.options import ReadOptions
from jaxmlip.learning.active.settings import Learning


@dataclasses.dataclass(frozen=True)
class _File(Learning, ReadOptions):
    """What a ``learn.toml`` may say."""

    data: tuple[str, ...] = ()
    """Structures to start from: files, folders, patterns or shipped data sets. Labelled ones are fitted from the first
    round on; where none is labelled, some are calculated first."""
    test: tuple[str, ...] = ()
    """Structures with labels for the errors of each round; none of them may be in data."""
    model: str = ""
    """A model to go on from, its file or a name; empty: a new potential of the family."""
    preset: str = ""
    """Settings of potential and fit by name, such as mtp-rocksalt; those given replace its own."""
    family: str = ""
    """Of the new potential, such as mtp or snap; empty: the preset's, else mtp."""
    potential: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Its settings; species default to the elements of the data, the cutoff to 5 Å."""
    fit: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Settings of the fit of each round; method chooses among the methods of fitting."""
    out: Path = Path("learned")
    """Folder for model.npz, all labels (train.extxyz), learning.html, and a folder for each round."""


@dataclasses.dataclass(frozen=True)
class Learn:
    """Active learning: the potential explores, asks for the calculations that it needs, and is fitted again.

    Each round fits the potential, lets it explore (dynamics, relaxations, swaps, strained and delithiated cells, or a
    function of yours), ends each replica where it leaves the training data too far, chooses the most informative of the
    doubtful structures, and has them calculated. It ends when a round's exploration stays inside of the training data,
    or when the budget of calculations is spent. Stopped or killed, the same command goes on and ends with the same
    structures and numbers; a label is never calculated twice. A larger budget prolongs a finished learning.

    example: jaxmlip learn learn.toml --budget 300

    A file (jaxmlip learn learn.toml):

        data = ["start.xyz"]            # with labels or without
        preset = "mtp-rocksalt"         # or family, potential and fit
        budget = 200                    # calculations
        per_round = 20

        [label]                         # one of calculator, command and model
        command = "mpiexec -n 8 python {here}/dft.py {input} {output}"
        time_limit = 7200               # seconds; retries = 1

        [[explore]]                     # dynamics, relaxations, relaxed, monte-carlo, rattled, strained, swapped,
        kind = "dynamics"               # delithiated, or the import path of a function
        weight = 3.0
        options = {temperatures = [300.0, 900.0], n_steps = 500, snapshots = 20}
        [[explore]]
        kind = "delithiated"

        [doubt]                         # how far is too far: 1 is the edge of the training data
        soft = 2.0                      # beyond it a label is worth its price
        hard = 10.0                     # beyond it a replica ends

    A calculator of ASE instead of a command:

        [label]
        calculator = "ase.calculators.vasp.Vasp"
        arguments = {xc = "PBE", encut = 520, kspacing = 0.3}
    """

    dask: str | None = None
    """Calculate on a Dask cluster: its scheduler's address, or local."""


_TABLES = ("explore", "label", "doubt", "potential", "fit")


def main(words: Sequence[str]) -> int:
    """Run the command."""
    mapping, where, rest = take_config(words, positional=True)
    base = from_mapping(_File, mapping, where=where)
    shared = [field.name for field in dataclasses.fields(_File) if field.name not in _TABLES]
    flags: Any = flags_class(_File, name="Learn", base=Learn, without=_TABLES)
    given = parse(flags, rest, prog="jaxmlip learn", mapping={name: getattr(base, name) for name in shared})
    job = dataclasses.replace(base, **{name: getattr(given, name) for name in shared})
    if not job.data:
        raise ConfigError('no structures to start from: jaxmlip learn learn.toml, with data = ["start.xyz"] in it')
    with double_precision():
        _learn(job, given.dask, ["learn", *words])
    return 0


def _learn(job: _File, dask: str | None, words: list[str]) -> None:
    from jaxmlip.commands.study import executor_of
    from jaxmlip.learning import Place
    from jaxmlip.learning.active import learn

    out = console()
    frames = structures(job.data, "structures to start from", job)
    test = structures(job.test, "test data", job) if job.test else []
    settings = settings_of(Learning, job)
    student = _student(job, frames)
    with executor_of(dask) as executor:
        place = Place(job.out, executor, lambda text: out.print(text, highlight=False, markup=False, soft_wrap=True))
        found = learn(student, frames, settings, place, test=test)
    record_beside(job.out, job, words, ended=found.ended, n_train=len(found.train))
    out.print(
        f"wrote {job.out / 'model.npz'}, {job.out / 'train.extxyz'} and {job.out / 'learning.html'}", highlight=False
    )


def _student(job: _File, frames: list[ase.Atoms]) -> Any:
    """The potential or model that is fitted, and how."""
    import jaxmlip
    from jaxmlip.fitting import fit_settings
    from jaxmlip.learning import Student
    from jaxmlip.potentials import family_of, suggested
    from jaxmlip.potentials.registry import named
    from jaxmlip.study.presets import preset
    from jaxmlip.study.tasks import elements

    chosen = preset(job.preset) if job.preset else None
    if job.model:
        if job.family or job.potential:
            raise ConfigError("a model to go on from brings its potential: leave out family and potential")
        model = jaxmlip.load(job.model)
        family = family_of(model.potential.config).name
        return Student(model, fit_settings(family, {**(chosen.fit if chosen else {}), **job.fit}))
    family = named(job.family or (chosen.family if chosen else "mtp")).name
    if chosen and chosen.family != family:
        raise ConfigError(f"preset {job.preset!r} is of {chosen.family}, not of {family}")
    settings = {"species": elements(frames), "cutoff": 5.0, **(chosen.potential if chosen else {}), **job.potential}
    potential = jaxmlip.build(family, **suggested(family, settings, frames))
    return Student(potential, fit_settings(family, {**(chosen.fit if chosen else {}), **job.fit}))
