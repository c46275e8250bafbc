"""Migration barriers by the nudged elastic band, through ASE.

References:
    Henkelman, Uberuaga and Jónsson, J. Chem. Phys. 113, 9901 (2000): the climbing image.
    Smidstrup et al., J. Chem. Phys. 140, 214106 (2014): the first path, by interpolated distances.
"""

from itertools import pairwise
from typing import NamedTuple

import ase
import numpy as np
from ase.mep import NEB
from ase.optimize import FIRE
from jaxtyping import Float

from jaxmlip.potentials.model import Model
from jaxmlip.simulate.calculator import calculator
from jaxmlip.simulate.relax import relax


class Barrier(NamedTuple):
    """The minimum energy path; only ``converged`` tells that the barrier is one."""

    forward: float  # eV, highest image above the initial one
    backward: float  # eV, above the final one
    energies: Float[np.ndarray, " n_images"]  # eV
    distance: Float[np.ndarray, " n_images"]  # Å along the path
    images: list[ase.Atoms]
    converged: bool


def migration_barrier(
    model: Model, initial: ase.Atoms, final: ase.Atoms, *, n_images: int = 7, fmax: float = 0.03, max_steps: int = 300
) -> Barrier:
    """The barrier between two sites of an atom: ends relaxed at fixed cell, then a climbing-image NEB.

    Not run here, it takes a minute:

    >>> migration_barrier(model, initial, final).energy  # doctest: +SKIP

    Args:
        model: a potential with its parameters.
        initial: the start, such as a cell with a vacancy beside a lithium atom.
        final: the same atoms in the same order and cell after the jump.
        n_images: with both ends, at least 3.
        fmax: eV/Å, of the ends and of the band.
        max_steps: of the band.

    Raises:
        ValueError: the ends differ in their atoms or cell, or do not relax.
    """
    same = np.array_equal(initial.numbers, final.numbers) and np.allclose(initial.cell.array, final.cell.array)
    if not same or n_images < 3:
        raise ValueError(
            "a band needs the same atoms in the same order and cell at both ends, and three images or more; got "
            f"{initial.get_chemical_formula()}, {final.get_chemical_formula()} and {n_images}"
        )
    ends = relax(model, [initial, final], cell=False, fmax=fmax)
    for name, end in zip(("initial", "final"), ends, strict=True):
        if not end.converged:
            raise ValueError(f"the {name} structure did not relax: {end.problem}")
    first, last = (end.atoms for end in ends)
    images = [first, *(first.copy() for _ in range(n_images - 2)), last]
    band = NEB(images, climb=True, allow_shared_calculator=True, method="improvedtangent")
    band.interpolate(method="idpp", mic=bool(first.pbc.any()))
    shared = calculator(model, skin=0.6)
    for image in images:
        image.calc = shared
    converged = bool(FIRE(band, logfile=None).run(fmax=fmax, steps=max_steps))  # pyright: ignore[reportArgumentType]
    energies = np.array([image.get_potential_energy() for image in images])
    steps = [np.linalg.norm(b.positions - a.positions) for a, b in pairwise(images)]
    for image in images:
        image.calc = None
    distance = np.concatenate([[0.0], np.cumsum(steps)])
    top = energies.max()
    return Barrier(float(top - energies[0]), float(top - energies[-1]), energies, distance, images, converged)
