"""The reference energy, forces and stress stored on a structure.

Conventions: eV, eV/Å, eV/Å³ with ASE's sign, σ = (1/V) ∂E/∂ε (positive is tension).
"""

import re
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from jaxtyping import Float
from numpy.typing import NDArray

Array = NDArray[np.float64]

VOIGT = ((0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1))
"""Rows and columns of xx, yy, zz, yz, xz, xy in a tensor: Voigt's order, as ASE has it."""
FROM_VOIGT = [[0, 5, 4], [5, 1, 3], [4, 3, 2]]
"""Of each component of a tensor, its place in that order."""

_ROUNDING = 1e-9  # Å, of a structure that went through another program; labels that belong to other places differ more

_LOOP = r"(?:is|has|dft|ref|qm|vasp|scf|sc|electronic(?:ally)?|electrons?|elec)"
_CONVERGED = re.compile(f"(?:{_LOOP}_?)*(?P<no>un|not_?|non_?)?(?:{_LOOP}_?)*converge(?:d|nce)(?:_{_LOOP})?", re.I)
_NO = ("false", "f", "no", "n", "0", "0.0", "unconverged", "not converged", "not_converged", "failed")
_YES = ("true", "t", "yes", "y", "1", "1.0")


class DataWarning(UserWarning):
    """Something of a file that is not used, or a frame that is left out: said, never passed over."""


class Labels(NamedTuple):
    """What the reference calculation said; None where it said nothing (a stored NaN stays NaN).

    Attributes:
        energy: of the whole cell, eV.
        forces: ``[n_atoms, 3]`` in eV/Å.
        stress: ``[3, 3]`` in eV/Å³, ASE's sign.
    """

    energy: float | None
    forces: Array | None
    stress: Array | None


def labels(atoms: Atoms) -> Labels:
    """The energy (eV), forces (eV/Å) and stress (eV/Å³) stored on ``atoms``; nothing is ever computed.

    They are the ``results`` of the calculator, as `jaxmlip.data.read` leaves them.

    >>> from ase.build import bulk
    >>> atoms = bulk("Mo")
    >>> labels(atoms)
    Labels(energy=None, forces=None, stress=None)
    >>> attach(atoms, Labels(-10.9, np.zeros((1, 3)), None))
    >>> labels(atoms).energy
    -10.9

    Raises:
        ValueError: a label has the wrong shape, or the atoms were changed after they were labelled.
    """
    results = getattr(atoms.calc, "results", None) or {}
    if not any(results.get(name) is not None for name in Labels._fields):
        return Labels(None, None, None)
    _check_unchanged(atoms)
    energy, forces, stress = (results.get(name) for name in Labels._fields)
    return Labels(
        None if energy is None else as_energy(energy),
        None if forces is None else as_forces(forces, len(atoms)),
        None if stress is None else as_stress(stress),
    )


def is_converged(atoms: Atoms) -> bool:
    """False for a structure whose ``info`` says that its electronic loop did not converge.

    The names are converged, scf_converged, is_converged, converged_electronic and the like, or unconverged, in any
    case; the values are those of truth: False, F, no, 0.

    >>> is_converged(Atoms("H")), is_converged(Atoms("H", info={"converged": False}))
    (True, False)
    >>> is_converged(Atoms("H", info={"SCF_converged": "no"})), is_converged(Atoms("H", info={"unconverged": "T"}))
    (False, False)
    """
    for key, value in atoms.info.items():
        match = _CONVERGED.fullmatch(str(key)) if np.size(value) == 1 else None
        word = str(np.asarray(value).reshape(())).strip(" .").lower() if match else ""
        if match and word in (_YES if match["no"] else _NO):
            return False
    return True


def attach(atoms: Atoms, labels: Labels, **other: Any) -> None:
    """Store ``labels`` on ``atoms`` in a ``SinglePointCalculator``; ``other`` are further results (magmoms, …).

    The stress is kept as six Voigt numbers, as ASE's calculators do. No label at all removes the calculator.

    >>> atoms = Atoms("H")
    >>> attach(atoms, Labels(-13.6, np.zeros((1, 3)), None))
    >>> atoms.get_potential_energy()
    -13.6

    Raises:
        ValueError: a label has the wrong shape.
    """
    from ase.calculators.singlepoint import SinglePointCalculator

    results = {name: value for name, value in other.items() if value is not None}
    if labels.energy is not None:
        results["energy"] = as_energy(labels.energy)
    if labels.forces is not None:
        results["forces"] = as_forces(labels.forces, len(atoms))
    if labels.stress is not None:
        results["stress"] = as_stress(labels.stress)[VOIGT]
    atoms.calc = SinglePointCalculator(atoms, **results) if results else None


def as_energy(value: Any) -> float:
    """``value`` as one energy in eV.

    Raises:
        ValueError: it is not one number.
    """
    array = _floats(value, "energy")
    if array.size != 1:
        raise ValueError(f"energy: expected one number per structure (eV), got an array of shape {array.shape}")
    return float(array.reshape(()))


def as_forces(value: Any, n_atoms: int) -> Float[np.ndarray, "n_atoms 3"]:
    """``value`` as forces ``[n_atoms, 3]`` in eV/Å.

    Raises:
        ValueError: the shape is another one.
    """
    array = _floats(value, "forces")
    if array.shape != (n_atoms, 3):
        raise ValueError(f"forces: expected shape ({n_atoms}, 3), one row per atom in eV/Å, got {array.shape}")
    return array


def as_stress(value: Any) -> Float[np.ndarray, "3 3"]:
    """``value`` (3 × 3, nine numbers, or six in Voigt order xx, yy, zz, yz, xz, xy) as a symmetric ``[3, 3]``.

    Raises:
        ValueError: neither of these shapes, or not symmetric.
    """
    array = _floats(value, "stress")
    if array.shape == (6,):
        full = np.empty((3, 3))
        full[VOIGT] = full[VOIGT[::-1]] = array
        return full
    if array.size != 9 or array.shape not in ((3, 3), (9,)):
        raise ValueError(f"stress: expected shape (3, 3) or 6 Voigt numbers (xx yy zz yz xz xy), got {array.shape}")
    full = array.reshape(3, 3)
    scale = np.abs(full).max()
    with np.errstate(invalid="ignore"):  # a stress that is not finite is the audit's business
        # Programs print the two halves rounded; more than 1 % apart is a mistake (a transposed table, a wrong column).
        if np.abs(full - full.T).max() > 0.01 * scale + 1e-6:
            raise ValueError(f"stress: expected a symmetric 3 x 3 tensor, got {full.tolist()}")
        return 0.5 * (full + full.T)


def _floats(value: Any, name: str) -> Array:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: expected numbers, got {value!r}") from None


def _check_unchanged(atoms: Atoms) -> None:
    """Refuse labels of a geometry that the atoms no longer have."""
    labelled = getattr(atoms.calc, "atoms", None)
    if labelled is None or labelled is atoms:
        return
    same = (
        np.array_equal(labelled.numbers, atoms.numbers)
        and np.allclose(labelled.positions, atoms.positions, rtol=0, atol=_ROUNDING, equal_nan=True)
        and np.allclose(labelled.cell.array, atoms.cell.array, rtol=0, atol=_ROUNDING, equal_nan=True)
        and np.array_equal(labelled.pbc, atoms.pbc)
    )
    if not same:
        raise ValueError(
            f"{atoms.get_chemical_formula()}: the atoms or the cell were changed after the labels were stored, so the "
            "labels belong to another structure; store new ones (jaxmlip.data.attach(atoms, Labels(...))), or remove "
            "them with atoms.calc = None"
        )
