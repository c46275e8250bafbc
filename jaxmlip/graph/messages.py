"""Passing features between neighbours without scattering, and whole systems in blocks of atoms of bounded memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float, Int


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
    return _gather.bind(x, neighbors, reverse)


def incoming_sums(
    messages: Float[Array, "n_atoms max_neighbors n_channels"],
    neighbors: Int[Array, "n_atoms max_neighbors"],
    reverse: Int[Array, "n_atoms max_neighbors"],
) -> Float[Array, "n_atoms n_channels"]:
    """Σ_i of what every atom i holds for its neighbour j, at each j: read from the slots of the reversed pairs."""
    return _sum.bind(messages, neighbors, reverse)


def _linear_primitive(name: str, function: Callable, shape_of: Callable) -> Primitive:
    """A function of ``(x, neighbors, reverse)`` that is linear in x; several at once are one of more channels.

    Forward, reverse and repeated derivatives are made of it and its transpose, which `_transposes` adds.
    """
    made = Primitive(name)
    made.def_impl(function)
    made.def_abstract_eval(lambda x, neighbors, _: x.update(shape=shape_of(x, neighbors)))
    mlir.register_lowering(made, mlir.lower_fun(function, multiple_results=False))

    def tangent(primals: tuple, tangents: tuple) -> tuple:
        value = made.bind(*primals)
        moved = tangents[0]
        return value, made.bind(ad.instantiate_zeros(moved), *primals[1:])

    def batched(args: tuple, axes: tuple) -> tuple:
        if any(axis is not None for axis in axes[1:]):
            return jax.vmap(function, axes)(*args), 0
        x = jnp.moveaxis(args[0], axes[0], -1)
        found = made.bind(x.reshape(*x.shape[:-2], -1), *args[1:])
        return found.reshape(*found.shape[:-1], *x.shape[-2:]), found.ndim

    ad.primitive_jvps[made] = tangent
    batching.primitive_batchers[made] = batched
    return made


def _transposes(first: Primitive, second: Primitive) -> None:
    """A slot is the reverse of exactly one slot (padding of itself), so each is the exact transpose of the other."""
    for one, other in ((first, second), (second, first)):
        ad.primitive_transposes[one] = lambda cotangent, _, neighbors, reverse, other=other: (
            None if type(cotangent) is ad.Zero else other.bind(cotangent, neighbors, reverse),
            None,
            None,
        )


_gather = _linear_primitive(
    "gather_neighbors", lambda x, neighbors, _: x[neighbors], lambda x, neighbors: (*neighbors.shape, x.shape[-1])
)
_sum = _linear_primitive(
    "incoming_sums",
    lambda x, _, reverse: jnp.sum(x.reshape(-1, x.shape[-1])[reverse], axis=1),
    lambda x, neighbors: (neighbors.shape[0], x.shape[-1]),
)
_transposes(_gather, _sum)


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


def even_block(n: int, largest: int, step: int = 1) -> int:
    """A size of blocks between half of ``largest`` and ``largest`` that fills up ``n`` rows with the fewest more.

    >>> even_block(36, 16), even_block(7, 16), even_block(100, 32, 8)
    (12, 7, 24)
    """
    if n <= largest:
        return n
    return min(range(largest, largest // 2, -step), key=lambda block: -(-n // block) * block)


def split_rows(arrays: Any, block: int, *, mode: str = "edge") -> Any:
    """``[n, …]`` as ``[n_blocks, block, …]``, filled up with copies of the last row, or zeros with "constant"."""

    def blocks_of(x: Array) -> Array:
        n_blocks = -(-len(x) // block)
        missing = n_blocks * block - len(x)
        if missing:  # even of nothing, a pad has a gradient that costs a copy
            x = jnp.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1), mode=mode)
        return x.reshape(n_blocks, block, *x.shape[1:])

    return jax.tree.map(blocks_of, arrays)
