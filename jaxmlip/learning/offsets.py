"""A teacher on the energy scale of other calculations: its energies per element, fitted to theirs."""

from collections.abc import Sequence

import ase
import numpy as np

from jaxmlip.data.labels import labels
from jaxmlip.graph.batch import species_index
from jaxmlip.learning.exploration import labelled
from jaxmlip.potentials.model import Model


def aligned(model: Model, atoms: Sequence[ase.Atoms], *, dtype: str = "float32") -> Model:
    """``model`` with energies per element changed so that its energies of ``atoms`` are nearest to their labels.

    min_δ Σ_k (ΔE_k/N_k − Σ_s n_ks δ_s/N_k)², of all minima the smallest δ: one number an element, in closed form, which
    changes no force.

    >>> import jaxmlip
    >>> frames = jaxmlip.datasets.load("mo", split="test")[:3]
    >>> potential = jaxmlip.build("snap", species=("Mo",), cutoff=4.0, twojmax=2)
    >>> found = aligned(Model(potential, potential.init(None, None)), frames)
    >>> bool(found.params["offsets"][0] < -10)  # eV: the mean energy of an atom
    True

    Raises:
        ValueError: no structure has an energy.
    """
    known = [frame for frame in atoms if labels(frame).energy is not None]
    if not known:
        raise ValueError(f"none of the {len(atoms)} structures has an energy to align the model with")
    species = [int(z) for z in model.potential.config.species]
    counts = np.array([np.bincount(species_index(f.numbers, species), minlength=len(species)) for f in known])
    n_atoms = counts.sum(axis=1)
    found = np.array([labels(frame).energy for frame in labelled(model, known, dtype=dtype)], float)
    missing = (np.array([labels(frame).energy for frame in known]) - found) / n_atoms
    change = np.linalg.lstsq(counts / n_atoms[:, None], missing, rcond=None)[0]
    return Model(model.potential, {**model.params, "offsets": np.asarray(model.params["offsets"]) + change})
