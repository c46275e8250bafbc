"""Structures of ASE and of pymatgen, one or several, as a list of `ase.Atoms`: what every function takes."""

from typing import Any

import ase


def frames_of(structures: Any) -> list[ase.Atoms]:
    """One structure, or several, as `ase.Atoms`; those of ASE stay the same objects.

    >>> frames_of(ase.Atoms("Li"))
    [Atoms(symbols='Li', pbc=False)]

    Raises:
        TypeError: something else; the message says what came.
    """
    listed = [structures] if is_structure(structures) or not hasattr(structures, "__iter__") else structures
    return [_atoms(one) for one in listed]


def is_structure(found: Any) -> bool:
    """Whether this is one structure, not several."""
    return isinstance(found, ase.Atoms) or _of_pymatgen(found)


def _of_pymatgen(found: Any) -> bool:
    """A Structure or Molecule; pymatgen is slow to import, and only who has imported it can have one."""
    return any(kind.__module__ == "pymatgen.core.structure" for kind in type(found).__mro__)


def _atoms(found: Any) -> Any:
    if isinstance(found, ase.Atoms):
        return found
    if _of_pymatgen(found):
        from pymatgen.io.ase import AseAtomsAdaptor

        return AseAtomsAdaptor.get_atoms(found, msonable=False)
    hint = "; read files with jaxmlip.read(path)" if isinstance(found, str) else ""
    raise TypeError(f"expected structures (ase.Atoms or pymatgen Structure), got {type(found).__name__}{hint}")
