"""The contract: a potential gives energies of atoms (`Potential`); their gradient by neighbours' vectors is taken here.

Conventions: eV, Å; F_i = −∂E/∂r_i; σ = (1/V) ∂E/∂ε, positive under tension (ASE's sign); all periodic images count.
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import lru_cache, partial, wraps
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from jaxtyping import Array, Float, Int

from jaxmlip.config import ConfigError, Positive, Range, Settings, unknown_name
from jaxmlip.graph.batch import Graph, check_scope, edge_vectors
from jaxmlip.graph.messages import even_block, in_blocks
from jaxmlip.programs import program

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
    cutoffs: ClassVar[tuple[str, ...]] = ("cutoff",)
    """Settings in Å beyond which a neighbour does not count."""

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

    @property
    def n_hops(self) -> int:
        """So many cutoffs away an atom still changes the energy of another: the layers of message passing, else one."""
        return 1


class Products(NamedTuple):
    """Further features f B_k B_l of invariants B: which k and l, and the factors f."""

    first: Int[np.ndarray, " n_products"]
    second: Int[np.ndarray, " n_products"]
    factors: Float[np.ndarray, " n_products"]


class Inner(NamedTuple):
    """Parameters p = ``params[name]`` [n_species, …] of a density that is linear in them, by the central species.

    ``slopes(params, graph, vectors, w)`` with w [n_atoms, n_basis] gives derivatives by the p of an atom's own species:
    of its density [n_atoms, n_p, n_basis], and of w · the density of each pair [n_atoms, max_neighbors, n_p].
    """

    name: str
    slopes: Callable


class Linear(NamedTuple):
    """Stages of an energy that is linear: neighbours → density on a basis → invariants B → (products) → coefficients.

    ``params["coefficients"]`` is [n_species, n_features], or [n_features] where all species share them. The design
    matrix needs derivatives of every feature; from these stages they cost one small matrix product a neighbour instead
    of one backward pass a feature. All take ``(params, graph, …)``.
    """

    density: AtomFn  # per pair: [n_atoms, max_neighbors, n_basis]; a row depends on its own vector only; 0 if masked
    invariants: Callable  # the density summed over neighbours [n_atoms, n_basis] -> [n_atoms, n_invariants]
    jacobian: Callable | None = None  # the same -> [n_atoms, n_invariants, n_basis]; None: one backward pass each
    products: Callable[[int], Products] | None = None  # n_invariants -> features that follow the invariants
    inner: Inner | None = None
    roughness: Callable[[], np.ndarray] | None = None  # -> [n_features] that a ridge grows with; None: alike for all
    gradient: Callable | None = None  # (…, vectors) -> B and ∂B/∂r [n_atoms, max_neighbors, 3, n_invariants]


class Kernel(NamedTuple):
    """Stages of a sparse Gaussian process: E = offsets + Σ_m α_m k(·, s_m), summed over atoms, pairs, ….

    ``params["alpha"]`` and ``params["points"]`` are dicts of arrays [n_kinds, n_sparse] in 1/eV and [n_kinds, n_sparse,
    …]; a fit chooses n_sparse. Columns run over kinds and points of one name, then of the next; zeros are padding.
    """

    name: str  # of the points that are chosen from the descriptors of atoms, a kind a species; stands first
    descriptor: AtomFn  # [n_atoms, n_descriptors]
    further_points: Callable  # (batches, n) -> the points of other names, {} if there are none
    covariances: Callable  # points -> for each kind: which points are real [n_sparse], and their K_mm
    rows: Callable  # (points, graph, with_stress) -> energies, forces, virials by α; see `gap_kernels.KernelRows`
    prior: Callable  # (points, graph, vectors) -> covariances of atoms [n_atoms, n_atoms], and with columns
    regressor: Callable | None = None  # as `Regressor.energies`, where there are no further points


class Regressor(NamedTuple):
    """Stages of a network: descriptors of atoms, and their energies."""

    descriptor: AtomFn  # [n_atoms, n_descriptors]
    energies: Callable  # (params, species [n_atoms], descriptors) -> [n_atoms] eV, offsets included
    learned: bool = False  # the descriptor depends on what is trained: it cannot be computed once for all epochs
    scale: str = ""  # name of params [n_species] in eV that the learned energies are multiplied by: the size of forces


class Potential(NamedTuple):
    """One family with its settings: pure functions of parameters and a graph. A factory (`factory`) makes it.

    ====================  ==================================================================  ====================
    name                  takes → gives                                                       unit
    ====================  ==================================================================  ====================
    ``config``            frozen, hashable: ``species``, ``cutoff``, and the family's own     Å
    ``init``              key or None, graph or None → ``params``                             ``offsets``: eV
    ``atomic_energies``   params, graph, vectors [n_atoms, max_neighbors, 3] → [n_atoms]      Å → eV
    ``stages``            `Linear`, `Kernel` or `Regressor`: how a direct or staged fit       as said there
                          sees the energy; None: by its derivatives only
    ``local``             an energy depends on its own neighbours' vectors only, so atoms     —
                          may be evaluated in blocks
    ``fixed``             names of params that training leaves alone                          —
    ``block``             atoms that a CPU evaluates at once                                  —
    ====================  ==================================================================  ====================

    ``params`` is a dict of arrays, or of dicts of arrays, with ``offsets`` [n_species]: the energy of an atom alone.

    A family may not write a force, a stress, a neighbour list, a loss, a `jax.jit` or a dtype: these are derived, and
    the dtype follows the input. It may not read positions (only vectors), nor take a shape from a value. Masked
    neighbours come with a harmless vector and must contribute exactly zero, in second derivatives too: zero them
    outside of a root or a division (``jnp.where``), not inside. Energies must go to zero smoothly at the cutoff.
    """

    config: Config
    init: Callable[[Array | None, Graph | None], Params]
    atomic_energies: AtomFn
    stages: Linear | Kernel | Regressor | None = None
    local: bool = True
    fixed: tuple[str, ...] = ()
    block: int = CPU_BLOCK

    def __reduce__(self) -> tuple:
        """Pickled as its settings, from which it is built again."""
        from jaxmlip.potentials.registry import potential_of

        return potential_of, (self.config,)


def factory(build: Callable[[Any], Potential]) -> Callable[[Any], Potential]:
    """A function from settings to a potential that gives the same object for equal settings, so that JAX compiles once.

    Settings that hold numbers which JAX traces (``settings_as_params``) are built anew each time.

    >>> @factory
    ... def build(config):
    ...     return Potential(config, lambda key, graph: {}, lambda params, graph, vectors: vectors[:, 0, 0])
    >>> build(Config(("Mo",), 4.0)) is build(Config(("Mo",), 4.0))
    True
    """
    cached = lru_cache(build)

    @wraps(build)
    def built(config: Any) -> Potential:
        traced = any(isinstance(value, jax.Array) for value in vars(config).values())
        return build(config) if traced else cached(config)

    return built


def descriptor(potential: Potential) -> AtomFn:
    """The function ``(params, graph, vectors) -> [n_atoms, n_descriptors]``: invariants, descriptors or last features.

    Raises:
        ValueError: the family has no stages.
    """
    stages = potential.stages
    if stages is None:
        raise ValueError(f"{type(potential.config).__name__} has no descriptors: its family gives no stages")
    if not isinstance(stages, Linear):
        return stages.descriptor
    return lambda params, graph, vectors: stages.invariants(
        params, graph, stages.density(params, graph, vectors).sum(axis=1)
    )


def regressor(potential: Potential) -> Callable | None:
    """Energies of atoms from descriptors that training leaves alone, ``(params, species, descriptors)``; or None."""
    stages = potential.stages
    if isinstance(stages, Kernel):
        return stages.regressor
    return stages.energies if isinstance(stages, Regressor) and not stages.learned else None


def cast_params(params: Params, dtype: Any) -> Params:
    """``params`` with every floating-point leaf in ``dtype``; integers and flags stay as they are."""

    def cast(leaf: Any) -> Any:
        array = np.asarray(leaf)
        return array.astype(dtype) if array.dtype.kind == "f" else array

    return jax.device_put(jax.tree.map(cast, params))


def initial(potential: Potential, seed: int, graph: Graph | None) -> Params:
    """`Potential.init` for a seed, as one program where the family allows it."""
    try:
        return _initial(potential, np.uint32(seed), graph)
    except jax.errors.JAXTypeError:  # it reads values of the graph
        return potential.init(jax.random.key(seed), graph)


@program(static_argnums=0, weight=0.0)
def _initial(potential: Potential, seed: Array, graph: Graph | None) -> Params:
    return potential.init(jax.random.key(seed), graph)


def safe_edges(graph: Graph, config: Config) -> Float[Array, "n_atoms max_neighbors 3"]:
    """The edge vectors of a graph that was made for ``config``, as potentials take them: see `safe_vectors`.

    Raises:
        ValueError: it was made for other species or a shorter cutoff.
    """
    check_scope(graph, config)
    return safe_vectors(edge_vectors(graph), graph, config.cutoff)


def safe_vectors(
    vectors: Float[Array, "n_atoms max_neighbors 3"], graph: Graph, cutoff: float
) -> Float[Array, "n_atoms max_neighbors 3"]:
    """Padding gets a harmless vector, so that no norm or division inside a potential makes a NaN gradient."""
    return jnp.where(graph.mask[:, :, None], vectors, jnp.asarray([0.3, 0.2, 0.4], vectors.dtype) * cutoff)


def energies_and_gradient(
    potential: Potential, params: Params, graph: Graph, vectors: Float[Array, "n_atoms max_neighbors 3"]
) -> tuple[Float[Array, " n_atoms"], Float[Array, "n_atoms max_neighbors 3"]]:
    """Energies per atom and ∂E/∂vectors, in blocks of atoms that stay in the processor's cache where that helps."""
    if not potential.local:
        return _gradient(potential, params, graph, vectors)
    block = block_size(graph.n_atoms, potential.block, 32768)
    return map_blocks(partial(_gradient, potential, params), graph, vectors, block)


def block_size(n_atoms: int, on_cpu: int, elsewhere: int) -> int:
    """How many of ``n_atoms`` to evaluate at once, so that few are filled up: whole registers of a CPU."""
    return even_block(n_atoms, on_cpu if jax.default_backend() == "cpu" else elsewhere, step=8)


def map_blocks(function: Callable, graph: Graph, vectors: Float[Array, "n_atoms max_neighbors 3"], block: int) -> Any:
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
