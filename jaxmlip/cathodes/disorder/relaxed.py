"""Monte Carlo on relaxed energies: a short unrelaxed chain proposes, the relaxed energies decide.

E_r(occupation) is the energy after at most ``max_steps`` steps of the minimiser from the ideal sites, cell included: a
function of the occupation alone, so it has a Boltzmann distribution. A candidate from unrelaxed trials at the same
temperature, which are in balance with exp(−β E_u), is accepted with

    min(1, exp{−β [(E_r′ − E_r) − (E_u′ − E_u)]}):

detailed balance with exp(−β E_r) is exact. It would be lost if a relaxation began where the last one ended.
Vibrations are not sampled: relaxed energies have no entropy of displacements.

References:
    Iftimie, Salahub, Wei, Schofield, J. Chem. Phys. 113, 4852 (2000); Gelb, J. Chem. Phys. 118, 7747 (2003).
"""

import dataclasses
from typing import NamedTuple

import ase
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Integer

from jaxmlip.cathodes.disorder import sampler
from jaxmlip.cathodes.disorder.energies import numbers_of
from jaxmlip.cathodes.disorder.sampling import Chains, ensemble_of, first_states
from jaxmlip.cathodes.disorder.sites import Sites, occupied
from jaxmlip.config import Count, Positive, Settings, Whole
from jaxmlip.potentials.base import cast_params
from jaxmlip.potentials.model import Model
from jaxmlip.simulate.relax import relax
from jaxmlip.units import BOLTZMANN


@dataclasses.dataclass(frozen=True)
class RelaxedSampling(Settings):
    """How candidates are made and relaxed."""

    n_samples: Count = 50
    """Candidates of each chain; every one is a sample, taken or refused."""
    n_trials: Count = 20
    """Unrelaxed trials that make a candidate: more go farther and are refused more often."""
    max_steps: Count = 30
    """Steps of each relaxation; an unconverged one counts with the energy that it reached."""
    fmax: Positive = 0.05
    """eV/Å, where a relaxation ends earlier."""
    cell: bool = True
    """Relax the cell too."""
    seed: Whole = 0
    """Of all random numbers."""


class RelaxedSamples(NamedTuple):
    """What the chains visited, and the last structures, relaxed."""

    numbers: Integer[np.ndarray, "n_samples n_chains n_sites"]
    energies: Float[np.ndarray, "n_samples n_chains"]  # eV of the cell, relaxed
    acceptance: Float[np.ndarray, " n_chains"]  # of candidates
    structures: list[ase.Atoms]


class _Ends(NamedTuple):
    energies: np.ndarray  # eV; infinite where a relaxation ran away
    structures: list[ase.Atoms]


def sample_relaxed(
    model: Model,
    sites: Sites,
    chains: Chains,
    *,
    settings: RelaxedSampling | None = None,
) -> RelaxedSamples:
    """Samples of occupations in balance with their relaxed energies; the candidates of all chains relax side by side.

    A candidate whose relaxation runs away (the potential has no minimum there) is refused.

    Not run here, it takes minutes:

    >>> samples = sample_relaxed(model, sites, chains)  # doctest: +SKIP

    Raises:
        ValueError: what `jaxmlip.cathodes.disorder.sample` refuses, or a start that runs away.
    """
    chosen = settings or RelaxedSampling()
    with jax.enable_x64(True):
        model = Model(model.potential, cast_params(model.params, "float64"))
        task = ensemble_of(model, sites, chains, "float64")
        states = first_states(model, task, chains)
        ends = _relaxed(model, sites, states, chosen)
        if not np.isfinite(ends.energies).all():
            raise ValueError("a start runs away when it is relaxed: the potential knows no such structure")
        return _chains(model, sites, task, (states, ends, chosen, np.asarray(chains.temperatures, float)))


def _chains(model: Model, sites: Sites, task: sampler.Ensemble, begun: tuple) -> RelaxedSamples:
    states, ends, settings, temperatures = begun
    rng = np.random.default_rng(settings.seed)
    rows, energies, n_taken = [], [], np.zeros(len(temperatures))
    for k in range(settings.n_samples):
        key = jax.random.fold_in(jax.random.key(settings.seed), k)
        candidates = sampler.advance_all(model, task, states, key, jnp.asarray(settings.n_trials))
        found = _relaxed(model, sites, candidates, settings)
        unrelaxed = np.asarray(candidates.energies.sum(axis=1) - states.energies.sum(axis=1))
        work = (found.energies - ends.energies) - unrelaxed
        taken = np.log(rng.random(len(work))) < -work / (BOLTZMANN * temperatures)
        states = jax.tree.map(lambda new, old: _choose(taken, new, old), candidates, states)  # noqa: B023
        pairs = zip(taken, found.structures, ends.structures, strict=True)
        ends = _Ends(np.where(taken, found.energies, ends.energies), [new if t else old for t, new, old in pairs])
        n_taken += taken
        rows.append(numbers_of(np.asarray(states.occupation), model.potential))
        energies.append(ends.energies)
    return RelaxedSamples(np.array(rows), np.array(energies), n_taken / settings.n_samples, ends.structures)


def _relaxed(model: Model, sites: Sites, states: sampler.State, settings: RelaxedSampling) -> _Ends:
    numbers = numbers_of(np.asarray(states.occupation), model.potential)
    starts = [occupied(sites, one) for one in numbers]
    found = relax(model, starts, max_steps=settings.max_steps, fmax=settings.fmax, cell=settings.cell)
    energies = np.array([one.energy for one in found])
    return _Ends(np.where(np.isfinite(energies), energies, np.inf), [one.atoms for one in found])


def _choose(taken: np.ndarray, new: jax.Array, old: jax.Array) -> jax.Array:
    return jnp.where(jnp.asarray(taken).reshape(-1, *[1] * (new.ndim - 1)), new, old)
