"""The charts of a study's report: parity points of every fit, and learning curves."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import ase
import numpy as np
from jaxtyping import Float, Int

from jaxmlip.evaluate.parity import AXES, Parity, parity
from jaxmlip.evaluate.report_charts import Axes, Curves, Line, Lines, Points, Scatter
from jaxmlip.evaluate.style import color, label
from jaxmlip.study.fits import Outcome
from jaxmlip.study.learning_curve import error_curve
from jaxmlip.study.tasks import Parts, Task
from jaxmlip.units import SHOWN

Results = Sequence[tuple[Task, Outcome]]
MAX_POINTS = 4000
"""Of one panel."""
_MIN_POINTS = 50  # of one panel, however many there are
_MAX_NUMBERS = 250_000  # of all panels together: 1.7 MB of a report that shall stay below 5 MB
_WORST = 20  # one point in this many is among the worst of a method
_ITEMS = {"energy": "structures", "forces": "force components", "stress": "stress components"}
_DIGITS = {"energy": 5, "forces": 4, "stress": 3}
_NAMES = ("id", "name", "material_id", "file", "group")  # of info: what a structure is called, the best first


def study_charts(
    results: Results, by_seed: Mapping[int, Parts], atoms: Sequence[ase.Atoms]
) -> dict[str, list[Scatter | Curves]]:
    """Charts by the title of the section that they belong to."""
    points, curves = parity_chart(results, by_seed, atoms), learning_curves([found.row for _, found in results])
    return {"Parity": [points] if points else [], "Learning curve": [curves] if curves.panels else []}


def parity_chart(results: Results, by_seed: Mapping[int, Parts], atoms: Sequence[ase.Atoms]) -> Scatter | None:
    """Predicted against reference of every method, size, part (train and test) and seed; None without labels.

    Points beyond `MAX_POINTS` a panel are left out at random, always in the same way; the worst of each method stay.

    Args:
        results: every task with its outcome.
        by_seed: seed → `Parts`, of the objects in ``atoms``.
        atoms: the data, whose order numbers the structures.
    """
    place = {id(frame): k for k, frame in enumerate(atoms)}
    sizes = sorted({task.size for task, _ in results})
    places, found = {}, {}
    for quantity, size, part, seed in product(SHOWN, sizes, ("test", "train"), by_seed):
        frames = by_seed[seed].train[:size] if part == "train" else by_seed[seed].test
        ours = [(task.name, getattr(o, part)) for task, o in results if (task.size, task.seed) == (size, seed)]
        points = {name: parity(predicted, frames, quantity=quantity) for name, predicted in ours}
        if any(one.reference.size for one in points.values()):
            choice = (quantity, str(size), part, str(seed))
            found[choice] = points
            places[choice] = np.array([place[id(frame)] for frame in frames])
    if not found:
        return None
    limit = _limit([(len(next(iter(points.values())).reference), len(points)) for points in found.values()])
    panels = [_panel(choice, points, places[choice], limit) for choice, points in found.items()]
    shown = {int(owner) for panel in panels for owner in panel.owner}
    names = ("quantity", "training structures", "data set", "seed")
    menus = {name: list(dict.fromkeys(choice[k] for choice in found)) for k, name in enumerate(names)}
    start = [menus["quantity"][0], menus["training structures"][-1], "test", menus["seed"][0]]
    return Scatter(
        menus,
        {label(name): color(name) for name in dict.fromkeys(task.name for task, _ in results)},
        [structure_text(frame, k) if k in shown else "" for k, frame in enumerate(atoms)],
        panels,
        start,
        caption="Predicted against reference. Hover, tap, or focus the plot and press the arrow keys to see "
        "which structure a point is, from the worst on. Predictions beyond the frame stand at its edge.",
    )


def structure_text(frame: ase.Atoms, index: int) -> str:
    r"""Index in the data, the name that ``info`` gives, and below these the composition.

    >>> from ase.build import bulk
    >>> structure_text(bulk("NaCl", "rocksalt", a=5.6), 3)
    'structure 3\nNaCl'
    """
    key = next((key for key in _NAMES if frame.info.get(key) is not None), None)
    name = f" ({key} {frame.info[key]})" if key else ""
    return f"structure {index}{name}\n{frame.get_chemical_formula(mode='metal')}"


def learning_curves(rows: Sequence[Mapping[str, Any]]) -> Curves:
    """RMSE against training-set size of each method and quantity; bands from the best to the worst seed."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    panels = []
    for quantity, (unit, _) in SHOWN.items():
        lines = []
        for method in methods:
            for part in ("train", "test"):
                sizes, mean, low, high = error_curve(rows, method, part, quantity)
                if sizes.size:
                    lines.append(Line(label(method), part, sizes, mean, low, high, dashed=part == "train"))
        if lines:
            panels.append(Lines((quantity,), Axes("training structures", f"RMSE ({unit})", unit, 5), lines))
    quantities = [panel.choice[0] for panel in panels]
    caption = "Root-mean-square error against the number of training structures: test solid, training dashed."
    colors = {label(method): color(method) for method in methods}
    return Curves({"quantity": quantities}, colors, panels, quantities[:1], caption=caption)


def _limit(panels: Sequence[tuple[int, int]]) -> int:
    """Points a panel: `MAX_POINTS`, or fewer if panels of so many (points, methods) would make the page too large."""
    for limit in range(MAX_POINTS, _MIN_POINTS, -_MIN_POINTS):
        if sum(min(n, limit) * (n_methods + 3) for n, n_methods in panels) <= _MAX_NUMBERS:
            return limit
    return _MIN_POINTS


def _panel(choice: tuple[str, ...], found: Mapping[str, Parity], owners: Int[np.ndarray, " m"], limit: int):
    """The points of all methods of one quantity, size, part and seed; their references are the same."""
    quantity = choice[0]
    first = next(iter(found.values()))
    kept = chosen_points([points.predicted - points.reference for points in found.values()], limit)
    (unit, factor), (error_unit, error_factor) = AXES[quantity], SHOWN[quantity]
    item = np.arange(len(first.structure)) - np.searchsorted(first.structure, first.structure)  # from each one's first
    return Points(
        choice,
        Axes(
            f"reference {quantity} ({unit})",
            f"predicted ({unit})",
            unit,
            _DIGITS[quantity],
            error_unit,
            error_factor / factor,
        ),
        factor * first.reference[kept],
        {label(name): factor * points.predicted[kept] for name, points in found.items()},
        owners[first.structure[kept]],
        item[kept] if quantity == "forces" else None,
        {label(name): _errors(points) for name, points in found.items()},
        _which(quantity, len(kept), len(first.reference), _n_worst(limit)),
    )


def chosen_points(errors: Sequence[Float[np.ndarray, " m"]], limit: int) -> Int[np.ndarray, " n"]:
    """Indices, in order, of at most ``limit`` points: the worst of each method, then others by a fixed random order.

    >>> chosen_points([np.array([0.0, 5.0, 0.1]), np.array([0.0, -0.2, 9.0])], 40).tolist()
    [0, 1, 2]
    """
    n = len(errors[0])
    if n <= limit:
        return np.arange(n)
    worst = [
        np.argsort(-np.nan_to_num(np.abs(error), nan=np.inf), kind="stable")[: _n_worst(limit)] for error in errors
    ]
    order = np.random.Generator(np.random.PCG64(0)).permutation(n)
    candidates = np.concatenate([*(column for column in np.stack(worst, 1)), order])
    _, first = np.unique(candidates, return_index=True)
    return np.sort(candidates[np.sort(first)[:limit]])


def _n_worst(limit: int) -> int:
    return max(limit // _WORST, 1)


def _which(quantity: str, kept: int, total: int, n_worst: int) -> str:
    if kept == total:
        return f"All {total:,} {_ITEMS[quantity]}."
    return (
        f"{kept:,} of {total:,} {_ITEMS[quantity]}, the worst {n_worst} of each method among them; "
        "RMSE and MAE are over all."
    )


def _errors(points: Parity) -> str:
    unit, factor = SHOWN[points.quantity]
    difference = (points.predicted - points.reference) * factor
    return f"RMSE {np.sqrt(np.mean(difference**2)):.3g} {unit}, MAE {np.abs(difference).mean():.3g}"
