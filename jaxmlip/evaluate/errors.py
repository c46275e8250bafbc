"""Errors of a potential against labels: RMSE, MAE and the largest, overall, per element and per group.

Conventions: an energy error is the difference of total energies divided by the number of atoms (eV/atom), one number
per structure; force errors are taken over components (eV/Å); stress errors over all nine components (eV/Å³). Tables for
people convert by `jaxmlip.units.SHOWN`: meV/atom, eV/Å, GPa.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import ase
import numpy as np
from jaxtyping import Float

from jaxmlip.data.labels import labels
from jaxmlip.data.structures import frames_of
from jaxmlip.potentials.model import Model
from jaxmlip.potentials.predictions import Predicted, predict_atoms
from jaxmlip.units import SHOWN

UNITS = {"energy": "eV/atom", "forces": "eV/Å", "stress": "eV/Å³"}
_MISSING = "(none)"


class ErrorRow(NamedTuple):
    """The error of one quantity over all structures, one element or one group, in ``unit``: eV/atom, eV/Å or eV/Å³."""

    quantity: str
    scope: Literal["all", "element", "group"]
    name: str
    n: int
    """Numbers compared: structures, force components or stress components."""
    rmse: float
    mae: float
    max: float
    """Of absolute values."""
    unit: str
    """Of the three before it, from `UNITS`."""


@dataclasses.dataclass(frozen=True)
class ErrorTable:
    """Rows of errors; quantities without a label have none.

    >>> row = ErrorRow("energy", "all", "all", 2, 0.003, 0.0025, 0.004, "eV/atom")
    >>> ErrorTable((row,))["energy"].rmse
    0.003
    """

    rows: tuple[ErrorRow, ...]
    """One a quantity and scope."""

    def __getitem__(self, quantity: str) -> ErrorRow:
        """The row of a quantity over all structures.

        Raises:
            KeyError: no label of that quantity was there.
        """
        for row in self.rows:
            if row.quantity == quantity and row.scope == "all":
                return row
        raise KeyError(f"no errors of {quantity!r}: the structures have no such label")

    def __contains__(self, quantity: object) -> bool:
        """Whether the structures have labels of that quantity."""
        return any(row.quantity == quantity for row in self.rows)

    def records(self) -> list[dict[str, Any]]:
        """One dict a row, ready for JSON or CSV."""
        return [row._asdict() for row in self.rows]


def errors(predicted: Predicted | Model | str | Path, atoms: Any, *, group_key: str | None = None) -> ErrorTable:
    """Errors in eV/atom, eV/Å and eV/Å³ of predictions, or of a model, against the labels on ``atoms``.

    >>> from ase.build import bulk
    >>> from jaxmlip.data.labels import Labels, attach
    >>> atoms = bulk("Mo", cubic=True)
    >>> attach(atoms, Labels(-21.0, np.zeros((2, 3)), None))
    >>> table = errors(Predicted(np.array([-20.99]), [np.full((2, 3), 0.1)], np.zeros((1, 3, 3))), [atoms])
    >>> print(f"{table['energy'].mae:.3f} {table['forces'].rmse:.1f}", "stress" in table)
    0.005 0.1 False

    Args:
        predicted: one prediction per structure, or a model, or its file.
        atoms: structures with labels, of ASE or pymatgen; missing labels are left out.
        group_key: a key of ``atoms.info``; its values are reported apart.

    Raises:
        ValueError: no structure has a label, or the numbers of predictions and structures differ.
    """
    frames = frames_of(atoms)
    values = predicted if isinstance(predicted, Predicted) else predict_atoms(predicted, frames)
    if len(values.energy) != len(frames):
        raise ValueError(
            f"got {len(values.energy)} predictions for {len(frames)} structures; they must match in number"
        )
    groups = [str(frame.info.get(group_key, _MISSING)) for frame in frames] if group_key else []
    rows = [row for quantity in UNITS for row in _quantity_rows(quantity, residuals(quantity, values, frames), groups)]
    if not rows:
        raise ValueError(
            f"none of the {len(frames)} structures has an energy, forces or a stress to compare with; "
            "if the file has them under other names, read it with energy_key=, forces_key= or stress_key="
        )
    return ErrorTable(tuple(rows))


class Residuals(NamedTuple):
    """Differences predicted − reference in the units of `UNITS`, and what each belongs to."""

    values: Float[np.ndarray, " n"]
    structure: np.ndarray  # [n] index
    element: np.ndarray | None  # [n] symbols; None: not of an atom


def residuals(quantity: str, predicted: Predicted, atoms: Sequence[ase.Atoms]) -> Residuals:
    """The differences of one quantity, predicted − reference, where the reference is labelled."""
    values, structure, element = [], [], []
    for index, frame in enumerate(atoms):
        reference = finite_label(frame, quantity, index)
        if reference is None:
            continue
        difference = _difference(quantity, index, predicted, reference, len(frame))
        values.append(difference)
        structure.append(np.full(difference.size, index))
        element.append(np.repeat(frame.symbols, 3) if quantity == "forces" else np.empty(0, str))
    if not values:
        return Residuals(np.empty(0), np.empty(0, int), None)
    elements = np.concatenate(element) if quantity == "forces" else None
    return Residuals(np.concatenate(values), np.concatenate(structure), elements)


def finite_label(frame: ase.Atoms, quantity: str, index: int) -> Any:
    """The label of one quantity, None where it is missing.

    Raises:
        ValueError: it is not finite; an error against it would be NaN for the whole data set.
    """
    value = getattr(labels(frame), quantity)
    if value is not None and not np.isfinite(value).all():
        raise ValueError(
            f"structure {index} ({frame.get_chemical_formula()}) has a label that is not a finite number ({quantity}); "
            "find and remove such structures with `jaxmlip audit FILE --write clean.xyz`"
        )
    return value


def _difference(quantity: str, index: int, predicted: Predicted, value: Any, n_atoms: int) -> np.ndarray:
    if quantity == "energy":
        return np.array([(predicted.energy[index] - value) / n_atoms])
    if quantity == "forces":
        return (predicted.forces[index] - value).ravel()
    return (predicted.stress[index] - value).ravel()


def _quantity_rows(quantity: str, found: Residuals, groups: list[str]) -> Iterator[ErrorRow]:
    if not found.values.size:
        return
    yield _row(quantity, "all", "all", found.values)
    if found.element is not None:
        for name in sorted(set(found.element.tolist())):
            yield _row(quantity, "element", name, found.values[found.element == name])
    if groups:
        group_of = np.array(groups)[found.structure]
        for name in sorted(set(group_of.tolist())):
            yield _row(quantity, "group", name, found.values[group_of == name])


def _row(quantity: str, scope: Literal["all", "element", "group"], name: str, values: np.ndarray) -> ErrorRow:
    absolute = np.abs(values)
    rmse = float(np.sqrt(np.mean(values**2)))
    return ErrorRow(
        quantity, scope, name, len(values), rmse, float(absolute.mean()), float(absolute.max()), UNITS[quantity]
    )


def rich_table(tables: dict[str, ErrorTable], *, scopes: Sequence[str] = ("all",)):
    """A `rich.table.Table` of ``tables`` (name, as "train" or "test" → errors) in meV/atom, eV/Å and GPa.

    >>> row = ErrorRow("energy", "all", "all", 2, 0.003, 0.0025, 0.004, "eV/atom")
    >>> rich_table({"test": ErrorTable((row,))}).row_count
    1
    """
    from rich.table import Table

    table = Table("data", "quantity", "of", "n", "RMSE", "MAE", "max", "unit", title="Errors", title_justify="left")
    for column in table.columns[3:7]:
        column.justify = "right"
    for data, errors_of in tables.items():
        for row in errors_of.rows:
            if row.scope in scopes:
                unit, factor = SHOWN[row.quantity]
                numbers = [f"{factor * value:.4g}" for value in (row.rmse, row.mae, row.max)]
                table.add_row(data, row.quantity, row.name, str(row.n), *numbers, unit)
    return table
