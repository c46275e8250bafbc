"""aenet's ``.xsf``: XCrySDen structures with a comment ``# total energy = … eV``, and forces in eV/Å after positions.

Reference: Artrith and Urban, Comput. Mater. Sci. 114, 135 (2016); http://ann.atomistic.net/documentation
"""

import re

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols

from jaxmlip.data.labels import Labels, attach

_ENERGY = re.compile(r"#.*?total\s+energy\s*=\s*(\S+)\s*([A-Za-z]*)", re.I)
_PERIODIC = {"CRYSTAL": 3, "SLAB": 2, "POLYMER": 1, "MOLECULE": 0}


def read_xsf(text: str, name: str) -> Atoms:
    """The structure in ``text`` with its energy (eV) and forces (eV/Å) where present.

    Raises:
        ValueError: not such a file, with the line; or forces without the energy comment, which tells aenet's units.
    """
    lines = text.splitlines()
    content = [
        (i + 1, line.strip()) for i, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")
    ]
    words = [line.split()[0].upper() for _, line in content]
    if "ANIMSTEPS" in words:
        raise ValueError(
            f"{name}: animated xsf is not aenet's (its forces are in Hartree/Å); convert it to extended XYZ"
        )
    energy = _read_energy(lines, name)
    cell = _read_cell(content, words, name)
    numbers, table = _read_atoms(content, words, name)
    kind = next((word for word in words if word in _PERIODIC), "CRYSTAL" if cell is not None else "MOLECULE")
    n_periodic = _PERIODIC[kind] if cell is not None else 0
    atoms = Atoms(numbers, positions=table[:, :3], cell=cell, pbc=[axis < n_periodic for axis in range(3)])
    forces = table[:, 3:] if table.shape[1] == 6 else None
    if forces is not None and energy is None:
        raise ValueError(
            f"{name}: forces but no '# total energy = X eV' line, so their unit is unknown (aenet eV/Å, XCrySDen "
            "Hartree/Å); add that first line if they are in eV/Å"
        )
    attach(atoms, Labels(energy, forces, None))
    return atoms


def _read_energy(lines: list[str], name: str) -> float | None:
    for i, line in enumerate(lines):
        match = _ENERGY.match(line.strip())
        if not match:
            continue
        value, unit = match.groups()
        if unit and unit.lower() != "ev":
            raise ValueError(
                f"{name}, line {i + 1}: expected the energy in eV, got {unit!r}; convert energy and forces"
            )
        try:
            return float(value)
        except ValueError:
            raise ValueError(f"{name}, line {i + 1}: expected a number in eV, got {value!r}") from None
    return None


def _read_cell(content: list[tuple[int, str]], words: list[str], name: str) -> np.ndarray | None:
    if "PRIMVEC" not in words:
        return None
    at = words.index("PRIMVEC") + 1
    rows = [_floats(line, name, number) for number, line in content[at : at + 3]]
    if [len(row) for row in rows] != [3, 3, 3]:
        raise ValueError(f"{name}, line {content[at - 1][0]}: PRIMVEC needs three lines of three numbers (Å)")
    return np.array(rows)


def _read_atoms(content: list[tuple[int, str]], words: list[str], name: str) -> tuple[list[int], np.ndarray]:
    """Atomic numbers and the table ``[n_atoms, 3 or 6]`` of positions and forces."""
    if "PRIMCOORD" in words:
        at = words.index("PRIMCOORD") + 1
        number, line = content[at] if at < len(content) else (content[-1][0], "")
        if not line or not line.split()[0].isdigit():
            raise ValueError(f"{name}, line {number}: expected the number of atoms after PRIMCOORD, got {line!r}")
        n_atoms, at = int(line.split()[0]), at + 1
    elif "ATOMS" in words:
        at = words.index("ATOMS") + 1
        ends = [i for i, word in enumerate(words) if i >= at and word.startswith("BEGIN_")]
        n_atoms = (ends[0] if ends else len(words)) - at
    else:
        raise ValueError(f"{name}: not an xsf file: expected a PRIMCOORD or ATOMS section, found neither")
    rows = content[at : at + n_atoms]
    if n_atoms < 1 or len(rows) < n_atoms:
        raise ValueError(f"{name}: expected {n_atoms} atoms, the file ends after {len(rows)}; it was cut off")
    table = [_floats(" ".join(line.split()[1:]), name, number) for number, line in rows]
    for (number, line), row in zip(rows, table, strict=True):
        if len(row) not in (3, 6) or len(row) != len(table[0]):
            raise ValueError(f"{name}, line {number}: expected 'element x y z' with or without fx fy fz, got {line!r}")
    return [_element(line.split()[0], name, number) for number, line in rows], np.array(table)


def _element(word: str, name: str, number: int) -> int:
    z = int(word) if word.isdigit() else atomic_numbers.get(word.capitalize(), 0)
    if not 0 < z < len(chemical_symbols):
        raise ValueError(f"{name}, line {number}: unknown element {word!r}; expected a symbol such as Li or its number")
    return z


def _floats(line: str, name: str, number: int) -> list[float]:
    try:
        return [float(word) for word in line.split()]
    except ValueError:
        raise ValueError(f"{name}, line {number}: expected numbers, got {line!r}") from None
