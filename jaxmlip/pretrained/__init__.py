"""Potentials that come with the package: fast ones, for a first number in a minute; each with a card.

`jaxmlip.load(name)` reads one; `describe` says what it was trained on, what it is good for, and what to cite.
"""

import json
from pathlib import Path
from typing import NamedTuple

from jaxmlip.config import unknown_name

GRADES = "-grades.npz"
"""Ends the name of a file with the active set for extrapolation grades (`jaxmlip.evaluate.grade.shipped`)."""
UNGRADED = ("radial*",)
"""Parameters that the grades leave out, so that the file stays small."""
_FOLDER = Path(__file__).parent


class Card(NamedTuple):
    """What a user must know of a potential."""

    summary: str
    elements: tuple[str, ...]
    trained_on: str
    made_by: str
    """The script and its commands."""
    valid_for: str
    """Structures and temperatures."""
    errors: str
    """Measured, with the date."""
    cite: tuple[str, ...]


def available() -> list[str]:
    """The names that `jaxmlip.load` knows.

    >>> "rocksalt-mtp" in available()
    True
    """
    return sorted(path.stem for path in _FOLDER.glob("*.json"))


def path_of(name: str) -> Path:
    """The file of a potential.

    Raises:
        ValueError: an unknown name.
    """
    if name not in available():
        raise ValueError(unknown_name("potential of the package", name, available()))
    return _FOLDER / f"{name}.npz"


def card(name: str) -> Card:
    """The card of a potential.

    >>> card("rocksalt-mtp").elements[:2]
    ('Li', 'O')

    Raises:
        ValueError: an unknown name.
    """
    found = json.loads(path_of(name).with_suffix(".json").read_text(encoding="utf-8"))
    return Card(**{key: tuple(value) if isinstance(value, list) else value for key, value in found.items()})


def describe(name: str) -> str:
    """The card as text.

    >>> print(describe("rocksalt-mtp").splitlines()[1])
    elements: Li, O, Sc, Ti, V, Cr, Mn, Fe, Co, Ni, Cu

    Raises:
        ValueError: an unknown name.
    """
    found = card(name)
    lines = [f"{name}: {found.summary}"]
    for key, value in found._asdict().items():
        if key not in ("summary", "cite"):
            lines.append(f"{key.replace('_', ' ')}: {', '.join(value) if isinstance(value, tuple) else value}")
    return "\n".join([*lines, *(f"cite: {paper}" for paper in found.cite)])
