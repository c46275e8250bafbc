"""Progress bars, shown only where the caller asks for them."""

from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


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
def live(label: str, total: int, *, show: bool) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A bar for steps that have numbers to tell: call what it gives with the row of each step.

    >>> with live("training", 2, show=False) as shown:
    ...     shown({"epoch": 1, "validation_energy": 12.0})
    """
    if not show:
        yield lambda row: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)

        def shown(row: dict[str, Any]) -> None:
            part = "validation" if "validation_loss" in row else "train"
            units = {"energy": "{:.1f} meV/atom", "forces": "{:.3f} eV/Å"}
            text = [unit.format(row[f"{part}_{n}"]) for n, unit in units.items() if f"{part}_{n}" in row]
            bar.update(task, completed=row["epoch"], description=f"{label}, {part} " + " ".join(text))

        yield shown
