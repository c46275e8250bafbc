"""MLIP's ``.cfg``: configurations of MLIP-2 and MLIP-3 (not AtomEye's format of the same suffix).

Energy in eV, forces in eV/Å. ``PlusStress`` and ``Virial`` are −stress × volume in eV, ``Stress`` (older MLIP, maml for
mlip-dev) is the negative of these; without a cell no stress follows from them, and they stay in ``info``. Sections that
are not known stay there too, with a warning. ``Feature move_mask`` keeps constraints. Atoms have types 0, 1, … instead
of elements, so ``species`` gives the symbol of each type; files written here carry it in a ``Feature species`` line.
Reference: Novikov, Gubaev, Podryabinkin and Shapeev, Mach. Learn.: Sci. Technol. 2, 025002 (2021).
"""

import json
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from io import TextIOBase
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms

from jaxmlip.data.constraints import move_mask, take_move_mask
from jaxmlip.data.labels import DataWarning, Labels, as_stress, attach, labels
from jaxmlip.data.structures import check_symbols

_PLUS_STRESS = ("xx", "yy", "zz", "yz", "xz", "xy")
_STRESSES = {"plusstress": -1.0, "virial": -1.0, "stress": 1.0}  # the sign that makes each a stress × volume
_SECTIONS = {"size", "supercell", "atomdata", "energy", "feature", *_STRESSES}
_KNOWN_COLUMNS = {"id", "type", *(prefix + axis for prefix in ("cartes_", "direct_", "f") for axis in "xyz")}


class _Line(NamedTuple):
    """A line of the file: its number, from 1, and its words."""

    number: int
    words: list[str]


def is_mlip_cfg(head: str) -> bool:
    """Whether a file that begins so is MLIP's kind of ``.cfg``."""
    return "BEGIN_CFG" in head


def read_cfg(lines: Iterable[str], name: str, species: Sequence[str] | None = None) -> Iterator[Atoms]:
    """The configurations one by one; features become ``info``, further columns ``arrays``.

    Raises:
        ValueError: ``species`` is needed and missing or too short, or the text is malformed (with frame and line).
    """
    told: set[str] = set()
    for frame, block in enumerate(_blocks(lines, name)):
        where = f"{name}, frame {frame}"
        yield _read_block(block, where, species)
        for section in set(_sections(block)) - _SECTIONS - told:
            text = f"{where}: the section {section!r} is not known; it is kept in info and used for nothing"
            warnings.warn(text, DataWarning, stacklevel=4)
            told.add(section)


def _sections(block: list[_Line]) -> dict[str, int]:
    """Where each section begins, by its name in lower case."""
    return {
        words[0].rstrip(":").lower(): i
        for i, (_, words) in enumerate(block)
        if words[0][0].isalpha() and words[0].lower() not in ("nan", "inf", "infinity")
    }


def write_cfg(file: TextIOBase, frames: Sequence[Atoms], species: Sequence[str] | None = None) -> None:
    """Write ``frames``; types follow ``species``, or else the elements present by atomic number.

    Raises:
        ValueError: an element is not in ``species``.
    """
    if species is None:
        present = {z: s for atoms in frames for z, s in zip(atoms.numbers, atoms.get_chemical_symbols(), strict=True)}
        species = [present[z] for z in sorted(present)]
    types = {symbol: index for index, symbol in enumerate(species)}
    for index, atoms in enumerate(frames):
        missing = sorted(set(atoms.get_chemical_symbols()) - set(types))
        if missing:
            raise ValueError(f"frame {index} holds {', '.join(missing)}, which species={list(species)} lacks; add it")
        file.write(_format_block(atoms, types))


def _blocks(lines: Iterable[str], name: str) -> Iterator[list[_Line]]:
    """For each configuration its lines between BEGIN_CFG and END_CFG, with their numbers."""
    frame, block = 0, None
    for number, line in enumerate(lines, 1):
        words = line.split()
        if words[:1] == ["BEGIN_CFG"]:
            if block is not None:
                raise ValueError(f"{name}, frame {frame}, line {number}: BEGIN_CFG before END_CFG; it was cut off")
            block = []
        elif words[:1] == ["END_CFG"] and block is not None:
            yield block
            frame, block = frame + 1, None
        elif words and block is not None:
            block.append(_Line(number, words))
    if block is not None:
        raise ValueError(f"{name}, frame {frame}: END_CFG is missing; the file was cut off: write it again")


def _read_block(block: list[_Line], where: str, species: Sequence[str] | None) -> Atoms:
    at = _sections(block)
    if "size" not in at or "atomdata" not in at:
        raise ValueError(f"{where}: expected the sections Size and AtomData; this configuration lacks one of them")
    table = _read_table(block, at, where)
    info = _read_features(block)
    vectors = _read_cell(block, at, where)
    pbc = [axis < len(vectors) for axis in range(3)]
    cell = vectors + [[0.0, 0.0, 0.0]] * (3 - len(vectors))
    atoms = Atoms(_elements(table, where, species or _own_species(info)), cell=cell, pbc=pbc)
    if "cartes_x" in table:
        atoms.positions = _vectors(table, "cartes_", where)
    else:
        # Not set_scaled_positions, which gives up on NaN; the audit reports those.
        atoms.positions = _vectors(table, "direct_", where) @ atoms.cell.complete().array
    mask = info.pop("move_mask", None)
    if mask is not None:
        take_move_mask(atoms, np.asarray(mask))
    atoms.info.update(info)
    for section in set(at) - _SECTIONS:
        atoms.info[section] = _read_unknown(block, at[section])
    for key in set(table) - _KNOWN_COLUMNS:
        atoms.set_array(key, table[key])
    energy = _numbers(block, at["energy"] + 1, where, 1)[0] if "energy" in at else None
    forces = _vectors(table, "f", where) if "fx" in table else None
    attach(atoms, Labels(energy, forces, _read_stress(block, at, where, atoms)))
    return atoms


def _read_table(block: list[_Line], at: dict[str, int], where: str) -> dict[str, np.ndarray]:
    """The columns of AtomData by name, each ``[n_atoms]``."""
    (size,) = _numbers(block, at["size"] + 1, where, 1)
    if not (size >= 1 and size == size // 1 and np.isfinite(size)):
        raise ValueError(f"{where}: Size: expected the number of atoms, got {size}")
    columns = block[at["atomdata"]].words[1:]
    rows = [_numbers(block, at["atomdata"] + 1 + i, where, len(columns)) for i in range(int(size))]
    return dict(zip(columns, np.array(rows).T, strict=True))


def _numbers(block: list[_Line], at: int, where: str, count: int | None = None) -> list[float]:
    if at >= len(block):
        raise ValueError(f"{where}: the configuration ends too early; its Size and the number of atom lines differ")
    number, words = block[at]
    try:
        values = [float(word) for word in words]
    except ValueError:
        raise ValueError(f"{where}, line {number}: expected numbers, got {' '.join(words)!r}") from None
    if count is not None and len(values) != count:
        raise ValueError(f"{where}, line {number}: expected {count} numbers, got {len(values)}: {' '.join(words)!r}")
    return values


def _read_cell(block: list[_Line], at: dict[str, int], where: str) -> list[list[float]]:
    """Up to three lattice vectors; fewer than three mean that the last directions are not periodic."""
    if "supercell" not in at:
        return []
    rows = []
    for i in range(at["supercell"] + 1, min(at["supercell"] + 4, len(block))):
        if block[i].words[0][0].isalpha():
            break
        rows.append(_numbers(block, i, where, 3))
    if not np.isfinite(rows).all():
        raise ValueError(f"{where}: Supercell: the cell must be finite numbers, got {rows}")
    return rows


def _read_stress(block: list[_Line], at: dict[str, int], where: str, atoms: Atoms) -> np.ndarray | None:
    found = {name: _read_six(block, at[name], where) for name in _STRESSES if name in at}
    if not found:
        return None
    if not atoms.pbc.all():
        atoms.info.update({block[at[name]].words[0].rstrip(":"): np.array(six) for name, six in found.items()})
        return None
    volume = abs(np.linalg.det(atoms.cell.array))
    if volume == 0:
        raise ValueError(f"{where}: {', '.join(found)}: a stress needs a Supercell with a volume, this one has none")
    stresses = [_STRESSES[name] * np.array(six) / volume for name, six in found.items()]
    if not all(np.allclose(stresses[0], other, rtol=1e-4, atol=1e-6, equal_nan=True) for other in stresses[1:]):
        raise ValueError(
            f"{where}: the sections {' and '.join(found)} disagree (Stress is the negative of the others); remove the "
            "wrong one"
        )
    return as_stress(stresses[0])


def _read_six(block: list[_Line], at: int, where: str) -> list[float]:
    """The numbers of a section, in the order xx yy zz yz xz xy."""
    name, *order = block[at].words
    values = dict(zip(order or _PLUS_STRESS, _numbers(block, at + 1, where, 6), strict=False))
    if set(values) != set(_PLUS_STRESS):
        raise ValueError(
            f"{where}: {name.rstrip(':')} needs the columns {' '.join(_PLUS_STRESS)}, got {' '.join(order)}"
        )
    return [values[component] for component in _PLUS_STRESS]


def _read_unknown(block: list[_Line], at: int) -> str:
    """The text of a section that is not known, up to the next one."""
    ends = [i for i in range(at + 1, len(block)) if block[i].words[0][0].isalpha()]
    rows = [block[at].words[1:], *(words for _, words in block[at + 1 : ends[0] if ends else len(block)])]
    return " ".join(word for row in rows for word in row)


def _vectors(table: dict[str, np.ndarray], prefix: str, where: str) -> np.ndarray:
    missing = [prefix + axis for axis in "xyz" if prefix + axis not in table]
    if missing:
        got = " ".join(table)
        raise ValueError(f"{where}: AtomData lacks {', '.join(missing)} (or its cartes_ columns); got {got}")
    return np.stack([table[prefix + axis] for axis in "xyz"], axis=1)


def _elements(table: dict[str, np.ndarray], where: str, species: Sequence[str] | None) -> list[str]:
    if "type" not in table:
        raise ValueError(f"{where}: AtomData has no column 'type'; got {' '.join(table)}")
    if not np.isfinite(table["type"]).all():
        raise ValueError(f"{where}: types: expected whole numbers from 0, got {table['type'].tolist()}")
    types = table["type"].astype(int)
    if species is None:
        raise ValueError(
            f"{where}: MLIP's .cfg numbers its elements (types {sorted(set(types.tolist()))} here) and does not name "
            "them; give their symbols in the order of the types, e.g. species=['Li', 'Mn', 'O']"
        )
    check_symbols(species)
    if types.min() < 0 or types.max() >= len(species):
        raise ValueError(f"{where}: type {types.max()} has no symbol in species={list(species)}; types count from 0")
    return [str(species[index]) for index in types]


def _own_species(info: dict[str, Any]) -> list[str] | None:
    """The symbols that `write_cfg` left in the features."""
    own = info.pop("species", None)
    return str(own).split(",") if own else None


def _read_features(block: list[_Line]) -> dict[str, Any]:
    features = [words[1:] for _, words in block if words[0] == "Feature" and len(words) > 2]
    return {words[0]: _parse(" ".join(words[1:])) for words in features}


def _parse(text: str) -> Any:
    if not re.match(r'[-+\d."\[{]|true$|false$|null$', text):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _format_feature(value: Any) -> str:
    """JSON without blanks, or the bare word where that reads back as the same string."""
    value = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
    if isinstance(value, str) and value and not re.search(r"\s", value) and _parse(value) == value:
        return value
    try:
        return re.sub(r"\s", "\\\\u0020", json.dumps(value, separators=(",", ":")))
    except TypeError:
        return re.sub(r"\s+", "_", str(value)) or "null"


def _format_block(atoms: Atoms, types: dict[str, int]) -> str:
    energy, forces, stress = labels(atoms)
    periodic = [vector for vector, pbc in zip(atoms.cell.array.tolist(), atoms.pbc, strict=True) if pbc]
    if not all(atoms.pbc[: len(periodic)]):
        raise ValueError("MLIP's .cfg counts periodic directions from the first; turn the cell so that they come first")
    lines = ["BEGIN_CFG", " Size", f"    {len(atoms)}"]
    if periodic:
        lines += [" Supercell", *("    " + " ".join(map(str, vector)) for vector in periodic)]
    names = "id type cartes_x cartes_y cartes_z" + (" fx fy fz" if forces is not None else "")
    lines.append(f" AtomData:  {names}")
    table = atoms.positions if forces is None else np.hstack([atoms.positions, forces])
    for i, (symbol, row) in enumerate(zip(atoms.get_chemical_symbols(), table.tolist(), strict=True)):
        lines.append(f"    {i + 1} {types[symbol]} " + " ".join(map(str, row)))
    if energy is not None:
        lines += [" Energy", f"    {energy}"]
    if stress is not None:
        plus = -stress * atoms.get_volume()
        voigt = (plus[0, 0], plus[1, 1], plus[2, 2], plus[1, 2], plus[0, 2], plus[0, 1])
        lines += [f" PlusStress:  {' '.join(_PLUS_STRESS)}", "    " + " ".join(str(float(item)) for item in voigt)]
    features = {re.sub(r"\s+", "_", str(key)): value for key, value in atoms.info.items()}
    lines += [f" Feature   {key}   {_format_feature(value)}" for key, value in features.items() if key != "species"]
    mask = move_mask(atoms)
    if mask is not None:
        lines.append(f" Feature   move_mask   {_format_feature(mask)}")
    lines += [f" Feature   species   {','.join(types)}", "END_CFG", "", ""]
    return "\n".join(lines)
