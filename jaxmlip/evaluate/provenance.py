"""What made a result: settings, versions, machine, date and command, written as JSON beside it."""

import csv
import dataclasses
import datetime
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from jaxmlip.config import to_mapping
from jaxmlip.files import atomic_path

PACKAGES = ("jaxmlip", "jax", "jaxlib", "numpy", "scipy", "ase", "vesin", "jax-md", "optax")


def provenance(settings: Any = None, *, command: Sequence[str] | None = None, **facts: Any) -> dict[str, Any]:
    """A dict with ``settings`` (a dataclass or a mapping), versions, machine, date (UTC) and command line.

    >>> record = provenance({"ridge": 0.1}, seed=3)
    >>> record["settings"], record["seed"], "jax" in record["versions"]
    ({'ridge': 0.1}, 3, True)

    Args:
        settings: what the user chose.
        command: the words of the command; the default is the running program's.
        facts: anything else worth keeping, such as ``seed=``.
    """
    return {
        "settings": to_mapping(settings) if dataclasses.is_dataclass(settings) else settings,
        **facts,
        "command": list(command) if command is not None else [Path(sys.argv[0]).name, *sys.argv[1:]],
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "machine": {"python": platform.python_version(), "system": platform.platform(), "cores": _cores()},
    }


def write_json(path: str | Path, value: Any) -> None:
    """``value`` as JSON, whole or not at all; dataclasses, arrays and paths become plain, NaN becomes null."""
    with atomic_path(path) as temporary:
        text = json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def write_rows(folder: str | Path, stem: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Tidy rows as ``stem.jsonl`` (with types) and ``stem.csv`` (all columns of any row, empty where missing).

    What is nested stands in the CSV as JSON.
    """
    plain = [_plain(row) for row in rows]
    with atomic_path(Path(folder) / f"{stem}.jsonl") as temporary:
        lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in plain]
        temporary.write_text("".join(lines), encoding="utf-8")
    columns = list(dict.fromkeys(key for row in plain for key in row))
    with atomic_path(Path(folder) / f"{stem}.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, columns, restval="")
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in row.items()} for row in plain)


def _cell(value: Any) -> Any:
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    return "" if value is None else value


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _plain(value: Any) -> Any:
    """JSON has no arrays, paths, NaN or dataclasses."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = to_mapping(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray) or hasattr(value, "__array__"):
        return _plain(np.asarray(value).tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if isinstance(value, (str, int, bool)) or value is None else str(value)
