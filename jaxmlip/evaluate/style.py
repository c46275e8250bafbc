"""One look for every figure of the project: fonts, colours and sizes, without touching matplotlib's global state.

Figures are made from `matplotlib.figure.Figure` directly, so no window system and no pyplot is involved.
"""

import base64
import io
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from matplotlib import rc_context
from matplotlib.figure import Figure

from jaxmlip.files import atomic_path
from jaxmlip.potentials.registry import FAMILIES

P = ParamSpec("P")
R = TypeVar("R")

RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e3e6ea",
    "grid.linewidth": 0.6,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "savefig.dpi": 160,
    "figure.facecolor": "white",
    "svg.fonttype": "none",
    "svg.hashsalt": "jaxmlip",
}
"""Text stays text in SVG and its identifiers are the same in every run."""

_FURTHER = ("#5b5b5b", "#8c564b", "#7f7fd5", "#2f4b3c")
DENSITY = "viridis"


def color(name: str) -> str:
    """The colour of a family, or of a variant whose name starts with a family's (``snap-8``); else a fixed other.

    >>> color("snap"), color("snap-8") == color("snap")
    ('#0072b2', True)
    """
    family = FAMILIES.get(name.split("-")[0].lower())
    return (family and family.color) or _FURTHER[sum(k * ord(letter) for k, letter in enumerate(name)) % len(_FURTHER)]


def label(name: str) -> str:
    """How a family is written: ``qsnap`` is qSNAP."""
    first, *rest = name.split("-")
    family = FAMILIES.get(first.lower())
    return "-".join([(family and family.label) or first, *rest])


def styled(function: Callable[P, R]) -> Callable[P, R]:
    """``function`` run within the project's matplotlib settings, which end with it."""

    @wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        with rc_context(RC):
            return function(*args, **kwargs)

    return inside


@styled
def save_figure(figure: Figure, path: str | Path) -> None:
    """Write ``figure`` as PNG, SVG or PDF by the suffix of ``path``; the old file stays until the new one is whole.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "empty.png"
    >>> save_figure(Figure(), path)
    >>> path.exists()
    True
    """
    suffix = Path(path).suffix
    with atomic_path(path) as temporary:
        figure.savefig(temporary, metadata={"Date": None} if suffix == ".svg" else None, bbox_inches="tight")


@styled
def data_address(figure: Figure) -> str:
    """``figure`` as a PNG inside a ``data:`` address, for a page that needs no other file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
