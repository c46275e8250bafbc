r"""Ridge regression from a streamed QR factor: choosing the ridge, truncation, unpenalised columns.

With R, c, ρ from ``streamed_qr`` the solution is

    x(λ) = argmin ‖A x − b‖² + λ ‖D x‖² = argmin ‖R x − c‖² + λ ‖D x‖² + ρ²

where D is diagonal: the column norms of A (1 without column scaling), and 0 for unpenalised columns. So the ridge λ has
no unit and keeps its meaning when rows are added or a column changes its unit. Unpenalised columns are projected out
first, exactly; a given ridge then costs one more QR, ``[R; √λ D]``, and a ridge to be chosen one singular value
decomposition (per fold), after which each further ridge value is nearly free.

References:
    G. Golub, C. Van Loan, Matrix Computations, 4th ed. (2013), sections 5.5, 6.1.
    G. Golub, M. Heath, G. Wahba, Technometrics 21, 215 (1979), eq. 1.4: generalised cross-validation.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int, Shaped
from scipy.linalg import get_lapack_funcs, svd

from jaxmlip.fitting.least_squares.column_reduction import (
    Options,
    Reduced,
    column_squares,
    condition_number,
    expand,
    reduce,
)
from jaxmlip.fitting.least_squares.fold_scores import WIDE, score_wide
from jaxmlip.fitting.least_squares.streamed_qr import Factor, StreamedQR, absorb, merge

__all__ = ["RIDGE_GRID", "Solution", "StreamedQR", "solve"]

_trtri, _trtrs, _lange = get_lapack_funcs(("trtri", "trtrs", "lange"), dtype=np.float64)

RIDGE_GRID = np.logspace(-14.0, 2.0, 65)
"""Ridge values tried by cross-validation, in units of the mean squared column norm (1 with column scaling)."""


class Solution(NamedTuple):
    """Coefficients of a linear fit and how they were found.

    Attributes:
        coefficients: ``[n]``; exactly 0 in the columns that are zero in every row.
        ridge: λ, given or chosen.
        effective_dof: effective number of parameters, the trace of the matrix that maps b to A x.
        condition_number: of the column-scaled A without its zero columns (1-norm, an estimate); ``inf`` if singular.
        rank: number of directions in use.
        residual_norm: ‖A x − b‖ without the ridge term, in the unit of the weighted targets.
        zero_columns: indices of the columns that are zero in every row.
        ridges: ``[n_ridges]`` ridge values tried; empty for a given ridge.
        scores: ``[n_ridges]`` their cross-validated mean squared errors, in the weighted targets' unit squared.
    """

    coefficients: Float64[np.ndarray, " n"]
    ridge: float
    effective_dof: float
    condition_number: float
    rank: int
    residual_norm: float
    zero_columns: Int[np.ndarray, " n_zero"]
    ridges: Float64[np.ndarray, " n_ridges"]
    scores: Float64[np.ndarray, " n_ridges"]


def solve(
    problem: StreamedQR,
    *,
    ridge: float | str = 0.0,
    truncation: float | None = None,
    column_scale: bool = True,
    penalty_mask: Shaped[np.ndarray, " n"] | None = None,
) -> Solution:
    """Coefficients x(λ) = argmin ‖A x − b‖² + λ ‖D x‖²; of several minimisers the one of least ‖D x‖.

    ``ridge="gcv"`` minimises generalised cross-validation, m ‖A x(λ) − b‖² / (m − tr H(λ))² with m rows and H the
    matrix that maps b to A x; it leaves out single rows, so strongly correlated rows (the forces of one structure) make
    it choose λ too small. ``ridge="folds"`` minimises Σ_f ‖A_f x₋f(λ) − b_f‖² / m, with x₋f fitted to all folds but f.
    Both try ``RIDGE_GRID`` and take the largest ridge whose score is within 0.1 % of the best. With n columns the time
    is that of (2/3) n³ flops for a given ridge, of one singular value decomposition for "gcv" and of one per fold for
    "folds" (beyond 2,000 columns of a few Cholesky factorisations on a coarser grid). The problem stays as it is and
    can take more rows.

    Args:
        problem: the rows so far.
        ridge: λ ≥ 0, or how to choose it: ``"gcv"`` or ``"folds"``.
        truncation: drop the singular values of the penalised, scaled block below this fraction of the largest.
        column_scale: whether D holds the column norms (then λ is dimensionless) or ones.
        penalty_mask: ``[n]``, False for the columns that neither ridge nor truncation touches.

    Returns:
        The coefficients and how they were found.

    Raises:
        ValueError: if there are no rows, fewer than two folds for ``ridge="folds"``, or an argument out of range.

    >>> rng = np.random.default_rng(0)
    >>> rows, problem = rng.standard_normal((50, 3)), StreamedQR(3)
    >>> problem.add(rows, rows @ np.array([1.0, -2.0, 0.5]))
    >>> solution = solve(problem, ridge="gcv")
    >>> solution.coefficients.round(6), solution.rank
    (array([ 1. , -2. ,  0.5]), 3)
    """
    options = _checked(problem, ridge, truncation, column_scale, penalty_mask)
    factors = problem.factors()
    ridges = scores = np.empty(0)
    if isinstance(ridge, str):
        ridges = RIDGE_GRID * _ridge_unit(factors, options)
    if ridge == "folds":
        if options.penalised.sum() > WIDE and truncation is None:
            unit = None if column_scale else _ridge_unit(factors, options)
            ridges, scores = score_wide(factors, options.penalised, unit)
            scores = scores / problem.n_rows
        else:
            scores = _fold_scores(factors, ridges, options) / problem.n_rows
        ridge = _best(ridges, scores)
    reduced = reduce(merge(factors), options)
    if ridge == "gcv":
        spectrum = _spectrum(reduced, options)
        scores = _gcv_scores(spectrum, ridges, reduced, problem.n_rows)
        ridge = _best(ridges, scores)
        fit = _fit_spectrum(spectrum, ridge)
    else:
        fit = _fit_given(reduced, float(ridge), options)
    n_free = len(reduced.level)
    return Solution(
        coefficients=expand(reduced, fit.penalised[:, None])[:, 0],
        ridge=float(ridge),
        effective_dof=fit.effective_dof + n_free,
        condition_number=reduced.condition_number,
        rank=fit.rank + n_free,
        residual_norm=fit.residual**0.5,
        zero_columns=reduced.zero,
        ridges=ridges,
        scores=scores,
    )


def _best(ridges: np.ndarray, scores: np.ndarray) -> float:
    """The largest ridge whose score is within 0.1 % of the best: where scores are flat, the safer choice."""
    return float(ridges[scores <= 1.001 * scores.min()].max())


class _Spectrum(NamedTuple):
    """Singular value decomposition U s Vᵀ of a block: ``beta`` = Uᵀ c, ``vt`` = Vᵀ, ``kept`` the values in use.

    ``remainder`` is the squared residual that no coefficients can change.
    """

    s: np.ndarray
    beta: np.ndarray
    vt: np.ndarray
    kept: np.ndarray
    remainder: float


class _Fit(NamedTuple):
    penalised: np.ndarray  # the scaled unknowns
    residual: float  # squared norm
    effective_dof: float  # trace of the hat matrix
    rank: int


def _checked(
    problem: StreamedQR,
    ridge: float | str,
    truncation: float | None,
    column_scale: bool,
    penalty_mask: np.ndarray | None,
) -> Options:
    n = problem.n_columns
    if problem.n_rows == 0:
        raise ValueError("nothing to fit: no rows were added, or all of them are zero (weights?)")
    if isinstance(ridge, str) and ridge not in ("gcv", "folds"):
        raise ValueError(f"ridge={ridge!r}: expected a number, 'gcv' or 'folds'")
    if not isinstance(ridge, str) and not (np.isfinite(ridge) and ridge >= 0.0):
        raise ValueError(f"ridge={ridge!r}: expected a finite number, 0 or more")
    if ridge == "folds" and len(problem.factors()) < 2:
        raise ValueError(
            "ridge='folds' needs two folds with rows: make StreamedQR with n_folds >= 2 and add >= 2 groups"
        )
    if truncation is not None and not 0.0 <= truncation < 1.0:
        raise ValueError(f"truncation={truncation!r}: expected a fraction of the largest singular value, in [0, 1)")
    mask = np.ones(n, dtype=bool) if penalty_mask is None else np.asarray(penalty_mask)
    if mask.shape != (n,) or mask.dtype != bool:
        raise ValueError(f"penalty_mask is {mask.dtype} {mask.shape}, expected bool ({n},)")
    return Options(column_scale, mask, truncation, float(np.finfo(float).eps) * max(problem.n_rows, n))


def _ridge_unit(factors: list[Factor], options: Options) -> float:
    """Mean squared norm of the scaled penalised columns: 1 by construction with column scaling."""
    if options.column_scale or not options.penalised.any():
        return 1.0
    squares = np.sum([column_squares(factor.triangle) for factor in factors], axis=0)
    return float(np.mean(squares[options.penalised])) or 1.0


def _spectrum(reduced: Reduced, options: Options) -> _Spectrum:
    """Decompose the penalised block; overwrites it."""
    u, s, vt = svd(reduced.block.triangle, overwrite_a=True, check_finite=False)
    cut = max(reduced.floor, (options.truncation or 0.0) * s.max(initial=0.0))
    return _Spectrum(s, u.T @ reduced.block.projection, vt, s > cut, reduced.block.remainder)


def _gains(spectrum: _Spectrum, ridges: np.ndarray) -> np.ndarray:
    """Factors s / (s² + λ) ``[n_ridges, n]`` that replace 1 / s; 0 for the values not in use."""
    s = np.where(spectrum.kept, spectrum.s, 1.0)
    return np.where(spectrum.kept, s / (s**2 + ridges[:, None]), 0.0)


def _residuals(spectrum: _Spectrum, gains: np.ndarray) -> np.ndarray:
    """Squared residuals ‖A x(λ) − b‖² ``[n_ridges]``."""
    return np.sum(((1.0 - gains * spectrum.s) * spectrum.beta) ** 2, axis=1) + spectrum.remainder


def _gcv_scores(spectrum: _Spectrum, ridges: np.ndarray, reduced: Reduced, n_rows: int) -> np.ndarray:
    gains = _gains(spectrum, ridges)
    left = n_rows - len(reduced.level) - gains @ spectrum.s
    determined = left > 1e-9 * n_rows  # as many parameters as rows fit anything: no score
    return np.where(determined, n_rows * _residuals(spectrum, gains) / np.where(determined, left, 1.0) ** 2, np.inf)


def _fold_scores(factors: list[Factor], ridges: np.ndarray, options: Options) -> np.ndarray:
    """Squared error on each fold of the fit to all the others, summed over folds, ``[n_ridges]``."""
    scores = np.zeros(len(ridges))
    for i, held_out in enumerate(factors):
        x = _coefficients(reduce(merge(factors[:i] + factors[i + 1 :]), options), ridges, options)
        scores += np.sum((held_out.triangle @ x - held_out.projection[:, None]) ** 2, axis=0) + held_out.remainder
    return scores


def _coefficients(reduced: Reduced, ridges: np.ndarray, options: Options) -> np.ndarray:
    """Coefficients ``[n, n_ridges]`` at many ridges; a function of its own so that its n² arrays end with it."""
    spectrum = _spectrum(reduced, options)
    return expand(reduced, spectrum.vt.T @ (_gains(spectrum, ridges) * spectrum.beta).T)


def _fit_spectrum(spectrum: _Spectrum, ridge: float) -> _Fit:
    gains = _gains(spectrum, np.array([ridge]))
    return _Fit(
        penalised=spectrum.vt.T @ (gains[0] * spectrum.beta),
        residual=float(_residuals(spectrum, gains)[0]),
        effective_dof=float(gains[0] @ spectrum.s),
        rank=int(spectrum.kept.sum()),
    )


def _add_ridge(block: Factor, ridge: float) -> Factor:
    """Factor of the block's rows and of √λ times the unit matrix, with targets 0."""
    n = len(block.projection)
    rows = np.zeros((n, n), order="F")
    np.fill_diagonal(rows, np.sqrt(ridge))
    return absorb(block._replace(triangle=block.triangle.copy(order="F")), rows, np.zeros(n), triangular=True)


def _fit_given(reduced: Reduced, ridge: float, options: Options) -> _Fit:
    """Fit at one ridge: by QR where the matrix allows it, else by its singular values."""
    n = len(reduced.penalised)
    if options.truncation is not None or n == 0:
        return _fit_spectrum(_spectrum(reduced, options), ridge)
    block = reduced.block
    ridged = _add_ridge(block, ridge) if ridge else block
    smallest = _lange("1", ridged.triangle) / condition_number(ridged.triangle)
    if smallest <= reduced.floor:  # rank-deficient: the least of many minimisers
        return _fit_spectrum(_spectrum(reduced, options), ridge)
    y = _trtrs(ridged.triangle, ridged.projection)[0]
    residual = float(np.sum((block.triangle @ y - block.projection) ** 2)) + block.remainder
    trace = float(np.sum(column_squares(_trtri(ridged.triangle, overwrite_c=1)[0]))) if ridge else 0.0
    return _Fit(penalised=y, residual=residual, effective_dof=n - ridge * trace, rank=n)
