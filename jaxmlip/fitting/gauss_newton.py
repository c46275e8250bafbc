"""Levenberg–Marquardt: Gauss–Newton steps with exact derivatives of all residuals, damped so that each one descends.

With the weighted residuals r(p) (`objective.residuals`) and their Jacobian J a step δ solves

    (JᵀJ + λ diag(JᵀJ)) δ = −Jᵀ r,

λ falls where the quadratic model predicts the descent well and rises where it does not. With few parameters JᵀJ is
summed up, one tangent of all residuals a parameter; with many it is only multiplied, in conjugate gradients with its
diagonal as preconditioner. Parameters that enter linearly (offsets; the coefficients ξ of MTP) are not damped, and
after a step they are solved for exactly (variable projection), so that the search is one over the others alone.

References:
    Golub, Pereyra, Inverse Problems 19, R1 (2003): variable projection.
    Marquardt, J. Soc. Ind. Appl. Math. 11, 431 (1963); Nocedal, Wright, Numerical Optimization (2006), section 10.3.
    Bekas, Kokiopoulou, Saad, Appl. Numer. Math. 57, 1214 (2007): the diagonal from random signs.
"""

import dataclasses
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from jaxmlip.config import ConfigError
from jaxmlip.fitting.objective import Terms, residuals, terms
from jaxmlip.fitting.training import Method, Problem, Training, add_terms, chunks, drawn, split_params
from jaxmlip.potentials.base import Params, Potential

_TANGENTS = 16  # parameters differentiated at once
_PROBES = 8  # random signs for the diagonal of JᵀJ
_TRIES = 12  # dampings tried before the search is given up
_FLOOR = 1e-11  # relative damping of linear parameters: only what keeps a singular matrix solvable


@dataclasses.dataclass(frozen=True)
class GaussNewtonFit(Training):
    """Levenberg-Marquardt on all structures at once; an epoch is a step."""

    epochs: int = 50
    batch_size: int = 16
    dtype: Literal["float32", "float64"] = "float64"
    damping: float = 1e-3
    """λ of the first step, relative to the diagonal of JᵀJ."""
    dense_limit: int = 400
    """Up to so many parameters JᵀJ is held; beyond, conjugate gradients multiply with it."""
    cg_steps: int = 50
    """Conjugate-gradient steps in a step, each of the cost of two gradients."""
    tolerance: float = 1e-5
    """Stop where a step lowers the loss by less, relatively."""
    checkpoint_every: int = 5

    def __post_init__(self) -> None:
        """Refuses what cannot be run."""
        super().__post_init__()
        if self.damping <= 0 or self.dense_limit < 0 or self.cg_steps < 1 or self.tolerance < 0:
            raise ConfigError(
                f"damping must be positive, dense_limit and tolerance ≥ 0, cg_steps ≥ 1: got {self.damping}, "
                f"{self.dense_limit}, {self.tolerance}, {self.cg_steps}"
            )


class _State(NamedTuple):
    params: Params
    damping: Any


class _Facts(NamedTuple):
    """What compiled functions depend on."""

    potential: Potential
    settings: GaussNewtonFit


def gauss_newton_method(problem: Problem) -> Method:
    """The `Method` of `GaussNewtonFit` settings."""
    settings: GaussNewtonFit = problem.settings
    facts = _Facts(problem.potential, settings)
    trained, fixed = split_params(problem.potential, problem.params)
    work = [(part, rows) for part in problem.train for rows in chunks(part.bucket.n_structures, settings.batch_size)]
    data = _Data(fixed, [drawn(part, jnp.asarray(rows)) for part, rows in work], _linear(problem.potential, trained))

    def epoch(state: _State, number: int) -> tuple[_State, Terms, dict[str, Any]]:
        before = float(_sums(facts, state.params, data).objective)
        step_of = _steps(facts, state.params, data)
        vector, unravel = ravel_pytree(state.params)
        damping = float(state.damping)
        for _ in range(_TRIES):
            step, predicted = step_of(damping)
            params = _projected(facts, unravel(vector + step), data)
            found = _sums(facts, params, data)
            gain = (before - float(found.objective)) / max(predicted, 1e-300)
            if gain > 0:  # also false for NaN
                row = {"damping": damping, "gain": gain, "descent": 1 - float(found.objective) / before}
                damping = max(damping / 5, 1e-12) if gain > 0.75 else damping * (3 if gain < 0.25 else 1)
                return _State(params, np.asarray(damping)), found, row
            damping *= 5
        return state, _sums(facts, state.params, data), {"damping": damping, "gain": 0.0, "descent": 0.0}

    def finished(row: dict[str, Any]) -> bool:
        return row["descent"] <= settings.tolerance

    return Method(lambda params: _State(params, np.asarray(settings.damping)), epoch, lambda s: s.params, finished)


class _Data(NamedTuple):
    """All structures, in chunks, and what does not change."""

    fixed: Params
    examples: list[tuple]
    linear: np.ndarray  # [n_params] bool: which parameters the energy is linear in


def _linear(potential: Potential, params: Params) -> np.ndarray:
    names = ("offsets", "coefficients") if potential.linear is not None else ("offsets",)
    flags = {name: jax.tree.map(lambda x, n=name: np.full(np.shape(x), n in names), x) for name, x in params.items()}
    return np.asarray(ravel_pytree(flags)[0])


def _sums(facts: _Facts, params: Params, data: _Data) -> Terms:
    return add_terms([_terms(facts, params, data.fixed, example) for example in data.examples])


def _projected(facts: _Facts, params: Params, data: _Data) -> Params:
    """The parameters with the linear ones at their minimum (variable projection), where they are few."""
    vector, unravel = ravel_pytree(params)
    chosen = np.flatnonzero(data.linear)
    if len(vector) > facts.settings.dense_limit or not len(chosen):
        return params
    matrix, slope = _normal_equations(facts, params, data, chosen)
    scale = np.sqrt(np.maximum(np.diag(matrix), 1e-300))
    scaled = matrix / scale[:, None] / scale + _FLOOR * np.eye(len(chosen))
    return unravel(vector.at[chosen].add(-np.linalg.solve(scaled, slope / scale) / scale))


@partial(jax.jit, static_argnums=0)
def _terms(facts: _Facts, params: Params, fixed: Params, example: tuple) -> Terms:
    return terms(facts.potential, {**params, **fixed}, example, facts.settings)


def _vector_residuals(facts: _Facts, unravel: Any, fixed: Params, example: tuple) -> Any:
    """The weighted residuals of an example as one vector, a function of the vector of all parameters."""

    def function(vector: jax.Array) -> jax.Array:
        parts = residuals(facts.potential, {**unravel(vector), **fixed}, example, facts.settings)
        return jnp.concatenate([part.ravel() for part in parts])

    return function


def _steps(facts: _Facts, params: Params, data: _Data) -> Any:
    """The function λ → (step, descent that the quadratic model predicts) at ``params``."""
    vector, _ = ravel_pytree(params)
    if len(vector) > facts.settings.dense_limit:
        return _iterative_steps(facts, params, data)
    matrix, slope = _normal_equations(facts, params, data, np.arange(len(vector)))
    # A parameter that nothing depends on (a pair of species that never meets) stays where it is; linear ones are free.
    diagonal = np.where(np.diag(matrix) > 0, np.diag(matrix), 1.0)
    weights = np.where(data.linear, _FLOOR, 1.0)

    def step_of(damping: float) -> tuple[Any, float]:
        try:
            added = diagonal * np.maximum(damping * weights, _FLOOR)
            step = -cho_solve(cho_factor(matrix + np.diag(added)), slope)
        except LinAlgError:
            return jnp.zeros_like(vector), 0.0
        return jnp.asarray(step, vector.dtype), float(-2 * slope @ step - step @ matrix @ step)

    return step_of


def _normal_equations(facts: _Facts, params: Params, data: _Data, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """JᵀJ and Jᵀr for the parameters ``chosen``."""
    found = [_normal(facts, params, data.fixed, example, jnp.asarray(chosen)) for example in data.examples]
    return tuple(np.sum([np.asarray(part[k], float) for part in found], axis=0) for k in (0, 1))  # type: ignore[return-value]


@partial(jax.jit, static_argnums=0)
def _normal(
    facts: _Facts, params: Params, fixed: Params, example: tuple, chosen: jax.Array
) -> tuple[jax.Array, jax.Array]:
    vector, unravel = ravel_pytree(params)
    value, tangent_of = jax.linearize(_vector_residuals(facts, unravel, fixed, example), vector)
    unit = jax.nn.one_hot(chosen, len(vector), dtype=vector.dtype)
    J = jax.lax.map(tangent_of, unit, batch_size=min(_TANGENTS, len(chosen)))
    return J @ J.T, J @ value


def _iterative_steps(facts: _Facts, params: Params, data: _Data) -> Any:
    vector, _ = ravel_pytree(params)
    fixed, examples = data.fixed, data.examples
    keys = jax.random.split(jax.random.key(0), len(examples))
    parts = [_slope(facts, params, fixed, example, key) for example, key in zip(examples, keys, strict=True)]
    slope, diagonal = (np.sum([np.asarray(part[k]) for part in parts], axis=0) for k in (0, 1))
    diagonal = np.maximum(diagonal, 1e-10 * diagonal.max(initial=1e-300))

    def multiply(x: np.ndarray) -> np.ndarray:
        return np.sum([np.asarray(_product(facts, params, fixed, e, jnp.asarray(x))) for e in examples], axis=0)

    def step_of(damping: float) -> tuple[Any, float]:
        step, image = _conjugate_gradients(multiply, -slope, diagonal, (damping, facts.settings.cg_steps))
        return jnp.asarray(step, vector.dtype), float(-2 * slope @ step - step @ image)

    return step_of


@partial(jax.jit, static_argnums=0)
def _slope(facts: _Facts, params: Params, fixed: Params, example: tuple, key: jax.Array) -> tuple:
    """Jᵀr, and the diagonal of JᵀJ from random signs."""
    vector, unravel = ravel_pytree(params)
    value, pullback = jax.vjp(_vector_residuals(facts, unravel, fixed, example), vector)
    signs = jax.random.rademacher(key, (_PROBES, *value.shape), dtype=value.dtype)
    squares = jax.lax.map(lambda z: pullback(z)[0] ** 2, signs)
    return pullback(value)[0], squares.mean(axis=0)


@partial(jax.jit, static_argnums=0)
def _product(facts: _Facts, params: Params, fixed: Params, example: tuple, x: jax.Array) -> jax.Array:
    """JᵀJ x of an example."""
    vector, unravel = ravel_pytree(params)
    function = _vector_residuals(facts, unravel, fixed, example)
    _, image = jax.jvp(function, (vector,), (x.astype(vector.dtype),))
    return jax.vjp(function, vector)[1](image)[0]


def _conjugate_gradients(multiply: Any, b: np.ndarray, diagonal: np.ndarray, how: tuple[float, int]) -> tuple:
    """(A + λ D) x = b from x = 0 in a few preconditioned steps; also A x."""
    damping, n_steps = how
    weights = diagonal * (1 + damping)
    x, image = np.zeros_like(b), np.zeros_like(b)
    r = b.copy()
    z = r / weights
    direction, size = z.copy(), float(r @ z)
    start = size
    for _ in range(n_steps):
        product = multiply(direction)
        length = size / float(direction @ (product + damping * diagonal * direction))
        x, image = x + length * direction, image + length * product
        r = r - length * (product + damping * diagonal * direction)
        z = r / weights
        size, last = float(r @ z), size
        if size <= 1e-8 * start:
            break
        direction = z + size / last * direction
    return x, image
