"""SIGTERM, as schedulers send it before the time is up: training ends after the epoch, with a checkpoint."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from jaxmlip.fitting.training.devices import any_process


@contextmanager
def termination(*, handled: bool) -> Iterator[Callable[[], bool]]:
    """A function that tells whether any process got SIGTERM inside the block; what handled it before comes back after.

    Unless ``handled`` the signal does what it always does: a run that keeps nothing has nothing to end with. Only the
    main thread can handle signals; elsewhere the function is false until another process is asked.

    >>> with termination(handled=True) as asked:
    ...     asked()
    False
    """
    if not handled:
        yield lambda: False
        return
    if threading.current_thread() is not threading.main_thread():
        yield lambda: any_process(flag=False)
        return
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    try:
        yield lambda: any_process(bool(received))
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)
