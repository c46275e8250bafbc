"""From a factor of all columns to the block that a ridge acts on: scaling, zero columns, unpenalised columns.

With D the diagonal matrix of column norms, y = D x and the unpenalised ("free") columns first,

    ‖A x − b‖² = ‖R₁₁ y_free + R₁₂ y − c₁‖² + ‖R₂₂ y − c₂‖² + ρ²

and whatever y is, y_free makes the first term vanish: the fit is decided by the block (R₂₂, c₂, ρ²).

References:
    G. Golub, C. Van Loan, Matrix Computations, 4th ed. (2013), section 5.3.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.linalg import get_lapack_funcs

from jaxmlip.fitting.least_squares.streamed_qr import Factor, absorb, empty_factor, filled_rows

(_trcon,) = get_lapack_funcs(("trcon",), dtype=np.float64)


class Options(NamedTuple):
    """How to solve, after checking.

    Attributes:
        column_scale: whether D holds the column norms, or ones.
        penalised: ``[n]`` bool, the columns that ridge and truncation act on.
        truncation: fraction of the largest singular value below which the others are dropped.
        tolerance: singular values below this fraction of the largest column norm are rounding.
    """

    column_scale: bool
    penalised: np.ndarray
    truncation: float | None
    tolerance: float


class Reduced(NamedTuple):
    """A factor in the unknowns y = D x, with the free columns projected out: y_free = back (level − coupling y).

    Attributes:
        scale: ``[n]``, the diagonal of D.
        free: ``[n_free]`` indices of the unpenalised columns that are not zero.
        penalised: ``[p]`` indices of the penalised columns that are not zero.
        zero: indices of the columns that are zero in every row.
        block: ``[p, p]`` triangle and so on of the penalised columns.
        back: ``[n_free, r]`` with r the rank of the free columns.
        coupling: ``[r, p]``.
        level: ``[r]``.
        floor: singular values up to this are rounding.
        condition_number: of all scaled columns but the zero ones.
    """

    scale: np.ndarray
    free: np.ndarray
    penalised: np.ndarray
    zero: np.ndarray
    block: Factor
    back: np.ndarray
    coupling: np.ndarray
    level: np.ndarray
    floor: float
    condition_number: float


def reduce(total: Factor, options: Options) -> Reduced:
    """Scale, drop zero columns and project out the unpenalised ones; overwrites ``total``."""
    norms = np.sqrt(column_squares(total.triangle))
    present = norms > 0.0
    scale = np.where(present, norms, 1.0) if options.column_scale else np.ones_like(norms)
    free, penalised = np.flatnonzero(present & ~options.penalised), np.flatnonzero(present & options.penalised)
    order = np.concatenate([free, penalised])
    floor = options.tolerance * float(np.max(norms / scale))
    if np.array_equal(order, np.arange(len(norms))):
        total.triangle[:] /= scale
    else:  # no longer a triangle: one more QR
        n_rows = filled_rows(total.triangle)
        rows = np.asfortranarray(total.triangle[:n_rows][:, order])
        rows /= scale[order]
        remainder = total.remainder + float(np.sum(total.projection[n_rows:] ** 2))
        total = absorb(empty_factor(len(order)), rows, total.projection[:n_rows])
        total = total._replace(remainder=total.remainder + remainder)
    condition = condition_number(total.triangle)
    block, back, coupling, level = _project_out(total, len(free), floor)
    zero = np.flatnonzero(~present)
    return Reduced(scale, free, penalised, zero, block, back, coupling, level, floor, condition)


def condition_number(triangle: Float[np.ndarray, "n n"]) -> float:
    """Condition number in the 1-norm, LAPACK's O(n²) estimate; ``inf`` if singular."""
    if not len(triangle):
        return 1.0
    inverse, _ = _trcon(triangle)
    return float(1.0 / inverse) if inverse > 0.0 else np.inf


def _project_out(factor: Factor, n_free: int, floor: float) -> tuple[Factor, np.ndarray, np.ndarray, np.ndarray]:
    """Split off the first ``n_free`` columns: block of the others, then ``back``, ``coupling``, ``level``."""
    triangle, projection = factor.triangle, factor.projection
    u, s, vt = np.linalg.svd(triangle[:n_free, :n_free])
    coupling, level = u.T @ triangle[:n_free, n_free:], u.T @ projection[:n_free]
    block = Factor(np.asfortranarray(triangle[n_free:, n_free:]), projection[n_free:], factor.remainder)
    used = s > floor
    if not used.all():
        # Free columns that depend on each other (offsets at fixed composition) reach fewer directions than they are;
        # the directions they leave belong to the penalised columns.
        block = absorb(block, np.asfortranarray(coupling[~used]), level[~used])
    return block, vt[used].T / s[used], coupling[used], level[used]


def expand(reduced: Reduced, penalised: Float[np.ndarray, "n_penalised n_ridges"]) -> Float[np.ndarray, "n n_ridges"]:
    """Coefficients ``[n, n_ridges]`` of all columns from the scaled penalised unknowns ``[n_penalised, n_ridges]``."""
    x = np.zeros((len(reduced.scale), penalised.shape[1]))
    x[reduced.penalised] = penalised
    x[reduced.free] = reduced.back @ (reduced.level[:, None] - reduced.coupling @ penalised)
    return x / reduced.scale[:, None]


def column_squares(triangle: Float[np.ndarray, "_ n"]) -> Float[np.ndarray, " n"]:
    """Squared norm of each column, without a temporary of n²."""
    return np.einsum("ij,ij->j", triangle, triangle)
