"""Progress bars, shown only where the caller asks for them."""

import signal
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Any, TypeVar

from jaxmlip.units import SHOWN

T = TypeVar("T")
Report = Callable[[dict[str, Any]], None]
"""What takes the row of each step of a fit."""


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived: a fit ended after its epoch, on packed data after its step, and left a checkpoint.

    The same call goes on from there.
    """

    exit_code = 128 + signal.SIGTERM
    """Of a program that ends so, as of one that the signal kills."""


def track(items: Iterable[T], label: str, *, show: bool | Report) -> Iterator[T]:
    """The ``items``, with a bar on standard error while they are worked through if ``show``.

    A function as ``show`` gets a row ``{"stage": label, "step": 1, "n_steps": …}`` after each item (None: not known).

    >>> list(track([1, 2], "fitting", show=False))
    [1, 2]
    """
    total = len(items) if isinstance(items, Sized) else None
    if not isinstance(show, bool):
        for step, item in enumerate(items, 1):
            yield item
            show({"stage": label, "step": step, "n_steps": total})
        return
    if not show:
        yield from items
        return
    from rich.console import Console
    from rich.progress import track as rich_track

    yield from rich_track(items, label, total=total, console=Console(stderr=True), transient=True)


@contextmanager
def live(label: str, total: int, *, show: bool | Report) -> Iterator[Report]:
    """A bar for steps that have numbers to tell: call what it gives with the row of each step.

    A function as ``show`` gets the rows instead.

    >>> with live("training", 2, show=False) as shown:
    ...     shown({"epoch": 1, "validation_energy": 0.012})
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
        yield lambda row: bar.update(task, completed=row.get("epoch"), description=f"{label}, {_text(row)}")


def _text(row: dict[str, Any]) -> str:
    return row["text"] if "text" in row else row_text(row)


def row_text(row: dict[str, Any]) -> str:
    """The errors of a row of a training log (in eV), of validation where there is one; or how far a stage is.

    >>> row_text({"epoch": 3, "train_energy": 0.01234, "train_forces": 0.1234})
    'train 12.3 meV/atom 0.123 eV/Å'
    """
    if "stage" in row:
        text = f"{row['stage']}, {row['step']} of {row['n_steps'] or 'many'}"
        return f"{text}, {_errors_text(row)}" if "train_loss" in row else text
    return _errors_text(row)


def _errors_text(row: dict[str, Any]) -> str:
    part = "validation" if "validation_loss" in row else "train"
    digits = {"energy": 1, "forces": 3}
    found = {name: row.get(f"{part}_{name}") for name in digits}
    text = [
        f"{SHOWN[name].factor * value:.{digits[name]}f} {SHOWN[name].name}"
        for name, value in found.items()
        if value is not None
    ]
    return " ".join([part, *text])
