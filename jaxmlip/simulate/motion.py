"""The compiled part of dynamics: forces with neighbour lists on the device, and chunks of steps."""

from functools import lru_cache, partial
from typing import Any, NamedTuple

import ase
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxmlip.graph.batch import Graph, edge_vectors
from jaxmlip.potentials.base import Params, Potential, energies_and_gradient, safe_vectors
from jaxmlip.simulate.integrators import (
    CHAIN,
    INTEGRATORS,
    Bath,
    Chain,
    State,
    conserved_energy,
    kinetic_energy,
    total_stress,
)
from jaxmlip.simulate.jaxmd import fractional
from jaxmlip.simulate.neighbor_list import Plan, build, update, within_cutoff

_LARGEST_STEP = 0.5  # Å; an atom that moves more in one step is no dynamics any more


class Row(NamedTuple):
    """What the log says of one moment."""

    potential: Array  # eV
    kinetic: Array  # eV
    conserved: Array  # eV
    pressure: Array  # eV/Å³
    stress: Array  # [3, 3], eV/Å³, with the part of the motion
    volume: Array  # Å³
    temperature: Array  # 2 E_kin / n_dof, in eV


class Program(NamedTuple):
    """Compiled functions of one potential, precision and ensemble; ``plan`` is static in each."""

    start: Any  # (plan, state, params, species) -> state with neighbours, energy and forces
    advance: Any  # (plan, n_steps, state, bath, params, species) -> state
    row: Any  # (state, bath) -> Row


def first_state(atoms: ase.Atoms, velocities: np.ndarray, seed: int) -> State:
    """``atoms`` with velocities in ASE's units; without neighbours, energy and forces."""
    position, box = fractional(atoms, "float64")
    mass = jnp.asarray(atoms.get_masses()[:, None])
    rest = Chain(jnp.zeros(CHAIN), jnp.zeros(CHAIN))
    zero, none = jnp.zeros(()), jnp.zeros((3, 3))
    return State(
        position=position,
        box=box,
        momentum=mass * velocities,
        mass=mass,
        force=jnp.zeros_like(position),
        energy=zero,
        stress=none,
        thermostat=rest,
        barostat=rest,
        box_momentum=none,
        heat=zero,
        key=jax.random.PRNGKey(seed),
        neighbors=None,
        failed=jnp.zeros(2, bool),
    )


@lru_cache(maxsize=64)
def program(potential: Potential, ensemble: str, precision: str) -> Program:
    """``precision``: of the potential, "float64" or "float32"; motion and neighbours are always in float64."""
    integrate = INTEGRATORS[ensemble]

    def evaluate(plan: Plan, params: Params, species: Array, state: State) -> State:
        neighbors = update(plan, state.neighbors, state.position, state.box)
        graph, full = within_cutoff(plan, neighbors, state.position, state.box, species)
        energy, force, stress = _forces(potential, params, graph, precision)
        overflow = state.failed[0] | neighbors.overflow | full
        state = state._replace(force=force, energy=energy, stress=stress, neighbors=neighbors)
        return state._replace(failed=state.failed.at[0].set(overflow))

    @partial(jax.jit, static_argnums=0)
    def start(plan: Plan, state: State, params: Params, species: Array) -> State:
        state = state._replace(neighbors=build(plan, state.position, state.box))
        return evaluate(plan, params, species, state)

    @partial(jax.jit, static_argnums=0)
    def advance(plan: Plan, n_steps: Array, state: State, bath: Bath, fixed: tuple) -> State:
        params, species = fixed

        def step(_: Any, state: State) -> State:
            new = integrate(state, partial(evaluate, plan, params, species), bath)
            moved = (new.position - state.position) @ new.box.T
            lost = ~(jnp.max(jnp.sum(moved**2, axis=1)) < _LARGEST_STEP**2)  # also true of NaN
            return new._replace(failed=new.failed.at[1].set(new.failed[1] | lost))

        return jax.lax.fori_loop(0, n_steps, step, state)

    @jax.jit
    def row(state: State, bath: Bath) -> Row:
        stress, kinetic = total_stress(state), kinetic_energy(state)
        temperature = 2 * kinetic / bath.n_dof
        volume = jnp.abs(jnp.linalg.det(state.box))
        conserved = conserved_energy(state, bath, ensemble)
        return Row(state.energy, kinetic, conserved, -jnp.trace(stress) / 3, stress, volume, temperature)

    return Program(start, advance, row)


def _forces(potential: Potential, params: Params, graph: Graph, precision: str) -> tuple[Array, Array, Array]:
    """Energy, forces and stress; vectors, sums and what comes back are float64 whatever the potential computes in."""
    vectors = safe_vectors(edge_vectors(graph), graph, potential.config.cutoff)
    energies, gradient = energies_and_gradient(potential, params, graph, vectors.astype(precision))
    gradient = jnp.where(graph.mask[:, :, None], gradient.astype(vectors.dtype), 0)
    force = jnp.sum(gradient - gradient.reshape(-1, 3)[graph.reverse], axis=1)
    virial = vectors.reshape(-1, 3).T @ gradient.reshape(-1, 3)
    stress = (virial + virial.T) / 2 / jnp.abs(jnp.linalg.det(graph.cell[0]))
    return energies.astype(vectors.dtype).sum(), force, stress
