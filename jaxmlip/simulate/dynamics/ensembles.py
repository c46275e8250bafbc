"""Ensembles as pairs ``(init, apply)`` of jax-md, built for positions that carry what an evaluation gives.

Time is measured in steps: jax-md rounds its time step to single precision, and 1 is exact. Masses are in
eV·step²/Å², momenta in eV·step/Å.

References:
    Swope et al., J. Chem. Phys. 76, 637 (1982): velocity Verlet.
    Martyna, Klein and Tuckerman, J. Chem. Phys. 97, 2635 (1992): Nosé-Hoover chains.
    Leimkuhler and Matthews, Appl. Math. Res. Express 2013, 34: Langevin by BAOAB.
    Bussi, Donadio and Parrinello, J. Chem. Phys. 126, 014101 (2007): velocities rescaled at random (CSVR).
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@partial(jax.tree_util.register_dataclass, data_fields=["value", "energy", "stress"], meta_fields=["n_dof"])
@dataclasses.dataclass(frozen=True)
class Configuration:
    """Positions that jax-md's integrators move; as a force it carries energy and stress, which so cost nothing.

    jax-md lets a type of positions bring its own steps (its "dispatch by state"): `register` does so for this one.
    """

    value: Any
    """[n_atoms, 3], fractional positions, or forces in eV/Å."""
    energy: Any
    """eV, of a force: []."""
    stress: Any
    """eV/Å³, of a force: [3, 3]."""
    n_dof: int
    """Of the momenta: 3 N, or 3 N − 3 with the centre of mass at rest."""

    @property
    def dtype(self) -> Any:
        """Of the numbers."""
        return self.value.dtype


class Bath(NamedTuple):
    """Constants of the surroundings and how fast they act; times in steps."""

    kT: Any  # noqa: N815 - eV, as every textbook writes it
    pressure: Any  # eV/Å³
    thermostat_time: Any
    barostat_time: Any
    friction: Any  # 1/step


class Ensemble(NamedTuple):
    """How a pair is made, and what it takes."""

    pair: Callable[..., tuple[Callable, Callable]]  # (force or energy function, shift function, bath) -> (init, apply)
    measured: bool = True  # moves a `Configuration`, and is given forces; else an array, and is given an energy
    heat: Callable[..., Array] | None = None  # (kinetic energy of momenta, old state, new state) -> eV from the bath
    conserves_momentum: bool = True


@lru_cache(maxsize=1)
def register() -> None:
    """Tell jax-md how to step a `Configuration`."""
    from jax_md import quantity, simulate

    def momentum_step(state: Any, dt: Any) -> Any:
        return state.set(momentum=state.momentum + dt * state.force.value)

    def position_step(state: Any, shift_fn: Callable, dt: Any, **at: Any) -> Any:
        moved = shift_fn(state.position.value, dt * state.momentum / state.mass, **at)
        return state.set(position=dataclasses.replace(state.position, value=moved))

    def temperature(state: Any) -> Array:
        return 2 * simulate.kinetic_energy(state) / state.position.n_dof

    simulate.momentum_step.register(Configuration)(momentum_step)
    simulate.position_step.register(Configuration)(position_step)
    simulate.temperature.register(Configuration)(temperature)
    quantity.count_dof.register(Configuration)(lambda position: position.n_dof)


def _nve(force_fn: Callable, shift_fn: Callable, bath: Bath) -> tuple:
    from jax_md import simulate

    return simulate.nve(force_fn, shift_fn, 1.0)


def _nvt(force_fn: Callable, shift_fn: Callable, bath: Bath) -> tuple:
    from jax_md import simulate

    return simulate.nvt_nose_hoover(force_fn, shift_fn, 1.0, bath.kT, chain_length=3, tau=bath.thermostat_time)


def _langevin(force_fn: Callable, shift_fn: Callable, bath: Bath) -> tuple:
    from jax_md import simulate

    return simulate.nvt_langevin(force_fn, shift_fn, 1.0, bath.kT, gamma=bath.friction)


def _csvr(force_fn: Callable, shift_fn: Callable, bath: Bath) -> tuple:
    """jax-md 0.2.29 draws twice with one key if n_dof is even: fluctuations come out by 1/(2 n_dof) too large."""
    from jax_md import simulate

    return simulate.temp_csvr(force_fn, shift_fn, 1.0, bath.kT, bath.thermostat_time)


def _brownian(energy_fn: Callable, shift_fn: Callable, bath: Bath) -> tuple:
    from jax_md import simulate

    return simulate.brownian(energy_fn, shift_fn, 1.0, bath.kT, gamma=bath.friction)


def _isotropic(energy_fn: Callable, shift_fn: Callable, bath: Bath) -> tuple:
    from jax_md import simulate

    times = ({"tau": bath.barostat_time}, {"tau": bath.thermostat_time})
    return simulate.npt_nose_hoover(energy_fn, shift_fn, 1.0, bath.pressure, bath.kT, *times)


def _flexible(force_fn: Callable, shift_fn: Callable, bath: Bath) -> tuple:
    from jaxmlip.simulate.dynamics.flexible import npt_flexible

    return npt_flexible(force_fn, shift_fn, 1.0, bath.pressure, bath.kT, (bath.barostat_time, bath.thermostat_time))


def _noise(kinetic: Callable, old: Any, new: Any) -> Array:
    """Of BAOAB: what noise and friction changed between the two half kicks."""
    return kinetic(new.momentum - new.force.value / 2) - kinetic(old.momentum + old.force.value / 2)


def _rescaling(kinetic: Callable, old: Any, new: Any) -> Array:
    """Of CSVR: what its factor changed before the step of Verlet."""
    return kinetic(new.momentum - (old.force.value + new.force.value) / 2) - kinetic(old.momentum)


ENSEMBLES: Mapping[str, Ensemble] = {
    "nve": Ensemble(_nve),
    "nvt": Ensemble(_nvt),
    "langevin": Ensemble(_langevin, heat=_noise, conserves_momentum=False),
    "csvr": Ensemble(_csvr, heat=_rescaling),
    "brownian": Ensemble(_brownian, measured=False, conserves_momentum=False),
    "npt": Ensemble(_flexible),
    "npt-isotropic": Ensemble(_isotropic, measured=False),
}


@lru_cache(maxsize=64)
def own(simulator: Callable) -> Ensemble:
    """An `Ensemble` of a user's ``simulator(energy_fn, shift_fn, dt, …) -> (init, apply)``."""

    def pair(energy_fn: Callable, shift_fn: Callable, bath: Bath) -> tuple:
        known = {"kT": bath.kT, "pressure": bath.pressure}
        parameters = inspect.signature(simulator).parameters
        empty = inspect.Parameter.empty
        missing = {name: x for name, x in known.items() if name in parameters and parameters[name].default is empty}
        return simulator(energy_fn, shift_fn, 1.0, **missing)

    return Ensemble(pair, measured=False)


def extended_energy(state: Any, bath: Bath) -> Float[Array, ""] | float:
    """Energy in eV of thermostats, barostat and a moving box, where the state of a pair has them."""
    chains = [getattr(state, name, None) for name in ("chain", "thermostat", "barostat")]
    energy = sum(_chain_energy(chain, bath.kT) for chain in chains if hasattr(chain, "degrees_of_freedom")) + 0.0
    if hasattr(state, "box_momentum"):
        energy += jnp.sum(state.box_momentum**2) / (2 * state.box_mass)
        energy += bath.pressure * jnp.abs(jnp.linalg.det(state.box))
    return energy


def _chain_energy(chain: Any, kT: Any) -> Array:
    kinetic = jnp.sum(chain.momentum**2 / chain.mass) / 2
    return kinetic + kT * (chain.degrees_of_freedom * chain.position[0] + jnp.sum(chain.position[1:]))
