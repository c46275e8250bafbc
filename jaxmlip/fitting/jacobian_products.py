"""Residuals of a chunk of structures and products with their Jacobian J, summed over all devices."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxmlip.fitting.devices import summed
from jaxmlip.fitting.objective import Terms, linear_derivatives, residuals, terms
from jaxmlip.fitting.problem import Part, drawn
from jaxmlip.potentials.base import Params, Potential

_TANGENTS = 16  # parameters differentiated at once
_PROBES = 8  # random signs for the diagonal of JᵀJ


class Facts(NamedTuple):
    """What compiled functions depend on."""

    potential: Potential
    settings: Any  # `Weights` of some method


@partial(jax.jit, static_argnums=0)
def chunk_terms(facts: Facts, params: Params, fixed: Params, chunk: tuple) -> Terms:
    """Sums over the structures of a chunk."""

    def found(rows: jax.Array, part: Part, params: Params) -> Terms:
        return terms(facts.potential, params, drawn(part, rows), facts.settings)

    return summed(found)(*chunk, {**params, **fixed})


def _vector_residuals(facts: Facts, unravel: Any, fixed: Params, example: tuple) -> Any:
    """The weighted residuals of an example as one vector, a function of the vector of all parameters."""

    def function(vector: jax.Array) -> jax.Array:
        parts = residuals(facts.potential, {**unravel(vector), **fixed}, example, facts.settings)
        return jnp.concatenate([part.ravel() for part in parts])

    return function


@partial(jax.jit, static_argnums=0)
def normal_equations(
    facts: Facts, params: Params, fixed: Params, chunk: tuple, tangents: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """JᵀJ and Jᵀr of a chunk for the columns of the design matrix, then for the parameters ``tangents``."""

    def found(rows: jax.Array, part: Part, params: Params, fixed: Params, tangents: jax.Array) -> tuple:
        example = drawn(part, rows)
        vector, unravel = ravel_pytree(params)
        value, tangent_of = jax.linearize(_vector_residuals(facts, unravel, fixed, example), vector)
        parts = []
        if facts.potential.linear is not None:
            parts.append(linear_derivatives(facts.potential, {**params, **fixed}, example, facts.settings))
        if len(tangents):
            unit = jax.nn.one_hot(tangents, len(vector), dtype=vector.dtype)
            parts.append(jax.lax.map(tangent_of, unit, batch_size=min(_TANGENTS, len(tangents))))
        J = jnp.concatenate(parts)
        return J @ J.T, J @ value

    return summed(found)(*chunk, params, fixed, tangents)


@partial(jax.jit, static_argnums=0)
def slope_and_diagonal(facts: Facts, params: Params, fixed: Params, chunk: tuple, seed: jax.Array) -> tuple:
    """Jᵀr, and the diagonal of JᵀJ from random signs."""

    def found(rows: jax.Array, part: Part, params: Params, fixed: Params, seed: jax.Array) -> tuple:
        vector, unravel = ravel_pytree(params)
        value, pullback = jax.vjp(_vector_residuals(facts, unravel, fixed, drawn(part, rows)), vector)
        signs = jax.random.rademacher(jax.random.key(seed), (_PROBES, *value.shape), dtype=value.dtype)
        squares = jax.lax.map(lambda z: pullback(z)[0] ** 2, signs)
        return pullback(value)[0], squares.mean(axis=0)

    return summed(found)(*chunk, params, fixed, seed)


@partial(jax.jit, static_argnums=0)
def normal_product(facts: Facts, params: Params, fixed: Params, chunk: tuple, x: jax.Array) -> jax.Array:
    """JᵀJ x of a chunk."""

    def found(rows: jax.Array, part: Part, params: Params, fixed: Params, x: jax.Array) -> jax.Array:
        vector, unravel = ravel_pytree(params)
        function = _vector_residuals(facts, unravel, fixed, drawn(part, rows))
        _, image = jax.jvp(function, (vector,), (x.astype(vector.dtype),))
        return jax.vjp(function, vector)[1](image)[0]

    return summed(found)(*chunk, params, fixed, x)
