"""LAMMPS's ``.snapcoeff`` and ``.snapparam``: read and written, so that ``pair_style snap`` gives the same numbers.

In LAMMPS: ``pair_style snap`` and ``pair_coeff * * model.snapcoeff model.snapparam El1 El2 …``.

References:
    LAMMPS documentation of `pair_style snap` (keys, defaults, order of coefficients).
"""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Float

from jaxmlip.config import unknown_name
from jaxmlip.descriptors.bispectrum import bispectrum_indices
from jaxmlip.files import write_lines
from jaxmlip.potentials.model import Model
from jaxmlip.potentials.snap import QSNAPConfig, SNAPConfig, snap

_DEFAULTS = {
    "rcutfac": None, "twojmax": None, "rfac0": "0.99363", "rmin0": "0", "switchflag": "1", "bzeroflag": "1",
    "quadraticflag": "0", "chemflag": "0", "bnormflag": "0", "wselfallflag": "0", "switchinnerflag": "0",
    "sinner": None, "dinner": None, "chunksize": None, "parallelthresh": None, "diagonalstyle": "3",
}  # fmt: skip


class _Element(NamedTuple):
    radius: float  # in the units of rcutfac
    weight: float  # in the densities of its neighbours
    coefficients: np.ndarray  # eV; the energy of an atom alone first


def read_snap(path: str | Path, *, species: Sequence[int | str] | None = None) -> Model:
    """A model from ``NAME.snapcoeff`` and the ``NAME.snapparam`` beside it (either name will do).

    Args:
        path: one of the two files.
        species: the elements to keep, in this order, as ``pair_coeff`` names them; the default is the file's order.

    Raises:
        FileNotFoundError: one of the two files is missing.
        ValueError: an unknown key, a wrong number of coefficients, or an element that the file does not have.
    """
    coeff, param = Path(path).with_suffix(".snapcoeff"), Path(path).with_suffix(".snapparam")
    for needed in (coeff, param):
        if not needed.exists():
            raise FileNotFoundError(f"{needed} is missing: a SNAP potential is the pair {coeff.name} and {param.name}")
    keys, elements = _read_param(param), _read_coeff(coeff)
    symbols = list(elements) if species is None else [s if isinstance(s, str) else chemical_symbols[s] for s in species]
    for symbol in symbols:
        if symbol not in elements:
            raise ValueError(f"{coeff}: {unknown_name('element', symbol, elements)}")
    chosen = [elements[symbol] for symbol in symbols]
    config = _config(keys, symbols, chosen, param)
    if config.chemflag and set(symbols) != set(elements):
        raise ValueError(f"{coeff} has chemflag 1: all of its elements {', '.join(elements)} must be used")
    table = np.array([element.coefficients for element in chosen])
    if table.shape[1] != 1 + config.n_features:
        raise ValueError(
            f"{coeff} has {table.shape[1]} coefficients an element; twojmax {config.twojmax} in {param.name} needs "
            f"{1 + config.n_features}: the two files do not belong together"
        )
    return Model(snap(config), {"offsets": table[:, 0], "coefficients": table[:, 1:]})


def write_snap(model: Model, path: str | Path) -> None:
    """Write ``NAME.snapcoeff`` and ``NAME.snapparam``; numbers read back as the same bits.

    With ``chemflag`` equal components are listed several times and LAMMPS takes their coefficients as equal in its
    forces, so they are replaced by their mean; energies do not change.

    Raises:
        ValueError: the model is not a SNAP, or it is quadratic with ``chemflag``, which has no such mean here.
    """
    config = model.potential.config
    if not isinstance(config, SNAPConfig):
        raise ValueError(f"only SNAP models can be written as .snapcoeff, this is {type(config).__name__}")
    coefficients = np.asarray(model.params["coefficients"], float)
    if config.chemflag:
        if config.quadratic:
            raise ValueError("quadratic SNAP with chemflag cannot be written for LAMMPS; save it as .npz")
        coefficients = symmetrized(coefficients, config)
    table = np.column_stack([np.asarray(model.params["offsets"], float), coefficients])
    radii = config.radii if config.radii is not None else (0.5,) * len(config.species)
    weights = config.weights if config.weights is not None else (1.0,) * len(config.species)
    lines = ["# SNAP coefficients, written by jaxmlip", "", f"{len(config.species)} {table.shape[1]}"]
    for symbol, radius, weight, row in zip(config.symbols, radii, weights, table):
        lines += [f"{symbol} {radius!r} {weight!r}", *(repr(float(c)) for c in row)]
    write_lines(Path(path).with_suffix(".snapparam"), _param_lines(config, max(radii)))
    write_lines(Path(path).with_suffix(".snapcoeff"), lines)


def symmetrized(
    coefficients: Float[np.ndarray, "n_species n_features"], config: SNAPConfig
) -> Float[np.ndarray, "n_species n_features"]:
    """Coefficients of equal multi-element components replaced by their mean: [n_species, n_features].

    B^{efg}_{j1 j2 j}/(j + 1) does not change when the pairs (e, j1), (f, j2), (g, j) change places.
    """
    n, triples = len(config.species), bispectrum_indices(config.twojmax)
    groups: dict[tuple, list[int]] = {}
    for index, (e, f, g) in enumerate(itertools.product(range(n), repeat=3)):
        for k, (j1, j2, j) in enumerate(triples):
            groups.setdefault(tuple(sorted([(e, j1), (f, j2), (g, j)])), []).append(index * len(triples) + k)
    result = coefficients.copy()
    for same in groups.values():
        # All listed members have j ≥ j1 ≥ j2, hence the same j and the same norm.
        result[:, same] = coefficients[:, same].mean(axis=1, keepdims=True)
    return result


def _read_param(path: Path) -> dict[str, list[str]]:
    keys: dict[str, list[str]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        words = line.split("#")[0].replace('"', " ").split()
        if not words:
            continue
        if words[0] not in _DEFAULTS:
            raise ValueError(f"{path}, line {number}: {unknown_name('key', words[0], _DEFAULTS)}")
        if len(words) == 1:
            raise ValueError(f"{path}, line {number}: {words[0]} has no value")
        keys[words[0]] = words[1:]
    for key in ("rcutfac", "twojmax"):
        if key not in keys:
            raise ValueError(f"{path}: the required key {key} is missing")
    if keys.get("diagonalstyle", ["3"])[0] != "3":
        raise ValueError(f"{path}: diagonalstyle {keys['diagonalstyle'][0]} was removed from LAMMPS; only 3 is left")
    return keys


def _read_coeff(path: Path) -> dict[str, _Element]:
    lines = [line.split("#")[0].replace('"', " ").split() for line in path.read_text(encoding="utf-8").splitlines()]
    rows = [words for words in lines if words]
    try:
        n_elements, n_coefficients = int(rows[0][0]), int(rows[0][1])
        elements = {}
        for k in range(n_elements):
            start = 1 + k * (n_coefficients + 1)
            symbol, radius, weight = rows[start][:3]
            numbers = [float(words[0]) for words in rows[start + 1 : start + 1 + n_coefficients]]
            if len(numbers) < n_coefficients:
                raise IndexError("it ends early")
            elements[symbol] = _Element(float(radius), float(weight), np.array(numbers))
    except (IndexError, ValueError) as error:
        raise ValueError(
            f"{path} is not a complete .snapcoeff file ({error}): expected `n_elements "
            "n_coefficients`, then per element `symbol R w` and its coefficients, one a line"
        ) from None
    return elements


def _config(keys: dict[str, list[str]], symbols: list[str], elements: list[_Element], path: Path) -> SNAPConfig:
    def value(name: str) -> Any:
        return keys[name][0] if name in keys else _DEFAULTS[name]

    def flag(name: str) -> bool:
        return bool(int(value(name)))

    radii, weights = tuple(e.radius for e in elements), tuple(e.weight for e in elements)
    inner: dict[str, tuple[float, ...]] = {}
    if flag("switchinnerflag"):
        missing = [name for name in ("sinner", "dinner") if len(keys.get(name, [])) < len(symbols)]
        if missing:
            raise ValueError(f"{path}: switchinnerflag 1 needs {' and '.join(missing)} with a value for each element")
        inner = {name: tuple(float(x) for x in keys[name][: len(symbols)]) for name in ("sinner", "dinner")}
    kind = QSNAPConfig if flag("quadraticflag") else SNAPConfig
    return kind(
        species=tuple(symbols),
        cutoff=2 * max(radii) * float(value("rcutfac")),
        twojmax=int(value("twojmax")),
        rfac0=float(value("rfac0")),
        rmin0=float(value("rmin0")),
        switchflag=flag("switchflag"),
        bzeroflag=flag("bzeroflag"),
        quadratic=flag("quadraticflag"),
        chemflag=flag("chemflag"),
        bnormflag=flag("bnormflag"),
        wselfallflag=flag("chemflag") and flag("wselfallflag"),
        radii=radii if len(set(radii)) > 1 else None,  # equal ones say nothing: the cutoff has them
        weights=weights if set(weights) != {1.0} else None,
        **inner,
    )


def _param_lines(config: SNAPConfig, largest_radius: float) -> list[str]:
    flags = {
        field.name: int(getattr(config, field.name))
        for field in dataclasses.fields(config)
        if field.name.endswith("flag")
    }
    keys: dict[str, Any] = {
        "rcutfac": repr(config.cutoff / (2 * largest_radius)),
        "twojmax": config.twojmax,
        "rfac0": repr(config.rfac0),
        "rmin0": repr(config.rmin0),
        **flags,
        "quadraticflag": int(config.quadratic),
    }
    if config.sinner is not None and config.dinner is not None:
        keys |= {"switchinnerflag": 1}
        keys |= {name: " ".join(map(repr, getattr(config, name))) for name in ("sinner", "dinner")}
    return ["# SNAP settings, written by jaxmlip", *(f"{key} {value}" for key, value in keys.items())]
