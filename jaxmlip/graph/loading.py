"""Graphs made ahead of the device: by a thread of this process, or by other processes.

On the host a structure of 20 atoms takes about half a millisecond: reading, neighbours (vesin), padded arrays. vesin
leaves other threads alone meanwhile, the many small steps of NumPy around it do not: two threads make fewer graphs than
one. So one thread works beside the device, and where that is not enough, processes do.
"""

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from typing import Any, NamedTuple, TypeVar

import ase
import jax
import numpy as np
from jaxtyping import Float, Int

from jaxmlip.graph.batch import Shape, graph_arrays, max_neighbors
from jaxmlip.graph.labels import label_arrays
from jaxmlip.graph.neighbors import Pairs, neighbor_pairs
from jaxmlip.graph.stack import ROUND_ATOMS, ROUND_NEIGHBORS, Bucket, cut

T = TypeVar("T")
R = TypeVar("R")


class Layout(NamedTuple):
    """How the structures of one size are padded."""

    source: Sequence[ase.Atoms]
    config: Any  # has species and cutoff
    n_atoms: int
    width: int  # neighbours, at least
    dtype: str


class Rows(NamedTuple):
    """Structures of one batch, by their number in the source of its layout; −1: none."""

    layout: Layout
    numbers: Int[np.ndarray, " n"]
    factors: Float[np.ndarray, "n 3"] | None  # of the residuals of energy, forces and stress; None: 1


@contextmanager
def makers(n_processes: int) -> Iterator[Executor]:
    """What makes graphs: so many processes, or one thread.

    The processes are fresh ones, which import the main script again: with any, a script needs its
    ``if __name__ == "__main__":``.

    >>> with makers(0) as pool:
    ...     list(ahead(pool, abs, [-1, 2], depth=2))
    [1, 2]
    """
    if n_processes:
        pool = ProcessPoolExecutor(n_processes, mp_context=get_context("spawn"), initializer=_begin)
    else:
        pool = ThreadPoolExecutor(1, thread_name_prefix="graphs")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def ahead(pool: Executor, function: Callable[[T], R], items: Iterable[T], *, depth: int) -> Iterator[R]:
    """``function(item)`` of all items in their order; up to ``depth`` are worked on before they are asked for."""
    pending: deque = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > depth:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for one in pending:
            one.cancel()


def _begin() -> None:
    """Signals are for the process that gives the work; without it there is none."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    parent = parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def layouts(
    source: Sequence[ase.Atoms], sizes: Int[np.ndarray, " n"], config: Any, *, n_shapes: int, dtype: str
) -> list[tuple[Layout, Int[np.ndarray, " _"]]]:
    """At most ``n_shapes`` groups of structures of similar numbers of atoms, and which belong to each.

    A sample of the structures tells how many neighbours are usual; a batch with more is padded to a larger width.

    >>> import jaxmlip
    >>> cells = [ase.Atoms("Li"), ase.Atoms("LiO", [[0, 0, 0], [0, 0, 1.9]])]
    >>> config = jaxmlip.build("snap", species=("Li", "O"), cutoff=4.0).config
    >>> ((layout, members),) = layouts(cells, np.array([1, 2]), config, n_shapes=1, dtype="float64")
    >>> layout.n_atoms, layout.width, members.tolist()
    (4, 8, [0, 1])
    """
    found = []
    for members in cut(np.argsort(sizes, kind="stable"), sizes, n_shapes):
        n_atoms = _rounded(int(sizes[members].max()), ROUND_ATOMS)
        sample = members[np.unique(np.linspace(0, len(members) - 1, _SAMPLE).astype(int))]
        width = max(_width(source[int(k)], config) for k in sample)
        found.append((Layout(source, config, n_atoms, _rung(width), dtype), members))
    return found


def stacked_rows(rows: Rows) -> Bucket:
    """A bucket of some structures on the host, wide enough for them; numbers below 0 are empty structures."""
    layout = rows.layout
    frames = [[] if k < 0 else [layout.source[int(k)]] for k in rows.numbers]
    pairs = [[_pairs(one, int(k), layout) for one in frame] for k, frame in zip(rows.numbers, frames, strict=True)]
    widths = [max_neighbors(frame[0], found[0]) for frame, found in zip(frames, pairs, strict=True) if frame]
    shape = Shape(1, layout.n_atoms, max(layout.width, _rung(max(widths, default=1))))
    factors = np.ones((len(frames), 3)) if rows.factors is None else rows.factors
    with jax.enable_x64(layout.dtype == "float64"):  # of this thread
        graphs = [
            graph_arrays(frame, found, layout.config, shape=shape, dtype=layout.dtype)
            for frame, found in zip(frames, pairs, strict=True)
        ]
    labels = [
        label_arrays(frame, shape, np.dtype(layout.dtype), factors[k : k + len(frame)])
        for k, frame in enumerate(frames)
    ]
    graphs, labels = (jax.tree.map(lambda *x: np.stack(x), *parts) for parts in (graphs, labels))
    return Bucket(graphs, labels, rows.numbers)


def widened(bucket: Bucket, width: int) -> Bucket:
    """The same structures with room for ``width`` neighbours."""
    graphs = bucket.graphs
    n_atoms, old = graphs.mask.shape[1:]
    if width == old:
        return bucket

    def padded(table: Any, value: Any) -> Any:
        new = np.zeros((*table.shape[:2], width, *table.shape[3:]), table.dtype) + value
        new[:, :, :old] = table
        return new

    slots = np.arange(n_atoms * width, dtype=graphs.reverse.dtype).reshape(1, n_atoms, width)
    reverse = np.repeat(slots, len(graphs.mask), axis=0)
    reverse[:, :, :old] = graphs.reverse // old * width + graphs.reverse % old
    own = np.arange(n_atoms, dtype=graphs.neighbors.dtype)[None, :, None]
    tables = {
        "neighbors": padded(graphs.neighbors, own),
        "neighbor_species": padded(graphs.neighbor_species, graphs.species[:, :, None]),
        "shifts": padded(graphs.shifts, graphs.shifts.dtype.type(0)),
        "mask": padded(graphs.mask, np.False_).astype(bool),
        "reverse": reverse,
    }
    return bucket._replace(graphs=graphs._replace(**tables))


_SAMPLE = 64


def _pairs(frame: ase.Atoms, number: int, layout: Layout) -> Pairs:
    try:
        return neighbor_pairs(frame, layout.config.cutoff)
    except ValueError as error:
        raise ValueError(f"structure {number} of {layout.source!r}: {error}") from None


def _width(frame: ase.Atoms, config: Any) -> int:
    return max_neighbors(frame, neighbor_pairs(frame, config.cutoff))


def _rung(width: int) -> int:
    """The next width of a ladder whose steps are at most a third, so that few programs are compiled."""
    step = ROUND_NEIGHBORS
    while width > 6 * step:
        step *= 2
    return _rounded(width, step)


def _rounded(number: int, step: int) -> int:
    return -(-number // step) * step
