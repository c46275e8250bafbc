"""Which entries of a frame are its energy, forces and stress: by the names a user gives, or by convention.

Conventional names are energy, force(s), stress and virial(s), in any case, alone or after ``REF_``, ``DFT_``, ``QM_``
or ``VASP_``. A virial is −stress × volume in eV (checked on the mlearn sets, which carry both).
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms

from jaxmlip.data.labels import Labels, as_energy, as_forces, as_stress, attach

_CONVENTIONS = {"energy": "energy", "forces": "forces?", "stress": "stress", "virial": "virials?"}
_PATTERNS = {kind: re.compile(f"(?:(?:ref|dft|qm|vasp)_)?{name}", re.I) for kind, name in _CONVENTIONS.items()}
# Other results that ASE's calculators know, so that they survive reading and writing.
_FURTHER = ("free_energy", "dipole", "magmom", "magmoms", "charges", "energies")


class Keys(NamedTuple):
    """Names of the labels in a file; None: by convention."""

    energy: str | None = None
    forces: str | None = None
    stress: str | None = None
    virial: str | None = None


def take_labels(frames: Iterable[Atoms], keys: Keys, name: str) -> None:
    """Move the labels of each frame from ``info``, ``arrays`` and the calculator into a ``SinglePointCalculator``.

    Raises:
        ValueError: a given key is in no frame, two conventional keys disagree, or a label has the wrong shape.
    """
    if keys.stress and keys.virial:
        raise ValueError(f"got stress_key={keys.stress!r} and virial_key={keys.virial!r}; give one of the two")
    frames = list(frames)
    for kind, key in keys._asdict().items():
        if key is not None and not any(key in _entries(atoms, kind) for atoms in frames):
            known = sorted({entry for atoms in frames for entry in _entries(atoms, kind)}) or ["none"]
            raise ValueError(f"{name}: no frame has {kind}_key={key!r}; the keys that exist are: {', '.join(known)}")
    for index, atoms in enumerate(frames):
        try:
            _take(atoms, keys)
        except ValueError as error:
            raise ValueError(f"{name}, frame {index}: {error}") from None


def _entries(atoms: Atoms, kind: str) -> dict[str, Any]:
    """What in a frame could be a label of this kind, by name: forces are of atoms, the others of the cell."""
    results = {key: value for key, value in (getattr(atoms.calc, "results", None) or {}).items() if value is not None}
    if kind != "forces":
        return {**atoms.info, **results}
    arrays = {key: value for key, value in atoms.arrays.items() if key not in ("numbers", "positions")}
    return {**arrays, **{key: value for key, value in results.items() if np.ndim(value) == 2}}


def _take(atoms: Atoms, keys: Keys) -> None:
    entries = {kind: _entries(atoms, kind) for kind in Keys._fields}
    names = {kind: _names(entries[kind], kind, given) for kind, given in keys._asdict().items()}
    if keys.virial:  # an explicit virial is the stress, whatever else the file holds
        names["stress"] = []
    values = {kind: entries[kind][found[0]] for kind, found in names.items() if found}
    energy, forces, stress = (values.get(kind) for kind in ("energy", "forces", "stress"))
    if stress is None and "virial" in values:
        stress = _stress_of_virial(atoms, values["virial"])
    found = Labels(
        None if energy is None else as_energy(energy),
        None if forces is None else as_forces(forces, len(atoms)),
        None if stress is None else as_stress(stress),
    )
    everything = {**atoms.arrays, **entries["energy"]}
    further = {key: everything[key] for key in _FURTHER if key in everything and _is_numeric(everything[key])}
    for key in [*further, *names["energy"], *names["stress"], *names["virial"]]:
        atoms.info.pop(key, None)
    for key in [*further, *names["forces"]]:
        atoms.arrays.pop(key, None)
    attach(atoms, found, **further)


def _names(entries: Mapping[str, Any], kind: str, given: str | None) -> list[str]:
    """The names under which ``entries`` holds a label, the one to read first."""
    if given is not None:
        return [given] if given in entries else []
    found = [key for key in entries if _PATTERNS[kind].fullmatch(key)]
    found.sort(key=lambda key: (key != kind, key))
    for other in found[1:]:
        first, second = np.asarray(entries[found[0]]), np.asarray(entries[other])
        if first.shape != second.shape or not np.array_equal(first, second, equal_nan=first.dtype.kind == "f"):
            raise ValueError(
                f"the frame has both {found[0]!r} and {other!r} and they differ; say which is meant with {kind}_key="
            )
    return found


def _stress_of_virial(atoms: Atoms, virial: Any) -> np.ndarray:
    finite = np.isfinite(atoms.cell.array).all()
    if not finite or atoms.cell.rank < 3:
        raise ValueError("a virial needs a cell with a volume to become a stress (−virial / volume); the cell has none")
    return -as_stress(virial) / atoms.get_volume()


def _is_numeric(value: Any) -> bool:
    return np.asarray(value).dtype.kind in "fi"
