"""A tiny potential of every family, with parameters that matter: for tests of what uses potentials."""

import sys

import jax
import numpy as np
from ase.build import bulk

import jaxmlip
from jaxmlip.potentials import trainable
from jaxmlip.potentials.registry import config_from_mapping, potential_of
from jaxmlip.testing import subject

SPECIES = ("Li", "Mn", "O")
SETTINGS = {name: {k: x for k, x in jaxmlip.FAMILIES[name].example.items() if k != "species"} for name in trainable()}


def model(family):
    """The example of a family."""
    potential = potential_of(config_from_mapping({"family": family, **jaxmlip.FAMILIES[family].example}))
    params = subject(potential).params
    if family == "qsnap":  # products of many invariants: forces like the others'
        params["coefficients"] = 1e-3 * params["coefficients"]
    return jaxmlip.Model(potential, params)


def rocksalt():
    """Eight atoms of three elements in a cell shorter than twice the cutoff, rattled."""
    atoms = bulk("LiO", "rocksalt", a=4.2, cubic=True)
    atoms.symbols[[0, 4]] = "Mn"
    atoms.rattle(0.15, seed=2)
    return atoms


def predictions():
    """Energies, forces and stresses of every family, by name."""
    found = {}
    with jax.enable_x64(True):
        for family in jaxmlip.FAMILIES:
            one = model(family)
            result = jaxmlip.predict(one, jaxmlip.batch(rocksalt(), one.potential.config))
            found |= {f"{family} {name}": np.asarray(value) for name, value in result._asdict().items()}
    return found


if __name__ == "__main__":
    np.savez(sys.argv[1], **predictions())
