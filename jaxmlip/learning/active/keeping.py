"""What a learning leaves on disk: each piece is written whole or not at all, and never made twice."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import ase

from jaxmlip.data.read import read, write
from jaxmlip.evaluate.provenance import write_json


def kept_frames(path: Path, make: Callable[[], Sequence[ase.Atoms]]) -> list[ase.Atoms]:
    """The structures in a file; it is written first where it is missing, and read also then, so that both are alike.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "one.extxyz"
    >>> len(kept_frames(path, lambda: [ase.Atoms("Li")])), len(kept_frames(path, lambda: []))
    (1, 1)
    """
    nothing = path.with_suffix(".none")
    if not path.exists() and not nothing.exists():
        frames = list(make())
        if frames:
            write(path, frames)
        else:  # a file of structures holds at least one
            write_json(nothing, {"structures": 0})
    return read(path) if path.exists() else []


class Times:
    """Seconds of the stages of a round; what a killed run had spent on an unfinished stage is not among them."""

    def __init__(self, path: Path):
        self.path = path

    @contextmanager
    def measured(self, stage: str, done: Path | None = None) -> Iterator[None]:
        """Adds the seconds of a block to a stage; nothing where its result ``done`` was there before."""
        if done is not None and done.exists():
            yield
            return
        started = perf_counter()
        yield
        found = self.read()
        found[stage] = found.get(stage, 0.0) + perf_counter() - started
        write_json(self.path, found)

    def read(self) -> dict[str, Any]:
        """Stage → seconds."""
        return read_json(self.path) if self.path.exists() else {}


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    import json

    return json.loads(path.read_text(encoding="utf-8"))
