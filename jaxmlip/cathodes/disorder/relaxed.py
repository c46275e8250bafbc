"""Monte Carlo on relaxed energies: a short unrelaxed chain proposes, the relaxed energies decide.

E_r(occupation) is the energy after at most ``max_steps`` steps of the minimiser from the ideal sites, cell included: a
function of the occupation alone, so it has a Boltzmann distribution. A candidate from unrelaxed trials at the
temperature ``heat`` T, β_u = β / heat, which are in balance with exp(−β_u E_u), is accepted with

    min(1, exp{−β (E_r′ − E_r) + β_u (E_u′ − E_u)}),

with E − μ·N in place of E where moves change the composition: detailed balance with exp(−β E_r) is exact at any heat.
It would be lost if a relaxation began where the last one ended. In rocksalts relaxed energies of arrangements differ
half to two thirds as much as unrelaxed ones, so at a heat of 2 many candidates are taken, and at 1 nearly none.
Vibrations are not sampled: relaxed energies have no entropy of displacements.

References:
    Iftimie, Salahub, Wei, Schofield, J. Chem. Phys. 113, 4852 (2000); Gelb, J. Chem. Phys. 118, 7747 (2003).
"""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import ase
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Integer

from jaxmlip.cathodes.disorder import checkpoint as files
from jaxmlip.cathodes.disorder import sampler
from jaxmlip.cathodes.disorder.energies import numbers_of
from jaxmlip.cathodes.disorder.sampling import Chains, ensemble_of, first_states
from jaxmlip.cathodes.disorder.sites import Sites, occupied
from jaxmlip.config import Count, Positive, Settings, Whole
from jaxmlip.potentials.base import cast_params
from jaxmlip.potentials.model import Model
from jaxmlip.progress import track
from jaxmlip.simulate.relax import relax
from jaxmlip.units import BOLTZMANN


@dataclasses.dataclass(frozen=True)
class RelaxedSampling(Settings):
    """How candidates are made and relaxed."""

    n_samples: Count = 50
    """Candidates of each chain that are kept; every one is a sample, taken or refused."""
    n_trials: Count = 20
    """Unrelaxed trials that make a candidate: more go farther and are refused more often."""
    heat: Positive = 2.0
    """Temperature of the unrelaxed trials over that of the samples: how much smaller differences of energy become by
    relaxing."""
    max_steps: Count = 100
    """Steps of each relaxation, most of which need 40 to 100; an unconverged one counts with the energy it reached."""
    fmax: Positive = 0.05
    """eV/Å, where a relaxation ends earlier."""
    cell: bool = True
    """Relax the cell too."""
    equilibration: Whole = 0
    """Candidates thrown away first."""
    checkpoint_every: Count = 5
    """Candidates, where a file is given."""
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
    structures: list[ase.Atoms]  # relaxed, or as far as that went


class _Task(NamedTuple):
    """What stays the same from one sample to the next."""

    model: Model
    sites: Sites
    ensemble: sampler.Ensemble
    temperatures: np.ndarray  # K
    settings: RelaxedSampling


def sample_relaxed(
    model: Model,
    sites: Sites,
    chains: Chains,
    *,
    settings: RelaxedSampling | None = None,
    checkpoint: str | Path | None = None,
    show_progress: bool = False,
) -> RelaxedSamples:
    """Samples of occupations in balance with their relaxed energies; the candidates of all chains relax side by side.

    A candidate whose relaxation runs away (the potential has no minimum there) is refused. With the file
    ``checkpoint`` a stopped run goes on with the same chains, and a larger ``n_samples`` prolongs a finished one.

    Not run here, it takes minutes:

    >>> samples = sample_relaxed(model, sites, chains)  # doctest: +SKIP

    Raises:
        ValueError: what `jaxmlip.cathodes.disorder.sample` refuses, or a start that runs away.
    """
    chosen = settings or RelaxedSampling()
    path = None if checkpoint is None else Path(checkpoint)
    with jax.enable_x64(True):
        model = Model(model.potential, cast_params(model.params, "float64"))
        temperatures = np.asarray(chains.temperatures, float)
        hot = chains._replace(temperatures=(chosen.heat * temperatures).tolist())
        ensemble = ensemble_of(model, sites, hot, "float64")
        task = _Task(model, sites, ensemble, temperatures, chosen)
        mark = files.fingerprint(model, sites, chains, chosen)
        run = files.Run(first_states(model, ensemble, chains), 0, [], [], np.zeros(len(temperatures), int))
        run = run if path is None or not path.exists() else files.read(path, mark)
        ends = _relaxed(task, run.states)  # of the occupations alone: the same after a stop
        if not np.isfinite(ends.energies).all():
            raise ValueError("a start runs away when it is relaxed: the potential knows no such structure")
        total = chosen.equilibration + chosen.n_samples
        for k in track(range(run.done, total), "sampling", show=show_progress):
            run, ends = _candidates(task, run, ends)
            if path is not None and ((k + 1) % chosen.checkpoint_every == 0 or k + 1 == total):
                files.write(path, run, mark)
    n = chosen.n_samples  # a checkpoint may hold more
    acceptance = run.counts / max(run.done, 1)
    return RelaxedSamples(np.array(run.numbers)[:n], np.array(run.energies)[:n], acceptance, ends.structures)


def _candidates(task: _Task, run: files.Run, ends: _Ends) -> tuple[files.Run, _Ends]:
    """One candidate of each chain, taken or refused."""
    model, _, ensemble, temperatures, settings = task
    key = jax.random.fold_in(jax.random.key(settings.seed), run.done)
    candidates = sampler.advance_all(model, ensemble, run.states, key, jnp.asarray(settings.n_trials))
    found = _relaxed(task, candidates)
    beta = 1 / (BOLTZMANN * temperatures)
    unrelaxed, exchanged = (
        new - old for new, old in zip(_work(task, candidates), _work(task, run.states), strict=True)
    )
    gain = beta / settings.heat * (unrelaxed - exchanged) - beta * (found.energies - ends.energies - exchanged)
    taken = np.log(np.random.default_rng([settings.seed, run.done]).random(len(gain))) < gain
    states = jax.tree.map(lambda new, old: _choose(taken, new, old), candidates, run.states)
    pairs = zip(taken, found.structures, ends.structures, strict=True)
    ends = _Ends(np.where(taken, found.energies, ends.energies), [new if t else old for t, new, old in pairs])
    kept = run.done >= settings.equilibration
    numbers = [numbers_of(np.asarray(states.occupation), model.potential)] if kept else []
    energies = [ends.energies] if kept else []
    run = files.Run(states, run.done + 1, run.numbers + numbers, run.energies + energies, run.counts + taken)
    return run, ends


def _work(task: _Task, states: sampler.State) -> tuple[np.ndarray, np.ndarray]:
    """Unrelaxed energy E_u, and μ·N, of each chain in eV."""
    energies = states.energies.sum(axis=1)
    grand = jax.vmap(sampler.grand_energy)(states, task.ensemble.conditions)
    return np.asarray(energies), np.asarray(energies - grand)


def _relaxed(task: _Task, states: sampler.State) -> _Ends:
    numbers = numbers_of(np.asarray(states.occupation), task.model.potential)
    starts = [occupied(task.sites, one) for one in numbers]
    settings = task.settings
    found = relax(task.model, starts, max_steps=settings.max_steps, fmax=settings.fmax, cell=settings.cell)
    energies = np.array([one.energy for one in found])
    return _Ends(np.where(np.isfinite(energies), energies, np.inf), [one.atoms for one in found])


def _choose(taken: np.ndarray, new: jax.Array, old: jax.Array) -> jax.Array:
    return jnp.where(jnp.asarray(taken).reshape(-1, *[1] * (new.ndim - 1)), new, old)
