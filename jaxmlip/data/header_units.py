"""Units that a frame names itself, such as ``energy-unit=hartree`` in a header: converted, or refused with the reason.

The names are energy, forces, stress, virial and length, each before or after unit or units, with ``-``, ``_`` or
nothing between. A header that names another unit than eV for energies and none for its forces leaves these unknown:
refused.
"""

import re
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms

from jaxmlip import units

_OF = r"(energ(?:y|ies)|forces?|stress(?:es)?|virials?|lengths?|positions?|coordinates?|distances?|cell)"
_NAME = re.compile(f"{_OF}[-_ .:]?units?|units?[-_ .:]?(?:of[-_ ])?{_OF}", re.I)
_KINDS = {"energ": "energy", "force": "forces", "stres": "stress", "viria": "virial"}
_ENERGIES = {
    "ev": 1.0, "electronvolt": 1.0, "electronvolts": 1.0, "mev": 1e-3, "hartree": units.HARTREE,
    "hartrees": units.HARTREE,
    "ha": units.HARTREE, "eh": units.HARTREE, "au": units.HARTREE, "a.u.": units.HARTREE, "rydberg": units.HARTREE / 2,
    "ry": units.HARTREE / 2, "kcal/mol": units.KCAL_PER_MOL, "kcal_mol": units.KCAL_PER_MOL,
    "kj/mol": units.KCAL_PER_MOL / 4.184, "kj_mol": units.KCAL_PER_MOL / 4.184,
}  # fmt: skip
_LENGTHS = {
    "angstrom": 1.0, "angstroms": 1.0, "ang": 1.0, "å": 1.0, "a": 1.0, "angst": 1.0, "bohr": units.BOHR,
    "au": units.BOHR, "a.u.": units.BOHR, "a0": units.BOHR, "nm": 10.0,
}  # fmt: skip
_PRESSURES = {
    "gpa": 1 / units.GPA, "kbar": 0.1 / units.GPA, "kb": 0.1 / units.GPA, "bar": 1 / units.BAR, "mpa": 1e-3 / units.GPA,
    "pa": 1e-9 / units.GPA,
}  # fmt: skip
_FAMILIAR = {"ev", "ase", "metal", "ev/angstrom", "ev/a", "ev/ang", "ev,angstrom", "ev_angstrom"}


class Units(NamedTuple):
    """Factors from what the frame says into eV, eV/Å, eV/Å³ and eV; None: a unit that is not ours, and not named."""

    energy: float | None = 1.0
    forces: float | None = 1.0
    stress: float | None = 1.0
    virial: float | None = 1.0


def take_units(atoms: Atoms) -> Units:
    """The factors of the labels of ``atoms``; positions and cell are converted to Å, and the names leave ``info``.

    >>> atoms = Atoms("H", info={"energy-unit": "hartree"})
    >>> factors = take_units(atoms)
    >>> round(factors.energy, 6), factors.forces, atoms.info
    (27.211386, None, {})

    Raises:
        ValueError: a unit that is not known.
    """
    named = {
        key: str(value) for key, value in atoms.info.items() if isinstance(value, str) and _NAME.fullmatch(str(key))
    }
    _check_general(atoms.info)
    if not named:
        return Units()
    found = {_kind(key): _factor(_kind(key), key, text) for key, text in named.items()}
    for key in named:
        del atoms.info[key]
    length = found.get("length", 1.0)
    if length != 1.0:
        atoms.set_cell(atoms.cell.array * length)
        atoms.positions *= length
    strange = found.get("energy", 1.0) != 1.0 or length != 1.0
    rest = None if strange else 1.0
    virial = found.get("virial", found.get("energy", 1.0 if length == 1.0 else None))
    energy = found.get("energy", 1.0 if length == 1.0 else None)
    return Units(energy, found.get("forces", rest), found.get("stress", rest), virial)


def converted(value: Any, factor: float | None, kind: str) -> Any:
    """``value`` times ``factor``.

    Raises:
        ValueError: the unit is not known.
    """
    if factor is None:
        raise ValueError(
            f"the header names units that are not eV and Å, but none for its {kind}, which are therefore unknown; add "
            f"{kind}-unit= to the header (eV/Angstrom, hartree/bohr, GPa, …)"
        )
    return value if factor == 1.0 else np.asarray(value, float) * factor


def _kind(key: str) -> str:
    match = _NAME.fullmatch(key)
    word = (match[1] or match[2]) if match else key
    return _KINDS.get(word.lower()[:5], "length")


def _check_general(info: dict[str, Any]) -> None:
    """A ``units=`` for everything: eV and Å pass, others leave too much open."""
    for key, value in info.items():
        if str(key).lower() not in ("unit", "units") or not isinstance(value, str):
            continue
        word = re.sub(r"\s+", "", value.lower()).replace("å", "angstrom")
        if word not in _FAMILIAR:
            raise ValueError(
                f"the header says {key}={value!r}, which does not tell the unit of each label; name them as "
                "energy-unit=, forces-unit=, stress-unit= and length-unit=, or remove it if they are eV and Å"
            )


def _factor(kind: str, key: str, text: str) -> float:
    word = re.sub(r"\s+", "", text.lower()).replace("**", "^").replace("³", "^3").replace("·", "*")
    known = _LENGTHS if kind == "length" else _ENERGIES
    if kind == "stress":
        known = _PRESSURES
    if word in known:
        return known[word]
    energy, _, length = word.rpartition("/")
    power = 1
    if kind == "stress":
        length, power = length.removesuffix("^3"), 3
    if kind in ("forces", "stress") and energy in _ENERGIES and length in _LENGTHS:
        return _ENERGIES[energy] / _LENGTHS[length] ** power
    if kind == "forces" and word in ("au", "a.u."):
        return units.HARTREE / units.BOHR
    listed = "an energy over a length, as eV/Angstrom" if kind == "forces" else ", ".join(known)
    raise ValueError(f"the header says {key}={text!r}, a unit that is not known; expected {listed}")
