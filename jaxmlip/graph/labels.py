"""Labels of a batch as arrays, padded like its graph."""

from typing import Any, NamedTuple

import ase
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxmlip.data.labels import labels as read_labels


class GraphLabels(NamedTuple):
    """What DFT says of a `Graph`; a missing label has weight zero in its mask."""

    energy: Float[Array, " n_graphs"]  # eV
    forces: Float[Array, "n_atoms 3"]  # eV/Å
    stress: Float[Array, "n_graphs 3 3"]  # eV/Å³, ASE sign
    has_energy: Bool[Array, " n_graphs"]
    has_forces: Bool[Array, " n_atoms"]
    has_stress: Bool[Array, " n_graphs"]
    energy_factor: Float[Array, " n_graphs"]  # multiplies the residual, beside the weights of a fit
    forces_factor: Float[Array, " n_atoms"]
    stress_factor: Float[Array, " n_graphs"]


def label_arrays(
    frames: list[ase.Atoms], shape: Any, dtype: Any, factors: Float[np.ndarray, "n_structures 3"] | None = None
) -> GraphLabels:
    """Labels padded like the graph, on the host; missing ones are zero with a False mask."""
    factors = np.ones((len(frames), 3)) if factors is None else factors
    energy, stress = np.zeros(shape.n_graphs), np.zeros((shape.n_graphs, 3, 3))
    forces = np.zeros((shape.n_atoms, 3))
    has_energy, has_stress = np.zeros(shape.n_graphs, bool), np.zeros(shape.n_graphs, bool)
    has_forces = np.zeros(shape.n_atoms, bool)
    energy_factor, stress_factor = np.ones(shape.n_graphs), np.ones(shape.n_graphs)
    forces_factor = np.ones(shape.n_atoms)
    start = 0
    for k, frame in enumerate(frames):
        given, rows = read_labels(frame), slice(start, start + len(frame))
        start += len(frame)
        energy_factor[k], forces_factor[rows], stress_factor[k] = factors[k]
        if given.energy is not None:
            energy[k], has_energy[k] = given.energy, True
        if given.forces is not None:
            forces[rows], has_forces[rows] = given.forces, True
        if given.stress is not None:
            stress[k], has_stress[k] = given.stress, True
    values: dict[str, Any] = {"energy": energy, "forces": forces, "stress": stress, "energy_factor": energy_factor}
    values |= {"forces_factor": forces_factor, "stress_factor": stress_factor}
    values = {name: array.astype(dtype) for name, array in values.items()}
    values |= {"has_energy": has_energy, "has_forces": has_forces, "has_stress": has_stress}
    return GraphLabels(**values)
