"""Radial functions from tables: cubic Hermite splines on even knots, for inference.

With x = r/r_c, interval i = ⌊n x⌋ and t = n x − i, a function with values f and slopes s = f′/n at the knots is

    f(x) = f_i (1 − t²(3 − 2t)) + s_i t(1 − t)² + f_{i+1} t²(3 − 2t) + s_{i+1} t²(t − 1),

continuous with its derivative. Its error is at most h⁴/384 of the fourth derivative, with h = 1/n.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Table = Float[Array, "n_knots 2 n_functions"]
"""Values, and slopes by x divided by the number of intervals."""


@jax.custom_jvp
def hermite_splines(table: Table, x: Float[Array, "*pairs"]) -> Float[Array, "*pairs n_functions"]:
    """All functions of a table at 0 ≤ x ≤ 1.

    >>> square = jnp.array([[[0.0], [0.0]], [[1.0], [2.0]]])
    >>> hermite_splines(square, jnp.array([0.5]))[0].tolist()
    [0.25]
    """
    index, t = _place(table, x)
    return _combined(table, index, (1 - t * t * (3 - 2 * t), t * (1 - t) ** 2, t * t * (3 - 2 * t), t * t * (t - 1)))


@hermite_splines.defjvp
def _derivative(primals: tuple, tangents: tuple) -> tuple:
    """By x alone: a table is not trained. Slopes are summed like the values, so nothing that was gathered is kept."""
    table, x = primals
    index, t = _place(table, x)
    weights = (6 * t * (t - 1), (1 - t) * (1 - 3 * t), 6 * t * (1 - t), t * (3 * t - 2))
    slopes = (len(table) - 1) * _combined(table, index, weights)
    return hermite_splines(table, x), slopes * jnp.expand_dims(tangents[1], -1)


def _place(table: Table, x: Array) -> tuple[Array, Array]:
    """Interval, and how far in it."""
    n = len(table) - 1
    index = jnp.clip((n * x).astype(int), 0, n - 1)
    return index, n * x - index.astype(x.dtype)


def _combined(table: Table, index: Array, weights: Sequence[Array]) -> Array:
    table = jax.lax.stop_gradient(table)
    knots = (table[:, 0][index], table[:, 1][index], table[:, 0][index + 1], table[:, 1][index + 1])
    first, *others = (w[..., None] * knot for w, knot in zip(weights, knots, strict=True))
    return sum(others, first)
