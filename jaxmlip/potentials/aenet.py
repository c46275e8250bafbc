"""AENET: an artificial neural network for each element, fed with Chebyshev fingerprints, exactly as aenet evaluates it.

    x = (fingerprint − shift) · scale,    h = act(W h + b) layer by layer, the last one linear,
    E_i = y / energy scale + energy shift + E_atom,          all numbers those of the element of atom i.

Params: ``offsets`` (E_atom, eV), ``networks`` (``W0`` [n_species, n_out, n_in], ``b0`` [n_species, n_out], ``W1``, …),
and two parts that describe the training data and are held fixed (`FIXED`): ``fingerprint`` (``shift`` and ``scale``,
[n_species, n_features]: the mean and 1/standard deviation over the atoms of a species, `scaling`) and ``energy``
(``shift`` in eV, ``scale`` in 1/eV, [n_species]). Gradients of the fixed parts are zero; an optimiser that decays
weights must leave them out.

References:
    Artrith and Urban, Comput. Mater. Sci. 114, 135 (2016): networks, activations.
    Artrith, Urban, Ceder, Phys. Rev. B 96, 014112 (2017): fingerprints.
"""

import dataclasses
import re
from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxmlip.config import Bounds, ConfigError, NotNegative, Positive, Range, Whole, unknown_name
from jaxmlip.descriptors.chebyshev import Expansion, chebyshev_fingerprints
from jaxmlip.graph.batch import Graph
from jaxmlip.potentials.base import Config, Params, Potential, Regressor, factory, safe_edges
from jaxmlip.potentials.presets import presets_of
from jaxmlip.potentials.registry import Family, Format

FIXED = ("fingerprint", "energy")
"""Parts of the params that training leaves alone."""

ACTIVATIONS = {
    "linear": lambda x: x,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "mtanh": lambda x: 1.7159 * jnp.tanh(2 / 3 * x),
    "twist": lambda x: 1.7159 * jnp.tanh(2 / 3 * x) + 0.1 * x,
}
"""aenet's functions by the names of ``train.in``; their place here is the number in its files."""

MANY_ATOMS, FEW_SPECIES = 64, 4  # evaluating all networks on all atoms pays beyond, up to (measured, float32, one core)


@dataclasses.dataclass(frozen=True)
class AENETConfig(Config):
    """aenet's settings; the defaults are those of the published study of disordered rocksalts.

    >>> AENETConfig(species=("Li", "O")).n_features, AENETConfig(species=("Mo",)).n_features
    (44, 22)
    """

    cutoff: float = 8.0
    """Å; radial_Rc, the cutoff of the radial expansion."""
    radial_order: Whole = 16
    """radial_N, the highest radial Chebyshev polynomial."""
    angular_cutoff: Positive | None = None
    """Å; angular_Rc, at most the cutoff. None: 6.5, or the cutoff where that is smaller."""
    angular_order: Annotated[int, Bounds(0, 20)] = 4
    """angular_N, the highest angular Chebyshev polynomial."""
    hidden: tuple[str, ...] = ("15:tanh", "15:tanh")
    """Hidden layers as in train.in, nodes:activation; activations: linear, tanh, sigmoid, mtanh, twist."""
    environment: tuple[int | str, ...] | None = None
    """Elements in the order of ENV in the .stp files, which sets the type weights. None: the species."""
    type_weights: Literal["aenet", "nonzero"] = "aenet"
    """aenet: -n//2 ... n//2, where an odd number of elements gives the middle one weight 0, so that the composition
    part does not see it; nonzero: leave 0 out (aenet's programs cannot use such a model)."""
    rmin: NotNegative = 0.55
    """Å; RMIN, the smallest distance aenet expects: it sizes aenet's arrays and is only kept for its files."""
    tunable: ClassVar[Mapping[str, Range]] = {
        "cutoff": Range(5.0, 8.0),
        "radial_order": Range(4, 20, step=2),
        "angular_order": Range(2, 8, step=1),
    }
    cutoffs: ClassVar[tuple[str, ...]] = ("cutoff", "angular_cutoff")

    def __post_init__(self) -> None:
        """Refuses what has no meaning."""
        super().__post_init__()
        environment = Config(self.environment or self.species, self.cutoff).species
        object.__setattr__(self, "environment", None if environment == self.species else environment)
        missing = set(self.species) - set(environment)
        if missing:
            raise ConfigError(f"environment must name every species; atomic numbers {sorted(missing)} are missing")
        if self.angular_cutoff is None:
            object.__setattr__(self, "angular_cutoff", min(6.5, self.cutoff))
        if self.expansion.angular_cutoff > self.cutoff:
            raise ConfigError(
                f"angular_cutoff must lie between 0 and the (radial) cutoff {self.cutoff} Å, got "
                f"{self.angular_cutoff}; beyond it aenet's own result depends on the order of the neighbours"
            )
        for name in self.hidden:
            _layer_of(name)

    @property
    def expansion(self) -> Expansion:
        """Cutoffs and orders of the fingerprint."""
        angular_cutoff: Any = self.angular_cutoff  # a number since __post_init__
        return Expansion(self.cutoff, self.radial_order, angular_cutoff, self.angular_order)

    @property
    def weights(self) -> tuple[float, ...] | None:
        """The type weight of each of ``species``; None where one element needs none.

        >>> AENETConfig(species=("Li", "O", "Ti")).weights
        (-1.0, 0.0, 1.0)
        >>> AENETConfig(species=("Li", "O", "Ti"), type_weights="nonzero").weights
        (-2.0, -1.0, 1.0)
        """
        environment = self.environment or self.species
        n = len(environment)
        if n == 1:
            return None
        skip_zero = n % 2 == 0 or self.type_weights == "nonzero"
        values = [k for k in range(-((n + skip_zero) // 2), n) if k or not skip_zero]
        return tuple(float(values[environment.index(z)]) for z in self.species)

    @property
    def n_features(self) -> int:
        """Inputs of a network: [R, A], twice where there are several elements."""
        return self.expansion.n_functions * (1 if self.weights is None else 2)

    @property
    def layers(self) -> tuple[tuple[int, str], ...]:
        """Nodes and activation of each layer, the linear output included."""
        return (*map(_layer_of, self.hidden), (1, "linear"))


@factory
def aenet(config: AENETConfig) -> Potential:
    """The potential of ``config``; the params are described at the top of this module.

    ``init(key, graph)`` draws weights and biases uniformly with standard deviation 1/√(n_in + 1), as aenet does, and
    takes shift and scale from the fingerprints of ``graph``; without a graph they are guesses for 0.1 atoms/Å³.

    >>> potential = aenet(AENETConfig(species=("Li", "O")))
    >>> potential.init(jax.random.key(0), None)["networks"]["W0"].shape
    (2, 15, 44)
    """
    n_species = len(config.species)

    def init(key: Array | None, graph: Graph | None = None) -> Params:
        if graph is None:
            guess = jnp.tile(_typical_scale(config), (n_species, 1))
            fixed = {"shift": jnp.zeros_like(guess), "scale": guess}
        else:
            found = fingerprints(config, None, graph, safe_edges(graph, config))
            fixed = scaling(found, jnp.where(graph.atom_mask, graph.species, -1), n_species)
        energy = {"shift": jnp.zeros(n_species), "scale": jnp.ones(n_species)}
        networks = _initial_networks(jax.random.key(0) if key is None else key, config)
        return {"offsets": jnp.zeros(n_species), "networks": networks, "fingerprint": fixed, "energy": energy}

    def atomic_energies(params: Params, graph: Graph, vectors: Array) -> Array:
        x = fingerprints(config, params, graph, vectors)
        return energies_from_fingerprints(config, params, graph.species, x)

    stages = Regressor(partial(fingerprints, config), partial(energies_from_fingerprints, config))
    return Potential(config, init, atomic_energies, stages, fixed=FIXED)


def fingerprints(
    config: AENETConfig, params: Params, graph: Graph, vectors: Float[Array, "n_atoms max_neighbors 3"]
) -> Float[Array, "n_atoms n_features"]:
    """Chebyshev fingerprints of all atoms before shift and scale; ``params`` are not used.

    Training on energies alone computes them once: `energies_from_fingerprints` does the rest.
    """
    weights = jnp.ones_like(vectors[:, None, :, 0])
    if config.weights is not None:
        by_species = jnp.asarray(config.weights, vectors.dtype)[graph.neighbor_species]
        weights = jnp.concatenate([weights, by_species[:, None]], axis=1)
    return chebyshev_fingerprints(vectors, weights, graph.mask, config.expansion)


def energies_from_fingerprints(
    config: AENETConfig, params: Params, species: Int[Array, " n_atoms"], x: Float[Array, "n_atoms n_features"]
) -> Float[Array, " n_atoms"]:
    """Energies of atoms in eV, offsets included, from their fingerprints ``x``."""
    fixed = jax.lax.stop_gradient({name: params[name] for name in FIXED})
    x = (x - fixed["fingerprint"]["shift"][species]) * fixed["fingerprint"]["scale"][species]
    for k, (_, activation) in enumerate(config.layers):
        x = ACTIVATIONS[activation](_affine(params["networks"][f"W{k}"], params["networks"][f"b{k}"], species, x))
    energy = fixed["energy"]
    return params["offsets"][species] + energy["shift"][species] + x[:, 0] / energy["scale"][species]


def scaling(
    x: Float[Array, "n_atoms n_features"], species: Int[Array, " n_atoms"], n_species: int
) -> dict[str, Float[Array, "n_species n_features"]]:
    """``shift`` and ``scale`` of each species: mean and 1/standard deviation over its atoms; species −1: left out.

    The scale is 0 where a fingerprint does not vary (aenet: a deviation up to 1e-10) or a species has no atoms.

    >>> one = scaling(jnp.array([[1.0, 5.0], [3.0, 5.0]]), jnp.array([0, 0]), 1)
    >>> one["shift"].tolist(), one["scale"].tolist()
    ([[2.0, 5.0]], [[1.0, 0.0]])
    """
    member = jax.nn.one_hot(species, n_species, dtype=x.dtype)
    count = jnp.maximum(member.sum(axis=0), 1)[:, None]
    mean = member.T @ x / count
    deviation = jnp.sqrt(member.T @ (x - mean[species]) ** 2 / count)
    rounding = 8 * jnp.finfo(x.dtype).eps * jnp.abs(mean)
    varies = deviation > jnp.maximum(rounding, 1e-10)
    return {"shift": mean, "scale": jnp.where(varies, 1 / jnp.where(varies, deviation, 1), 0)}


def _affine(W: Array, b: Array, species: Array, x: Array) -> Float[Array, "n_atoms n_out"]:
    """W x + b with the numbers of each atom's species.

    For a block of atoms its own weights are gathered and stay in the cache; for many atoms of few species one matrix
    product with all networks, of which one is kept, is up to seven times faster.
    """
    if len(species) <= MANY_ATOMS or len(W) > FEW_SPECIES:
        return jnp.einsum("aoi,ai->ao", W[species], x) + b[species]
    chosen = jax.nn.one_hot(species, len(W), dtype=x.dtype)
    return jnp.einsum("aso,as->ao", jnp.einsum("soi,ai->aso", W, x) + b[None], chosen)


def _typical_scale(config: AENETConfig) -> Float[Array, " n_features"]:
    """1 / the size of a fingerprint in matter of 0.1 atoms/Å³: n = ∫ f_c ρ d³r for R, n²/2 for A."""
    e = config.expansion
    radial, angular = (0.4 * np.pi * (1 / 6 - 1 / np.pi**2) * R**3 for R in (e.radial_cutoff, e.angular_cutoff))
    one = np.repeat([1 / radial, 2 / angular**2], [e.radial_order + 1, e.angular_order + 1])
    if config.weights is None:
        return jnp.asarray(one, float)
    w = max(map(abs, config.weights))
    powers_of_w = np.repeat([w, w**2], [e.radial_order + 1, e.angular_order + 1])
    return jnp.asarray(np.concatenate([one, one / np.maximum(powers_of_w, 1)]), float)


def _initial_networks(key: Array, config: AENETConfig) -> dict[str, Array]:
    sizes = [config.n_features, *(nodes for nodes, _ in config.layers)]
    result = {}
    for k, (n_in, n_out) in enumerate(pairwise(sizes)):
        bound = np.sqrt(3 / (n_in + 1))  # of a uniform distribution with standard deviation 1/√(n_in + 1)
        key, subkey = jax.random.split(key)
        both = jax.random.uniform(subkey, (len(config.species), n_out, n_in + 1), minval=-bound, maxval=bound)
        result |= {f"W{k}": both[:, :, :-1], f"b{k}": both[:, :, -1]}
    return result


def _layer_of(name: str) -> tuple[int, str]:
    """Nodes and activation of ``15:tanh``."""
    match = re.fullmatch(r"\s*(\d+)\s*:\s*(\w+)\s*", name)
    if not match or int(match[1]) < 1:
        raise ConfigError(f"hidden layers are written nodes:activation, such as '15:tanh'; got {name!r}")
    if match[2] not in ACTIVATIONS:
        raise ConfigError(unknown_name("activation", match[2], ACTIVATIONS))
    return int(match[1]), match[2]


_EXAMPLE = {"species": ("Li", "Mn", "O"), "cutoff": 3.2, "angular_cutoff": 3.0, "hidden": ("3:tanh",)}
_READ, _WRITE = "jaxmlip.formats.aenet:read_aenet", "jaxmlip.formats.aenet:write_aenet"
AENET = Family(
    "aenet",
    AENETConfig,
    aenet,
    label="AENET",
    color="#e69f00",
    method="gradient",
    features=lambda config: (f"networks/W{len(config.hidden)}",),
    presets=presets_of("aenet"),
    example={**_EXAMPLE, "radial_order": 4},
    formats={
        **dict.fromkeys((".nn", ".ann", ".ascii"), Format(_READ, _WRITE)),
        **dict.fromkeys((".in", "/"), Format(_READ)),
    },
)
