"""Atomic cluster expansion (ACE), exactly as pacemaker (python-ace, LAMMPS ``pair_style pace``) evaluates it.

    E_i = ε_{z_i} + S(ρ_core) Σ_p w_p F(ρ_p; m_p) + ρ_core,        ρ_p = Σ_f c_{z_i p f} B_f(i),
    B_f = Re Σ_m C_f(m1 … mr) A_{1 m1} … A_{r mr},                 A_{z n l m}(i) = Σ_{j of z} R_nl(r_ij) Y_lm(r̂_ij),

R_nl = Σ_k c_nlk g_k of each two elements, ρ_core = Σ_j u(r_ij); functions of one factor take g_k itself. By default
there is one density, which is the energy (linear ACE), and no core repulsion.

References:
    Drautz, Phys. Rev. B 99, 014104 (2019): basis (equations 20-27, 53), embedding.
    Lysogorskiy et al., npj Comput. Mater. 7, 97 (2021): pacemaker.
    Bochkarev et al., Phys. Rev. Materials 6, 013804 (2022): fitting, order of the functions.
"""

import dataclasses
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxmlip.config import ConfigError, Count, NotNegative, Positive, Range, Whole
from jaxmlip.descriptors.alchemical import alchemical_embedding
from jaxmlip.descriptors.cluster_functions import Function, Sizes, functions
from jaxmlip.descriptors.contraction import scalar_moments, scalar_slopes, slopes
from jaxmlip.graph.batch import Graph
from jaxmlip.potentials.ace_definition import Definition, from_text
from jaxmlip.potentials.ace_embedding import Centre, Embedding, embedded
from jaxmlip.potentials.ace_evaluation import (
    basic_moments,
    identity,
    make_tables,
    needed_sums,
    neighbor_terms,
    pair_terms,
    with_core,
)
from jaxmlip.potentials.ace_radial import Basis, Bond, Inner
from jaxmlip.potentials.base import Config, Linear, Params, Potential, factory
from jaxmlip.potentials.model import Model
from jaxmlip.potentials.presets import presets_of
from jaxmlip.potentials.registry import Family, Format

MANY_CHANNELS = 3  # elements that keep a channel each unless told otherwise


@dataclasses.dataclass(frozen=True)
class ACEConfig(Config):
    """pacemaker's settings, the same for all elements; a file's, which may differ by element, are in ``definition``.

    >>> ACEConfig(species=("Mo",)).n_features, ACEConfig(species=("Mo",), n_max=(8, 4), l_max=(0, 3)).n_features
    (122, 48)
    """

    cutoff: float = 5.0
    """Å; rcut, where all radial functions end."""
    n_max: tuple[Count, ...] = (8, 4, 3)
    """nradmax_by_orders: radial functions in products of one, two, three … factors; as many numbers as ranks."""
    l_max: tuple[Whole, ...] = (0, 3, 2)
    """lmax_by_orders: highest angular momentum in products of one (0), two, three … factors."""
    degree: Whole = 0
    """Keep functions up to this sum of all n and l (n from 1); 0: all."""
    n_channels: Count | None = None
    """Channels that elements of neighbours are mixed into by chemical similarity; None: one an element, at most 3."""
    radial_basis: Basis = "SBessel"
    """radbase: spherical Bessel functions, or Chebyshev polynomials of an exponential, a power or the distance."""
    decay: Positive = 5.25
    """radparameters: λ of the Chebyshev bases."""
    dcut: NotNegative = 0.01
    """Å; width in which ChebExpCos, and the core repulsion of "zbl", fade out before the cutoff."""
    embedding: Embedding = "FinnisSinclair"
    """npoti: the function F of each density."""
    parameters: tuple[float, ...] = (1.0, 1.0)
    """w_1, m_1, w_2, m_2, …: weight and power of each density; 1, 1 is linear ACE, 1, 1, 1, 0.5 pacemaker's default."""
    inner_cutoff: Inner = "distance"
    """inner_cutoff_type: how the core is told: by a distance, by its repulsion (density), or with ZBL within."""
    r_in: NotNegative = 0.0
    """Å; where the core ends."""
    delta_in: NotNegative = 0.0
    """Å; width in which it fades out before r_in."""
    core: tuple[float, float] = (0.0, 0.0)
    """core-repulsion: prefactor and λ (1/Å²); for "zbl" a factor (1: as it is) and nothing."""
    spline_step: NotNegative = 0.0
    """Å; deltaSplineBins: step of the splines that replace radial functions, as in the original; 0: none."""
    definition: str | None = None
    """Bonds, embeddings and functions of a file as JSON text, instead of all of the above but the splines."""
    tunable: ClassVar[Mapping[str, Range]] = {"cutoff": Range(4.0, 7.0), "degree": Range(6, 16, step=1)}

    def __post_init__(self) -> None:
        """Refuses what has no meaning."""
        super().__post_init__()
        if len(self.n_max) != len(self.l_max) or not self.n_max or self.l_max[0]:
            raise ConfigError(
                f"n_max and l_max need a number for each rank, l_max starts with 0: got {self.n_max} and {self.l_max}"
            )
        if len(self.n_max) > 6:
            raise ConfigError(f"ranks go up to 6, n_max has {len(self.n_max)}")
        if len(self.parameters) % 2 or not self.parameters or min(self.parameters[1::2]) <= 0:
            raise ConfigError(f"parameters are w_1, m_1, w_2, m_2, … with m > 0, got {self.parameters}")
        if self.n_channels is not None and self.n_channels > len(self.species):
            raise ConfigError(
                f"n_channels must be 1 … {len(self.species)}, the number of species: got {self.n_channels}"
            )
        if self.delta_in > self.r_in or self.r_in > self.cutoff:
            raise ConfigError(f"delta_in ≤ r_in ≤ cutoff {self.cutoff} Å, got {self.delta_in} and {self.r_in}")

    @property
    def parts(self) -> Definition:
        """Bonds, embeddings and functions by element."""
        return _parts(self) if self.definition is None else from_text(self.definition)

    @property
    def mixing(self) -> tuple[tuple[float, ...], ...] | None:
        """Weight of each species in each channel; None: a channel a species."""
        n_channels = min(len(self.species), MANY_CHANNELS) if self.n_channels is None else self.n_channels
        if self.definition is not None or n_channels == len(self.species):
            return None
        return alchemical_embedding(self.species, n_channels)

    @property
    def n_features(self) -> int:
        """Functions B of an atom."""
        return len(self.parts.functions)


@lru_cache(maxsize=64)
def _functions(n_channels: int, sizes: Sizes) -> tuple[Function, ...]:
    return tuple(functions(n_channels, sizes))


def _parts(config: ACEConfig) -> Definition:
    n_species = len(config.species)
    n_channels = n_species if config.mixing is None else len(config.mixing[0])
    found = _functions(n_channels, Sizes(config.n_max, config.l_max, config.degree))
    n_basis, rest = config.n_max[0], (max(config.n_max[1:], default=1), max(config.l_max))
    inner = (config.r_in, config.delta_in)
    bond = Bond(
        config.radial_basis,
        config.decay,
        config.cutoff,
        config.dcut,
        max(n_basis, rest[0]),
        *rest,
        *config.core,
        *inner,
    )
    n_pairs, every = n_species * (n_species + 1) // 2, tuple(range(len(found)))
    centre = Centre(config.embedding, config.parameters)
    return Definition((bond,) * n_pairs, (centre,) * n_species, found, (every,) * n_species, config.inner_cutoff)


@factory
def ace(config: ACEConfig) -> Potential:
    """The potential of ``config``.

    Params: ``offsets [n_species]`` eV, ``coefficients [n_species, n_features]`` eV (of several densities, or with a
    core: ``[n_species, n_densities, n_features]``), and of a file ``radial [n_pairs, n_max, l_max + 1, n_basis]``, the
    c_nlk of species i ≤ j; without them R_nl = g_n.

    >>> ace(ACEConfig(species=("Li", "O"), n_max=(6, 3), l_max=(0, 2))).config.n_features
    75
    """
    numbers, radial = tuple(map(int, config.species)), config.definition is not None
    tables = make_tables(config.parts, numbers, config.mixing, config.spline_step, radial=radial)
    parts, n_species, n_features = tables.parts, len(config.species), config.n_features
    lists = tables.cluster.contraction
    shape = (n_features,) if parts.is_linear else (parts.n_densities, n_features)

    def init(key: Array | None, graph: Graph | None = None) -> Params:
        start = jnp.zeros((n_species, *shape))
        if len(shape) > 1 and parts.n_densities > 1:  # densities that are not all alike
            start = 1e-3 * jax.random.normal(jax.random.key(0) if key is None else key, start.shape)
        params = {"offsets": jnp.zeros(n_species), "coefficients": start}
        return {**params, "radial": identity(parts)} if radial else params

    def atomic_energies(params: Params, graph: Graph, vectors: Array) -> Array:
        terms = pair_terms(tables, graph, vectors)
        B = scalar_moments(basic_moments(tables, params, graph, needed_sums(tables, terms)), lists)
        c, offsets = params["coefficients"][graph.species], params["offsets"][graph.species]
        if parts.is_linear:
            return offsets + jnp.sum(c * B.T, axis=1)
        energy = embedded(jnp.einsum("apf,fa->ap", c, B), graph.species, parts.centres)
        return offsets + with_core(tables, graph, terms, energy)

    def density(params: Params, graph: Graph, vectors: Array) -> Array:
        return neighbor_terms(tables, pair_terms(tables, graph, vectors))

    def invariants(params: Params, graph: Graph, total: Array) -> Array:
        return scalar_moments(basic_moments(tables, params, graph, total.T), lists).T

    steps = lru_cache(lambda: slopes(lists))  # made when they are needed

    def jacobian(params: Params, graph: Graph, total: Array) -> Array:
        return scalar_slopes(lists, steps(), total)

    def roughness() -> np.ndarray:
        return np.array(
            [sum((n + 1) ** 2 + degree**2 for n, degree in zip(f.ns, f.ls)) for f in parts.functions], float
        )

    stages = Linear(density, invariants, None if radial else jacobian, roughness=roughness)
    return Potential(config, init, atomic_energies, stages if parts.is_linear else None)


def widened(model: Model, potential: Potential) -> Model:
    """A model as the start of a larger potential of ACE: what it has it keeps, further functions start at 0.

    Ladder fitting: functions are added by degree, and each fit starts from the last one.

    >>> rungs = [ace(ACEConfig(species=("Mo",), degree=degree)) for degree in (3, 6)]
    >>> model = Model(rungs[0], rungs[0].init(None, None))
    >>> [np.shape(one.params["coefficients"]) for one in (model, widened(model, rungs[1]))]
    [(1, 6), (1, 28)]

    Raises:
        ValueError: other elements or densities, or a function that the larger potential does not have.
    """
    configs: list[Any] = [model.potential.config, potential.config]
    small, large = (config.parts for config in configs)
    places = {function: k for k, function in enumerate(large.functions)}
    same = configs[0].species == configs[1].species and small.centres == large.centres
    if not same or not set(small.functions) <= set(places):
        raise ValueError("the larger potential must have the elements, the densities and all functions of the smaller")
    params = potential.init(jax.random.key(0), None)
    coefficients = np.zeros(params["coefficients"].shape)
    coefficients[..., [places[f] for f in small.functions]] = model.params["coefficients"]
    return Model(potential, {**params, "offsets": model.params["offsets"], "coefficients": coefficients})


_FORMAT = Format("jaxmlip.formats.ace:read_ace", "jaxmlip.formats.ace_write:write_ace")
ACE = Family(
    "ace",
    ACEConfig,
    ace,
    label="ACE",
    color="#882255",
    method="linear",
    presets=presets_of("ace"),
    example={"species": ("Li", "Mn", "O"), "cutoff": 3.2, "n_max": (2, 2), "l_max": (0, 1), "n_channels": 2},
    formats={".yace": _FORMAT, ".yaml": _FORMAT._replace(accepts="jaxmlip.formats.ace:is_ace")},
)
