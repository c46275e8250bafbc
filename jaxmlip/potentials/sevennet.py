"""SevenNet: NequIP's message passing as sevenn evaluates it, with its pre-trained universal potentials.

    h_i⁰ = row of the species / √n_types [+ bias],
    m_i  = Σ_j R(r_ij) (W_1 h_j ⊗ Y(r̂_ij)) / d,       R(r) = MLP(b_n(r) u(r)),           (convolution)
    h_i ← gate(W_2 m_i + self-connection of h_i),                                         (each layer)
    E_i  = offset + scale · w₂ · W₁ h_i.

Params: ``offsets`` and ``scales`` [n_species] (eV), ``denominators`` d [n_layers], ``frequencies`` c_n of the Bessel
functions (1/Å; nπ/r_c at first), ``embedding``, ``layers`` and ``readout``. Scales and denominators are fixed in
training.

References:
    Park, Kim, Hwang, Han, J. Chem. Theory Comput. 20, 4857 (2024). sevenn 0.13 (conventions).
"""

import dataclasses
import math
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmlip.config import Bounds, ConfigError, Count, NotNegative, Range
from jaxmlip.graph.batch import Graph
from jaxmlip.graph.messages import in_blocks
from jaxmlip.potentials.base import Config, Params, Potential, Regressor, factory
from jaxmlip.potentials.message_passing.architectures import sevennet_layers
from jaxmlip.potentials.message_passing.convolution import EdgeBasis, convolution, many
from jaxmlip.potentials.message_passing.irreps import Block, Irrep, Layer, from_flat, parse_irreps, to_flat
from jaxmlip.potentials.message_passing.linear import (
    SILU_NORM,
    combined,
    gate,
    linear,
    mean_neighbors,
    perceptron_shapes,
    plus,
    random_weights,
    species_connection,
)
from jaxmlip.potentials.presets import presets_of
from jaxmlip.potentials.registry import Family, Format

_ROWS = 4096  # atoms whose linear layers are evaluated at once, of large cells
SelfConnection = Literal["linear", "nequip"]


@dataclasses.dataclass(frozen=True)
class SevenNetConfig(Config):
    """sevenn's settings; those of a checkpoint come with it.

    The defaults are a small model that can be trained from nothing; SevenNet-0 has 128x0e+64x1e+32x2e and five layers.

    >>> SevenNetConfig(species=("Li", "O")).layers[1].n_radial
    96
    """

    cutoff: float = 5.0
    """Å."""
    irreps: tuple[str, ...] = ("16x0e", "16x0e+8x1o+4x2e", "16x0e+8x1o+4x2e", "16x0e")
    """Features after the embedding and after each layer, as e3nn writes them; the last ones are even scalars."""
    l_max: Annotated[int, Bounds(0, 6)] = 2
    """Highest degree of the harmonics of a pair."""
    parity: bool = True
    """Harmonics of odd degree are odd. False: all representations are even, as in SevenNet-0, and a structure and its
    mirror image may differ in energy."""
    self_connection: tuple[SelfConnection, ...] = ("linear",)
    """One for each layer, or one for all: a linear map, or one for each element (as nequip has it)."""
    bias: bool = False
    """Linear maps add a bias to even scalars; self-connections never do."""
    radial_hidden: tuple[Count, ...] = (64, 64)
    """Nodes of the hidden layers of the radial network."""
    num_bessels: Count = 8
    """Bessel functions of a distance; their frequencies are trained."""
    envelope: Literal["xplor", "polynomial"] = "polynomial"
    """What takes the Bessel functions to zero at the cutoff; XPLOR's has a jump of the second derivative where it
    begins."""
    cutoff_on: NotNegative | None = None
    """Å; where XPLOR's envelope begins to fall. None: nine tenths of the cutoff."""
    polynomial_cutoff_p: Annotated[int, Bounds(2)] = 6
    """Power of the polynomial envelope."""
    unit_harmonics: bool = True
    """Harmonics of the direction; False: of the vector (checkpoints before July 2024)."""
    n_types: Count | None = None
    """Elements that the weights were made for, whose number divides some of them. None: as many as ``species``."""
    tunable: ClassVar[Mapping[str, Range]] = {"cutoff": Range(3.5, 6.0), "l_max": Range(2, 3, step=1)}

    def __post_init__(self) -> None:
        """Refuses what has no meaning."""
        super().__post_init__()
        hidden = self.hidden
        if len(hidden) < 2 or any(len(h) != 1 or h[0].irrep != Irrep(0, 1) for h in (hidden[0], hidden[-1])):
            raise ConfigError(f"irreps must begin and end with even scalars, at least two entries; got {self.irreps}")
        if len(self.self_connection) not in (1, len(hidden) - 1):
            raise ConfigError(f"self_connection needs one entry or {len(hidden) - 1}, got {len(self.self_connection)}")
        if hidden[-1][0].channels < 2:
            raise ConfigError(f"irreps: the last layer needs at least two scalars, got {self.irreps[-1]}")
        if self.cutoff_on is not None and self.cutoff_on >= self.cutoff:
            raise ConfigError(f"cutoff_on must lie within the cutoff {self.cutoff} Å, got {self.cutoff_on}")
        sevennet_layers(hidden, self.l_max, parity=self.parity)

    @property
    def hidden(self) -> tuple[tuple[Block, ...], ...]:
        """``irreps`` as blocks."""
        return tuple(parse_irreps(text) for text in self.irreps)

    @property
    def n_hops(self) -> int:
        """One a layer."""
        return len(self.irreps) - 1

    def wave_numbers(self, params: Params) -> Float[Array, " n_bessel"]:
        """Of the Bessel functions in multiples of π/r_c."""
        return jnp.asarray(params["frequencies"]) * (self.cutoff / math.pi)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Representations and couplings of each layer."""
        return sevennet_layers(self.hidden, self.l_max, parity=self.parity)

    @property
    def connections(self) -> tuple[SelfConnection, ...]:
        """Self-connection of each layer."""
        n = len(self.irreps) - 1
        return self.self_connection if len(self.self_connection) == n else self.self_connection * n

    @property
    def fan_in(self) -> int:
        """Elements that the weights were made for."""
        return len(self.species) if self.n_types is None else self.n_types

    @property
    def edge_basis(self) -> EdgeBasis:
        """What pairs are described by."""
        on = 0.9 * self.cutoff if self.cutoff_on is None else self.cutoff_on
        return EdgeBasis(
            self.cutoff,
            self.num_bessels,
            self.l_max,
            gain=SILU_NORM,
            p=self.polynomial_cutoff_p,
            cutoff_on=on if self.envelope == "xplor" else None,
            unit=self.unit_harmonics,
        )


@factory
def sevennet(config: SevenNetConfig) -> Potential:
    """The potential of ``config``; the params are described at the top of this module.

    ``init(key, graph)`` draws all weights from N(0, 1), sets biases to zero, and takes the denominators from
    ``graph``; without one, from 0.1 atoms/Å³.

    >>> params = sevennet(SevenNetConfig(species=("Li", "O"))).init(jax.random.key(0), None)
    >>> params["embedding"]["weight"].shape, round(float(params["denominators"][0]))
    ((2, 16), 7)
    """

    def init(key: Array | None, graph: Graph | None = None) -> Params:
        return _initial(config, jax.random.key(0) if key is None else key, graph)

    def energies(params: Params, species: Array, x: Array) -> Array:
        hidden = linear(params["readout"]["hidden"], {Irrep(0, 1): x[:, None]})
        out = linear(params["readout"]["energy"], hidden)[Irrep(0, 1)]
        return params["scales"][species] * out[:, 0, 0] + params["offsets"][species]

    def atomic_energies(params: Params, graph: Graph, vectors: Array) -> Array:
        return energies(params, graph.species, features(config, params, graph, vectors))

    stages = Regressor(partial(features, config), energies, learned=True, scale="scales")
    return Potential(config, init, atomic_energies, stages, local=False, fixed=("scales", "denominators"))


def features(
    config: SevenNetConfig, params: Params, graph: Graph, vectors: Float[Array, "n_atoms max_neighbors 3"]
) -> Float[Array, "n_atoms n"]:
    """The scalars of all atoms after the last layer."""
    convolve = convolution(config.edge_basis, config.wave_numbers(params), graph, vectors)
    embedding = params["embedding"]
    x = embedding["weight"][graph.species] / config.fan_in**0.5
    x = x + embedding["bias"][None] if config.bias else x
    for k, layer in enumerate(config.layers):
        weights = params["layers"][f"{k}"]
        inputs = from_flat(x, layer.inputs)
        sent = linear(weights["linear_1"], {block.irrep: inputs[block.irrep] for block in layer.sent})
        messages = convolve(layer, weights["radial"], to_flat(sent)) / params["denominators"][k]
        update = partial(_updated, layer, weights, config.fan_in)
        x = in_blocks(jax.checkpoint(update) if many(graph) else update, (messages, x, graph.species), _ROWS)
    return x


def _updated(layer: Layer, weights: Params, fan_in: int, rows: tuple[Array, Array, Array]) -> Array:
    """The new features of atoms from their messages and old features."""
    messages, x, species = rows
    old, kept = from_flat(x, layer.inputs), weights["self_connection"]
    of_species = any(W.ndim == 3 for W in kept.values())
    own = species_connection(kept, species, old, fan_in) if of_species else linear(kept, old)
    return to_flat(gate(layer, plus(combined(layer, weights["linear_2"], messages), own)))


def _initial(config: SevenNetConfig, key: Array, graph: Graph | None) -> Params:
    n_species, n_layers = len(config.species), len(config.layers)
    params = random_weights(weight_shapes(config), key)
    params |= {"offsets": jnp.zeros(n_species), "scales": jnp.ones(n_species)}
    params["denominators"] = jnp.broadcast_to(jnp.sqrt(mean_neighbors(graph, config.cutoff)), n_layers)
    params["frequencies"] = jnp.arange(1.0, config.num_bessels + 1) * (math.pi / config.cutoff)
    return params


def weight_shapes(config: SevenNetConfig) -> dict[str, Any]:
    """Shapes of all weights and biases, nested as in the params and in the order of sevenn's."""
    n, last = config.hidden[0][0].channels, config.hidden[-1][0].channels
    bias = config.bias
    layers = zip(config.layers, config.connections, strict=True)
    return {
        "embedding": {"weight": (len(config.species), n)} | ({"bias": (n,)} if bias else {}),
        "layers": {f"{k}": _layer_shapes(config, layer, kind) for k, (layer, kind) in enumerate(layers)},
        "readout": {
            "hidden": _with_bias({"0e": (last, last // 2)}, bias),
            "energy": _with_bias({"0e": (last // 2, 1)}, bias),
        },
    }


def _layer_shapes(config: SevenNetConfig, layer: Layer, connection: str) -> dict[str, Any]:
    outputs = {b.irrep: b.channels for b in layer.convolved}
    both = {b.irrep: b.channels for b in layer.inputs if b.irrep in outputs}
    middle = (len(config.species),) if connection == "nequip" else ()
    sizes = [config.num_bessels, *config.radial_hidden, layer.n_radial]
    return {
        "self_connection": {str(irrep): (k, *middle, outputs[irrep]) for irrep, k in both.items()},
        "linear_1": _with_bias({str(b.irrep): (b.channels, b.channels) for b in layer.inputs}, config.bias),
        "radial": perceptron_shapes(sizes),
        "linear_2": _with_bias({str(i): (layer.joined[i], n) for i, n in outputs.items()}, config.bias),
    }


def _with_bias(shapes: dict[str, tuple[int, ...]], bias: bool) -> dict[str, tuple[int, ...]]:
    return shapes | ({"bias": (shapes["0e"][-1],)} if bias and "0e" in shapes else {})


_READ = "jaxmlip.formats.sevennet:read_sevennet"
_EXAMPLE = {"species": ("Li", "Mn", "O"), "cutoff": 3.2, "irreps": ("2x0e", "2x0e")}
SEVENNET = Family(
    "sevennet",
    SevenNetConfig,
    sevennet,
    label="SevenNet",
    color="#999933",
    method="gradient",
    features=lambda config: ("readout/hidden/0e",),
    presets=presets_of("sevennet"),
    example={**_EXAMPLE, "l_max": 1, "radial_hidden": (4,)},
    formats={
        ".pth": Format(_READ, "jaxmlip.formats.sevennet_write:write_sevennet"),
        **dict.fromkeys(("sevennet-0", "sevennet-0-22may2024", "sevennet-l3i5"), Format(_READ)),
    },
)
