"""``jaxmlip study``: compare potentials and write a report."""

import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any

from jaxmlip.commands.cache import double_precision
from jaxmlip.commands.output import console
from jaxmlip.commands.parse import flags_class, parse, take_config
from jaxmlip.config import ConfigError, from_mapping, unknown_name
from jaxmlip.study.config import StudyConfig


@dataclasses.dataclass(frozen=True)
class Study:
    """Compare potentials over training-set sizes: errors, parity plots, learning curves, times, voltages, a report.

    Without a file: all families on 150 real disordered-rocksalt structures, in some ten minutes. Finished fits are
    kept in OUT/fits, so a study that was stopped goes on, and a finished one is shown again in seconds.

    example: jaxmlip study study.toml --sizes 50 100 200 --out comparison

    A file (jaxmlip study study.toml):

        data = "train.xyz"
        sizes = [100, 400]
        [methods.snap-8]
        family = "snap"
        potential = {twojmax = 8, cutoff = 4.6}
        fit = {energy_weight = 100.0}
    """

    methods: tuple[str, ...] = ()
    """Only these methods of the file (or of the example, which has all families); none: all."""
    dask: str | None = None
    """Run the fits on a Dask cluster: its scheduler's address, or local."""


def main(words: Sequence[str]) -> int:
    """Run the command."""
    mapping, where, rest = take_config(words, positional=True)
    base = from_mapping(StudyConfig, mapping, where=where)
    shared = [field.name for field in dataclasses.fields(StudyConfig) if field.name != "methods"]
    flags: Any = flags_class(StudyConfig, name="Study", base=Study, without=("methods",))
    job = parse(flags, rest, prog="jaxmlip study", mapping={name: getattr(base, name) for name in shared})
    unknown = [name for name in job.methods if name not in base.methods]
    if unknown:
        raise ConfigError(unknown_name("method", unknown[0], base.methods))
    methods = {name: base.methods[name] for name in job.methods or base.methods}
    config = StudyConfig(methods=methods, **{name: getattr(job, name) for name in shared})
    _run(config, ["jaxmlip", "study", *words], job.dask)
    return 0


def _run(config: StudyConfig, command: list[str], dask: str | None) -> None:
    from rich.table import Table

    from jaxmlip.evaluate.report import cell_text
    from jaxmlip.study.run import run_study
    from jaxmlip.study.voltages import voltage_table
    from jaxmlip.units import SHOWN

    with double_precision(), executor_of(dask) as executor:
        result = run_study(config, executor=executor, show_progress=True, command=command)
    keys = {f"{p}_{q}_rmse": SHOWN[q].factor for q in ("energy", "forces") for p in ("train", "test")}
    table = Table("method", "structures", *keys, "fit (s)", title="RMSE in meV/atom and eV/Å", title_justify="left")
    for row in result.rows:
        shown = [factor * row[key] if row.get(key) is not None else None for key, factor in keys.items()]
        table.add_row(*map(cell_text, (row["method"], row["size"], *shown, row["fit_wall_s"])))
    out = console()
    out.print(table)
    if result.voltages:
        columns, lines = voltage_table(result.voltages)
        shown = Table(*columns, title="Voltages (V)", title_justify="left")
        for line in lines:
            shown.add_row(*map(cell_text, line))
        out.print(shown)
    out.print(f"report: {result.out / 'report.html'}", highlight=False)


@contextmanager
def executor_of(dask: str | None) -> Iterator[Executor | None]:
    """That of a Dask cluster at an address, or None."""
    if dask is None:
        yield None
        return
    from jaxmlip.files import program_folder
    from jaxmlip.study.executor import dask_executor

    with dask_executor(dask, cache=program_folder()) as executor:
        yield executor
