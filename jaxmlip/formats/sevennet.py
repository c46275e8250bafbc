"""sevenn's checkpoints (``.pth``): SevenNet-0 and its relatives, read without torch.

Three things depend on a checkpoint's age: names of the state dict, the order of a convolution's couplings, and the
signs of its 3j tensors (stored beside the weights). The file tells them; params are always in today's order and signs.

References:
    sevenn 0.13 and e3nn 0.6 (names and order of weights); sevenn 0.9-0.10 (older checkpoints).
"""

import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from jaxmlip.basis.couplings import wigner_3j
from jaxmlip.config import ConfigError, from_mapping
from jaxmlip.formats.elements import chosen_species
from jaxmlip.formats.torch_zip import read_checkpoint
from jaxmlip.potentials.message_passing.architectures import all_couplings
from jaxmlip.potentials.message_passing.irreps import Block, Irrep, irreps_text
from jaxmlip.potentials.message_passing.irreps import Path as Coupling
from jaxmlip.potentials.model import Model
from jaxmlip.potentials.sevennet import SevenNetConfig, sevennet, weight_shapes

PRETRAINED = {
    "sevennet-0": "SevenNet_0__11Jul2024/checkpoint_sevennet_0.pth",
    "sevennet-0-22may2024": "SevenNet_0__22May2024/checkpoint_sevennet_0.pth",
    "sevennet-l3i5": "SevenNet_l3i5/checkpoint_l3i5.pth",
}
"""Names of the checkpoints in the wheel of sevenn."""
_FIXED: dict[str, tuple[Any, ...]] = {
    "interaction_type": ("nequip",), "act_radial": ("silu",), "optimize_by_reduce": (True,),
    "act_gate": ({"e": "silu", "o": "tanh"},), "act_scalar": ({"e": "silu", "o": "tanh"},),
    "readout_as_fcn": (False, None), "use_modality": (False, None),
    "_model_type": ("E3_equivariant_model",),
}  # fmt: skip
"""Settings of which only these values are known here."""
_WITHOUT_WEIGHTS = re.compile(r".*(output_mask|_w3j_\d_\d_\d)$")
_OLD_NAMES = {"denumerator": "denominator", "reducing nn input to": "reduce_input_to"}
_OLD_NAMES |= {"reducing nn hidden to": "reduce_hidden_to", "EdgeEmbedding": "edge_embedding", " ": "_"}


def pretrained_path(name: str) -> Path:
    """Where the checkpoint of a name in `PRETRAINED` is, in an installed wheel of sevenn (which is not imported).

    Raises:
        FileNotFoundError: sevenn is not installed; the message tells how to get it without torch.
    """
    found = find_spec("sevenn")
    folders = [] if found is None else list(found.submodule_search_locations or [])
    paths = [Path(folder) / "pretrained_potentials" / PRETRAINED[name] for folder in folders]
    for path in paths:
        if path.exists():
            return path
    raise FileNotFoundError(
        f"{name} is part of the package sevenn, which is not installed. Bring it without torch and keep a copy of the "
        f"model by: pip install --no-deps sevenn && jaxmlip convert {name} {name}.npz"
    )


def read_sevennet(path: str | Path, *, species: Sequence[int | str] | None = None) -> Model:
    """A model from a checkpoint of sevenn.

    Args:
        path: the ``.pth``, or a name in `PRETRAINED`.
        species: the elements to keep, in this order; the default is all of the file.

    Raises:
        ValueError: not a checkpoint of sevenn, a damaged one, or one with settings that are not known here.
    """
    content = read_checkpoint(pretrained_path(str(path)) if str(path) in PRETRAINED else path)
    if not (isinstance(content, dict) and isinstance(content.get("model_state_dict"), dict)):
        raise ValueError(f"{path} is a torch file but no checkpoint of sevenn: it has no model_state_dict")
    try:
        config = _config(content.get("config", {}))
        params = _StateReader(content["model_state_dict"], config, _version(content["config"])).params()
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{path}: {error if isinstance(error, ValueError) else f'its settings lack {error}'}"
        ) from None
    return _chosen(config, params, species)


def _config(given: Mapping[str, Any]) -> SevenNetConfig:
    for name, known in _FIXED.items():
        if name in given and given[name] not in known:
            raise ConfigError(f"{name} {given[name]!r} is not known here, only {known[0]!r}")
    numbers = sorted(given["_type_map"], key=given["_type_map"].__getitem__)
    values: dict[str, Any] = {"species": numbers, "cutoff": float(given["cutoff"]), "irreps": _irreps(given)}
    connection = given["self_connection_type"]
    values |= {
        "l_max": _first_positive(given, "lmax_edge"),
        "parity": given["is_parity"],
        "self_connection": [connection] if isinstance(connection, str) else connection,
        "bias": given["use_bias_in_linear"],
        "radial_hidden": given["weight_nn_hidden_neurons"],
        "unit_harmonics": given.get("_normalize_sph", _version(given) > (0, 9)),
    }
    return from_mapping(SevenNetConfig, values | _radial(given))


def _radial(given: Mapping[str, Any]) -> dict[str, Any]:
    basis, envelope = given["radial_basis"], given["cutoff_function"]
    if basis["radial_basis_name"] != "bessel":
        raise ConfigError(f"the radial basis {basis['radial_basis_name']!r} is not known here, only 'bessel'")
    result: dict[str, Any] = {"num_bessels": basis.get("bessel_basis_num", 8)}
    if envelope["cutoff_function_name"] == "XPLOR":
        return result | {"envelope": "xplor", "cutoff_on": float(envelope["cutoff_on"])}
    if envelope["cutoff_function_name"] == "poly_cut":
        return result | {"envelope": "polynomial", "polynomial_cutoff_p": envelope["poly_cut_p_value"]}
    raise ConfigError(f"the cutoff function {envelope['cutoff_function_name']!r} is not known here")


def _first_positive(given: Mapping[str, Any], name: str) -> int:
    return given[name] if given.get(name, -1) > 0 else given["lmax"]


def _irreps(given: Mapping[str, Any]) -> list[str]:
    """Features of all layers: as written, or all that can be reached."""
    if given.get("irreps_manual"):
        return [str(text) for text in given["irreps_manual"]]
    channels, n_layers = given["channel"], given["num_convolution_layer"]
    l_edge, l_node = _first_positive(given, "lmax_edge"), _first_positive(given, "lmax_node")
    hidden: list[tuple[Block, ...]] = [(Block(Irrep(0, 1), channels),)]
    limit = (Block(Irrep(l_node, 1), 1),)
    for _ in range(n_layers - 1):
        paths = all_couplings(hidden[-1], limit, l_edge, parity=given["is_parity"], last=False)
        hidden.append(tuple(Block(irrep, channels) for irrep in sorted({path.target for path in paths})))
    return [irreps_text(blocks) for blocks in (*hidden, hidden[0])]


def _version(given: Mapping[str, Any]) -> tuple[int, int]:
    """Major and minor; development versions count as the one before."""
    found = re.match(r"(\d+)\.(\d+)", str(given.get("version")))
    if not found:
        raise ValueError(f"the version {given.get('version')!r} of sevenn is not known, and weights depend on it")
    minor = int(found[2]) - ("dev" in str(given["version"]))
    return int(found[1]), minor


class _StateReader:
    """The arrays of a state dict; each is asked for once, in the shape that the settings need."""

    def __init__(self, state: Mapping[str, Any], config: SevenNetConfig, version: tuple[int, int]):
        self.arrays = {_today(name): value for name, value in state.items() if isinstance(value, np.ndarray)}
        self.config, self.version = config, version
        self.used: set[str] = set()

    def get(self, name: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
        """An array as float64."""
        if name not in self.arrays:
            raise ValueError(f"the state dict has no {name}, which the settings ask for")
        self.used.add(name)
        value = self.arrays[name]
        if shape is not None and value.size != np.prod(shape):
            raise ValueError(f"{name} has {value.size} numbers, the settings need {shape}")
        return np.asarray(value, float).reshape(value.shape if shape is None else shape)

    def params(self) -> dict[str, Any]:
        """All of them."""
        config, shapes = self.config, weight_shapes(self.config)
        n_layers = len(config.layers)
        embedding = self.flat(
            "onehot_to_feature_x.linear", {"weight": (config.fan_in, shapes["embedding"]["weight"][1])}
        )
        if config.bias:
            embedding["bias"] = self.get("onehot_to_feature_x.linear.bias", shapes["embedding"]["bias"])
        params = {
            "frequencies": self.get("edge_embedding.basis_function.coeffs", (config.num_bessels,)),
            "embedding": embedding,
            "layers": {f"{k}": self.layer(k, shapes["layers"][f"{k}"]) for k in range(n_layers)},
            "denominators": np.array([self.get(f"{k}_convolution.denominator", ()) for k in range(n_layers)]),
            "readout": {
                "hidden": self.flat("reduce_input_to_hidden.linear", shapes["readout"]["hidden"]),
                "energy": self.flat("reduce_hidden_to_energy.linear", shapes["readout"]["energy"]),
            },
            "offsets": self.per_species("rescale_atomic_energy.shift"),
            "scales": self.per_species("rescale_atomic_energy.scale"),
        }
        given = (name for name, value in self.arrays.items() if value.size and not _WITHOUT_WEIGHTS.match(name))
        left = [name for name in given if name not in self.used]
        if left:
            raise ValueError(f"the state dict has {left[0]}, which no setting known here explains")
        return params

    def layer(self, k: int, shapes: dict[str, Any]) -> dict[str, Any]:
        """The weights of a layer."""
        kind = "linear" if self.config.connections[k] == "linear" else "fc_tensor_product"
        return {
            "self_connection": self.flat(f"{k}_self_connection_intro.{kind}", shapes["self_connection"]),
            "linear_1": self.flat(f"{k}_self_interaction_1.linear", shapes["linear_1"]),
            "radial": self.radial(k, shapes["radial"]),
            "linear_2": self.flat(f"{k}_self_interaction_2.linear", shapes["linear_2"]),
        }

    def flat(self, name: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
        """Weights that torch keeps in one row, block after block, and their bias."""
        weights = {irrep: shape for irrep, shape in shapes.items() if irrep != "bias"}
        sizes = [int(np.prod(shape)) for shape in weights.values()]
        parts = np.split(self.get(f"{name}.weight", (sum(sizes),)), np.cumsum(sizes)[:-1])
        result = {irrep: part.reshape(shape) for (irrep, shape), part in zip(weights.items(), parts, strict=True)}
        return result | ({"bias": self.get(f"{name}.bias", shapes["bias"])} if "bias" in shapes else {})

    def radial(self, k: int, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
        """The radial network; the columns of its last layer belong to couplings."""
        columns = Columns(self.config, k)
        *hidden, last = [f"{k}_convolution.weight_nn.layer{n}.weight" for n in range(len(shapes))]
        result = {f"W{n}": self.get(name, shapes[f"W{n}"]) for n, name in enumerate(hidden)}
        W = self.get(last, (shapes[f"W{len(hidden)}"][0], columns.total))
        by_path = columns.by_path(W, unsorted=self.version < (0, 11))
        kept = [self.sign(k, path) * by_path[path] for path in self.config.layers[k].paths]
        return result | {f"W{len(hidden)}": np.concatenate(kept, axis=1)}

    def sign(self, k: int, path: Coupling) -> int:
        """−1 where the 3j tensor in the file is minus today's."""
        degrees = (self.config.layers[k].inputs[path.source].irrep.degree, path.degree, path.target.degree)
        name = f"{k}_convolution.convolution._compiled_main_left_right._w3j_{'_'.join(map(str, degrees))}"
        ours = wigner_3j(*degrees)
        stored = self.get(name, ours.shape) if name in self.arrays else ours
        for sign in (1, -1):
            if np.abs(stored - sign * ours).max() < 1e-5:  # float32, from another formula
                return sign
        raise ValueError(f"{name} is not a 3j tensor of e3nn")

    def per_species(self, name: str) -> np.ndarray:
        """One number for each element; one for all is repeated."""
        found, n = self.get(name), len(self.config.species)
        if found.size not in (1, n):
            raise ValueError(f"{name} has {found.size} numbers for {n} elements")
        return np.broadcast_to(found.reshape(-1), n).copy()


class Columns:
    """Which columns of a layer's radial network belong to which coupling: sevenn has more of them than we use."""

    def __init__(self, config: SevenNetConfig, k: int):
        wanted, last = config.hidden[k + 1], k == len(config.layers) - 1
        self.inputs = config.layers[k].inputs
        self.unsorted = all_couplings(self.inputs, wanted, config.l_max, parity=config.parity, last=last)
        self.sorted = sorted(self.unsorted, key=lambda path: path.target)
        self.total = sum(self.inputs[path.source].channels for path in self.unsorted)

    def by_path(self, W: np.ndarray, *, unsorted: bool) -> dict[Coupling, np.ndarray]:
        """The columns of each coupling."""
        paths = self.unsorted if unsorted else self.sorted
        ends = list(accumulate(self.inputs[path.source].channels for path in paths))
        return dict(zip(paths, np.split(W, ends[:-1], axis=1), strict=True))


def _today(name: str) -> str:
    """A name of the state dict in today's spelling."""
    for old, new in _OLD_NAMES.items():
        name = name.replace(old, new)
    return name


def _chosen(config: SevenNetConfig, params: dict[str, Any], species: Sequence[int | str] | None) -> Model:
    """The model of some of its elements."""
    if species is None:
        return Model(sevennet(config), params)
    chosen, rows = chosen_species(config, species, n_types=config.fan_in)

    def connection(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: W[:, rows] if W.ndim == 3 else W for name, W in weights.items()}

    layers = {
        k: layer | {"self_connection": connection(layer["self_connection"])} for k, layer in params["layers"].items()
    }
    embedding = params["embedding"] | {"weight": params["embedding"]["weight"][rows]}
    per_species = {name: params[name][rows] for name in ("offsets", "scales")}
    return Model(sevennet(chosen), params | per_species | {"embedding": embedding, "layers": layers})
