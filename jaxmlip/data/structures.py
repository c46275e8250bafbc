"""Structures of ASE and of pymatgen, one or several, as a list of `ase.Atoms`: what every function takes."""

from collections.abc import Sequence
from typing import Any

import ase
from ase.data import atomic_numbers


def frames_of(structures: Any) -> list[ase.Atoms]:
    """One structure, or several, as `ase.Atoms`; those of ASE stay the same objects.

    >>> frames_of(ase.Atoms("Li"))
    [Atoms(symbols='Li', pbc=False)]

    Raises:
        TypeError: something else; the message says what came.
    """
    listed = [structures] if is_structure(structures) or not hasattr(structures, "__iter__") else structures
    return [_atoms(one) for one in listed]


def unlabelled(structures: Any) -> list[ase.Atoms]:
    """Copies without calculators: a prediction is of the atoms as they stand, whatever was said of them before.

    Raises:
        TypeError: as `frames_of`.
    """
    return [atoms.copy() for atoms in frames_of(structures)]


def check_symbols(species: Sequence[str]) -> None:
    """Refuses symbols, given in the order of the types of a file, that are no elements.

    Raises:
        ValueError: names the first one.
    """
    unknown = [symbol for symbol in species if atomic_numbers.get(symbol, 0) == 0]
    if unknown:
        raise ValueError(f"species={list(species)}: unknown element {unknown[0]!r}; expected symbols such as 'Li'")


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
