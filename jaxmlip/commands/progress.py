"""How a long fit tells where it is: a bar on a terminal, lines now and then elsewhere, TensorBoard if asked for."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxmlip.commands.output import console
from jaxmlip.config import ConfigError
from jaxmlip.progress import Report, row_text

LINE_EVERY = 30.0
"""Seconds between lines where there is no terminal."""


@contextmanager
def training_progress(tensorboard: Path | None) -> Iterator[bool | Report]:
    """What `jaxmlip.fit` takes as ``show_progress``."""
    if tensorboard is None and console().is_terminal:
        yield True
        return
    line = _lines()
    if tensorboard is None:
        yield line
        return
    with _board(tensorboard) as write:

        def both(row: dict[str, Any]) -> None:
            line(row)
            write(row)

        yield both


def _lines() -> Report:
    last = time.monotonic()

    def line(row: dict[str, Any]) -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_EVERY:
            last = time.monotonic()
            epoch = f"epoch {row['epoch']}, " if "epoch" in row else ""
            sys.stderr.write(f"{epoch}{row_text(row)}\n")
            sys.stderr.flush()

    return line


@contextmanager
def _board(folder: Path) -> Iterator[Callable[[dict[str, Any]], None]]:
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise ConfigError("--tensorboard needs a package more: pip install tensorboardX") from None
    with SummaryWriter(str(folder)) as writer:

        def write(row: dict[str, Any]) -> None:
            if "epoch" in row:  # a fit in one piece has no curves
                for name in set(row) - {"epoch"}:
                    writer.add_scalar(name, row[name], row["epoch"])

        yield write
