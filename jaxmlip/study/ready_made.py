"""The potentials that come with the package beside the fits of a study: on structures that neither learned from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ase
import numpy as np

import jaxmlip
from jaxmlip import __version__, pretrained
from jaxmlip.evaluate.errors import errors
from jaxmlip.evaluate.report import Section, Table
from jaxmlip.evaluate.style import label
from jaxmlip.potentials import Predicted, predict_atoms
from jaxmlip.study.config import StudyConfig
from jaxmlip.study.fits import Outcome
from jaxmlip.study.tasks import Parts, Task
from jaxmlip.study.voltages import kept_voltages
from jaxmlip.units import SHOWN

_QUANTITIES = ("energy", "forces")


def ready_made(
    config: StudyConfig, parts: Parts, fits: Mapping[str, tuple[Task, Outcome]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Errors, one row a potential, of those that come with the package and of ``fits``; and voltages of the former.

    Errors are those on the test structures that no shipped potential has learned from: none of them, no row.

    Args:
        config: of the study.
        parts: of the first seed.
        fits: method → the largest fit of this seed.
    """
    names = [name for name in config.pretrained or () if _knows(name, parts)]
    new = _unseen(names, parts.test, config.data)
    if not names or not new:
        return [], []
    frames = [parts.test[k] for k in new]
    predicted = {name: predict_atoms(jaxmlip.load(name), frames) for name in names}
    predicted |= {name: _some(found.test, new) for name, (_, found) in fits.items()}
    rows = [_row(name, name in names, one, frames) for name, one in predicted.items()]
    volts = [row for name in names for row in _voltages(name, config)] if config.voltages else []
    return rows, volts


def ready_made_section(rows: Sequence[Mapping[str, Any]]) -> Section:
    """A table: potentials that come with the package above the fits."""
    columns = ["potential", *(f"{quantity}, RMSE ({SHOWN[quantity].name})" for quantity in _QUANTITIES)]
    lines = [
        [row["method"] if row["pretrained"] else f"{label(row['method'])}, fitted here"]
        + [None if row[q] is None else SHOWN[q].factor * row[q] for q in _QUANTITIES]
        for row in rows
    ]
    text = [
        f"Potentials that come with jaxmlip, on those {rows[0]['n']} test structures that they have not learned from, "
        "and the largest fits of this study on the same ones.",
        "They have learned from labels of universal potentials, too, those of layered cells among them: their voltages "
        "are no test of transfer. Their cards say more: jaxmlip card NAME.",
    ]
    return Section("Pre-trained", text, [Table(columns, lines)])


def _knows(name: str, parts: Parts) -> bool:
    known = set(pretrained.card(name).elements)
    return all(known >= set(frame.symbols) for frame in [*parts.train, *parts.test])


def _unseen(names: Sequence[str], frames: Sequence[ase.Atoms], data: str) -> list[int]:
    """Places of the structures that none of the potentials was fitted to."""
    learned = {one for name in names for one in pretrained.card(name).learned} if data.startswith("ldr") else set()
    return [k for k, frame in enumerate(frames) if frame.info.get("id") not in learned]


def _some(predicted: Predicted, which: Sequence[int]) -> Predicted:
    parts: Any = (
        [part[k] for k in which] if isinstance(part, list) else np.asarray(part)[list(which)] for part in predicted
    )
    return Predicted(*parts)


def _row(name: str, shipped: bool, predicted: Predicted, frames: Sequence[ase.Atoms]) -> dict[str, Any]:
    table = errors(predicted, list(frames))
    found = {row.quantity: row.rmse for row in table.rows if row.scope == "all"}
    return {"method": name, "pretrained": shipped, "n": len(frames)} | {q: found.get(q) for q in _QUANTITIES}


def _voltages(name: str, config: StudyConfig) -> list[dict[str, Any]]:
    about = {"method": name, "size": None, "seed": None}
    return kept_voltages(about, name, config, Path(config.out) / "fits" / f"{name}-voltages-{__version__}.json")
