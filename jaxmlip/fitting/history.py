"""What a fit did, step by step: kept in memory, and as JSON lines beside the checkpoint."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from jaxmlip.files import atomic_path


class History(NamedTuple):
    """What a fit did: a summary, and one row an epoch or iteration (or a ridge tried).

    Errors of an epoch, such as ``validation_energy``, are root mean squares in eV/atom, eV/Å and eV/Å³.
    """

    summary: dict[str, Any]
    rows: list[dict[str, Any]]


def write_log(path: Path, rows: list[dict[str, Any]]) -> None:
    """All rows as JSON lines, the whole file at once."""
    with atomic_path(path) as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def append_log(path: Path, row: dict[str, Any]) -> None:
    """One more line, so that a run can be watched."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a log; a last line that a kill cut off is left out.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "log.jsonl"
    >>> append_log(path, {"epoch": 1, "loss": 0.5})
    >>> read_log(path)
    [{'epoch': 1, 'loss': 0.5}]
    """
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows
