"""NequIP's convolution m_i = Σ_j R(r_ij) (h_j ⊗ Y(r̂_ij)): at once for few atoms, in blocks of bounded memory for many.

The blocks have a gradient of their own. It never scatters: what atom j gets back from the atoms i that it sent to is
again a sum over its neighbours, since R depends on the distance only and Y_l(r_ij) = (−1)^l Y_l(r_ji).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmlip.basis.couplings import component_harmonics
from jaxmlip.basis.radial import bessel, polynomial_cutoff
from jaxmlip.graph.batch import Graph
from jaxmlip.graph.messages import gather_neighbors, in_blocks, split_rows
from jaxmlip.potentials.nequip_layers import Layer, adjoint_contributions, contributions, perceptron

FEW_ATOMS = {"cpu": 512}
"""Up to here all pairs are evaluated at once: fewer passes, more memory. Other devices: 8192."""
BLOCK = {"cpu": 16}
"""Atoms of a block, so that its arrays stay in the processor's cache. Other devices: 8192."""
_DEVICE_BLOCK = 8192

Weights = tuple[Any, Array | None]  # of the radial network, and the frequencies of the Bessel functions if trained
Convolution = Callable[[Layer, Any, Array], Array]


def convolution(config: Any, frequencies: Array | None, graph: Graph, vectors: Array) -> Convolution:
    """The function ``(layer, radial weights, features [n_atoms, n_in]) -> [n_atoms, n_messages]`` of a graph."""
    if many(graph):
        where = (graph.neighbors, graph.mask)
        return lambda layer, weights, x: _in_blocks((layer, config), (weights, frequencies), x, vectors, where)
    embedding, Y = edge_embedding(config, frequencies, vectors, graph.mask)

    def at_once(layer: Layer, weights: Any, x: Array) -> Array:
        senders = gather_neighbors(x, graph.neighbors, graph.reverse)
        return contributions(layer, perceptron(weights, embedding), Y, senders)

    return at_once


def many(graph: Graph) -> bool:
    """Whether the graph is evaluated in blocks."""
    return graph.n_atoms > FEW_ATOMS.get(jax.default_backend(), _DEVICE_BLOCK)


def edge_embedding(
    config: Any, frequencies: Array | None, vectors: Float[Array, "n_atoms max_neighbors 3"], mask: Array
) -> tuple[Float[Array, "n_atoms max_neighbors n_bessel"], Float[Array, "n_atoms max_neighbors n_harmonics"]]:
    """b_n(r) u(r/r_max), zero for padding, and Y_lm of the direction up to l_max."""
    r = jnp.sqrt(jnp.sum(vectors**2, axis=-1))
    b = bessel(r, config.cutoff, config.num_bessels if frequencies is None else frequencies)
    u = jnp.where(mask, polynomial_cutoff(r / config.cutoff, config.polynomial_cutoff_p), 0)
    x, y, z = (vectors[..., k] / r for k in range(3))
    return b * u[..., None], jnp.stack(component_harmonics(x, y, z, config.l_max), axis=-1)


def _radial_and_angular(static: tuple, weights: Weights, vectors: Array, mask: Array) -> tuple[Array, Array]:
    embedding, Y = edge_embedding(static[1], weights[1], vectors, mask)
    return perceptron(weights[0], embedding), Y


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _in_blocks(static: tuple, weights: Weights, x: Array, vectors: Array, where: tuple) -> Array:
    """The convolution of many atoms; ``static``: layer and config, ``where``: neighbours and mask."""

    def one(rows: tuple) -> Array:
        vectors, neighbors, mask = rows
        return contributions(static[0], *_radial_and_angular(static, weights, vectors, mask), x[neighbors])

    return in_blocks(one, (vectors, *where), _block())


def _forward(static: tuple, weights: Weights, x: Array, vectors: Array, where: tuple) -> tuple:
    return _in_blocks(static, weights, x, vectors, where), (weights, x, vectors, where)


def _backward(static: tuple, saved: tuple, cotangent: Array) -> tuple:
    weights, x, vectors, where = saved
    layer, config = static
    signs = np.concatenate([np.full(2 * degree + 1, (-1) ** degree) for degree in range(config.l_max + 1)])
    reversal = jnp.asarray(signs, x.dtype)

    def one(total: Any, rows: tuple) -> tuple[Any, tuple[Array, Array]]:
        (vectors, neighbors, mask), received = rows
        (R, Y), pull = jax.vjp(lambda w, v: _radial_and_angular(static, w, v, mask), weights, vectors)
        sent = x[neighbors]
        _, pull_edges = jax.vjp(lambda R, Y: contributions(layer, R, Y, sent), R, Y)
        of_weights, of_vectors = pull(pull_edges(received))
        of_features = adjoint_contributions(layer, R, Y * reversal[None, None], cotangent[neighbors])
        return jax.tree.map(jnp.add, total, of_weights), (of_vectors, of_features)

    # Rows that fill up the last block get no cotangent: they must not count in the sum over weights.
    rows = (split_rows((vectors, *where), _block()), split_rows(cotangent, _block(), mode="constant"))
    of_weights, results = jax.lax.scan(one, jax.tree.map(jnp.zeros_like, weights), rows)
    of_vectors, of_features = (y.reshape(-1, *y.shape[2:])[: len(x)] for y in results)
    return of_weights, of_features, of_vectors, None


_in_blocks.defvjp(_forward, _backward)


def _block() -> int:
    return BLOCK.get(jax.default_backend(), _DEVICE_BLOCK)
