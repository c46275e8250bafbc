"""Scores of ridge values on held-out folds for problems too wide for a singular value decomposition a fold.

The rows A of all other folds enter as AᵀA and Aᵀb, summed from the folds' factors; the unpenalised columns A₀ are
eliminated, and (AᵀA + λ) y = Aᵀb is factorised once a ridge. Squaring A costs digits, but λ bounds the condition
number and a score needs three of them; the coefficients themselves come from
`jaxmlip.fitting.least_squares.ridge_regression.solve`, by QR.
Memory: four arrays of n² beside the factors.

References:
    T. Hastie, R. Tibshirani, J. Friedman, The Elements of Statistical Learning, 2nd ed. (2009), section 7.10.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.linalg import cho_factor, cho_solve

from jaxmlip.fitting.least_squares.streamed_qr import Factor, filled_rows

WIDE = 2000
"""Penalised columns from which folds are scored this way."""
WIDE_GRID = np.logspace(-5.0, 1.0, 7)
"""Ridge values tried then, in units of the squared column norm."""


class _Normal(NamedTuple):
    """Normal equations: AᵀA ``[n, n]`` and Aᵀb ``[n]``."""

    matrix: np.ndarray
    right: np.ndarray


def score_wide(
    factors: list[Factor], penalised: Bool[np.ndarray, " n"], unit: float | None
) -> tuple[Float[np.ndarray, " n_ridges"], Float[np.ndarray, " n_ridges"]]:
    """Ridge values tried and the squared error on each fold of the fit to the others, summed over folds.

    Args:
        factors: one per fold.
        penalised: ``[n]`` bool.
        unit: multiplies the grid; None scales each column by its norm in the folds that are fitted instead.
    """
    ridges = WIDE_GRID * (unit or 1.0)
    total = _normal(factors[0])
    for factor in factors[1:]:
        part = _normal(factor)
        total = _Normal(np.add(total.matrix, part.matrix, out=total.matrix), total.right + part.right)
    scores = np.full(len(ridges), sum(factor.remainder for factor in factors))
    for factor in factors:
        part = _normal(factor)
        others = _Normal(np.subtract(total.matrix, part.matrix, out=part.matrix), total.right - part.right)
        solutions = _solutions(others, penalised, ridges, column_scale=unit is None)
        rows = factor.triangle[: filled_rows(factor.triangle)]
        scores += np.sum((rows @ solutions - factor.projection[: len(rows), None]) ** 2, axis=0)
    return ridges, scores


def _normal(factor: Factor) -> _Normal:
    n_rows = filled_rows(factor.triangle)
    rows = factor.triangle[:n_rows]
    return _Normal(rows.T @ rows, rows.T @ factor.projection[:n_rows])


def _solutions(normal: _Normal, penalised: np.ndarray, ridges: np.ndarray, *, column_scale: bool) -> np.ndarray:
    """Coefficients ``[n, n_ridges]``; overwrites the matrix."""
    squares = np.diag(normal.matrix).copy()
    present = squares > 1e-15 * squares.max(initial=0.0)
    scale = np.sqrt(np.where(present, squares, 1.0)) if column_scale else np.ones_like(squares)
    matrix, right = normal.matrix, normal.right / scale
    matrix /= scale
    matrix /= scale[:, None]
    free, kept = np.flatnonzero(present & ~penalised), np.flatnonzero(present & penalised)
    back = np.linalg.pinv(matrix[np.ix_(free, free)], rcond=1e-12, hermitian=True)
    coupling = matrix[np.ix_(free, kept)]
    block = matrix[np.ix_(kept, kept)]
    block -= coupling.T @ (back @ coupling)
    level = right[kept] - coupling.T @ (back @ right[free])
    x = np.zeros((len(squares), len(ridges)))
    for k, ridge in enumerate(ridges):
        shifted = block.copy()
        shifted[np.diag_indices_from(shifted)] += ridge
        y = cho_solve(cho_factor(shifted, overwrite_a=True, check_finite=False), level)
        x[kept, k] = y
        x[free, k] = back @ (right[free] - coupling @ y)
    return x / scale[:, None]
