"""``jaxmlip study``: compare potentials and write a report."""

import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path

from jaxmlip.commands.cache import double_precision
from jaxmlip.commands.output import console
from jaxmlip.commands.parse import parse, take_config
from jaxmlip.config import ConfigError, from_mapping, unknown_name
from jaxmlip.study.config import StudyConfig

_BASE = StudyConfig()


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
    data: str = _BASE.data
    """Shipped data set, file, folder or pattern."""
    sizes: tuple[int, ...] = _BASE.sizes
    """Training-set sizes of methods that name none of their own."""
    seeds: tuple[int, ...] = _BASE.seeds
    """Each draws its own split."""
    note: str = _BASE.note
    """What readers of the report must know of the data."""
    test_fraction: float = _BASE.test_fraction
    """Of the structures, kept for testing."""
    split: str = _BASE.split
    """random, composition, trajectory, or a key of info."""
    voltages: bool = _BASE.voltages
    """Relax layered LiTMO2 and TMO2 and compare voltages."""
    metals: tuple[str, ...] = _BASE.metals
    """Of the layered cells."""
    lithium_energy: float = _BASE.lithium_energy
    """eV per atom of bcc lithium."""
    out: Path = _BASE.out
    """Folder of results."""
    dask: str | None = None
    """Run the fits on a Dask cluster: its scheduler's address, or local."""


def main(words: Sequence[str]) -> int:
    """Run the command."""
    mapping, where, rest = take_config(words, positional=True)
    base = from_mapping(StudyConfig, mapping, where=where)
    shared = [field.name for field in dataclasses.fields(Study) if field.name not in ("methods", "dask")]
    defaults = {name: getattr(base, name) for name in shared}
    job = parse(Study, rest, prog="jaxmlip study", mapping=defaults)
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

    with double_precision(), executor_of(dask) as executor:
        result = run_study(config, executor=executor, show_progress=True, command=command)
    keys = [f"{part}_{quantity}_rmse" for quantity in ("energy", "forces") for part in ("train", "test")]
    table = Table("method", "structures", *keys, "fit (s)", title="RMSE in meV/atom and eV/Å", title_justify="left")
    for row in result.rows:
        table.add_row(*(cell_text(row.get(key)) for key in ("method", "size", *keys, "fit_wall_s")))
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
    from jaxmlip.commands.cache import cache_folder
    from jaxmlip.study.executor import dask_executor

    with dask_executor(dask, cache=cache_folder()) as executor:
        yield executor
