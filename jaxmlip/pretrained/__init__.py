"""Potentials shipped with the package: small, fast, and each with a card that says what it is good for.

`jaxmlip.load` takes their names. How they were made: ``scripts/universal_start.py``; what was measured:
``notebooks/universal_start.md``.
"""

import dataclasses
import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

from jaxmlip.config import unknown_name

_FOLDER = Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Card:
    """What one should know of a potential before using it."""

    name: str
    """As `jaxmlip.load` takes it."""
    family: str
    """One of `jaxmlip.FAMILIES`."""
    summary: str
    """What it is, in a sentence."""
    elements: tuple[str, ...]
    """Chemical symbols."""
    trained_on: str
    """Structures, and whose labels they carry."""
    made_by: str
    """The command that made it."""
    made_on: str
    """Date, year-month-day."""
    temperatures: tuple[float, float]
    """K; lowest and highest temperature of the dynamics that it was tried in."""
    errors: dict[str, float]
    """Root mean squares by name: the unit, and of which labels."""
    voltages: str
    """What the eight layered voltages gave."""
    limits: str
    """What it must not be used for."""
    citations: tuple[str, ...]
    """What to cite: data, teacher, family."""
    learned: tuple[int, ...]
    """``info["id"]`` of the structures of `jaxmlip.datasets` ``ldr`` that it was fitted to: they test nothing."""

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.summary}", f"elements     {' '.join(self.elements)}"]
        lines += [f"trained on   {self.trained_on}", f"made by      {self.made_by} ({self.made_on})"]
        lines += [f"temperatures {self.temperatures[0]:g} to {self.temperatures[1]:g} K"]
        lines += [f"error        {value:g} {name}" for name, value in self.errors.items()]
        lines += [f"voltages     {self.voltages}", f"limits       {self.limits}"]
        return "\n".join(lines + [f"cite         {one}" for one in self.citations])


class Files(NamedTuple):
    """Of one potential."""

    model: Path
    active_set: Path | None
    """Its domain: `jaxmlip.evaluate.load_active_set` takes the name, too. None: it would be too large to ship."""


def available() -> list[str]:
    """Names of the shipped potentials.

    >>> "rocksalt-mtp" in available()
    True
    """
    return sorted(path.stem for path in _FOLDER.glob("*.json"))


@cache
def card(name: str) -> Card:
    """What one should know of a shipped potential.

    >>> card("rocksalt-mtp").elements
    ('Li', 'O', 'Sc', 'Ti', 'V', 'Cr', 'Mn', 'Fe', 'Co', 'Ni', 'Cu')

    Raises:
        ValueError: no potential of this name is shipped.
    """
    _known(name)
    content = json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    lists = {key: tuple(content[key]) for key in ("elements", "citations", "learned")}
    return Card(**content | lists | {"temperatures": tuple(map(float, content["temperatures"]))})


def files(name: str) -> Files:
    """Where a shipped potential lies, for programs that want files.

    >>> files("rocksalt-mtp").model.name
    'rocksalt-mtp.npz'

    Raises:
        ValueError: no potential of this name is shipped.
    """
    _known(name)
    active = _FOLDER / f"{name}-active.npz"
    return Files(_FOLDER / f"{name}.npz", active if active.exists() else None)


def _known(name: str) -> None:
    if name not in available():
        raise ValueError(unknown_name("shipped potential", name, available()))
