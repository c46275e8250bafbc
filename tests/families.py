"""A tiny potential of every family, with parameters that matter: for tests of what uses potentials."""

import sys

import jax
import numpy as np
from ase.build import bulk

import jaxmlip
from jaxmlip.testing import subject

SPECIES = ("Li", "Mn", "O")
SETTINGS = {
    "snap": {"cutoff": 3.2, "twojmax": 1, "radii": (0.4, 0.5, 0.45), "weights": (0.8, 1.0, 0.5), "rfac0": 0.98},
    "gap": {"cutoff": 3.2, "n_max": 2, "l_max": 2, "sigma_atom": 0.5, "zeta": 3.0, "delta": 1.2},
    "aenet": {"cutoff": 3.2, "angular_cutoff": 3.0, "hidden": ("3:tanh",), "radial_order": 4},
    "mtp": {"cutoff": 3.2, "level": 4, "radial_basis_size": 3, "min_dist": 1.5},
    "nequip": {"cutoff": 3.2, "num_layers": 1, "num_features": 2},
    "sevennet": {"cutoff": 3.2, "irreps": ("2x0e", "2x0e"), "l_max": 1, "radial_hidden": (4,)},
}
SETTINGS["qsnap"] = SETTINGS["snap"]


def model(family):
    """Of `SETTINGS`, or of a new family with its defaults."""
    potential = jaxmlip.build(family, species=SPECIES, **SETTINGS.get(family, {"cutoff": 3.2}))
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
            potential, params = model(family)
            result = jaxmlip.predict(potential, params, jaxmlip.batch(rocksalt(), potential.config))
            found |= {f"{family} {name}": np.asarray(value) for name, value in result._asdict().items()}
    return found


if __name__ == "__main__":
    np.savez(sys.argv[1], **predictions())
