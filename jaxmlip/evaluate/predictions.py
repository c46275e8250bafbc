"""Predictions for many structures, in their own order: what errors, parity plots and files are made of."""

from collections.abc import Sequence
from typing import NamedTuple

import ase
import jax
import numpy as np
from jaxtyping import Float

from jaxmlip.graph.batch import Batch, batches
from jaxmlip.potentials.base import Model, cast_params, predict
from jaxmlip.progress import track


class Predicted(NamedTuple):
    """Energies in eV, forces in eV/Å and stresses in eV/Å³ (ASE sign), one entry per structure, on the host."""

    energy: Float[np.ndarray, " n_structures"]
    forces: list[Float[np.ndarray, "_ 3"]]  # [n_atoms of the structure, 3]
    stress: Float[np.ndarray, "n_structures 3 3"]


def predict_atoms(
    model: Model,
    atoms: Sequence[ase.Atoms],
    *,
    dtype: str = "float64",
    max_atoms: int = 512,
    show_progress: bool = False,
) -> Predicted:
    """Energy, forces and stress of every structure, in the order given.

    >>> import jax
    >>> from ase.build import bulk
    >>> from jaxmlip.potentials import Model, build
    >>> potential = build("snap", species=("Mo",), cutoff=3.0, twojmax=2)
    >>> model = Model(potential, potential.init(jax.random.key(0), None))
    >>> predict_atoms(model, [bulk("Mo"), bulk("Mo", cubic=True)]).forces[1].shape
    (2, 3)

    Args:
        model: the potential and its parameters.
        atoms: structures of any sizes; they are evaluated in batches of a few fixed shapes.
        dtype: "float64" or "float32", of positions and parameters.
        max_atoms: atoms in a batch; less needs less memory.
        show_progress: a bar on standard error.

    Raises:
        ValueError: another dtype, an empty list, or a structure that the potential cannot take (see `batch`).
    """
    if dtype not in ("float64", "float32"):
        raise ValueError(f"dtype must be 'float64' or 'float32', got {dtype!r}")
    frames = list(atoms)
    with jax.enable_x64(dtype == "float64"):
        params = cast_params(model.params, dtype)
        filled = batches(frames, model.potential.config, max_atoms=max_atoms, dtype=dtype)
        result = Predicted(np.zeros(len(frames)), [np.zeros((0, 3))] * len(frames), np.zeros((len(frames), 3, 3)))
        for one in track(filled, "predicting", show=show_progress):
            _collect(result, one, jax.device_get(predict(model.potential, params, one.graph)))
    return result


def _collect(result: Predicted, one: Batch, prediction) -> None:
    """Copy one batch to where its structures stood in the data."""
    owner = np.where(one.graph.atom_mask, one.graph.atom_graph, -1)
    for slot, index in enumerate(one.index):
        if index < 0:
            continue
        result.energy[index] = prediction.energy[slot]
        result.forces[index] = np.asarray(prediction.forces[owner == slot], np.float64)
        result.stress[index] = prediction.stress[slot]
