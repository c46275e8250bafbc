"""The nequip side: its torch model from the `.yaml` and weights that jaxmlip wrote, not compiled. No JAX here."""

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Any

import ase
import numpy as np

from benchmarking.cases import Job, cells_of_one_size, structure
from benchmarking.clock import median, timed


def missing() -> str | None:
    """Why nequip cannot run here, or None."""
    return None if importlib.util.find_spec("nequip") else "not installed: nequip (pip install torch nequip)"


def environment() -> dict[str, str]:
    """Nothing that it needs."""
    return {}


def run(job: Job) -> dict[str, Any]:
    """Times of ``job``; building the model, which includes torch's own compilation, is ``build``."""
    import torch  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(1)
    made: list[Any] = []
    build = timed(lambda: made.append(_model(job)))
    model, config = made[0]
    result = (_predict if job.kind == "predict" else _train)(job, model, config)
    return result | {"build": build, "version": importlib.metadata.version("nequip")}


def _model(job: Job) -> tuple[Any, dict[str, Any]]:
    """The model with the weights of the file, and its settings."""
    import torch  # pyright: ignore[reportMissingImports]
    import yaml
    from nequip.model import NequIPGNNModel  # pyright: ignore[reportMissingImports]
    from nequip.utils.global_state import set_global_state  # pyright: ignore[reportMissingImports]

    file = Path(job.folder) / f"{job.name}.yaml"
    config = yaml.safe_load(file.read_text(encoding="utf-8"))["config"] | {"model_dtype": job.precision}
    set_global_state()
    model = NequIPGNNModel(**config)
    with np.load(file.with_name(f"{job.name}_state_dict.npz")) as arrays:
        for name, value in model.state_dict().items():  # shares the model's memory; copying casts to its precision
            ours = f"model.func.{name.split('func.')[-1]}"
            if ours in arrays:
                value.copy_(torch.from_numpy(arrays[ours]))
    return model, config


def _inputs(frames: list[ase.Atoms], config: dict[str, Any]) -> dict[str, Any]:
    """One batch in nequip's form, with its neighbour list."""
    from nequip.data import AtomicDataDict, from_ase  # pyright: ignore[reportMissingImports]
    from nequip.data.transforms import (  # pyright: ignore[reportMissingImports]
        ChemicalSpeciesToAtomTypeMapper,
        NeighborListTransform,
    )

    types = ChemicalSpeciesToAtomTypeMapper(model_type_names=config["type_names"])
    neighbors = NeighborListTransform(r_max=config["r_max"])
    return AtomicDataDict.batched_from_list([neighbors(types(from_ase(frame))) for frame in frames])


def _predict(job: Job, model: Any, config: dict[str, Any]) -> dict[str, Any]:
    """Energy, forces and stress of one large cell; the neighbour list is not counted."""
    atoms, found = structure(job), {}
    data = _inputs([atoms], config)
    model.eval()

    def evaluate() -> None:
        found.update(model(dict(data)))

    first = timed(evaluate)
    steady = [timed(evaluate) for _ in range(job.repeats)]
    energy, forces = (found[name].detach().double().numpy() for name in ("total_energy", "forces"))
    np.savez(Path(job.folder) / f"{job.name}_{job.code}_{job.precision}.npz", energy=energy.item(), forces=forces)
    return {"n_atoms": len(atoms), "first": first, "steady": median(steady)}


def _train(job: Job, model: Any, config: dict[str, Any]) -> dict[str, Any]:
    """Steps of Adam on energies per atom and forces of one minibatch."""
    import torch  # pyright: ignore[reportMissingImports]

    frames = cells_of_one_size(job.size)
    data = _inputs(frames, config)
    energy, forces = data["total_energy"].double(), data["forces"].double()
    n_atoms = data["num_atoms"].double().unsqueeze(-1)
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        found = model({name: value for name, value in data.items() if name not in ("total_energy", "forces")})
        of_energy = ((found["total_energy"] - energy) / n_atoms).square().sum()
        loss = 1e4 * of_energy + (found["forces"] - forces).square().sum()
        loss.backward()
        optimizer.step()

    first = timed(step)
    steady = [timed(step) for _ in range(job.repeats)]
    return {"n_atoms": sum(map(len, frames)), "first": first, "steady": median(steady)}
