"""Choosing sparse points: environments that stand for all others of their element.

Descriptors stream in batches. Of each environment only a random projection to at most `WIDTH` numbers is kept (it
preserves distances and dot products, Johnson and Lindenstrauss), 1.5 kB in float32, so 300,000 environments take 450 MB
however long the descriptor. The chosen ones are then computed exactly. Equal environments count once; the same seed,
the same points.

References:
    Mahoney and Drineas, Proc. Natl. Acad. Sci. 106, 697 (2009), equation 3: leverage scores of CUR.
    Imbalzano et al., J. Chem. Phys. 148, 241730 (2018): CUR and farthest-point sampling of environments.
    Bartók and Csányi, Int. J. Quantum Chem. 115, 1051 (2015), section on sparsification.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.cluster.vq import kmeans2

from jaxmlip.config import ConfigError, unknown_name
from jaxmlip.graph.batch import Batch, Graph, edge_vectors
from jaxmlip.potentials.base import CPU_BLOCK, Potential, descriptor, map_blocks, safe_edges
from jaxmlip.programs import program

WIDTH = 384
EQUAL = 1e-5  # projections of environments nearer than this are one environment
KMEANS_MOST, KMEANS_ROUNDS = 20000, 20  # environments that centres are found from, and Lloyd's iterations

Sketch = Float[np.ndarray, "n_environments n_components"]


class Chosen(NamedTuple):
    """Sparse points: vectors of each species padded with zeros, and where they come from."""

    points: Float[np.ndarray, "n_species n_sparse n_features"]
    atoms: list[Int[np.ndarray, "n_chosen 2"]]  # of each species: the structure, and the atom in it


def choose(
    potential: Potential, stream: Callable[[], Iterable[Batch]], n_sparse: int, *, method: str = "cur", seed: int = 0
) -> Chosen:
    """At most ``n_sparse`` sparse points of each species from all environments of ``stream()``.

    Args:
        potential: has species and a descriptor.
        stream: gives the batches anew each time that it is called; twice here.
        n_sparse: of each species; all that differ if there are fewer.
        method: a name in `SELECTIONS`.
        seed: of the projection and of random choices.

    Raises:
        ConfigError: no such method, or a number of points that is not positive.
    """
    if method not in SELECTIONS:
        raise ConfigError(unknown_name("method of sparsification", method, SELECTIONS))
    if n_sparse < 1:
        raise ConfigError(f"n_sparse must be at least 1, got {n_sparse}")
    projection = _projection(potential, next(iter(stream())).graph, seed)
    sketches, places = _sketches(potential, stream(), projection)
    atoms = []
    for sketch, place in zip(sketches, places):
        rows = distinct(sketch)
        if len(rows) > n_sparse:
            chosen = SELECTIONS[method](sketch[rows].astype(np.float64), n_sparse, np.random.default_rng(seed))
            rows = rows[np.sort(chosen)]
        atoms.append(place[rows])
    return Chosen(_vectors(potential, stream(), atoms, projection), atoms)


def cur(x: Sketch, n: int, rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    """Rows at random, likelier the larger their leverage: p_j = n/r Σ_{k ≤ r} u_jk², u the left singular vectors of x.

    As in gap_fit, r is half the rank and the rows with the smallest (uniform − p) are taken.
    """
    values, vectors = np.linalg.eigh(x.T @ x)
    rank = int(np.sum(values > 1e-13 * values[-1]))
    r = max(1, rank // 2)
    leverage = np.sum((x @ vectors[:, -r:]) ** 2 / values[-r:], axis=1)
    return np.argsort(rng.uniform(size=len(x)) - np.minimum(1, n / r * leverage), kind="stable")[:n]


def farthest(x: Sketch, n: int, rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    """The first at random, then each time the row farthest from all chosen."""
    squares = np.sum(x**2, axis=1)
    chosen = [int(rng.integers(len(x)))]
    distance = np.full(len(x), np.inf)
    for _ in range(n - 1):
        last = chosen[-1]
        distance = np.minimum(distance, squares + squares[last] - 2 * x @ x[last])
        distance[last] = -np.inf
        chosen.append(int(np.argmax(distance)))
    return np.array(chosen)


def cholesky(x: Sketch, n: int, rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    """Pivots of the Cholesky factorisation of the kernel matrix (x · x')²: each time the row least known so far.

    It is the Gaussian process's own farthest-point sampling: the next point has the largest predictive variance. The
    square is a smoother kernel than the usual fourth power, under which after some hundred points all look equally new.
    """
    unknown, factor = np.sum(x * x, axis=1) ** 2, np.zeros((n, len(x)), x.dtype)
    chosen = []
    for k in range(n):
        pivot = int(np.argmax(unknown))
        if unknown[pivot] <= 0:
            break
        row = (x @ x[pivot]) ** 2 - factor[:k].T @ factor[:k, pivot]
        factor[k] = row / np.sqrt(unknown[pivot])
        unknown = unknown - factor[k] ** 2
        chosen.append(pivot)
        unknown[chosen] = -np.inf
    return np.concatenate([chosen, rng.permutation(np.setdiff1d(np.arange(len(x)), chosen))])[:n].astype(np.int64)


def kmeans(x: Sketch, n: int, rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    """The rows nearest to the centres of ``n`` clusters; where centres share one, the farthest rows fill up."""
    few = x if len(x) <= KMEANS_MOST else x[rng.choice(len(x), KMEANS_MOST, replace=False)]
    start = few[farthest(few, n, rng)]
    centres, _ = kmeans2(few, start, iter=KMEANS_ROUNDS, minit="matrix", missing="warn") if n > 1 else (start, None)
    squares = np.sum(x**2, axis=1)
    nearest = np.unique([int(np.argmin(squares - 2 * x @ centre)) for centre in centres])
    distance = np.min([np.sum((x - x[k]) ** 2, axis=1) for k in nearest], axis=0) if len(nearest) < n else np.zeros(0)
    distance[nearest[: len(distance)]] = -np.inf
    return np.concatenate([nearest, np.argsort(-distance, kind="stable")[: n - len(nearest)]])


def at_random(x: Sketch, n: int, rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    """Rows at random."""
    return rng.choice(len(x), n, replace=False)


SELECTIONS: dict[str, Callable] = {
    "cur": cur,
    "farthest": farthest,
    "cholesky": cholesky,
    "kmeans": kmeans,
    "random": at_random,
}
"""How points are chosen from the environments of a species, by name."""


def distinct(x: Sketch) -> Int[np.ndarray, " n_distinct"]:
    """The first of each set of equal rows, in order."""
    if not len(x):
        return np.zeros(0, np.int64)
    _, first = np.unique(np.round(x[:, :16] / EQUAL), axis=0, return_index=True)
    return np.sort(first)


def _sketches(
    potential: Potential, batches: Iterable[Batch], projection: Array
) -> tuple[list[Sketch], list[np.ndarray]]:
    """Projections of the environments of each species, and their structures and atoms."""
    n_species = len(potential.config.species)
    kept: list[list[np.ndarray]] = [[] for _ in range(n_species)]
    places: list[list[np.ndarray]] = [[] for _ in range(n_species)]
    for batch in batches:
        x = np.asarray(_described(potential, projection, batch.graph)[1], np.float32)
        place, species = environments(batch)
        for k in range(n_species):
            mine = species == k
            kept[k].append(x[mine])
            places[k].append(place[mine])
    order = [np.lexsort(np.concatenate(place).T[::-1]) for place in places]
    return (
        [np.concatenate(x)[o] for x, o in zip(kept, order)],
        [np.concatenate(place)[o] for place, o in zip(places, order)],
    )


def environments(batch: Batch) -> tuple[Int[np.ndarray, "n_atoms 2"], Int[np.ndarray, " n_atoms"]]:
    """Structure and atom of each row of a batch, and its species; padding has species −1."""
    graph = batch.graph
    in_batch, real = np.asarray(graph.atom_graph), np.asarray(graph.atom_mask)
    first = np.searchsorted(in_batch, in_batch)  # the atoms of a structure stand together
    place = np.stack([batch.index[in_batch], np.arange(len(in_batch)) - first], axis=1)
    return place, np.where(real, np.asarray(graph.species), -1)


def _projection(potential: Potential, graph: Graph, seed: int) -> Array:
    """Columns orthogonal and scaled so that dot products keep their size on average; as many as fit."""
    described = partial(descriptor(potential), {})
    n_features = jax.eval_shape(lambda graph: described(graph, edge_vectors(graph)), graph).shape[1]
    width = min(n_features, WIDTH)
    directions = np.linalg.qr(np.random.default_rng(seed).normal(size=(n_features, width)))[0]
    return jnp.asarray(directions * np.sqrt(n_features / width))


def _vectors(potential: Potential, batches: Iterable[Batch], atoms: list[np.ndarray], projection: Array) -> np.ndarray:
    """Exact SOAP vectors of the chosen atoms, in their order."""
    width = max(map(len, atoms))
    points = np.zeros((len(atoms), width, len(projection)))
    row_of = {(int(s), int(a)): (k, row) for k, chosen in enumerate(atoms) for row, (s, a) in enumerate(chosen)}
    for batch in batches:
        place, species = environments(batch)
        rows = [i for i, (s, a) in enumerate(place.tolist()) if species[i] >= 0 and (s, a) in row_of]
        if not rows:
            continue
        x = np.asarray(_described(potential, projection, batch.graph)[0])
        for i in rows:
            points[row_of[tuple(place[i].tolist())]] = x[i]
    return points


@program(static_argnums=0)
def _described(potential: Potential, projection: Array, graph: Graph) -> tuple[Array, Array]:
    """Descriptors of all atoms, and their projections."""
    vectors = safe_edges(graph, potential.config)
    block = min(CPU_BLOCK if jax.default_backend() == "cpu" else 4096, graph.n_atoms)
    x = map_blocks(partial(descriptor(potential), {}), graph, vectors, block)
    return x, x @ projection
