"""MLIP's ``.mtp`` files, untrained and fitted: read and written, so that MLIP and motep give the same numbers.

Fitted files of MLIP-3 (``.almtp``) are read without their active set. MLIP-2 takes exactly three characters as the
label of a pair of species, so it cannot read a fitted file of 11 or more species ("10-0"); MLIP-3 and motep can.

References:
    Novikov, Gubaev, Podryabinkin, Shapeev, Mach. Learn.: Sci. Technol. 2, 025002 (2021), section 3 and its manual.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxmlip.descriptors.moment_basis import MomentBasis, moment_basis
from jaxmlip.files import write_lines
from jaxmlip.potentials.model import Model
from jaxmlip.potentials.mtp import MTPConfig, index_text, mtp

_TYPES = {"RBChebyshev": False, "RBChebyshev_repuls": True}  # and whether the repulsive form is meant
_ALIASES = {
    "min": "min_dist", "min_val": "min_dist", "max": "max_dist", "max_val": "max_dist",
    "size": "radial_basis_size", "basis_size": "radial_basis_size",
}  # fmt: skip
_FIELD = re.compile(r"^[ \t]*(\w+)[ \t]*=[ \t]*(\{(?:[^{}]|\{[^{}]*\})*\}|[^\n]*)", re.MULTILINE)
_PAIR = re.compile(r"^[ \t]*([\w.]+)-([\w.]+)[ \t]*\n((?:[ \t]*\{[^{}]*\}[ \t,]*(?:\n|\Z))+)", re.MULTILINE)
_ACTIVE_SET = b"#MVS_"  # MLIP-3 appends binary numbers after a line that starts so


class _File:
    """The fields of a file, asked for by name; a mistake names the file."""

    def __init__(self, path: Path):
        text = path.read_bytes().partition(_ACTIVE_SET)[0].decode("utf-8", errors="replace").replace("\r", "")
        if text.lstrip()[:3] != "MTP":
            raise ValueError(f"{path} is not a .mtp file: its first line must be `MTP`, not {text.lstrip()[:20]!r}")
        self.path, self.pairs = path, _PAIR.findall(text)
        found: list[tuple[str, str]] = [(str(name), value.strip()) for name, value in _FIELD.findall(text)]
        self.fields = {_ALIASES.get(name, name): value for name, value in found}
        self.scalings = [value for name, value in found if name == "scaling"]

    def value(self, name: str, kind: Any) -> Any:
        """A number or word; templates may carry remarks after it."""
        if name not in self.fields:
            raise ValueError(f"{self.path} has no field {name}")
        return self.number(name, (self.fields[name].split() or [""])[0], kind)

    def number(self, name: str, word: str, kind: Any) -> Any:
        """``word`` as ``kind``."""
        try:
            return kind(word)
        except ValueError:
            raise ValueError(f"{self.path}: {name} must be {kind.__name__}, got {word!r}") from None

    def numbers(self, name: str, kind: Any, width: int | None = None) -> np.ndarray:
        """A list in braces, or a list of lists of ``width``."""
        if name not in self.fields:
            raise ValueError(f"{self.path} has no field {name}")
        text = self.fields[name]
        words = [self.number(name, word, kind) for word in re.findall(r"[^{},\s]+", text)]
        if not text.endswith("}") or (width and len(words) % width):
            raise ValueError(f"{self.path}: {name} is not a complete list in braces; the file may have been cut short")
        return np.array(words, kind).reshape(-1, width) if width else np.array(words, kind)


def read_mtp(path: str | Path, *, species: Sequence[int | str] | None = None) -> Model:
    """A model from a ``.mtp`` or ``.almtp`` file; an untrained one gets the family's initial parameters (seed 0).

    Args:
        path: the file.
        species: the elements in the file's order 0, 1, …: the file does not name them. An untrained file of one
            species serves for any number of them.

    Raises:
        ValueError: ``species`` is missing or has another length than the file, or the file is damaged, magnetic, or
            of a kind that is not known.
    """
    file = _File(Path(path))
    _check_kind(file)
    count = file.value("species_count", int)
    fitted = "species_coeffs" in file.fields or "moment_coeffs" in file.fields or bool(file.pairs)
    if species is None or (len(species) != count and (fitted or count != 1)):
        given = "none were given" if species is None else f"{len(species)} were given"
        raise ValueError(
            f"{path} has {count} species but does not say which elements they are, and {given}: name them in the "
            f"file's order, jaxmlip.load({Path(path).name!r}, species=[...]) or "
            f"`jaxmlip convert {Path(path).name} model.npz --species …`, whose model.npz knows them"
        )
    basis = _read_basis(file)
    config = _config(file, basis, tuple(species))
    potential = mtp(config)
    with jax.enable_x64(True):
        params = jax.tree.map(np.asarray, potential.init(jax.random.key(0), None))
    if fitted:
        params = {
            "offsets": _coefficients(file, "species_coeffs", count),
            "radial": _radial(file, params["radial"].shape),
            "coefficients": _coefficients(file, "moment_coeffs", config.n_features),
        }
    return Model(potential, params)


def write_mtp(model: Model, path: str | Path) -> None:
    """Write ``model``; numbers read back as the same bits. The file does not hold the elements: note their order.

    Raises:
        ValueError: the model is not an MTP.
    """
    config = model.potential.config
    if not isinstance(config, MTPConfig):
        raise ValueError(f"only MTP models can be written as .mtp, this is {type(config).__name__}; save it as .npz")
    basis, radial = config.basis, np.asarray(model.params["radial"], float)
    names = {repulsive: name for name, repulsive in _TYPES.items()}
    lines = ["MTP", "version = 1.1.0", "potential_name = MTP1m", f"scaling = {_number(config.scaling)}"]
    lines += [f"species_count = {len(config.species)}", "potential_tag = "]
    lines += [f"radial_basis_type = {names[config.repulsive]}"]
    lines += [f"\tmin_dist = {_number(config.r_min)}", f"\tmax_dist = {_number(config.cutoff)}"]
    lines += [f"\tradial_basis_size = {config.radial_basis_size}", f"\tradial_funcs_count = {basis.n_mu}"]
    lines += ["\tradial_coeffs"]
    for a, b in np.ndindex(radial.shape[:2]):
        lines += [f"\t\t{a}-{b}", *(f"\t\t\t{_list(row)}" for row in radial[a, b])]
    lines += [f"alpha_moments_count = {basis.n_moments}"]
    for name, rows in (("alpha_index_basic", basis.basic), ("alpha_index_times", basis.times)):
        lines += [f"{name}_count = {len(rows)}", f"{name} = {_list(rows)}"]
    lines += [f"alpha_scalar_moments = {len(basis.scalars)}", f"alpha_moment_mapping = {_list(basis.scalars)}"]
    for name, key in (("species_coeffs", "offsets"), ("moment_coeffs", "coefficients")):
        lines += [f"{name} = {_list(np.asarray(model.params[key], float))}"]
    write_lines(path, lines)


def _check_kind(file: _File) -> None:
    version, kind = file.value("version", str), file.value("radial_basis_type", str)
    if version != "1.1.0":
        raise ValueError(
            f"{file.path} has version {version}; only 1.1.0 is known, which MLIP-2, MLIP-3 and motep write"
        )
    if any("magnetic" in name or "mag_" in name for name in file.fields):
        raise ValueError(f"{file.path} is a magnetic MTP, which jaxmlip does not have: its moments depend on spins")
    if kind not in _TYPES:
        raise ValueError(f"{file.path} has radial_basis_type {kind}; known: {', '.join(_TYPES)}")


def _config(file: _File, basis: MomentBasis, species: tuple[int | str, ...]) -> MTPConfig:
    level = _level(basis)
    ours = level in range(2, 29, 2) and _same(moment_basis(level), basis)
    n_mu = file.value("radial_funcs_count", int)
    if n_mu < basis.n_mu:
        raise ValueError(f"{file.path} has {n_mu} radial functions, but its alpha_index_basic needs {basis.n_mu}")
    return MTPConfig(
        species=species,
        cutoff=file.value("max_dist", float),
        level=level,
        radial_basis_size=file.value("radial_basis_size", int),
        min_dist=file.value("min_dist", float),
        # One may stand at the top and one in the radial block: MLIP multiplies them.
        scaling=math.prod((file.number("scaling", value.split()[0], float) for value in file.scalings), start=1.0),
        repulsive=_TYPES[file.value("radial_basis_type", str)],
        index_lists=None if ours else index_text(basis),
    )


def _read_basis(file: _File) -> MomentBasis:
    """The index lists, if they can be evaluated."""
    basic, times = (file.numbers(f"alpha_index_{name}", int, 4).astype(np.int32) for name in ("basic", "times"))
    scalars = file.numbers("alpha_moment_mapping", int).astype(np.int32)
    n_moments = file.value("alpha_moments_count", int)
    counts = (("alpha_index_basic_count", basic), ("alpha_index_times_count", times), ("alpha_scalar_moments", scalars))
    for name, rows in counts:
        if file.value(name, int) != len(rows):
            raise ValueError(f"{file.path}: {name} is {file.fields[name]}, but {len(rows)} entries were found")
    n_basic = len(basic)
    operands, results = times[:, :2], times[:, 3]
    last, first = np.full(n_moments + 1, -1), np.full(n_moments + 1, len(times))
    inside = all(
        rows.size == 0 or (rows.min() >= 0 and rows.max() < n_moments) for rows in (operands, results, scalars)
    )
    if not (inside and n_basic <= n_moments and n_basic and (basic >= 0).all() and (results >= n_basic).all()):
        raise ValueError(f"{file.path}: the alpha lists name moments that do not exist, or products that are basic")
    np.maximum.at(last, results, np.arange(len(times)))
    np.minimum.at(first, operands, np.arange(len(times))[:, None])
    early = (last >= first) | ((first < len(times)) & (last < 0) & (np.arange(n_moments + 1) >= n_basic))
    if early.any():
        raise ValueError(f"{file.path}: alpha_index_times uses moment {int(np.argmax(early))} before it is complete")
    if len(set(scalars.tolist())) < len(scalars):
        raise ValueError(
            f"{file.path}: alpha_moment_mapping names a moment twice; its coefficients would not be unique"
        )
    return MomentBasis(basic, times, scalars, n_moments)


def _level(basis: MomentBasis) -> int:
    """The highest level of a scalar: Σ (2 + 4μ + ν) over its factors."""
    level = np.zeros(basis.n_moments, int)
    level[: len(basis.basic)] = 2 + basis.basic @ [4, 1, 1, 1]
    for i, j, _, k in basis.times.tolist():
        level[k] = max(level[k], level[i] + level[j])
    return int(level[basis.scalars].max(initial=0))


def _same(first: MomentBasis, second: MomentBasis) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second))


def _coefficients(file: _File, name: str, count: int) -> np.ndarray:
    values = file.numbers(name, float)
    if values.shape != (count,):
        raise ValueError(f"{file.path}: {name} has {values.size} numbers, expected {count}")
    return values


def _radial(file: _File, shape: tuple[int, ...]) -> np.ndarray:
    """Coefficients by pair; the labels count species from 0, or are MLIP-3's own names, in order of appearance."""
    labels = list(dict.fromkeys(label for pair in file.pairs for label in pair[:2]))
    numbers = [str(k) for k in range(shape[0])]
    order = {label: k for k, label in enumerate(numbers if set(labels) <= set(numbers) else labels)}
    radial = np.full(shape, np.nan)
    for a, b, text in file.pairs:
        values = np.array([file.number("radial_coeffs", word, float) for word in re.findall(r"[^{},\s]+", text)])
        rows = values.reshape(-1, shape[3]) if values.size % shape[3] == 0 else values[:0]
        if len(rows) < shape[2] or max(order[a], order[b]) >= shape[0]:
            raise ValueError(f"{file.path}: pair {a}-{b} needs {shape[2]} rows of {shape[3]} radial_coeffs")
        radial[order[a], order[b]] = rows[: shape[2]]
    if np.isnan(radial).any():
        raise ValueError(
            f"{file.path} must have radial_coeffs, numbers without gaps, for each of {shape[0] ** 2} pairs of species; "
            f"it has {len(file.pairs)}: the file is damaged or half trained"
        )
    return radial


def _list(values: np.ndarray) -> str:
    if values.ndim == 2:
        return "{" + ", ".join(map(_list, values)) + "}"
    return "{" + ", ".join(str(x) if isinstance(x, int) else _number(x) for x in values.tolist()) + "}"


def _number(x: float) -> str:
    return f"{x:.16e}"  # one digit more than MLIP writes: all bits
