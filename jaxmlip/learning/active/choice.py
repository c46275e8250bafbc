"""Which explored structures are labelled: those that tell most of all that was explored.

With φ_i the features of a structure (derivatives of its energy per atom by the parameters, relative to their spread)
and C = (1 + Φᵀ Φ/σ²)⁻¹ what the training data Φ leave open of them, φ_i C φ_iᵀ is the variance of structure i. The set
is built greedily for the least sum of variances of all structures outside: each next one lowers it most,

    Σ_i (φ_i C φ_jᵀ)² / (σ² + φ_j C φ_jᵀ)   largest.

So a structure counts that others resemble; one far from all tells of itself alone. A set of largest determinant would
be made of those. A structure whose φ is nearly that of one already chosen is its twin.

References:
    MacKay, Neural Comput. 4, 590 (1992): information on the points of interest, not on the parameters.
    Cohn, Ghahramani, Jordan, J. Artif. Intell. Res. 4, 129 (1996): least variance over what is met.
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

    Only structures beyond the soft limit count, all alike: what is far beyond may be no structure at all.

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
    found = representative(rows, n, known=known, twins=settings.twins)
    return [outside[k] for k in found]


def representative(
    rows: Float[np.ndarray, "n_structures n_features"],
    n: int,
    *,
    known: Float[np.ndarray, "n_train n_features"] | None = None,
    twins: float = 0.05,
) -> list[int]:
    """Up to ``n`` rows that tell most of all rows and are no twins of each other, the best first.

    Longer rows than the median count as long as that.

    >>> representative(np.array([[1.0, 0.0], [1.0, 0.2], [0.9, 0.1], [0.0, 1.0]]), 2)
    [1, 3]
    """
    if not len(rows):
        return []
    longest = np.median(np.linalg.norm(rows, axis=1))
    short, seen = (_shortened(part, longest) for part in (rows, rows[:0] if known is None else known))
    precision = np.eye(rows.shape[1]) + seen.T @ seen / _NOISE**2
    covariance, nearest = short @ np.linalg.solve(precision, short.T), np.full(len(rows), np.inf)
    found: list[int] = []
    for _ in range(n):
        gain = np.sum(covariance**2, axis=0) / (_NOISE**2 + np.diag(covariance))
        candidate = nearest > twins
        candidate[found] = False
        if not candidate.any():
            break
        best = int(np.argmax(np.where(candidate, gain, -1.0)))
        found.append(best)
        nearest = np.minimum(nearest, np.linalg.norm(rows - rows[best], axis=1))
        own = covariance[:, best]
        covariance = covariance - np.outer(own, own) / (_NOISE**2 + own[best])
    return found


def _shortened(rows: np.ndarray, longest: float) -> np.ndarray:
    return rows * np.minimum(1.0, longest / np.maximum(np.linalg.norm(rows, axis=1), 1e-300))[:, None]


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
