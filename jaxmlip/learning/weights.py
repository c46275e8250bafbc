"""Weights of structures in a fit, as extended XYZ files of other codes name them."""

from collections.abc import Sequence

import ase

_NAMES = ("energy_weight", "forces_weight", "stress_weight")


def weighted(atoms: Sequence[ase.Atoms], factor: float) -> list[ase.Atoms]:
    """Copies of ``atoms`` whose residuals are multiplied by ``factor``, on top of the weights that they have.

    >>> (one,) = weighted([ase.Atoms("Li")], 0.5)
    >>> one.info["energy_weight"]
    0.5
    """
    if factor == 1:
        return list(atoms)
    copies = []
    for frame in atoms:
        copy = frame.copy()
        copy.calc = frame.calc
        copy.info.update({name: factor * float(frame.info.get(name, 1.0)) for name in _NAMES})
        copies.append(copy)
    return copies
