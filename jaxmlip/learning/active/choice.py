"""Which explored structures are labelled: doubtful ones that differ from each other.

With φ_i the features of a structure (derivatives of its energy per atom by the parameters that it is linear in, each
relative to its spread) and q_i its quality, the set is built greedily: next is the structure whose q_i ‖φ_i − P φ_i‖
is largest, P projecting on those already chosen. That is the largest determinant of q_i q_j φ_i·φ_j, the most probable
set of a determinantal point process. A structure whose φ is nearly that of one already chosen is its twin.

References:
    Kulesza, Taskar, Found. Trends Mach. Learn. 5, 123 (2012), section 3.1: quality and diversity.
    Chen, Zhang, Zhou, NeurIPS 2018: the greedy set.
"""

from collections.abc import Sequence

import ase
import numpy as np
from jaxtyping import Float

from jaxmlip.evaluate.grade import structure_rows
from jaxmlip.fitting.training.frozen import frozen
from jaxmlip.learning.active.settings import Doubt
from jaxmlip.learning.active.uncertainty import beyond_features
from jaxmlip.potentials.model import Model


def choose(
    model: Model,
    atoms: Sequence[ase.Atoms],
    doubts: Float[np.ndarray, " n_structures"],
    n: int,
    *,
    limits: Doubt,
    twins: float = 0.05,
) -> list[int]:
    """Indices of up to ``n`` of ``atoms``, the most informative first.

    Only structures beyond the soft limit count. Those beyond the hard limit come last, the least doubtful of them
    first: they may be no structures at all.

    >>> import jaxmlip
    >>> frames = jaxmlip.datasets.load("mo", split="test")[:4]
    >>> potential = jaxmlip.build("snap", species=("Mo",), cutoff=4.0, twojmax=2)
    >>> model = Model(potential, potential.init(None, None))
    >>> choose(model, [*frames, frames[2]], np.array([1.0, 3.0, 5.0, 50.0, 5.0]), 3, limits=Doubt())
    [2, 1, 3]
    """
    outside = np.flatnonzero(doubts > limits.soft)
    if not len(outside) or n < 1:
        return []
    doubts = doubts[outside]
    quality = np.where(doubts <= limits.hard, doubts, limits.soft * (limits.hard / doubts))
    rows = _features(model, [atoms[k] for k in outside])
    first = distinct(rows, np.where(doubts <= limits.hard, quality, 0.0), n, twins=twins)
    if len(first) < n:
        first = distinct(rows, quality, n, twins=twins, chosen=first)
    return [int(outside[k]) for k in first]


def distinct(
    rows: Float[np.ndarray, "n_structures n_features"],
    quality: Float[np.ndarray, " n_structures"],
    n: int,
    *,
    twins: float = 0.05,
    chosen: Sequence[int] = (),
) -> list[int]:
    """Up to ``n`` rows of large quality that are no twins of each other, after those already ``chosen``.

    Where the rows chosen span all that is left, projections begin anew: few features do not limit how many are chosen.

    >>> distinct(np.array([[1.0, 0.0], [1.0, 0.01], [0.0, 1.0]]), np.array([2.0, 3.0, 1.0]), 3)
    [1, 2]
    """
    left, nearest = rows.copy(), np.full(len(rows), np.inf)
    found: list[int] = []
    for step in range(n):
        candidate = (nearest > twins) & (quality > 0)
        candidate[found] = False
        rest = np.linalg.norm(left, axis=1)
        if step < len(chosen):
            best = int(chosen[step])
        elif not candidate.any():
            break
        else:
            if rest[candidate].max() < 1e-6:
                left = rows.copy()
                rest = np.linalg.norm(left, axis=1)
            best = int(np.argmax(np.where(candidate, quality * rest, -1.0)))
        found.append(best)
        nearest = np.minimum(nearest, np.linalg.norm(rows - rows[best], axis=1))
        direction = left[best] / max(rest[best], 1e-300)
        left = left - np.outer(left @ direction, direction)
    return found


def _features(model: Model, atoms: Sequence[ase.Atoms]) -> Float[np.ndarray, "n_structures n_features"]:
    """φ: derivatives of the energies per atom, each less its mean and relative to its spread."""
    names = beyond_features(model)
    rows = structure_rows(frozen(model, names) if names else model, atoms)
    rows = rows / np.array([len(frame) for frame in atoms])[:, None]
    spread = rows.std(axis=0)
    useful = spread > 1e-9 * np.abs(rows).max(axis=0, initial=0.0)
    if not useful.any():
        return np.ones((len(atoms), 1))
    rows = (rows[:, useful] - rows[:, useful].mean(axis=0)) / spread[useful]
    return rows / np.sqrt(rows.shape[1])  # of length about 1
