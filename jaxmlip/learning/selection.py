"""Which of many structures teach a student most: those whose gradients by its parameters span the largest volume."""

from collections.abc import Sequence

import ase
import numpy as np

from jaxmlip.evaluate.grade import structure_rows
from jaxmlip.evaluate.maxvol import maxvol
from jaxmlip.potentials.model import Model


def informative(model: Model, atoms: Sequence[ase.Atoms], n: int, *, seed: int = 0) -> list[int]:
    """Indices of ``n`` of ``atoms``, ascending; all of them where there are no more.

    A structure's vector is the derivative of its energy per atom by all trained parameters. Their projections on
    ``n`` random directions are the rows of a matrix of which MaxVol takes the ``n`` that span the largest volume. What
    a model of fewer parameters leaves open is drawn at random.

    >>> import jaxmlip
    >>> frames = jaxmlip.datasets.load("mo", split="test")[:4]
    >>> potential = jaxmlip.build("snap", species=("Mo",), cutoff=4.0, twojmax=2)
    >>> len(informative(Model(potential, potential.init(None, None)), frames, 2))
    2

    References:
        Podryabinkin, Shapeev, Comput. Mater. Sci. 140, 171 (2017): D-optimal training sets. Random projections keep
        volumes: Magen, Zouzias, RANDOM 2008 (LNCS 5171, p. 523).
    """
    if n >= len(atoms):
        return list(range(len(atoms)))
    rng = np.random.default_rng(seed)
    rows = structure_rows(model, atoms) / np.array([len(frame) for frame in atoms])[:, None]
    size = np.abs(rows).max(axis=0)
    rows = rows / np.where(size > 0, size, 1.0)
    directions = rng.standard_normal((rows.shape[1], n)) / np.sqrt(n)
    chosen = maxvol(rows @ directions, tolerance=0.05).index
    found = {int(k) for k in chosen if k >= 0}
    rest = rng.permutation([k for k in range(len(atoms)) if k not in found])
    return sorted([*found, *rest[: n - len(found)].tolist()])
