"""``learning.html``: errors on fresh labels by round, doubt against true error, what was asked for, and its cost."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.stats import rankdata

from jaxmlip.evaluate import style
from jaxmlip.evaluate.provenance import provenance
from jaxmlip.evaluate.report import Picture, Section, Table, write_report
from jaxmlip.evaluate.report_charts import Axes, Curves, Line, Lines
from jaxmlip.learning.active.settings import Learning
from jaxmlip.units import SHOWN

Row = Mapping[str, Any]
_PARTS = {"fresh": "#0072b2", "test": "#d55e00"}
_NAMES = {"energy": "energy", "forces": "forces"}
_ENDS = {
    "inside": "It ended because an exploration stayed inside of the training data.",
    "budget": "It ended because the budget of calculations was spent.",
    "rounds": "It ended because no rounds were left.",
    "": "It has not ended.",
}


def write_page(folder: Path, rows: Sequence[Row], fresh: Sequence[Row], settings: Learning) -> None:
    """Write ``learning.html`` of the rounds ``rows`` and the new labels ``fresh``."""
    sections = [_summary(rows), _errors(rows)]
    if fresh:
        sections += [_doubts(fresh, settings), _asked(fresh)]
    sections.append(_cost(rows, fresh))
    write_report(folder / "learning.html", "Active learning", sections=sections, record=provenance(settings))


def _summary(rows: Sequence[Row]) -> Section:
    last = rows[-1]
    text = [
        f"{len(rows)} rounds and {last['spent']} calculations; the last model is fitted to {last['n_train']} labels. "
        + _ENDS[last["ended"]]
    ]
    columns = ["round", "labels", "explored", "outside (%)", "largest doubt", "data apart", "new labels", "failed"]
    keys = ("round", "n_train", "n_explored", "outside", "largest_doubt", "apart", "n_labelled", "n_failed")
    lines = [[_percent(key, row.get(key)) for key in keys] for row in rows]
    note = (
        "Doubt is relative to the training data of the round: at 1 a structure is as far out as the outermost of them. "
        "Outside are structures beyond the soft limit. Data apart: the doubt of one half of the training data, by the "
        "other half; where it is above 1, the hard limit counts in units of it."
    )
    return Section("Rounds", text, [Table(columns, lines, "", note)])


def _percent(key: str, value: Any) -> Any:
    return 100 * value if key == "outside" and value is not None else value


def _errors(rows: Sequence[Row]) -> Section:
    text = [
        "Fresh labels are those that a round's model asked for, before it was fitted to them: they show what the model "
        "gets wrong where it doubts most, not its error on an average structure."
    ]
    columns, keys = ["round", "labels"], ["round", "n_train"]
    factors = [1.0, 1.0]
    for part in _PARTS:
        for quantity in _NAMES:
            for measure in ("rmse", "max"):
                key = f"{part}_{quantity}_{measure}"
                if any(row.get(key) is not None for row in rows):
                    columns.append(f"{part} {quantity} {measure.upper()} ({SHOWN[quantity].name})")
                    keys.append(key)
                    factors.append(SHOWN[quantity].factor)
    lines = [[_scaled(row.get(k), f) for k, f in zip(keys, factors, strict=True)] for row in rows]
    pictures, charts = [], []
    if any(_series(rows, part, q)[0].size for part in _PARTS for q in _NAMES):
        pictures = [Picture(errors_figure(rows), "Errors by number of labels.", has_chart=True)]
        charts = [_curves(rows)]
    return Section("Errors", text, [Table(columns, lines)], pictures, charts)


def _scaled(value: Any, factor: float) -> Any:
    return value if value is None or isinstance(value, int) else factor * value


def _series(rows: Sequence[Row], part: str, quantity: str) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of labels, and errors in shown units."""
    key = f"{part}_{quantity}_rmse"
    known = [row for row in rows if row.get(key)]
    return np.array([r["n_train"] for r in known], int), np.array([SHOWN[quantity].factor * r[key] for r in known])


def _curves(rows: Sequence[Row]) -> Curves:
    panels = []
    present = [q for q in _NAMES if any(_series(rows, part, q)[0].size for part in _PARTS)]
    parts = {p: color for p, color in _PARTS.items() if any(_series(rows, p, q)[0].size for q in _NAMES)}
    for quantity in present:
        lines = []
        for part in parts:
            x, y = _series(rows, part, quantity)
            if x.size:
                lines.append(Line(part, "", x, y, y, y))
        unit = SHOWN[quantity].name
        panels.append(Lines((quantity,), Axes("labels", f"RMSE ({unit})", unit), lines))
    return Curves({"quantity": present}, parts, panels, [present[0]], "structures")


@style.styled
def errors_figure(rows: Sequence[Row]) -> Figure:
    """RMSE of energies and forces on fresh labels and test structures against the number of labels."""
    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    for axis, quantity in zip(figure.subplots(1, 2), _NAMES, strict=True):
        for part, color in _PARTS.items():
            x, y = _series(rows, part, quantity)
            if x.size:
                axis.plot(x, y, "o-", color=color, label=f"{part} {quantity}")
        axis.set(xlabel="labels", ylabel=f"RMSE ({SHOWN[quantity].name})", ylim=(0, None))
        if axis.lines:
            axis.legend()
    return figure


def _doubts(fresh: Sequence[Row], settings: Learning) -> Section:
    doubts, energy, force = (np.array([row[k] for row in fresh]) for k in ("doubt", "energy_error", "force_error"))
    lines = []
    edges = [0.0, settings.doubt.soft, np.sqrt(settings.doubt.soft * settings.doubt.hard), settings.doubt.hard, np.inf]
    for low, high in pairwise(edges):
        inside = (doubts > low) & (doubts <= high)
        if inside.any():
            name = f"{low:.3g} to {high:.3g}" if np.isfinite(high) else f"above {low:.3g}"
            rmse = float(np.sqrt(np.mean(energy[inside] ** 2)))
            lines.append([name, int(inside.sum()), SHOWN["energy"].factor * rmse, float(force[inside].mean())])
    text = ["How far out the model thought a structure was, and how wrong it then turned out to be."]
    ranks = [(rank_correlation(fresh, "energy_error"), "energies"), (rank_correlation(fresh, "force_error"), "forces")]
    known = [f"{value:.2f} with the errors of {name}" for value, name in ranks if value is not None]
    if known:
        text.append(f"Rank correlation of doubt within a round, the mean over rounds: {', '.join(known)}.")
    columns = ["doubt", "labels", "energy RMSE (meV/atom)", "mean force RMSE (eV/Å)"]
    picture = Picture(doubt_figure(fresh, settings), "Doubt of each new label against its true error; lines: limits.")
    return Section("Doubt against true error", text, [Table(columns, lines)], [picture])


def rank_correlation(fresh: Sequence[Row], key: str) -> float | None:
    """Spearman's, of doubt with the size of an error: mean over the rounds, whose doubts have units of their own.

    >>> rows = [{"round": 0, "doubt": x, "force_error": x**2} for x in (1.0, 3.0, 2.0)]
    >>> round(rank_correlation(rows, "force_error"), 6)
    1.0
    """
    found = []
    for number in sorted({row["round"] for row in fresh}):
        own = [row for row in fresh if row["round"] == number]
        x, y = (rankdata(column) for column in ([r["doubt"] for r in own], [abs(r[key]) for r in own]))
        if len(own) > 2 and np.ptp(x) > 0 and np.ptp(y) > 0:
            found.append(np.corrcoef(x, y)[0, 1])
    return float(np.mean(found)) if found else None


@style.styled
def doubt_figure(fresh: Sequence[Row], settings: Learning) -> Figure:
    """Errors of energies and forces of new labels against the doubt with which they were asked for."""
    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    energy = ("energy_error", "energy error (meV/atom)", SHOWN["energy"].factor)
    shown = (energy, ("force_error", "force RMSE (eV/Å)", 1.0))
    rounds = [row["round"] for row in fresh]
    for axis, (key, text, factor) in zip(figure.subplots(1, 2), shown, strict=True):
        x = np.clip([row["doubt"] for row in fresh], 1e-2, 1e6)
        y = np.clip([factor * abs(row[key]) for row in fresh], 1e-6, None)
        points = axis.scatter(x, y, c=rounds, s=12, cmap=style.DENSITY, vmin=0, vmax=max([*rounds, 1]))
        for limit in (settings.doubt.soft, settings.doubt.hard):
            if limit <= max(x):
                axis.axvline(limit, color="#888888", linewidth=0.8, linestyle="--")
        axis.set(xscale="log", yscale="log", xlabel="doubt", ylabel=text)
    figure.colorbar(points, ax=figure.axes, label="round", ticks=MaxNLocator(integer=True))
    return figure


def _asked(fresh: Sequence[Row]) -> Section:
    explorers, rounds = list(dict.fromkeys(r["explorer"] for r in fresh)), sorted({row["round"] for row in fresh})
    by_explorer = Table(
        ["round", *explorers],
        [[k, *(sum(r["round"] == k and r["explorer"] == e for r in fresh) for e in explorers)] for k in rounds],
        "New labels by explorer",
    )
    counts = Counter(row["formula"] for row in fresh)
    lines = []
    for formula, n in counts.most_common():
        own = [row for row in fresh if row["formula"] == formula]
        energy = SHOWN["energy"].factor * float(np.sqrt(np.mean([row["energy_error"] ** 2 for row in own])))
        lines.append([formula, n, energy, float(np.mean([row["force_error"] for row in own]))])
    columns = ["composition", "labels", "energy RMSE (meV/atom)", "mean force RMSE (eV/Å)"]
    return Section("What was asked for", (), [by_explorer, Table(columns, lines, "New labels by composition")])


def _cost(rows: Sequence[Row], fresh: Sequence[Row]) -> Section:
    stages = ("fit", "explore", "label")
    lines = [[row["round"], *(row["seconds"].get(stage) for stage in stages)] for row in rows]
    total = [sum(row["seconds"].get(stage, 0.0) for row in rows) for stage in stages]
    spent = sum(row["label_seconds"] for row in fresh)
    shown = f"{spent / 3600:.3g} hours" if spent > 600 else f"{spent:.3g} seconds"
    text = [f"The calculations took {shown}, one after another."]
    note = "Wall time; what a killed run spent on a stage that it did not finish is not counted."
    columns = ["round", *(f"{stage} (s)" for stage in stages)]
    return Section("Cost", text, [Table(columns, [*lines, ["all", *total]], "", note, 1)])
