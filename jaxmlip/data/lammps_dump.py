"""LAMMPS's text dumps, frame by frame: positions, cell, forces and further columns of atoms; no energy is ever in them.

Elements come from the column ``element``, or from ``type`` with ``species`` as symbols of the types 1, 2, …. Lengths
are in Å and forces in eV/Å, LAMMPS's ``metal`` units; a dump that names others in ``ITEM: UNITS`` is converted
(``real``) or refused. Atoms are sorted by ``id`` and positions counted from the corner of the box.
Reference: the LAMMPS documentation, commands ``dump`` and ``Howto triclinic``.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from jaxmlip.data.labels import Labels, attach
from jaxmlip.data.structures import check_symbols
from jaxmlip.units import KCAL_PER_MOL

_POSITIONS = ("x", "xu", "xs", "xsu")
_FORCES = {"metal": 1.0, "real": KCAL_PER_MOL}
_RENAMED = {"q": "initial_charges", "mass": "masses", "mol": "mol_id"}
_USED = {"element", "type", *(f"{axis}{end}" for axis in "xyz" for end in ("", "u", "s", "su")), "fx", "fy", "fz"}


def is_dump(first_line: str) -> bool:
    """Whether a file that begins so is a LAMMPS dump."""
    return first_line.startswith("ITEM: ")


def read_dump(lines: Iterable[str], name: str, species: Sequence[str] | None = None) -> Iterator[Atoms]:
    """The frames one by one; ``info`` keeps the time step, ``arrays`` the further columns.

    Raises:
        ValueError: malformed or cut off, without elements, or in units that are not known; with frame and item.
    """
    for number, items in enumerate(_frames(lines, name)):
        yield _frame(items, f"{name}, frame {number}", species)


def _frames(lines: Iterable[str], name: str) -> Iterator[dict[str, tuple[list[str], list[list[str]]]]]:
    """For each frame its items: the words of the head line, and those of the lines below."""
    items: dict[str, tuple[list[str], list[list[str]]]] = {}
    rows: list[list[str]] | None = None
    for line in lines:
        words = line.split()
        if line.startswith("ITEM:"):
            kind = next((kind for kind in _ITEMS if line[5:].strip().startswith(kind)), " ".join(words[1:]))
            if kind in ("TIMESTEP", *items) and "ATOMS" in items:
                yield items
                items = {}
            rows = []
            items[kind] = (words[1 + len(kind.split()) :], rows)
        elif words and rows is not None:
            rows.append(words)
        elif words:
            raise ValueError(f"{name}: expected a LAMMPS dump, which begins with 'ITEM: TIMESTEP', got {line[:60]!r}")
    if items:
        yield items


_ITEMS = ("TIMESTEP", "UNITS", "TIME", "NUMBER OF ATOMS", "BOX BOUNDS", "ATOMS")


def _frame(items: dict[str, tuple[list[str], list[list[str]]]], where: str, species: Sequence[str] | None) -> Atoms:
    missing = [kind for kind in ("NUMBER OF ATOMS", "BOX BOUNDS", "ATOMS") if kind not in items]
    if missing:
        raise ValueError(f"{where}: ITEM: {missing[0]} is missing; the dump was cut off: remove its last frame")
    (n_atoms,) = _numbers(items["NUMBER OF ATOMS"][1], where, (1, 1))[0]
    cell, origin, pbc = _box(*items["BOX BOUNDS"], where)
    columns, rows = items["ATOMS"]
    if len(rows) != n_atoms:
        raise ValueError(f"{where}: expected {n_atoms:.0f} atoms, got {len(rows)}; the dump was cut off")
    wrong = next((row for row in rows if len(row) != len(columns)), None)
    if wrong is not None:
        raise ValueError(f"{where}: expected the columns {' '.join(columns)}, got {' '.join(wrong)!r}")
    table = {column: [row[k] for row in rows] for k, column in enumerate(columns)}
    order = np.argsort(_column(table, "id", where), kind="stable") if "id" in table else np.arange(len(rows))
    numbers = _elements(table, where, species)
    atoms = Atoms(numbers, positions=_positions(table, where, cell, origin), cell=cell, pbc=pbc)[order]
    _keep(atoms, {column: [values[k] for k in order] for column, values in table.items()}, where)
    if items.get("TIMESTEP", ([], []))[1]:
        atoms.info["timestep"] = int(_numbers(items["TIMESTEP"][1], where, (1, 1))[0][0])
    attach(atoms, Labels(None, _forces(table, items, where, order), None))
    return atoms


def _box(head: list[str], rows: list[list[str]], where: str) -> tuple[np.ndarray, np.ndarray, list[bool]]:
    """Cell, corner and periodic directions of the three forms of BOX BOUNDS."""
    general, tilted = "abc" in head, head[:3] == ["xy", "xz", "yz"]
    width = 4 if general else (3 if tilted else 2)
    bounds = _numbers(rows, where, (3, width))
    flags = [word for word in head if len(word) == 2 and set(word) <= set("pfsm")]
    pbc = [flag == "pp" for flag in flags] if len(flags) == 3 else [True] * 3
    if general:
        return bounds[:, :3], bounds[:, 3], pbc
    low, high = bounds[:, 0].copy(), bounds[:, 1].copy()
    xy, xz, yz = bounds[:, 2] if tilted else (0.0, 0.0, 0.0)
    low[0] -= min(0.0, xy, xz, xy + xz)
    high[0] -= max(0.0, xy, xz, xy + xz)
    low[1] -= min(0.0, yz)
    high[1] -= max(0.0, yz)
    length = high - low
    cell = np.array([[length[0], 0, 0], [xy, length[1], 0], [xz, yz, length[2]]])
    return cell, low, pbc


def _positions(table: dict[str, list[str]], where: str, cell: np.ndarray, origin: np.ndarray) -> np.ndarray:
    for kind in _POSITIONS:
        names = [kind.replace("x", axis) for axis in "xyz"]
        if all(name in table for name in names):
            found = np.stack([_column(table, name, where) for name in names], axis=1)
            return found @ cell if "s" in kind else found - origin
    raise ValueError(f"{where}: no positions: expected the columns x y z, xu yu zu or xs ys zs, got {' '.join(table)}")


def _forces(table: dict[str, list[str]], items: dict, where: str, order: np.ndarray) -> np.ndarray | None:
    present = [name for name in ("fx", "fy", "fz") if name in table]
    if not present:
        return None
    if len(present) < 3:
        raise ValueError(f"{where}: forces need the columns fx fy fz, got {' '.join(present)}")
    units = items["UNITS"][1][0][0] if items.get("UNITS", ([], []))[1] else "metal"
    if units not in _FORCES:
        raise ValueError(f"{where}: ITEM: UNITS is {units!r}; forces of metal and real units are read, convert these")
    return np.stack([_column(table, name, where) for name in present], axis=1)[order] * _FORCES[units]


def _elements(table: dict[str, list[str]], where: str, species: Sequence[str] | None) -> list[int]:
    if "element" in table:
        found = [atomic_numbers.get(word, 0) for word in table["element"]]
        if 0 in found:
            word = table["element"][found.index(0)]
            raise ValueError(f"{where}: unknown element {word!r} in the column element; expected a symbol such as Li")
        return found
    if "type" not in table:
        raise ValueError(f"{where}: no elements: expected a column element or type, got {' '.join(table)}")
    types = _column(table, "type", where)
    if species is None:
        raise ValueError(
            f"{where}: the dump has types ({', '.join(f'{t:g}' for t in np.unique(types))}) and no elements; give the "
            "symbols of the types 1, 2, … in this order, e.g. species=['Li', 'O'] (--species Li O)"
        )
    check_symbols(species)
    if not (np.isin(types, np.arange(1, len(species) + 1))).all():
        bad = types[~np.isin(types, np.arange(1, len(species) + 1))][0]
        raise ValueError(f"{where}: type {bad:g} has no symbol in species={list(species)}; types count from 1")
    return [atomic_numbers[species[int(t) - 1]] for t in types]


def _keep(atoms: Atoms, table: dict[str, list[str]], where: str) -> None:
    """Further columns as arrays, numbers where they are numbers."""
    for column, words in table.items():
        if column in _USED:
            continue
        values: Any = np.array(words)
        with contextlib.suppress(ValueError):
            values = np.array(words, int if column in ("id", "mol", "ix", "iy", "iz") else float)
        atoms.set_array(_RENAMED.get(column, column), values)


def _column(table: dict[str, list[str]], name: str, where: str) -> np.ndarray:
    return _numbers([[word] for word in table[name]], f"{where}, column {name}", (len(table[name]), 1))[:, 0]


def _numbers(rows: list[list[str]], where: str, shape: tuple[int, int]) -> np.ndarray:
    try:
        found = np.array(rows, float)
    except ValueError:
        found = np.zeros((0, 0))
    if found.shape != shape or not np.isfinite(found).all():
        got = " / ".join(" ".join(row) for row in rows[:3])
        raise ValueError(f"{where}: expected {shape[0]} lines of {shape[1]} finite numbers, got {got!r}")
    return found
