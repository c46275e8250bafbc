"""Which explored structures are labelled: doubtful ones that differ from each other.

With φ_i the features of a structure (derivatives of its energy per atom by the parameters, relative to their spread),
C = (1 + Φᵀ Φ/σ²)⁻¹ what the training data Φ leave open of them, and q_i the structure's quality, the set is built
greedily for the largest determinant of q_i φ_i C φ_jᵀ q_j: each next structure is the one of which those chosen and the
training data tell least. That is the most probable set of a determinantal point process. A structure whose φ is nearly
that of one already chosen is its twin.

References:
    Kulesza, Taskar, Found. Trends Mach. Learn. 5, 123 (2012), section 3.1: quality and diversity.
    Chen, Zhang, Zhou, NeurIPS 2018: the greedy set.
    Zaverkin, Holzmüller, Steinwart, Kästner, Digital Discovery 1, 605 (2022): batches by features of gradients.
"""

from collections.abc import Sequence

import ase
import numpy as np
from jaxtyping import Float

from jaxmlip.evaluate.grade import structure_rows
from jaxmlip.fitting.training.frozen import frozen
from jaxmlip.learning.active.settings import Doubt, Learning
from jaxmlip.learning.active.uncertainty import uncounted
from jaxmlip.potentials.model import Model

_NOISE = 0.1  # σ: what a label leaves open of a structure's own features, relative to their spread


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

    Only structures beyond the soft limit count. Beyond the hard limit further doubt makes none more worth a label: it
    may be no structure at all, and how they differ decides.

    >>> import jaxmlip
    >>> frames = jaxmlip.datasets.load("mo", split="test")[:4]
    >>> potential = jaxmlip.build("snap", species=("Mo",), cutoff=4.0, twojmax=2)
    >>> model = Model(potential, potential.init(None, None))
    >>> doubts = np.array([1.0, 3.0, 5.0, 50.0, 5.0])
    >>> sorted(choose(model, [*frames, frames[2]], doubts, 5, train=[], settings=Learning()))
    [1, 2, 3]
    """
    limits = settings.doubt
    outside = np.flatnonzero(doubts > limits.soft).tolist()
    if not outside or n < 1:
        return []
    rows, known = _features(model, [atoms[k] for k in outside], train, limits)
    found = distinct(rows, np.minimum(doubts[outside], limits.hard), n, known=known, twins=settings.twins)
    return [outside[k] for k in found]


def distinct(
    rows: Float[np.ndarray, "n_structures n_features"],
    quality: Float[np.ndarray, " n_structures"],
    n: int,
    *,
    known: Float[np.ndarray, "n_train n_features"] | None = None,
    twins: float = 0.05,
) -> list[int]:
    """Up to ``n`` rows of large quality that are no twins of each other, the best first.

    Where the rows chosen span all that is left, projections begin anew: few features do not limit how many are chosen.

    >>> distinct(np.array([[1.0, 0.0], [1.0, 0.01], [0.0, 1.0]]), np.array([2.0, 3.0, 1.0]), 3)
    [1, 2]
    """
    start = rows if known is None else rows @ _left_open(known)
    left, nearest = start.copy(), np.full(len(rows), np.inf)
    found: list[int] = []
    for _ in range(n):
        candidate = nearest > twins
        candidate[found] = False
        if not candidate.any():
            break
        rest = np.linalg.norm(left, axis=1)
        if rest[candidate].max() < 1e-6:
            left = start.copy()
            rest = np.linalg.norm(left, axis=1)
        best = int(np.argmax(np.where(candidate, quality * rest, -1.0)))
        found.append(best)
        nearest = np.minimum(nearest, np.linalg.norm(rows - rows[best], axis=1))
        direction = left[best] / max(rest[best], 1e-300)
        left = left - np.outer(left @ direction, direction)
    return found


def _left_open(known: Float[np.ndarray, "n_train n_features"]) -> Float[np.ndarray, "n_features n_features"]:
    """L of C = L Lᵀ."""
    precision = np.eye(known.shape[1]) + known.T @ known / _NOISE**2
    return np.linalg.inv(np.linalg.cholesky(precision)).T


def _features(
    model: Model, atoms: Sequence[ase.Atoms], train: Sequence[ase.Atoms], limits: Doubt
) -> tuple[Float[np.ndarray, "n_structures n_features"], Float[np.ndarray, "n_train n_features"]]:
    """φ of the structures and of the training data: each derivative less its mean and relative to its spread."""
    names = uncounted(model, limits)
    frames = [*atoms, *train]
    rows = structure_rows(frozen(model, names) if names else model, frames)
    rows = rows / np.array([len(frame) for frame in frames])[:, None]
    spread = rows.std(axis=0)
    useful = spread > 1e-9 * np.abs(rows).max(axis=0, initial=0.0)
    if not useful.any():
        return np.ones((len(atoms), 1)), np.ones((len(train), 1))
    rows = (rows[:, useful] - rows[:, useful].mean(axis=0)) / spread[useful]
    rows = rows / np.sqrt(rows.shape[1])  # of length about 1
    return rows[: len(atoms)], rows[len(atoms) :]
