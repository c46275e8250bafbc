"""The contract: a potential gives energies of atoms; energy, forces and stress of structures are derived here, once.

Conventions: eV, Å; F_i = −∂E/∂r_i; σ = (1/V) ∂E/∂ε, positive under tension (ASE's sign); all periodic images count.
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from jaxtyping import Array, Float

from jaxmlip.config import ConfigError, Positive, Range, Settings, unknown_name
from jaxmlip.graph.batch import Graph, check_scope, edge_vectors
from jaxmlip.graph.derivatives import forces, per_graph, stress, virials
from jaxmlip.graph.messages import in_blocks

CPU_BLOCK = 8  # atoms; on a CPU their intermediate arrays stay in the cache (measured with scripts/benchmark.py)

Params = Any  # a pytree of arrays; always a dict with "offsets": energy per atom of each species [n_species], eV
AtomFn = Callable[[Params, Graph, Float[Array, "n_atoms max_neighbors 3"]], Float[Array, "n_atoms ..."]]


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """What every family needs; a family adds its own fields with defaults."""

    species: tuple[int | str, ...]
    """Elements, as symbols or atomic numbers; kept as atomic numbers, in this order."""
    cutoff: Positive
    """Å; an atom sees its neighbours up to here."""
    tunable: ClassVar[Mapping[str, Range]] = {"cutoff": Range(3.5, 7.0)}
    """Settings that ``jaxmlip tune`` looks for, and where."""

    def __post_init__(self) -> None:
        """Symbols become atomic numbers; refuses what cannot be a potential."""
        super().__post_init__()
        numbers = tuple(_number(s) for s in self.species)
        if not numbers or len(set(numbers)) != len(numbers):
            raise ConfigError(f"species must name each element once, and at least one: got {self.species}")
        object.__setattr__(self, "species", numbers)

    @property
    def symbols(self) -> tuple[str, ...]:
        """Chemical symbols in the order of ``species``."""
        return tuple(chemical_symbols[int(z)] for z in self.species)


class Linear(NamedTuple):
    """How a linear potential makes its features: neighbours → density on a basis → invariants → (products).

    The design matrix needs derivatives of every feature; from these stages they cost one small matrix product a
    neighbour instead of one backward pass a feature. All take ``(params, graph, …)``.

    A density may have parameters p of its own, ``params[inner]`` [n_species, …] by the species of the central atom;
    it is linear in them. ``slopes`` gives, for ``vectors`` and weights w [n_atoms, n_basis], the derivatives by those
    of an atom's own species: of its density [n_atoms, n_p, n_basis], and of w · the density of each pair
    [n_atoms, max_neighbors, n_p].
    """

    density: AtomFn  # per pair: [n_atoms, max_neighbors, n_basis]; a row depends on its own vector only; 0 if masked
    invariants: Callable  # the density summed over neighbours [n_atoms, n_basis] -> [n_atoms, n_invariants]
    jacobian: Callable  # the same -> [n_atoms, n_invariants, n_basis]; `dense_jacobian` serves every family
    quadratic: bool = False  # the features are B_k, then ½ B_k² and B_k B_l (l > k), row by row
    inner: str | None = None
    slopes: Callable | None = None


class Potential(NamedTuple):
    """One family with its settings: pure functions of parameters and a graph. A factory makes it."""

    config: Config
    init: Callable[[Array | None, Graph | None], Params]
    atomic_energies: AtomFn  # [n_atoms] eV, offsets included
    features: AtomFn | None = None  # [n_atoms, n_features]; E_i = offsets + features · coefficients of its species
    linear: Linear | None = None  # the two stages of ``features``
    descriptor: AtomFn | None = None  # [n_atoms, n_descriptors]; does not depend on the trained part of the params
    regressor: Callable | None = None  # (params, species, descriptors) -> the atomic energies
    fixed: tuple[str, ...] = ()  # names of params that training leaves alone
    resizable: tuple[str, ...] = ()  # names of params whose sizes a fit chooses (sparse points)
    local: bool = True  # an energy depends on its own neighbours only, so atoms may be evaluated in blocks
    shared: bool = False  # all species share the coefficients of a linear potential: [n_features], not one row each


class Model(NamedTuple):
    """A potential with its parameters: what `fit` returns and `load` reads."""

    potential: Potential
    params: Params


def cast_params(params: Params, dtype: Any) -> Params:
    """``params`` with every floating-point leaf in ``dtype``; integers and flags stay as they are."""

    def cast(leaf: Any) -> Any:
        array = np.asarray(leaf)
        return jnp.asarray(array, dtype) if array.dtype.kind == "f" else jnp.asarray(array)

    return jax.tree.map(cast, params)


class Prediction(NamedTuple):
    """Energies in eV, forces in eV/Å, stress in eV/Å³ (ASE sign; zero where the cell spans no volume)."""

    energy: Float[Array, " n_graphs"]
    forces: Float[Array, "n_atoms 3"]
    stress: Float[Array, "n_graphs 3 3"]
    atomic_energies: Float[Array, " n_atoms"]


@partial(jax.jit, static_argnums=0)
def predict(potential: Potential, params: Params, graph: Graph) -> Prediction:
    """Energy, forces and stress of every structure in ``graph``, from one backward pass over the edge vectors.

    Formulas and references stand in `jaxmlip.graph.derivatives`.

    >>> import ase, jax
    >>> from jaxmlip.graph import batch
    >>> from jaxmlip.potentials.snap import SNAPConfig, snap
    >>> potential = snap(SNAPConfig(species=("Li", "O"), cutoff=4.0, twojmax=2))
    >>> graph = batch(ase.Atoms("LiO", [[0, 0, 0], [0, 0, 1.9]]), potential.config)
    >>> predict(potential, potential.init(jax.random.key(0), graph), graph).forces.shape
    (2, 3)
    """
    vectors = safe_edges(graph, potential.config)
    energies, gradient = energies_and_gradient(potential, params, graph, vectors)
    gradient = jnp.where(graph.mask[:, :, None], gradient, 0)
    of_atoms = virials(vectors, gradient)
    return Prediction(per_graph(graph, energies), forces(graph, gradient), stress(graph, of_atoms), energies)


@partial(jax.jit, static_argnums=0)
def predict_energy(potential: Potential, params: Params, graph: Graph) -> Float[Array, " n_graphs"]:
    """Energies alone, in eV; differentiable with respect to ``graph.positions`` and ``graph.cell``."""
    vectors = safe_edges(graph, potential.config)
    energies = jnp.where(graph.atom_mask, potential.atomic_energies(params, graph, vectors), 0)
    return per_graph(graph, energies)


def linear_energies(features: AtomFn) -> AtomFn:
    """E_i = offsets[species] + features_i · coefficients[species], for any family whose energy is linear."""

    def atomic_energies(params: Params, graph: Graph, vectors: Array) -> Array:
        coefficients = params["coefficients"][graph.species]
        return params["offsets"][graph.species] + jnp.sum(features(params, graph, vectors) * coefficients, axis=1)

    return atomic_energies


def dense_jacobian(invariants: Callable) -> Callable:
    """The Jacobian of ``invariants`` by one backward pass an invariant: for families without a shorter way."""

    def jacobian(params: Params, graph: Graph, density: Array) -> Array:
        value, pullback = jax.vjp(partial(invariants, params, graph), density)
        unit = jnp.eye(value.shape[1], dtype=value.dtype)
        one_each = jnp.broadcast_to(unit[:, None, :], (unit.shape[0], *value.shape))
        return jnp.moveaxis(jax.vmap(lambda cotangent: pullback(cotangent)[0])(one_each), 0, 1)

    return jacobian


def safe_edges(graph: Graph, config: Config) -> Float[Array, "n_atoms max_neighbors 3"]:
    """The edge vectors of a graph that was made for ``config``, as potentials take them: see `safe_vectors`.

    Raises:
        ValueError: it was made for other species or a shorter cutoff.
    """
    check_scope(graph, config)
    return safe_vectors(edge_vectors(graph), graph, config.cutoff)


def safe_vectors(vectors: Array, graph: Graph, cutoff: float) -> Array:
    """Padding gets a harmless vector, so that no norm or division inside a potential makes a NaN gradient."""
    return jnp.where(graph.mask[:, :, None], vectors, jnp.asarray([0.3, 0.2, 0.4], vectors.dtype) * cutoff)


def energies_and_gradient(potential: Potential, params: Params, graph: Graph, vectors: Array) -> tuple[Array, Array]:
    """Energies per atom and ∂E/∂vectors, in blocks of atoms that stay in the processor's cache where that helps."""
    block = CPU_BLOCK if jax.default_backend() == "cpu" else 32768
    if not potential.local or graph.n_atoms <= block:
        return _gradient(potential, params, graph, vectors)
    return map_blocks(partial(_gradient, potential, params), graph, vectors, block)


def map_blocks(function: Callable, graph: Graph, vectors: Array, block: int) -> Any:
    """``function(part of the graph, part of the vectors)`` over blocks of atoms; results stacked along atoms.

    A part has the species, masks and neighbour species of its atoms; its positions and indices are the whole graph's.
    """

    def one(rows: tuple) -> Any:
        species, atom_mask, neighbor_species, mask, block_vectors = rows
        part = graph._replace(species=species, atom_mask=atom_mask, neighbor_species=neighbor_species, mask=mask)
        return function(part, block_vectors)

    per_atom = (graph.species, graph.atom_mask, graph.neighbor_species, graph.mask, vectors)
    return in_blocks(one, per_atom, block)  # rows that fill up the last block repeat a real one: safe vectors


def _gradient(potential: Potential, params: Params, graph: Graph, vectors: Array) -> tuple[Array, Array]:
    def total(v: Array) -> tuple[Array, Array]:
        energies = jnp.where(graph.atom_mask, potential.atomic_energies(params, graph, v), 0)
        return energies.sum(), energies

    (_, energies), gradient = jax.value_and_grad(total, has_aux=True)(vectors)
    return energies, gradient


def _number(species: int | str) -> int:
    if isinstance(species, str):
        if species not in atomic_numbers or species == "X":
            raise ConfigError(unknown_name("element", species, chemical_symbols[1:]).split(" Known:")[0])
        return atomic_numbers[species]
    if not 0 < int(species) < len(chemical_symbols):
        raise ConfigError(f"species: {species} is not an atomic number")
    return int(species)
