"""Labels that stand under names which no convention knows: never guessed, always named."""

import re
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from ase import Atoms

from jaxmlip.data.labels import DataWarning, labels

_NAMES = {
    "energy": re.compile(r".*energ.*|e|etot|e_?0|e_?tot(al)?|tot(al)?_?e|toten", re.I),
    "forces": re.compile(r".*forces?.*|f|f_?xyz|.*gradients?.*", re.I),
    "stress": re.compile(r".*stress.*|.*virial.*", re.I),
}
_OTHER = re.compile(r"weight|sigma|unit|cut|fermi|kinetic|gap|hull|correction|zero_point|key|mask|error|std|var", re.I)


def elsewhere(atoms: Atoms, kind: str) -> list[str]:
    """Names in ``atoms`` that look like a label of ``kind`` (energy, forces, stress), where there is none.

    >>> elsewhere(Atoms("H", info={"pbe_energy": -7.0, "energy_sigma": 0.1}), "energy")
    ['pbe_energy']
    """
    if getattr(labels(atoms), kind) is not None:
        return []
    if kind == "forces":
        entries: dict[str, Any] = {key: value for key, value in atoms.arrays.items() if value.shape == (len(atoms), 3)}
        entries.pop("positions", None)
    else:
        sizes = (1,) if kind == "energy" else (6, 9)
        results = getattr(atoms.calc, "results", None) or {}  # free_energy, say, which `read` leaves there
        entries = {key: value for key, value in {**results, **atoms.info}.items() if np.size(value) in sizes}
    found = [
        key
        for key, value in entries.items()
        if _NAMES[kind].fullmatch(str(key)) and not _OTHER.search(str(key)) and np.asarray(value).dtype.kind in "fi"
    ]
    return sorted(found, key=lambda key: "per" in key.lower())  # those of one atom last


def how_to_read(kind: str, name: str) -> str:
    """What to do with a label of ``kind`` that stands under ``name``."""
    if "per_atom" in name.lower() or "peratom" in name.lower():
        return f"{name!r} is of one atom: multiply it by the number of atoms and store it as {kind}"
    if "grad" in name.lower():
        return (
            f"{name!r} is perhaps the gradient of the energy, the negative of the forces: store its negative as forces"
        )
    flag = "virial" if kind == "stress" and "virial" in name.lower() else kind
    return f"if that is the {kind}, read it with {flag}_key={name!r} (--{flag}-key {name} on the command line)"


def warn_elsewhere(frames: Sequence[Atoms]) -> None:
    """A `DataWarning` for energies and forces under other names, which are then not compared with anything."""
    for kind in ("energy", "forces"):
        found = next((names for atoms in frames if (names := elsewhere(atoms, kind))), None)
        if found:
            text = f"structures without {kind} have {found[0]!r}: {how_to_read(kind, found[0])}"
            warnings.warn(text, DataWarning, stacklevel=2)


def refuse_elsewhere(frames: Sequence[Atoms], kinds: Iterable[str]) -> None:
    """Refuses frames whose energies, forces or stresses stand under another name, instead of fitting without them.

    Raises:
        ValueError: naming what was found, and the key that says what it is.
    """
    for kind in kinds:
        for index, atoms in enumerate(frames):
            found = elsewhere(atoms, kind)
            if not found:
                continue
            number = sum(bool(elsewhere(frame, kind)) for frame in frames)
            name = "force_weight" if kind == "forces" else f"{kind}_weight"
            raise ValueError(
                f"structure {index} ({atoms.get_chemical_formula()}) has no {kind}, but {found[0]!r} "
                f"({number} of {len(frames)} structures have such a name): {how_to_read(kind, found[0])}; if not, "
                f"leave the {kind} out with {name}=0, or remove the name"
            )
