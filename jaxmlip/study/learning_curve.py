"""Figures over a study's rows: errors and times against the size of the training set."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from jaxmlip.evaluate import style
from jaxmlip.units import SHOWN

Row = Mapping[str, Any]


class Curve(NamedTuple):
    """A value over training-set sizes: mean, smallest and largest over the seeds."""

    sizes: Int[np.ndarray, " n_sizes"]
    mean: Float[np.ndarray, " n_sizes"]
    low: Float[np.ndarray, " n_sizes"]
    high: Float[np.ndarray, " n_sizes"]


def curve(rows: Sequence[Row], method: str, value: str) -> Curve:
    """Sizes, and mean, smallest and largest of ``value`` over the seeds at each.

    >>> rows = [{"method": "snap", "size": 30, "seed": s, "test_energy_rmse": 0.25 + s} for s in (0, 2)]
    >>> [column.tolist() for column in curve(rows, "snap", "test_energy_rmse")]
    [[30], [1.25], [0.25], [2.25]]
    """
    found = [(row["size"], row[value]) for row in rows if row["method"] == method and row.get(value) is not None]
    sizes = sorted({size for size, _ in found})
    groups = [[v for size, v in found if size == wanted] for wanted in sizes]
    columns = [np.array([fold(group) for group in groups]) for fold in (np.mean, np.min, np.max)]
    return Curve(np.array(sizes, int), *columns)


def error_curve(rows: Sequence[Row], method: str, part: str, quantity: str) -> Curve:
    """`curve` of the RMSE of one quantity on ``part`` (train or test), in the units of figures (`SHOWN`)."""
    sizes, *errors = curve(rows, method, f"{part}_{quantity}_rmse")
    return Curve(sizes, *(SHOWN[quantity].factor * one for one in errors))


def training_cpu(row: Row) -> float:
    """Processor seconds of a fit without compiling, which took the same share of them as of its wall time."""
    return row["fit_cpu_s"] * max(1 - row["fit_compile_s"] / row["fit_wall_s"], 0.0)


def time_curve(rows: Sequence[Row], method: str) -> Curve:
    """`training_cpu`, the seconds of a fit."""
    return curve([{**row, "seconds": training_cpu(row)} for row in rows], method, "seconds")


@style.styled
def learning_curve_figure(rows: Sequence[Row]) -> Figure:
    """RMSE of energy and forces against training-set size; test solid, train dashed, a band over seeds."""
    names = {"energy": "energy", "forces": "force"}
    quantities = [(quantity, f"{name} RMSE ({SHOWN[quantity].name})") for quantity, name in names.items()]
    quantities = [q for q in quantities if any(row.get(f"test_{q[0]}_rmse") is not None for row in rows)]
    figure = Figure(figsize=(3.6 * max(len(quantities), 1), 3.7), layout="constrained")
    axes = figure.subplots(1, max(len(quantities), 1), squeeze=False)[0]
    for axis, (quantity, text) in zip(axes, quantities, strict=True):
        for method in _methods(rows):
            _draw(axis, rows, method, quantity)
        axis.set(xscale="log", yscale="log", xlabel="training structures", ylabel=text)
        _mark_sizes(axis, rows)
        plain_numbers(axis.yaxis)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(6, len(labels)), handlelength=2.6)
    return figure


@style.styled
def times_figure(rows: Sequence[Row]) -> Figure:
    """Processor time of training against size, and time per atom for energy, forces and stress, both once compiled.

    Dashed: training time with the compilation that this run had to do.
    """
    figure = Figure(figsize=(7.2, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    methods = _methods(rows)
    for method in methods:
        color = style.color(method)
        left.plot(*time_curve(rows, method)[:2], "o-", color=color, label=style.label(method))
        both = curve(rows, method, "fit_cpu_s")[:2]
        left.plot(*both, "o--", color=color, markerfacecolor="white", label=f"{style.label(method)}, compiled anew")
    left.set(xscale="log", yscale="log", xlabel="training structures", ylabel="training, processor time (s)")
    _mark_sizes(left, rows)
    plain_numbers(left.yaxis)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    means = [float(np.mean([r["inference_us_per_atom"] for r in rows if r["method"] == m])) for m in methods]
    bars = right.barh([style.label(m) for m in methods], means, color=[style.color(m) for m in methods], height=0.55)
    right.bar_label(bars, fmt="%.3g", padding=3, fontsize=8)
    right.set(xlabel="energy, forces, stress (µs/atom)", xlim=(0, 1.15 * max(means)))
    right.invert_yaxis()
    right.grid(visible=False, axis="y")
    return figure


def _methods(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["method"] for row in rows))


def _draw(axis, rows: Sequence[Row], method: str, quantity: str) -> None:
    for part, line in (("test", "o-"), ("train", "o--")):
        size, mean, low, high = error_curve(rows, method, part, quantity)
        color = style.color(method)
        hollow = {"markerfacecolor": "white"} if part == "train" else {}
        axis.plot(size, mean, line, color=color, label=f"{style.label(method)} {part}", **hollow)
        if part == "test" and (high > low).any():
            axis.fill_between(size, low, high, color=color, alpha=0.15, linewidth=0)


def _mark_sizes(axis, rows: Sequence[Row]) -> None:
    """The sizes that were run are the ticks."""
    axis.xaxis.set_major_locator(FixedLocator(sorted({row["size"] for row in rows})))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def plain_numbers(axis) -> None:
    """Logarithmic ticks as 20 and 0.5 rather than powers of ten; the shorter the axis, the more of them."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    low, high = axis.get_view_interval()
    decades = np.log10(high / low)
    shown = "123456789" if decades < 0.5 else "12346" if decades < 1.1 else "125" if decades < 3 else "1"
    axis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in shown else ""))
