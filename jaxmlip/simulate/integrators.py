"""Equations of motion as pure functions in jax-md's manner: one step takes a `State` to the next.

A step calls ``evaluate(state) -> state`` once, which finds neighbours, forces, energy and stress at the new positions:
what a log needs costs nothing more. jax-md's `simulate` has no flexible cell, computes forces alone, so that a log
evaluates everything once more, and moves atoms in the precision of the potential: with float32 a step of 1 fs loses
digits of positions. Here motion is float64 whatever the potential is. Units: eV, Å, amu, and Å·sqrt(amu/eV) for time.

References:
    Swope et al., J. Chem. Phys. 76, 637 (1982): velocity Verlet.
    Martyna, Klein and Tuckerman, J. Chem. Phys. 97, 2635 (1992): Nosé-Hoover chains.
    Leimkuhler and Matthews, Appl. Math. Res. Express 2013, 34: Langevin by BAOAB.
    Martyna, Tobias and Klein, J. Chem. Phys. 101, 4177 (1994), section II C: the fully flexible cell.
    Tuckerman et al., J. Phys. A 39, 5629 (2006), section 5: its integrator.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, UInt32

CHAIN = 3  # thermostats in a chain
# Suzuki-Yoshida weights of fourth order, as ASE's: (1, 1 − ..., 1) / (2 − 2^⅓)
_WEIGHTS = (1 / (2 - 2 ** (1 / 3)), -(2 ** (1 / 3)) / (2 - 2 ** (1 / 3)), 1 / (2 - 2 ** (1 / 3)))


class Bath(NamedTuple):
    """Constants of motion of the surroundings, and how fast they act."""

    dt: Any
    kT: Any  # noqa: N815 - eV, as every textbook writes it
    pressure: Any  # eV/Å³
    thermostat_time: Any
    barostat_time: Any
    friction: Any  # 1/time
    n_dof: Any  # of the momenta: 3 N, or 3 N − 3 with the centre of mass at rest
    cell_dof: Any = 6.0  # of a symmetric box momentum, which does not turn the cell


class Chain(NamedTuple):
    """Thermostats one after the other."""

    position: Float[Array, " chain"]
    momentum: Float[Array, " chain"]


class State(NamedTuple):
    """Everything that the future of a run depends on."""

    position: Float[Array, "n_atoms 3"]  # fractional, never wrapped
    box: Float[Array, "3 3"]  # lattice vectors are columns
    momentum: Float[Array, "n_atoms 3"]
    mass: Float[Array, "n_atoms 1"]
    force: Float[Array, "n_atoms 3"]
    energy: Float[Array, ""]
    stress: Float[Array, "3 3"]  # of the potential, ASE's sign
    thermostat: Chain
    barostat: Chain
    box_momentum: Float[Array, "3 3"]
    heat: Float[Array, ""]  # eV that a Langevin bath has given
    key: UInt32[Array, " words"]
    neighbors: Any
    failed: Bool[Array, "2"]  # a neighbour list overflowed; an atom moved too far in one step


Evaluate = Callable[[State], State]


def nve(state: State, evaluate: Evaluate, bath: Bath) -> State:
    """Velocity Verlet."""
    state = evaluate(_drift(_kick(state, bath.dt / 2), bath.dt))
    return _kick(state, bath.dt / 2)


def nvt_nose_hoover(state: State, evaluate: Evaluate, bath: Bath) -> State:
    """A chain of Nosé-Hoover thermostats on all momenta."""
    state = nve(_thermostat(state, bath), evaluate, bath)
    return _thermostat(state, bath)


def nvt_langevin(state: State, evaluate: Evaluate, bath: Bath) -> State:
    """Friction and noise between two half drifts: p ← c p + sqrt((1 − c²) m kT) ξ,  c = exp(−γ dt)."""
    state = _drift(_kick(state, bath.dt / 2), bath.dt / 2)
    key, now = jax.random.split(state.key)
    c = jnp.exp(-bath.friction * bath.dt)
    noise = jax.random.normal(now, state.momentum.shape, state.momentum.dtype)
    momentum = c * state.momentum + jnp.sqrt((1 - c**2) * bath.kT * state.mass) * noise
    given = kinetic_energy(state._replace(momentum=momentum)) - kinetic_energy(state)
    state = state._replace(momentum=momentum, key=key, heat=state.heat + given)
    return _kick(evaluate(_drift(state, bath.dt / 2)), bath.dt / 2)


def npt_flexible(state: State, evaluate: Evaluate, bath: Bath) -> State:
    """Martyna-Tobias-Klein: positions, momenta and a box that changes its shape, each with its thermostats.

    ḣ = (p_g/W) h,  ṙ = p/m + (p_g/W) r,  ṗ = F − (p_g/W) p − tr(p_g)/(N_f W) p,
    ṗ_g = V (P_int − P) + (Σ p²/m)/N_f,  W = (N_f + 3) kT τ² / 3,  with a symmetric p_g, so that the cell does not turn.
    """
    state = _box_kick(_thermostat(_box_thermostat(state, bath), bath), bath)
    state = _flexible_drift(_flexible_kick(state, bath), bath)
    state = _box_kick(_flexible_kick(evaluate(state), bath), bath)
    return _box_thermostat(_thermostat(state, bath), bath)


INTEGRATORS = {"nve": nve, "nvt": nvt_nose_hoover, "langevin": nvt_langevin, "npt": npt_flexible}


def kinetic_energy(state: State) -> Float[Array, ""]:
    """Σ p²/2m in eV."""
    return jnp.sum(state.momentum**2 / state.mass) / 2


def total_stress(state: State) -> Float[Array, "3 3"]:
    """Stress in eV/Å³ with the part of the motion, −(1/V) Σ p ⊗ p/m; minus a third of its trace is the pressure."""
    motion = (state.momentum / state.mass).T @ state.momentum
    return state.stress - motion / _volume(state)


def conserved_energy(state: State, bath: Bath, ensemble: str) -> Float[Array, ""]:
    """What the equations of motion of ``ensemble`` keep constant, in eV: its drift is the error of the time step."""
    energy = state.energy + kinetic_energy(state) - state.heat
    if ensemble in ("nvt", "npt"):
        energy += _chain_energy(state.thermostat, bath.n_dof, bath.kT, bath.thermostat_time)
    if ensemble == "npt":
        energy += _chain_energy(state.barostat, bath.cell_dof, bath.kT, bath.barostat_time)
        energy += jnp.sum(state.box_momentum**2) / (2 * _box_mass(bath)) + bath.pressure * _volume(state)
    return energy


def _volume(state: State) -> Array:
    return jnp.abs(jnp.linalg.det(state.box))


def _kick(state: State, dt: Array) -> State:
    return state._replace(momentum=state.momentum + dt * state.force)


def _drift(state: State, dt: Array) -> State:
    moved = dt * state.momentum / state.mass
    return state._replace(position=state.position + moved @ jnp.linalg.inv(state.box).T)


def _thermostat(state: State, bath: Bath) -> State:
    """Half a step of the chain on the momenta."""
    twice = 2 * kinetic_energy(state)
    chain, scale = _chain_step(state.thermostat, twice, (bath.n_dof, bath.kT, bath.thermostat_time), bath.dt / 2)
    return state._replace(thermostat=chain, momentum=state.momentum * scale)


def _box_thermostat(state: State, bath: Bath) -> State:
    twice = jnp.sum(state.box_momentum**2) / _box_mass(bath)
    chain, scale = _chain_step(state.barostat, twice, (bath.cell_dof, bath.kT, bath.barostat_time), bath.dt / 2)
    return state._replace(barostat=chain, box_momentum=state.box_momentum * scale)


def _box_mass(bath: Bath) -> Array:
    return (bath.n_dof + 3) * bath.kT * bath.barostat_time**2 / 3


def _box_kick(state: State, bath: Bath) -> State:
    eye = jnp.eye(3, dtype=state.box.dtype)
    force = -_volume(state) * (total_stress(state) + bath.pressure * eye)
    force = force + 2 * kinetic_energy(state) / bath.n_dof * eye
    return state._replace(box_momentum=state.box_momentum + bath.dt / 2 * (force + force.T) / 2)


def _flexible_kick(state: State, bath: Bath) -> State:
    rates, axes = jnp.linalg.eigh(state.box_momentum / _box_mass(bath))
    x = -(rates + jnp.sum(rates) / bath.n_dof) * bath.dt / 2
    momentum = (state.momentum @ axes) * jnp.exp(x) + bath.dt / 2 * (state.force @ axes) * _exprel(x)
    return state._replace(momentum=momentum @ axes.T)


def _flexible_drift(state: State, bath: Bath) -> State:
    """Positions and box grow by the same exponential: what is fractional changes by the motion within alone."""
    rates, axes = jnp.linalg.eigh(state.box_momentum / _box_mass(bath))
    x = rates * bath.dt
    box = (axes * jnp.exp(x)) @ axes.T @ state.box
    moved = (bath.dt * (state.momentum / state.mass @ axes) * _exprel(x)) @ axes.T
    return state._replace(position=state.position + moved @ jnp.linalg.inv(box).T, box=box)


def _exprel(x: Array) -> Array:
    """(eˣ − 1)/x."""
    small = jnp.abs(x) < 1e-8
    return jnp.where(small, 1 + x / 2, jnp.expm1(x) / jnp.where(small, 1, x))


def _chain_masses(n_dof: Array, kT: Array, time: Array) -> Array:
    return (kT * time**2) * jnp.ones(CHAIN).at[0].set(n_dof)


def _chain_energy(chain: Chain, n_dof: Array, kT: Array, time: Array) -> Array:
    kinetic = jnp.sum(chain.momentum**2 / _chain_masses(n_dof, kT, time)) / 2
    return kinetic + kT * (n_dof * chain.position[0] + jnp.sum(chain.position[1:]))


def _chain_step(chain: Chain, twice_kinetic: Array, of: tuple, dt: Array) -> tuple[Chain, Array]:
    """Thermostats act for ``dt`` on momenta whose kinetic energy is given; returns the factor of these momenta."""
    n_dof, kT, _ = of
    Q, p, xi = _chain_masses(*of), list(chain.momentum), chain.position
    scale = jnp.ones_like(twice_kinetic)

    def push(j: int, delta: Array) -> None:
        drag = jnp.exp(-delta / 4 * p[j + 1] / Q[j + 1]) if j + 1 < CHAIN else 1.0
        force = scale**2 * twice_kinetic - n_dof * kT if j == 0 else p[j - 1] ** 2 / Q[j - 1] - kT
        p[j] = (p[j] * drag + delta / 2 * force) * drag

    for weight in _WEIGHTS:
        delta = weight * dt
        for j in reversed(range(CHAIN)):
            push(j, delta)
        xi = xi + delta * jnp.stack(p) / Q
        scale = scale * jnp.exp(-delta * p[0] / Q[0])
        for j in range(CHAIN):
            push(j, delta)
    return Chain(xi, jnp.stack(p)), scale
