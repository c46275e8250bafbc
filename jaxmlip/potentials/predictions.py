"""Predictions for many structures, in their own order: what errors, parity plots and files are made of."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from jaxmlip.data.structures import unlabelled
from jaxmlip.graph.batch import Batch, Graph, batches
from jaxmlip.potentials.base import cast_params, descriptor, safe_edges
from jaxmlip.potentials.model import Model, Prediction, as_model, predict
from jaxmlip.programs import work
from jaxmlip.progress import track


class Predicted(NamedTuple):
    """Energies in eV, forces in eV/Å and stresses in eV/Å³ (ASE sign), one entry per structure, on the host."""

    energy: Float[np.ndarray, " n_structures"]
    forces: list[Float[np.ndarray, "_ 3"]]  # [n_atoms of the structure, 3]
    stress: Float[np.ndarray, "n_structures 3 3"]
    atomic_energies: Sequence[Float[np.ndarray, " _"]] = ()  # [n_atoms of the structure]


def predict_atoms(
    model: Any,
    atoms: Any,
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
        model: the potential and its parameters, or its file.
        atoms: structures of any sizes, of ASE or pymatgen; they are evaluated in batches of a few fixed shapes.
        dtype: "float64" or "float32", of positions and parameters.
        max_atoms: atoms in a batch; less needs less memory.
        show_progress: a bar on standard error.

    Raises:
        ValueError: another dtype, an empty list, or a structure that the potential cannot take (see `batch`).
    """
    if dtype not in ("float64", "float32"):
        raise ValueError(f"dtype must be 'float64' or 'float32', got {dtype!r}")
    model, frames = as_model(model), unlabelled(atoms)
    n = len(frames)
    atomic: list[Any] = [np.zeros(0)] * n
    result = Predicted(np.zeros(n), [np.zeros((0, 3))] * n, np.zeros((n, 3, 3)), atomic)
    with jax.enable_x64(dtype == "float64"):
        model = Model(model.potential, cast_params(model.params, dtype))
        filled = batches(frames, model.potential.config, max_atoms=max_atoms, dtype=dtype)
        n_edges = sum(one.graph.mask.size for one in filled)
        with work(n_edges):
            for one in track(filled, "predicting", show=show_progress):
                _collect(result, one, jax.device_get(predict(model, one.graph)))
    return result


def single_prediction(found: Predicted) -> Prediction:
    """Of one structure, as of its graph."""
    parts: Any = (found.energy, found.forces[0], found.stress, found.atomic_energies[0])
    return Prediction(*parts)


def descriptors(model: Any, structures: Any) -> list[Float[np.ndarray, "_ n_descriptors"]]:
    """What the model sees of each atom, in float64, one array ``[n_atoms, n_descriptors]`` a structure.

    Invariants of the linear families (bispectrum components, contracted moments), SOAP vectors of GAP, fingerprints of
    AENET, the features after NequIP's last layer.

    >>> import ase, jaxmlip
    >>> potential = jaxmlip.build("snap", species=("Li", "O"), cutoff=4.0, twojmax=2)
    >>> model = Model(potential, potential.init(None, None))
    >>> descriptors(model, ase.Atoms("LiO", [[0, 0, 0], [0, 0, 1.9]]))[0].shape
    (2, 5)

    Raises:
        ValueError: a family without descriptors (ZBL).
    """
    model, frames = as_model(model), unlabelled(structures)
    found: list[Any] = [None] * len(frames)
    with jax.enable_x64(True):
        model = Model(model.potential, cast_params(model.params, "float64"))
        for one in batches(frames, model.potential.config):
            values = np.asarray(_described(model, one.graph))
            for index, _, mine in one.members():
                found[index] = values[mine]
    return found


@jax.jit
def _described(model: Model, graph: Graph) -> Float[Array, "n_atoms n_descriptors"]:
    vectors = safe_edges(graph, model.potential.config)
    return descriptor(model.potential)(model.params, graph, vectors)


def _collect(result: Any, one: Batch, prediction: Prediction) -> None:
    """Copy one batch to where its structures stood in the data."""
    for index, slot, mine in one.members():
        result.energy[index] = prediction.energy[slot]
        result.forces[index] = np.asarray(prediction.forces[mine], np.float64)
        result.stress[index] = prediction.stress[slot]
        result.atomic_energies[index] = np.asarray(prediction.atomic_energies[mine], np.float64)
