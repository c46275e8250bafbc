"""What every fit minimises: weighted squared residuals of energies per atom, forces and stresses.

    Σ_structures u_E w_E² (ΔE/N)² + Σ_components u_F w_F² ΔF² + Σ_components u_σ w_σ² Δσ²

with residuals in eV/atom, eV/Å and eV/Å³ (six components of stress) and the weights of `Weights`: the same for linear,
quasi-Newton and stochastic fits, so that families are compared on equal footing. Missing labels are left out. u are the
weights of single structures and groups (`jaxmlip.fitting.frame_weights`), 1 where nothing names any.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

import ase
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmlip.config import ConfigError, NotNegative, Range
from jaxmlip.data.elsewhere import refuse_elsewhere
from jaxmlip.data.labels import labels as read_labels
from jaxmlip.fitting.design import design
from jaxmlip.fitting.frame_weights import StructureWeights, residual_factors
from jaxmlip.fitting.rows import Multipliers, weighted_rows
from jaxmlip.graph.batch import Graph
from jaxmlip.graph.derivatives import per_graph, voigt
from jaxmlip.graph.labels import GraphLabels
from jaxmlip.potentials.base import Params, Potential, regressor
from jaxmlip.potentials.model import Model, predict, predict_energy
from jaxmlip.potentials.offsets import Energies, Offsets

NOTHING = "nothing to fit: no structure has a label whose weight is not zero; `jaxmlip audit` lists missing labels"


@dataclasses.dataclass(frozen=True)
class Weights(StructureWeights):
    """Weights of residuals in eV/atom, eV/Å and eV/Å³; each residual is multiplied by its weight, then squared."""

    energy_weight: NotNegative = 100.0
    """Of the energy an atom, 1/(eV/atom)."""
    force_weight: NotNegative = 1.0
    """Of each component of the forces, 1/(eV/Å)."""
    stress_weight: NotNegative = 0.0
    """Of each of the six components of the stress, 1/(eV/Å³)."""
    offsets: Offsets = "fit"
    """Energies per atom of each element: fitted to the data (from a model on, to what the model leaves of them); zero;
    keep those of the model; those of the isolated atoms in the data (`isolated_name`); or element → eV."""
    tunable: ClassVar[Mapping[str, Range]] = {}
    """Settings that ``jaxmlip tune`` looks for, and where."""

    def __post_init__(self) -> None:
        """Refuses what cannot be minimised."""
        super().__post_init__()
        if isinstance(self.offsets, Mapping):
            object.__setattr__(self, "offsets", Energies(self.offsets))
        if not (self.energy_weight or self.force_weight or self.stress_weight):
            raise ConfigError("energy_weight, force_weight and stress_weight are all zero: nothing would be fitted")


class Terms(NamedTuple):
    """Sums over structures: the objective, and squared residuals with their numbers (eV/atom, eV/Å, eV/Å³)."""

    objective: Float[Array, ""]
    energy: Float[Array, ""]
    forces: Float[Array, ""]
    stress: Float[Array, ""]
    n_structures: Float[Array, ""]
    n_energy: Float[Array, ""]
    n_forces: Float[Array, ""]
    n_stress: Float[Array, ""]

    def errors(self) -> dict[str, float]:
        """Objective per structure, and root mean squares in eV/atom, eV/Å and eV/Å³ of what has labels."""
        found = {"loss": float(self.objective / max(self.n_structures, 1))}
        for name in ("energy", "forces", "stress"):
            number = float(getattr(self, f"n_{name}"))
            if number:
                found[name] = float(np.sqrt(float(getattr(self, name)) / number))
        return found


class Example(NamedTuple):
    """Structures and what DFT says of them."""

    graph: Graph
    labels: GraphLabels
    descriptors: Float[Array, "n_atoms n_features"] | None = None
    """Kept ones, of potentials with a regressor: then only energies are evaluated, and from these."""


def terms(potential: Potential, params: Params, example: Example, weights: Weights) -> Terms:
    """Sums of squared residuals on an example; differentiable."""
    graph, labels, _ = example
    found = _differences(potential, params, example, weights)
    squares = [jnp.sum(part**2) for part in found]
    objective = jnp.sum(jnp.stack([jnp.sum(part**2) for part in _weighted(found, labels, weights)]))
    counts = _counts(n_atoms(graph), labels, with_forces=bool(weights.force_weight or weights.stress_weight))
    return Terms(objective, *squares, *counts)


class Residuals(NamedTuple):
    """Predicted − reference of energies per atom, forces and stresses; 0 without a label."""

    energy: Float[Array, " n_graphs"]
    forces: Float[Array, "n_atoms 3"]
    stress: Float[Array, "n_graphs 6"]


def residuals(potential: Potential, params: Params, example: Example, weights: Weights) -> Residuals:
    """Weighted residuals."""
    return _weighted(_differences(potential, params, example, weights), example.labels, weights)


def structure_factors(atoms: Sequence[ase.Atoms], weights: Weights) -> Float[np.ndarray, "n_structures 3"]:
    """√u of each structure for energy, forces and stress; a sigma that it names replaces 1/weight."""
    return residual_factors(atoms, weights, partial(label_sigmas, weights))


def label_sigmas(weights: Weights, frame: ase.Atoms) -> tuple[float, float, float]:
    """The standard deviations that weights mean for energy, forces and virial; 0 where there is no weight."""
    known = {"energy": float(len(frame)), "forces": 1.0, "stress": abs(float(np.linalg.det(frame.cell.array)))}
    energy, forces, virial = (known[name] / weight if weight else 0.0 for name, weight in _named(weights).items())
    return energy, forces, virial


def _weighted(found: Residuals, labels: GraphLabels, weights: Weights) -> Residuals:
    energy, forces, stress = found
    return Residuals(
        weights.energy_weight * labels.energy_factor * energy,
        weights.force_weight * labels.forces_factor[:, None] * forces,
        weights.stress_weight * labels.stress_factor[:, None] * stress,
    )


def linearized(
    potential: Potential, params: Params, example: Example, weights: Weights, with_inner: bool
) -> tuple[Float[Array, " n_residuals"], Float[Array, "n_columns n_residuals"]]:
    """All `residuals` in turn and their derivatives by the columns of the `design` matrix of a linear potential."""
    graph, labels, _ = example
    found = design(potential, params, graph, bool(weights.stress_weight), with_inner)
    rows = weighted_rows(found, labels, graph, multipliers(labels, n_atoms(graph), weights))
    linear = jnp.concatenate([params["offsets"], params["coefficients"].ravel()])
    return rows.matrix[:, : len(linear)] @ linear - rows.target, rows.matrix.T


def _differences(potential: Potential, params: Params, example: Example, weights: Weights) -> Residuals:
    """Residuals in eV/atom, eV/Å and eV/Å³.

    Without weights on forces and stresses only energies are evaluated, and from given descriptors where there are any.
    """
    graph, labels, descriptors = example
    forces, stress = jnp.zeros_like(labels.forces), jnp.zeros((graph.n_graphs, 6), labels.energy.dtype)
    if weights.force_weight or weights.stress_weight:
        found = predict(Model(potential, params), graph)
        energy = found.energy
        forces = jnp.where(labels.has_forces[:, None], found.forces - labels.forces, 0)
        stress = jnp.where(labels.has_stress[:, None], voigt(found.stress - labels.stress), 0)
    elif descriptors is None:
        energy = predict_energy(Model(potential, params), graph)
    else:
        energy = _regressed(potential, params, graph, descriptors)
    energy = jnp.where(labels.has_energy, (energy - labels.energy) / n_atoms(graph).clip(1), 0)
    return Residuals(energy, forces, stress)


def n_atoms(graph: Graph) -> Float[Any, " n_graphs"]:
    """How many atoms each structure of a batch has."""
    return per_graph(graph, graph.atom_mask.astype(graph.positions.dtype))


def multipliers(labels: GraphLabels, sizes: Float[Any, " n_graphs"], weights: Weights) -> Multipliers:
    """What `Weights` multiply the residuals of structures of ``sizes`` atoms by, of total energies and stresses."""
    return Multipliers(
        weights.energy_weight * labels.energy_factor / sizes.clip(1),
        weights.force_weight * labels.forces_factor,
        weights.stress_weight * labels.stress_factor,
    )


def _counts(sizes: Array, labels: GraphLabels, *, with_forces: bool) -> tuple[Array, ...]:
    numbers = (sizes > 0, labels.has_energy, labels.has_forces, labels.has_stress)
    factors = (1, 1, 3 * with_forces, 6 * with_forces)
    return tuple(k * jnp.sum(x).astype(labels.energy.dtype) for k, x in zip(factors, numbers, strict=True))


def _regressed(potential: Potential, params: Params, graph: Graph, descriptors: Array) -> Array:
    energies_fn = regressor(potential)
    if energies_fn is None:
        raise ValueError(f"{type(potential.config).__name__} has no regressor: descriptors cannot be kept")
    energies = energies_fn(params, graph.species, descriptors)
    return per_graph(graph, jnp.where(graph.atom_mask, energies, 0))


def check_labels(atoms: Sequence[ase.Atoms], weights: Weights) -> None:
    """Refuses data that cannot be fitted.

    Raises:
        ValueError: no structures, a label that is not finite, or no label that carries weight.
    """
    if not len(atoms):
        raise ValueError("no structures to fit")
    refuse_elsewhere(atoms, weighted_kinds(weights))
    if not sum(count_labels(frame, weights, number=k) for k, frame in enumerate(atoms)):
        raise ValueError(NOTHING)


def count_labels(frame: ase.Atoms, weights: Weights, *, number: int) -> int:
    """How many labels that carry weight a structure has, which messages call by its ``number``.

    Raises:
        ValueError: one is not finite.
    """
    present: dict[str, Any] = {name: v for name, v in read_labels(frame)._asdict().items() if v is not None}
    bad = [name for name, value in present.items() if not np.all(np.isfinite(value))]
    if bad:
        raise ValueError(
            f"structure {number} ({frame.get_chemical_formula()}) has {' and '.join(bad)} that are not finite numbers; "
            "remove it, or run `jaxmlip audit FILE --write clean.xyz`"
        )
    return len(set(weighted_kinds(weights)) & set(present))


def weighted_kinds(weights: Weights) -> list[str]:
    """Which of energy, forces and stress count.

    >>> weighted_kinds(Weights())
    ['energy', 'forces']
    """
    return [name for name, weight in _named(weights).items() if weight]


def _named(weights: Weights) -> dict[str, float]:
    return {"energy": weights.energy_weight, "forces": weights.force_weight, "stress": weights.stress_weight}


def force_scale(atoms: Sequence[ase.Atoms]) -> float:
    """The root mean square of all force components in eV/Å; 1 without forces, or where all of them vanish.

    >>> force_scale([ase.Atoms("H")])
    1.0
    """
    found = [np.ravel(given.forces) for given in map(read_labels, atoms) if given.forces is not None]
    size = float(np.sqrt(np.mean(np.concatenate(found) ** 2))) if found else 0.0
    return size or 1.0
