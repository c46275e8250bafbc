"""Atoms that stay where they are: ASE's ``move_mask`` in files, `ase.constraints.FixAtoms` in memory."""

import warnings
from typing import Any

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms, FixCartesian

from jaxmlip.data.labels import DataWarning

_MOVING = ("move_mask", "selective_dynamics")
_FIXED = ("fixed", "is_fixed", "fixed_atoms", "fix_atoms", "frozen", "is_frozen", "frozen_atoms")
_FALSE = ("f", "false", "0", "0.0", "n", "no", ".false.")


def is_mask(name: str) -> bool:
    """Whether a column of atoms says which of them may move: move_mask and selective_dynamics, fixed and frozen."""
    return name.lower() in (*_MOVING, *_FIXED)


def moving_of(name: str, values: np.ndarray) -> np.ndarray:
    """True where atoms may move, from a column of this name in truth values, numbers or words.

    >>> moving_of("fixed", np.array(["T", "F"])).tolist()
    [False, True]
    """
    if values.dtype.kind in "US":
        values = np.vectorize(lambda word: str(word).lower() not in _FALSE, otypes=[bool])(values)
    return ~values.astype(bool) if name.lower() in _FIXED else values.astype(bool)


def take_move_mask(atoms: Atoms, mask: np.ndarray) -> None:
    """Constraints from a mask ``[n_atoms]`` or ``[n_atoms, 3]``, True where atoms may move; FixCartesian for parts.

    Raises:
        ValueError: another shape.
    """
    mask = np.asarray(mask, bool)
    if mask.shape not in ((len(atoms),), (len(atoms), 3)):
        raise ValueError(f"move_mask: expected one or three columns of T or F, got shape {mask.shape}")
    rows = mask if mask.ndim == 2 else np.repeat(mask[:, None], 3, axis=1)
    fixed = np.flatnonzero(~rows.any(axis=1))
    partly = np.flatnonzero(rows.any(axis=1) & ~rows.all(axis=1))
    constraints: list[Any] = [FixAtoms(fixed)] if len(fixed) else []
    constraints += [FixCartesian(int(index), ~rows[index]) for index in partly]
    atoms.set_constraint(constraints)


def move_mask(atoms: Atoms) -> np.ndarray | None:
    """True where atoms may move, ``[n_atoms]`` or, with `FixCartesian`, ``[n_atoms, 3]``; None without constraints.

    >>> move_mask(Atoms("H2", constraint=FixAtoms([0]))).tolist()
    [False, True]
    """
    rows = np.ones((len(atoms), 3), bool)
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            rows[constraint.get_indices()] = False
        elif isinstance(constraint, FixCartesian):
            fixed = np.asarray(constraint.mask, bool)
            rows[np.ix_(np.atleast_1d(constraint.get_indices()), np.flatnonzero(fixed))] = False
        else:
            warnings.warn(
                f"{atoms.get_chemical_formula()}: the constraint {type(constraint).__name__} has no form in this file "
                "and is left out; keep it in an ASE .traj file",
                DataWarning,
                stacklevel=4,
            )
    if rows.all():
        return None
    same = (rows == rows[:, :1]).all()
    return rows[:, 0] if same else rows
