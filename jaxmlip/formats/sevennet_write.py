"""Our SevenNet models as checkpoints of sevenn 0.13: the same state dict, its constants included."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from jaxmlip.basis.couplings import wigner_3j
from jaxmlip.formats.sevennet import Columns
from jaxmlip.formats.torch_write import write_checkpoint
from jaxmlip.potentials.model import Model
from jaxmlip.potentials.sevennet import SevenNetConfig, weight_shapes

Item = tuple[str, np.ndarray]
_VERSION = "0.13.0"


def write_sevennet(model: Model, path: str | Path) -> None:
    """Write a checkpoint that sevenn and `jaxmlip.load` read; numbers are kept in float32, as sevenn keeps them.

    Elements are put in sevenn's order, alphabetical by symbol.

    Raises:
        ValueError: not a SevenNet.
    """
    config = model.potential.config
    if not isinstance(config, SevenNetConfig):
        raise ValueError(
            f"only SevenNet models can be written as .pth, this is {type(config).__name__}; save it as .npz"
        )
    state = {name: value.astype(np.float32) for name, value in _StateWriter(config, model.params).items()}
    content = {"model_state_dict": state, "config": _settings(config, state), "epoch": 0}
    empty = {"optimizer_state_dict": {}, "scheduler_state_dict": {}, "hash": "", "time": ""}
    write_checkpoint(content | empty, path)


class _StateWriter:
    """The state dict of a model, item by item in sevenn's order."""

    def __init__(self, config: SevenNetConfig, params: Any):
        self.config, self.params, self.shapes = config, params, weight_shapes(config)
        self.order = np.argsort(config.symbols)
        self.rescale = (len(config.species) / config.fan_in) ** 0.5  # sevenn divides by √ of the elements it has

    def items(self) -> Iterator[Item]:
        """Everything."""
        params, n = self.params, self.config.hidden[0][0].channels
        yield "edge_embedding.basis_function.coeffs", np.asarray(params["frequencies"])
        weight = np.asarray(params["embedding"]["weight"])[self.order] * self.rescale
        embedding = params["embedding"] | {"weight": weight}
        yield from self.linear("onehot_to_feature_x.linear", embedding, {"weight": ()}, np.ones(n))
        for k in range(len(self.config.layers)):
            yield from self.layer(k)
        readout, shapes = params["readout"], self.shapes["readout"]
        for ours, theirs in (("hidden", "reduce_input_to_hidden"), ("energy", "reduce_hidden_to_energy")):
            yield from self.linear(f"{theirs}.linear", readout[ours], shapes[ours], np.ones(shapes[ours]["0e"][1]))
        for ours, theirs in (("offsets", "shift"), ("scales", "scale")):
            yield f"rescale_atomic_energy.{theirs}", np.asarray(params[ours])[self.order]

    def layer(self, k: int) -> Iterator[Item]:
        """The items of a layer."""
        layer, weights, shapes = self.config.layers[k], self.params["layers"][f"{k}"], self.shapes["layers"][f"{k}"]
        own = {str(block.irrep) for block in layer.inputs}
        reached = [np.full(block.size, str(block.irrep) in own) for block in layer.convolved]
        name = f"{k}_self_connection_intro"
        if self.config.connections[k] == "linear":
            yield from self.linear(f"{name}.linear", weights["self_connection"], shapes["self_connection"], reached)
        else:
            parts = [np.asarray(weights["self_connection"][i])[:, self.order] for i in shapes["self_connection"]]
            yield f"{name}.fc_tensor_product.weight", np.concatenate([part.ravel() for part in parts]) * self.rescale
            yield f"{name}.fc_tensor_product.output_mask", np.concatenate(reached)
        inputs = np.ones(sum(block.size for block in layer.inputs))
        yield from self.linear(f"{k}_self_interaction_1.linear", weights["linear_1"], shapes["linear_1"], inputs)
        yield from self.convolution(k)
        outputs = np.ones(sum(block.size for block in layer.convolved))
        yield from self.linear(f"{k}_self_interaction_2.linear", weights["linear_2"], shapes["linear_2"], outputs)
        yield f"{k}_equivariant_gate.gate.mul.weight", np.zeros(0)
        yield f"{k}_equivariant_gate.gate.mul.output_mask", np.ones(sum(block.size for block in layer.gated))

    def convolution(self, k: int) -> Iterator[Item]:
        """Denominator, 3j tensors and radial network; columns of couplings that we have no use for are zero."""
        layer, weights = self.config.layers[k], self.params["layers"][f"{k}"]["radial"]
        columns = Columns(self.config, k)
        yield f"{k}_convolution.denominator", np.asarray(self.params["denominators"])[k : k + 1]
        inputs = columns.inputs
        sizes = [inputs[p.source].channels * (2 * p.target.degree + 1) for p in columns.sorted]
        yield f"{k}_convolution.convolution.weight", np.zeros(0)
        yield f"{k}_convolution.convolution.output_mask", np.ones(sum(sizes))
        degrees = ((inputs[p.source].irrep.degree, p.degree, p.target.degree) for p in columns.sorted)
        for triple in dict.fromkeys(triple for triple in degrees if min(triple) > 0):
            name = f"_compiled_main_left_right._w3j_{'_'.join(map(str, triple))}"
            yield f"{k}_convolution.convolution.{name}", wigner_3j(*triple)
        *hidden, last = [np.asarray(weights[f"W{n}"]) for n in range(len(weights))]
        ends = np.cumsum([inputs[path.source].channels for path in layer.paths])[:-1]
        given = dict(zip(layer.paths, np.split(last, ends, axis=1), strict=True))
        blank = [np.zeros((len(last), inputs[path.source].channels)) for path in columns.sorted]
        parts = [given.get(path, zero) for path, zero in zip(columns.sorted, blank, strict=True)]
        for n, W in enumerate([*hidden, np.concatenate(parts, axis=1)]):
            yield f"{k}_convolution.weight_nn.layer{n}.weight", W

    def linear(self, name: str, weights: Any, shapes: dict, reached: Any) -> Iterator[Item]:
        """Weights in one row, bias (perhaps of no numbers), and which outputs have weights."""
        rows = [np.asarray(weights[irrep]).ravel() for irrep in shapes if irrep != "bias"]
        yield f"{name}.weight", np.concatenate(rows)
        yield f"{name}.bias", np.asarray(weights.get("bias", np.zeros(0)))
        yield f"{name}.output_mask", np.concatenate(reached) if isinstance(reached, list) else reached


def _settings(config: SevenNetConfig, state: dict[str, np.ndarray]) -> dict[str, Any]:
    """Sevenn's settings; statistics are those of the state dict."""
    numbers = sorted(config.species, key=lambda z: chemical_symbols[int(z)])
    degrees = [block.irrep.degree for blocks in config.hidden for block in blocks]
    envelope: dict[str, Any] = {"cutoff_function_name": "poly_cut", "poly_cut_p_value": config.polynomial_cutoff_p}
    if config.envelope == "xplor":
        envelope = {"cutoff_function_name": "XPLOR", "cutoff_on": config.edge_basis.cutoff_on}
    connection = config.self_connection[0] if len(config.self_connection) == 1 else list(config.self_connection)
    activations = {"e": "silu", "o": "tanh"}
    return {
        "cutoff": config.cutoff, "channel": config.hidden[0][0].channels, "irreps_manual": list(config.irreps),
        "lmax": config.l_max, "lmax_edge": config.l_max, "lmax_node": max(degrees), "is_parity": config.parity,
        "num_convolution_layer": len(config.layers),
        "radial_basis": {"radial_basis_name": "bessel", "bessel_basis_num": config.num_bessels},
        "cutoff_function": envelope, "act_radial": "silu", "act_scalar": activations, "act_gate": activations,
        "weight_nn_hidden_neurons": list(config.radial_hidden),
        "conv_denominator": [float(state[f"{k}_convolution.denominator"][0]) for k in range(len(config.layers))],
        "train_denominator": False, "train_shift_scale": False, "use_bias_in_linear": config.bias,
        "use_modal_node_embedding": False, "use_modal_self_inter_intro": False, "use_modal_self_inter_outro": False,
        "use_modal_output_block": False, "readout_as_fcn": False, "self_connection_type": connection,
        "interaction_type": "nequip", "_normalize_sph": config.unit_harmonics, "use_flash_tp": False,
        "cuequivariance_config": {}, "use_oeq": False, "chemical_species": [chemical_symbols[int(z)] for z in numbers],
        "_type_map": {int(z): k for k, z in enumerate(numbers)}, "_number_of_species": len(numbers),
        "_model_type": "E3_equivariant_model", "version": _VERSION,
        "shift": state["rescale_atomic_energy.shift"].tolist(), "scale": state["rescale_atomic_energy.scale"].tolist(),
    }  # fmt: skip
