"""Which entries of a frame are its energy, forces and stress: by the names a user gives, or by convention.

Conventional names are energy, force(s), stress and virial(s), in any case, alone or after ``REF_``, ``DFT_``, ``QM_``
or ``VASP_``. A virial is −stress × volume in eV (checked on the mlearn sets, which carry both). Where a frame says the
same twice (two energies, a stress and a virial, six numbers and nine) the two must agree; units that a frame names are
converted (`header_units`). Other names are never guessed: `elsewhere` finds them, fits and the audit name them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms

from jaxmlip.data.header_units import converted, take_units
from jaxmlip.data.labels import Labels, as_energy, as_forces, as_stress, attach
from jaxmlip.units import GPA

_CONVENTIONS = {"energy": "energy", "forces": "forces?", "stress": "stress", "virial": "virials?"}
_PATTERNS = {kind: re.compile(f"(?:(?:ref|dft|qm|vasp)_)?{name}", re.I) for kind, name in _CONVENTIONS.items()}
# Other results that ASE's calculators know, so that they survive reading and writing.
_FURTHER = ("free_energy", "dipole", "magmom", "magmoms", "charges", "energies")
# A stress and a virial that are the same differ by the digits that programs print: 1 %, or 0.02 meV/Å³ (3 MPa).
_RELATIVE, _ABSOLUTE = 0.01, 2e-5


class Keys(NamedTuple):
    """Names of the labels in a file; None: by convention."""

    energy: str | None = None
    forces: str | None = None
    stress: str | None = None
    virial: str | None = None


def take_labels(frames: Iterable[Atoms], keys: Keys, name: str) -> None:
    """Move the labels of each frame from ``info``, ``arrays`` and the calculator into a ``SinglePointCalculator``.

    Raises:
        ValueError: a given key is in no frame, two conventional keys disagree, a unit is not known, or a label has the
            wrong shape.
    """
    frames = list(frames)
    if keys.stress and keys.virial:
        raise ValueError(f"got stress_key={keys.stress!r} and virial_key={keys.virial!r}; give one of the two")
    for kind, key in keys._asdict().items():
        if key is not None and not any(key_found(atoms, kind, keys) for atoms in frames):
            raise ValueError(missing_key(name, kind, keys, frames))
    for index, atoms in enumerate(frames):
        take_frame(atoms, keys, f"{name}, frame {index}")


def key_found(atoms: Atoms, kind: str, keys: Keys) -> bool:
    """Whether the frame has what ``keys`` names for a label."""
    return getattr(keys, kind) in _entries(atoms, kind)


def missing_key(name: str, kind: str, keys: Keys, frames: Sequence[Atoms]) -> str:
    """The message for a key that no frame has."""
    known = sorted({str(entry) for atoms in frames for entry in _entries(atoms, kind)}) or ["none"]
    return f"{name}: no frame has {kind}_key={getattr(keys, kind)!r}; the keys that exist are: {', '.join(known)}"


def take_frame(atoms: Atoms, keys: Keys, where: str) -> None:
    """`take_labels` of one frame, which messages call ``where``."""
    try:
        _take(atoms, keys)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _entries(atoms: Atoms, kind: str) -> dict[str, Any]:
    """What in a frame could be a label of this kind, by name: forces are of atoms, the others of the cell."""
    results = {key: value for key, value in (getattr(atoms.calc, "results", None) or {}).items() if value is not None}
    if kind != "forces":
        return {**atoms.info, **results}
    arrays = {key: value for key, value in atoms.arrays.items() if key not in ("numbers", "positions")}
    return {**arrays, **{key: value for key, value in results.items() if np.ndim(value) == 2}}


def _take(atoms: Atoms, keys: Keys) -> None:
    factors = take_units(atoms)
    entries = {kind: _entries(atoms, kind) for kind in Keys._fields}
    names = {kind: _names(entries[kind], kind, given) for kind, given in keys._asdict().items()}
    values = {
        kind: converted(entries[kind][found[0]], getattr(factors, kind), kind) for kind, found in names.items() if found
    }
    energy, forces = values.get("energy"), values.get("forces")
    found = Labels(
        None if energy is None else as_energy(energy),
        None if forces is None else as_forces(forces, len(atoms)),
        _stress(atoms, keys, values, names),
    )
    everything = {**atoms.arrays, **entries["energy"]}
    further = {key: everything[key] for key in _FURTHER if key in everything and _is_numeric(everything[key])}
    if keys.virial:  # what else calls itself a stress stays where it is
        names["stress"] = []
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
        first, second = (_comparable(entries[name], kind) for name in (found[0], other))
        if first.shape != second.shape or not np.array_equal(first, second, equal_nan=first.dtype.kind == "f"):
            raise ValueError(
                f"the frame has both {found[0]!r} and {other!r} and they differ; say which is meant with {kind}_key="
            )
    return found


def _comparable(value: Any, kind: str) -> np.ndarray:
    """Six numbers and nine of the same tensor become the same array."""
    return as_stress(value) if kind in ("stress", "virial") else np.asarray(value)


def _stress(atoms: Atoms, keys: Keys, values: dict[str, Any], names: dict[str, list[str]]) -> np.ndarray | None:
    """The stress, from the stress or the virial of the frame; both must agree unless a key says which is meant."""
    stress = None if keys.virial or "stress" not in values else as_stress(values["stress"])
    if keys.stress or "virial" not in values:
        return stress
    if stress is not None and not _has_volume(atoms):
        return stress
    other = _stress_of_virial(atoms, values["virial"])
    if stress is None:
        return other
    bound = _RELATIVE * max(np.abs(stress).max(), np.abs(other).max()) + _ABSOLUTE
    if np.isfinite([stress, other]).all() and np.abs(stress - other).max() > bound:
        raise ValueError(
            f"{names['stress'][0]!r} and {names['virial'][0]!r} disagree: stress {_six(stress)}, −virial/volume "
            f"{_six(other)} (xx yy zz yz xz xy, eV/Å³){_suspicion(stress, other)}; say which is meant with stress_key= "
            "or virial_key="
        )
    return other if np.isnan(stress).any() else stress


def _suspicion(stress: np.ndarray, other: np.ndarray) -> str:
    """What would explain that a stress and the one of the virial differ."""
    reasons = {
        "the stress has the other sign": -1.0,
        "the stress is in GPa": GPA,
        "the stress is in GPa, with the other sign": -GPA,
        "the stress is in kbar": 10 * GPA,
        "the stress is in kbar, with the other sign": -10 * GPA,
    }
    if not stress.any():
        return "; the stress is zero, perhaps never calculated"
    for text, factor in reasons.items():
        if np.allclose(stress, factor * other, rtol=0.02, atol=1e-6):
            return f"; {text}"
    return ""


def _six(stress: np.ndarray) -> str:
    return " ".join(f"{stress[i, j]:.4g}" for i, j in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)))


def _has_volume(atoms: Atoms) -> bool:
    return bool(np.isfinite(atoms.cell.array).all() and atoms.cell.rank == 3)


def _stress_of_virial(atoms: Atoms, virial: Any) -> np.ndarray:
    if not _has_volume(atoms):
        raise ValueError("a virial needs a cell with a volume to become a stress (−virial / volume); the cell has none")
    return -as_stress(virial) / atoms.get_volume()


def _is_numeric(value: Any) -> bool:
    return np.asarray(value).dtype.kind in "fi"
