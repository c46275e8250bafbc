"""Minimizers of one function of one vector, as pure functions that `jax.vmap` runs on many structures at once.

Each is a pair ``start(x)``, ``update(state, value, gradient, converged)``: the function is evaluated at
``state.trial``, for all structures in one graph, ``update`` takes the result and chooses the next trial; ``state.x``
is the last accepted point. Rows of three components are atoms (or rows of the cell): no row moves by more than 0.2 Å
in a step, as in ASE. FIRE is jax-md's; `lbfgs` is ours, which jax-md lacks, in jax-md's form.

References:
    Liu and Nocedal, Math. Program. 45, 503 (1989): L-BFGS.
    Nocedal and Wright, Numerical Optimization, Springer 2006, algorithms 3.1 (backtracking) and 7.4 (two loops).
    Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006): FIRE.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

MAX_STEP = 0.2  # Å a step, each row
_CURVATURE = 70.0  # eV/Å², a guess for the first step: ASE's
_MEMORY = 12
_ARMIJO = 1e-4
_ROUNDING = 1e-12  # relative: energies that differ by less are equal
_TRIALS = 12  # backtracking steps before the history is forgotten

_FIRE_STEPS = {"dt_start": 0.1, "dt_max": 1.0}  # ASE's


class Minimizer(NamedTuple):
    """``start(x) -> state``, ``update(state, value, gradient, converged) -> state``; for one structure."""

    start: Callable[[Float[Array, " n"]], Any]
    update: Callable[..., Any]


class LBFGSState(NamedTuple):
    """An accepted point, the pairs (s, y) of the last ones, and a search along ``direction``."""

    x: Float[Array, " n"]
    value: Float[Array, ""]  # infinite before the first evaluation
    gradient: Float[Array, " n"]
    trial: Float[Array, " n"]
    direction: Float[Array, " n"]
    length: Float[Array, ""]
    steps: Float[Array, "memory n"]  # s_k = x_{k+1} − x_k, the newest last
    changes: Float[Array, "memory n"]  # y_k = g_{k+1} − g_k; zero where there is none yet
    n_trials: Int[Array, ""]


class FIREState(NamedTuple):
    """jax-md's state with rows of three components, and where it goes next."""

    x: Float[Array, " n"]
    trial: Float[Array, " n"]
    inner: Any


def lbfgs(
    energy_fn: Callable[..., Float[Array, ""]], shift_fn: Callable[..., Float[Array, "..."]]
) -> tuple[Callable, Callable]:
    """L-BFGS with backtracking as a pair ``(init, apply)`` of jax-md's form; ``state.position`` is the last point.

    >>> init, apply = lbfgs(lambda x: jnp.sum((x - 1) ** 2), lambda x, step: x + step)
    >>> state = init(jnp.zeros((2, 3)))
    >>> for _ in range(30):
    ...     state = apply(state)
    >>> bool(jnp.allclose(state.position, 1, atol=1e-5))
    True

    Args:
        energy_fn: of positions and keywords, whose gradient is Cartesian.
        shift_fn: moves positions by a Cartesian step, as jax-md's spaces give it.
    """

    def init(position: Array, **_: Any) -> Any:
        return LBFGSPosition(position, position, _lbfgs_start(jnp.zeros(position.size, position.dtype)))

    def apply(state: Any, **at: Any) -> Any:
        value, gradient = jax.value_and_grad(energy_fn)(state.trial, **at)
        old = state.inner
        new = _lbfgs_update(old, value, gradient.reshape(-1), jnp.zeros((), bool))
        accepted = jnp.all(new.x == old.trial)
        position = jnp.where(accepted, state.trial, state.position)
        return LBFGSPosition(position, shift_fn(position, (new.trial - new.x).reshape(position.shape), **at), new)

    return init, apply


class LBFGSPosition(NamedTuple):
    """Where `lbfgs` is, and where it looks next; its history is in Cartesian steps from the start."""

    position: Float[Array, "n_atoms 3"]
    trial: Float[Array, "n_atoms 3"]
    inner: LBFGSState


def _lbfgs_start(x: Float[Array, " n"]) -> LBFGSState:
    zero, history = jnp.zeros_like(x), jnp.zeros((_MEMORY, *x.shape), x.dtype)
    infinite = jnp.full((), jnp.inf, x.dtype)
    n_trials = jnp.zeros((), jnp.int32)
    return LBFGSState(x, infinite, zero, x, zero, jnp.zeros((), x.dtype), history, history, n_trials)


def _lbfgs_update(state: LBFGSState, value: Array, gradient: Array, converged: Bool[Array, ""]) -> LBFGSState:
    """Accept the trial if it lowers the value enough (Armijo) and take the next direction, else go back half way."""
    first = jnp.isinf(state.value)
    slope = jnp.sum(state.gradient * state.direction)
    allowed = state.value + _ARMIJO * state.length * slope + _ROUNDING * (1 + jnp.abs(state.value))
    finite = jnp.isfinite(value) & jnp.isfinite(gradient).all()
    accepted = finite & (first | (value <= allowed) | converged)

    s, y = state.trial - state.x, gradient - state.gradient
    useful = accepted & ~first & (jnp.sum(s * y) > 1e-10 * jnp.sqrt(jnp.sum(s * s) * jnp.sum(y * y)))
    forget = ~accepted & (state.n_trials >= _TRIALS)
    steps, changes = (
        jnp.where(forget, 0, jnp.where(useful, jnp.roll(old, -1, axis=0).at[-1].set(new), old))
        for old, new in ((state.steps, s), (state.changes, y))
    )
    x, g = (jnp.where(accepted, a, b) for a, b in ((state.trial, state.x), (gradient, state.gradient)))
    fresh = accepted | forget
    # With nothing but rejections so far the start itself has no finite value: then nothing moves.
    direction = jnp.where(fresh, _capped(_two_loops(g, steps, changes)), state.direction)
    length = jnp.where(fresh, 1.0, _shorter(state, slope, value))
    return LBFGSState(
        x=x,
        value=jnp.where(accepted, value, state.value),
        gradient=g,
        trial=x + length * direction,
        direction=direction,
        length=length,
        steps=steps,
        changes=changes,
        n_trials=jnp.where(fresh, 0, state.n_trials + 1),
    )


def _shorter(state: LBFGSState, slope: Array, value: Array) -> Array:
    """The minimum of the parabola through what is known of the line, within a tenth and a half of the last length."""
    curvature = value - state.value - state.length * slope
    best = -slope * state.length**2 / jnp.where(curvature > 0, 2 * curvature, 1)
    sensible = jnp.isfinite(value) & (curvature > 0)
    return jnp.clip(jnp.where(sensible, best, 0.5 * state.length), 0.1 * state.length, 0.5 * state.length)


def _two_loops(gradient: Array, steps: Array, changes: Array) -> Array:
    """−H g with the inverse Hessian of the pairs; without pairs a step along the force."""
    curvature = jnp.sum(steps * changes, axis=1)
    there = curvature > 0
    rho = jnp.where(there, 1 / jnp.where(there, curvature, 1), 0)

    def backward(q: Array, pair: tuple) -> tuple[Array, Array]:
        s, y, r = pair
        a = r * jnp.sum(s * q)
        return q - a * y, a

    def forward(q: Array, pair: tuple) -> tuple[Array, None]:
        s, y, r, a = pair
        return q + (a - r * jnp.sum(y * q)) * s, None

    q, a = jax.lax.scan(backward, gradient, (steps, changes, rho), reverse=True)
    newest = jnp.sum(changes[-1] ** 2)
    scale = jnp.where(there[-1], curvature[-1] / jnp.where(newest > 0, newest, 1), 1 / _CURVATURE)
    return -jax.lax.scan(forward, scale * q, (steps, changes, rho, a))[0]


def _fire(force: Callable[[Array], Array]) -> tuple[Callable, Callable]:
    """jax-md's FIRE; it has no longest step, so its steps are made shorter where they are taken."""
    with jax.numpy_dtype_promotion("standard"):  # jax-md promotes when it is imported, too
        from jax_md import minimize

        return minimize.fire_descent(force, lambda rows, step, **_: rows + _capped(step), **_FIRE_STEPS)


def _fire_start(x: Float[Array, " n"]) -> FIREState:
    init, _ = _fire(jnp.zeros_like)
    return FIREState(x, x, init(x.reshape(-1, 3), mass=jnp.ones((), x.dtype)))


def _fire_update(state: FIREState, value: Array, gradient: Array, converged: Bool[Array, ""]) -> FIREState:
    """jax-md moves and then asks for the force: where it goes does not depend on the answer, so it is asked twice."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        force, first = -gradient.reshape(-1, 3), jnp.all(state.inner.force == 0)
        inner = _fire(lambda _: force)[1](state.inner)
        inner = jax.tree.map(lambda a, b: jnp.where(first, a, b), state.inner.set(force=force), inner)
        ahead = _fire(jnp.zeros_like)[1](inner).position
    return FIREState(x=state.trial, trial=ahead.reshape(-1), inner=inner)


def _capped(step: Array) -> Array:
    """``step`` made shorter where a row of three components would move by more than 0.2 Å."""
    longest = jnp.sqrt(jnp.max(jnp.sum(step.reshape(-1, 3) ** 2, axis=1)))
    return step * jnp.minimum(1, MAX_STEP / jnp.maximum(longest, 1e-300))


MINIMIZERS = {"lbfgs": Minimizer(_lbfgs_start, _lbfgs_update), "fire": Minimizer(_fire_start, _fire_update)}
