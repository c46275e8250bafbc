"""The fully flexible cell of Martyna, Tobias and Klein, which jax-md lacks, as a pair of jax-md's form.

ḣ = (p_g/W) h,  ṙ = p/m + (p_g/W) r,  ṗ = F − (p_g/W) p − tr(p_g)/(N_f W) p,
ṗ_g = V (P_int − P) + (Σ p²/m)/N_f,  W = (N_f + 3) kT τ² / 3,  with a symmetric p_g, so that the cell does not turn.

References:
    Martyna, Tobias and Klein, J. Chem. Phys. 101, 4177 (1994), section II C.
    Tuckerman et al., J. Phys. A 39, 5629 (2006), section 5: its integrator.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

_CELL_DOF = 6  # of a symmetric box momentum


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["position", "momentum", "force", "mass", "box", "box_momentum", "box_mass", "thermostat", "barostat"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class FlexibleState:
    """The names are jax-md's."""

    position: Any
    """A Configuration."""
    momentum: Any
    """[n_atoms, 3]."""
    force: Any
    """A Configuration."""
    mass: Any
    """[n_atoms, 1]."""
    box: Any
    """[3, 3], lattice vectors are columns."""
    box_momentum: Any
    """[3, 3]."""
    box_mass: Any
    """[]."""
    thermostat: Any
    """Nosé–Hoover chain of the momenta."""
    barostat: Any
    """Nosé–Hoover chain of the box."""

    def set(self, **fields: Any) -> "FlexibleState":
        """A copy with other fields."""
        return dataclasses.replace(self, **fields)


def npt_flexible(
    force_fn: Callable, shift_fn: Callable, dt: float, pressure: Any, kT: Any, times: tuple[Any, Any]
) -> tuple[Callable, Callable]:
    """Constant temperature and stress −P; ``times`` of barostat and thermostat; ``force_fn`` gives Configurations."""
    from jax_md import simulate

    barostat, thermostat = (simulate.nose_hoover_chain(dt, 3, 2, 3, time) for time in times)

    def init(key: Array, position: Any, box: Array, *, mass: Array, momenta: Array, **at: Any) -> FlexibleState:
        force = force_fn(position, box=box, **at)
        box_mass = (position.n_dof + 3) * kT * times[0] ** 2 / 3
        still = jnp.zeros((3, 3), box.dtype)
        state = FlexibleState(position, momenta, force, mass, box, still, box_mass, None, None)
        chain = thermostat.initialize(position.n_dof, simulate.kinetic_energy(state), kT)
        return state.set(thermostat=chain, barostat=barostat.initialize(_CELL_DOF, _box_kinetic(state), kT))

    def chains(state: FlexibleState) -> FlexibleState:
        """Half a step of both thermostats."""
        cold = thermostat.update_mass(state.thermostat.set(kinetic_energy=simulate.kinetic_energy(state)), kT)
        slow = barostat.update_mass(state.barostat.set(kinetic_energy=_box_kinetic(state)), kT)
        momentum, cold = thermostat.half_step(state.momentum, cold, kT)
        box_momentum, slow = barostat.half_step(state.box_momentum, slow, kT)
        return state.set(momentum=momentum, box_momentum=box_momentum, thermostat=cold, barostat=slow)

    def apply(state: FlexibleState, **at: Any) -> FlexibleState:
        state = chains(state.set(box_mass=(state.position.n_dof + 3) * kT * times[0] ** 2 / 3))
        state = _drift(_kick(_box_kick(state, dt, pressure), dt), shift_fn, dt)
        state = state.set(force=force_fn(state.position, box=state.box, **at))
        return chains(_box_kick(_kick(state, dt), dt, pressure))

    return init, apply


def _box_kinetic(state: FlexibleState) -> Array:
    return jnp.sum(state.box_momentum**2) / (2 * state.box_mass)


def _box_kick(state: FlexibleState, dt: float, pressure: Any) -> FlexibleState:
    motion = (state.momentum / state.mass).T @ state.momentum
    eye, volume = jnp.eye(3, dtype=motion.dtype), jnp.abs(jnp.linalg.det(state.box))
    force = motion - volume * (state.force.stress + pressure * eye) + jnp.trace(motion) / state.position.n_dof * eye
    return state.set(box_momentum=state.box_momentum + dt / 2 * (force + force.T) / 2)


def _kick(state: FlexibleState, dt: float) -> FlexibleState:
    rates, axes = jnp.linalg.eigh(state.box_momentum / state.box_mass)
    x = -(rates + jnp.sum(rates) / state.position.n_dof) * dt / 2
    momentum = (state.momentum @ axes) * jnp.exp(x) + dt / 2 * (state.force.value @ axes) * _exprel(x)
    return state.set(momentum=momentum @ axes.T)


def _drift(state: FlexibleState, shift_fn: Callable, dt: float) -> FlexibleState:
    """Positions and box grow by the same exponential: what is fractional changes by the motion within alone."""
    rates, axes = jnp.linalg.eigh(state.box_momentum / state.box_mass)
    x = rates * dt
    box = (axes * jnp.exp(x)) @ axes.T @ state.box
    moved = (dt * (state.momentum / state.mass @ axes) * _exprel(x)) @ axes.T
    position = dataclasses.replace(state.position, value=shift_fn(state.position.value, moved, box=box))
    return state.set(position=position, box=box)


def _exprel(x: Array) -> Array:
    """(eˣ − 1)/x."""
    small = jnp.abs(x) < 1e-8
    return jnp.where(small, 1 + x / 2, jnp.expm1(x) / jnp.where(small, 1, x))
