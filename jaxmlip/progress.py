"""Progress bars, shown only where the caller asks for them."""

from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
Report = Callable[[dict[str, Any]], None]
"""What takes the row of each step of a fit."""


def track(items: Iterable[T], label: str, *, show: bool) -> Iterator[T]:
    """The ``items``, with a bar on standard error while they are worked through if ``show``.

    >>> list(track([1, 2], "fitting", show=False))
    [1, 2]
    """
    if not show:
        yield from items
        return
    from rich.console import Console
    from rich.progress import track as rich_track

    total = len(items) if isinstance(items, Sized) else None
    yield from rich_track(items, label, total=total, console=Console(stderr=True), transient=True)


@contextmanager
def live(label: str, total: int, *, show: bool | Report) -> Iterator[Report]:
    """A bar for steps that have numbers to tell: call what it gives with the row of each step.

    A function as ``show`` gets the rows instead.

    >>> with live("training", 2, show=False) as shown:
    ...     shown({"epoch": 1, "validation_energy": 12.0})
    """
    if not isinstance(show, bool):
        yield show
        return
    if not show:
        yield lambda row: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda row: bar.update(task, completed=row["epoch"], description=f"{label}, {_text(row)}")


def _text(row: dict[str, Any]) -> str:
    return row["text"] if "text" in row else row_text(row)


def row_text(row: dict[str, Any]) -> str:
    """The errors of a row of a training log, of validation where there is one.

    >>> row_text({"epoch": 3, "train_energy": 12.34, "train_forces": 0.1234})
    'train 12.3 meV/atom 0.123 eV/Å'
    """
    part = "validation" if "validation_loss" in row else "train"
    units = {"energy": "{:.1f} meV/atom", "forces": "{:.3f} eV/Å"}
    text = [unit.format(row[f"{part}_{n}"]) for n, unit in units.items() if f"{part}_{n}" in row]
    return " ".join([part, *text])
