"""Levenberg–Marquardt: Gauss–Newton steps with exact derivatives of all residuals, damped so that each one descends.

With the weighted residuals r(p) (`objective.residuals`) and their Jacobian J a step δ solves

    (JᵀJ + λ diag(JᵀJ)) δ = −Jᵀ r,

λ falls where the quadratic model predicts the descent well and rises where it does not. With few parameters JᵀJ is
summed up, from a design matrix where the potential has one, else one tangent of all residuals a parameter; with many it
is only multiplied, in conjugate gradients with its diagonal as preconditioner. Parameters that enter linearly (offsets;
the coefficients ξ of MTP) are not damped, and after a step they are solved for exactly (variable projection), so that
the search is one over the others alone.

References:
    Golub, Pereyra, Inverse Problems 19, R1 (2003): variable projection.
    Marquardt, J. Soc. Ind. Appl. Math. 11, 431 (1963); Nocedal, Wright, Numerical Optimization (2006), section 10.3.
    Bekas, Kokiopoulou, Saad, Appl. Numer. Math. 57, 1214 (2007): the diagonal from random signs.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Float, Int
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from jaxmlip.config import Count, NotNegative, Positive, Range, Whole
from jaxmlip.fitting.design import design_names
from jaxmlip.fitting.objective import Terms
from jaxmlip.fitting.training.devices import spread
from jaxmlip.fitting.training.jacobian_products import (
    chunk_terms,
    normal_equations,
    normal_product,
    slope_and_diagonal,
)
from jaxmlip.fitting.training.loop import Optimizer, add_terms
from jaxmlip.fitting.training.problem import Chunk, Objective, Problem, Training, chunks, split_params
from jaxmlip.potentials.base import Params

_TANGENT_LIMIT = 400  # parameters without a column in the design matrix, for which JᵀJ is still held
_TRIES = 12  # dampings tried before the search is given up


@dataclasses.dataclass(frozen=True)
class GaussNewtonFit(Training):
    """Levenberg-Marquardt on all structures at once; an epoch is a step."""

    epochs: Count = 50
    """Steps, at most."""
    batch_size: Count = 16
    """Structures evaluated together; limits the memory only."""
    dtype: Literal["float32", "float64"] = "float64"
    """Precision of all numbers in training; the normal equations need float64."""
    damping: Positive = 1e-3
    """λ of the first step, relative to the diagonal of JᵀJ."""
    dense_limit: Whole = 2500
    """Up to so many parameters JᵀJ is held; beyond, or with more than 400 that need a tangent each, conjugate gradients
    multiply with it."""
    cg_steps: Count = 50
    """Conjugate-gradient steps in a step, each of the cost of two gradients."""
    prior: NotNegative = 0.0
    """Pull of each parameter towards where it started, relative to the mean diagonal of JᵀJ there over the parameters
    of its kind: keeps what the data hardly determine (pairs of rare elements) from overfitting."""
    tolerance: NotNegative = 1e-3
    """Stop where the quadratic model promises to lower the loss by less, relatively."""
    checkpoint_every: Count = 5
    """Steps between checkpoints, where a folder is given."""
    n_shapes: Count = 1
    """Few steps do not repay the compilation of several sizes."""
    tunable: ClassVar[Mapping[str, Range]] = {"prior": Range(1e-5, 1.0, log=True)}


class _GaussNewtonState(NamedTuple):
    params: Params
    damping: Any  # λ of Levenberg and Marquardt


def gauss_newton_method(problem: Problem) -> Optimizer:
    """The `Optimizer` of `GaussNewtonFit` settings."""
    settings = problem.settings
    objective, trained, data = prepared(problem)
    data = _with_prior(objective, trained, data)

    def epoch(state: _GaussNewtonState, number: int) -> tuple[_GaussNewtonState, Terms, dict[str, Any]]:
        before = _loss(_sums(objective, state.params, data), state.params, data)
        step_of = _steps(objective, state.params, data)
        vector, unravel = ravel_pytree(state.params)
        damping = float(state.damping)
        for _ in range(_TRIES):
            step, predicted = step_of(damping)
            params = _projected(objective, unravel(vector + step), data)
            found = _sums(objective, params, data)
            loss = _loss(found, params, data)
            gain = (before - loss) / max(predicted, 1e-300)
            if gain > 0:  # also false for NaN
                row = {"damping": damping, "gain": gain, "descent": 1 - loss / before, "promised": predicted / before}
                damping = max(damping / 5, 1e-12) if gain > 0.75 else damping * (3 if gain < 0.25 else 1)
                return _GaussNewtonState(params, np.asarray(damping)), found, row
            damping *= 5
        row = {"damping": damping, "gain": 0.0, "descent": 0.0, "promised": 0.0}
        return state, _sums(objective, state.params, data), row

    def finished(row: dict[str, Any]) -> bool:
        return row["promised"] <= settings.tolerance

    return Optimizer(
        lambda params: _GaussNewtonState(params, np.asarray(settings.damping)), epoch, lambda s: s.params, finished
    )


class Data(NamedTuple):
    """All structures, in chunks, and what does not change."""

    fixed: Params
    chunks: list[Chunk]
    linear: np.ndarray  # [n_params] bool: which parameters the energy is linear in
    start: Any = 0.0  # [n_params]
    prior: Any = 0.0  # [n_params] weights of the squared distance from the start


def prepared(problem: Problem) -> tuple[Objective, Params, Data]:
    """What the functions below work on: of ``problem.settings`` the weights and the size of chunks."""
    trained, fixed = split_params(problem.potential, problem.params)
    size = problem.settings.batch_size
    work = [Chunk(spread(rows), part) for part in problem.train for rows in chunks(part.bucket.n_structures, size)]
    linear = _named(trained, design_names(problem.potential, with_inner=False) or ("offsets",))
    return Objective(problem.potential, problem.settings), trained, Data(fixed, work, linear)


def _named(params: Params, names: tuple[str, ...]) -> np.ndarray:
    """Which elements of the vector of all parameters are of these parts."""
    flags = {name: jax.tree.map(lambda x, n=name: np.full(np.shape(x), n in names), x) for name, x in params.items()}
    return np.asarray(ravel_pytree(flags)[0])


def means_by_kind(params: Params, values: Float[np.ndarray, " n_params"]) -> Float[np.ndarray, " n_params"]:
    """For each parameter the mean of ``values`` over all of its kind: those under one name of ``params``."""
    result = np.zeros(len(values))
    for name in params:
        mine = _named(params, (name,))
        result[mine] = values[mine].mean()
    return result


def _with_prior(objective: Objective, params: Params, data: Data) -> Data:
    """The data with the prior of ``params``, which are where it pulls to.

    JᵀJ is that of the start with its linear parameters fitted: where they are zero nothing depends on the others.
    """
    if not objective.settings.prior:
        return data
    vector, _ = ravel_pytree(params)
    diagonal = _diagonal(objective, _projected(objective, params, data), data)
    weights = objective.settings.prior * means_by_kind(params, diagonal)
    weights[_named(params, ("offsets",))] = 0.0
    return data._replace(start=np.asarray(vector), prior=weights)


def _loss(found: Terms, params: Params, data: Data) -> float:
    return float(found.objective) + float(np.sum(data.prior * (np.asarray(ravel_pytree(params)[0]) - data.start) ** 2))


def _sums(objective: Objective, params: Params, data: Data) -> Terms:
    return add_terms([chunk_terms(objective, params, data.fixed, chunk) for chunk in data.chunks])


def _projected(objective: Objective, params: Params, data: Data) -> Params:
    """The parameters with the linear ones at their minimum (variable projection), where they are few."""
    flat, unravel = ravel_pytree(params)
    vector = np.array(flat)
    chosen = np.flatnonzero(data.linear)
    if not 0 < len(chosen) <= objective.settings.dense_limit:
        return params
    matrix, slope = normal_matrix(objective, params, data, chosen)
    scale = np.sqrt(np.where(np.diag(matrix) > 0, np.diag(matrix), 1.0))
    scaled = matrix / scale[:, None] / scale + _floor(vector) * np.eye(len(chosen))
    vector[chosen] -= np.linalg.solve(scaled, slope / scale) / scale
    return unravel(jax.device_put(vector))


def _floor(vector: Any) -> float:
    """Relative damping of linear parameters: only what keeps a singular matrix solvable."""
    return max(1e-11, 10 * float(jnp.finfo(vector.dtype).eps))


def _held(objective: Objective, params: Params) -> bool:
    """Whether JᵀJ of all parameters is held."""
    columns = design_names(objective.potential, with_inner=True)
    sizes = {name: len(ravel_pytree(part)[0]) for name, part in params.items()}
    n_tangents = sum(size for name, size in sizes.items() if name not in columns)
    return sum(sizes.values()) <= objective.settings.dense_limit and n_tangents <= _TANGENT_LIMIT


def _steps(objective: Objective, params: Params, data: Data) -> Any:
    """The function λ → (step, descent that the quadratic model predicts) at ``params``."""
    vector, _ = ravel_pytree(params)
    if not _held(objective, params):
        return _iterative_steps(objective, params, data)
    matrix, slope = normal_matrix(objective, params, data, np.arange(len(vector)))
    # A parameter that nothing depends on (a pair of species that never meets) stays where it is; linear ones are free.
    diagonal = np.where(np.diag(matrix) > 0, np.diag(matrix), 1.0)
    floor = _floor(vector)
    weights = np.where(data.linear, floor, 1.0)

    def step_of(damping: float) -> tuple[Any, float]:
        try:
            added = diagonal * np.maximum(damping * weights, floor)
            step = -cho_solve(cho_factor(matrix + np.diag(added)), slope)
        except LinAlgError:
            return jnp.zeros_like(vector), 0.0
        return jnp.asarray(step, vector.dtype), float(-2 * slope @ step - step @ matrix @ step)

    return step_of


def normal_matrix(
    objective: Objective, params: Params, data: Data, chosen: Int[np.ndarray, " n_chosen"]
) -> tuple[Float[np.ndarray, "n_chosen n_chosen"], Float[np.ndarray, " n_chosen"]]:
    """JᵀJ and Jᵀr for the parameters ``chosen``, the prior included."""
    with_inner = not data.linear[chosen].all()
    names = design_names(objective.potential, with_inner=with_inner)
    columns = [np.flatnonzero(_named(params, (name,))) for name in names]
    order = np.concatenate([*columns, np.zeros(0, int)])
    tangents = jax.device_put(np.setdiff1d(chosen, order))
    matrix, slope = np.zeros((len(data.linear), len(data.linear))), np.zeros(len(data.linear))
    places = np.concatenate([order, np.asarray(tangents)])
    for chunk in data.chunks:
        product, gradient = normal_equations(objective, params, data.fixed, chunk, tangents, with_inner)
        matrix[np.ix_(places, places)] += np.asarray(product, float)
        slope[places] += np.asarray(gradient, float)
    pull = np.broadcast_to(data.prior, data.linear.shape)
    offset = np.asarray(ravel_pytree(params)[0]) - data.start
    return matrix[np.ix_(chosen, chosen)] + np.diag(pull[chosen]), (slope + pull * offset)[chosen]


def _iterative_steps(objective: Objective, params: Params, data: Data) -> Any:
    vector, _ = ravel_pytree(params)
    slope, diagonal = _slope_and_diagonal(objective, params, data)
    slope = slope + data.prior * (np.asarray(vector) - data.start)
    diagonal = np.maximum(diagonal, 1e-10 * diagonal.max(initial=1e-300)) + data.prior

    def multiply(x: np.ndarray) -> np.ndarray:
        parts = [normal_product(objective, params, data.fixed, chunk, jnp.asarray(x)) for chunk in data.chunks]
        return np.sum([np.asarray(part) for part in parts], axis=0) + data.prior * x

    def step_of(damping: float) -> tuple[Any, float]:
        added = damping * diagonal * np.where(data.linear, _floor(vector), 1.0)
        step, image = _conjugate_gradients(multiply, -slope, diagonal, added, objective.settings.cg_steps)
        return jnp.asarray(step, vector.dtype), float(-2 * slope @ step - step @ image)

    return step_of


def _diagonal(objective: Objective, params: Params, data: Data) -> np.ndarray:
    """The diagonal of JᵀJ of all structures, from the matrix where it is held."""
    if not _held(objective, params):
        return _slope_and_diagonal(objective, params, data)[1]
    return np.diag(normal_matrix(objective, params, data, np.arange(len(data.linear)))[0])


def _slope_and_diagonal(objective: Objective, params: Params, data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Jᵀr and the diagonal of JᵀJ of all structures."""
    seeds = range(len(data.chunks))
    parts = [
        slope_and_diagonal(objective, params, data.fixed, chunk, seed)
        for chunk, seed in zip(data.chunks, seeds, strict=True)
    ]
    slope, diagonal = (np.sum([np.asarray(part[k]) for part in parts], axis=0) for k in (0, 1))
    return slope, diagonal


def _conjugate_gradients(
    multiply: Any, b: np.ndarray, diagonal: np.ndarray, added: np.ndarray, n_steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """(A + W) x = b from x = 0, preconditioned by the ``diagonal`` of A; W: ``added``. Returns x and A x."""
    x, image, r = np.zeros_like(b), np.zeros_like(b), b.copy()
    z = r / (diagonal + added)
    direction, size = z.copy(), float(r @ z)
    start = size
    for _ in range(n_steps):
        product = multiply(direction)
        length = size / float(direction @ (product + added * direction))
        x, image = x + length * direction, image + length * product
        r = r - length * (product + added * direction)
        z = r / (diagonal + added)
        size, last = float(r @ z), size
        if size <= 1e-8 * start:
            break
        direction = z + size / last * direction
    return x, image
