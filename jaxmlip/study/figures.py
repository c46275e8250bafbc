"""Figures over a study's rows: the heat map of errors, error against time, overfitting, voltages."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from jaxmlip.evaluate import style
from jaxmlip.study.learning_curve import curve, error_curve, plain_numbers, time_curve
from jaxmlip.study.published import VOLTAGES, PublishedVoltages
from jaxmlip.units import SHOWN

Row = Mapping[str, Any]
_QUANTITIES = ("energy", "forces")


@style.styled
def heat_map_figure(rows: Sequence[Row]) -> Figure:
    """RMSE by method and training-set size; each cell is split: training lower left, test upper right.

    As figure S1 of the published study, which shows qSNAP above SNAP.
    """
    methods, sizes = methods_of(rows), sorted({row["size"] for row in rows})
    quantities = [q for q in _QUANTITIES if any(row.get(f"test_{q}_rmse") is not None for row in rows)]
    size = (1.3 + 1.15 * len(sizes) * len(quantities) + 0.6, 1.0 + 0.62 * len(methods))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, len(quantities), squeeze=False)[0]
    for axis, quantity in zip(axes, quantities, strict=True):
        _heat_map(axis, rows, methods, sizes, quantity)
    for axis in axes[1:]:
        axis.set_yticklabels([])
    return figure


def _heat_map(axis: Any, rows: Sequence[Row], methods: list[str], sizes: list[int], quantity: str) -> None:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm

    cells = {}
    for part in ("train", "test"):
        for i, method in enumerate(methods):
            found, mean, *_ = error_curve(rows, method, part, quantity)
            cells |= {(i, sizes.index(n), part): value for n, value in zip(found, mean, strict=True)}
    norm, colors = LogNorm(min(cells.values()), max(cells.values())), colormaps["viridis_r"]
    for (i, j, part), value in cells.items():
        corner = (j, i) if part == "train" else (j + 1, i + 1)
        corners = np.array([corner, (j + 1, i), (j, i + 1)])
        axis.add_patch(Polygon(corners, facecolor=colors(norm(value)), edgecolor="white", linewidth=0.8))
        x, y = (j + 0.3, i + 0.25) if part == "train" else (j + 0.7, i + 0.75)
        shade = "white" if norm(value) > 0.55 else "#1d2733"
        axis.text(x, y, f"{value:.3g}", ha="center", va="center", fontsize=7, color=shade)
    axis.set(xlim=(0, len(sizes)), ylim=(0, len(methods)), title=f"{quantity} ({SHOWN[quantity].name})")
    axis.set_xticks(np.arange(len(sizes)) + 0.5, [str(n) for n in sizes])
    axis.set_yticks(np.arange(len(methods)) + 0.5, [style.label(m) for m in methods])
    axis.set_xlabel("training structures")
    axis.grid(visible=False)
    axis.tick_params(length=0)
    bar = axis.figure.colorbar(ScalarMappable(norm, colors), ax=axis, pad=0.02)
    plain_numbers(bar.ax.yaxis)


@style.styled
def error_time_figure(rows: Sequence[Row]) -> Figure:
    """Test errors against processor time of training, not compiling; one line a method, larger points: larger sets."""
    figure = Figure(figsize=(7.2, 3.1), layout="constrained")
    sizes = sorted({row["size"] for row in rows})
    for axis, quantity in zip(figure.subplots(1, 2), _QUANTITIES, strict=True):
        unit = SHOWN[quantity].name
        for method in methods_of(rows):
            n, seconds, *_ = time_curve(rows, method)
            found, error, *_ = error_curve(rows, method, "test", quantity)
            time = seconds[np.isin(n, found)]
            axis.plot(time, error, color=style.color(method), label=style.label(method))
            area = [16 + 50 * sizes.index(size) / max(len(sizes) - 1, 1) for size in found]
            axis.scatter(time, error, s=area, color=style.color(method), zorder=3)
        axis.set(
            xscale="log", yscale="log", xlabel="training, processor time (s)", ylabel=f"test {quantity} RMSE ({unit})"
        )
        plain_numbers(axis.xaxis)
        plain_numbers(axis.yaxis)
    _legend_below(figure)
    return figure


@style.styled
def overfitting_figure(rows: Sequence[Row]) -> Figure:
    """Test over training RMSE against training-set size: 1 means that nothing is learnt by heart."""
    figure = Figure(figsize=(7.2, 3.1), layout="constrained")
    for axis, quantity in zip(figure.subplots(1, 2), _QUANTITIES, strict=True):
        for method in methods_of(rows):
            size, test, *_ = curve(rows, method, f"test_{quantity}_rmse")
            _, train, *_ = curve(rows, method, f"train_{quantity}_rmse")
            axis.plot(size, test / np.maximum(train, 1e-12), "o-", color=style.color(method), label=style.label(method))
        axis.axhline(1.0, color="#444444", linewidth=0.8)
        axis.set(xscale="log", yscale="log", xlabel="training structures", ylabel=f"test / training RMSE, {quantity}")
        axis.xaxis.set_major_locator(FixedLocator(sorted({row["size"] for row in rows})))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        plain_numbers(axis.yaxis)
    _legend_below(figure)
    return figure


@style.styled
def voltage_figure(rows: Sequence[Row]) -> Figure:
    """Voltages by metal: DFT and the published models as lines, each method's where it has one as points."""
    metals = [metal for metal in VOLTAGES if any(row["metal"] == metal for row in rows)]
    figure = Figure(figsize=(7.2, 3.5), layout="constrained")
    axis = figure.subplots()
    places = np.arange(len(metals))
    for k, name in enumerate(PublishedVoltages._fields):
        values = [getattr(VOLTAGES[metal], name) for metal in metals]
        text = f"{'DFT' if name == 'dft' else style.label(name)} (published)"
        axis.plot(places, values, ("-", "--", ":")[k], color="#1d2733", linewidth=1.4 if k == 0 else 0.9, label=text)
    methods = methods_of(rows)
    for k, method in enumerate(methods):
        found = {row["metal"]: row["voltage"] for row in rows if row["method"] == method}
        known = [i for i, metal in enumerate(metals) if found.get(metal) is not None]
        shift = 0.5 * (k - (len(methods) - 1) / 2) / max(len(methods), 1)
        values = [found[metals[i]] for i in known]
        axis.plot(places[known] + shift, values, "o", color=style.color(method), label=style.label(method))
    axis.set_xticks(places, [f"Li{metal}O$_2$" for metal in metals])
    axis.set(ylabel="voltage against Li (V)")
    _legend_below(figure, 5)
    return figure


def methods_of(rows: Sequence[Row]) -> list[str]:
    """The methods in the order in which they appear."""
    return list(dict.fromkeys(row["method"] for row in rows))


def _legend_below(figure: Figure, ncols: int = 6) -> None:
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=ncols)
