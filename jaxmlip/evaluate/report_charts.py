"""Plots of a report that answer to pointer, touch and keys: numbers as JSON in the page, drawn by the page.

They know nothing of studies. A chart has menus; each panel is what it shows at one value of every menu.
"""

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Axes(NamedTuple):
    """Labels and units of a panel, and how its values are written."""

    x: str
    y: str
    unit: str
    digits: int = 4
    """Decimals of values, in the page too: the rest would only make it larger."""
    error_unit: str = ""
    """Of y - x; empty: ``unit``."""
    error_scale: float = 1.0
    """``error_unit`` in ``unit``, inverted: 1000 for eV/atom shown as meV/atom."""


class Points(NamedTuple):
    """Predicted against reference values; each point has a prediction of every name."""

    choice: Sequence[str]
    """The value of each menu of the `Scatter`."""
    axes: Axes
    reference: Float[np.ndarray, " n"]
    predicted: Mapping[str, Float[np.ndarray, " n"]]
    owner: Int[np.ndarray, " n"]
    """Index into the `Scatter`'s ``owners``."""
    item: Int[np.ndarray, " n"] | None = None
    """Place within the owner's flattened [n_atoms, 3] values; None: the value is the owner's alone."""
    notes: Mapping[str, str] = {}
    """A line for each name, such as its errors over all points."""
    caption: str = ""
    """Which points these are, if not all."""


class Scatter(NamedTuple):
    """Parity plots with a menu of names ("switch family"), an overlay of all of them, and further menus."""

    menus: Mapping[str, Sequence[str]]
    colors: Mapping[str, str]
    """Name → CSS colour; in the order of the menu of names."""
    owners: Sequence[str]
    """What a point belongs to, such as "structure 12\\nLi4 O4": shown at the point, line by line."""
    panels: Sequence[Points]
    start: Sequence[str]
    """The value of each menu at first."""
    names: str = "method"
    caption: str = ""


class Line(NamedTuple):
    """A curve with a band from ``low`` to ``high``; one dashed and one solid curve may have the same name."""

    name: str
    part: str
    x: Float[np.ndarray, " n"] | Int[np.ndarray, " n"]
    y: Float[np.ndarray, " n"]
    low: Float[np.ndarray, " n"]
    high: Float[np.ndarray, " n"]
    dashed: bool = False


class Lines(NamedTuple):
    """Curves over logarithmic axes."""

    choice: Sequence[str]
    axes: Axes
    lines: Sequence[Line]
    caption: str = ""


class Curves(NamedTuple):
    """Learning curves with a menu of names and further menus."""

    menus: Mapping[str, Sequence[str]]
    colors: Mapping[str, str]
    panels: Sequence[Lines]
    start: Sequence[str]
    names: str = "method"
    caption: str = ""


def chart_html(number: int, chart: Scatter | Curves) -> str:
    """The place of a chart, hidden until a script draws it, and its data."""
    data = {
        "kind": "scatter" if isinstance(chart, Scatter) else "curves",
        "menus": [{"name": name, "values": list(values)} for name, values in chart.menus.items()],
        "names": {"name": chart.names, "values": list(chart.colors)},
        "colors": dict(chart.colors),
        "start": list(chart.start),
        "owners": list(chart.owners) if isinstance(chart, Scatter) else [],
        "panels": [_points(p) if isinstance(p, Points) else _lines(p) for p in chart.panels],
    }
    caption = f'<p class="note">{escape(chart.caption)}</p>' if chart.caption else ""
    return (
        f'<div class="chart" data-chart="chart{number}" hidden><div class="tools"></div><div class="drawn">'
        f'<div class="plot"></div>{caption}</div></div>'
        f'<script type="application/json" id="chart{number}">{embedded_json(data)}</script>'
    )


def embedded_json(data: Any) -> str:
    r"""JSON that can stand inside a script element: no ``<``, ``>``, ``&`` and none of Unicode's line separators.

    >>> embedded_json(["</script>", "a & b"])
    '["\\u003c/script\\u003e","a \\u0026 b"]'

    Raises:
        ValueError: a number that is not finite, which JSON cannot say.
    """
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _points(panel: Points) -> dict[str, Any]:
    digits = panel.axes.digits
    return _panel(panel) | {
        "x": rounded(panel.reference, digits),
        "y": {name: rounded(values, digits) for name, values in panel.predicted.items()},
        "owner": np.asarray(panel.owner).tolist(),
        "item": None if panel.item is None else np.asarray(panel.item).tolist(),
        "notes": dict(panel.notes),
    }


def _lines(panel: Lines) -> dict[str, Any]:
    lines = []
    for line in panel.lines:
        columns = {key: rounded(getattr(line, key), panel.axes.digits) for key in ("x", "y", "low", "high")}
        lines.append({"name": line.name, "part": line.part, "dashed": line.dashed, **columns})
    return _panel(panel) | {"lines": lines}


def _panel(panel: Points | Lines) -> dict[str, Any]:
    return {"choice": list(panel.choice), "axes": panel.axes._asdict(), "caption": panel.caption}


def rounded(values: Any, digits: int) -> list[float | int | None]:
    """Numbers for JSON: whole ones without a point, None for what is not finite.

    >>> rounded([0.12345, 3.0, float("inf")], 3)
    [0.123, 3, None]
    """
    found = np.round(np.asarray(values, float), digits).tolist()
    return [None if not np.isfinite(v) else int(v) if v == int(v) else v for v in found]
