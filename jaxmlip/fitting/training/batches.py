"""Minibatches of data that are not in memory: which structures, made ahead of the device, each device's part apart.

The order is that of training in memory, where all structures have one size and the settings are the same: a function of
seed, epoch and step alone, so a run goes on at any step.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple

import ase
import jax
import numpy as np
from jaxtyping import Float, Int

from jaxmlip.data.packed import PackedData
from jaxmlip.fitting.training.devices import assembled, largest, own_shares, shares
from jaxmlip.fitting.training.gradient import portioned
from jaxmlip.fitting.training.problem import Chunk, Part
from jaxmlip.graph.loading import Layout, Rows, ahead, layouts, stacked_rows, widened
from jaxmlip.graph.stack import shuffled_rows
from jaxmlip.potentials.base import Potential


class _Group(NamedTuple):
    """Structures that are padded to one number of atoms."""

    layout: Layout
    numbers: Int[np.ndarray, " n"]  # in the source of the layout
    factors: Float[np.ndarray, "n 3"] | None


class Stream(NamedTuple):
    """Structures in minibatches, and what makes their graphs."""

    groups: list[_Group]
    size: int  # structures of a minibatch
    pool: Executor
    depth: int  # minibatches that are made ahead

    @property
    def n_steps(self) -> int:
        """Minibatches of an epoch."""
        return sum(-(-len(group.numbers) // self.size) for group in self.groups)

    @property
    def n_edges(self) -> int:
        """Slots of neighbours of an epoch."""
        return sum(len(group.numbers) * group.layout.n_atoms * group.layout.width for group in self.groups)


def stream(
    atoms: Sequence[ase.Atoms], factors: Float[np.ndarray, "n 3"] | None, config: Any, settings: Any, pool: Executor
) -> Stream:
    """Minibatches of packed data or of a list (``pool`` must be a thread then), as the settings of training say."""
    if isinstance(atoms, PackedData):
        source, sizes, records = atoms.whole(), atoms.sizes, atoms.records
    else:
        source, sizes, records = atoms, np.array([len(frame) for frame in atoms]), np.arange(len(atoms))
    groups = [
        _Group(layout._replace(source=source), records[members], None if factors is None else factors[members])
        for layout, members in layouts(atoms, sizes, config, n_shapes=settings.n_shapes, dtype=settings.dtype)
    ]
    return Stream(groups, settings.batch_size, pool, 2 + 2 * settings.workers)


class _Batch(NamedTuple):
    """One minibatch before its graphs are made."""

    group: _Group
    rows: Int[np.ndarray, "n_devices n"]  # of the group


def minibatch_chunks(
    given: Stream, potential: Potential, *, seed: Sequence[int] | None, first: int = 0
) -> Iterator[Chunk]:
    """The minibatches of an epoch from number ``first`` on, on the devices; without a seed in the order of the data.

    ``rows`` of a chunk are in portions, ``[n_devices, n_portions, n]`` (`jaxmlip.fitting.training.gradient`).
    """
    waiting: list[_Batch] = []

    def tasks() -> Iterator[Rows]:
        for batch in _order(given, seed, first):
            waiting.append(batch)
            group, rows = batch.group, batch.rows[own_shares()].ravel()
            factors = None if group.factors is None else np.where(rows[:, None] < 0, 1.0, group.factors[rows])
            yield Rows(group.layout, np.where(rows < 0, -1, group.numbers[rows]), factors)

    for bucket in ahead(given.pool, stacked_rows, tasks(), depth=given.depth):
        batch = waiting.pop(0)
        bucket = widened(bucket, largest(bucket.graphs.mask.shape[2]))
        each = batch.rows.shape[1]
        local = jax.tree.map(lambda x, each=each: x.reshape(-1, each, *x.shape[1:]), bucket)
        positions = np.where(batch.rows < 0, -1, np.arange(each))
        portions: Any = portioned(potential, batch.group.layout.n_atoms, positions)[own_shares()]
        yield assembled(Chunk(portions, Part(local, None)))


def _order(given: Stream, seed: Sequence[int] | None, first: int) -> Iterator[_Batch]:
    """The minibatches of an epoch from number ``first`` on."""
    rng = None if seed is None else np.random.Generator(np.random.PCG64(seed))
    rows = [shuffled_rows(len(group.numbers), given.size, rng) for group in given.groups]
    group_of = np.repeat(np.arange(len(rows)), [len(one) for one in rows])
    batch_of = np.concatenate([np.arange(len(one)) for one in rows])
    order = np.arange(len(batch_of)) if rng is None else rng.permutation(len(batch_of))
    for k in order[first:]:
        yield _Batch(given.groups[group_of[k]], shares(rows[group_of[k]][batch_of[k]]))
