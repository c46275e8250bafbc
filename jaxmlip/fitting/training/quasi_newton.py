"""Full-batch training with L-BFGS: the original way of aenet and MLIP, for every family.

The objective is summed over chunks of structures, value and gradient at once, so memory does not grow with the data.

References:
    Liu, Nocedal, Math. Program. 45, 503 (1989): L-BFGS.
    Moré, Thuente, ACM Trans. Math. Softw. 20, 286 (1994); Nocedal, Wright, Numerical Optimization (2006), algorithms
    3.5 and 3.6: the line search (optax).
"""

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxmlip.config import Count, NotNegative
from jaxmlip.fitting.objective import Example, Terms, terms
from jaxmlip.fitting.training.devices import replicated, spread, summed
from jaxmlip.fitting.training.loop import Optimizer
from jaxmlip.fitting.training.problem import Chunk, Objective, Part, Problem, Training, chunks, drawn, split_params
from jaxmlip.potentials.base import Params
from jaxmlip.programs import program


@dataclasses.dataclass(frozen=True)
class QuasiNewtonFit(Training):
    """L-BFGS on all structures at once; an epoch is an iteration."""

    epochs: Count = 500
    """Iterations, at most."""
    batch_size: Count = 32
    """Structures evaluated together; limits the memory only."""
    dtype: Literal["float32", "float64"] = "float64"
    """Precision of all numbers in training; the curvature needs float64."""
    memory: Count = 20
    """Pairs of steps and gradient changes that the curvature is made of."""
    gradient_tolerance: NotNegative = 1e-8
    """Stop where no component of the gradient of the loss per structure is larger."""
    line_search_steps: Count = 20
    """Evaluations of the loss in one iteration, at most."""
    checkpoint_every: Count = 50
    """Iterations between checkpoints, where a folder is given."""


class _Sums(NamedTuple):
    """Over structures; without a gradient where none is asked for."""

    terms: Terms
    gradient: Params | None


class _QuasiNewtonState(NamedTuple):
    params: Params
    optimizer: Any  # optax's state


def quasi_newton_method(problem: Problem) -> Optimizer:
    """The `Optimizer` of `QuasiNewtonFit` settings."""
    objective = Objective(problem.potential, problem.settings)
    _, fixed = split_params(problem.potential, problem.params)
    size = problem.settings.batch_size
    data = [Chunk(spread(chunks(part.bucket.n_structures, size).swapaxes(0, 1)), part) for part in problem.train]

    def init(params: Params) -> _QuasiNewtonState:
        return replicated(_QuasiNewtonState(params, _optimizer(objective.settings).init(params)))

    def epoch(state: _QuasiNewtonState, number: int) -> tuple[_QuasiNewtonState, Terms, dict[str, Any]]:
        state, size = _iterate(objective, state, fixed, data)
        return state, _evaluate(objective, state.params, fixed, data), {"gradient": float(size)}

    def finished(row: dict[str, Any]) -> bool:
        return row["gradient"] <= problem.settings.gradient_tolerance

    return Optimizer(init, epoch, lambda state: state.params, finished)


def _optimizer(settings: QuasiNewtonFit) -> optax.GradientTransformationExtraArgs:
    search = optax.scale_by_zoom_linesearch(max_linesearch_steps=settings.line_search_steps)
    return optax.lbfgs(memory_size=settings.memory, linesearch=search)


@program(static_argnums=0)
def _iterate(objective: Objective, state: _QuasiNewtonState, fixed: Params, data: list[Chunk]) -> tuple:
    def loss(params: Params) -> jax.Array:
        found, _ = _sums(objective, params, fixed, data)
        return found.objective / found.n_structures

    value_fn = _with_gradient(loss, lambda params: _sums(objective, params, fixed, data))
    value, gradient = optax.value_and_grad_from_state(value_fn)(state.params, state=state.optimizer)
    optimizer = _optimizer(objective.settings)
    updates, kept = optimizer.update(
        gradient, state.optimizer, state.params, value=value, grad=gradient, value_fn=value_fn
    )
    params = optax.apply_updates(state.params, updates)
    return _QuasiNewtonState(params, kept), optax.tree.norm(optax.tree.get(kept, "grad"), ord=jnp.inf)


@program(static_argnums=0)
def _evaluate(objective: Objective, params: Params, fixed: Params, data: list[Chunk]) -> Terms:
    return _sums(objective, params, fixed, data, with_gradient=False)[0]


def _with_gradient(loss: Any, sums: Any) -> Any:
    """``loss`` whose derivative is summed along with it, chunk by chunk, instead of keeping every chunk's work."""

    @jax.custom_vjp
    def value_fn(params: Params) -> jax.Array:
        return loss(params)

    def forward(params: Params) -> tuple[jax.Array, Params]:
        found, gradient = sums(params)
        return found.objective / found.n_structures, jax.tree.map(lambda g: g / found.n_structures, gradient)

    value_fn.defvjp(forward, lambda gradient, one: (jax.tree.map(lambda g: g * one, gradient),))
    return value_fn


def _sums(objective: Objective, params: Params, fixed: Params, data: list[Chunk], with_gradient: bool = True) -> _Sums:
    """Terms of all structures, and the gradient of their objective."""

    def value(params: Params, example: Example) -> tuple[jax.Array, Terms]:
        found = terms(objective.potential, {**params, **fixed}, example, objective.settings)
        return found.objective, found

    def of_rows(rows: jax.Array, params: Params, fixed: Params, part: Part) -> _Sums:
        def add(total: _Sums, chosen: jax.Array) -> tuple[_Sums, None]:
            example = drawn(part, chosen)
            if not with_gradient:
                return jax.tree.map(jnp.add, total, _Sums(value(params, example)[1], None)), None
            (_, found), gradient = jax.value_and_grad(value, has_aux=True)(params, example)
            return jax.tree.map(jnp.add, total, _Sums(found, gradient)), None

        zero = Terms(*[jnp.zeros((), params["offsets"].dtype)] * len(Terms._fields))
        start = _Sums(zero, jax.tree.map(jnp.zeros_like, params) if with_gradient else None)
        return jax.lax.scan(add, start, rows)[0]

    found = [summed(of_rows)(chunk.rows, params, fixed, chunk.part) for chunk in data]
    return jax.tree.map(lambda *x: sum(x[1:], start=x[0]), *found)
