"""Parity: predicted against reference values, as tidy data and as the published figures (train row above test row)."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import ase
import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxmlip.evaluate import style
from jaxmlip.evaluate.errors import UNITS, finite_label
from jaxmlip.potentials.predictions import Predicted
from jaxmlip.units import SHOWN, ErrorUnit

AXES = {"energy": ErrorUnit(UNITS["energy"], 1.0), "forces": SHOWN["forces"], "stress": SHOWN["stress"]}
"""Units of the values on the axes of a parity plot: eV/atom, eV/Å, GPa."""
_NAMES = {"energy": "energy", "forces": "force component", "stress": "stress component"}
_CELLS = 100  # a side of the grid in which points are counted for their colour


class Parity(NamedTuple):
    """Predicted and reference values of one quantity in eV/atom, eV/Å or eV/Å³, and the structure each belongs to."""

    quantity: str
    reference: Float[np.ndarray, " n"]
    predicted: Float[np.ndarray, " n"]
    structure: Int[np.ndarray, " n"]

    def records(self) -> Iterator[dict[str, Any]]:
        """One dict a point: quantity, unit, structure (index), reference, predicted."""
        unit = UNITS[self.quantity]
        for reference, predicted, structure in zip(self.reference, self.predicted, self.structure, strict=True):
            yield {
                "quantity": self.quantity,
                "unit": unit,
                "structure": int(structure),
                "reference": float(reference),
                "predicted": float(predicted),
            }


def parity(predicted: Predicted, atoms: Sequence[ase.Atoms], *, quantity: str = "energy") -> Parity:
    """The points of a parity plot: energies per atom (eV), force components (eV/Å) or stress components (eV/Å³).

    >>> from ase.build import bulk
    >>> from jaxmlip.data.labels import Labels, attach
    >>> atoms = bulk("Mo", cubic=True)
    >>> attach(atoms, Labels(-21.0, None, None))
    >>> parity(Predicted(np.array([-20.0]), [np.zeros((2, 3))], np.zeros((1, 3, 3))), [atoms]).predicted
    array([-10.])

    Raises:
        ValueError: no such quantity, or a label that is not finite.
    """
    if quantity not in UNITS:
        raise ValueError(f"quantity must be one of {', '.join(UNITS)}, got {quantity!r}")
    reference, values, structure = [np.empty(0)], [np.empty(0)], [np.empty(0, int)]
    for index, frame in enumerate(atoms):
        label = finite_label(frame, quantity, index)
        if label is None:
            continue
        scale = {"energy": 1 / len(frame), "forces": 1.0, "stress": 1.0}[quantity]
        reference.append(np.ravel(label) * scale)
        values.append(np.ravel(getattr(predicted, quantity)[index]) * scale)
        structure.append(np.full(np.size(label), index))
    return Parity(quantity, np.concatenate(reference), np.concatenate(values), np.concatenate(structure))


@style.styled
def parity_figure(
    panels: Mapping[str, Mapping[str, Parity]], *, title: str | None = None, n_columns: int | None = None
) -> Figure:
    """A grid of parity plots: one column a potential, one row a data set, coloured by the density of points.

    >>> points = Parity("energy", np.arange(3.0), np.arange(3.0), np.arange(3))
    >>> len(parity_figure({"snap": {"train": points, "test": points}}).axes)
    2

    Args:
        panels: name of a potential → name of a data set ("train", "test", in the order of rows) → points; all of
            one quantity.
        title: above the figure.
        n_columns: at most this many side by side, further potentials below, as evenly as can be; None: all of them.
    """
    names = list(panels)
    rows = list(dict.fromkeys(row for column in panels.values() for row in column))
    across = _balanced(len(names), n_columns or len(names))
    size = (0.5 + 2.6 * across[0], (0.3 if title else 0.0) + 2.5 * len(rows) * len(across))
    figure = Figure(figsize=size, layout="constrained")
    halves = figure.add_gridspec(len(rows) * len(across), 2 * across[0])
    quantity = next(points.quantity for column in panels.values() for points in column.values())
    unit, factor = AXES[quantity]
    low, high = _limits([factor * points.reference for column in panels.values() for points in column.values()])
    places = [(line, j) for line, n in enumerate(across) for j in range(n)]
    for (i, row), (name, (line, j)) in product(enumerate(rows), zip(names, places, strict=True)):
        left = across[0] - across[line] + 2 * j  # a shorter line stands in the middle
        axis = figure.add_subplot(halves[i + len(rows) * line, left : left + 2])
        axis.set(xlim=(low, high), ylim=(low, high), aspect="equal")
        axis.xaxis.set_major_locator(MaxNLocator(5))
        axis.yaxis.set_major_locator(MaxNLocator(5))
        if row in panels[name]:
            _draw(axis, panels[name][row], (low, high))
        if i == 0:
            axis.set_title(style.label(name))
        axis.set_xlabel(f"reference {_NAMES[quantity]} ({unit})" if i == len(rows) - 1 else "")
        axis.set_ylabel(f"{row}\npredicted ({unit})" if j == 0 else "")
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def _balanced(n: int, most: int) -> list[int]:
    """How many stand in each of the fewest lines of at most ``most``: lengths differ by one at most."""
    n_lines = -(-n // most)
    return [n // n_lines + (line < n % n_lines) for line in range(n_lines)]


def _limits(references: list[Float[np.ndarray, " _"]]) -> tuple[float, float]:
    """Limits from the reference alone, widened, so that one wild prediction does not shrink every panel."""
    reference = np.concatenate(references)
    low, high = (float(reference.min()), float(reference.max())) if reference.size else (0.0, 1.0)
    margin = 0.08 * (high - low) or 0.5
    return low - margin, high + margin


def _draw(axis, points: Parity, limits: tuple[float, float]) -> None:
    low, high = limits
    axis.plot([low, high], [low, high], color="#444444", linewidth=0.8, zorder=1)
    factor = AXES[points.quantity].factor
    reference, predicted = factor * points.reference, factor * points.predicted
    inside = np.clip(predicted, low, high)
    density = point_density(reference, inside, limits)
    order = np.argsort(density)  # the densest on top
    size = float(np.clip(3000 / max(len(order), 1), 2, 14))
    axis.scatter(
        reference[order], inside[order], c=density[order],
        s=size, cmap=style.DENSITY, linewidths=0, rasterized=True, zorder=2, clip_on=False,
    )  # fmt: skip
    axis.text(
        0.04, 0.96, _note(points, int(np.sum(predicted != inside))),
        transform=axis.transAxes, va="top", fontsize=7.5, linespacing=1.4,
    )  # fmt: skip


def _note(points: Parity, n_outside: int) -> str:
    difference = points.predicted - points.reference
    if not difference.size:
        return "no labels"
    unit, factor = SHOWN[points.quantity]
    rmse, mae = np.sqrt(np.mean(difference**2)) * factor, np.abs(difference).mean() * factor
    lines = [f"RMSE {rmse:.3g} {unit}", f"MAE {mae:.3g} {unit}"]
    return "\n".join(lines + ([f"{n_outside} beyond the frame"] if n_outside else []))


def point_density(
    x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], limits: tuple[float, float]
) -> Float[np.ndarray, " n"]:
    """The logarithm of the number of points around each point: counts on a grid over ``limits``, smoothed."""
    from scipy.ndimage import gaussian_filter, map_coordinates

    edges = np.linspace(*limits, _CELLS + 1)
    counts, _, _ = np.histogram2d(x, y, bins=(edges, edges))
    smooth = gaussian_filter(counts, sigma=1.5, mode="constant")
    places = [(np.asarray(v) - limits[0]) / (limits[1] - limits[0]) * _CELLS - 0.5 for v in (x, y)]
    return np.log10(np.maximum(map_coordinates(smooth, places, order=1, mode="nearest"), 0.01))
