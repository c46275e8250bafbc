"""Streamed least squares against numpy.linalg.lstsq, explicit normal formulas and brute-force cross-validation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmlip.fitting.least_squares import fold_scores, ridge_regression
from jaxmlip.fitting.least_squares.ridge_regression import RIDGE_GRID, StreamedQR, solve
from jaxmlip.fitting.least_squares.streamed_qr import merge

EPS = np.finfo(float).eps


def ill_conditioned(m=300, n=20, condition=1e8, noise=1e-3, seed=0):
    """Matrix with singular values from 1 down to 1/condition, and noisy targets in its range."""
    rng = np.random.default_rng(seed)
    u, v = (np.linalg.qr(rng.standard_normal((size, n)))[0] for size in (m, n))
    rows = (u * np.logspace(0, -np.log10(condition), n)) @ v.T
    return rows, rows @ rng.standard_normal(n) + noise * rng.standard_normal(m) / m**0.5


def correlated(m=120, n=12, noise=0.5, seed=0):
    """Well-posed but strongly correlated columns and noise: the best ridge lies inside the grid."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((m, 3)) @ rng.standard_normal((3, n)) + 0.1 * rng.standard_normal((m, n))
    return rows, rows @ rng.standard_normal(n) + noise * rng.standard_normal(m)


def streamed(rows, targets, *, piece=7, **options):
    problem = StreamedQR(rows.shape[1], **options)
    for start in range(0, len(rows), piece):
        problem.add(rows[start : start + piece], targets[start : start + piece])
    return problem


def explicit_ridge(rows, targets, ridge, mask=None, scale=True):
    """Minimiser by lstsq of the stacked matrix [A; √λ D], and D; needs full column rank."""
    norms = np.linalg.norm(rows, axis=0) if scale else np.ones(rows.shape[1])
    penalty = np.diag(np.sqrt(ridge) * norms * (1.0 if mask is None else mask))
    stacked = np.vstack([rows, penalty]) / norms
    return np.linalg.lstsq(stacked, np.concatenate([targets, np.zeros(len(norms))]), rcond=1e-15)[0] / norms


def hat_matrix(rows, ridge, mask=None):
    """Matrix that maps targets to predictions."""
    return np.column_stack([rows @ explicit_ridge(rows, unit, ridge, mask) for unit in np.eye(len(rows))])


@pytest.mark.parametrize("scales", [1.0, 1e6])
def test_matches_lstsq_when_ill_conditioned(scales):
    rows, targets = ill_conditioned()
    rows = rows * np.geomspace(1, scales, rows.shape[1])
    norms = np.linalg.norm(rows, axis=0)
    solution = solve(streamed(rows, targets))
    expected = np.linalg.lstsq(rows / norms, targets, rcond=None)[0] / norms
    # Backward stable, so errors of the coefficients are eps · condition(1e8) · (1 + condition · residual/|b|); the
    # predictions do not suffer from the condition.
    condition = np.linalg.cond(rows / norms)
    bound = 10 * EPS * condition * np.linalg.norm(expected * norms)
    residual = np.linalg.norm(targets - rows @ expected)
    bound += 10 * EPS * condition**2 * residual
    assert np.linalg.norm((solution.coefficients - expected) * norms) < bound
    np.testing.assert_allclose(solution.residual_norm, residual, rtol=1e-9)
    np.testing.assert_allclose(rows @ solution.coefficients, rows @ expected, atol=1e-7 * np.abs(targets).max())
    assert condition / 20 < solution.condition_number < 20 * condition  # 1-norm against 2-norm: up to a factor n
    assert (solution.rank, solution.effective_dof, solution.ridge) == (20, 20.0, 0.0)


def test_consistent_targets_do_not_square_the_condition():
    rows, _ = ill_conditioned(condition=1e8)
    truth = np.random.default_rng(3).standard_normal(20)
    solution = solve(streamed(rows, rows @ truth))
    # eps · 1e8 = 2e-8; the normal equations would give eps · 1e16: no digit at all.
    np.testing.assert_allclose(solution.coefficients, truth, atol=1e-6)


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("ridge", [1e-12, 1e-6, 1e-2, 10.0])
def test_ridge_matches_the_stacked_matrix(ridge, scale):
    rows, targets = ill_conditioned()
    problem = streamed(rows, targets)
    expected = explicit_ridge(rows, targets, ridge, scale=scale)
    # The stacked matrix has condition ≤ √(n/λ) = 4e6 at λ = 1e-12: about 1e-9 relative, 1e-8 with the residual's share.
    tolerance = 1e-7 * np.abs(expected).max()
    solution = solve(problem, ridge=ridge, column_scale=scale)
    np.testing.assert_allclose(solution.coefficients, expected, atol=tolerance)
    by_svd = solve(problem, ridge=ridge, column_scale=scale, truncation=0.0)
    np.testing.assert_allclose(by_svd.coefficients, expected, atol=tolerance)
    np.testing.assert_allclose(solution.effective_dof, by_svd.effective_dof, rtol=1e-6)
    np.testing.assert_allclose(solution.residual_norm, np.linalg.norm(rows @ expected - targets), rtol=1e-9)


def test_effective_dof_is_the_trace_of_the_hat_matrix():
    rows, targets = correlated()
    mask = np.arange(12) > 2
    for options in ({}, {"penalty_mask": mask}, {"penalty_mask": mask, "truncation": 0.0}):
        solution = solve(streamed(rows, targets), ridge=0.03, **options)
        expected = np.trace(hat_matrix(rows, 0.03, options.get("penalty_mask")))
        np.testing.assert_allclose(solution.effective_dof, expected, rtol=1e-10)


def test_truncation_drops_small_singular_values():
    rows, targets = ill_conditioned()
    solution = solve(streamed(rows, targets), truncation=1e-4, column_scale=False)
    u, s, vt = np.linalg.svd(rows, full_matrices=False)
    kept = s > 1e-4 * s[0]
    expected = vt[kept].T @ ((u.T @ targets)[kept] / s[kept])
    np.testing.assert_allclose(solution.coefficients, expected, atol=1e-9)  # kept condition 1e4 · eps · safety
    assert solution.rank == solution.effective_dof == kept.sum()


@given(
    m=st.integers(1, 60),
    n=st.integers(1, 9),
    chunk=st.integers(1, 40),
    piece=st.integers(1, 70),
    folds=st.integers(1, 4),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_pieces_chunks_folds_and_order_do_not_matter(m, n, chunk, piece, folds, seed):
    rng = np.random.default_rng(seed)
    rows, targets = rng.standard_normal((m, n)), rng.standard_normal(m)
    order = rng.permutation(m)
    problem = streamed(rows[order], targets[order], piece=piece, chunk_rows=chunk, n_folds=folds)
    assert problem.n_rows == m
    whole = merge(problem.factors())
    # RᵀR, Rᵀc and |b|² are what QR must preserve, to rounding of a few eps.
    np.testing.assert_allclose(whole.triangle.T @ whole.triangle, rows.T @ rows, atol=1e-12)
    np.testing.assert_allclose(whole.triangle.T @ whole.projection, rows.T @ targets, atol=1e-12)
    np.testing.assert_allclose(whole.projection @ whole.projection + whole.remainder, targets @ targets, rtol=1e-12)
    assert np.all(np.tril(whole.triangle, -1) == 0.0)
    solution = solve(problem, ridge=0.1)
    np.testing.assert_allclose(solution.coefficients, explicit_ridge(rows, targets, 0.1), atol=1e-10)


def test_solving_leaves_the_problem_as_it_was():
    rows, targets = correlated()
    problem = streamed(rows[:50], targets[:50], n_folds=3)
    mask = np.arange(12) != 5
    first = solve(problem, ridge="folds", penalty_mask=mask)
    solve(problem, ridge="gcv", column_scale=False)
    solve(problem, truncation=0.1)
    again = solve(problem, ridge="folds", penalty_mask=mask)
    np.testing.assert_array_equal(first.coefficients, again.coefficients)
    problem.add(rows[50:], targets[50:])
    expected = np.linalg.lstsq(rows, targets, rcond=None)[0]
    np.testing.assert_allclose(solve(problem).coefficients, expected, atol=1e-11)


@pytest.mark.parametrize("ridge", [0.0, 1e-3, "gcv", "folds"])
def test_zero_columns_get_exactly_zero_and_are_reported(ridge):
    rows, targets = correlated()
    rows[:, [0, 4, 11]] = 0.0
    kept = np.setdiff1d(np.arange(12), [0, 4, 11])
    solution = solve(streamed(rows, targets, n_folds=3), ridge=ridge, penalty_mask=np.arange(12) % 4 != 0)
    assert list(solution.zero_columns) == [0, 4, 11]
    assert np.all(solution.coefficients[[0, 4, 11]] == 0.0)
    expected = explicit_ridge(rows[:, kept], targets, solution.ridge, (kept % 4 != 0))
    np.testing.assert_allclose(solution.coefficients[kept], expected, atol=1e-9)
    assert solution.rank == 9
    assert np.isfinite(solution.condition_number)


def test_column_that_only_one_fold_excites():
    rows, targets = correlated()
    rows[:100, 3] = 0.0
    problem = StreamedQR(12, n_folds=3)
    for group, start in enumerate((0, 50, 100)):
        problem.add(rows[start : start + 50], targets[start : start + 50], group)
    solution = solve(problem, ridge="folds")
    assert np.all(np.isfinite(solution.scores))
    assert solution.coefficients[3] != 0.0


def test_all_columns_zero():
    problem = StreamedQR(3, n_folds=2)
    problem.add(np.zeros((4, 3)), np.ones(4), "a")
    problem.add(np.zeros((4, 3)), np.ones(4), "b")
    for ridge in (0.0, 1.0, "gcv", "folds"):
        solution = solve(problem, ridge=ridge)
        assert np.all(solution.coefficients == 0.0)
        assert (solution.rank, len(solution.zero_columns)) == (0, 3)
        np.testing.assert_allclose(solution.residual_norm, 8**0.5)


@pytest.mark.parametrize(("m", "n"), [(100, 12), (5, 12)])
def test_rank_deficient_gives_the_least_norm_solution(m, n):
    rng = np.random.default_rng(1)
    rows, targets = rng.standard_normal((m, 4)) @ rng.standard_normal((4, n)), rng.standard_normal(m)
    solution = solve(streamed(rows, targets))
    norms = np.linalg.norm(rows, axis=0)
    expected = np.linalg.lstsq(rows / norms, targets, rcond=1e-12)[0] / norms
    np.testing.assert_allclose(solution.coefficients, expected, atol=1e-11)
    assert solution.rank == 4
    assert solution.condition_number > 1e14


def test_more_columns_than_rows_with_ridge():
    rng = np.random.default_rng(2)
    rows, targets = rng.standard_normal((8, 30)), rng.standard_normal(8)
    solution = solve(streamed(rows, targets), ridge=1e-3)
    np.testing.assert_allclose(solution.coefficients, explicit_ridge(rows, targets, 1e-3), atol=1e-10)
    best = solve(streamed(rows, targets), ridge="gcv")
    assert np.isfinite(best.scores.min())
    assert np.all(np.isfinite(best.coefficients))


@pytest.mark.parametrize("ridge", [1e-6, 1e-2, 10.0])
@pytest.mark.parametrize("free", [[0, 1], [10, 11], [2, 7], list(range(12))])
def test_unpenalised_columns(ridge, free):
    rows, targets = correlated()
    mask = ~np.isin(np.arange(12), free)
    solution = solve(streamed(rows, targets), ridge=ridge, penalty_mask=mask)
    np.testing.assert_allclose(solution.coefficients, explicit_ridge(rows, targets, ridge, mask), atol=1e-10)
    np.testing.assert_allclose(rows[:, free].T @ (rows @ solution.coefficients - targets), 0.0, atol=1e-10)


def test_dependent_unpenalised_columns():
    """Offsets at one fixed composition: two proportional columns, alone and together with a column they explain."""
    rows, targets = correlated()
    rows[:, 1] = 2.0 * rows[:, 0]
    rows[:, 2] = 3.0 * rows[:, 0] + 0.5 * rows[:, 1]
    mask = np.arange(12) > 1
    solution = solve(streamed(rows, targets), ridge=0.01, penalty_mask=mask)
    kept = np.delete(np.arange(12), [1, 2])
    expected = explicit_ridge(rows[:, kept], targets, 0.01, kept > 1)
    np.testing.assert_allclose(rows @ solution.coefficients, rows[:, kept] @ expected, atol=1e-9)
    np.testing.assert_allclose(solution.coefficients[2], 0.0, atol=1e-10)
    assert np.abs(solution.coefficients).max() < 100.0
    assert solution.effective_dof < 11.0


def test_dependent_unpenalised_columns_keep_what_penalised_columns_explain():
    rows, targets = np.triu(np.arange(1.0, 17.0).reshape(4, 4)), np.arange(1.0, 5.0)
    rows[:2, 1] = 2.0 * rows[:2, 0]  # so that the second row belongs to the penalised columns alone
    mask = np.array([False, False, True, True])
    problem = streamed(rows, targets)
    solution = solve(problem, ridge=0.2, penalty_mask=mask)
    kept = [0, 2, 3]
    expected = explicit_ridge(rows[:, kept], targets, 0.2, mask[kept])
    np.testing.assert_allclose(solution.coefficients[2:], expected[1:], atol=1e-12)


@pytest.mark.parametrize("scale", [True, False])
def test_gcv_is_the_formula(scale):
    rows, targets = correlated()
    mask = np.arange(12) > 1
    solution = solve(streamed(rows, targets), ridge="gcv", penalty_mask=mask, column_scale=scale)
    unit = 1.0 if scale else np.mean(np.sum(rows[:, mask] ** 2, axis=0))
    np.testing.assert_allclose(solution.ridges, RIDGE_GRID * unit)
    m = len(rows)
    for i in range(0, len(RIDGE_GRID), 8):
        ridge = solution.ridges[i]
        x = explicit_ridge(rows, targets, ridge, mask, scale)
        freedom = np.trace(
            np.column_stack([rows @ explicit_ridge(rows, unit, ridge, mask, scale) for unit in np.eye(m)])
        )
        expected = m * np.sum((rows @ x - targets) ** 2) / (m - freedom) ** 2
        np.testing.assert_allclose(solution.scores[i], expected, rtol=1e-9)
    assert solution.ridge == solution.ridges[np.argmin(solution.scores)]
    assert RIDGE_GRID[0] * unit < solution.ridge < RIDGE_GRID[-1] * unit
    expected = explicit_ridge(rows, targets, solution.ridge, mask, scale)
    np.testing.assert_allclose(solution.coefficients, expected, atol=1e-10)


@pytest.mark.parametrize("truncation", [None, 0.05])
def test_folds_are_leave_one_group_out(truncation):
    rows, targets = correlated()
    groups = np.random.default_rng(5).integers(0, 4, len(rows))
    problem = StreamedQR(12, n_folds=4, chunk_rows=16)
    for row, target, group in zip(rows, targets, groups, strict=True):
        problem.add(row[None], target[None], group)
    mask = np.arange(12) > 1
    solution = solve(problem, ridge="folds", penalty_mask=mask, truncation=truncation)
    for i in range(0, len(RIDGE_GRID), 8):
        squared = 0.0
        for group in range(4):
            rest = groups != group
            given = solve(
                streamed(rows[rest], targets[rest]), ridge=RIDGE_GRID[i], penalty_mask=mask, truncation=truncation
            ).coefficients
            if truncation is None:  # independent of the code under test
                given = explicit_ridge(rows[rest], targets[rest], RIDGE_GRID[i], mask)
            squared += np.sum((rows[~rest] @ given - targets[~rest]) ** 2)
        np.testing.assert_allclose(solution.scores[i], squared / len(rows), rtol=1e-9)
    assert solution.ridge == RIDGE_GRID[np.argmin(solution.scores)]
    assert 1e-14 < solution.ridge < 100.0


def test_groups_stay_together_and_folds_are_balanced():
    rng = np.random.default_rng(0)
    problem = StreamedQR(2, n_folds=3)
    for _ in range(3):
        for group in range(12):
            problem.add(rng.standard_normal((5, 2)), np.full(5, float(group)), group)
    squares = sorted(float(f.projection @ f.projection + f.remainder) for f in problem.factors())
    expected = sorted(15.0 * sum(group**2 for group in range(first, 12, 3)) for first in range(3))
    np.testing.assert_allclose(squares, expected, rtol=1e-12)


def test_rows_of_weight_zero_change_nothing():
    rows, targets = correlated()
    problem = streamed(rows, targets)
    before = solve(problem, ridge="gcv")
    problem.add(np.zeros((40, 12)), np.zeros(40))
    problem.add(np.zeros((0, 12)), np.zeros(0))
    after = solve(problem, ridge="gcv")
    assert problem.n_rows == len(rows)
    np.testing.assert_allclose(after.scores, before.scores, rtol=1e-12)


def test_non_finite_rows_are_refused_and_cost_nothing():
    rows, targets = correlated()
    problem = streamed(rows, targets)
    bad_rows, bad_targets = rows[:10].copy(), targets[:10].copy()
    bad_rows[2, 3], bad_rows[4, 0], bad_targets[[4, 7]] = np.nan, np.inf, np.nan
    with pytest.raises(ValueError, match=r"3 of 10 rows \(group 'Mo-7'\)"):
        problem.add(bad_rows, bad_targets, "Mo-7")
    assert problem.n_rows == len(rows)
    np.testing.assert_allclose(solve(problem).coefficients, np.linalg.lstsq(rows, targets, rcond=None)[0], atol=1e-11)


def test_single_precision_rows_are_reduced_in_double():
    rows, targets = correlated()
    rows, targets = rows.astype(np.float32), targets.astype(np.float32)
    expected = np.linalg.lstsq(rows.astype(float), targets.astype(float), rcond=None)[0]
    np.testing.assert_allclose(solve(streamed(rows, targets)).coefficients, expected, atol=1e-11)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ridge": "cv"}, "ridge='cv'"),
        ({"ridge": -1.0}, "0 or more"),
        ({"ridge": np.nan}, "finite"),
        ({"ridge": "folds"}, "two folds"),
        ({"truncation": 1.0}, "truncation=1.0"),
        ({"penalty_mask": np.ones(3, dtype=bool)}, "penalty_mask"),
        ({"penalty_mask": np.ones(12)}, "penalty_mask"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        solve(streamed(*correlated()), **options)


def test_bad_input():
    with pytest.raises(ValueError, match="no rows"):
        solve(StreamedQR(2))
    with pytest.raises(ValueError, match="n_columns=0"):
        StreamedQR(0)
    with pytest.raises(ValueError, match=r"\(4, 3\).*\[m, 2\]"):
        StreamedQR(2).add(np.ones((4, 3)), np.ones(4))
    with pytest.raises(ValueError, match=r"targets \(3,\)"):
        StreamedQR(2).add(np.ones((4, 2)), np.ones(3))


@pytest.mark.parametrize("n_rows", [40, 200])  # fewer and more rows than columns: both systems of equations
@pytest.mark.parametrize("column_scale", [True, False])
def test_wide_problems_get_the_same_fold_scores(n_rows, column_scale, monkeypatch):
    """The Cholesky path scores as the singular value decomposition does, to rounding over the ridge (1e-8)."""
    rng = np.random.default_rng(1)
    size = np.logspace(0, 2, 80)
    rows = rng.normal(size=(n_rows, 80)) * size
    rows[:, 5] = 0
    targets = rows @ (rng.normal(size=80) / size) + rng.normal(size=n_rows)
    penalised = np.ones(80, bool)
    penalised[[0, 3]] = False
    problem = ridge_regression.StreamedQR(80, n_folds=4)
    for start in range(0, n_rows, 10):
        problem.add(rows[start : start + 10], targets[start : start + 10])
    arguments = {"ridge": "folds", "penalty_mask": penalised, "column_scale": column_scale}
    monkeypatch.setattr(ridge_regression, "RIDGE_GRID", fold_scores.WIDE_GRID)
    exact = ridge_regression.solve(problem, **arguments)
    monkeypatch.setattr(ridge_regression, "WIDE", 10)
    wide = ridge_regression.solve(problem, **arguments)
    expected = dict(zip(exact.ridges, exact.scores))
    assert wide.ridge == exact.ridge
    np.testing.assert_allclose(wide.scores, [expected[r] for r in wide.ridges], rtol=1e-8)
