"""What the commands share: a console, structures from several sources, records beside results."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase
from rich.console import Console

from jaxmlip.config import ConfigError
from jaxmlip.data.options import ReadOptions


def console() -> Console:
    """Standard output; wide enough that tables stay whole when it goes into a file."""
    probe = Console()
    return probe if probe.is_terminal else Console(width=120)


def structures(sources: Sequence[str], what: str, options: ReadOptions) -> list[ase.Atoms]:
    """All structures of files, folders, patterns and shipped data sets, in order; ``options`` say how files are read.

    Raises:
        ConfigError: no source was named.
    """
    from jaxmlip.study.sources import load_structures

    if not sources:
        raise ConfigError(f"no {what}: name a file, a folder, or a shipped data set such as ldr")
    return [frame for source in sources for frame in load_structures(source, **options.read_options)]


def one_structure(source: str, index: int, options: ReadOptions) -> ase.Atoms:
    """One structure of a source.

    Raises:
        ConfigError: no source was named, or it has no structure of this index.
    """
    frames = structures([source] if source else [], "structure", options)
    if not -len(frames) <= index < len(frames):
        raise ConfigError(f"--index {index}: {source} has {len(frames)} structures, counted from 0")
    return frames[index]


def record_beside(path: Path, settings: Any, words: Sequence[str], **facts: Any) -> None:
    """Write ``NAME.run.json`` beside the result ``NAME.suffix``, or ``run.json`` into a folder."""
    from jaxmlip.evaluate.provenance import provenance, write_json

    target = path / "run.json" if path.is_dir() else path.with_name(f"{path.name}.run.json")
    write_json(target, provenance(settings, command=["jaxmlip", *words], **facts))


def need_folder(path: Path) -> None:
    """Refuse an output file whose folder does not exist before time is spent on it.

    Raises:
        FileNotFoundError: with the folder's name.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: its folder {path.parent} does not exist; create it first")
