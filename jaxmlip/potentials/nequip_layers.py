"""The bookkeeping of NequIP's layers (which representations they have, which couplings) and their linear parts.

Features are dicts from an irreducible representation to ``[n_atoms, 2l + 1, n_channels]``, channels last; flat they
are ``[n_atoms, n]`` in the same order. All weights are drawn from N(0, 1) and divided by √fan-in where they are used.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmlip.basis.couplings import wigner_3j

SILU_NORM, TANH_NORM = 1.6791767923989418, 1.5937334472592695
"""1/√E[f(z)²] for normal z as e3nn's sampling found them once; the exact ones differ by 0.1 %."""


class Irrep(NamedTuple):
    """Degree and parity of a representation of rotations and reflections."""

    degree: int
    parity: int

    def __str__(self) -> str:
        return f"{self.degree}{'e' if self.parity == 1 else 'o'}"


class Block(NamedTuple):
    """Some channels of one representation."""

    irrep: Irrep
    channels: int

    @property
    def size(self) -> int:
        """Numbers an atom."""
        return self.channels * (2 * self.irrep.degree + 1)


class Path(NamedTuple):
    """One coupling: input block ⊗ Y_degree → output representation."""

    source: int
    degree: int
    target: Irrep


class Layer(NamedTuple):
    """One interaction block; hashable, all of it known before anything is computed."""

    inputs: tuple[Block, ...]
    paths: tuple[Path, ...]
    convolved: tuple[Block, ...]  # before the gate: odd before even, degree by degree; 0e: scalars, then gates
    scalars: tuple[Block, ...]
    gated: tuple[Block, ...]

    @property
    def outputs(self) -> tuple[Block, ...]:
        """After the gate."""
        return self.scalars + self.gated

    @property
    def sent(self) -> tuple[Block, ...]:
        """What neighbours get: the inputs that any path takes (the last layer has no use for some)."""
        used = {path.source for path in self.paths}
        return tuple(block for k, block in enumerate(self.inputs) if k in used)

    @property
    def n_radial(self) -> int:
        """Radial functions: one a path and channel."""
        return sum(self.inputs[path.source].channels for path in self.paths)


def layers(channels: Sequence[int], n_layers: int, *, parity: bool, n_embedding: int) -> tuple[Layer, ...]:
    """The layers of a model with ``channels[l]`` features of each degree; the last one has scalars only.

    >>> [[str(b.irrep) for b in layer.convolved] for layer in layers((4, 4), 4, parity=True, n_embedding=4)]
    [['0e', '1o'], ['0e', '1o', '1e'], ['0o', '0e', '1o', '1e'], ['0e']]
    """
    hidden = [
        Block(Irrep(degree, p), n)
        for degree, n in enumerate(channels)
        for p in ((1, -1) if parity else ((-1) ** degree,))
    ]
    result, inputs = [], (Block(Irrep(0, 1), n_embedding),)
    for k in range(n_layers):
        wanted = hidden if k < n_layers - 1 else hidden[:1]
        result.append(_layer(inputs, wanted, range(len(channels))))
        inputs = result[-1].outputs
    return tuple(result)


def _layer(inputs: tuple[Block, ...], wanted: Sequence[Block], degrees: range) -> Layer:
    kept = [block for block in wanted if any(_couples(b.irrep, y, block.irrep) for b in inputs for y in degrees)]
    scalars = tuple(b for b in kept if b.irrep.degree == 0)
    gated = tuple(b for b in kept if b.irrep.degree > 0)
    counts = {b.irrep: b.channels for b in kept}
    if gated:
        counts[Irrep(0, 1)] = counts.get(Irrep(0, 1), 0) + sum(b.channels for b in gated)
    convolved = tuple(Block(irrep, n) for irrep, n in sorted(counts.items()))  # (l, parity): odd first
    paths = tuple(
        Path(source, y, out.irrep)
        for source, block in enumerate(inputs)
        for y in degrees
        for out in convolved
        if _couples(block.irrep, y, out.irrep)
    )
    return Layer(inputs, paths, convolved, scalars, gated)


def _couples(a: Irrep, y: int, out: Irrep) -> bool:
    return abs(a.degree - y) <= out.degree <= a.degree + y and out.parity == a.parity * (-1) ** y


def to_flat(features: Mapping[Irrep, Array]) -> Float[Array, "n_atoms n"]:
    """All features of an atom in one row, which is gathered at once."""
    return jnp.concatenate([x.reshape(len(x), -1) for x in features.values()], axis=1)


def from_flat(x: Float[Array, "n_atoms n"], blocks: Sequence[Block]) -> dict[Irrep, Array]:
    """The inverse of `to_flat`."""
    pieces = _pieces(x, [b.size for b in blocks])
    return {b.irrep: piece.reshape(len(x), -1, b.channels) for b, piece in zip(blocks, pieces, strict=True)}


def linear(weights: Mapping[str, Array], features: Mapping[Irrep, Array]) -> dict[Irrep, Array]:
    """Each representation times W / √n."""
    return {irrep: x @ _scaled(weights[str(irrep)]) for irrep, x in features.items()}


def perceptron(weights: Mapping[str, Array], x: Array) -> Array:
    """W_n … silu(W_1 silu(W_0 x)) without biases; √2/√fan-in after a SiLU, 1/√fan-in of the input."""
    for k in range(len(weights)):
        W = _scaled(weights[f"W{k}"])
        x = jax.nn.silu(x) @ (W * 2**0.5) if k else x @ W
    return x


def _scaled(W: Array) -> Array:
    return W / W.shape[0] ** 0.5


def contributions(
    layer: Layer,
    radial: Float[Array, "n_atoms max_neighbors n_radial"],
    Y: Float[Array, "n_atoms max_neighbors n_harmonics"],
    features: Float[Array, "n_atoms max_neighbors n_in"],
) -> Float[Array, "n_atoms n_messages"]:
    """Σ_j R_path(r_ij) (x_j ⊗ Y(r_ij)) of each path, flat, in the order of `Layer.paths`."""
    sent = dict(zip(layer.sent, _pieces(features, [block.size for block in layer.sent]), strict=True))
    sources = [layer.inputs[path.source] for path in layer.paths]
    R = _pieces(radial, [block.channels for block in sources])
    y = _degrees(Y)
    return jnp.concatenate(
        [
            _sums(w, y[path.degree], sent[block], _coupling(layer, path))
            for path, block, w in zip(layer.paths, sources, R, strict=True)
        ],
        axis=1,
    )


def adjoint_contributions(
    layer: Layer,
    radial: Float[Array, "n_atoms max_neighbors n_radial"],
    Y: Float[Array, "n_atoms max_neighbors n_harmonics"],
    cotangents: Float[Array, "n_atoms max_neighbors n_messages"],
) -> Float[Array, "n_atoms n_in"]:
    """The transpose of `contributions` summed at the senders: Σ_i R_path(r_ij) (c_i ⊗ Y(r_ij)) back to the inputs.

    ``Y`` is that of the vector from the atom i which receives to the atom j whose row it is.
    """
    sources = [layer.inputs[path.source] for path in layer.paths]
    received = [Block(path.target, block.channels) for path, block in zip(layer.paths, sources, strict=True)]
    R = _pieces(radial, [block.channels for block in sources])
    c = _pieces(cotangents, [block.size for block in received])
    y = _degrees(Y)
    results: dict[Block, Array] = {}
    for k, (path, block) in enumerate(zip(layer.paths, sources, strict=True)):
        part = _sums(R[k], y[path.degree], c[k], _coupling(layer, path).transpose(2, 1, 0))
        results[block] = results[block] + part if block in results else part
    return jnp.concatenate([results[block] for block in layer.sent], axis=1)


def combined(
    layer: Layer, weights: Mapping[str, Array], messages: Float[Array, "n_atoms n_messages"]
) -> dict[Irrep, Array]:
    """The linear map of all messages of a representation, path after path, to the channels before the gate."""
    blocks = [Block(path.target, layer.inputs[path.source].channels) for path in layer.paths]
    found: dict[Irrep, list[Array]] = {}
    for block, part in zip(blocks, _pieces(messages, [block.size for block in blocks]), strict=True):
        found.setdefault(block.irrep, []).append(part.reshape(len(messages), -1, block.channels))
    joined = {block.irrep: jnp.concatenate(found[block.irrep], axis=-1) for block in layer.convolved}
    return linear(weights, joined)


def self_connection(
    weights: Mapping[str, Array], embedding: Array, species: Array, x: Mapping[Irrep, Array]
) -> dict[Irrep, Array]:
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


def gate(layer: Layer, x: Mapping[Irrep, Array]) -> dict[Irrep, Array]:
    """SiLU of even scalars, tanh of odd ones; other features times the SiLU of their gates."""
    result = {}
    for block in layer.scalars:
        scalar = x[block.irrep][..., : block.channels]
        even = block.irrep.parity == 1
        result[block.irrep] = SILU_NORM * jax.nn.silu(scalar) if even else TANH_NORM * jnp.tanh(scalar)
    start = sum(b.channels for b in layer.scalars if b.irrep.parity == 1)
    for block in layer.gated:
        gates = x[Irrep(0, 1)][..., start : start + block.channels]
        result[block.irrep] = SILU_NORM * jax.nn.silu(gates) * x[block.irrep]
        start += block.channels
    return result


def _coupling(layer: Layer, path: Path) -> Float[np.ndarray, "m1 m2 m3"]:
    """√(2l+1) times the 3j tensor: its outputs have the size of the inputs."""
    tensor = wigner_3j(layer.inputs[path.source].irrep.degree, path.degree, path.target.degree)
    return tensor * np.sqrt(2 * path.target.degree + 1)


def _pieces(x: Array, sizes: Sequence[int]) -> list[Array]:
    """Consecutive pieces of the last axis. Their gradients are concatenated, where those of slices would be padded."""
    return jnp.split(x, np.cumsum(sizes)[:-1].tolist(), axis=-1)


def _degrees(Y: Array) -> list[Array]:
    """Harmonics of each degree."""
    l_max = round(Y.shape[-1] ** 0.5) - 1
    return _pieces(Y, [2 * degree + 1 for degree in range(l_max + 1)])


def _sums(w: Array, y: Array, x: Array, coupling: np.ndarray) -> Float[Array, "n_atoms n"]:
    """Σ_j w_u Σ_cd C[c, d, k] x_cu y_d, flat."""
    x = x.reshape(*x.shape[:2], coupling.shape[0], -1)
    C = jnp.asarray(coupling, x.dtype)
    matrix = jnp.einsum("amd,cdk->amkc", y, C)
    rotated = jnp.sum(matrix[..., None] * x[:, :, None], axis=3)
    return jnp.sum(w[:, :, None] * rotated, axis=1).reshape(len(x), -1)
