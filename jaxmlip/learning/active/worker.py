"""One calculation of a calculator of ASE, also as a program of its own, which then imports no JAX.

``python -P worker.py SETTINGS INPUT OUTPUT``: settings as JSON, one extended XYZ file to read, one to write.
"""

import json
import pkgutil
import sys
from collections.abc import Callable, Mapping
from typing import Any

import ase
import numpy as np

from jaxmlip.config import ConfigError
from jaxmlip.data.labels import Labels, attach
from jaxmlip.data.read import read, write


def imported(path: str, what: str) -> Any:
    """What an import path names.

    >>> imported("ase.calculators.emt.EMT", "calculator").__name__
    'EMT'

    Raises:
        ConfigError: nothing can be imported under that name.
    """
    try:
        return pkgutil.resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{what} {path!r} cannot be imported: {error}") from None


def calculating(path: str, arguments: Mapping[str, Any]) -> Callable[[ase.Atoms], ase.Atoms]:
    """What labels a structure with a new calculator of that import path each time."""
    make = imported(path, "calculator")

    def calculate(atoms: ase.Atoms) -> ase.Atoms:
        found = ase.Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        found.calc = make(**arguments)
        energy, forces = found.get_potential_energy(), found.get_forces()
        attach(found, Labels(float(energy), np.asarray(forces, float), _stress(found)))
        return found

    return calculate


def _stress(atoms: ase.Atoms) -> Any:
    """In eV/Å³ as a matrix; None where the calculator has none, or the cell no volume."""
    if not atoms.pbc.all():
        return None
    try:
        return np.asarray(atoms.get_stress(voigt=False), float)
    except Exception:  # PropertyNotImplementedError, and what calculators raise in its place
        return None


def main(words: list[str]) -> None:
    """Of the program."""
    told = json.loads(words[0])
    write(words[2], calculating(told["calculator"], told["arguments"])(read(words[1])[0]))


if __name__ == "__main__":
    main(sys.argv[1:])
