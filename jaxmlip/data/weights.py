"""What a structure says of its own weight in a fit, in the names and conventions of gap_fit, MACE and GPUMD.

Names in ``info``, in any case, whose they are, and what they mean here as there:

- ``weight`` (GPUMD), ``config_weight`` (MACE): factor of all squared residuals of the structure.
- ``energy_weight`` (GPUMD), ``config_energy_weight`` (MACE): a further factor of that of the energy; ``forces_weight``,
  ``force_weight``, ``config_forces_weight`` of the forces; ``stress_weight``, ``virial_weight``, ``virials_weight`` and
  these after ``config_`` of the stress, which is one with the virial here.
- ``energy_sigma``, ``force_sigma``, ``virial_sigma`` (gap_fit): standard deviations in eV of the cell, eV/Å and eV of
  volume × stress, in place of the weight, or of the noise, in the settings of the fit.

A weight is the factor of a *squared* residual, as in the losses of these codes: 4 counts as much as four copies of the
structure. The weights in the settings of a fit multiply the residual itself (see `jaxmlip.fitting.objective`). Sigmas
are absolute, as gap_fit takes those of single structures, whatever the number of atoms.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms

_ALL = ("config_weight", "weight")
_OF = {
    "energy": ("energy_weight", "config_energy_weight"),
    "forces": ("forces_weight", "force_weight", "config_forces_weight"),
    "stress": (
        "stress_weight", "virial_weight", "virials_weight", "config_stress_weight", "config_virials_weight",
    ),
}  # fmt: skip
_SIGMAS = {
    "energy": ("energy_sigma",),
    "forces": ("force_sigma", "forces_sigma"),
    "virial": ("virial_sigma",),
}

_LIKE_A_WEIGHT = re.compile(
    r"(?<!atomic_)(?<!molecular_)weights?$|sigma$|^force_mask$|^(config_)?w_?(e|f|s|v|energy|forces?|stress|virial)$",
    re.I,
)


class FrameWeights(NamedTuple):
    """Factors of the squared residuals of a structure; 0 leaves a label out."""

    energy: float = 1.0
    forces: float = 1.0
    stress: float = 1.0


class Sigmas(NamedTuple):
    """Standard deviations of the labels; None where the structure names none."""

    energy: float | None = None  # eV of the cell
    forces: float | None = None  # eV/Å
    virial: float | None = None  # eV, of volume × stress


def frame_weights(atoms: Atoms) -> FrameWeights:
    """The weights that ``atoms.info`` names, each the factor of a squared residual.

    >>> frame_weights(Atoms("H", info={"config_weight": 2.0, "energy_weight": 0.0}))
    FrameWeights(energy=0.0, forces=2.0, stress=2.0)

    Raises:
        ValueError: not a number ≥ 0, or two names of one weight that differ.
    """
    common = _number(atoms.info, _ALL, "a weight: a number ≥ 0")
    common = 1.0 if common is None else common
    own = {kind: _number(atoms.info, names, "a weight: a number ≥ 0") for kind, names in _OF.items()}
    return FrameWeights(**{kind: common * (1.0 if value is None else value) for kind, value in own.items()})


def frame_sigmas(atoms: Atoms) -> Sigmas:
    """The standard deviations that ``atoms.info`` names.

    >>> frame_sigmas(Atoms("H", info={"energy_sigma": 0.01}))
    Sigmas(energy=0.01, forces=None, virial=None)

    Raises:
        ValueError: not a positive number, or two names of one that differ.
    """
    found = {kind: _number(atoms.info, names, "a sigma: a number > 0") for kind, names in _SIGMAS.items()}
    if 0.0 in found.values():
        raise ValueError(f"{atoms.get_chemical_formula()}: a sigma is 0; expected a number > 0, or no such name")
    return Sigmas(**found)


def unknown_weights(atoms: Atoms) -> list[str]:
    """Names that look like weights or sigmas, or forces left out, which no convention here knows: they change nothing.

    >>> unknown_weights(Atoms("H", info={"w_energy": 2.0, "eweight": 3.0, "Energy_Weight": 1.0}))
    ['w_energy', 'eweight']
    """
    known = {*_ALL, *(name for names in (*_OF.values(), *_SIGMAS.values()) for name in names)}
    alike = {key: value for key, value in {**atoms.info, **atoms.arrays}.items() if _LIKE_A_WEIGHT.search(str(key))}
    return [key for key, value in alike.items() if key.lower() not in known and np.asarray(value).dtype.kind in "fiub"]


def _number(info: Mapping[str, Any], names: tuple[str, ...], expected: str) -> float | None:
    given = {key: value for key, value in info.items() if str(key).lower() in names and value is not None}
    for name, value in given.items():
        array = np.asarray(value)
        if array.size != 1 or array.dtype.kind not in "fiu" or not (np.isfinite(array).all() and array.item() >= 0):
            raise ValueError(f"{name}={value!r} in info: expected {expected}")
    values = {float(np.asarray(value).item()) for value in given.values()}
    if len(values) > 1:
        listed = ", ".join(f"{name}={value!r}" for name, value in given.items())
        raise ValueError(f"{listed} in info: these name the same weight and differ; keep one")
    return values.pop() if values else None
