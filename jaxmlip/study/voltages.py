"""Voltages of layered cells for the methods of a study, kept like its fits."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import jaxmlip
from jaxmlip.cathodes import Voltage, voltages
from jaxmlip.evaluate.provenance import write_json
from jaxmlip.study.config import StudyConfig
from jaxmlip.study.fits import model_path
from jaxmlip.study.published import VOLTAGES, PublishedVoltages
from jaxmlip.study.tasks import Task


def method_voltages(task: Task, config: StudyConfig, folder: Path) -> list[dict[str, Any]]:
    """One row a metal: metal, voltage (V or None), status, seconds; from ``folder`` if it was computed before."""
    about = {"method": task.name, "size": task.size, "seed": task.seed}
    return kept_voltages(about, model_path(task, folder), config, folder / f"{task.name}-voltages-{task.key}.json")


def kept_voltages(about: dict[str, Any], model: str | Path, config: StudyConfig, record: Path) -> list[dict[str, Any]]:
    """The rows of a model, which begin with ``about``: from ``record`` if it has them, else written there."""
    facts = {"metals": list(config.metals), "lithium_energy": config.lithium_energy}
    if record.exists():
        kept = json.loads(record.read_text(encoding="utf-8"))
        if kept["settings"] == facts:
            return kept["rows"]
    found = voltages(jaxmlip.load(model), metals=config.metals, lithium_energy=config.lithium_energy)
    rows = [about | voltage_row(one) for one in found]
    write_json(record, {"settings": facts, "rows": rows})
    return rows


def voltage_row(found: Voltage) -> dict[str, Any]:
    """A result of `jaxmlip.cathodes.voltages` as a plain row, with the published values and the error against DFT."""
    known = VOLTAGES.get(found.metal)
    row = found._asdict() | (known._asdict() if known else dict.fromkeys(PublishedVoltages._fields))
    if known is None or found.voltage is None:
        return row | {"error": None, "error_percent": None}
    error = found.voltage - known.dft
    return row | {"error": error, "error_percent": 100 * error / known.dft}


class VoltageErrors(NamedTuple):
    """Mean |error| in V and in %, and how many rows have one; NaN if none has."""

    volts: float
    percent: float
    n: int


def mean_absolute_error(rows: Sequence[dict[str, Any]]) -> VoltageErrors:
    """Over the rows that have an error."""
    errors = np.array([(abs(row["error"]), abs(row["error_percent"])) for row in rows if row["error"] is not None])
    if not len(errors):
        return VoltageErrors(float("nan"), float("nan"), 0)
    return VoltageErrors(float(errors[:, 0].mean()), float(errors[:, 1].mean()), len(errors))


def voltage_table(rows: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    """Columns and lines: metal, published DFT, each method (a number, or the reason why there is none), AENET, MTP.

    The last line is the mean absolute difference to DFT, over the metals that have a number.
    """
    methods = list(dict.fromkeys(row["method"] for row in rows))
    cells = {(row["method"], row["metal"]): row for row in rows}
    metals = [metal for metal in VOLTAGES if any((method, metal) in cells for method in methods)]
    metals += [row["metal"] for row in rows if row["metal"] not in metals and row["method"] == methods[0]]
    lines = []
    for metal in metals:
        known = VOLTAGES.get(metal)
        found = [voltage_cell(cells.get((method, metal))) for method in methods]
        lines.append([metal, known and known.dft, *found, known and known.aenet, known and known.mtp])
    lines.append(["mean |Δ| to DFT", None, *(_mean_difference(lines, k) for k in range(2, 4 + len(methods)))])
    return ["TM", "DFT (published)", *methods, "AENET (published)", "MTP (published)"], lines


def voltage_cell(row: dict[str, Any] | None) -> float | str | None:
    """A voltage in V, or in words why it is not one; a number from cells that ran away would be a lie."""
    if row is None:
        return None
    return round(row["voltage"], 2) if row["status"] == "converged" and row["voltage"] is not None else row["status"]


def _mean_difference(lines: list[list[Any]], column: int) -> float | str:
    pairs = [(line[column], line[1]) for line in lines if isinstance(line[column], float) and line[1] is not None]
    if not pairs:
        return "—"
    mean = sum(abs(value - reference) for value, reference in pairs) / len(pairs)
    return round(mean, 2) if len(pairs) == len(lines) else f"{mean:.2f} ({len(pairs)} of {len(lines)})"


def can_have_voltages(known: Sequence[str], metals: Sequence[str]) -> bool:
    """Whether data or a model with the elements ``known`` can give at least one of the voltages."""
    return {"Li", "O"} <= set(known) and not set(metals).isdisjoint(known)
