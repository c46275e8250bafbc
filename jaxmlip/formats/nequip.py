"""nequip's models: ``NAME.yaml`` with the settings, and all weights as torch names them in ``NAME_state_dict.npz``.

The ``.yaml`` has the keyword arguments of ``nequip.model.NequIPGNNModel`` under ``config``. The weights of a nequip
model are written with ``numpy.savez(path, **{k: v.numpy() for k, v in model.state_dict().items()})``; ours come to
nequip by building the model from ``config`` and ``load_state_dict(arrays, strict=False)``: constants that nequip makes
itself are left out.

References:
    nequip 0.19 and e3nn 0.6 (names and order of weights).
"""

import dataclasses
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ase.data import chemical_symbols

from jaxmlip.config import from_mapping, unknown_name
from jaxmlip.files import atomic_path
from jaxmlip.formats.elements import chosen_species
from jaxmlip.potentials.model import Model
from jaxmlip.potentials.nequip import NequIPConfig, nequip, weight_shapes

_DEFAULTS: dict[str, Any] = {
    "num_layers": 4, "l_max": 1, "parity": True, "num_features": 32, "type_embed_num_features": None,
    "radial_mlp_depth": 1, "radial_mlp_width": 128, "num_bessels": 8, "bessel_trainable": False,
    "polynomial_cutoff_p": 6, "readout_mlp_hidden_layers_depth": 0, "readout_mlp_hidden_layers_width": None,
}  # fmt: skip
"""nequip's, where the file is silent; our names are the same."""
_OTHERS = {
    "type_names", "r_max", "avg_num_neighbors", "pair_potential", "seed", "model_dtype", "per_type_energy_scales",
    "per_type_energy_shifts", "per_type_energy_scales_trainable", "per_type_energy_shifts_trainable", "do_derivatives",
}  # fmt: skip
_EMBEDDING = "type_embed.embed_module.weight"
_PREFIX = "model.func."


def state_path(path: Path) -> Path:
    """Where the weights of ``NAME.yaml`` are.

    >>> state_path(Path("tiny.yaml")).name
    'tiny_state_dict.npz'
    """
    return path.with_name(f"{path.stem}_state_dict.npz")


def read_nequip(path: str | Path, *, species: Sequence[int | str] | None = None) -> Model:
    """A model from ``NAME.yaml`` and the ``NAME_state_dict.npz`` beside it.

    Args:
        path: the ``.yaml``.
        species: the elements to keep, in this order; the default is all type names of the file.

    Raises:
        FileNotFoundError: the weights are missing.
        ValueError: a setting that is not known here, or weights that do not fit the settings.
    """
    path = Path(path)
    if not state_path(path).exists():
        raise FileNotFoundError(f"{state_path(path)} is missing: a nequip model is {path.name} and its weights")
    settings = _settings(path)
    names = list(settings["type_names"])
    _check_type_names(names, path)
    config = _config(settings, tuple(names), path)
    state = _StateReader(state_path(path), config)
    if not config.bessel_trainable and not np.array_equal(state.bessel, np.arange(1, config.num_bessels + 1)):
        config = dataclasses.replace(config, bessel_trainable=True)
    params = state.params() | {"average_neighbors": _average(settings, names, path)}
    if species is not None:
        config, params = _chosen(config, params, species)
    return Model(nequip(config), params)


def write_nequip(model: Model, path: str | Path) -> None:
    """Write ``NAME.yaml`` and ``NAME_state_dict.npz``; numbers read back as the same bits.

    Raises:
        ValueError: the model is not a NequIP.
    """
    config, path = model.potential.config, Path(path)
    if not isinstance(config, NequIPConfig):
        raise ValueError(
            f"only NequIP models can be written as .yaml, this is {type(config).__name__}; save it as .npz"
        )
    params = model.params
    arrays = {name: np.asarray(value) for name, value in _state_of(config, params)}
    content = {"builder": "nequip.model.NequIPGNNModel", "config": _settings_of(config, params)}
    with atomic_path(state_path(path)) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
    with atomic_path(path) as temporary:
        temporary.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def _settings(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get("config"), dict):
        raise ValueError(f"{path} has no `config`, the keyword arguments of nequip's NequIPGNNModel")
    settings = content["config"]
    if content.get("builder", "NequIPGNNModel").split(".")[-1] != "NequIPGNNModel":
        raise ValueError(f"{path}: the builder must be nequip.model.NequIPGNNModel, got {content['builder']}")
    for name in ("type_names", "r_max", "avg_num_neighbors"):
        if settings.get(name) is None:
            raise ValueError(f"{path}: {name} is missing")
    for name, value in settings.items():
        if name not in {*_DEFAULTS, *_OTHERS} and value not in (None, False):
            raise ValueError(
                f"{path}: {unknown_name('setting', name, [*_DEFAULTS, *_OTHERS])}; only their default works"
            )
    return settings


def _check_type_names(names: list[str], path: Path) -> None:
    strange = [name for name in names if name not in chemical_symbols[1:]]
    if strange:
        raise ValueError(f"{path}: type names must be symbols of elements, got {', '.join(map(str, strange))}")


def _config(settings: dict[str, Any], symbols: tuple[str, ...], path: Path) -> NequIPConfig:
    values = {name: settings.get(name, default) for name, default in _DEFAULTS.items()}
    pair = settings.get("pair_potential")
    if pair is not None and (not str(pair.get("_target_")).endswith(".ZBL") or pair.get("units") != "metal"):
        raise ValueError(
            f"{path}: the pair potential must be nequip.nn.pair_potential.ZBL with metal units, got {pair}"
        )
    if pair is not None and list(pair.get("chemical_species", symbols)) != list(symbols):
        raise ValueError(f"{path}: chemical_species of the pair potential must be the type names")
    if float(values["polynomial_cutoff_p"]) != int(values["polynomial_cutoff_p"]):
        raise ValueError(f"{path}: polynomial_cutoff_p must be a whole number, got {values['polynomial_cutoff_p']}")
    values["polynomial_cutoff_p"] = int(values["polynomial_cutoff_p"])
    values |= {"species": symbols, "cutoff": settings["r_max"], "zbl": pair is not None}
    return from_mapping(NequIPConfig, values, where=str(path))


def _average(settings: dict[str, Any], names: list[str], path: Path) -> np.ndarray:
    given = settings["avg_num_neighbors"]
    if isinstance(given, dict) and set(given) != set(names):
        raise ValueError(f"{path}: avg_num_neighbors must have one number for each of {', '.join(names)}, got {given}")
    return np.array([given[name] for name in names] if isinstance(given, dict) else [given] * len(names), float)


class _StateReader:
    """The arrays of a state dict, asked for by their names without prefix."""

    def __init__(self, path: Path, config: NequIPConfig):
        try:
            with np.load(path, allow_pickle=False) as content:
                arrays = {name: content[name] for name in content.files}
        except (ValueError, zipfile.BadZipFile, EOFError):
            raise ValueError(f"{path} is not an .npz archive of arrays, or it is damaged") from None
        prefix = next((name.removesuffix(_EMBEDDING) for name in arrays if name.endswith(_EMBEDDING)), None)
        if prefix is None:
            raise ValueError(f"{path} has no {_EMBEDDING}: it is not the state dict of a nequip model")
        self.path, self.config = path, config
        self.arrays = {name.removeprefix(prefix): value for name, value in arrays.items()}
        self.bessel = self.get("bessel_encode.bessel_weights", (config.num_bessels,))

    def get(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """An array in the shape that the settings ask for."""
        if name not in self.arrays:
            raise ValueError(f"{self.path} has no {name}, which the settings ask for")
        if self.arrays[name].size != np.prod(shape):
            raise ValueError(f"{self.path}: {name} has {self.arrays[name].size} numbers, the settings need {shape}")
        return np.asarray(self.arrays[name], float).reshape(shape)

    def params(self) -> dict[str, Any]:
        """All but the average number of neighbours."""
        n_species = len(self.config.species)
        shapes = weight_shapes(self.config)
        layers = {k: self._layer(f"layer{k}_convnet.conv.", shape) for k, shape in shapes["layers"].items()}
        result = {
            "embedding": self.get(_EMBEDDING, shapes["embedding"]),
            "layers": layers,
            "readout": self._perceptron("per_atom_energy_readout.mlp_module.mlp.", shapes["readout"]),
            "offsets": self._per_type("shifts", 0.0, n_species),
            "scales": self._per_type("scales", 1.0, n_species),
        }
        return result | ({"bessel": self.bessel} if self.config.bessel_trainable else {})

    def _layer(self, prefix: str, shapes: dict[str, Any]) -> dict[str, Any]:
        flat = {"linear_1": "linear_1", "linear_2": "linear_2", "self_connection": "sc"}
        found = {ours: self._blocks(f"{prefix}{flat[ours]}.weight", shapes[ours]) for ours in flat if ours in shapes}
        return found | {"radial": self._perceptron(f"{prefix}edge_mlp.mlp.", shapes["radial"])}

    def _blocks(self, name: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
        """Weights that torch keeps in one row, block after block."""
        sizes = [int(np.prod(shape)) for shape in shapes.values()]
        parts = np.split(self.get(name, (sum(sizes),)), np.cumsum(sizes)[:-1])
        return {irrep: part.reshape(shape) for (irrep, shape), part in zip(shapes.items(), parts, strict=True)}

    def _perceptron(self, prefix: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
        return {name: self.get(f"{prefix}{2 * k}.weight", shape) for k, (name, shape) in enumerate(shapes.items())}

    def _per_type(self, name: str, default: float, n_species: int) -> np.ndarray:
        found = self.arrays.get(f"per_type_energy_scale_shift.{name}", np.empty(0))
        if found.size == 0:
            return np.full(n_species, default)
        if found.size not in (1, n_species):
            raise ValueError(f"{self.path}: {name} has {found.size} numbers for {n_species} types")
        return np.broadcast_to(np.asarray(found, float).reshape(-1), n_species).copy()


def _chosen(config: NequIPConfig, params: dict[str, Any], species: Sequence[int | str]) -> tuple[NequIPConfig, dict]:
    """The model of some of its elements."""
    chosen, rows = chosen_species(config, species)
    per_species = ("embedding", "offsets", "scales", "average_neighbors")
    return chosen, params | {name: params[name][rows] for name in per_species}


def _state_of(config: NequIPConfig, params: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    yield f"{_PREFIX}{_EMBEDDING}", params["embedding"]
    frequencies = params.get("bessel", np.arange(1.0, config.num_bessels + 1))
    yield f"{_PREFIX}bessel_encode.bessel_weights", np.asarray(frequencies)[None]
    for k, shapes in weight_shapes(config)["layers"].items():
        weights, prefix = params["layers"][k], f"{_PREFIX}layer{k}_convnet.conv."
        for ours, theirs in {"linear_1": "linear_1", "linear_2": "linear_2", "self_connection": "sc"}.items():
            if ours in shapes:
                yield f"{prefix}{theirs}.weight", np.concatenate([np.ravel(weights[ours][i]) for i in shapes[ours]])
        for n, name in enumerate(shapes["radial"]):
            yield f"{prefix}edge_mlp.mlp.{2 * n}.weight", weights["radial"][name]
    for n in range(config.readout_mlp_hidden_layers_depth + 1):
        yield f"{_PREFIX}per_atom_energy_readout.mlp_module.mlp.{2 * n}.weight", params["readout"][f"W{n}"]
    for theirs, ours in {"scales": "scales", "shifts": "offsets"}.items():
        yield f"{_PREFIX}per_type_energy_scale_shift.{theirs}", np.asarray(params[ours])[:, None]


def _settings_of(config: NequIPConfig, params: dict[str, Any]) -> dict[str, Any]:
    symbols = list(config.symbols)

    def by_type(name: str) -> dict[str, float]:
        return dict(zip(symbols, np.asarray(params[name], float).tolist(), strict=True))

    features = config.num_features
    result: dict[str, Any] = {"seed": 0, "model_dtype": "float64", "type_names": symbols, "r_max": config.cutoff}
    result |= {name: getattr(config, name) for name in _DEFAULTS}
    result["num_features"] = features if isinstance(features, int) else list(features)
    result |= {"avg_num_neighbors": by_type("average_neighbors"), "per_type_energy_scales": by_type("scales")}
    result["per_type_energy_shifts"] = by_type("offsets")
    if config.zbl:
        zbl = {"_target_": "nequip.nn.pair_potential.ZBL", "units": "metal", "chemical_species": symbols}
        result["pair_potential"] = zbl
    return result
