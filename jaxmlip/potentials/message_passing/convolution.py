"""The convolution m_i = Σ_j R(r_ij) (h_j ⊗ Y(r̂_ij)): of few atoms, and in bounded memory of many.

Wide layers are evaluated in blocks of atoms, and again for their derivatives: less is moved through memory. The
convolution of many atoms has a derivative of its own, whose transpose never scatters: what atom j gets back from the
atoms i that it sent to is again a sum over its neighbours, since R depends on the distance only and
Y_l(r_ij) = (−1)^l Y_l(r_ji).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Bool, Float, Int

from jaxmlip.basis.couplings import component_harmonics
from jaxmlip.basis.radial import bessel, polynomial_cutoff, xplor_cutoff
from jaxmlip.graph.batch import Graph
from jaxmlip.graph.messages import even_block, gather_neighbors, in_blocks, split_rows
from jaxmlip.potentials.message_passing.irreps import Layer
from jaxmlip.potentials.message_passing.linear import perceptron
from jaxmlip.potentials.message_passing.splines import hermite_splines
from jaxmlip.potentials.message_passing.tensor_product import adjoint_contributions, contributions, edge_cotangents

FEW_ATOMS = {"cpu": 64}
"""Up to here what neighbours send is held for all pairs: faster second derivatives. Other devices: 8192."""
BLOCK = {"cpu": 16}
"""Atoms of a block, so that its arrays stay in the processor's cache. Other devices: 8192."""
TABLE = "table"
"""What stands in place of a radial network's weights in a tabulated model; see `hermite_splines`."""
_DEVICE_BLOCK = 8192
_COLUMNS = 160  # radial functions of the layers that these numbers were measured with; more need smaller blocks
_N_WHERE = 3  # neighbours, their reverse and mask come last
Weights = tuple[Any, Array | None]  # of the radial network, and the frequencies of the Bessel functions if trained
Convolution = Callable[[Layer, Any, Array], Array]


class EdgeBasis(NamedTuple):
    """How a pair is described: n Bessel functions times an envelope, and harmonics up to ``l_max``."""

    cutoff: float
    n_bessel: int
    l_max: int
    gain: float  # of the SiLUs in the radial network
    p: int = 6  # of the polynomial envelope
    cutoff_on: float | None = None  # Å; where XPLOR's envelope begins to fall. None: the polynomial
    unit: bool = True  # harmonics of the unit vector; False: of the vector, r^l Y_lm


class Static(NamedTuple):
    """What a convolution in blocks is compiled for."""

    layer: Layer
    basis: EdgeBasis


class Neighbors(NamedTuple):
    """Whom an atom hears."""

    neighbors: Int[Array, "n_atoms max_neighbors"]
    reverse: Int[Array, "n_atoms max_neighbors"]
    mask: Bool[Array, "n_atoms max_neighbors"]


def convolution(
    basis: EdgeBasis,
    frequencies: Float[Array, " n_bessel"] | None,
    graph: Graph,
    vectors: Float[Array, "n_atoms max_neighbors 3"],
) -> Convolution:
    """The function ``(layer, radial weights, features [n_atoms, n_in]) -> [n_atoms, n_messages]`` of a graph."""
    where = Neighbors(graph.neighbors, graph.reverse, graph.mask)
    embedding, Y = edge_embedding(basis, frequencies, vectors, graph.mask)

    def convolve(layer: Layer, weights: Any, x: Array) -> Array:
        if many(graph) or TABLE in weights:
            return _in_blocks(Static(layer, basis), (weights, frequencies), x, vectors, where)
        senders = gather_neighbors(x, graph.neighbors, graph.reverse)

        def messages(rows: tuple) -> Array:
            embedding, Y, senders = rows
            return contributions(layer, perceptron(weights, embedding, basis.gain), Y, senders)

        rows = (embedding, Y, senders)
        if _share(layer) == 1:  # small layers fit into the cache, and to evaluate them twice costs more than to keep
            return messages(rows)
        return in_blocks(jax.checkpoint(messages), rows, _block(layer, len(x)))

    return convolve


def many(graph: Graph) -> bool:
    """Whether no array of a convolution may be as long as all pairs."""
    return graph.n_atoms > FEW_ATOMS.get(jax.default_backend(), _DEVICE_BLOCK)


def _share(layer: Layer) -> int:
    return max(1, round(layer.n_radial / _COLUMNS))


def edge_embedding(
    basis: EdgeBasis,
    frequencies: Float[Array, " n_bessel"] | None,
    vectors: Float[Array, "n_atoms max_neighbors 3"],
    mask: Bool[Array, "n_atoms max_neighbors"],
) -> tuple[Float[Array, "n_atoms max_neighbors n_bessel"], Float[Array, "n_atoms max_neighbors n_harmonics"]]:
    """b_n(r) u(r), zero for padding, and Y_lm of the direction up to l_max."""
    r = jnp.sqrt(jnp.sum(vectors**2, axis=-1))
    x, y, z = (vectors[..., k] / r for k in range(3))
    Y = jnp.stack(component_harmonics(x, y, z, basis.l_max), axis=-1)
    if not basis.unit:
        Y = Y * r[..., None] ** np.repeat(np.arange(basis.l_max + 1), 2 * np.arange(basis.l_max + 1) + 1)
    return _radial_embedding(basis, frequencies, r, mask), Y


def radial_network(
    basis: EdgeBasis, weights: Any, frequencies: Float[Array, " n_bessel"] | None, r: Float[Array, "*pairs"]
) -> Float[Array, "*pairs n_radial"]:
    """R(r) of a network's ``weights`` at distances in Å: what a table replaces."""
    return perceptron(weights, _radial_embedding(basis, frequencies, r, r > 0), basis.gain)


def _radial_embedding(basis: EdgeBasis, frequencies: Array | None, r: Array, mask: Array) -> Array:
    b = bessel(r, basis.cutoff, basis.n_bessel if frequencies is None else frequencies)
    if basis.cutoff_on is None:
        envelope = polynomial_cutoff(r / basis.cutoff, basis.p)
    else:
        envelope = xplor_cutoff(r, basis.cutoff, basis.cutoff_on)
    return b * jnp.where(mask, envelope, 0)[..., None]


def _radial_and_angular(static: Static, weights: Weights, vectors: Array, mask: Array) -> tuple[Array, Array]:
    embedding, Y = edge_embedding(static.basis, weights[1], vectors, mask)
    if TABLE in weights[0]:
        x = jnp.sqrt(jnp.sum(vectors**2, axis=-1)) / static.basis.cutoff
        return hermite_splines(weights[0][TABLE], jnp.where(mask & (x < 1), x, 1)), Y  # tables end with zeros
    return perceptron(weights[0], embedding, static.basis.gain), Y


def _in_blocks(static: Static, weights: Weights, x: Array, vectors: Array, where: Neighbors) -> Array:
    """The convolution of many atoms; ``static``: layer and basis, ``where``: neighbours, their reverse, mask."""
    leaves, tree = jax.tree.flatten((weights, vectors))
    return _convolve.bind(x, *leaves, *where, static=static, tree=tree)


def _value(x: Array, *rest: Any, static: Static, tree: Any) -> Array:
    weights, vectors = jax.tree.unflatten(tree, rest[:-_N_WHERE])
    neighbors, _, mask = rest[-_N_WHERE:]

    def one(rows: tuple) -> Array:
        vectors, neighbors, mask = rows
        R, Y = _radial_and_angular(static, weights, vectors, mask)
        return contributions(static.layer, R, Y, x[neighbors], products=TABLE not in weights[0])

    return in_blocks(one, (vectors, neighbors, mask), _block(static.layer, len(x)))


def _derivative(*args: Any, static: Static, tree: Any) -> Array:
    """Along the tangents of features, weights and vectors, which come first."""
    n = (len(args) - _N_WHERE) // 2
    moved, primals, (neighbors, reverse, mask) = args[:n], args[n:-_N_WHERE], args[-_N_WHERE:]
    (x, (weights, vectors)), (dx, (dweights, dvectors)) = (
        (first, jax.tree.unflatten(tree, rest)) for first, *rest in (primals, moved)
    )

    def one(rows: tuple) -> Array:
        vectors, dvectors, sent, dsent, mask = rows

        def messages(weights: Weights, vectors: Array, sent: Array) -> Array:
            return contributions(static.layer, *_radial_and_angular(static, weights, vectors, mask), sent)

        return jax.jvp(messages, (weights, vectors, sent), (dweights, dvectors, dsent))[1]

    sent, dsent = (gather_neighbors(y, neighbors, reverse) for y in (x, dx))
    return in_blocks(jax.checkpoint(one), (vectors, dvectors, sent, dsent, mask), _block(static.layer, len(x)))


def _transpose(cotangent: Any, *args: Any, static: Static, tree: Any) -> list:
    """Of `_derivative`, in one pass over the blocks."""
    n = (len(args) - _N_WHERE) // 2
    x, (weights, vectors) = args[n], jax.tree.unflatten(tree, args[n + 1 : -_N_WHERE])
    where = (args[-_N_WHERE], args[-1])
    layer, basis = static
    trained = TABLE not in weights[0]
    signs = np.concatenate([np.full(2 * degree + 1, (-1) ** degree) for degree in range(basis.l_max + 1)])
    reversal = jnp.asarray(signs, x.dtype)

    def one(total: Any, rows: tuple) -> tuple[Any, tuple[Array, Array]]:
        (vectors, neighbors, mask), received = rows
        (R, Y), pull = jax.vjp(lambda w, v: _radial_and_angular(static, w, v, mask), weights, vectors)
        sent = x[neighbors]
        if trained:
            _, pull_edges = jax.vjp(lambda R, Y: contributions(layer, R, Y, sent), R, Y)
            of_edges = pull_edges(received)
        else:
            of_edges = edge_cotangents(layer, R, Y, sent, received)
        of_weights, of_vectors = pull(of_edges)
        turned = Y * reversal[None, None]
        of_features = adjoint_contributions(layer, R, turned, cotangent[neighbors], products=trained)
        return jax.tree.map(jnp.add, total, of_weights), (of_vectors, of_features)

    # Rows that fill up the last block get no cotangent: they must not count in the sum over weights.
    block = _block(layer, len(x))
    rows = (split_rows((vectors, *where), block), split_rows(cotangent, block, mode="constant"))
    of_weights, results = jax.lax.scan(one, jax.tree.map(jnp.zeros_like, weights), rows)
    of_vectors, of_features = (y.reshape(-1, *y.shape[2:])[: len(x)] for y in results)
    found = [of_features, *jax.tree.leaves((of_weights, of_vectors))]
    linear = [x if ad.is_undefined_primal(given) else None for x, given in zip(found, args[:n], strict=True)]
    return linear + [None] * (n + _N_WHERE)


def _primitive(name: str, function: Callable) -> Primitive:
    made = Primitive(name)
    made.def_impl(function)
    made.def_abstract_eval(
        lambda x, *_, static, tree: x.update(shape=(x.shape[0], sum(b.size for b in static.layer.messages)))
    )
    mlir.register_lowering(made, mlir.lower_fun(function, multiple_results=False))

    def batched(args: tuple, axes: tuple, **how: Any) -> tuple:
        mapped = [jnp.moveaxis(x, axis, 0) for x, axis in zip(args, axes, strict=True) if axis is not None]

        def one(rows: list) -> Array:
            given = iter(rows)
            return made.bind(*[x if a is None else next(given) for x, a in zip(args, axes, strict=True)], **how)

        return jax.lax.map(one, mapped), 0

    batching.primitive_batchers[made] = batched
    return made


def _value_and_tangent(primals: tuple, tangents: tuple, **how: Any) -> tuple:
    moved = map(ad.instantiate_zeros, tangents[:-_N_WHERE])
    return _convolve.bind(*primals, **how), _along.bind(*moved, *primals, **how)


def _second_derivative(primals: tuple, tangents: tuple, **how: Any) -> tuple:
    def function(*given: Any) -> Array:
        return _derivative(*given, *primals[-_N_WHERE:], **how)

    moved = tuple(map(ad.instantiate_zeros, tangents[:-_N_WHERE]))
    return jax.jvp(function, primals[:-_N_WHERE], moved)


# Two primitives rather than a `jax.custom_vjp`, which would forbid forward mode.
_convolve, _along = _primitive("convolution", _value), _primitive("convolution_derivative", _derivative)
ad.primitive_jvps[_convolve], ad.primitive_jvps[_along] = _value_and_tangent, _second_derivative
ad.primitive_transposes[_along] = _transpose


def _block(layer: Layer, n_atoms: int) -> int:
    return even_block(n_atoms, max(1, BLOCK.get(jax.default_backend(), _DEVICE_BLOCK) // _share(layer)))
