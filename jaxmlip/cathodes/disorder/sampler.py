"""Metropolis Monte Carlo of occupations as pure functions; replicas are batched by ``jax.vmap``.

A trial draws a move from the table and for each of its steps a site that holds the wanted species: the first match
among `DRAWS` random sites of the sublattice. With n_f of N sites holding species f, a given site is found with
probability q_f = [1 − (1 − n_f/N)^DRAWS] / n_f, so a trial is accepted with

    min(1, exp{−β [ΔE − Σ_s μ_s ΔN_s]} Π_steps q′_after / q_before),

q′ counted after the move: detailed balance is exact, also where moves change the composition.

References:
    Metropolis et al., J. Chem. Phys. 21, 1087 (1953); Hastings, Biometrika 57, 97 (1970), equation 6.
    Swendsen and Wang, Phys. Rev. Lett. 57, 2607 (1986); Hukushima and Nemoto, J. Phys. Soc. Jpn. 65, 1604 (1996):
    exchange of replicas.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from jaxmlip.cathodes.disorder.energies import Lattice, all_energies, energies_of_sites
from jaxmlip.cathodes.disorder.moves import MoveTable
from jaxmlip.potentials.model import Model

DRAWS = 16  # random sites among which one with the wanted species is looked for


class State(NamedTuple):
    """A configuration; energies are kept per site, so nothing accumulates rounding errors."""

    occupation: Int[Array, " n_sites"]  # index into the potential's species; one more: vacancy
    energies: Float[Array, " n_sites"]  # eV
    counts: Int[Array, "n_sublattices n_codes"]
    n_accepted: Int[Array, ""]


class Conditions(NamedTuple):
    """β in 1/eV, and the chemical potential of each species in eV (vacancies last)."""

    beta: Float[Array, ""]
    mu: Float[Array, " n_codes"]


class Ensemble(NamedTuple):
    """What a trial needs besides the state: moves on a lattice, under conditions."""

    lattice: Lattice
    moves: MoveTable
    conditions: Conditions


@jax.jit
def start(model: Model, lattice: Lattice, occupation: Int[Array, " n_sites"]) -> State:
    """The state of an occupation."""
    n_codes = len(model.potential.config.species) + 1
    counts = jnp.zeros((len(lattice.first), n_codes), jnp.int32).at[lattice.sublattice, occupation].add(1)
    return State(occupation, all_energies(model, lattice, occupation), counts, jnp.zeros((), jnp.int32))


def grand_energy(state: State, conditions: Conditions) -> Float[Array, ""]:
    """E − Σ_s μ_s N_s in eV, whose Boltzmann factor is sampled."""
    numbers = jnp.sum(state.counts, axis=0).astype(state.energies.dtype)
    return jnp.sum(state.energies) - jnp.sum(conditions.mu * numbers)


@jax.jit
def advance(model: Model, ensemble: Ensemble, state: State, key: Key[Array, ""], n_trials: Int[Array, ""]) -> State:
    """``n_trials`` trials; the number may change without compiling again."""

    def one(k: Array, state: State) -> State:
        return trial(model, ensemble, state, jax.random.fold_in(key, k))

    return jax.lax.fori_loop(0, n_trials, one, state)


@jax.jit
def advance_all(
    model: Model, ensemble: Ensemble, states: State, key: Key[Array, ""], n_trials: Int[Array, ""]
) -> State:
    """`advance` of replicas side by side: states and conditions have a leading axis."""

    def one(state: State, conditions: Conditions, key: Array) -> State:
        return advance(model, ensemble._replace(conditions=conditions), state, key, n_trials)

    keys = jax.random.split(key, states.energies.shape[0])
    return jax.vmap(one)(states, ensemble.conditions, keys)


@jax.jit
def temper(
    states: State, conditions: Conditions, key: Key[Array, ""], odd: Int[Array, ""]
) -> tuple[State, Bool[Array, " n_pairs"]]:
    """Neighbouring replicas exchange their configurations; which pairs, the even or the odd ones, ``odd`` says.

    Replicas i and j do with probability min(1, exp{(β_i − β_j)(E_i − E_j)}), in general with β (E − μ·N) of each
    configuration under each condition. Returns the states and, for each pair tried, whether it was exchanged.
    """
    n = states.energies.shape[0]

    def action(state: State, conditions: Conditions) -> Array:
        return conditions.beta * grand_energy(state, conditions)

    table = jax.vmap(lambda s: jax.vmap(lambda c: action(s, c))(conditions))(states)  # [state, condition]
    low = jnp.arange(n - 1, dtype=odd.dtype)
    gain = table[low, low] + table[low + 1, low + 1] - table[low, low + 1] - table[low + 1, low]
    uniform = jax.random.uniform(key, (n - 1,), gain.dtype)
    taken = (low % 2 == odd) & (jnp.log(uniform) < gain)
    order = jnp.arange(n, dtype=odd.dtype)
    order = order + jnp.pad(taken, (0, 1)).astype(order.dtype) - jnp.pad(taken, (1, 0)).astype(order.dtype)
    return jax.tree.map(lambda x: x[order], states), taken


def trial(model: Model, ensemble: Ensemble, state: State, key: Key[Array, ""]) -> State:
    """One move, accepted or not."""
    lattice, moves, conditions = ensemble
    n_steps = moves.before.shape[1]
    keys = jax.random.split(key)
    uniform = jax.random.uniform(keys[0], (2,), state.energies.dtype)
    move = jnp.sum(uniform[0] >= moves.cumulative[:-1].astype(uniform.dtype))
    sublattice, before, after = (table[move] for table in moves[:3])
    bits = jax.random.bits(keys[1], (n_steps, DRAWS), jnp.uint32)
    sites, found = _choose(lattice, state, sublattice, before, bits)

    changed = state.occupation.at[sites].set(after, mode="drop")
    rows, energies, old = changed_energies(model, lattice, changed, sites, state.energies)
    counts, bias = _counted(lattice, state.counts, (sublattice, before, after), uniform.dtype)
    work = jnp.sum(jnp.where(before >= 0, conditions.mu[after] - conditions.mu[before], 0))
    change = jnp.sum(energies - old) - work
    accepted = found & (jnp.log(uniform[1]) < bias - conditions.beta * change)
    return State(
        changed.at[sites].set(jnp.where(accepted, after, before), mode="drop"),
        state.energies.at[rows].set(jnp.where(accepted, energies, old), mode="drop"),
        jnp.where(accepted, counts, state.counts),
        state.n_accepted + accepted.astype(jnp.int32),
    )


def _choose(lattice: Lattice, state: State, sublattice: Array, before: Array, bits: Array) -> tuple[Array, Array]:
    """A site for each step (n_sites for an unused one), and whether all were found and are different."""
    used = before >= 0
    # The remainder of 32 random bits favours early sites by less than n_sites / 2³².
    place = (bits % lattice.size[sublattice].astype(jnp.uint32)[:, None]).astype(jnp.int32)
    candidates = lattice.members[lattice.first[sublattice][:, None] + place]
    matches = state.occupation[candidates] == before[:, None]
    steps = jnp.arange(len(before))
    chosen = candidates[steps, jnp.argmax(matches, axis=1)]
    sites = jnp.where(used, chosen, lattice.n_sites + steps.astype(chosen.dtype))
    same = jnp.sum(sites[:, None] == sites[None, :]) > len(before)
    found = jnp.all(jnp.any(matches, axis=1) | ~used) & ~same
    return jnp.where(found, sites, lattice.n_sites), found  # without all sites nothing is changed


def changed_energies(
    model: Model,
    lattice: Lattice,
    changed: Int[Array, " n_sites"],
    sites: Int[Array, " n_changed"],
    energies: Float[Array, " n_sites"],
) -> tuple[Int[Array, " n_rows"], Float[Array, " n_rows"], Float[Array, " n_rows"]]:
    """Rows, and their energies after and before; each row once."""
    if not model.potential.local:
        return jnp.arange(lattice.n_sites), all_energies(model, lattice, changed), energies
    rows = lattice.reached.at[sites].get(mode="fill", fill_value=lattice.n_sites)
    for k in range(1, len(rows)):
        again = jnp.any(rows[k][:, None] == rows[:k].reshape(1, -1), axis=1)
        rows = rows.at[k].set(jnp.where(again, lattice.n_sites, rows[k]))
    flat = rows.reshape(-1)
    old = energies.at[flat].get(mode="fill", fill_value=0)
    return flat, energies_of_sites(model, lattice, changed, flat), old


def _counted(lattice: Lattice, counts: Array, steps: tuple[Array, ...], dtype: Any) -> tuple[Array, Array]:
    """Counts after the move, and the logarithm of the ratio of the probabilities to propose it and its reverse."""
    sublattice, before, after = steps
    used = before >= 0
    one = used.astype(counts.dtype)
    new = counts.at[sublattice, before].add(-one).at[sublattice, after].add(one)  # −1: adds zero to the last
    size = lattice.size[sublattice]

    def log_q(n: Array) -> Array:
        n = jnp.maximum(n, 1).astype(dtype)
        share = jnp.minimum(n / size.astype(dtype), 1 - 1e-7)
        return jnp.log(-jnp.expm1(DRAWS * jnp.log1p(-share)) / n)

    ratio = log_q(new[sublattice, after]) - log_q(counts[sublattice, before])
    return new, jnp.sum(jnp.where(used, ratio, 0))
