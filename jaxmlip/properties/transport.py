"""From trajectories: diffusion coefficients and pair distributions.

References:
    Frenkel and Smit, Understanding Molecular Simulation, Academic Press 2002, sections 4.4.1 and 4.4.2.
"""

from collections.abc import Sequence
from typing import NamedTuple

import ase
import numpy as np
from jaxtyping import Float

from jaxmlip.graph.neighbors import neighbor_pairs

_BLOCKS = 5  # parts of the trajectory whose scatter tells the error


class Diffusion(NamedTuple):
    """Of one element; 1 Å²/fs is 0.1 cm²/s."""

    coefficient: float  # Å²/fs
    error: float  # Å²/fs, standard error from parts of the trajectory
    time: Float[np.ndarray, " n_lags"]  # fs
    displacement: Float[np.ndarray, " n_lags"]  # Å², mean over atoms and origins


def diffusion(
    positions: Float[np.ndarray, "n_frames n_atoms 3"], interval: float, *, fit: tuple[float, float] = (0.1, 0.5)
) -> Diffusion:
    """D = lim ⟨|r(t) − r(0)|²⟩ / 6t, by a line through the mean squared displacement.

    >>> walk = np.random.default_rng(0).normal(size=(400, 200, 3)).cumsum(axis=0)  # D = 3/6
    >>> found = diffusion(walk, 1.0)
    >>> abs(found.coefficient - 0.5) < 3 * found.error
    True

    Args:
        positions: of the atoms that diffuse, never wrapped, such as ``run.positions[:, run.atoms.symbols == "Li"]``;
            the drift of their mean is kept, so the centre of mass of the whole should rest.
        interval: fs from frame to frame.
        fit: where the line is drawn, as parts of a block's length.

    Raises:
        ValueError: too few frames.
    """
    n_frames = len(positions)
    length = n_frames // _BLOCKS
    first, last = max(1, round(fit[0] * length)), round(fit[1] * length)
    if last - first < 2:
        raise ValueError(
            f"{n_frames} frames are too few for {_BLOCKS} blocks with lags from {fit[0]:.0%} to {fit[1]:.0%} of their "
            "length: write frames more often, or run longer"
        )
    blocks = [_squared(positions[k * length : (k + 1) * length], last) for k in range(_BLOCKS)]
    lags = np.arange(first, last + 1)
    slopes = [np.polyfit(lags * interval, block[lags], 1)[0] / 6 for block in blocks]
    error = float(np.std(slopes, ddof=1) / np.sqrt(_BLOCKS))
    return Diffusion(float(np.mean(slopes)), error, np.arange(last + 1) * interval, np.mean(blocks, axis=0))


def _squared(positions: np.ndarray, n_lags: int) -> np.ndarray:
    """Mean squared displacement for 0 … n_lags frames, over all origins."""
    values = [0.0]
    for lag in range(1, n_lags + 1):
        values.append(float(np.mean(np.sum((positions[lag:] - positions[:-lag]) ** 2, axis=-1))))
    return np.array(values)


def pair_distribution(
    frames: Sequence[ase.Atoms], *, pair: tuple[str, str] | None = None, reach: float = 8.0, n_bins: int = 160
) -> tuple[Float[np.ndarray, " n_bins"], Float[np.ndarray, " n_bins"]]:
    """g(r) of all atoms or of one pair of elements: distances in Å (middles of the bins) and g, 1 without order.

    g_ab(r) = V / (N_a N_b) ⟨Σ_{i∈a} Σ_{j∈b, j≠i} δ(r − r_ij)⟩ / 4π r²; every image counts, so ``reach`` may be longer
    than the cell.

    >>> from ase.build import bulk
    >>> r, g = pair_distribution([bulk("Cu", a=3.6)], reach=4.0, n_bins=40)
    >>> float(r[g.argmax()].round(2)), int((g > 0).sum())
    (2.55, 2)

    Raises:
        ValueError: no frames, a cell without volume, or an element that does not occur.
    """
    if not frames:
        raise ValueError("no frames: a pair distribution needs at least one structure")
    edges = np.linspace(0, reach, n_bins + 1)
    total = np.zeros(n_bins)
    for frame in frames:
        if not frame.pbc.all():
            raise ValueError(f"a pair distribution needs three periodic directions, got {frame.pbc.tolist()}")
        pairs = neighbor_pairs(frame, reach)
        symbols = np.array(frame.get_chemical_symbols())
        first, second = (symbols == name if pair else symbols != "" for name in pair or ("", ""))
        if not (first.any() and second.any()):
            raise ValueError(f"{frame.get_chemical_formula()} lacks an element of the pair {pair}")
        chosen = first[pairs.centers.astype(int)] & second[pairs.neighbors.astype(int)]
        counts = np.histogram(pairs.distances[chosen], bins=edges)[0]
        total += counts * frame.get_volume() / (first.sum() * second.sum())
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    return (edges[1:] + edges[:-1]) / 2, total / len(frames) / shells
