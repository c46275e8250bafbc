"""The comment line of extended XYZ: its keys, and the forms that cells, tensors and periodic directions come in."""

import re
from typing import Any

import numpy as np

_TENSOR = re.compile(
    r"""(?:^|(?<=\s))(?P<key>(?:(?:ref|dft|qm|vasp)_)?(?:stress|virials?))\s*=\s*"""
    r"""(?P<value>(?P<quote>["'])[^"']*(?P=quote)|\{[^{}]*\}|\[.*?\]+)(?=\s|$)""",
    re.I,
)
_DECORATION = re.compile(r"""_JSON|array|[\[\](){},"']""")
_OWN = {"lattice": "Lattice", "properties": "Properties", "pbc": "pbc"}
_OTHER_CELL = re.compile("(lattice|cell|unit_?cell|box)(_?(vectors?|matrix|parameters?|lengths?))?", re.I)


def read_comment(line: str, where: str) -> dict[str, Any]:
    """The keys and values of a comment line that is line ``where`` of a file; free text is the key comment.

    Raises:
        ValueError: quotes or numbers that are none, a tensor of another size, or a cell under another name.
    """
    from ase.io.extxyz import key_val_str_to_dict

    if "=" not in line:  # plain XYZ: free text, no keys
        return {"comment": line.strip()} if line.strip() else {}
    line, tensors = _without_tensors(line, where)
    try:
        info = key_val_str_to_dict(line)
    except (ValueError, IndexError, TypeError) as error:
        raise ValueError(f"{where}: cannot read the comment line: {error}; check its quotes and numbers") from None
    info |= tensors
    for key in [key for key in info if key.lower() in _OWN and key != _OWN[key.lower()]]:
        info.setdefault(_OWN[key.lower()], info.pop(key))
    _refuse_other_cells(info, where)
    return {key: value.item() if isinstance(value, np.generic) else value for key, value in info.items()}


def _refuse_other_cells(info: dict[str, Any], where: str) -> None:
    """A cell under another name would make a molecule of a crystal."""
    names = [key for key in info if _OTHER_CELL.fullmatch(key) and np.size(info[key]) in (3, 6, 9)]
    if names and "Lattice" not in info:
        raise ValueError(
            f'{where}: no Lattice, but {names[0]!r}; write the cell as Lattice="ax ay az bx by bz cx cy cz"'
        )


def _without_tensors(line: str, where: str) -> tuple[str, dict[str, np.ndarray]]:
    """Stress and virial taken out of the line: six numbers (xx yy zz yz xz xy) or nine, which ASE wants bare."""
    found = {}
    for match in _TENSOR.finditer(line):
        words = _DECORATION.sub(" ", match["value"]).split()
        if not all(map(is_number, words)):
            continue
        if len(words) not in (6, 9):
            raise ValueError(
                f"{where}: {match['key']}: expected six numbers (xx yy zz yz xz xy) or nine, got {len(words)} in "
                f"{match['value'][:80]!r}"
            )
        found[match["key"]] = np.array(words, float)
        line = line.replace(match[0], " ", 1)
    return line, found


def lattice(value: Any, where: str) -> np.ndarray | None:
    """The cell vectors as rows; ``value`` has them as columns, which is how the file's nine numbers are counted."""
    if value is None:
        return None
    matrix = np.asarray(value)
    if matrix.size != 9 or matrix.dtype.kind not in "fi":
        raise ValueError(f"{where}: Lattice: expected nine numbers, the three vectors one after the other: got {value}")
    return (matrix if matrix.ndim == 2 else matrix.reshape(3, 3, order="F")).T


def periodic(value: Any, where: str) -> list[bool]:
    """Three truth values from T T F, TTF, 1 1 0, or one for all directions."""
    flags: Any = value
    if isinstance(value, (bool, np.bool_)):
        flags = [value] * 3
    elif re.fullmatch("[TFtf]{3}|[01]{3}", str(value)):
        flags = [letter in "Tt1" for letter in str(value)]
    array = np.asarray(flags)
    if array.shape != (3,) or not (array.dtype.kind == "b" or np.isin(array, (0, 1)).all()):
        raise ValueError(f'{where}: pbc: expected three of T and F, as pbc="T T F", got {value!r}')
    return array.astype(bool).tolist()


def is_number(word: str) -> bool:
    """Whether Python reads the word as a number."""
    try:
        float(word)
    except ValueError:
        return False
    return True
