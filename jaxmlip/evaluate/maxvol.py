"""MaxVol: the rows of a tall matrix that span the largest volume, and how far other rows lie outside of it.

With the chosen rows S ``[m, m]`` every row x is a combination x = c S, and grade(x) = max |c|: at most 1 for all rows
that S was chosen from, larger for one that would enlarge |det S| by that factor.

References:
    Goreinov et al., in: Matrix Methods (World Scientific 2010), p. 247: MaxVol.
    Podryabinkin, Shapeev, Comput. Mater. Sci. 140, 171 (2017), equations 9-12: D-optimality, extrapolation grade.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import get_blas_funcs

NOTHING = -1  # a row of the start, which stands for no structure
_START = 1e-6  # size of these rows, relative to the column's largest entry: rows of data replace them where they can


class ActiveRows(NamedTuple):
    """Chosen rows: where each stood (−1: in a direction that no row has), and the inverse of their matrix."""

    index: Int[np.ndarray, " m"]
    inverse: Float[np.ndarray, "m m"]


def maxvol(rows: Float[np.ndarray, "n m"], *, tolerance: float = 1e-3, max_swaps: int = 100_000) -> ActiveRows:
    """The ``m`` of ``rows`` with (nearly) the largest |det|: no swap would enlarge it by more than the tolerance.

    >>> chosen = maxvol(np.array([[1.0, 0.0], [0.5, 0.1], [0.0, 2.0], [3.0, 1.0]]))
    >>> sorted(chosen.index.tolist())
    [2, 3]

    Raises:
        ValueError: rows that are not finite, or too many swaps.
    """
    rows = np.asarray(rows, float)
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise ValueError(f"expected a matrix of finite numbers, got {rows.shape}, finite: {np.isfinite(rows).all()}")
    size = np.abs(rows).max(axis=0, initial=0.0)
    size = np.where(size > 0, size, 1.0)
    index = np.full(rows.shape[1], NOTHING)
    scaled = np.ascontiguousarray(rows / size)
    combinations = scaled / _START
    (ger,) = get_blas_funcs(("ger",), (scaled,))
    for swap in range(max_swaps):
        row, place = _largest(combinations)
        pivot = combinations[row, place]
        if abs(pivot) <= 1 + tolerance:
            return ActiveRows(index, np.linalg.inv(_matrix(scaled, index)) / size[:, None])
        index[place] = row
        if swap % 200 == 199:  # rounding adds up in rank-one updates
            combinations = np.linalg.solve(_matrix(scaled, index).T, scaled.T).T.copy()
            continue
        change = combinations[row].copy()
        change[place] -= 1
        column = combinations[:, place].copy()
        combinations = ger(-1 / pivot, change, column, a=combinations.T, overwrite_a=True).T  # in place
    raise ValueError(f"MaxVol did not end within {max_swaps} swaps: give a larger tolerance than {tolerance}")


def _largest(matrix: np.ndarray) -> tuple[int, int]:
    """Where the entry of largest size stands; without a copy of what is read a thousand times."""
    found = max(int(matrix.argmax()), int(matrix.argmin()), key=lambda k: abs(matrix.flat[k]))
    return divmod(found, matrix.shape[1])


def _matrix(rows: np.ndarray, index: np.ndarray) -> np.ndarray:
    return np.where(index[:, None] >= 0, rows[index], _START * np.eye(len(index)))


def row_grades(active: ActiveRows, rows: Float[np.ndarray, "n m"]) -> Float[np.ndarray, " n"]:
    """Max |c| of each row; above 1 it is an extrapolation."""
    return np.abs(np.asarray(rows, float) @ active.inverse).max(axis=1, initial=0.0)
