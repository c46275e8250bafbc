"""A small potential written against the contract, Morse pairs that end smoothly: for tests of what uses potentials."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from ase import Atoms
from ase.build import bulk

from jaxmlip.potentials.base import Config, Potential, factory
from jaxmlip.potentials.model import Model


@dataclasses.dataclass(frozen=True)
class MorseConfig(Config):
    width: float = 1.6  # 1/Å


@factory
def morse(config):
    n_species = len(config.species)

    def init(key=None, graph=None):
        pairs = jnp.ones((n_species, n_species))
        return {"offsets": jnp.zeros(n_species), "depth": pairs, "radius": 2.6 * pairs}

    def atomic_energies(params, graph, vectors):
        r = jnp.sqrt(jnp.sum(vectors**2, axis=-1))
        pair = graph.species[:, None], graph.neighbor_species
        x = jnp.exp(-config.width * (r - params["radius"][pair]))
        end = (1 - jnp.clip(r / config.cutoff, 0, 1) ** 2) ** 3
        energy = params["depth"][pair] * (x * x - 2 * x) * end
        inside = graph.mask & (r < config.cutoff)
        return params["offsets"][graph.species] + jnp.sum(jnp.where(inside, energy, 0), axis=1) / 2

    return Potential(config, init, atomic_energies)


def model(cutoff=5.0):
    """Cu, Ni, Pd with different well depths."""
    potential = morse(MorseConfig(species=("Cu", "Ni", "Pd"), cutoff=cutoff))
    depth = np.array([[0.3, 0.4, 0.35], [0.4, 0.25, 0.3], [0.35, 0.3, 0.2]])
    return Model(potential, {"offsets": np.array([-1.0, -2.0, -3.0]), "depth": depth, "radius": np.full((3, 3), 2.6)})


def alloy() -> Atoms:
    """Four atoms of three elements in an fcc cell of 3.6 Å, shorter than the cutoff, a little distorted."""
    atoms = bulk("Cu", cubic=True, a=3.6)
    atoms.symbols[:] = ["Cu", "Ni", "Pd", "Cu"]
    atoms.rattle(0.05, seed=1)
    strain = np.array([[0.02, 0.05, 0], [0, -0.03, 0.01], [0.02, 0, 0.01]])
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return atoms
