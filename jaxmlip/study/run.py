"""A study from data to a folder with rows, models, figures and a report; goes on where an earlier run stopped."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import ase
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from jaxmlip.evaluate.provenance import provenance, write_json, write_rows
from jaxmlip.study.config import StudyConfig
from jaxmlip.study.fits import Outcome, outcome
from jaxmlip.study.sources import load_structures
from jaxmlip.study.summary import write_results
from jaxmlip.study.tasks import Parts, Task, elements, make_tasks, parts
from jaxmlip.study.voltages import can_have_voltages, method_voltages


class StudyResult(NamedTuple):
    """What `run_study` found; the same is in the folder."""

    rows: list[dict[str, Any]]
    """One a fit: method, size, seed, errors (meV/atom, eV/Å, GPa), times."""
    voltages: list[dict[str, Any]]
    out: Path


def run_study(config: StudyConfig, *, show_progress: bool = False, command: Sequence[str] | None = None) -> StudyResult:
    """Fit every method at every size and seed, evaluate, relax the layered cells, and write ``config.out``.

    Written: ``results`` and ``voltages`` (``.jsonl`` and ``.csv``), ``run.json``, ``report.html``, ``figures/``,
    ``models/`` (the largest of each method) and ``fits/`` (every finished fit: a killed study goes on from them).

    >>> StudyConfig(voltages=False).sizes  # run_study(StudyConfig()) takes minutes
    (30, 60, 120)

    Raises:
        ValueError: data, sizes or settings that cannot be run; found before the first fit.
        FileNotFoundError: no such data.
    """
    atoms = load_structures(config.data)
    tasks = make_tasks(atoms, config)
    by_seed = {seed: parts(atoms, config, seed) for seed in config.seeds}
    folder = config.out / "fits"
    folder.mkdir(parents=True, exist_ok=True)
    record = provenance(config, command=command, n_structures=len(atoms), data=_described(config.data))
    write_json(config.out / "run.json", record)
    last = _last_tasks(tasks) if config.voltages else []
    with _display(len(tasks) + len(last), show_progress) as display:
        outcomes = [_one_fit(task, by_seed[task.seed], folder, display) for task in tasks]
        voltages = _all_voltages(last, config, atoms, display)
    rows = [one.row for one in outcomes]
    write_rows(config.out, "results", rows)
    if voltages:
        write_rows(config.out, "voltages", voltages)
    results = list(zip(tasks, outcomes, strict=True))
    write_results(config, results, {"parts": by_seed, "voltages": voltages, "record": record})
    return StudyResult(rows, voltages, config.out)


class _Display(NamedTuple):
    progress: Progress
    bar: Any

    def say(self, text: str) -> None:
        self.progress.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def begin(self, text: str) -> None:
        self.progress.update(self.bar, description=text)

    def done(self) -> None:
        self.progress.advance(self.bar)


@contextmanager
def _display(total: int, show: bool) -> Iterator[_Display]:
    """A bar on standard error, with a line above it for each thing that is finished."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    console = Console(stderr=True, quiet=not show)
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True, disable=not show) as progress:
        yield _Display(progress, progress.add_task("starting", total=total))


def _one_fit(task: Task, pieces: Parts, folder: Path, display: _Display) -> Outcome:
    display.begin(f"{task.name}, {task.size} structures, seed {task.seed}")
    found = outcome(task, pieces, folder)
    row = found.row
    parts_of_line = [f"{task.name:<8} {task.size:>5} structures, seed {task.seed}:"]
    for quantity, unit in (("energy", "meV/atom"), ("forces", "eV/Å")):
        if (value := row.get(f"test_{quantity}_rmse")) is not None:
            parts_of_line.append(f"{value:.3g} {unit}")
    display.say(" ".join(parts_of_line) + f" on test, fitted in {row['fit_wall_s']:.1f} s")
    display.done()
    return found


def _last_tasks(tasks: Sequence[Task]) -> list[Task]:
    """The largest fit of each method for its first seed."""
    best: dict[str, Task] = {}
    for task in tasks:
        if task.name not in best or task.size > best[task.name].size:
            best[task.name] = task
    return list(best.values())


def _all_voltages(
    tasks: Sequence[Task], config: StudyConfig, atoms: Sequence[ase.Atoms], display: _Display
) -> list[dict[str, Any]]:
    if not tasks:
        return []
    if not can_have_voltages(elements(atoms), config.metals):
        display.say("no voltages: the data does not hold Li, O and one of the metals")
        return []
    rows = []
    for task in tasks:
        display.begin(f"{task.name}: relaxing {2 * len(config.metals)} layered cells")
        rows += method_voltages(task, config, config.out / "fits")
        display.done()
    return rows


def _described(source: str) -> str:
    """Source and citation of a shipped dataset, else the path as given."""
    from jaxmlip import datasets

    name = source.partition(":")[0]
    return datasets.describe(name) if name in datasets.available() else source
