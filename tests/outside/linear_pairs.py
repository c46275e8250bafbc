"""A family of potentials in one file of a package of its own: pairs of atoms, linear in their coefficients.

E_i = ε_{z_i} + Σ_j Σ_k c_{z_i z_j k} (1 − r_ij/R)^(k + 3),    k = 0 … n_functions − 1.
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxmlip.config import Range
from jaxmlip.potentials import Config, Family, Linear, Potential, linear_energies


@dataclasses.dataclass(frozen=True)
class PairsConfig(Config):
    """Pairs that end smoothly at the cutoff."""

    n_functions: int = 3
    """Powers of 1 − r/R."""
    tunable: ClassVar[Mapping[str, Range]] = {"cutoff": Range(3.5, 6.0), "n_functions": Range(2, 6, step=1)}


def pairs(config: PairsConfig) -> Potential:
    """The potential of ``config``."""
    n_species = len(config.species)

    def init(key, graph=None):
        coefficients = jnp.zeros((n_species, n_species * config.n_functions))
        return {"offsets": jnp.zeros(n_species), "coefficients": coefficients}

    def density(params, graph, vectors):
        r = jnp.sqrt(jnp.sum(vectors**2, axis=-1, keepdims=True))
        x = jnp.maximum(1 - r / config.cutoff, 0)
        powers = jnp.concatenate([x ** (k + 3) for k in range(config.n_functions)], axis=-1)
        kind = jax.nn.one_hot(graph.neighbor_species, n_species, dtype=r.dtype)
        functions = (kind[..., None] * powers[..., None, :]).reshape(*r.shape[:2], -1)
        return jnp.where(graph.mask[..., None], functions, 0)

    def invariants(params, graph, total):
        return total

    stages = Linear(density, invariants)
    return Potential(config, init, linear_energies(stages), stages)


PAIRS = Family("pairs", PairsConfig, pairs)
