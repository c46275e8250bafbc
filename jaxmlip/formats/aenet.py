"""aenet's potentials: one network file an element (`aenet_network`), read and written as one model.

``NAME.nn`` stands for the files ``El.NAME.nn`` of all elements. In aenet: list them in the NETWORKS part of
``predict.in``. A folder, a ``predict.in`` or ``train.in``, or several files are read as well.
"""

import warnings
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from jaxmlip.config import unknown_name
from jaxmlip.data.labels import DataWarning
from jaxmlip.formats.aenet_domain import has_old_domain, in_new_domain
from jaxmlip.formats.aenet_inputs import read_input
from jaxmlip.formats.aenet_network import NetworkFile, read_network, write_network
from jaxmlip.potentials.aenet import ACTIVATIONS, AENETConfig, aenet
from jaxmlip.potentials.base import Config, Params
from jaxmlip.potentials.model import Model

NETWORK_SUFFIXES = (".nn", ".ann", ".ascii")
_INPUTS = ("predict.in", "train.in")


def read_aenet(path: str | Path | Sequence[str | Path], *, species: Sequence[int | str] | None = None) -> Model:
    """A model from aenet's network files; numbers are kept to the bit.

    Networks of aenet before 2.0.4 had another domain of the angular polynomials: they are recognised, said to be so in
    a warning, and converted exactly (`aenet_domain`).

    Args:
        path: a folder (its ``predict.in`` or ``train.in`` names the files, else every ``*.nn`` in it counts), such an
            input file, ``NAME.nn`` for the files ``El.NAME.nn``, one network file, or a list of network files.
        species: the elements to keep, in this order; the default is the order of ENV.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a damaged file, two networks for an element, or networks that do not belong together.
    """
    where = ", ".join(map(str, path)) if isinstance(path, (list, tuple)) else str(path)
    networks: dict[str, NetworkFile] = {}
    old: list[str] = []
    for file in _network_files(path):
        network = read_network(file)
        if has_old_domain(network):
            old.append(str(file))
            network = in_new_domain(network)
        if network.atom in networks:
            raise ValueError(f"{where}: two networks for {network.atom}; list the files to use, one for each element")
        networks[network.atom] = network
    if old:
        warnings.warn(
            f"{', '.join(old)}: made by aenet before 2.0.4, with angular Chebyshev polynomials on [0, π] (the recorded "
            "averages tell); converted exactly to those on [-1, 1], which newer versions have",
            DataWarning,
            stacklevel=2,
        )
    first = next(iter(networks.values()))
    if species is None:
        symbols = [symbol for symbol in first.environment if symbol in networks]
    else:
        symbols = [s if isinstance(s, str) else chemical_symbols[s] for s in species]
    for symbol in symbols:
        if symbol not in networks:
            raise ValueError(f"{where}: no network for it: {unknown_name('element', symbol, networks)}")
    if species is None and len(networks) == 1 and len(first.environment) > 1:
        raise ValueError(
            f"{where} is the network of {first.atom} alone, in an environment of {', '.join(first.environment)}: name "
            f"the folder, or all files; or say species={symbols} to keep {first.atom} only"
        )
    chosen = [networks[symbol] for symbol in symbols]
    config = _config(chosen, where)
    return Model(aenet(config), _params(chosen, config))


def write_aenet(model: Model, path: str | Path) -> None:
    """Write ``El.NAME.nn`` for each element (``path`` is ``NAME.nn``, or ``NAME.nn.ascii`` for the text form).

    Raises:
        ValueError: not an AENET model, or one with type weights that aenet's programs do not know.
    """
    path, config = Path(path), model.potential.config
    if not isinstance(config, AENETConfig):
        raise ValueError(f"only AENET models can be written as .nn, this is {type(config).__name__}")
    if config.weights is not None and config.type_weights != "aenet":
        raise ValueError("aenet's programs know no type weights but their own; save this model as .npz")
    for k, symbol in enumerate(config.symbols):
        write_network(_network(config, model.params, k), path.with_name(f"{symbol}.{path.name}"))


def _network_files(path: str | Path | Sequence[str | Path]) -> list[Path]:
    """The network files that ``path`` stands for."""
    if isinstance(path, (list, tuple)):
        return [Path(p) for p in path]
    path = Path(path)  # pyright: ignore[reportArgumentType]
    if path.is_dir():
        inputs = [path / name for name in _INPUTS if (path / name).exists()]
        found = [f for f in sorted(path.iterdir()) if f.suffix in NETWORK_SUFFIXES]
        if not (inputs or found):
            raise FileNotFoundError(f"{path} has no {' or '.join(_INPUTS)} and no network files (*.nn, *.nn.ascii)")
        return _network_files(inputs[0]) if inputs else found
    if path.suffix == ".in":
        return [path.parent / file for file in read_input(path).networks.values()]
    if path.exists():
        return [path]
    family = sorted(f for f in path.parent.glob(f"*.{path.name}") if f.name.split(".")[0] in atomic_numbers)
    if not family:
        raise FileNotFoundError(f"neither {path} nor El.{path.name} for any element El exists")
    return family


def _config(networks: list[NetworkFile], where: str) -> AENETConfig:
    """The settings, which all networks must share; narrower layers are filled up with nodes that do nothing."""
    for name, value in {
        "environment": "ENV lists", "parameters": "cutoffs and orders", "activations": "activations or depths",
    }.items():  # fmt: skip
        kinds = {getattr(network, name): network.atom for network in networks}
        if len(kinds) > 1:
            listed = "; ".join(f"{atom}: {' '.join(map(str, kind))}" for kind, atom in kinds.items())
            raise ValueError(f"{where}: the networks differ in their {value} ({listed}), which one model cannot hold")
    first = networks[0]
    names = list(ACTIVATIONS)
    if not all(0 <= k < len(names) for k in first.activations) or first.activations[-1] != 0:
        raise ValueError(f"{where}: activations {first.activations}; known are 0 … 4, and 0 (linear) for the output")
    widths = np.array([network.nodes[1:-1] for network in networks], int).max(axis=0)
    radial_cutoff, radial_order, angular_cutoff, angular_order = first.parameters
    config = AENETConfig(
        species=tuple(network.atom for network in networks),
        cutoff=radial_cutoff,
        radial_order=round(radial_order),
        angular_cutoff=angular_cutoff,
        angular_order=round(angular_order),
        hidden=tuple(f"{n}:{names[k]}" for n, k in zip(widths, first.activations)),
        environment=first.environment,
        rmin=min(network.rmin for network in networks),
    )
    if config.n_features != first.nodes[0]:
        raise ValueError(f"{where}: {first.nodes[0]} inputs, but its cutoffs and orders make {config.n_features}")
    return config


def _params(networks: list[NetworkFile], config: AENETConfig) -> dict[str, Any]:
    sizes = [config.n_features, *(nodes for nodes, _ in config.layers)]
    arrays: dict[str, np.ndarray] = {}
    for k, (n_in, n_out) in enumerate(pairwise(sizes)):
        W, b = np.zeros((len(networks), n_out, n_in)), np.zeros((len(networks), n_out))
        for species, network in enumerate(networks):
            own_W, own_b = list(network.layers())[k]
            W[species, : own_W.shape[0], : own_W.shape[1]], b[species, : len(own_b)] = own_W, own_b
        arrays |= {f"W{k}": W, f"b{k}": b}
    average = np.array([network.average for network in networks])
    scale = _scale(average, np.array([network.square for network in networks]))
    energy = {name: np.array([getattr(n, f"energy_{name}") for n in networks]) for name in ("shift", "scale")}
    offsets = np.array([network.atomic_energies[network.atom] for network in networks])
    return {
        "offsets": offsets, "networks": arrays, "fingerprint": {"shift": average, "scale": scale}, "energy": energy,
    }  # fmt: skip


def _scale(average: np.ndarray, square: np.ndarray) -> np.ndarray:
    """1/standard deviation as aenet computes it; 0 where a fingerprint does not vary."""
    deviation = np.sqrt(np.maximum(square - average * average, 0))
    varies = deviation > 1e-10
    return np.where(varies, 1 / np.where(varies, deviation, 1), 0.0)


def _square(average: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """<x²> from which aenet computes ``scale``, to the bit where one of the nearest numbers gives it."""
    best = average * average + np.where(scale > 0, 1 / np.where(scale > 0, scale, 1), 0) ** 2
    trial = best
    for direction in (np.inf, -np.inf):
        trial = best
        for _ in range(8):
            trial = np.nextafter(trial, direction)
            error, best_error = (np.abs(_scale(average, x) - scale) for x in (trial, best))
            best = np.where(error < best_error, trial, best)
    return best


def _network(config: AENETConfig, params: Params, k: int) -> NetworkFile:
    """The file of the ``k``-th species; nodes that do nothing are left out."""
    parts = [np.asarray(params["networks"][f"{kind}{n}"][k], float) for n in range(len(config.layers)) for kind in "Wb"]
    W, b = parts[::2], parts[1::2]
    used = [np.ones(config.n_features, bool)]
    used += [np.any(W[n], axis=1) | (b[n] != 0) | np.any(W[n + 1], axis=0) for n in range(len(W) - 1)]
    used = [u if u.any() else np.arange(u.size) == 0 for u in used] + [np.ones(1, bool)]
    matrices = [np.column_stack([W[n][np.ix_(used[n + 1], used[n])], b[n][used[n + 1]]]) for n in range(len(W))]
    shift, scale = (np.asarray(params["fingerprint"][name][k], float) for name in ("shift", "scale"))
    energy = {name: float(params["energy"][name][k]) for name in ("shift", "scale")}
    names = list(ACTIVATIONS)
    return NetworkFile(
        atom=config.symbols[k],
        nodes=tuple(int(u.sum()) for u in used),
        activations=tuple(names.index(activation) for _, activation in config.layers),
        weights=np.concatenate([matrix.ravel(order="F") for matrix in matrices]),
        environment=Config(config.environment or config.species, config.cutoff).symbols,
        rmin=config.rmin,
        parameters=tuple(float(x) for x in config.expansion),
        average=shift,
        square=_square(shift, scale),
        energy_scale=energy["scale"],
        energy_shift=energy["shift"],
        atomic_energies=dict(zip(config.symbols, map(float, params["offsets"]))),
    )
