"""One network file of aenet: the binary ``.nn`` of its programs and the ``.nn.ascii`` of its converters.

Both hold the same records in the same order (`_RECORDS`): the network, the fingerprint set-up, facts of the training
set. Binary: Fortran sequential unformatted, 4-byte record marks, little endian. Text: one record after the other,
numbers and names separated by blanks and line breaks, free texts and the type of basis on a line of their own.

References:
    aenet 2.0.4, checked numerically; the text form is that of nnASCII2bin in aenet-PyTorch.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxmlip.files import atomic_path

# (record, kind, length): kinds are int, float, bool, "text" (one string) and "names" (2 letters each).
_RECORDS: tuple[tuple[str, Any, Any], ...] = (
    ("n_layers", int, 1), ("n_nodes_max", int, 1), ("n_weights", int, 1), ("n_values", int, 1),
    ("nodes", int, "n_layers"), ("activations", int, "n_layers-1"), ("weight_ends", int, "n_layers"),
    ("value_ends", int, "n_layers"), ("weights", float, "n_weights"),
    ("description", "text", 1024), ("atom", "names", 1), ("n_environment", int, 1),
    ("environment", "names", "n_environment"), ("rmin", float, 1), ("rmax", float, 1), ("basis", "text", 100),
    ("n_features", int, 1), ("n_parameters", int, 1), ("kinds", int, "n_features"),
    ("parameters", float, "n_features*n_parameters"), ("kind_environments", int, "n_features*2"),
    ("n_evaluations", int, 1), ("minimum", float, "n_features"), ("maximum", float, "n_features"),
    ("average", float, "n_features"), ("square", float, "n_features"),
    ("training_set", "text", 1024), ("normalized", bool, 1), ("energy_scale", float, 1), ("energy_shift", float, 1),
    ("n_types", int, 1), ("types", "names", "n_types"), ("atomic_energies", float, "n_types"),
    ("n_atoms", int, 1), ("n_structures", int, 1), ("energy_range", float, 3),
)  # fmt: skip

_MARK: Any = np.dtype("<u4")  # before and after each record: its length in bytes


class NetworkFile(NamedTuple):
    """What a file says of one element; energies in eV, lengths in Å."""

    atom: str
    nodes: tuple[int, ...]  # inputs, hidden layers, output
    activations: tuple[int, ...]  # of each layer after the inputs; aenet's numbers
    weights: np.ndarray  # for each layer a column-major matrix [n_out, n_in + 1], the bias last
    environment: tuple[str, ...]
    rmin: float
    parameters: tuple[float, ...]  # radial_Rc, radial_N, angular_Rc, angular_N
    average: np.ndarray  # <x> of each input
    square: np.ndarray  # <x²>
    energy_scale: float  # 1/eV
    energy_shift: float
    atomic_energies: dict[str, float]
    extremes: np.ndarray | None = None  # smallest and largest of each input, [2, n]; None where the writer left zeros

    def layers(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """W [n_out, n_in] and b [n_out] of each layer."""
        start = 0
        for n_in, n_out in pairwise(self.nodes):
            matrix = self.weights[start : start + (n_in + 1) * n_out].reshape((n_out, n_in + 1), order="F")
            start += matrix.size
            yield matrix[:, :-1], matrix[:, -1]


def read_network(path: str | Path) -> NetworkFile:
    """Read ``path``, text if it ends in ``.ascii`` and binary otherwise.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or its fingerprints are not of the Chebyshev type.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        records = _read_text(path) if path.suffix == ".ascii" else _read_binary(path)
    except (ValueError, IndexError, TypeError, OSError, StopIteration) as error:
        raise ValueError(f"{path} is not a complete network file of aenet ({error})") from None
    if records["basis"].lower() != "chebyshev":
        raise ValueError(
            f"{path} uses fingerprints of type {records['basis']}: only Chebyshev is supported; train a model with "
            "`BASIS type=Chebyshev`"
        )
    return NetworkFile(
        atom=records["atom"][0],
        environment=tuple(records["environment"]),
        nodes=tuple(records["nodes"]),
        activations=tuple(records["activations"]),
        weights=np.array(records["weights"]),
        parameters=tuple(records["parameters"][:4]),
        average=np.array(records["average"]),
        square=np.array(records["square"]),
        atomic_energies=dict(zip(records["types"], records["atomic_energies"])),
        extremes=_extremes(records),
        **{name: records[name][0] for name in ("rmin", "energy_scale", "energy_shift")},
    )


def _extremes(records: dict[str, Any]) -> np.ndarray | None:
    found = np.array([records["minimum"], records["maximum"]])
    return found if found.any() else None


def write_network(network: NetworkFile, path: str | Path) -> None:
    """Write ``path``, text if it ends in ``.ascii`` and binary otherwise."""
    write = _write_text if Path(path).suffix == ".ascii" else _write_binary
    with atomic_path(path) as temporary:
        write(_records(network), temporary)


def _records(network: NetworkFile) -> dict[str, Any]:
    """All records; what a model does not know (extremes, numbers of structures) is zero or follows from the rest."""
    nodes, n_features = network.nodes, network.nodes[0]
    sizes = [(n_in + 1) * n_out for n_in, n_out in pairwise(nodes)]
    values = [n + 1 for n in nodes[:-1]]
    half_range = 1 / network.energy_scale
    return {
        "n_layers": [len(nodes)], "n_nodes_max": [max(nodes)], "n_weights": [sum(sizes)],
        "n_values": [sum(values) + nodes[-1]], "nodes": nodes, "activations": network.activations,
        "weight_ends": np.cumsum([0, *sizes]), "value_ends": np.cumsum([0, *values]), "weights": network.weights,
        "description": "jaxmlip", "atom": [network.atom], "n_environment": [len(network.environment)],
        "environment": network.environment, "rmin": [network.rmin], "rmax": [max(network.parameters[::2])],
        "basis": "Chebyshev", "n_features": [n_features], "n_parameters": [4], "kinds": [0] * n_features,
        "parameters": [*network.parameters, *[0.0] * (4 * n_features - 4)],
        "kind_environments": [0] * (2 * n_features), "n_evaluations": [0],
        "minimum": [0.0] * n_features, "maximum": [0.0] * n_features, "average": network.average,
        "square": network.square, "training_set": "jaxmlip", "normalized": [True],
        "energy_scale": [network.energy_scale], "energy_shift": [network.energy_shift],
        "n_types": [len(network.atomic_energies)], "types": tuple(network.atomic_energies),
        "atomic_energies": list(network.atomic_energies.values()), "n_atoms": [0], "n_structures": [0],
        "energy_range": [network.energy_shift + x for x in (-half_range, half_range, 0.0)],
    }  # fmt: skip


def _length(length: Any, records: dict[str, Any]) -> int:
    """The number of items, where it depends on records already read."""
    if isinstance(length, int):
        return length
    names = ("n_layers", "n_weights", "n_environment", "n_features", "n_parameters", "n_types")
    known = {name: records[name][0] for name in names if name in records}
    match length.split("*"):
        case [name, "n_parameters"]:
            return known[name] * known["n_parameters"]
        case [name, factor]:
            return known[name] * int(factor)
    return known["n_layers"] - 1 if length == "n_layers-1" else known[length]


def _read_binary(path: Path) -> dict[str, Any]:
    from scipy.io import FortranFile

    records: dict[str, Any] = {}
    with FortranFile(path, "r", header_dtype=_MARK) as file:
        for name, kind, length in _RECORDS:
            records[name] = _decoded(np.asarray(file.read_record("u1")).tobytes(), name, kind, _length(length, records))
    return records


def _decoded(raw: bytes, name: str, kind: Any, length: int) -> Any:
    if kind == "text":
        return raw.decode("latin-1").strip()
    if kind == "names":
        if len(raw) != 2 * length:
            raise ValueError(f"{name} has {len(raw)} bytes, expected {2 * length}")
        return [raw[2 * k : 2 * k + 2].decode("latin-1").strip() for k in range(length)]
    values = np.frombuffer(raw, "<f8" if kind is float else "<i4")
    if len(values) != length:
        raise ValueError(f"{name} has {len(values)} numbers, expected {length}")
    return [kind(value) for value in values]


def _write_binary(records: dict[str, Any], path: Path) -> None:
    from scipy.io import FortranFile

    with FortranFile(path, "w", header_dtype=_MARK) as file:
        for name, kind, length in _RECORDS:
            value = records[name]
            if kind == "text":
                file.write_record(np.frombuffer(value.encode("latin-1").ljust(length), "u1"))
            elif kind == "names":
                file.write_record(np.frombuffer("".join(f"{word:2}" for word in value).encode("latin-1"), "u1"))
            else:
                file.write_record(np.asarray(value, "<f8" if kind is float else "<i4"))


def _read_text(path: Path) -> dict[str, Any]:
    lines = iter(path.read_text(encoding="latin-1").splitlines())
    records: dict[str, Any] = {}
    for name, kind, length in _RECORDS:
        if kind == "text":
            records[name] = next(lines).strip()
            continue
        n = _length(length, records)
        words: list[str] = []
        while len(words) < n:
            line = next(lines, None)
            if line is None:
                raise ValueError(f"it ends within {name}")
            # Fortran writes lists of 2-letter names without blanks between them.
            fixed = kind == "names" and len(line.split()) < n - len(words) and len(line.strip()) > 2
            words += [line[k : k + 2].strip() for k in range(1, 2 * n, 2)] if fixed else line.split()
        records[name] = _converted(words, name, kind, n)
    return records


def _converted(words: list[str], name: str, kind: Any, n: int) -> list[Any]:
    if len(words) != n:
        raise ValueError(f"{name} has {len(words)} items, expected {n}")
    if kind == "names":
        return words
    if kind is bool:
        return [word.strip(".").upper().startswith("T") for word in words]
    return [kind(word.lower().replace("d", "e")) for word in words]


def _write_text(records: dict[str, Any], path: Path) -> None:
    form = {float: lambda x: f"{x:.17e}", int: str, bool: lambda x: "T" if x else "F", "names": str}
    lines = [
        records[name] if kind == "text" else " ".join(form[kind](x) for x in records[name])
        for name, kind, _ in _RECORDS
    ]
    path.write_text("\n".join(lines) + "\n", encoding="latin-1")
