"""Residuals of a chunk of structures and products with their Jacobian J, summed over all devices."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Float, Int

from jaxmlip.fitting.objective import Example, Terms, linearized, residuals, terms
from jaxmlip.fitting.training.devices import summed
from jaxmlip.fitting.training.problem import Chunk, Objective, Part, drawn
from jaxmlip.potentials.base import Linear, Params
from jaxmlip.programs import program

_TANGENTS = 16  # parameters differentiated at once
_PROBES = 8  # random signs for the diagonal of JᵀJ


@program(static_argnums=0)
def chunk_terms(objective: Objective, params: Params, fixed: Params, chunk: Chunk) -> Terms:
    """Sums over the structures of a chunk."""

    def found(rows: jax.Array, part: Part, params: Params) -> Terms:
        return terms(objective.potential, params, drawn(part, rows), objective.settings)

    return summed(found)(*chunk, {**params, **fixed})


def _vector_residuals(objective: Objective, unravel: Any, fixed: Params, example: Example) -> Any:
    """The weighted residuals of an example as one vector, a function of the vector of all parameters."""

    def function(vector: jax.Array) -> jax.Array:
        parts = residuals(objective.potential, {**unravel(vector), **fixed}, example, objective.settings)
        return jnp.concatenate([part.ravel() for part in parts])

    return function


@program(static_argnums=(0, 5), weight=3.0)
def normal_equations(
    objective: Objective,
    params: Params,
    fixed: Params,
    chunk: Chunk,
    tangents: Int[jax.Array, " n_tangents"],
    with_inner: bool,
) -> tuple[Float[jax.Array, "n n"], Float[jax.Array, " n"]]:
    """JᵀJ and Jᵀr of a chunk for the columns of the design matrix, then for the parameters ``tangents``.

    On a CPU one structure after the other, so that its derivatives stay in the cache.
    """

    def found(rows: jax.Array, part: Part, *known: Any) -> tuple:
        def of_some(rows: jax.Array) -> tuple:
            return _value_and_jacobian(objective, drawn(part, rows), with_inner, *known)

        def add(sums: tuple[jax.Array, ...], rows: jax.Array) -> tuple[tuple[jax.Array, ...], None]:
            value, J = of_some(rows)
            return (sums[0] + J @ J.T, sums[1] + J @ value), None

        rows = rows.reshape((-1, 1) if jax.default_backend() == "cpu" else (1, -1))
        n = jax.eval_shape(of_some, rows[0])[1]
        start = (jnp.zeros((n.shape[0], n.shape[0]), n.dtype), jnp.zeros(n.shape[0], n.dtype))
        return jax.lax.scan(add, start, rows)[0]

    return summed(found)(*chunk, params, fixed, tangents)


def _value_and_jacobian(
    objective: Objective, example: Example, with_inner: bool, params: Params, fixed: Params, tangents: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The weighted residuals of an example, and their derivatives, a row a parameter."""
    parts, value = [], jnp.zeros(0)
    if isinstance(objective.potential.stages, Linear):
        value, J = linearized(objective.potential, {**params, **fixed}, example, objective.settings, with_inner)
        parts.append(J)
    if len(tangents):
        vector, unravel = ravel_pytree(params)
        value, tangent_of = jax.linearize(_vector_residuals(objective, unravel, fixed, example), vector)
        unit = jax.nn.one_hot(tangents, len(vector), dtype=vector.dtype)
        parts.append(jax.lax.map(tangent_of, unit, batch_size=min(_TANGENTS, len(tangents))))
    return value, jnp.concatenate(parts)


@program(static_argnums=0)
def slope_and_diagonal(objective: Objective, params: Params, fixed: Params, chunk: Chunk, seed: Int[Any, ""]) -> tuple:
    """Jᵀr, and the diagonal of JᵀJ from random signs."""

    def found(rows: jax.Array, part: Part, params: Params, fixed: Params, seed: jax.Array) -> tuple:
        vector, unravel = ravel_pytree(params)
        value, pullback = jax.vjp(_vector_residuals(objective, unravel, fixed, drawn(part, rows)), vector)
        signs = jax.random.rademacher(jax.random.key(seed), (_PROBES, *value.shape), dtype=value.dtype)
        squares = jax.lax.map(lambda z: pullback(z)[0] ** 2, signs)
        return pullback(value)[0], squares.mean(axis=0)

    return summed(found)(*chunk, params, fixed, seed)


@program(static_argnums=0)
def normal_product(
    objective: Objective, params: Params, fixed: Params, chunk: Chunk, x: Float[jax.Array, " n_params"]
) -> Float[jax.Array, " n_params"]:
    """JᵀJ x of a chunk."""

    def found(rows: jax.Array, part: Part, params: Params, fixed: Params, x: jax.Array) -> jax.Array:
        vector, unravel = ravel_pytree(params)
        function = _vector_residuals(objective, unravel, fixed, drawn(part, rows))
        _, image = jax.jvp(function, (vector,), (x.astype(vector.dtype),))
        return jax.vjp(function, vector)[1](image)[0]

    return summed(found)(*chunk, params, fixed, x)
