"""Progress bars, shown only where the caller asks for them."""

from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

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
