"""One structure as bytes and back, bit for bit: positions, cell, columns of atoms, ``info``, constraints and results.

The form is MessagePack, which carries data and no code: nothing of a file is ever run, unlike with pickle. What it has
no type for (arrays and numbers of NumPy, tuples, complex numbers) has a tag of our own.
"""

from functools import partial
from typing import Any

import ase.constraints
import msgpack
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from jaxmlip.data.labels import labels

_ARRAY, _NUMBER, _TUPLE, _COMPLEX, _INTEGER = 1, 2, 3, 4, 5
_KINDS = "biufcSU"
"""Of arrays: truth values, numbers and texts."""
_DEPTH = 64
"""Of tagged values in each other: what a stranger's file nests deeper would overflow the stack."""


class _UnknownError(TypeError):
    """Something that has no form in a record."""


def encoded(atoms: Atoms) -> bytes:
    """A structure and all that it carries.

    Of a calculator its ``results`` are kept.

    Raises:
        ValueError: the labels belong to another geometry, or something in it is neither a number, a text, an array nor
            a list or dict of these.
    """
    labels(atoms)  # refuses those of another geometry
    arrays = dict(atoms.arrays)
    content = {
        "numbers": arrays.pop("numbers"),
        "positions": arrays.pop("positions"),
        "cell": atoms.cell.array,
        "pbc": atoms.pbc,
        "celldisp": atoms.get_celldisp(),
        "arrays": arrays,
        "constraints": [one.todict() for one in atoms.constraints],
        "info": atoms.info,
        "results": getattr(atoms.calc, "results", None) or {},
    }
    try:
        return _packed(content)
    except _UnknownError:
        where = next(text for text in _unknown_places(content))
        raise ValueError(
            f"{atoms.get_chemical_formula()}: {where} is neither a number, a text, an array nor a list or dict of "
            "these, and cannot be packed; remove it"
        ) from None


def decoded(record: bytes) -> Atoms:
    """The structure that `encoded` made these bytes of.

    Raises:
        ValueError: they are something else.
    """
    try:
        content = _unpacked(record, 0)
        atoms = Atoms(
            content["numbers"],
            content["positions"],
            cell=content["cell"],
            pbc=content["pbc"],
            celldisp=content["celldisp"],
        )
        if not isinstance(content["info"], dict):
            raise TypeError(f"info is a {type(content['info']).__name__}")
        for name, array in content["arrays"].items():
            atoms.set_array(name, array, dtype=array.dtype)
        if content["constraints"]:
            atoms.set_constraint([_constraint(one) for one in content["constraints"]])
        atoms.info = content["info"]
        if content["results"]:
            calculator = SinglePointCalculator(atoms)
            calculator.results.update(content["results"])
            atoms.calc = calculator
    except Exception as error:  # msgpack and ASE raise whatever they meet
        raise ValueError(f"not a structure ({type(error).__name__}: {error})") from None
    return atoms


def _packed(content: Any, depth: int = 0) -> bytes:
    if depth > _DEPTH:
        raise _UnknownError
    how: Any = {"default": partial(_tagged, depth=depth), "strict_types": True, "unicode_errors": "surrogatepass"}
    try:
        packed: Any = msgpack.packb(content, **how)
    except OverflowError:
        raise _UnknownError from None
    return packed


def _tagged(value: Any, depth: int) -> Any:
    """The form of what MessagePack has no type for."""
    plain = isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in _KINDS
    if plain and isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray):
        return msgpack.ExtType(_ARRAY, _packed([value.dtype.str, list(value.shape), value.tobytes()]))
    if plain and isinstance(value, np.generic):
        return msgpack.ExtType(_NUMBER, _packed([value.dtype.str, value.tobytes()]))
    if isinstance(value, tuple):
        return msgpack.ExtType(_TUPLE, _packed(list(value), depth + 1))
    if isinstance(value, complex):
        return msgpack.ExtType(_COMPLEX, _packed([value.real, value.imag]))
    if type(value) is int:  # beyond 64 bits
        return msgpack.ExtType(_INTEGER, str(value).encode())
    if isinstance(value, dict):
        return dict(value)
    raise _UnknownError


def _unpacked(data: bytes, depth: int) -> Any:
    if depth > _DEPTH:
        raise ValueError(f"more than {_DEPTH} tags in each other")
    restored = partial(_restored, depth=depth)
    return msgpack.unpackb(data, ext_hook=restored, strict_map_key=False, unicode_errors="surrogatepass")


def _restored(tag: int, data: bytes, depth: int) -> Any:
    if tag == _INTEGER:
        return int(data.decode())
    content = _unpacked(data, depth + 1)
    if tag == _TUPLE:
        return tuple(content)
    if tag == _COMPLEX:
        return complex(*content)
    if tag not in (_ARRAY, _NUMBER):
        raise ValueError(f"unknown tag {tag}")
    kind = np.dtype(content[0])
    if kind.kind not in _KINDS:
        raise ValueError(f"an array of {kind}")
    if not kind.itemsize:  # an empty text
        return kind.type()
    if tag == _NUMBER:
        return np.frombuffer(content[1], kind)[0]
    return np.frombuffer(content[2], kind).reshape(content[1]).copy()


def _constraint(given: dict[str, Any]) -> Any:
    """A constraint of ASE, by its name."""
    kind = getattr(ase.constraints, given["name"], None)
    if not (isinstance(kind, type) and issubclass(kind, ase.constraints.FixConstraint)):
        raise ValueError(f"no constraint is called {given['name']!r}")
    return kind(**given["kwargs"])


def _unknown_places(content: dict[str, Any]) -> Any:
    """What of a structure has no form in a record, in words."""
    for part in ("info", "arrays", "results", "constraints"):
        entries = content[part].items() if isinstance(content[part], dict) else enumerate(content[part])
        for name, value in entries:
            try:
                _packed({name: value})
            except _UnknownError:
                yield f"{part}[{name!r}] of type {type(value).__name__}"
    yield "something"
