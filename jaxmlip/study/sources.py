"""Structures by a short name or a path, and a fingerprint of them."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase
import numpy as np

from jaxmlip.config import unknown_name
from jaxmlip.data import labels, read


def load_structures(source: str | Path, **keys: Any) -> list[ase.Atoms]:
    """The structures of a shipped dataset ("ldr", "mo", "si"; "mo:train" for a part) or of a file, folder or pattern.

    A path wins over a name, so that a folder called "mo" can be read; ``keys`` (as ``energy_key=``) are for paths.

    Raises:
        FileNotFoundError: neither a path nor a name.
        ValueError: the file cannot be read, or the dataset has no such part.
    """
    from jaxmlip import datasets

    name, _, part = str(source).partition(":")
    if Path(source).exists() or name not in datasets.available():
        return _read(source, datasets.available(), keys)
    return datasets.load(name, split=part) if part else datasets.load(name)


def _read(source: str | Path, names: Sequence[str], keys: dict[str, Any]) -> list[ase.Atoms]:
    try:
        return read(source, **keys)
    except FileNotFoundError as error:
        if Path(source).suffix or len(Path(source).parts) > 1:
            raise
        raise FileNotFoundError(
            f"{error}. Not a shipped dataset either: {unknown_name('dataset', str(source), names)}"
        ) from None


def fingerprint(atoms: Sequence[ase.Atoms]) -> str:
    """A short hash of species, positions, cells and labels: equal for equal data, whatever its file is called."""
    digest = hashlib.sha256()
    for frame in atoms:
        digest.update(np.ascontiguousarray(frame.numbers, np.int64).tobytes())
        for array in (frame.positions, frame.cell.array, *labels(frame)):
            digest.update(b"-" if array is None else np.ascontiguousarray(array, np.float64).tobytes())
    return digest.hexdigest()[:16]
