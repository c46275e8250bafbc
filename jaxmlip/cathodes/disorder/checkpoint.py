"""Files from which stopped chains go on: their states, what they kept, and a mark of all that they depend on."""

import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Integer

from jaxmlip.cathodes.disorder import sampler
from jaxmlip.cathodes.disorder.sites import Sites
from jaxmlip.config import ConfigError, Settings
from jaxmlip.files import atomic_path
from jaxmlip.potentials.model import Model

if TYPE_CHECKING:
    from jaxmlip.cathodes.disorder.sampling import Chains


class Run(NamedTuple):
    """Chains on their way: their states after ``done`` samples, and what was kept of them."""

    states: sampler.State
    done: int
    numbers: list[Integer[np.ndarray, "n_chains n_sites"]]
    energies: list[Float[np.ndarray, " n_chains"]]
    counts: Integer[np.ndarray, " n_counts"]  # of accepted and tried exchanges, or of candidates taken by each chain


def fingerprint(model: Model, sites: Sites, chains: "Chains", settings: Settings) -> str:
    """Of all that a chain depends on, except for how many samples are kept."""
    parts = [part.symbols for part in sites.sublattices]
    fields = dict(vars(settings))
    for name in ("n_samples", "checkpoint_every"):
        fields[name] = 1
    text = json.dumps([repr(model.potential.config), parts, fields, repr(tuple(map(float, chains.temperatures)))])
    text += repr({k: tuple(map(float, v)) for k, v in chains.potentials.items()}) + repr(chains.moves)
    digest = hashlib.sha256((type(settings).__name__ + text).encode())
    geometry = [sites.frame.positions, sites.frame.cell.array, np.asarray(chains.starts, np.int64)]
    for array in [*geometry, *jax.tree.leaves(model.params), *(part.sites for part in sites.sublattices)]:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def write(path: Path, run: Run, mark: str) -> None:
    """Replaces the file at once, so that a run killed meanwhile keeps the last one."""
    state = {f"state_{name}": np.asarray(value) for name, value in run.states._asdict().items()}
    kept = {"done": run.done, "counts": run.counts, "numbers": run.numbers, "energies": run.energies}
    with atomic_path(path) as temporary, open(temporary, "wb") as file:  # noqa: PTH123
        np.savez(file, mark=mark, **kept, **state)  # type: ignore[arg-type]
        file.flush()
        os.fsync(file.fileno())


def read(path: Path, mark: str) -> Run:
    """The run that `write` kept.

    Raises:
        ConfigError: no checkpoint, or one of another run.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
        state = sampler.State(*(jnp.asarray(found[f"state_{name}"]) for name in sampler.State._fields))
        run = Run(state, int(found["done"]), list(found["numbers"]), list(found["energies"]), found["counts"])
        same = str(found["mark"]) == mark
    except (AttributeError, KeyError, OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{path} is no checkpoint of this program ({error}): remove it to start anew") from None
    if not same:
        raise ConfigError(
            f"{path} is the checkpoint of another run: give the same model, cell, conditions and seed, or remove it"
        )
    return run
