r"""Linear least squares on a matrix that is never held: rows stream in, a triangle stays.

Weighted rows ``A [m, n]`` and targets ``b [m]`` arrive in pieces and are reduced at once to
``R [n, n]``, ``c [n]`` and a number ρ with

    ‖A x − b‖² = ‖R x − c‖² + ρ²          (A = Q R, c = Qᵀ b, ρ² = ‖b‖² − ‖c‖²)

by structured Householder QR (LAPACK ``dtpqrt``): 2 n² flops per row at the speed of a matrix product, memory n² plus
one chunk of rows and, unlike the normal equations, no squared condition number. What the columns mean, and the weights,
are the caller's: multiply each row and its target by its weight before adding it. ``least_squares.solve`` solves.

References:
    G. Golub, C. Van Loan, Matrix Computations, 4th ed. (2013), section 5.2.
    J. Demmel, L. Grigori, M. Hoemmen, J. Langou, SIAM J. Sci. Comput. 34, A206 (2012): tall-skinny QR.
"""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.linalg import get_lapack_funcs

_tpqrt, _tpmqrt = get_lapack_funcs(("tpqrt", "tpmqrt"), dtype=np.float64)

# 48 columns per panel is within 10 % of the fastest from 600 to 5,456 columns; chunks beyond 1,024 rows gain little and
# cost memory.
_PANEL, _CHUNK_ROWS = 48, 1024


class Factor(NamedTuple):
    """What is left of a set of rows: ‖A x − b‖² = ‖triangle x − projection‖² + remainder.

    Attributes:
        triangle: ``[n, n]`` upper triangular R, Fortran order.
        projection: ``[n]``, c = Qᵀ b.
        remainder: ρ², the part of ‖b‖² that no x reaches.
    """

    triangle: np.ndarray
    projection: np.ndarray
    remainder: float


def empty_factor(n_columns: int) -> Factor:
    """Return the factor of no rows at all."""
    return Factor(np.zeros((n_columns, n_columns), order="F"), np.zeros(n_columns), 0.0)


def absorb(
    factor: Factor, rows: Float[np.ndarray, "m n"], targets: Float[np.ndarray, " m"], *, triangular: bool = False
) -> Factor:
    """Reduce more rows into a factor, in place: the arrays of ``factor`` and ``rows`` (Fortran order) are overwritten.

    Args:
        factor: ``[n, n]`` triangle and so on; use only the returned one afterwards.
        rows: ``[m, n]``; upper triangular ``[n, n]`` if ``triangular``, which then costs 2/3 n³ instead of 2 n³ flops.
        targets: ``[m]``, left as they are.
        triangular: whether the entries of ``rows`` below the diagonal are all zero.

    Returns:
        The factor of all rows together.
    """
    n_columns = rows.shape[1]
    if n_columns == 0:
        return factor._replace(remainder=factor.remainder + float(targets @ targets))
    reach = n_columns if triangular else filled_rows(factor.triangle) + len(rows)
    if reach < n_columns:
        return _absorb_few(factor, rows, targets, reach)
    pentagon = n_columns if triangular else 0
    triangle, reflectors, t, _ = _tpqrt(
        pentagon, min(_PANEL, n_columns), factor.triangle, rows, overwrite_a=1, overwrite_b=1
    )
    projection, rest, _ = _tpmqrt(pentagon, reflectors, t, factor.projection[:, None], targets[:, None], trans="T")
    return Factor(triangle, projection[:, 0], factor.remainder + float(np.sum(rest**2)))


def _absorb_few(factor: Factor, rows: np.ndarray, targets: np.ndarray, reach: int) -> Factor:
    """`absorb` while all rows together are fewer than the columns: they fill the first ``reach`` rows of the triangle.

    Going on to the last column would reduce rounding errors of rounding errors, down to subnormal numbers, which
    processors multiply a hundred times slower.
    """
    if reach == 0:
        return factor
    head = np.asfortranarray(factor.triangle[:reach, :reach])
    top, reflectors, t, _ = _tpqrt(0, min(_PANEL, reach), head, np.asfortranarray(rows[:, :reach]))
    above = np.column_stack([factor.triangle[:reach, reach:], factor.projection[:reach]])
    below = np.column_stack([rows[:, reach:], targets])
    above, below, _ = _tpmqrt(0, reflectors, t, np.asfortranarray(above), np.asfortranarray(below), trans="T")
    triangle, projection = factor.triangle, factor.projection.copy()
    triangle[:reach, :reach], triangle[:reach, reach:], projection[:reach] = top, above[:, :-1], above[:, -1]
    return Factor(triangle, projection, factor.remainder + float(np.sum(below[:, -1] ** 2)))


def merge(factors: Sequence[Factor]) -> Factor:
    """Factor of the rows of all ``factors`` together; the arguments stay as they are."""
    total = Factor(factors[0].triangle.copy(order="F"), factors[0].projection, factors[0].remainder)
    for other in factors[1:]:
        n_rows = filled_rows(other.triangle)
        rest = other.remainder + float(np.sum(other.projection[n_rows:] ** 2))
        # The triangular form costs as much as a third of its rows; it needs a total that fills all columns.
        whole = 3 * n_rows > len(other.triangle) and filled_rows(total.triangle) + n_rows >= len(other.triangle)
        if whole:
            total = absorb(total, other.triangle.copy(order="F"), other.projection, triangular=True)
            rest = other.remainder
        elif n_rows:
            total = absorb(total, other.triangle[:n_rows].copy(order="F"), other.projection[:n_rows])
        total = total._replace(remainder=total.remainder + rest)
    return total


def filled_rows(triangle: Float[np.ndarray, "_ n"]) -> int:
    """Rows that carry something: fewer rows than columns leave an empty bottom, but for rounding."""
    size = np.abs(triangle).max(axis=1, initial=0.0)
    return int(np.flatnonzero(size > 1e-14 * size.max(initial=0.0)).max(initial=-1)) + 1


class _Fold:
    """A factor, and a buffer for the rows it has not absorbed yet."""

    def __init__(self, n_columns: int, chunk_rows: int):
        self.n_rows, self._filled = 0, 0
        self._factor = empty_factor(n_columns)
        self._rows = np.empty((chunk_rows, n_columns), order="F")  # LAPACK works in place on columns
        self._targets = np.empty(chunk_rows)

    def add(self, rows: np.ndarray, targets: np.ndarray) -> None:
        start = 0
        while start < len(rows):
            stop = min(len(rows), start + len(self._rows) - self._filled)
            filled = self._filled + stop - start
            self._rows[self._filled : filled] = rows[start:stop]
            self._targets[self._filled : filled] = targets[start:stop]
            self._filled, start = filled, stop
            if filled == len(self._rows):
                self.flush()

    def flush(self) -> Factor:
        """Absorb what the buffer holds and return the factor of all rows so far."""
        if self._filled:
            # A full buffer is handed over as it is; a part of it is not contiguous and has to be copied.
            rows, targets = np.asfortranarray(self._rows[: self._filled]), self._targets[: self._filled]
            self._factor = absorb(self._factor, rows, targets)
            self._filled = 0
        return self._factor


class StreamedQR:
    """Least-squares problem min ‖A x − b‖ that takes its rows in any number of pieces, in any order.

    Memory: per fold one ``[n_columns, n_columns]`` triangle and one ``[chunk_rows, n_columns]`` buffer.

    Args:
        n_columns: number of unknowns n.
        n_folds: folds that ``solve(..., ridge="folds")`` leaves out in turn. All rows of a group stay in one fold; a
            new group goes to the fold with the fewest rows, so that as many folds as groups is leave-one-group-out.
        chunk_rows: rows collected before a reduction.

    Attributes:
        n_rows: rows added, not counting those that are zero throughout (weight 0), which say nothing.

    Raises:
        ValueError: if a number is not positive.

    >>> problem = StreamedQR(2)
    >>> for x in (0.0, 1.0, 2.0):
    ...     problem.add(np.array([[1.0, x]]), np.array([3.0 - 2.0 * x]))
    >>> (factor,) = problem.factors()
    >>> np.linalg.solve(factor.triangle, factor.projection).round(12)
    array([ 3., -2.])
    """

    def __init__(self, n_columns: int, *, n_folds: int = 1, chunk_rows: int = _CHUNK_ROWS):
        if min(n_columns, n_folds, chunk_rows) < 1:
            raise ValueError(f"{n_columns=}, {n_folds=}, {chunk_rows=}: each must be at least 1")
        self.n_columns, self.n_folds, self._chunk_rows = n_columns, n_folds, chunk_rows
        self._folds: list[_Fold] = []
        self._fold_of: dict[Hashable, _Fold] = {}

    @property
    def n_rows(self) -> int:
        """Rows added, not counting those that are zero throughout."""
        return sum(fold.n_rows for fold in self._folds)

    def add(self, rows: np.ndarray, targets: np.ndarray, group: Hashable | None = None) -> None:
        """Add weighted rows ``[m, n_columns]`` with their weighted targets ``[m]``.

        Args:
            rows: design-matrix rows, each already multiplied by its weight.
            targets: the rows' targets, multiplied by the same weights.
            group: rows of equal group stay in one fold; ``None`` makes this call a group of its own.

        Raises:
            ValueError: on wrong shapes, or if entries are NaN or infinite; nothing is added then.
        """
        rows, targets = np.asarray(rows, dtype=np.float64), np.asarray(targets, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.n_columns or targets.shape != rows.shape[:1]:
            raise ValueError(
                f"got rows {rows.shape} and targets {targets.shape}, expected [m, {self.n_columns}] and [m]"
            )
        n_bad = int(np.count_nonzero(~(np.isfinite(rows).all(axis=1) & np.isfinite(targets))))
        if n_bad:
            raise ValueError(
                f"{n_bad} of {len(rows)} rows (group {group!r}) have NaN or infinite entries; leave those rows out"
            )
        if not len(rows):
            return
        fold = self._fold(group)
        fold.n_rows += int(np.count_nonzero(rows.any(axis=1) | (targets != 0.0)))
        fold.add(rows, targets)

    def factors(self) -> list[Factor]:
        """One factor per fold in use, of all rows so far; they stay valid only until the next ``add``."""
        return [fold.flush() for fold in self._folds]

    def without(self, group: Hashable) -> "StreamedQR":
        """The problem without the fold of a group; it shares the other folds."""
        rest = StreamedQR(self.n_columns, n_folds=self.n_folds, chunk_rows=self._chunk_rows)
        rest._folds = [fold for fold in self._folds if fold is not self._fold_of.get(group)]
        return rest

    def _fold(self, group: Hashable | None) -> _Fold:
        if group is not None and group in self._fold_of:
            return self._fold_of[group]
        if len(self._folds) < self.n_folds:  # memory is spent on a fold only when it gets its first rows
            self._folds.append(_Fold(self.n_columns, self._chunk_rows))
            fold = self._folds[-1]
        else:
            fold = min(self._folds, key=lambda fold: fold.n_rows)
        if group is not None:
            self._fold_of[group] = fold
        return fold
