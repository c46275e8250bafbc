"""The fcc Ising antiferromagnet: E = J Σ_pairs s_i s_j over nearest neighbours, as many spins up as down.

Its order–disorder transition (L1_0, of first order) is at the peak of the specific heat. Replicas exchange, and all
their energies together give the specific heat at any temperature (multiple histograms).

References:
    Polgreen, Phys. Rev. B 29, 1468 (1984); Beath and Ryan, Phys. Rev. B 73, 174416 (2006): kT/J between 1.72 and 1.74,
    which was not checked in the papers. scripts/mchammer_peer.py is the check of energies and short-range order.
    Shirts and Chodera, J. Chem. Phys. 129, 124105 (2008), equations 11 and 14: the estimator of all histograms.
"""

from collections.abc import Sequence
from typing import Any

import ase.build
import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp

import jaxmlip
from jaxmlip.cathodes import disorder
from jaxmlip.potentials.base import Config, Potential, factory
from jaxmlip.units import BOLTZMANN

BOND = 2.55  # Å
COUPLING = 0.01  # eV
LOW, HIGH, N_TEMPERATURES = 1.68, 1.78, 12  # kT/J
N_BLOCKS = 5


@factory
def ising(config: Config) -> Potential:
    """Spins: species 0 is up, 1 is down."""

    def init(key: Any = None, graph: Any = None) -> Any:
        return {"offsets": jnp.zeros(2), "coupling": jnp.asarray(COUPLING)}

    def atomic_energies(params: Any, graph: Any, vectors: Any) -> Any:
        spin, other = 1.0 - 2.0 * graph.species, 1.0 - 2.0 * graph.neighbor_species
        pairs = jnp.where(graph.mask, spin[:, None] * other, 0)
        return params["coupling"] * jnp.sum(pairs, axis=1).astype(vectors.dtype) / 2

    return Potential(config, init, atomic_energies)


def sampled(edge: int, temperatures: Any, *, n_samples: int) -> tuple[disorder.Sites, disorder.Samples]:
    """Samples of a cell, one temperature (in J/k_B) a column."""
    potential = ising(Config(species=("Cu", "Ni"), cutoff=1.1 * BOND))
    model = jaxmlip.Model(potential, potential.init(None, None))
    frame = ase.build.bulk("Cu", a=BOND * np.sqrt(2), cubic=True).repeat(edge)
    sites = disorder.sites_of(frame, {"Cu": ("Cu", "Ni")})
    kelvin = np.asarray(temperatures) * COUPLING / BOLTZMANN
    starts = np.array([disorder.random_numbers(sites, {"Cu": 1, "Ni": 1}, k) for k in range(len(kelvin))])
    settings = disorder.Sampling(n_samples=n_samples, equilibration=n_samples // 2, tempering=True)
    return sites, disorder.sample(model, sites, disorder.Chains(starts, kelvin.tolist()), settings=settings)


def means(temperatures: Sequence[float], n_samples: int, edge: int = 4) -> list[dict[str, Any]]:
    """Energies and Warren–Cowley parameters of three shells, beside which scripts/mchammer_peer.py has its own."""
    sites, found = sampled(edge, temperatures, n_samples=n_samples)
    n_spins, rows = len(sites.frame), []
    for k, temperature in enumerate(temperatures):
        energy = disorder.estimate(found.energies[:, [k]] / COUPLING / n_spins)
        alpha = disorder.warren_cowley(sites, found.numbers[:, [k]]).alpha
        row = {"spins": n_spins, "kT/J": temperature, "energy a spin (J)": float(energy.mean)}
        row |= {f"α{shell + 1}": float(alpha.mean[shell, 0, 1]) for shell in range(3)}
        row |= {"error of energy a spin (J)": float(energy.error)}
        rows.append(row | {f"error of α{shell + 1}": float(alpha.error[shell, 0, 1]) for shell in range(3)})
    return rows


def peak(energies: np.ndarray, temperatures: np.ndarray) -> float:
    """The temperature at which the variance of the energy over T², from all replicas together, is largest."""
    beta, all_energies = 1 / temperatures, energies.ravel() - energies.mean()
    action = beta[:, None] * all_energies[None]
    free = np.zeros(len(beta))
    for _ in range(500):
        log_weight = -np.asarray(logsumexp(free[:, None] - action, axis=0))  # every temperature has as many samples
        new = -np.asarray(logsumexp(log_weight[None] - action, axis=1))
        free, change = new - new[0], np.abs(new - new[0] - free).max()
        if change < 1e-8:
            break
    grid = np.linspace(temperatures[0], temperatures[-1], 801)
    heat = []
    for one in grid:
        weight = log_weight - all_energies / one
        weight = np.exp(weight - logsumexp(weight))
        mean = weight @ all_energies
        heat.append(weight @ (all_energies - mean) ** 2 / one**2)
    return float(grid[np.argmax(heat)])


def transition(edges: Sequence[int], n_samples: int) -> list[dict[str, Any]]:
    """Peaks of cells of several edges, with errors from blocks of the chains."""
    temperatures = np.linspace(LOW, HIGH, N_TEMPERATURES)
    rows = []
    for edge in edges:
        energies = sampled(edge, temperatures, n_samples=n_samples)[1].energies / COUPLING
        blocks = [peak(one, temperatures) for one in np.array_split(energies, N_BLOCKS)]
        error = float(np.std(blocks, ddof=1) / np.sqrt(N_BLOCKS))
        name = f"fcc Ising antiferromagnet, kT/J of the transition, {4 * edge**3} spins"
        rows.append({"quantity": name, "found": peak(energies, temperatures), "error": error, "known": ""})
    return rows
