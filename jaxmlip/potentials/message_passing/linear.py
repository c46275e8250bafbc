"""What acts on the features of each atom: linear maps, perceptrons, self-connections and the gate.

All weights are drawn from N(0, 1) and divided by √fan-in where they are used. ``bias`` beside them, if there is one, is
added to even scalars.
"""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, Key

from jaxmlip.graph.batch import Graph
from jaxmlip.potentials.base import Params
from jaxmlip.potentials.message_passing.irreps import Feature, Features, Irrep, Layer, pieces

SILU_NORM, TANH_NORM = 1.6791767923989418, 1.5937334472592695
"""1/√E[f(z)²] for normal z as e3nn's sampling found them once; the exact ones differ by 0.1 %."""
Shapes = dict[str, Any]
Weights = Mapping[str, Float[Array, "..."]]


def linear(weights: Weights, features: Features) -> dict[Irrep, Feature]:
    """Each representation times W / √n, plus the bias of even scalars."""
    result = {irrep: x @ _scaled(weights[str(irrep)]) for irrep, x in features.items() if str(irrep) in weights}
    if "bias" in weights:
        result[Irrep(0, 1)] = result[Irrep(0, 1)] + weights["bias"][None, None]
    return result


def perceptron(weights: Weights, x: Float[Array, "*rows n_in"], gain: float) -> Float[Array, "*rows n_out"]:
    """W_n … silu(W_1 silu(W_0 x)) without biases; ``gain``/√fan-in after a SiLU, 1/√fan-in of the input."""
    for k in range(len(weights)):
        W = _scaled(weights[f"W{k}"])
        x = jax.nn.silu(x) @ (W * gain) if k else x @ W
    return x


def random_weights(shapes: Shapes, key: Key[Array, ""]) -> Params:
    """Weights from N(0, 1) in the nested ``shapes``, and biases (one axis) of zero.

    Drawn in one piece and cut on the host: JAX would compile something for each shape.
    """
    leaves, structure = jax.tree.flatten(shapes, is_leaf=lambda shape: isinstance(shape, tuple))
    sizes = [math.prod(shape) for shape in leaves]
    numbers = jax.random.normal(key, (sum(sizes),))
    ends = np.cumsum(sizes)[:-1].tolist()
    traced = isinstance(numbers, Tracer)  # as in a vmap over keys
    drawn = jnp.split(numbers, ends) if traced else np.split(np.asarray(numbers), ends)
    weights = [jnp.asarray(x.reshape(s) if len(s) > 1 else 0 * x) for x, s in zip(drawn, leaves, strict=True)]
    return jax.tree.unflatten(structure, weights)


def mean_neighbors(graph: Graph | None, cutoff: float) -> Any:
    """Neighbours of an atom on average, at least 1; without a graph, at 0.1 atoms/Å³."""
    if graph is None:
        return max(0.1 * 4 / 3 * math.pi * cutoff**3, 1.0)
    return jnp.maximum(graph.mask.sum() / jnp.maximum(graph.atom_mask.sum(), 1), 1.0)


def perceptron_shapes(sizes: list[int]) -> Shapes:
    """Shapes of the weights of `perceptron`."""
    return {f"W{k}": shape for k, shape in enumerate(pairwise(sizes))}


def _scaled(W: Array) -> Array:
    return W / W.shape[0] ** 0.5


def combined(layer: Layer, weights: Weights, messages: Float[Array, "n_atoms n_messages"]) -> dict[Irrep, Feature]:
    """The linear map of all messages of a representation, path after path, to the channels before the gate."""
    blocks = layer.messages
    found: dict[Irrep, list[Array]] = {}
    for block, part in zip(blocks, pieces(messages, [block.size for block in blocks]), strict=True):
        found.setdefault(block.irrep, []).append(part.reshape(len(messages), -1, block.channels))
    joined = {block.irrep: jnp.concatenate(found[block.irrep], axis=-1) for block in layer.convolved}
    return linear(weights, joined)


def self_connection(
    weights: Weights, embedding: Float[Array, "n_species n_v"], species: Int[Array, " n_atoms"], x: Features
) -> dict[Irrep, Feature]:
    """Σ_uv x_u a_v W_uvw / √(n_u n_v) with the embedding a of the atom's species; only what both sides have.

    With few species the sum over v is done once for each, and an atom picks its own.
    """
    few = len(embedding) <= embedding.shape[1]
    attributes = jax.nn.one_hot(species, len(embedding), dtype=embedding.dtype) if few else embedding[species]
    result = {}
    for irrep, features in x.items():
        if str(irrep) not in weights:
            continue
        W = weights[str(irrep)]
        W = W / (W.shape[0] * W.shape[1]) ** 0.5
        table = jnp.einsum("sv,uvw->usw", embedding, W) if few else W
        products = features[..., None] * attributes[:, None, None, :]
        result[irrep] = products.reshape(*features.shape[:2], -1) @ table.reshape(-1, W.shape[2])
    return result


def species_connection(
    weights: Weights, species: Int[Array, " n_atoms"], x: Features, n_types: int
) -> dict[Irrep, Feature]:
    """Σ_u x_u W_usw / √(n_u n_types) with the atom's species s: `self_connection` of a one-hot embedding."""
    chosen = {i: W[:, species].swapaxes(0, 1) / (W.shape[0] * n_types) ** 0.5 for i, W in weights.items()}
    return {irrep: features @ chosen[str(irrep)] for irrep, features in x.items() if str(irrep) in chosen}


def plus(a: Features, b: Features) -> dict[Irrep, Feature]:
    """The sum of features; ``b`` may lack some of them."""
    return {irrep: x + b[irrep] if irrep in b else x for irrep, x in a.items()}


def gate(layer: Layer, x: Features) -> dict[Irrep, Feature]:
    """SiLU of even scalars, tanh of odd ones; other features times that of their gates."""
    result = {}
    for block in layer.scalars:
        result[block.irrep] = _activated(x[block.irrep][..., : block.channels], block.irrep)
    start = sum(b.channels for b in layer.scalars if b.irrep == layer.gates)
    for block in layer.gated:
        result[block.irrep] = _activated(x[layer.gates][..., start : start + block.channels], layer.gates)
        result[block.irrep] = result[block.irrep] * x[block.irrep]
        start += block.channels
    return result


def _activated(x: Array, irrep: Irrep) -> Array:
    return SILU_NORM * jax.nn.silu(x) if irrep.parity == 1 else TANH_NORM * jnp.tanh(x)
