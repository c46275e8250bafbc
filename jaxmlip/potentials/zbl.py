"""Short-range repulsion of nuclei (ZBL)."""

import dataclasses
from typing import Any

import ase.units
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmlip.config import ConfigError, Positive
from jaxmlip.graph.batch import Graph
from jaxmlip.potentials.base import Config, Params, Potential, factory
from jaxmlip.potentials.registry import Family

COULOMB = ase.units.Hartree * ase.units.Bohr  # e²/4πε₀ in eV·Å
# Universal screening function and length, as LAMMPS rounds them (documentation of `pair_style zbl`).
_SCREENING = ((0.18175, 3.19980), (0.50986, 0.94229), (0.28022, 0.40290), (0.02817, 0.20162))
SCREENING_LENGTH = 0.46850  # Å
SCREENING_POWER = 0.23


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


@factory
def zbl(config: ZBLConfig) -> Potential:
    """Universal screened repulsion of nuclei (Ziegler, Biersack, Littmark), smoothly zero from the cutoff on.

    E_i = ½ Σ_j [V(r_ij) + S(r_ij)],  V(r) = (e²/4πε₀) Z_i Z_j φ(r/a) / r,  a = 0.46850 Å / (Z_i^0.23 + Z_j^0.23),
    φ(x) = 0.18175 e^(−3.19980 x) + 0.50986 e^(−0.94229 x) + 0.28022 e^(−0.40290 x) + 0.02817 e^(−0.20162 x),
    S(r) = C for r < inner, C + A/3 (r − inner)³ + B/4 (r − inner)⁴ up to the cutoff, with A, B, C such that
    energy, force and curvature vanish at the cutoff. Nothing is fitted: params are ``{"offsets": zeros}``.

    >>> from jaxmlip.potentials import Model
    >>> potential = zbl(ZBLConfig(species=("Li", "O"), cutoff=2.0))
    >>> model = Model(potential, potential.init(None, None))
    >>> bool(model(ase.Atoms("LiO", [[0, 0, 0], [0, 0, 0.5]])).energy[0] > 50)
    True

    References:
        Ziegler, Biersack and Littmark, The Stopping and Range of Ions in Solids, Pergamon 1985, chapter 2.
        Numbers and switch as documented for LAMMPS `pair_style zbl` and `pair_style lj/gromacs`.
    """
    Z = np.array(config.species, float)
    length = SCREENING_LENGTH / (Z[:, None] ** SCREENING_POWER + Z[None, :] ** SCREENING_POWER)
    charge = COULOMB * Z[:, None] * Z[None, :]
    A, B, C = switch(charge, length, config.cutoff, config.cutoff - config.start)
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


def screening(x: Any) -> Any:
    """φ(x); also for NumPy arrays."""
    exp = np.exp if isinstance(x, np.ndarray) else jnp.exp
    return sum(c * exp(-d * x) for c, d in _SCREENING)


def switch(
    charge: Float[np.ndarray, "*pairs"], length: Float[np.ndarray, "*pairs"], r: float, width: float
) -> tuple[Float[np.ndarray, "*pairs"], ...]:
    """A, B, C of a switch of ``width`` that ends at ``r``: S = −V, S′ = −V′, S″ = −V″ there; all in eV and Å."""
    c, d = np.array(_SCREENING).T[:, :, None, None]
    k = d / length  # of each exponential, 1/Å
    term = charge / r * c * np.exp(-k * r)
    V, dV = term.sum(axis=0), -(term * (k + 1 / r)).sum(axis=0)
    d2V = (term * (k**2 + 2 * k / r + 2 / r**2)).sum(axis=0)
    A = (-3 * dV + width * d2V) / width**2
    B = (2 * dV - width * d2V) / width**3
    return A, B, -V + width / 2 * dV - width**2 / 12 * d2V


ZBL = Family("zbl", ZBLConfig, zbl, label="ZBL", method=None, example={"species": ("Li", "Mn", "O"), "cutoff": 3.2})
