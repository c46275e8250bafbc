"""Structures stacked in a few sizes, so that a minibatch is drawn on the device: for training by steps.

`jaxmlip.graph.batches` packs structures once and for all; stochastic training draws other ones at each step. Here all
structures of a bucket are padded to the same number of atoms and neighbours and stacked, `take` gathers some of them
into one `Graph`, inside ``jit``, and a step compiles once a bucket.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import ase
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxmlip.graph.batch import Batch, Graph, Shape, graph_arrays, max_neighbors
from jaxmlip.graph.labels import GraphLabels, label_arrays
from jaxmlip.graph.neighbors import neighbor_pairs

ROUND_ATOMS, ROUND_NEIGHBORS = 4, 8


class Bucket(NamedTuple):
    """Structures of one padded size; every array of ``graphs`` and ``labels`` has a first axis ``n_structures``."""

    graphs: Graph
    labels: GraphLabels
    index: Int[np.ndarray, " n_structures"]  # where each stood in the data

    @property
    def n_structures(self) -> int:
        """Number of structures."""
        return len(self.index)


def stack(
    atoms: Sequence[ase.Atoms],
    config,
    *,
    n_shapes: int = 3,
    dtype=None,
    factors: Float[np.ndarray, "n_structures 3"] | None = None,
) -> list[Bucket]:
    """All structures in at most ``n_shapes`` buckets, cut where least padding is added.

    ``factors`` of the residuals of energy, forces and stress of each structure end in the labels (1 where None).

    >>> from jaxmlip.potentials.snap import SNAPConfig
    >>> config = SNAPConfig(species=("Li", "O"), cutoff=4.0)
    >>> pair = ase.Atoms("LiO", [[0, 0, 0], [0, 0, 1.9]])
    >>> (bucket,) = stack([pair, pair, pair], config, n_shapes=1)
    >>> bucket.graphs.positions.shape
    (3, 4, 3)

    Raises:
        ValueError: as `jaxmlip.graph.batch`.
    """
    frames = list(atoms)
    if not frames:
        raise ValueError("no structures: an empty list cannot become graphs")
    found = [neighbor_pairs(frame, config.cutoff) for frame in frames]
    widths = [max_neighbors(frame, pairs) for frame, pairs in zip(frames, found, strict=True)]
    sizes = np.array([len(frame) for frame in frames])
    order = np.argsort(sizes, kind="stable")
    buckets = []
    factors = np.ones((len(frames), 3)) if factors is None else factors
    for members in cut(order, sizes, n_shapes):
        n_atoms = -(-int(sizes[members].max()) // ROUND_ATOMS) * ROUND_ATOMS
        width = -(-max(widths[k] for k in members) // ROUND_NEIGHBORS) * ROUND_NEIGHBORS
        shape = Shape(1, n_atoms, width)
        graphs = _stacked([graph_arrays([frames[k]], [found[k]], config, shape=shape, dtype=dtype) for k in members])
        dtype = graphs.positions.dtype
        labels = _stacked([label_arrays([frames[k]], shape, dtype, factors[k : k + 1]) for k in members])
        buckets.append(Bucket(graphs, labels, members))
    return buckets


def _stacked(parts: list) -> Any:
    return jax.device_put(jax.tree.map(lambda *x: np.stack(x), *parts))


def take(graphs: Graph, labels: GraphLabels, rows: Int[Array, " n_graphs"]) -> tuple[Graph, GraphLabels]:
    """One graph of the structures ``rows`` of a bucket; a negative row is an empty structure. Works under ``jit``.

    >>> import jaxmlip
    >>> config = jaxmlip.build("snap", species=("Mo",), cutoff=4.0).config
    >>> (bucket,) = stack(jaxmlip.datasets.load("mo", split="test")[:3], config, n_shapes=1)
    >>> graph, labels = take(bucket.graphs, bucket.labels, jnp.array([2, -1]))
    >>> labels.has_energy.tolist()
    [True, False]
    """
    graphs, labels = jax.tree.map(lambda x: x[rows], (graphs, labels))
    there = rows >= 0
    masks = {"has_energy": labels.has_energy & there[:, None], "has_stress": labels.has_stress & there[:, None]}
    masks["has_forces"] = labels.has_forces & there[:, None]
    return join(graphs, there), GraphLabels(*map(_flat, labels._replace(**masks)))


def shuffled_rows(n: int, size: int, rng: np.random.Generator | None) -> Int[np.ndarray, "n_batches size"]:
    """The numbers 0 … n − 1 in rows of ``size``, in a random order if there is a generator; filled up with −1.

    >>> shuffled_rows(3, 2, None)
    array([[ 0,  1],
           [ 2, -1]])
    """
    rows = np.full(-(-n // size) * size, -1)
    rows[:n] = np.arange(n) if rng is None else rng.permutation(n)
    return rows.reshape(-1, size)


def minibatches(buckets: Sequence[Bucket], *, size: int, seed: int) -> Iterator[Batch]:
    """All structures once, in a random order, in batches of ``size`` structures: for a training loop of your own.

    A batch holds structures of one bucket, so that there are as many shapes as buckets, and a step compiles as often.
    The last batch of a bucket is filled up with empty structures, whose ``index`` is −1. Equal seeds give equal batches
    on every machine: give another one, such as its number, for each epoch.

    >>> import jaxmlip
    >>> cells = jaxmlip.datasets.load("mo", split="test")[:5]
    >>> buckets = stack(cells, jaxmlip.build("snap", species=("Mo",), cutoff=4.0).config, n_shapes=1)
    >>> [batch.graph.n_graphs for batch in minibatches(buckets, size=2, seed=0)]
    [2, 2, 2]

    Raises:
        ValueError: ``size`` is not at least 1.
    """
    if size < 1:
        raise ValueError(f"size must be a number of structures, at least 1; got {size}")
    rng = np.random.Generator(np.random.PCG64(seed))
    drawn = [(bucket, rows) for bucket in buckets for rows in shuffled_rows(bucket.n_structures, size, rng)]
    for k in rng.permutation(len(drawn)):
        bucket, rows = drawn[k]
        graph, labels = _take(bucket.graphs, bucket.labels, jnp.asarray(rows))
        yield Batch(graph, labels, np.where(rows < 0, -1, bucket.index[rows]))


def join(graphs: Graph, there: Bool[Array, " n_graphs"]) -> Graph:
    """Stacked graphs of one structure each as one graph; empty where not ``there``. Works under ``jit``."""
    n_graphs, n_atoms, width = graphs.mask.shape
    number = jnp.arange(n_graphs, dtype=graphs.neighbors.dtype)
    rest = Graph(*map(_flat, graphs[:-1]), scope=graphs.scope)
    return rest._replace(
        atom_graph=jnp.repeat(number, n_atoms),
        atom_mask=_flat(graphs.atom_mask & there[:, None]),
        neighbors=_flat(graphs.neighbors + number[:, None, None] * n_atoms),
        reverse=_flat(graphs.reverse + number[:, None, None] * (n_atoms * width)),
        mask=_flat(graphs.mask & there[:, None, None]),
    )


_take = jax.jit(take)


def _flat(x: Array) -> Array:
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])


def cut(order: Int[np.ndarray, " n"], sizes: Int[np.ndarray, " n"], n_shapes: int) -> list[Int[np.ndarray, " _"]]:
    """The structures in order of size in at most ``n_shapes`` groups of least padded atoms, by dynamic programming."""
    kinds, counts = np.unique(-(-sizes[order] // ROUND_ATOMS) * ROUND_ATOMS, return_counts=True)
    total = np.concatenate([[0], np.cumsum(counts)])
    n = len(kinds)
    cost = np.full((n_shapes + 1, n + 1), np.inf)
    cost[:, 0] = 0
    last = np.zeros((n_shapes + 1, n + 1), int)
    for k in range(1, n_shapes + 1):
        for stop in range(1, n + 1):
            options = [cost[k - 1, start] + kinds[stop - 1] * (total[stop] - total[start]) for start in range(stop)]
            last[k, stop] = int(np.argmin(options))
            cost[k, stop] = options[last[k, stop]]
    cuts, stop = [], n
    for k in range(n_shapes, 0, -1):
        cuts.append((last[k, stop], stop))
        stop = last[k, stop]
    return [order[total[start] : total[stop]] for start, stop in reversed(cuts) if stop > start]
