"""The jaxmlip side of Monte Carlo: trial swaps of cations in a rocksalt, against evaluating the whole cell again."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import jaxmlip
from benchmarking.cases import MC_SPECIES, MC_TRIALS, Job
from benchmarking.clock import median, timed
from jaxmlip.cathodes.disorder import Chains, random_numbers, rocksalt, sampler
from jaxmlip.cathodes.disorder.energies import all_energies
from jaxmlip.cathodes.disorder.sampling import ensemble_of, first_states
from jaxmlip.potentials.base import cast_params

_TEMPERATURE, _LATTICE = 1300.0, 4.2


class Run:
    """Chains on their way."""

    def __init__(self, model: jaxmlip.Model, job: Job, n_chains: int) -> None:
        sites = rocksalt("LiMnO2", repeat=(job.size, job.size, job.size), lattice=_LATTICE)
        amounts = {symbol: 1 + (symbol == "O") for symbol in MC_SPECIES}
        starts = random_numbers(sites, amounts)[None].repeat(n_chains, axis=0)
        chains = Chains(starts, [_TEMPERATURE] * n_chains)
        self.model = jaxmlip.Model(model.potential, cast_params(model.params, job.precision))
        self.task = ensemble_of(self.model, sites, chains, job.precision)
        self.states = first_states(self.model, self.task, chains)
        self.n_sites, self.n_chains = len(sites.frame), n_chains

    def trials(self, n: int) -> Any:
        """``n`` trials of each chain."""
        key = jax.random.key(0)
        return jax.block_until_ready(sampler.advance_all(self.model, self.task, self.states, key, jnp.asarray(n)))

    def measure(self, job: Job, compiling: Callable[[Callable], dict[str, float]]) -> dict[str, Any]:
        """Seconds a trial; for comparison those of evaluating all sites of one chain."""
        n = max(1, MC_TRIALS // self.n_chains) if job.repeats > 1 else 2
        first = compiling(lambda: self.trials(n))
        times = median([timed(lambda: self.trials(n)) for _ in range(job.repeats)])
        steady = {clock: value / (n * self.n_chains) for clock, value in times.items()}
        whole = jax.jit(all_energies)

        def again() -> Any:
            return jax.block_until_ready(whole(self.model, self.task.lattice, self.states.occupation[0]))

        again()
        full = median([timed(again) for _ in range(job.repeats)])["cpu"]
        numbers = {"trials_per_second": 1 / steady["cpu"], "full_evaluation_us": 1e6 * full}
        return {"n_atoms": self.n_sites, "first": first, "steady": steady, **numbers}
