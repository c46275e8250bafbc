"""Channels that chemically similar elements share, for descriptors of many elements.

References:
    Willatt, Musil, Ceriotti, Phys. Chem. Chem. Phys. 20, 29661 (2018), equation 12.
"""

from collections.abc import Sequence

import numpy as np
from ase.data import atomic_numbers

from jaxmlip.config import ConfigError


def alchemical_embedding(species: Sequence[int | str], n_channels: int) -> tuple[tuple[float, ...], ...]:
    """Weights that put ``species`` into ``n_channels`` channels so that chemically similar elements share them.

    The leading eigenvectors, times the square root of their eigenvalues, of κ_ab = exp(−|u_a − u_b|²/2) with
    u = (period, group/6) of an element in the periodic table.

    >>> np.array(alchemical_embedding(("Li", "Mn", "Fe", "O"), 2)).shape
    (4, 2)
    """
    numbers = [atomic_numbers[s] if isinstance(s, str) else s for s in species]
    if not 1 <= n_channels <= len(numbers):
        raise ConfigError(f"n_channels must be 1 … {len(numbers)}, the number of species: got {n_channels}")
    u = np.array([_place(z) for z in numbers])
    values, vectors = np.linalg.eigh(np.exp(-np.sum((u[:, None] - u) ** 2, axis=-1) / 2))
    chosen = vectors[:, ::-1][:, :n_channels] * np.sqrt(values[::-1][:n_channels])
    chosen = chosen * np.where(chosen[np.abs(chosen).argmax(axis=0), np.arange(n_channels)] < 0, -1, 1)
    return tuple(tuple(float(x) for x in row) for row in chosen)


def _place(number: int) -> tuple[float, float]:
    """Period, and group over 6; lanthanides and actinides count as group 3."""
    noble = (0, 2, 10, 18, 36, 54, 86, 118)
    period = int(np.searchsorted(noble, number))
    place, length = number - noble[period - 1], noble[period] - noble[period - 1]
    from_end = length - place
    group = 18 - from_end if from_end < 16 and place > 2 else (place if place <= 2 else 3)
    return float(period), (18 if place == length else group) / 6
