"""jaxmlip's own model file: one ``.npz`` with the settings as JSON and the parameters as arrays; no pickle."""

import json
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxmlip.config import ConfigError
from jaxmlip.files import atomic_path
from jaxmlip.potentials.base import Config, Kernel
from jaxmlip.potentials.model import Model
from jaxmlip.potentials.registry import config_from_mapping, config_to_mapping, potential_of

VERSION = 1
_HEADER = "jaxmlip.json"


def write_model(model: Model, path: str | Path) -> None:
    """Write ``model``; arrays keep their type, so reading gives the same bits."""
    header = {"format": "jaxmlip model", "version": VERSION, "potential": config_to_mapping(model.potential.config)}
    arrays: dict[str, Any] = {_HEADER: np.array(json.dumps(header)), **_flatten(jax.tree.map(np.asarray, model.params))}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def read_model(path: str | Path) -> Model:
    """Read what `write_model` wrote; parameters are NumPy arrays.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not a model file, one of a newer version, or one whose parameters do not fit its settings.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
    except (ValueError, zipfile.BadZipFile, EOFError):
        raise ValueError(f"{path} is not a jaxmlip model file (it is not an .npz archive, or it is damaged)") from None
    if _HEADER not in arrays:
        raise ValueError(f"{path} is an .npz archive but not a jaxmlip model: it has no entry {_HEADER!r}")
    header = json.loads(str(arrays.pop(_HEADER)))
    potential = potential_of(_config(header, path))
    blank = potential.init(jax.random.key(0), None)
    expected = {name: np.shape(value) for name, value in _flatten(blank).items()}
    found = {name: value.shape for name, value in arrays.items()}
    if not _fits(found, expected, ("alpha", "points") if isinstance(potential.stages, Kernel) else ()):
        raise ValueError(f"{path}: the parameters {found} do not fit the settings, which need {expected}")
    return Model(potential, _filled(blank, arrays))


def _config(header: dict[str, Any], path: str | Path) -> Config:
    """The settings, or why they cannot be read."""
    newer = f"it was written by a newer jaxmlip (format {header['version']}, this one reads up to {VERSION}): update"
    try:
        config = config_from_mapping(header["potential"])
    except ConfigError as error:
        raise ValueError(f"{path}: {error}" + (f"; {newer}" if header["version"] > VERSION else "")) from None
    if header["version"] > VERSION:
        raise ValueError(f"{path}: {newer} jaxmlip to read it")
    return config


def _flatten(params: Any, prefix: str = "") -> dict[str, np.ndarray]:
    """Nested dicts as one dict, the keys joined by slashes."""
    if not isinstance(params, dict):
        return {prefix: np.asarray(params)}
    return {k: v for name, part in params.items() for k, v in _flatten(part, f"{prefix}/{name}".strip("/")).items()}


def _fits(found: dict[str, tuple], expected: dict[str, tuple], resizable: tuple[str, ...]) -> bool:
    """Whether the shapes are those expected; of params that a fit may resize, only the number of axes counts."""
    if set(found) != set(expected):
        return False
    free = {name for name in expected if name.split("/")[0] in resizable}
    return all(len(found[n]) == len(expected[n]) if n in free else found[n] == expected[n] for n in expected)


def _filled(blank: Any, arrays: dict[str, np.ndarray], prefix: str = "") -> Any:
    """``blank`` with each array replaced by the one of its name."""
    if not isinstance(blank, dict):
        return arrays[prefix]
    return {name: _filled(part, arrays, f"{prefix}/{name}".strip("/")) for name, part in blank.items()}
