"""What is added to a potential: energies of single atoms, short-range nuclear repulsion (ZBL), another potential."""

import dataclasses
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import ase
import ase.units
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmlip.config import ConfigError, Positive, from_mapping, to_mapping, unknown_name
from jaxmlip.data.labels import labels
from jaxmlip.graph.batch import Graph, species_index
from jaxmlip.potentials.base import Config, Model, Params, Potential

STUDY_ENERGIES = {
    "Li": -0.3, "O": -1.7, "Mn": -4.6, "Ni": -3.0, "Sc": -2.1, "Ti": -2.4,
    "V": -2.7, "Cr": -4.5, "Fe": -2.2, "Co": -1.1, "Cu": -0.2,
}  # fmt: skip
"""Reference atomic energies of the study in eV (Choyal et al., J. Chem. Theory Comput. 2024, table S2)."""

_COULOMB = ase.units.Hartree * ase.units.Bohr  # e²/4πε₀ in eV·Å
# Universal screening function and length, as LAMMPS rounds them (documentation of `pair_style zbl`).
_SCREENING = ((0.18175, 3.19980), (0.50986, 0.94229), (0.28022, 0.40290), (0.02817, 0.20162))
SCREENING_LENGTH = 0.46850  # Å
SCREENING_POWER = 0.23


def fit_offsets(atoms: Sequence[ase.Atoms], species: Sequence[int | str]) -> Float[np.ndarray, " n_species"]:
    """Energy per atom of each species in eV: least squares of total energies on the composition.

    min_ε Σ_k (E_k − Σ_s n_ks ε_s)²; of all minima (compositions that do not tell species apart, species that
    do not occur) the one with the smallest Σ ε_s². Structures without an energy are left out.

    >>> from jaxmlip.data.labels import Labels, attach
    >>> cells = [ase.Atoms("LiO"), ase.Atoms("LiO2")]
    >>> for cell, energy in zip(cells, (-5.0, -9.0)):
    ...     attach(cell, Labels(energy, None, None))
    >>> fit_offsets(cells, ("Li", "O")).round(6).tolist()
    [-1.0, -4.0]

    Raises:
        ValueError: no structure has an energy, an energy is not finite, or an element is not in ``species``.
    """
    numbers = [int(z) for z in Config(species=tuple(species), cutoff=1.0).species]
    known = [(k, frame, labels(frame).energy) for k, frame in enumerate(atoms)]
    known = [(k, frame, energy) for k, frame, energy in known if energy is not None]
    if not known:
        raise ValueError(
            f"none of the {len(atoms)} structures has an energy, so no offsets can be fitted: read data with labels "
            "(jaxmlip.read(path, energy_key=...)), or give the offsets"
        )
    energies = np.array([energy for _, _, energy in known])
    if not np.isfinite(energies).all():
        first = known[int(np.argmin(np.isfinite(energies)))][0]
        raise ValueError(
            f"the energy of structure {first} is not a finite number: remove it (`jaxmlip audit` finds such)"
        )
    counts = [np.bincount(species_index(frame.numbers, numbers), minlength=len(numbers)) for _, frame, _ in known]
    return np.linalg.lstsq(np.array(counts, float), energies, rcond=None)[0]


def study_offsets(species: Sequence[int | str]) -> Float[np.ndarray, " n_species"]:
    """`STUDY_ENERGIES` in the order of ``species``, in eV.

    >>> study_offsets(("O", "Li")).tolist()
    [-1.7, -0.3]

    Raises:
        ValueError: the study has no energy for an element.
    """
    symbols = Config(species=tuple(species), cutoff=1.0).symbols
    for symbol in symbols:
        if symbol not in STUDY_ENERGIES:
            raise ValueError(unknown_name("reference atomic energy", symbol, STUDY_ENERGIES))
    return np.array([STUDY_ENERGIES[symbol] for symbol in symbols])


@dataclasses.dataclass(frozen=True)
class ZBLConfig(Config):
    """``cutoff``: where the repulsion has ended, LAMMPS's ``outer``.

    >>> ZBLConfig(species=("Li", "O"), cutoff=2.0).start
    1.5
    """

    inner: Positive | None = None
    """Å; where the switch to zero begins. None: three quarters of the cutoff, as in LAMMPS's example."""

    def __post_init__(self) -> None:
        """Refuses a switch that ends before it begins."""
        super().__post_init__()
        if self.start >= self.cutoff:
            raise ConfigError(f"inner must lie between 0 and the cutoff {self.cutoff} Å, got {self.inner}")

    @property
    def start(self) -> float:
        """Where the switch begins, in Å."""
        return 0.75 * self.cutoff if self.inner is None else self.inner


@lru_cache
def zbl(config: ZBLConfig) -> Potential:
    """Universal screened repulsion of nuclei (Ziegler, Biersack, Littmark), smoothly zero from the cutoff on.

    E_i = ½ Σ_j [V(r_ij) + S(r_ij)],  V(r) = (e²/4πε₀) Z_i Z_j φ(r/a) / r,  a = 0.46850 Å / (Z_i^0.23 + Z_j^0.23),
    φ(x) = 0.18175 e^(−3.19980 x) + 0.50986 e^(−0.94229 x) + 0.28022 e^(−0.40290 x) + 0.02817 e^(−0.20162 x),
    S(r) = C for r < inner, C + A/3 (r − inner)³ + B/4 (r − inner)⁴ up to the cutoff, with A, B, C such that
    energy, force and curvature vanish at the cutoff. Nothing is fitted: params are ``{"offsets": zeros}``.

    >>> from jaxmlip.graph import batch
    >>> from jaxmlip.potentials.base import predict
    >>> potential = zbl(ZBLConfig(species=("Li", "O"), cutoff=2.0))
    >>> pair = batch(ase.Atoms("LiO", [[0, 0, 0], [0, 0, 0.5]]), potential.config)
    >>> bool(predict(potential, potential.init(None, None), pair).energy[0] > 50)
    True

    References:
        Ziegler, Biersack and Littmark, The Stopping and Range of Ions in Solids, Pergamon 1985, chapter 2.
        Numbers and switch as documented for LAMMPS `pair_style zbl` and `pair_style lj/gromacs`.
    """
    Z = np.array(config.species, float)
    length = SCREENING_LENGTH / (Z[:, None] ** SCREENING_POWER + Z[None, :] ** SCREENING_POWER)
    charge = _COULOMB * Z[:, None] * Z[None, :]
    A, B, C = _switch(charge, length, config)
    table = np.stack([charge, length, A / 3, B / 4, C], axis=-1)  # [n_species, n_species, 5]

    def init(key: Array | None, graph: Graph | None = None) -> Params:
        return {"offsets": jnp.zeros(len(config.species))}

    def atomic_energies(params: Params, graph: Graph, vectors: Array) -> Array:
        constants = jnp.asarray(table, vectors.dtype)[graph.species[:, None], graph.neighbor_species]
        charge, length, cubic, quartic, constant = jnp.moveaxis(constants, -1, 0)
        r = jnp.sqrt(jnp.sum(vectors**2, axis=-1))
        t = jnp.maximum(r - config.start, 0)
        energy = charge / r * screening(r / length) + constant + cubic * t**3 + quartic * t**4
        inside = graph.mask & (r < config.cutoff)
        return params["offsets"][graph.species] + jnp.sum(jnp.where(inside, energy, 0), axis=1) / 2

    return Potential(config, init, atomic_energies)


def screening(x: Array) -> Array:
    """φ(x); also for NumPy arrays."""
    exp = np.exp if isinstance(x, np.ndarray) else jnp.exp
    return sum(c * exp(-d * x) for c, d in _SCREENING)  # type: ignore[return-value]


def _switch(charge: np.ndarray, length: np.ndarray, config: ZBLConfig) -> tuple[np.ndarray, ...]:
    """A, B, C of the switch from V, V′ and V″ at the cutoff: S = −V, S′ = −V′, S″ = −V″ there."""
    r, width = config.cutoff, config.cutoff - config.start
    c, d = np.array(_SCREENING).T[:, :, None, None]
    k = d / length  # of each exponential, 1/Å
    term = charge / r * c * np.exp(-k * r)
    V, dV = term.sum(axis=0), -(term * (k + 1 / r)).sum(axis=0)
    d2V = (term * (k**2 + 2 * k / r + 2 / r**2)).sum(axis=0)
    A = (-3 * dV + width * d2V) / width**2
    B = (2 * dV - width * d2V) / width**3
    return A, B, -V + width / 2 * dV - width**2 / 12 * d2V


@dataclasses.dataclass(frozen=True)
class SumConfig(Config):
    """Two potentials for the same species; the sum is a function of this alone (see `sum_of`)."""

    first: Config
    """Of the first potential."""
    second: Config
    """Of the second one."""


@lru_cache
def add(potential: Potential, other: Potential) -> Potential:
    """The sum of two potentials as one: E_i = offsets + E_i(first) + E_i(second).

    Params: ``{"offsets": [n_species], "first": ..., "second": ...}``, the inner ones without offsets of their own;
    `add_models` makes them from two models. A linear potential plus a fixed repulsion: fit the linear one to the
    labels minus the prediction of the fixed one (that keeps its ``features``), then `add_models`.

    >>> from jaxmlip.potentials.snap import SNAPConfig, snap
    >>> potential = snap(SNAPConfig(species=("Li", "O"), cutoff=4.0, twojmax=2))
    >>> add(potential, zbl(ZBLConfig(species=("Li", "O"), cutoff=1.5))).config.cutoff
    4.0

    Raises:
        ConfigError: the species differ, or stand in another order.
    """
    first, second = potential.config, other.config
    if first.species != second.species:
        raise ConfigError(
            f"a sum needs the same species in the same order: got {first.symbols} and {second.symbols}; build the "
            "second potential for the species of the first"
        )
    config = SumConfig(first.species, max(first.cutoff, second.cutoff), first, second)

    def init(key: Array | None, graph: Graph | None = None) -> Params:
        return join_params(potential.init(key, graph), other.init(key, graph))

    def atomic_energies(params: Params, graph: Graph, vectors: Array) -> Array:
        zero = jnp.zeros_like(params["offsets"])
        parts = [
            part.atomic_energies({**params[name], "offsets": zero}, graph, vectors)
            for name, part in (("first", potential), ("second", other))
        ]
        return params["offsets"][graph.species] + parts[0] + parts[1]

    return Potential(config, init, atomic_energies, local=potential.local and other.local)


def add_models(model: Model, other: Model) -> Model:
    """The sum of two models; see `add`. Their offsets add up."""
    return Model(add(model.potential, other.potential), join_params(model.params, other.params))


def join_params(first: Params, second: Params) -> Params:
    """Params of `add` from the params of its two parts."""
    inner = [{name: value for name, value in params.items() if name != "offsets"} for params in (first, second)]
    return {"offsets": first["offsets"] + second["offsets"], "first": inner[0], "second": inner[1]}


def sum_of(config: SumConfig) -> Potential:
    """The potential of ``config``, built from the configurations of its parts: what loading a file needs."""
    return add(potential_of(config.first), potential_of(config.second))


def sum_to_mapping(config: SumConfig) -> dict[str, Any]:
    """``config`` as plain dicts for JSON: ``{"first": {"family": "snap", ...}, "second": {"family": "zbl", ...}}``.

    >>> parts = [ZBLConfig(species=("Li",), cutoff=c) for c in (1.0, 2.0)]
    >>> config = add(zbl(parts[0]), zbl(parts[1])).config
    >>> sum_from_mapping(sum_to_mapping(config)) == config
    True
    """
    return {name: config_to_mapping(getattr(config, name)) for name in ("first", "second")}


def sum_from_mapping(mapping: dict[str, Any]) -> SumConfig:
    """The inverse of `sum_to_mapping`.

    Raises:
        ConfigError: an unknown family or setting.
    """
    first, second = (config_from_mapping(mapping[name]) for name in ("first", "second"))
    return SumConfig(first.species, max(first.cutoff, second.cutoff), first, second)


def config_to_mapping(config: Config) -> dict[str, Any]:
    """Family and settings of any potential, sums included, as plain values for JSON."""
    if isinstance(config, SumConfig):
        return {"family": "sum", **sum_to_mapping(config)}
    return {"family": next(n for n, (kind, _) in _families().items() if kind is type(config)), **to_mapping(config)}


def config_from_mapping(mapping: dict[str, Any]) -> Config:
    """The inverse of `config_to_mapping`."""
    settings = dict(mapping)
    family = settings.pop("family", None)
    if family == "sum":
        return sum_from_mapping(settings)
    families = _families()
    if family not in families:
        raise ConfigError(unknown_name("family", str(family), families))
    return from_mapping(families[family][0], settings, where=family)


def potential_of(config: Config) -> Potential:
    """The potential of any configuration, sums included."""
    return sum_of(config) if isinstance(config, SumConfig) else factory_of(config)(config)


def factory_of(config: Config) -> Any:
    """The function that builds potentials of the family of ``config``, which is no sum."""
    for kind, build in _families().values():
        if kind is type(config):
            return build
    raise ConfigError(f"{type(config).__name__} belongs to no family: {', '.join(_families())} can be built")


def _families() -> dict[str, tuple[type[Config], Any]]:
    """The trainable families and the fixed one; imported here because the table of families imports this package."""
    from jaxmlip.potentials import FAMILIES

    return {**{name: (family.config, family.build) for name, family in FAMILIES.items()}, "zbl": (ZBLConfig, zbl)}
