"""A study from data to a folder with rows, models, figures and a report; goes on where an earlier run stopped."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import ase
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from jaxmlip.evaluate.provenance import provenance, write_json, write_rows
from jaxmlip.study.config import StudyConfig
from jaxmlip.study.fits import Outcome, outcome
from jaxmlip.study.ready_made import ready_made
from jaxmlip.study.sources import load_structures
from jaxmlip.study.summary import drawn_once, largest_fits, write_results
from jaxmlip.study.tasks import Task, elements, make_tasks, parts
from jaxmlip.study.voltages import can_have_voltages, method_voltages
from jaxmlip.units import SHOWN


class StudyResult(NamedTuple):
    """What `run_study` found; the same is in the folder."""

    rows: list[dict[str, Any]]
    """One a fit: method, size, seed, errors (eV/atom, eV/Å, eV/Å³), times."""
    voltages: list[dict[str, Any]]
    out: Path


def run_study(
    config: StudyConfig,
    *,
    executor: Executor | None = None,
    show_progress: bool = False,
    command: Sequence[str] | None = None,
) -> StudyResult:
    """Fit every method at every size and seed, evaluate, relax the layered cells, and write ``config.out``.

    Figures and report are drawn only if results or settings changed since; without ``report.html`` always. Written:
    ``results``, ``voltages`` and ``pretrained`` (``.jsonl`` and ``.csv``), ``run.json``, ``report.html``, ``figures/``,
    ``models/`` (the largest of each method) and ``fits/`` (every finished fit: a killed study goes on from them).

    >>> StudyConfig(voltages=False).sizes  # run_study(StudyConfig()) takes minutes
    (30, 60, 120)

    Args:
        config: what to compare.
        executor: runs the fits, such as a `concurrent.futures.ProcessPoolExecutor` or ``dask_executor``; None: this
            process does, one after another. Times are comparable only where fits do not share cores.
        show_progress: a bar on standard error.
        command: kept in ``run.json``.

    Raises:
        ValueError: data, sizes or settings that cannot be run; found before the first fit.
        FileNotFoundError: no such data.
    """
    atoms = load_structures(config.data, **config.read_options)
    tasks = make_tasks(atoms, config)
    by_seed = {seed: parts(atoms, config, seed) for seed in config.seeds}
    folder = config.out / "fits"
    folder.mkdir(parents=True, exist_ok=True)
    record = provenance(config, command=command, n_structures=len(atoms), data=_described(config.data))
    write_json(config.out / "run.json", record)
    last = _last_tasks(tasks) if config.voltages else []
    with _display(len(tasks) + len(last), show_progress) as display:
        run = _Runner(executor, display)
        fits = [(task, (task, by_seed[task.seed], folder)) for task in tasks]
        outcomes = run.all(outcome, fits, say=_fitted)
        voltages = _all_voltages(last, config, atoms, run)
    rows, results = [one.row for one in outcomes], list(zip(tasks, outcomes, strict=True))
    first = config.seeds[0]
    largest = largest_fits([(task, one) for task, one in results if task.seed == first])
    compared, of_shipped = ready_made(config, by_seed[first], largest)
    voltages += of_shipped if voltages else []
    write_rows(config.out, "results", rows)
    if voltages:
        write_rows(config.out, "voltages", voltages)
    if compared:
        write_rows(config.out, "pretrained", compared)
    with drawn_once(config, [*rows, *compared], voltages) as is_drawn:
        if not is_drawn:
            extra = {"atoms": atoms, "parts": by_seed, "voltages": voltages, "compared": compared, "record": record}
            write_results(config, results, extra)
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


class _Runner(NamedTuple):
    """Calls functions for tasks, here or on an executor."""

    executor: Executor | None
    display: _Display

    def all(self, function: Callable, jobs: Sequence[tuple[Task, tuple]], *, say: Callable[[Task, Any], str]) -> list:
        """The results in the order of ``jobs``, (task, arguments) each."""
        found: dict[int, Any] = {}
        for k, result in self._results(function, jobs):
            found[k] = result
            self.display.say(say(jobs[k][0], result))
            self.display.done()
        return [found[k] for k in range(len(jobs))]

    def _results(self, function: Callable, jobs: Sequence[tuple[Task, tuple]]) -> Iterator[tuple[int, Any]]:
        if self.executor is None:
            for k, (task, arguments) in enumerate(jobs):
                self.display.begin(f"{task.name}, {task.size} structures, seed {task.seed}")
                yield k, function(*arguments)
            return
        self.display.begin("waiting for workers")
        futures = {self.executor.submit(function, *arguments): k for k, (_, arguments) in enumerate(jobs)}
        for future in as_completed(futures):
            yield futures[future], future.result()


def _fitted(task: Task, found: Outcome) -> str:
    parts_of_line = [f"{task.name:<8} {task.size:>5} structures, seed {task.seed}:"]
    for quantity in ("energy", "forces"):
        if (value := found.row.get(f"test_{quantity}_rmse")) is not None:
            parts_of_line.append(f"{SHOWN[quantity].factor * value:.3g} {SHOWN[quantity].name}")
    return " ".join(parts_of_line) + f" on test, fitted in {found.row['fit_wall_s']:.1f} s"


def _last_tasks(tasks: Sequence[Task]) -> list[Task]:
    """The largest fit of each method for its first seed."""
    best: dict[str, Task] = {}
    for task in tasks:
        if task.name not in best or task.size > best[task.name].size:
            best[task.name] = task
    return list(best.values())


def _all_voltages(
    tasks: Sequence[Task], config: StudyConfig, atoms: Sequence[ase.Atoms], run: _Runner
) -> list[dict[str, Any]]:
    if not tasks:
        return []
    if not can_have_voltages(elements(atoms), config.metals):
        run.display.say("no voltages: the data does not hold Li, O and one of the metals")
        return []
    jobs = [(task, (task, config, config.out / "fits")) for task in tasks]
    found = run.all(method_voltages, jobs, say=lambda task, rows: f"{task.name:<8} relaxed {2 * len(rows)} cells")
    return [row for rows in found for row in rows]


def _described(source: str) -> str:
    """Source and citation of a shipped dataset, else the path as given."""
    from jaxmlip import datasets

    name = source.partition(":")[0]
    return datasets.describe(name) if name in datasets.available() else source
