"""A model as a compiled program without the library: ``jax.export``'s artifact, and what its numbers mean.

The file is a zip of ``program.stablehlo``, a portable StableHLO module whose size is fixed by the structure it was made
for, and ``metadata.json``. Any program that runs StableHLO can call it; from Python, JAX does.
"""

import json
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxmlip.data.structures import is_structure
from jaxmlip.files import atomic_path
from jaxmlip.graph.batch import Graph, batch
from jaxmlip.potentials.base import cast_params
from jaxmlip.potentials.model import Model, as_model, predict_graph

UNITS = {"positions": "Å", "cell": "Å", "energy": "eV", "forces": "eV/Å", "stress": "eV/Å³", "atomic_energies": "eV"}
PLATFORMS = ("cpu", "cuda")


def export(
    model: Model | str | Path, graph_like: Any, path: str | Path, *, dtype: str = "float64", platforms: Any = PLATFORMS
) -> None:
    """Write ``model`` as a program that needs no jaxmlip, for graphs of the size of ``graph_like``.

    Its inputs are the arrays of a `Graph`, its outputs those of a prediction, both in the order and with the shapes
    that ``metadata.json`` gives, beside units, elements in the order of the species' indices, and the cutoff. Positions
    and cell may change freely; so may the pairs, which whoever calls the program lists.

    >>> import ase, jaxmlip, tempfile
    >>> potential = jaxmlip.build("zbl", species=("Li", "O"), cutoff=2.0)
    >>> model = Model(potential, potential.init(None, None))
    >>> file = tempfile.mkdtemp() + "/lio.zip"
    >>> export(model, ase.Atoms("LiO", [[0, 0, 0], [0, 0, 1.2]]), file)
    >>> json.loads(zipfile.ZipFile(file).read("metadata.json"))["species"]
    ['Li', 'O']

    Args:
        model: a potential with its parameters, or its file.
        graph_like: a structure, or a `Graph` with room for others.
        path: the file.
        dtype: of the program: "float64" or "float32".
        platforms: that the program can run on.

    Raises:
        ValueError: an element that the potential does not know.
    """
    model = as_model(model)
    config = model.potential.config
    with jax.enable_x64(dtype == "float64"):
        model = Model(model.potential, cast_params(model.params, dtype))
        graph = batch(graph_like, config, dtype=dtype) if is_structure(graph_like) else graph_like
        names = [name for name in Graph._fields if name != "scope"]
        arrays = [np.asarray(getattr(graph, name)) for name in names]
        arrays = [x.astype(dtype) if x.dtype.kind == "f" else x for x in arrays]

        def program(*inputs: Any) -> tuple:
            return tuple(predict_graph(model, Graph(*inputs)))

        exported = jax.export.export(jax.jit(program), platforms=platforms)(*arrays)
        outputs = jax.eval_shape(program, *arrays)
    metadata = {
        "format": "jaxmlip program",
        "version": 1,
        "species": list(config.symbols),
        "cutoff": config.cutoff,
        "units": UNITS,
        "stress": "(1/V) ∂E/∂ε, positive under tension",
        "edge_vector": "positions[neighbors[i, m]] - positions[i] + shifts[i, m] @ cell[atom_graph[i]]",
        "platforms": list(platforms),
        "calling_convention": exported.calling_convention_version,
        "inputs": [_described(name, x) for name, x in zip(names, arrays)],
        "outputs": [_described(name, x) for name, x in zip(("energy", "forces", "stress", "atomic_energies"), outputs)],
    }
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("program.stablehlo", exported.mlir_module_serialized)
        file.writestr("metadata.json", json.dumps(metadata, indent=1, ensure_ascii=False))


def _described(name: str, array: Any) -> dict[str, Any]:
    return {"name": name, "shape": list(array.shape), "dtype": str(array.dtype)}
