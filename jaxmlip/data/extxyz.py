"""Extended XYZ, with errors that name the frame and the line, and numbers that survive a round trip bit for bit.

ASE's own reader stops silently at a blank line and ignores surplus columns; training data must not vanish unseen.
Format: https://github.com/libAtoms/extxyz
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from io import TextIOBase
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols

from jaxmlip.data.constraints import is_mask, move_mask, moving_of, take_move_mask
from jaxmlip.data.extxyz_header import is_number, lattice, periodic, read_comment
from jaxmlip.data.labels import labels
from jaxmlip.data.textfile import EMPTY

_DTYPES: dict[str, Any] = {"R": float, "I": int, "S": str, "L": bool}
_TRUTHS = frozenset(["T", "F", "true", "false", "True", "False", "TRUE", "FALSE"])
_MATRICES = ("Lattice", "virial", "stress")  # nine numbers, first index fastest
_MOST_ATOMS = 10**9
_LOGICAL = {word: word[0] in "Tt" for word in ("T", "True", "true", "TRUE", "F", "False", "false", "FALSE")}
_PER_ATOM, _PER_CELL = ("magmoms", "charges", "energies"), ("free_energy", "dipole", "magmom")
_RENAME = {"mass": "masses", "magmom": "initial_magmoms", "charge": "initial_charges"}


class _Column(NamedTuple):
    name: str
    kind: str  # S, R, I or L
    start: int  # the first word of a line
    stop: int  # after the last one


def read_extxyz(lines: Iterable[str], name: str) -> Iterator[Atoms]:
    """The frames one by one; every key stays in ``info`` and ``arrays`` (labels are taken from there later).

    Raises:
        ValueError: anything that is not extended XYZ, or no frame at all; with the frame and the line counted from 1.
    """
    numbered, frame = enumerate(lines, 1), -1
    for number, line in numbered:
        if line.strip():
            frame += 1
            n_atoms = _n_atoms(line, f"{name}, frame {frame}, line {number}")
            block = [text.rstrip("\r\n") for _, text in islice(numbered, n_atoms + 1)]
            while len(block) > 1 and not block[-1].strip():
                block.pop()
            if len(block) < n_atoms + 1:
                raise ValueError(
                    f"{name}, frame {frame}, line {number}: the frame should have {n_atoms} atoms but the file ends "
                    f"after {max(len(block) - 1, 0)}; it was cut off: write it again or remove its last frame"
                )
            yield _read_frame(block, number + 1, f"{name}, frame {frame}")
    if frame < 0:
        raise ValueError(f"{name}: {EMPTY}")


def write_extxyz(file: TextIOBase, frames: Iterable[Atoms]) -> None:
    """Write ``frames`` with ``energy``, ``forces``, ``stress`` and all of ``info`` and ``arrays``."""
    for atoms in frames:
        info, arrays = _contents(atoms)
        properties, columns = _format_arrays(atoms, arrays)
        file.write(f"{len(atoms)}\n{_comment(atoms, properties, info)}\n")
        file.writelines(" ".join(row) + "\n" for row in zip(*columns, strict=True))


def _n_atoms(line: str, where: str) -> int:
    """The number on the first line of a frame."""
    try:
        n_atoms = int(line)
    except ValueError:
        raise ValueError(
            f"{where}: expected the number of atoms, got {line.strip()[:60]!r}; this is not extended XYZ, or the "
            "frame before has more atom lines than its first line says"
        ) from None
    if not 1 <= n_atoms < _MOST_ATOMS:
        raise ValueError(f"{where}: expected at least one atom, got {n_atoms}; remove this frame")
    return n_atoms


def _read_frame(block: Sequence[str], at: int, where: str) -> Atoms:
    """A frame from its comment, which is line ``at`` of the file, and the lines of its atoms."""
    info = read_comment(block[0], f"{where}, line {at}")
    columns = _read_properties(str(info.pop("Properties", "species:S:1:pos:R:3")), f"{where}, line {at}")
    rows = [line.split() for line in block[1:]]
    n_columns = columns[-1].stop
    for offset, row in enumerate(rows):
        if len(row) != n_columns:
            raise ValueError(
                f"{where}, line {at + 1 + offset}: expected {n_columns} columns, got {len(row)} in "
                f"{block[1 + offset][:80]!r}; compare with Properties and the number of atoms ({len(rows)})"
            )
    arrays = {column.name: _read_column(rows, column, f"{where}, line", at + 1) for column in columns}
    cell = lattice(info.pop("Lattice", None), f"{where}, line {at}")
    pbc = periodic(info.pop("pbc", cell is not None), f"{where}, line {at}")
    numbers = _numbers(arrays, where, at + 1)
    masks = {name: moving_of(name, arrays.pop(name)) for name in list(arrays) if is_mask(name)}
    _join_forces(arrays)
    try:
        atoms = Atoms(numbers, positions=arrays.pop("pos"), cell=cell, pbc=pbc, info=info)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}, line {at}: {error}; check Lattice and pbc") from None
    for key, array in arrays.items():
        atoms.set_array(_RENAME.get(key, key), array)
    for mask in masks.values():
        try:
            take_move_mask(atoms, mask)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
    return atoms


def _join_forces(arrays: dict[str, np.ndarray]) -> None:
    """Columns fx, fy and fz of their own become forces."""
    if not any(name.lower() in ("forces", "force") for name in arrays) and {"fx", "fy", "fz"} <= set(arrays):
        arrays["forces"] = np.stack([arrays.pop(name) for name in ("fx", "fy", "fz")], axis=1)


def _read_properties(text: str, where: str) -> list[_Column]:
    fields = text.split(":")
    columns, at = [], 0
    for name, kind, count in zip(fields[::3], fields[1::3], fields[2::3], strict=False):
        if kind not in _DTYPES or not count.isdigit() or int(count) < 1:
            raise ValueError(f"{where}: Properties has {name}:{kind}:{count}; expected name:R|I|S|L:number of columns")
        name = name.lower() if name.lower() in ("species", "pos") else name
        columns.append(_Column(name, kind, at, at + int(count)))
        at += int(count)
    names = {column.name: column for column in columns}
    has_elements = "species" in names or "Z" in names
    if len(fields) % 3 or not has_elements or "pos" not in names or names["pos"].stop - names["pos"].start != 3:
        raise ValueError(f"{where}: expected Properties=species:S:1:pos:R:3[:name:type:columns…], got {text!r}")
    return columns


def _read_column(rows: list[list[str]], column: _Column, where: str, first_line: int) -> np.ndarray:
    convert = _LOGICAL.__getitem__ if column.kind == "L" else _DTYPES[column.kind]
    values = []
    for offset, row in enumerate(rows):
        try:
            values.append([convert(item) for item in row[column.start : column.stop]])
        except (ValueError, KeyError):
            got = " ".join(row[column.start : column.stop])
            kind = {"R": "real numbers", "I": "integers", "L": "T or F"}[column.kind]
            message = f"{where} {first_line + offset}: {column.name}: expected {kind}, got {got!r}"
            raise ValueError(f"{message}; correct the line or remove the frame") from None
    array = np.array(values, dtype=_DTYPES[column.kind])
    return array[:, 0] if column.stop - column.start == 1 else array


def _numbers(arrays: dict[str, np.ndarray], where: str, first_line: int) -> list[int]:
    symbols, numbers = arrays.pop("species", None), arrays.pop("Z", np.zeros(0, int))
    if symbols is None:
        symbols = np.array([chemical_symbols[z] if 0 < z < len(chemical_symbols) else str(z) for z in numbers])
    result = [atomic_numbers.get(str(symbol).capitalize(), 0) for symbol in symbols]
    if 0 in result:
        offset = result.index(0)
        raise ValueError(
            f"{where}, line {first_line + offset}: unknown element {str(symbols[offset])!r}; expected a chemical "
            "symbol such as Li (without labels or charges)"
        )
    return result


def _contents(atoms: Atoms) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """``info`` and ``arrays`` with the results of the calculator among them."""
    info = dict(atoms.info)
    arrays = {key: value for key, value in atoms.arrays.items() if key not in ("numbers", "positions")}
    energy, forces, stress = labels(atoms)
    for key, value in (getattr(atoms.calc, "results", None) or {}).items():
        if key in _PER_ATOM:
            arrays[key] = np.asarray(value)
        elif key in _PER_CELL:
            info[key] = value
    info |= {key: value for key, value in (("energy", energy), ("stress", stress)) if value is not None}
    arrays |= {} if forces is None else {"forces": forces}
    mask = move_mask(atoms)
    arrays |= {} if mask is None else {"move_mask": mask}
    return info, arrays


def _format_arrays(atoms: Atoms, arrays: dict[str, np.ndarray]) -> tuple[str, list[list[str]]]:
    properties = ["species:S:1", "pos:R:3"]
    columns = [list(atoms.get_chemical_symbols()), *_format(atoms.positions)]
    for key, array in arrays.items():
        flat = array.reshape(len(atoms), -1)
        kind = {"f": "R", "i": "I", "u": "I", "b": "L"}.get(array.dtype.kind, "S")
        properties.append(f"{key}:{kind}:{flat.shape[1]}")
        columns += _format(flat)
    return ":".join(properties), columns


def _format(array: np.ndarray) -> list[list[str]]:
    # str of a Python float is the shortest text that reads back as the same number.
    text = {True: "T", False: "F"}.__getitem__ if array.dtype.kind == "b" else str
    return [[text(item) for item in column] for column in array.T.tolist()]


def _comment(atoms: Atoms, properties: str, info: dict[str, Any]) -> str:
    vectors = " ".join(map(str, atoms.cell.array.ravel().tolist()))
    head = [f'Lattice="{vectors}"'] if atoms.cell.array.any() else []
    pbc = " ".join("T" if periodic else "F" for periodic in atoms.pbc)
    pairs = [f"{_quoted(str(key))}={_quoted(_info_text(key, value))}" for key, value in info.items()]
    return " ".join([*head, f"Properties={properties}", *pairs, f'pbc="{pbc}"'])


def _info_text(key: str, value: Any) -> str:
    """``value`` so that this reader and ASE's give it back, as JSON where plain text would turn into something else."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str) and not _would_change(value):
        return value
    if isinstance(value, (bool, int, float)):
        return {True: "T", False: "F"}[value] if isinstance(value, bool) else str(value)
    array = np.asarray(value) if isinstance(value, (list, tuple, np.ndarray)) else np.zeros(0, dtype=object)
    if array.dtype.kind in "if" and (key in _MATRICES or (array.ndim == 1 and array.size > 1)):
        return " ".join(map(str, array.ravel(order="F").tolist()))
    try:
        return "_JSON " + json.dumps(value.tolist() if isinstance(value, np.ndarray) else value)
    except TypeError:
        return "_JSON " + json.dumps(str(value))


def _would_change(text: str) -> bool:
    """Whether a string reads back as a number, a truth value or JSON, or would break the line."""
    if not text.isprintable() or text.startswith("_JSON") or not text.strip(", "):
        return True
    return all(is_number(word) or word in _TRUTHS for word in re.findall(r"[^\s,]+", text))


def _quoted(text: str) -> str:
    if text and re.fullmatch(r"[\w.+:/*@#%&|~^<>;?!()$-]+", text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
