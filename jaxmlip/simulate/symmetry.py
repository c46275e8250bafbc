"""Symmetry of structures, found by spglib: operations for relaxations that keep them, and primitive cells."""

from typing import Any

import ase
import numpy as np
import spglib
from ase.spacegroup.symmetrize import prep_symmetry
from jaxtyping import Float, Int


def operations(
    atoms: ase.Atoms, symprec: float = 1e-3
) -> tuple[Float[np.ndarray, "n_operations 3 3"], Int[np.ndarray, "n_operations n_atoms"]]:
    """Cartesian rotations of the space group, and for each the atom whose image stands at atom i.

    >>> from ase.build import bulk
    >>> rotations, sources = operations(bulk("NaCl", "rocksalt", a=5.6))
    >>> len(rotations), sources[0].tolist()
    (48, [0, 1])

    Args:
        atoms: a structure with three periodic directions.
        symprec: Å, how exact the symmetry must be.

    Raises:
        ValueError: the structure is not periodic.
    """
    if not atoms.pbc.all():
        raise ValueError(
            f"{atoms.get_chemical_formula()} is periodic along {atoms.pbc.tolist()} only: a space group needs three "
            "periodic directions; relax it without fixed_symmetry"
        )
    scaled, _, images = prep_symmetry(atoms, symprec=symprec)
    columns = atoms.cell.array.T
    rotations = columns @ np.asarray(scaled, float) @ np.linalg.inv(columns)
    return rotations, np.argsort(np.asarray(images), axis=1)  # images[g][j] is where atom j goes


def primitive(atoms: ase.Atoms, symprec: float = 1e-3) -> ase.Atoms:
    """The primitive cell of a crystal in the same orientation, atoms sorted by element.

    >>> from ase.build import bulk
    >>> primitive(bulk("NaCl", "rocksalt", a=5.6, cubic=True)).get_chemical_formula()
    'ClNa'

    Args:
        atoms: a structure with three periodic directions.
        symprec: Å, how exact the translations must be.

    Raises:
        ValueError: spglib finds none.
    """
    crystal: Any = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    found: Any = spglib.standardize_cell(crystal, to_primitive=True, no_idealize=True, symprec=symprec)
    if found is None:
        raise ValueError(f"no primitive cell of {atoms.get_chemical_formula()} within {symprec} Å: do atoms overlap?")
    cell, positions, numbers = found
    order = np.argsort(numbers, kind="stable")
    return ase.Atoms(numbers[order], scaled_positions=positions[order], cell=cell, pbc=True)
