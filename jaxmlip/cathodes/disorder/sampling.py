"""Runs of the sampler from the host: chains side by side, samples kept, a checkpoint from which the same chain goes on.

Energies are those of the unrelaxed sites; `jaxmlip.cathodes.disorder.relaxed` samples relaxed ones.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ase.data import atomic_numbers
from jaxtyping import Float, Integer

from jaxmlip.cathodes.disorder import checkpoint as files
from jaxmlip.cathodes.disorder import sampler
from jaxmlip.cathodes.disorder.energies import codes_of, lattice_of, numbers_of
from jaxmlip.cathodes.disorder.moves import Move, move_table, swaps
from jaxmlip.cathodes.disorder.sites import Sites
from jaxmlip.config import ConfigError, Count, Positive, Settings, Whole
from jaxmlip.potentials.base import cast_params
from jaxmlip.potentials.model import Model
from jaxmlip.progress import track
from jaxmlip.units import BOLTZMANN


@dataclasses.dataclass(frozen=True)
class Sampling(Settings):
    """How long chains are and what is kept of them."""

    n_samples: Count = 200
    """Samples that are kept of each chain."""
    sweeps: Positive = 1.0
    """Trials per site that may change, between two samples."""
    equilibration: Whole = 50
    """Samples thrown away first."""
    tempering: bool = False
    """Neighbouring chains try to exchange their configurations after each sample: parallel tempering."""
    seed: Whole = 0
    """Of all random numbers."""
    precision: Literal["float64", "float32"] = "float64"
    """Of energies; float32 is twice as fast and good to about 1e-6 of an atomic energy."""
    checkpoint_every: Count = 20
    """Samples, where a file is given."""


class Chains(NamedTuple):
    """What runs side by side: the start of each chain, its conditions, and the moves of all."""

    starts: Integer[np.ndarray, "n_chains n_sites"]  # atomic numbers, 0: vacancy
    temperatures: Sequence[float]  # K
    potentials: Mapping[str, Sequence[float]] = {}  # eV, of species that moves create or remove
    moves: Sequence[Move] | None = None  # None: swaps of all unlike species

    def conditions(self, model: Model, dtype: str) -> sampler.Conditions:
        """On the device.

        Raises:
            ConfigError: a temperature that is not positive, or not one number a chain.
        """
        n = len(self.temperatures)
        if not n or not all(np.isfinite(t) and t > 0 for t in self.temperatures):
            raise ConfigError(f"temperatures must be positive numbers of K, got {tuple(self.temperatures)}")
        mu = np.zeros((n, len(model.potential.config.species) + 1))
        for symbol, values in self.potentials.items():
            if len(values) != n:
                raise ConfigError(f"{len(values)} chemical potentials of {symbol} for {n} chains: give one each")
            mu[:, codes_of(np.array([atomic_numbers[symbol]]), model.potential)[0]] = values
        beta = 1 / (BOLTZMANN * np.asarray(self.temperatures, float))
        return sampler.Conditions(jnp.asarray(beta, dtype), jnp.asarray(mu, dtype))


class Samples(NamedTuple):
    """What the chains visited; with tempering column k stays at temperature k."""

    numbers: Integer[np.ndarray, "n_samples n_chains n_sites"]  # atomic numbers, 0: vacancy
    energies: Float[np.ndarray, "n_samples n_chains"]  # eV of the cell
    acceptance: Float[np.ndarray, " n_chains"]  # of trials
    exchanges: float  # share of the exchanges of replicas that were accepted; NaN without tempering


def sample(
    model: Model,
    sites: Sites,
    chains: Chains,
    *,
    settings: Sampling | None = None,
    checkpoint: str | Path | None = None,
    show_progress: bool = False,
) -> Samples:
    """Samples of occupations from chains side by side, each under its own conditions.

    >>> from jaxmlip.cathodes.disorder import random_numbers, rocksalt
    >>> from jaxmlip.potentials import build
    >>> potential = build("mtp", species=("Li", "Mn", "O"), level=2, cutoff=3.0)
    >>> model, sites = Model(potential, potential.init(None, None)), rocksalt("LiMnO2", repeat=(1, 1, 1))
    >>> starts = random_numbers(sites, {"Li": 1, "Mn": 1, "O": 2})[None]
    >>> found = sample(model, sites, Chains(starts, [1300.0]), settings=Sampling(n_samples=3))
    >>> found.numbers.shape
    (3, 1, 8)

    Raises:
        ValueError: what `lattice_of` or `move_table` refuse, or a checkpoint of another run.
    """
    chosen = settings or Sampling()
    with jax.enable_x64(True):
        model = Model(model.potential, cast_params(model.params, chosen.precision))
        task = ensemble_of(model, sites, chains, chosen.precision)
        mark = files.fingerprint(model, sites, chains, chosen)
        path = None if checkpoint is None else Path(checkpoint)
        run = files.Run(first_states(model, task, chains), 0, [], [], np.zeros(2, int))
        run = run if path is None or not path.exists() else files.read(path, mark)
        total = chosen.equilibration + chosen.n_samples
        n_moving = sum(len(part.sites) for part in sites.sublattices if len(part.symbols) > 1)
        n_trials = jnp.asarray(max(1, round(chosen.sweeps * n_moving)))
        for k in track(range(run.done, total), "sampling", show=show_progress):
            run = _sample_once(model, task, run, chosen, n_trials)
            if path is not None and ((k + 1) % chosen.checkpoint_every == 0 or k + 1 == total):
                files.write(path, run, mark)
        tried = run.done * int(n_trials)
        acceptance = np.asarray(run.states.n_accepted) / max(tried, 1)
    exchanges = float(run.counts[0] / run.counts[1]) if run.counts[1] else float("nan")
    n = chosen.n_samples  # a checkpoint may hold more
    return Samples(np.array(run.numbers)[:n], np.array(run.energies)[:n], acceptance, exchanges)


def ensemble_of(model: Model, sites: Sites, chains: Chains, dtype: str) -> sampler.Ensemble:
    """What the trials of all chains need."""
    moves = swaps(sites) if chains.moves is None else chains.moves
    table = move_table(moves, sites, [int(z) for z in model.potential.config.species])
    return sampler.Ensemble(lattice_of(sites, model.potential, dtype), table, chains.conditions(model, dtype))


def first_states(model: Model, task: sampler.Ensemble, chains: Chains) -> sampler.State:
    """The starts of all chains on the device.

    Raises:
        ValueError: not one start a chain, of all sites.
    """
    wanted = (len(task.conditions.beta), task.lattice.n_sites)
    if np.shape(chains.starts) != wanted:
        raise ValueError(f"starts must be {wanted[0]} chains of {wanted[1]} sites, got {np.shape(chains.starts)}")
    codes = jnp.asarray(codes_of(np.asarray(chains.starts), model.potential))
    return jax.lax.map(lambda one: sampler.start(model, task.lattice, one), codes)


def _sample_once(
    model: Model, task: sampler.Ensemble, run: files.Run, settings: Sampling, n_trials: jax.Array
) -> files.Run:
    trials, exchange = jax.random.split(jax.random.fold_in(jax.random.key(settings.seed), run.done))
    states = sampler.advance_all(model, task, run.states, trials, n_trials)
    n_chains, exchanged, tried = len(states.energies), 0, 0
    if settings.tempering and n_chains > 1:
        odd = run.done % 2
        accepted = states.n_accepted
        states, taken = sampler.temper(states, task.conditions, exchange, jnp.asarray(odd))
        states = states._replace(n_accepted=accepted)  # counts belong to a temperature, not to a configuration
        exchanged, tried = int(taken.sum()), (n_chains - odd) // 2
    kept = run.done >= settings.equilibration
    numbers = [numbers_of(np.asarray(states.occupation), model.potential)] if kept else []
    energies = [np.asarray(states.energies, float).sum(axis=1)] if kept else []
    counts = run.counts + np.array([exchanged, tried])
    return files.Run(states, run.done + 1, run.numbers + numbers, run.energies + energies, counts)
