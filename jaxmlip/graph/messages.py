"""Passing features between neighbours without scattering, and whole systems in blocks of atoms of bounded memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


@jax.custom_vjp
def gather_neighbors(
    x: Float[Array, "n_atoms n_channels"],
    neighbors: Int[Array, "n_atoms max_neighbors"],
    reverse: Int[Array, "n_atoms max_neighbors"],
) -> Float[Array, "n_atoms max_neighbors n_channels"]:
    """x_j of every neighbour j of every atom; its transpose is `incoming_sums`, so no derivative scatters.

    >>> x, pair = jnp.array([[1.0], [2.0]]), jnp.array([[1], [0]])
    >>> gather_neighbors(x, pair, pair).ravel().tolist()
    [2.0, 1.0]
    """
    return x[neighbors]


@jax.custom_vjp
def incoming_sums(
    messages: Float[Array, "n_atoms max_neighbors n_channels"],
    neighbors: Int[Array, "n_atoms max_neighbors"],
    reverse: Int[Array, "n_atoms max_neighbors"],
) -> Float[Array, "n_atoms n_channels"]:
    """Σ_i of what every atom i holds for its neighbour j, at each j: read from the slots of the reversed pairs."""
    return jnp.sum(messages.reshape(-1, messages.shape[-1])[reverse], axis=1)


def _gather_forward(x: Array, neighbors: Array, reverse: Array) -> tuple:
    return gather_neighbors(x, neighbors, reverse), (neighbors, reverse)


def _incoming_forward(messages: Array, neighbors: Array, reverse: Array) -> tuple:
    return incoming_sums(messages, neighbors, reverse), (neighbors, reverse)


# A slot is the reverse of exactly one slot (padding of itself), so each is the exact transpose of the other.
gather_neighbors.defvjp(_gather_forward, lambda where, ct: (incoming_sums(ct, *where), None, None))
incoming_sums.defvjp(_incoming_forward, lambda where, ct: (gather_neighbors(ct, *where), None, None))


def in_blocks(function: Callable, arrays: Any, block: int) -> Any:
    """``function`` of ``block`` rows of ``arrays`` at a time, the results stacked along the rows.

    The last block is filled up with copies of the last row, whose results are dropped.

    >>> in_blocks(lambda x: 2 * x, jnp.arange(3), 2).tolist()
    [0, 2, 4]
    """
    n = len(jax.tree.leaves(arrays)[0])
    if n <= block:
        return function(arrays)
    stacked = jax.lax.map(function, split_rows(arrays, block))
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:n], stacked)


def split_rows(arrays: Any, block: int, *, mode: str = "edge") -> Any:
    """``[n, …]`` as ``[n_blocks, block, …]``, filled up with copies of the last row, or zeros with "constant"."""

    def split(x: Array) -> Array:
        n_blocks = -(-len(x) // block)
        padding = [(0, n_blocks * block - len(x))] + [(0, 0)] * (x.ndim - 1)
        return jnp.pad(x, padding, mode=mode).reshape(n_blocks, block, *x.shape[1:])

    return jax.tree.map(split, arrays)
