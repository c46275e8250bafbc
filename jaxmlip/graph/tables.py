"""Tables of pairs cut down on the device to the pairs within the cutoff, so that a potential computes no other."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


class Columns(NamedTuple):
    """The first true entries of each row of a table."""

    slot: Int[Array, "n_rows inner"]  # their columns
    mask: Bool[Array, "n_rows inner"]  # which of them exist
    count: Int[Array, " n_rows"]  # how many there are, which may be more than were asked for


class Shortened(NamedTuple):
    """A table of pairs cut down: what each of its slots holds."""

    slot: Int[Array, "n_rows inner"]  # the column that it had
    mask: Bool[Array, "n_rows inner"]
    reverse: Int[Array, "n_rows inner"]  # flat slot of the reversed pair in the new table; of padding its own
    count: Int[Array, " n_rows"]  # pairs that there are, which may be more than ``inner``


def first_columns(chosen: Bool[Array, "n_rows width"], inner: int) -> Columns:
    """The first ``inner`` true entries of each row.

    >>> [x.tolist() for x in first_columns(jnp.array([[False, True, True]]), 1)]
    [[[1]], [[True]], [2]]
    """
    count = jnp.cumsum(chosen, axis=1, dtype=jnp.int32)
    wanted = jnp.arange(1, inner + 1, dtype=jnp.int32)
    column = jax.vmap(lambda row: jnp.searchsorted(row, wanted))(count).astype(jnp.int32)
    total = count[:, -1]
    return Columns(jnp.minimum(column, chosen.shape[1] - 1), wanted[None] <= total[:, None], total)


def shortened(near: Bool[Array, "n_rows width"], reverse: Int[Array, "n_rows width"], inner: int) -> Shortened:
    """The table of the pairs that are ``near``; a pair and its reverse must both be so, or neither."""
    n_rows, width = near.shape
    columns = first_columns(near, inner)
    rank = (jnp.cumsum(near, axis=1, dtype=jnp.int32) - 1).reshape(-1)
    back = jnp.take_along_axis(reverse, columns.slot, axis=1)
    itself = jnp.arange(n_rows * inner, dtype=jnp.int32).reshape(n_rows, inner)
    back = jnp.where(columns.mask, back // width * inner + rank[back], itself)
    return Shortened(columns.slot, columns.mask, back, columns.count)
