"""The course of an iterative fit: errors on training and validation structures over epochs."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from jaxmlip.evaluate.style import styled
from jaxmlip.units import SHOWN

_PANELS = {"energy": "energy RMSE", "forces": "force RMSE", "stress": "stress RMSE"}
_COLORS = {"train": "#5b5b5b", "validation": "#d55e00"}


@styled
def training_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """One panel for each quantity that has labels; ``rows`` as in ``History.rows`` or `jaxmlip.fitting.read_log`.

    >>> rows = [{"epoch": 1, "train_energy": 0.9}, {"epoch": 2, "train_energy": 0.4}]
    >>> len(training_figure(rows).axes)
    1

    Raises:
        ValueError: no row tells an error of an epoch.
    """
    shown = [name for name in _PANELS if any(f"{part}_{name}" in row for row in rows for part in _COLORS)]
    if not shown or "epoch" not in rows[0]:
        raise ValueError("the rows tell no errors over epochs: they are not those of an iterative fit")
    figure = Figure(figsize=(3.3 * len(shown), 2.7), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        unit, factor = SHOWN[name]
        for part, color in _COLORS.items():
            known = [(row["epoch"], factor * row[f"{part}_{name}"]) for row in rows if f"{part}_{name}" in row]
            if known:
                axes.plot(*zip(*known, strict=True), color=color, label=part)
        axes.set(xlabel="epoch", ylabel=f"{_PANELS[name]} ({unit})", yscale="log")
        axes.grid(which="minor", axis="y", alpha=0.5)
        axes.legend()
    return figure
