"""Monte Carlo of cation disorder: local energies against whole ones, averages against enumerations."""

import itertools

import ase
import families
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from morse import MorseConfig, morse

import jaxmlip
from jaxmlip.cathodes.disorder import energies, moves, sampler
from jaxmlip.cathodes.disorder.sites import Sites, Sublattice, occupied, random_numbers, rocksalt, sites_of
from jaxmlip.potentials.base import Model
from jaxmlip.units import BOLTZMANN

LOCAL = ("mtp", "snap", "aenet", "gap")


def ensemble(model, sites, some, *, temperature=1000.0, mu=None):
    """Everything that a trial needs."""
    potential = model.potential
    n_codes = len(potential.config.species) + 1
    table = moves.move_table(some, sites, potential.config.species)
    conditions = sampler.Conditions(
        jnp.asarray(1 / (BOLTZMANN * temperature)), jnp.zeros(n_codes) if mu is None else jnp.asarray(mu)
    )
    return sampler.Ensemble(
        energies.lattice_of(sites, potential), moves.MoveTable(*map(jnp.asarray, table)), conditions
    )


def total(model, sites, codes):
    """Energy of the structure without its vacancies, from the library's own prediction."""
    atoms = occupied(sites, energies.numbers_of(codes, model.potential))
    return float(jaxmlip.predict(model.potential, model.params, jaxmlip.batch(atoms, model.potential.config)).energy[0])


@pytest.mark.parametrize("family", [*LOCAL, "nequip"])
def test_local_differences_are_exact(family):
    """Swaps and vacancies, in a cell shorter than twice the cutoff; 1e-10: rounding of some hundred terms."""
    model = families.model(family)
    sites = rocksalt("Li0.5MnO2", repeat=(1, 1, 2))
    some = [*moves.swaps(sites), *moves.replacements(sites, "Li", "X")]
    task = ensemble(model, sites, some, temperature=1e5)
    numbers = random_numbers(sites, {"Li": 0.5, "Mn": 1, "O": 2})
    state = sampler.start(model, task.lattice, jnp.asarray(energies.codes_of(numbers, model.potential)))
    for k in range(3):
        state = sampler.advance(model.potential, model.params, task, state, jax.random.key(k), jnp.asarray(10))
        expected = total(model, sites, np.asarray(state.occupation))
        assert float(state.energies.sum()) == pytest.approx(expected, rel=1e-10, abs=1e-10)
    assert int(state.n_accepted) > 0
    kinds = np.asarray(state.occupation)
    np.testing.assert_array_equal(state.counts.sum(axis=0), np.bincount(kinds, minlength=4))


def alloy(n=2):
    """Eight fcc sites, two species and vacancies on four of them, of a model of pairs."""
    frame = ase.build.bulk("Cu", a=3.7).repeat((n, n, n))
    potential = morse(MorseConfig(species=("Cu", "Ni", "Pd"), cutoff=4.0))
    depth = np.array([[0.05, 0.09, 0.05], [0.09, 0.04, 0.05], [0.05, 0.05, 0.05]])
    offsets = np.array([-0.1, 0.0, 0.0])
    model = Model(potential, {"offsets": offsets, "depth": depth, "radius": np.full((3, 3), 2.6)})
    return model, frame


def enumerated(model, lattice, choices, conditions):
    """Boltzmann averages of energy and of the numbers of each species over all occupations that ``choices`` allow."""
    occupations = np.array(list(choices))
    every = jax.jit(jax.vmap(lambda codes: energies.all_energies(model, lattice, codes).sum()))
    energy = np.asarray(every(jnp.asarray(occupations, jnp.int32)))
    counts = np.stack([(occupations == k).sum(axis=1) for k in range(4)], axis=1)
    action = float(conditions.beta) * (energy - counts @ np.asarray(conditions.mu))
    weight = np.exp(action.min() - action)
    weight /= weight.sum()
    return np.array([weight @ energy, *(weight @ counts)])


def sampled(model, task, codes, *, n_samples=300, n_chains=16, n_trials=20):
    """The same from chains side by side: means, and standard errors from the spread of the chains."""
    state = sampler.start(model, task.lattice, jnp.asarray(codes, jnp.int32))
    states = jax.tree.map(lambda x: jnp.stack([x] * n_chains), state)
    task = task._replace(conditions=jax.tree.map(lambda x: jnp.stack([x] * n_chains), task.conditions))
    rows = []
    for k in range(n_samples):
        keys, n = jax.random.key(k), jnp.asarray(n_trials)
        states = sampler.advance_all(model.potential, model.params, task, states, keys, n)
        counts = np.asarray(states.counts).sum(axis=1)
        rows.append(np.concatenate([np.asarray(states.energies).sum(axis=1)[:, None], counts], axis=1))
    chains = np.mean(rows[n_samples // 10 :], axis=0)
    return chains.mean(axis=0), chains.std(axis=0, ddof=1) / np.sqrt(n_chains)


def agree(found, expected):
    """Within three standard errors, as of 16 independent chains; what cannot fluctuate is exact."""
    mean, error = found
    assert np.all(np.abs(mean - expected) <= 3 * error + 1e-12), (mean, expected, error)


def test_canonical_averages_are_those_of_the_enumeration():
    model, frame = alloy()
    sites = Sites(frame, (Sublattice(("Cu", "Ni"), np.arange(8)),))
    task = ensemble(model, sites, moves.swaps(sites), temperature=600.0)
    choices = (np.isin(np.arange(8), held).astype(int) for held in itertools.combinations(range(8), 3))
    expected = enumerated(model, task.lattice, choices, task.conditions)
    agree(sampled(model, task, [1, 1, 1, 0, 0, 0, 0, 0]), expected)


def test_semi_grand_canonical_averages_with_insertion_swaps_and_table_exchange():
    """Species that are rare and moves of two steps on two sublattices: the bias of the proposals must be right.

    The exchange keeps n(vacancies) and turns Cu into Ni here where it turns Pd into Ni there: all moves together
    reach every occupation.
    """
    model, frame = alloy()
    parts = (Sublattice(("Cu", "Ni", "X"), np.arange(5)), Sublattice(("Ni", "Pd"), np.arange(5, 8)))
    sites = Sites(frame, parts)
    some = [*moves.swaps(sites), *moves.replacements(sites, "Cu", "X")]
    some += moves.table_exchange([moves.Step(0, "Cu", "Ni"), moves.Step(1, "Ni", "Pd")])
    some += moves.table_exchange([moves.Step(0, "Cu", "Ni"), moves.Step(0, "X", "Cu")])
    task = ensemble(model, sites, some, temperature=2000.0, mu=[-0.45, -0.3, -0.35, 0.0])
    allowed = [*[(0, 1, 3)] * 5, *[(1, 2)] * 3]
    expected = enumerated(model, task.lattice, itertools.product(*allowed), task.conditions)
    # Every move keeps n_Ni(0) − n_Pd(1) + … of exchanges: only occupations that the start can reach count.
    found = sampled(model, task, [0, 0, 1, 3, 0, 1, 1, 2])
    agree(found, expected)
