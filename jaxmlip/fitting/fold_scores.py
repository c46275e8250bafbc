"""Scores of ridge values on held-out folds for problems too wide for a singular value decomposition a fold.

The rows of all other folds, stacked, are A = [A₀ A₁] with the unpenalised columns A₀ projected out; then with m rows
and p penalised columns the smaller of the two systems

    (AᵀA + λ) y = Aᵀ b   (m ≥ p)          y = Aᵀ u,  (A Aᵀ + λ) u = b   (m < p)

is factorised once a ridge. Squaring A costs digits, but λ bounds the condition number and a score needs three of them;
the coefficients themselves come from `least_squares.solve`, by QR.

References:
    T. Hastie, R. Tibshirani, J. Friedman, The Elements of Statistical Learning, 2nd ed. (2009), sections 7.10, 18.3.5.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from jaxmlip.fitting.streamed_qr import Factor, filled_rows

WIDE = 2000
"""Penalised columns from which folds are scored this way."""
WIDE_GRID = np.logspace(-8.0, 0.0, 9)
"""Ridge values tried then, from large to small until the score gets worse, in units of the column norm."""


def score_wide(factors: list[Factor], penalised: np.ndarray, unit: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Ridge values tried and the squared error on each fold of the fit to the others, summed over folds.

    Args:
        factors: one per fold.
        penalised: ``[n]`` bool.
        unit: multiplies the grid; None scales each column by its norm in the folds that are fitted instead.
    """
    folds = [_rows(factor) for factor in factors]
    searches = [_Fold(folds, i, penalised, unit is None) for i in range(len(folds))]
    ridges, scores = [], []
    for ridge in WIDE_GRID[::-1] * (unit or 1.0):
        ridges.append(ridge)
        scores.append(sum(search.score(ridge) for search in searches) + sum(f.remainder for f in factors))
        if len(scores) > 2 and scores[-1] > scores[-2] > scores[-3]:
            break
    return np.array(ridges), np.array(scores)


def _rows(factor: Factor) -> tuple[np.ndarray, np.ndarray]:
    """The rows that carry something (fewer rows than columns leave an empty bottom), and their targets."""
    n_rows = filled_rows(factor.triangle)
    return factor.triangle[:n_rows], factor.projection[:n_rows]


class _Fold:
    """The normal equations of all folds but one, ready to be solved at several ridges."""

    def __init__(self, folds: list, held_out: int, penalised: np.ndarray, column_scale: bool):
        others = folds[:held_out] + folds[held_out + 1 :]
        rows, b = np.concatenate([f[0] for f in others]), np.concatenate([f[1] for f in others])
        norms = np.linalg.norm(rows, axis=0)
        present = norms > 0
        scale = np.where(present, norms, 1.0) if column_scale else np.ones_like(norms)
        rows /= scale
        self.test, self.target = folds[held_out][0] / scale, folds[held_out][1]
        self.free, self.kept = present & ~penalised, present & penalised
        self.given, self.b = rows[:, self.free], b
        u, s, _ = np.linalg.svd(self.given, full_matrices=False)
        basis = u[:, s > 1e-10 * s.max(initial=0.0)]
        A = rows[:, self.kept]
        self.all_rows = A.copy()
        A -= basis @ (basis.T @ A)
        b = b - basis @ (basis.T @ b)
        self.wide = A.shape[0] < A.shape[1]
        self.A, self.gram = A, A @ A.T if self.wide else A.T @ A
        self.right = b if self.wide else A.T @ b

    def score(self, ridge: float) -> float:
        """Squared error on the fold left out."""
        shifted = self.gram.copy()
        shifted[np.diag_indices_from(shifted)] += ridge
        y = cho_solve(cho_factor(shifted, overwrite_a=True), self.right)
        y = self.A.T @ y if self.wide else y
        offsets = np.linalg.lstsq(self.given, self.b - self.all_rows @ y, rcond=1e-10)[0]
        return float(np.sum((self.test[:, self.kept] @ y + self.test[:, self.free] @ offsets - self.target) ** 2))
