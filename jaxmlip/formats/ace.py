"""pacemaker's potentials: ``.yaml`` (B functions) and ``.yace`` (products of the atomic base, for LAMMPS).

In LAMMPS: ``pair_style pace product`` and ``pair_coeff * * model.yace El1 El2 …``; its recursive evaluator is wrong
where elements have different numbers of densities.

References:
    python-ace and pacemaker (ICAMS): names, order and meaning of the entries.
    LAMMPS documentation of `pair_style pace`.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase.data import chemical_symbols

from jaxmlip.config import unknown_name
from jaxmlip.descriptors.cluster_functions import Function
from jaxmlip.formats.ace_fields import Fields
from jaxmlip.formats.ace_products import couple
from jaxmlip.formats.yaml_text import read_yaml
from jaxmlip.potentials.ace import ACEConfig, ace
from jaxmlip.potentials.ace_definition import Definition, definition_text
from jaxmlip.potentials.ace_embedding import FUNCTIONS, Centre
from jaxmlip.potentials.ace_radial import BASES, Bond
from jaxmlip.potentials.model import Model

_INNER = ("distance", "density", "zbl")
STEP = 0.001  # Å, of splines where a file is silent
OFFSETS = "jaxmlip_offsets"  # of metadata: energies of single atoms, which .yaml has no place for


class _BondNames(NamedTuple):
    """What the entries of a bond are called."""

    n_max: str
    l_max: str
    n_basis: str
    basis: str
    cutoff: str
    width: str
    inner: str
    inner_width: str


_YAML = _BondNames("nradmaxi", "lmaxi", "nradbaseij", "radbase", "rcutij", "dcutij", "r_in", "delta_in")
_YACE = _BondNames("nradmax", "lmax", "nradbasemax", "radbasename", "rcut", "dcut", "rcut_in", "dcut_in")


class _Content(NamedTuple):
    """What both formats say, by element."""

    bonds: dict[tuple[str, str], tuple[Bond, np.ndarray]]  # both orders; with c_nlk
    centres: dict[str, Centre]
    functions: dict[str, list[tuple[tuple[str, ...], Function, list[float]]]]  # elements of the factors, c of densities
    offsets: dict[str, float]
    inner: str
    step: float


def is_ace(path: str | Path) -> bool:
    """Whether a ``.yaml`` is one of pacemaker's."""
    with Path(path).open(encoding="utf-8", errors="replace") as file:
        return re.search(r"^species\s*:", file.read(1_000_000), re.MULTILINE) is not None


def read_ace(path: str | Path, *, species: Sequence[int | str] | None = None) -> Model:
    """A model from a ``.yaml`` or ``.yace``, splines included: ``spline_step=0`` in its settings leaves them out.

    Energies of a ``.yaml`` have no part of single atoms: where pacemaker subtracted reference energies before fitting,
    they are not added.

    Args:
        path: the file.
        species: the elements to keep, in this order; the default is the file's order, of a ``.yaml`` the alphabet's.

    Raises:
        ValueError: what is no such file, an entry of the wrong kind or size, or an element that it does not have.
    """
    content = Fields(read_yaml(path), str(path))
    found = _read_products(content) if "elements" in content.values else _read_functions(content)
    if species is None:
        symbols = list(found.centres)
    else:
        symbols = [s if isinstance(s, str) else chemical_symbols[s] for s in species]
    for symbol in symbols:
        if symbol not in found.centres:
            raise ValueError(f"{path}: {unknown_name('element', symbol, found.centres)}")
    for pair in ((a, b) for k, a in enumerate(symbols) for b in symbols[k:]):
        if pair not in found.bonds:
            raise ValueError(f"{path} has no radial functions of {pair[0]} and {pair[1]}")
    return _model(found, symbols)


def _model(found: _Content, symbols: list[str]) -> Model:
    pairs = [(a, b) for k, a in enumerate(symbols) for b in symbols[k:]]
    bonds = [found.bonds[pair][0] for pair in pairs]
    shape = (max(b.n_max for b in bonds), 1 + max(b.l_max for b in bonds), max(b.n_basis for b in bonds))
    radial = np.zeros((len(pairs), *shape))
    for row, pair in zip(radial, pairs):
        c = found.bonds[pair][1]
        row[: c.shape[0], : c.shape[1], : c.shape[2]] = c
    place: dict[Function, int] = {}
    members: list[tuple[int, ...]] = []
    values: list[dict[int, Any]] = []
    for symbol in symbols:
        mine: dict[int, Any] = {}
        for elements, function, c in found.functions[symbol]:
            if set(elements) <= set(symbols) and _within(function, [found.bonds[symbol, e][0] for e in elements]):
                function = function._replace(channels=tuple(symbols.index(e) for e in elements))
                k = place.setdefault(function, len(place))
                mine[k] = mine.get(k, 0.0) + np.array(c)
        members.append(tuple(mine))
        values.append(mine)
    centres = tuple(found.centres[symbol] for symbol in symbols)
    definition = Definition(tuple(bonds), centres, tuple(place), tuple(members), found.inner)
    coefficients = np.zeros((len(symbols), definition.n_densities, len(place)))
    for row, mine in zip(coefficients, values):
        for k, c in mine.items():
            row[: len(c), k] = c
    config = ACEConfig(
        species=tuple(symbols),
        cutoff=max(bond.cutoff for bond in bonds),
        spline_step=found.step,
        definition=definition_text(definition),
    )
    offsets = np.array([found.offsets.get(symbol, 0.0) for symbol in symbols])
    coefficients = coefficients[:, 0] if definition.is_linear else coefficients
    return Model(ace(config), {"offsets": offsets, "coefficients": coefficients, "radial": radial})


def _within(function: Function, bonds: list[Bond]) -> bool:
    """Whether the function is not zero: its bonds have these n and l."""
    if function.rank == 1:
        return function.ns[0] < bonds[0].n_basis
    return all(n < b.n_max and degree <= b.l_max for n, degree, b in zip(function.ns, function.ls, bonds))


def _read_functions(content: Fields) -> _Content:
    """A ``.yaml``."""
    bonds: dict[tuple[str, str], tuple[Bond, np.ndarray]] = {}
    centres: dict[str, Centre] = {}
    functions: dict[str, list] = {}
    inner: set[str] = set()
    for block in content.parts("species"):
        elements = block.text("speciesblock").split()
        elements = elements[:1] if len(set(elements)) == 1 else elements
        if not elements or any(symbol not in chemical_symbols[1:] for symbol in elements):
            raise block.error("speciesblock", f"must name elements, got {' '.join(elements)!r}")
        if len(elements) == 1:
            centres[elements[0]] = _centre(block, "parameters", "ndensityi", ("rho_core_cut", "drho_core_cut"))
        if len(elements) <= 2 and (len(elements) == 1 or "radbase" in block.values):
            inner.add(block.text("inner_cutoff_type", "density"))
            core = block.numbers("core-repulsion", 2, [0.0, 0.0])
            _add_bond(bonds, (elements[0], elements[-1]), _bond(block, _YAML, core), block)
        functions.setdefault(elements[0], []).extend(_function(one, elements[0]) for one in block.parts("nbody", []))
    missing = sorted(({e for pair in bonds for e in pair} | set(functions)) - set(centres))
    if missing or not centres:
        raise content.error("species", f"has no block of {', '.join(missing) or 'any element'} alone")
    for rows, P in ((functions.setdefault(symbol, []), centre.n_densities) for symbol, centre in centres.items()):
        functions_of = [row for row in rows if row is not None]
        if any(len(c) != P for _, _, c in functions_of):
            raise content.error("nbody", f"has entries whose c are not {P} numbers, one a density")
        rows[:] = functions_of
    offsets = _stored_offsets(content)
    step = Fields(content.values.get("global", {}), f"{content.where}, global").number(
        "DeltaSplineBins", STEP, low=1e-7
    )
    ordered = {symbol: centres[symbol] for symbol in sorted(centres)}
    return _Content(bonds, ordered, functions, offsets, _one_inner(inner, content), step)


def _stored_offsets(content: Fields) -> dict[str, float]:
    """Energies of single atoms of a file that was written here."""
    metadata = content.values.get("metadata")
    text = metadata.get(OFFSETS) if isinstance(metadata, dict) else None
    if text is None:
        return {}
    words = str(text).split()
    return {symbol: float(value) for symbol, value in zip(words[::2], words[1::2])}


def _function(entry: Fields, centre: str) -> tuple[tuple[str, ...], Function, list[float]] | None:
    if entry.values.get("skip") is True:
        return None
    first, *elements = entry.text("type").split()
    if first != centre or not elements:
        raise entry.error("type", f"must be {centre} and the elements of the factors, got {entry.values['type']!r}")
    ns, ls = (entry.integers(name, len(elements), low) for name, low in (("nr", 1), ("nl", 0)))
    couplings = entry.integers("lint", len(elements) - 2, 0) if len(elements) > 2 else ()
    c = entry.values.get("c")
    values = entry.numbers("c", None) if isinstance(c, list) else [entry.number("c")]
    return tuple(elements), entry.checked(Function((), tuple(n - 1 for n in ns), ls, couplings)), values


def _read_products(content: Fields) -> _Content:
    """A ``.yace``."""
    elements = content.values["elements"]
    if not isinstance(elements, list) or not elements or not all(e in chemical_symbols[1:] for e in elements):
        raise content.error("elements", f"must be a list of elements, got {elements!r}")
    n = len(elements)
    if len(set(elements)) < n:
        raise content.error("elements", f"must name each element once, got {elements!r}")
    offsets = content.numbers("E0", n, [0.0] * n)
    bonds: dict[tuple[str, str], tuple[Bond, np.ndarray]] = {}
    inner: set[str] = set()
    for (i, j), bond in content.by_key("bonds", 2, n).items():
        core = [bond.number("prehc", 0.0), bond.number("lambdahc", 0.0)]
        inner.add(bond.text("inner_cutoff_type", "density"))
        _add_bond(bonds, (elements[i], elements[j]), _bond(bond, _YACE, core), bond)
    names = ("rho_core_cutoff", "drho_core_cutoff")
    embeddings = content.by_key("embeddings", 1, n)
    if len(embeddings) < n:
        raise content.error("embeddings", f"must have an entry for each of {n} elements")
    centres = {e: _centre(embeddings[k,], "FS_parameters", "ndensity", names) for k, e in enumerate(elements)}
    functions: dict[str, list] = {symbol: [] for symbol in elements}
    for (k,), entries in content.by_key("functions", 1, n, lists=True).items():
        P = centres[elements[k]].n_densities
        for slots, found in couple([entry.products(k, n, P) for entry in entries]):
            functions[elements[k]] += [(tuple(elements[mu] for mu in slots), f, c) for f, c in found]
    step = content.number("deltaSplineBins", STEP, low=1e-7)
    return _Content(bonds, centres, functions, dict(zip(elements, offsets)), _one_inner(inner, content), step)


def _one_inner(inner: set[str], content: Fields) -> str:
    if len(inner) != 1 or not inner <= set(_INNER):
        raise content.error(
            "inner_cutoff_type", f"must be the same for all bonds, one of {_INNER}: got {sorted(inner)}"
        )
    return inner.pop()


def _centre(entry: Fields, parameters: str, n_densities: str, core: tuple[str, str]) -> Centre:
    name = entry.text("npoti")
    if name not in FUNCTIONS:
        raise entry.error("npoti", unknown_name("embedding", name, FUNCTIONS))
    values = entry.numbers(parameters, 2 * entry.integer(n_densities, 1))
    if min(values[1::2]) <= 0:
        raise entry.error(parameters, f"must have powers above 0, got {values}")
    return Centre(name, tuple(values), entry.number(core[0], 100000.0), entry.number(core[1], 250.0, low=0.0))


def _bond(entry: Fields, names: _BondNames, core: list[float]) -> tuple[Bond, np.ndarray]:
    basis = entry.text(names.basis)
    if basis.startswith("TEST_"):
        basis = "SBessel" if basis == "TEST_SBessel" else ""
    if basis and basis not in BASES:
        raise entry.error(names.basis, unknown_name("radial basis", basis, [name for name in BASES if name]))
    decay = entry.numbers("radparameters", None, [5.25])
    bond = Bond(
        basis,
        decay[0] if decay else 5.25,
        entry.number(names.cutoff, low=1e-3),
        entry.number(names.width, 0.01, low=0.0),
        entry.integer(names.n_basis, 1),
        entry.integer(names.n_max, 0),
        entry.integer(names.l_max, 0),
        core[0],
        core[1],
        entry.number(names.inner, 0.0),
        entry.number(names.inner_width, 0.0, low=0.0),
    )
    return bond, entry.radial(bond.n_max, bond.l_max, bond.n_basis)


def _add_bond(bonds: dict, pair: tuple[str, str], bond: tuple[Bond, np.ndarray], entry: Fields) -> None:
    """Both orders of a pair; they must agree."""
    if pair in bonds and not (bonds[pair][0] == bond[0] and np.array_equal(bonds[pair][1], bond[1])):
        raise entry.error("radial functions", f"of {pair[0]} and {pair[1]} differ from those in the other order")
    bonds[pair] = bonds[pair[::-1]] = bond
