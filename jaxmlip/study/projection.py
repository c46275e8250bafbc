"""Training times of larger sets than were run, from a power law t = t₁ (n / n₁)^b of those that were."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxmlip.evaluate.report import Table
from jaxmlip.evaluate.style import label
from jaxmlip.study.learning_curve import training_cpu
from jaxmlip.study.published import N_STRUCTURES

PUBLISHED_SIZES = (*range(2000, 9001, 1000), round(0.9 * N_STRUCTURES))
"""Training sets of the published study: figures S4 to S11, and nine tenths of all."""
_UPPER = 4  # sizes from a quarter of the largest on count: what every fit costs weighs less there


class PowerLaw(NamedTuple):
    """t(n) = ``seconds`` (n / ``size``)^``exponent``."""

    size: int
    seconds: float
    exponent: float

    def at(self, size: int) -> float:
        """Seconds at a training-set size.

        >>> PowerLaw(100, 2.0, 1.5).at(400)
        16.0
        """
        return self.seconds * (size / self.size) ** self.exponent


def power_law(rows: Sequence[Mapping[str, Any]], method: str) -> PowerLaw | None:
    """Least squares of log t over log n, through sizes from a quarter of the largest on; None with fewer than two.

    >>> rows = [{"method": "snap", "size": n, "fit_cpu_s": 0.1 * n, "fit_compile_s": 0.0, "fit_wall_s": 1.0 * n}
    ...         for n in (1, 100, 200)]
    >>> round(power_law(rows, "snap").at(1000), 6)
    100.0
    """
    largest = max((row["size"] for row in rows if row["method"] == method), default=0)
    used = [row for row in rows if row["method"] == method and row["size"] * _UPPER >= largest]
    points = [(row["size"], seconds) for row in used if (seconds := training_cpu(row)) > 0]
    if len({size for size, _ in points}) < 2:
        return None
    sizes, seconds = np.array(points).T
    exponent, constant = np.polyfit(np.log(sizes / largest), np.log(seconds), 1)
    return PowerLaw(largest, float(np.exp(constant)), float(exponent))


def projection_table(rows: Sequence[Mapping[str, Any]]) -> Table | None:
    """Processor hours that the published study would take with each method's settings; None if nothing was measured."""
    lines = []
    for method in dict.fromkeys(row["method"] for row in rows):
        law = power_law(rows, method)
        if law is not None:
            hours = np.array([law.at(size) for size in PUBLISHED_SIZES]) / 3600
            found = [law.size, law.seconds, round(law.exponent, 2), hours[0], hours[-1], hours.sum()]
            lines.append([label(method), *found])
    if not lines:
        return None
    total = ["sum", None, None, None, *np.sum([line[4:] for line in lines], 0)]
    lines = [[*line[:4], *(float(f"{hours:.2g}") for hours in line[4:])] for line in (*lines, total)]
    columns = ["method", "structures, largest here", "fit there, processor (s)", "exponent"]
    columns += ["2,000 (h)", f"{PUBLISHED_SIZES[-1]:,} (h)", "all nine sizes (h)"]
    note = (
        "Extrapolated by t ∝ n^exponent, fitted to sizes from a quarter of the largest on, without compiling, on this "
        "machine's processor with the settings of this study: fits on 2,000, 3,000, … 9,000 and "
        f"{PUBLISHED_SIZES[-1]:,} structures, as the published study had. Far beyond the sizes measured it is a guess. "
        "Fits are independent: N cores, such as with --dask local, take an Nth of the sum."
    )
    return Table(columns, lines, "Projected training time of the published study", note, 1)
