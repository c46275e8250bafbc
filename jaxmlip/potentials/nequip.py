"""NequIP: equivariant message passing, exactly as nequip evaluates it.

    h_i⁰ = embedding of the species of i,
    m_i  = Σ_j R(r_ij) (W_1 h_j ⊗ Y(r̂_ij)) / √n̄_j,  R(r) = MLP(b_n(r) u(r/r_max)),     (convolution)
    h_i ← gate(W_2 m_i + self-connection of h_i with the embedding),                     (each layer)
    E_i  = offset + scale · w · h_i  [+ nuclear repulsion].

Params: ``offsets`` and ``scales`` [n_species] (eV), ``average_neighbors`` n̄ [n_species] (of the species that sends),
``embedding`` [n_species, n], ``layers``, ``readout``, and ``bessel`` (the numbers n of b_n) if they are trained. Scales
and averages are fixed in training.

References:
    Batzner et al., Nat. Commun. 13, 2453 (2022), equations 6-9 and figure 1.
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmlip.basis.radial import polynomial_cutoff
from jaxmlip.config import Bounds, ConfigError, Count, Range, Whole
from jaxmlip.graph.batch import Graph
from jaxmlip.graph.messages import in_blocks
from jaxmlip.potentials.base import Config, Params, Potential, Regressor, factory
from jaxmlip.potentials.message_passing.architectures import nequip_layers
from jaxmlip.potentials.message_passing.convolution import EdgeBasis, convolution, many
from jaxmlip.potentials.message_passing.irreps import Layer, from_flat, to_flat
from jaxmlip.potentials.message_passing.linear import (
    combined,
    gate,
    linear,
    mean_neighbors,
    perceptron,
    perceptron_shapes,
    plus,
    random_weights,
    self_connection,
)
from jaxmlip.potentials.presets import presets_of
from jaxmlip.potentials.registry import Family, Format
from jaxmlip.potentials.zbl import SCREENING_LENGTH, SCREENING_POWER, screening

_QQR = 0.5 * 14.399645  # eV Å, half of e²/4πε₀ as nequip has it
_GAIN = 2**0.5  # of the SiLUs of perceptrons
_ROWS = 4096  # atoms whose linear layers are evaluated at once, of large cells


@dataclasses.dataclass(frozen=True)
class NequIPConfig(Config):
    """nequip's settings under its names; ``cutoff`` is r_max.

    The defaults are those of the published study of disordered rocksalts (SI table S5): p 6, 16 features, l_max 1, 4
    layers, r_max 5 Å. The table also gives cutoffs of 8.0 and 6.5 Å and 2 × 15 nodes, which NequIP has no use for;
    they look copied from the table of AENET.

    >>> NequIPConfig(species=("Li", "O")).channels
    (16, 16)
    """

    cutoff: float = 5.0
    """Å; r_max."""
    num_layers: Count = 4
    """Message-passing layers: an energy depends on atoms up to so many cutoffs away."""
    l_max: Annotated[int, Bounds(0, 6)] = 1
    """Largest degree of features and spherical harmonics."""
    parity: bool = True
    """Features of both parities; False: (−1)^l only."""
    num_features: Count | tuple[Count, ...] = 16
    """Channels of each representation, or one number for each degree 0 … l_max."""
    type_embed_num_features: Count | None = None
    """Size of the embedding of a species. None: as many as there are scalar features."""
    radial_mlp_depth: Whole = 2
    """Hidden layers of the radial network."""
    radial_mlp_width: Count = 32
    """Nodes of each of them."""
    num_bessels: Count = 8
    """Bessel functions that a distance is expanded in."""
    bessel_trainable: bool = False
    """Train the wave numbers of the Bessel functions."""
    polynomial_cutoff_p: Annotated[int, Bounds(2)] = 6
    """Exponent p of the polynomial envelope: a larger one falls off closer to the cutoff."""
    readout_mlp_hidden_layers_depth: Whole = 0
    """Hidden layers of the readout of atomic energies; 0: linear."""
    readout_mlp_hidden_layers_width: Count | None = None
    """Nodes of each of them. None: as many as there are scalar features."""
    zbl: bool = False
    """Add the screened repulsion of nuclei (ZBL)."""
    tunable: ClassVar[Mapping[str, Range]] = {
        "cutoff": Range(3.5, 6.0),
        "num_layers": Range(2, 5, step=1),
        "num_features": Range(4, 32, step=4),
        "l_max": Range(0, 2, step=1),
    }

    def __post_init__(self) -> None:
        """Refuses what has no meaning."""
        super().__post_init__()
        if len(self.channels) != self.l_max + 1:
            raise ConfigError(
                f"num_features must be one positive number, or one for each degree 0 … {self.l_max}; got "
                f"{self.num_features}"
            )

    @property
    def channels(self) -> tuple[int, ...]:
        """Features of each degree."""
        n = self.num_features
        return (n,) * (self.l_max + 1) if isinstance(n, int) else n

    @property
    def n_hops(self) -> int:
        """One a layer."""
        return self.num_layers

    @property
    def n_embedding(self) -> int:
        """Size of the embedding of a species."""
        return self.channels[0] if self.type_embed_num_features is None else self.type_embed_num_features

    @property
    def edge_basis(self) -> EdgeBasis:
        """What pairs are described by."""
        return EdgeBasis(self.cutoff, self.num_bessels, self.l_max, _GAIN, p=self.polynomial_cutoff_p)

    def wave_numbers(self, params: Params) -> Float[Array, " n_bessel"] | None:
        """Of the Bessel functions in multiples of π/r_max, if they are trained."""
        return params.get("bessel")

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Representations and couplings of each layer."""
        return nequip_layers(self.channels, self.num_layers, parity=self.parity, n_embedding=self.n_embedding)


@factory
def nequip(config: NequIPConfig) -> Potential:
    """The potential of ``config``; the params are described at the top of this module.

    ``init(key, graph)`` draws all weights from N(0, 1) and takes n̄ from ``graph``; without one, of 0.1 atoms/Å³.

    >>> params = nequip(NequIPConfig(species=("Li", "O"))).init(jax.random.key(0), None)
    >>> params["embedding"].shape, round(float(params["average_neighbors"][0]))
    ((2, 16), 52)
    """

    def init(key: Array | None, graph: Graph | None = None) -> Params:
        return _initial(config, jax.random.key(0) if key is None else key, graph)

    def descriptor(params: Params, graph: Graph, vectors: Array) -> Array:
        return features(config, params, graph, vectors)[-1]

    def energies(params: Params, species: Array, scalars: Array) -> Array:
        found = perceptron(params["readout"], scalars, _GAIN)[:, 0]
        return params["offsets"][species] + params["scales"][species] * found

    def atomic_energies(params: Params, graph: Graph, vectors: Array) -> Array:
        found = energies(params, graph.species, descriptor(params, graph, vectors))
        return found + _repulsion(config, graph, vectors) if config.zbl else found

    stages = Regressor(descriptor, energies, learned=True, scale="scales")
    return Potential(config, init, atomic_energies, stages, local=False, fixed=("scales", "average_neighbors"))


def features(
    config: NequIPConfig, params: Params, graph: Graph, vectors: Float[Array, "n_atoms max_neighbors 3"]
) -> list[Float[Array, "n_atoms _"]]:
    """The features of all atoms after the embedding and after each layer, flat."""
    convolve = convolution(config.edge_basis, config.wave_numbers(params), graph, vectors)
    norm = jax.lax.rsqrt(params["average_neighbors"])[graph.species]
    x = params["embedding"][graph.species]
    result = [x]
    for k, layer in enumerate(config.layers):
        weights = params["layers"][f"{k}"]
        inputs = from_flat(x, layer.inputs)
        sent = linear(weights["linear_1"], {block.irrep: inputs[block.irrep] for block in layer.sent})
        messages = convolve(layer, weights["radial"], norm[:, None] * to_flat(sent))
        update = partial(_updated, layer, weights, params["embedding"])
        x = in_blocks(jax.checkpoint(update) if many(graph) else update, (messages, x, graph.species), _ROWS)
        result.append(x)
    return result


def _updated(layer: Layer, weights: Params, embedding: Array, rows: tuple[Array, Array, Array]) -> Array:
    """The new features of atoms from their messages and old features."""
    messages, x, species = rows
    total = combined(layer, weights["linear_2"], messages)
    if "self_connection" in weights:
        own = self_connection(weights["self_connection"], embedding, species, from_flat(x, layer.inputs))
        total = plus(total, own)
    return to_flat(gate(layer, total))


def _initial(config: NequIPConfig, key: Array, graph: Graph | None) -> Params:
    """All weights from N(0, 1); what depends on data but n̄ (scale, offsets) at 1 and 0."""
    n_species = len(config.species)
    params = random_weights(weight_shapes(config), key)
    params |= {"offsets": jnp.zeros(n_species), "scales": jnp.ones(n_species)}
    params["average_neighbors"] = jnp.broadcast_to(jnp.asarray(mean_neighbors(graph, config.cutoff)), n_species)
    return params | ({"bessel": jnp.arange(1.0, config.num_bessels + 1)} if config.bessel_trainable else {})


def weight_shapes(config: NequIPConfig) -> dict[str, Any]:
    """Shapes of all trained weights, nested as in the params."""
    n = config.channels[0]
    depth, width = config.readout_mlp_hidden_layers_depth, config.readout_mlp_hidden_layers_width or n
    return {
        "embedding": (len(config.species), config.n_embedding),
        "layers": {f"{k}": _layer_shapes(config, layer, first=k == 0) for k, layer in enumerate(config.layers)},
        "readout": perceptron_shapes([n, *[width] * depth, 1]),
    }


def _layer_shapes(config: NequIPConfig, layer: Layer, *, first: bool) -> dict[str, Any]:
    inputs = {str(b.irrep): b.channels for b in layer.inputs}
    outputs = {str(b.irrep): b.channels for b in layer.convolved}
    joined = {str(irrep): k for irrep, k in layer.joined.items()}
    hidden = [config.radial_mlp_width] * config.radial_mlp_depth
    shapes = {
        "linear_1": {name: (k, k) for name, k in inputs.items()},
        "radial": perceptron_shapes([config.num_bessels, *hidden, layer.n_radial]),
        "linear_2": {name: (joined[name], k) for name, k in outputs.items()},
    }
    both = [name for name in inputs if name in outputs]
    return (
        shapes
        if first
        else shapes | {"self_connection": {m: (inputs[m], config.n_embedding, outputs[m]) for m in both}}
    )


def _repulsion(config: NequIPConfig, graph: Graph, vectors: Array) -> Float[Array, " n_atoms"]:
    """Half of e²/4πε₀ Z_i Z_j φ(r/a)/r of each pair, times the polynomial cutoff with p = 6."""
    Z = np.array(config.species, float)
    lengths = SCREENING_LENGTH / (Z[:, None] ** SCREENING_POWER + Z[None, :] ** SCREENING_POWER)
    table = np.stack([_QQR * Z[:, None] * Z[None, :], lengths], axis=-1)
    constants = jnp.asarray(table, vectors.dtype)[graph.species[:, None], graph.neighbor_species]
    r = jnp.sqrt(jnp.sum(vectors**2, axis=-1))
    energy = constants[..., 0] / r * screening(r / constants[..., 1]) * polynomial_cutoff(r / config.cutoff, 6)
    return jnp.sum(jnp.where(graph.mask, energy, 0), axis=1)


NEQUIP = Family(
    "nequip",
    NequIPConfig,
    nequip,
    label="NequIP",
    color="#56b4e9",
    method="gradient",
    features=lambda config: (f"readout/W{config.readout_mlp_hidden_layers_depth}",),
    presets=presets_of("nequip"),
    example={"species": ("Li", "Mn", "O"), "cutoff": 3.2, "num_layers": 1, "num_features": 2},
    formats={".yaml": Format("jaxmlip.formats.nequip:read_nequip", "jaxmlip.formats.nequip:write_nequip")},
)
