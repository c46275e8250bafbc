"""Representations of rotations and reflections: which an atom has, which couplings a layer takes.

Features are dicts from an irreducible representation to ``[n_atoms, 2l + 1, n_channels]``, channels last; flat they
are ``[n_atoms, n]`` in the same order. Everything here is known before anything is computed, and hashable.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmlip.config import ConfigError


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
    """One interaction block."""

    inputs: tuple[Block, ...]
    paths: tuple[Path, ...]
    convolved: tuple[Block, ...]  # before the gate: odd before even, degree by degree; scalars, then their gates
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
    def messages(self) -> tuple[Block, ...]:
        """What each path gives, in their order."""
        return tuple(Block(path.target, self.inputs[path.source].channels) for path in self.paths)

    @property
    def joined(self) -> dict[Irrep, int]:
        """Channels of all messages of a representation together."""
        counts = {block.irrep: 0 for block in self.convolved}
        for block in self.messages:
            counts[block.irrep] += block.channels
        return counts

    @property
    def n_radial(self) -> int:
        """Radial functions: one a path and channel."""
        return sum(block.channels for block in self.messages)

    @property
    def gates(self) -> Irrep:
        """What multiplies features that are no scalars: even scalars; odd ones if the layer gives no even ones."""
        even = any(block.irrep.parity == 1 for block in self.scalars)
        return Irrep(0, 1 if even else -1)


def parse_irreps(text: str) -> tuple[Block, ...]:
    """Representations as e3nn writes them.

    >>> [(str(block.irrep), block.channels) for block in parse_irreps("8x0e+4x1o")]
    [('0e', 8), ('1o', 4)]

    Raises:
        ConfigError: not such a text, or a representation that occurs twice.
    """
    found = [re.fullmatch(r"(?:([1-9]\d{0,4})x)?(\d)([eo])", part.strip()) for part in text.split("+")]
    if not all(found):
        raise ConfigError(f"irreps must look like 128x0e+64x1e, got {text!r}")
    blocks = tuple(Block(Irrep(int(m[2]), 1 if m[3] == "e" else -1), int(m[1] or 1)) for m in found if m)
    if len({block.irrep for block in blocks}) < len(blocks):
        raise ConfigError(f"each representation may be named once, got {text!r}")
    return blocks


def irreps_text(blocks: Sequence[Block]) -> str:
    """The inverse of `parse_irreps`."""
    return "+".join(f"{block.channels}x{block.irrep}" for block in blocks)


def gated_layer(inputs: tuple[Block, ...], paths: tuple[Path, ...], wanted: Sequence[Block]) -> Layer:
    """The layer whose gate gives ``wanted``: before it there is one more scalar for each channel that is none."""
    scalars = tuple(b for b in wanted if b.irrep.degree == 0)
    gated = tuple(b for b in wanted if b.irrep.degree > 0)
    layer = Layer(inputs, paths, (), scalars, gated)
    counts = {b.irrep: b.channels for b in wanted}
    if gated:
        counts[layer.gates] = counts.get(layer.gates, 0) + sum(b.channels for b in gated)
    return layer._replace(convolved=tuple(Block(irrep, n) for irrep, n in sorted(counts.items())))


Feature = Float[Array, "n_atoms _components _channels"]
"""Of one representation."""
Features = Mapping[Irrep, Feature]


def to_flat(features: Features) -> Float[Array, "n_atoms n"]:
    """All features of an atom in one row, which is gathered at once."""
    return jnp.concatenate([x.reshape(len(x), -1) for x in features.values()], axis=1)


def from_flat(x: Float[Array, "n_atoms n"], blocks: Sequence[Block]) -> dict[Irrep, Feature]:
    """The inverse of `to_flat`."""
    parts = pieces(x, [b.size for b in blocks])
    return {b.irrep: part.reshape(len(x), -1, b.channels) for b, part in zip(blocks, parts, strict=True)}


def pieces(x: Float[Array, "*rows n"], sizes: Sequence[int]) -> list[Float[Array, "*rows _"]]:
    """Consecutive pieces of the last axis. Their gradients are concatenated, where those of slices would be padded."""
    return jnp.split(x, np.cumsum(sizes)[:-1].tolist(), axis=-1)
