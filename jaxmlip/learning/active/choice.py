"""Which structures, explored or given, are labelled: those that tell most of all of them.

With φ_i the derivatives of the energy per atom of structure i by the parameters, and C what the training labels leave
open of these, φ_i C φ_iᵀ is the variance of its energy. C⁻¹ is JᵀJ of the normal equations of all labels, energies,
forces and stresses, and a weak pull on each parameter. The set is built greedily for the least sum of variances of all
structures outside: each next one lowers it most,

    Σ_i (φ_i C φ_jᵀ)² / (σ² + φ_j C φ_jᵀ)   largest.

So a structure counts that others resemble; one far from all tells of itself alone. A set of largest determinant would
be made of those. A structure whose φ is nearly that of one already chosen is its twin.

References:
    MacKay, Neural Comput. 4, 590 (1992): C, and information on the points of interest, not on the parameters.
    Cohn, Ghahramani, Jordan, J. Artif. Intell. Res. 4, 129 (1996): least variance over what is met.
    Zaverkin, Holzmüller, Steinwart, Kästner, Digital Discovery 1, 605 (2022): batches by features of gradients.
"""

from collections.abc import Sequence

import ase
import numpy as np
from jaxtyping import Float

from jaxmlip.data.labels import is_converged
from jaxmlip.evaluate.grade import structure_rows
from jaxmlip.fitting.training.frozen import frozen
from jaxmlip.fitting.training.gauss_newton import GaussNewtonFit, means_by_kind, normal_matrix, prepared
from jaxmlip.fitting.training.loop import precision
from jaxmlip.fitting.training.problem import make_problem, split_params
from jaxmlip.learning.active.settings import Learning
from jaxmlip.learning.active.uncertainty import uncounted
from jaxmlip.potentials.base import Kernel
from jaxmlip.potentials.model import Model

_WEIGHTS = GaussNewtonFit(energy_weight=30.0, force_weight=1.0, stress_weight=10.0)  # of labels, as most presets weigh
_PRIOR = 0.01  # pull on a parameter, relative to the mean diagonal of JᵀJ over those of its kind
_LARGEST = 0.9  # structures with larger deviations than this part of all count as having that


def choose(
    model: Model,
    atoms: Sequence[ase.Atoms],
    doubts: Float[np.ndarray, " n_structures"],
    n: int,
    *,
    train: Sequence[ase.Atoms],
    settings: Learning,
) -> list[int]:
    """Indices of up to ``n`` of ``atoms``, the most informative first.

    Only structures beyond the soft limit count, all alike: what is far beyond may be no structure at all.

    >>> import jaxmlip
    >>> frames = jaxmlip.datasets.load("mo", split="test")[:4]
    >>> potential = jaxmlip.build("snap", species=("Mo",), cutoff=4.0, twojmax=2)
    >>> model = Model(potential, potential.init(None, None))
    >>> doubts = np.array([1.0, 3.0, 5.0, 50.0, 5.0])
    >>> sorted(choose(model, [*frames, frames[2]], doubts, 5, train=[], settings=Learning()))
    [1, 2, 3]
    """
    outside = np.flatnonzero(doubts > settings.doubt.soft).tolist()
    if not outside or n < 1:
        return []
    names = uncounted(model, settings.doubt)
    counted = frozen(model, names) if names else model
    rows = _rows(counted, [atoms[k] for k in outside])
    known = information_matrix(counted, train, rows)
    found = representative(rows, n, information=known, noise=1 / _WEIGHTS.energy_weight, twins=settings.twins)
    return [outside[k] for k in found]


def representative(
    rows: Float[np.ndarray, "n_structures n_params"],
    n: int,
    *,
    information: Float[np.ndarray, "n_params n_params"],
    noise: float = 0.1,
    twins: float = 0.05,
) -> list[int]:
    """Up to ``n`` rows that tell most of all rows and are no twins of each other, the best first.

    Args:
        rows: φ, in eV/atom a unit of each parameter.
        n: how many.
        information: C⁻¹, what the labels so far tell of the parameters.
        noise: σ of an energy, eV/atom.
        twins: distance of features below which two structures are one; 1 is their spread.

    >>> representative(np.array([[1.0, 0.0], [1.0, 0.2], [0.9, 0.1], [0.0, 1.0]]), 2, information=np.eye(2))
    [1, 3]
    """
    if not len(rows):
        return []
    covariance = rows @ np.linalg.solve(information, rows.T)
    deviation = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    shorter = np.minimum(1.0, np.quantile(deviation, _LARGEST) / np.maximum(deviation, 1e-300))
    covariance, nearest = covariance * shorter * shorter[:, None], np.full(len(rows), np.inf)
    features, found = _relative(rows), []
    for _ in range(n):
        gain = np.sum(covariance**2, axis=0) / (noise**2 + np.diag(covariance))
        candidate = nearest > twins
        candidate[found] = False
        if not candidate.any():
            break
        best = int(np.argmax(np.where(candidate, gain, -1.0)))
        found.append(best)
        nearest = np.minimum(nearest, np.linalg.norm(features - features[best], axis=1))
        own = covariance[:, best]
        covariance = covariance - np.outer(own, own) / (noise**2 + own[best])
    return found


def _relative(rows: Float[np.ndarray, "n_structures n_params"]) -> Float[np.ndarray, "n_structures n_features"]:
    """Each derivative that differs, relative to its spread; of length about 1."""
    spread = rows.std(axis=0)
    useful = spread > 1e-9 * np.abs(rows).max(axis=0, initial=0.0)
    return (rows[:, useful] - rows[:, useful].mean(axis=0)) / spread[useful] / np.sqrt(max(np.sum(useful), 1))


def _rows(model: Model, atoms: Sequence[ase.Atoms]) -> Float[np.ndarray, "n_structures n_params"]:
    """φ of each structure."""
    return structure_rows(model, atoms) / np.array([len(frame) for frame in atoms])[:, None]


def information_matrix(
    model: Model, train: Sequence[ase.Atoms], rows: Float[np.ndarray, "n_structures n_params"]
) -> Float[np.ndarray, "n_params n_params"]:
    """C⁻¹ of the trained parameters: what the labels of ``train`` tell of them, and the pull.

    Calculations that did not converge tell nothing, as they are not fitted. Of a Gaussian process energies alone count:
    slopes of forces by its thousand weights take longer than its fit.

    Args:
        model: whose other parameters are frozen.
        train: labelled structures.
        rows: φ of those to choose from; the pull is measured by them where no label tells anything.
    """
    trained, _ = split_params(model.potential, model.params)
    fitted, n = [frame for frame in train if is_converged(frame)], rows.shape[1]
    matrix = np.zeros((n, n))
    if fitted and isinstance(model.potential.stages, Kernel):
        known = _WEIGHTS.energy_weight * _rows(model, fitted)
        matrix = known.T @ known
    elif fitted:
        with precision("float64"):
            matrix, _ = normal_matrix(*prepared(make_problem(model, fitted, [], _WEIGHTS)), np.arange(n))
    pull, of_rows = (means_by_kind(trained, part) for part in (np.diag(matrix), np.mean(rows**2, axis=0)))
    pull = np.where(pull > 0, pull, np.where(of_rows > 0, of_rows, 1.0))
    return matrix + _PRIOR * np.diag(pull)
