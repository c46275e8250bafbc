"""What every iterative fit shares: data on the device, validation, early stopping, checkpoints, a log.

A method (`gradient`, `quasi_newton`) is a `Method`: where it starts, what one epoch does, and which parameters it
stands for. `train` runs it. The numbers of a run depend on nothing but potential, data, settings and machine: a run
that is killed goes on from its last checkpoint and ends in the same bits.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import ase
import jax
import jax.numpy as jnp
import numpy as np

from jaxmlip.config import ConfigError
from jaxmlip.data.split import random_split
from jaxmlip.fitting.checkpoint import load_checkpoint, run_key, save_checkpoint
from jaxmlip.fitting.history import History, append_log, write_log
from jaxmlip.fitting.objective import Terms, Weights, check_labels, force_scale, given_offsets, terms
from jaxmlip.graph.batch import Graph, batch, edge_vectors
from jaxmlip.graph.stack import Bucket, stack, take
from jaxmlip.potentials.base import Model, Params, Potential, safe_vectors
from jaxmlip.potentials.offsets import fit_offsets
from jaxmlip.progress import live

_INIT_STRUCTURES = 64  # of which initial parameters (scaling, average neighbours) are made
LOG = "log.jsonl"


@dataclasses.dataclass(frozen=True)
class Training(Weights):
    """Settings of every iterative fit."""

    epochs: int = 200
    """Passes over the data; iterations of a full-batch method."""
    batch_size: int = 8
    """Structures evaluated together; of a full-batch method it limits the memory only."""
    validation_fraction: float = 0.1
    """Of the structures, held out to choose the best epoch, if no validation set is given; 0: the last epoch counts."""
    patience: int | None = None
    """Stop after so many epochs without a better validation loss."""
    checkpoint_every: int = 10
    """Epochs between checkpoints, where a folder is given."""
    seed: int = 0
    """Of initial parameters, validation split and order of structures."""
    dtype: Literal["float32", "float64"] = "float32"
    n_shapes: int = 3
    """Sizes to which structures are padded: more waste less and compile more."""

    def __post_init__(self) -> None:
        """Refuses what cannot be run."""
        super().__post_init__()
        counts = (self.epochs, self.batch_size, self.checkpoint_every, self.n_shapes)
        if min(counts) < 1 or (self.patience is not None and self.patience < 1):
            raise ConfigError(f"epochs, batch_size, checkpoint_every, n_shapes, patience must be ≥ 1: got {counts}")
        if not 0 <= self.validation_fraction < 1:
            raise ConfigError(f"validation_fraction must lie in 0 … 1 (1 excluded), got {self.validation_fraction}")


class Part(NamedTuple):
    """A bucket on the device, with descriptors where they are kept: only energies are trained then."""

    bucket: Bucket
    descriptors: jax.Array | None  # [n_structures, n_atoms, n_features]


class Problem(NamedTuple):
    """What a method trains on."""

    potential: Potential
    settings: Any
    params: Params  # where to start
    train: list[Part]
    validation: list[Part]


class Method(NamedTuple):
    """An optimiser over a `Problem`."""

    init: Callable[[Params], Any]  # trained params -> state
    epoch: Callable[[Any, int], tuple[Any, Terms, dict[str, Any]]]  # state, number -> state, sums, facts to log
    params: Callable[[Any], Params]  # the trained params that a state stands for
    finished: Callable[[dict[str, Any]], bool] = lambda facts: False


class _Run(NamedTuple):
    """What a checkpoint holds."""

    state: Any
    best: Params
    best_loss: float
    best_epoch: int
    epoch: int


def split_params(potential: Potential, params: Params) -> tuple[Params, Params]:
    """The parts of ``params`` that are trained, and those that `Potential.fixed` names."""
    fixed = {name: part for name, part in params.items() if name in potential.fixed}
    return {name: part for name, part in params.items() if name not in potential.fixed}, fixed


def train(
    start: Potential | Model,
    data: tuple[Sequence[ase.Atoms], Sequence[ase.Atoms] | None],
    method: Callable[[Problem], Method],
    settings: Training,
    *,
    folder: Path | None = None,
    show_progress: bool = False,
) -> tuple[Model, History]:
    """Run ``method`` on ``data`` (structures, and validation structures or None); see `jaxmlip.fit`."""
    clock = (time.perf_counter(), time.process_time())
    atoms, validation = _split(data, settings)
    check_labels(atoms, settings)
    with precision(settings.dtype), live("training", settings.epochs, show=show_progress) as shown:
        problem = _problem(start, atoms, validation, settings)
        made = method(problem)
        key = run_key(problem.potential.config, settings, (atoms, validation), problem.params)
        run, rows = _run(problem, made, (folder, key), shown)
        best = {**problem.params, **run.best}
        params = jax.tree.map(lambda x: np.asarray(x, np.float64), best)
    summary = {"epochs": int(run.epoch), "best_epoch": int(run.best_epoch), "best_loss": float(run.best_loss)}
    summary |= {"n_train": len(atoms), "n_validation": len(validation)}
    summary |= {"seconds": time.perf_counter() - clock[0], "cpu_seconds": time.process_time() - clock[1]}
    return Model(problem.potential, params), History(summary, rows)


@contextmanager
def precision(dtype: str) -> Iterator[None]:
    """Computations inside are in ``dtype``, whatever JAX's global settings are; optax needs implicit promotion."""
    with jax.enable_x64(dtype == "float64"), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def _split(data: tuple, settings: Training) -> tuple[list[ase.Atoms], list[ase.Atoms]]:
    atoms, validation = data
    if validation is not None:
        return list(atoms), list(validation)
    if not settings.validation_fraction:
        return list(atoms), []
    parts = random_split(len(atoms), test=settings.validation_fraction, seed=settings.seed)
    return [atoms[k] for k in parts.train], [atoms[k] for k in parts.test]


def _problem(start: Potential | Model, atoms: list, validation: list, settings: Training) -> Problem:
    potential, params = (start.potential, start.params) if isinstance(start, Model) else (start, None)
    if params is None:
        params = _initial(potential, atoms, settings)
    params = jax.tree.map(jnp.asarray, params)
    only_energies = not (settings.force_weight or settings.stress_weight)
    keep = potential.descriptor if only_energies and potential.regressor is not None else None
    size = {"n_shapes": settings.n_shapes, "dtype": settings.dtype}
    parts = [
        [_part(bucket, potential, params, keep) for bucket in stack(frames, potential.config, **size)] if frames else []
        for frames in (atoms, validation)
    ]
    return Problem(potential, settings, params, *parts)


def _initial(potential: Potential, atoms: list, settings: Training) -> Params:
    """The family's initial parameters for a sample of the data, with offsets that fit its energies."""
    chosen = np.random.Generator(np.random.PCG64(settings.seed)).permutation(len(atoms))[:_INIT_STRUCTURES]
    graph = batch([atoms[k] for k in sorted(chosen)], potential.config)
    params = potential.init(jax.random.key(settings.seed), graph)
    if "scales" in params:  # of a network whose outputs and their derivatives start at about 1
        params |= {"scales": jnp.full_like(params["scales"], force_scale(atoms))}
    if settings.offsets == "fit" and settings.energy_weight:
        return {**params, "offsets": jnp.asarray(fit_offsets(atoms, potential.config.species))}
    return {**params, "offsets": jnp.asarray(given_offsets(potential, settings))}


def _part(bucket: Bucket, potential: Potential, params: Params, descriptor: Callable | None) -> Part:
    """With kept descriptors the graph is stripped of its neighbours."""
    if descriptor is None:
        return Part(bucket, None)

    @jax.jit
    def one(graphs: Graph, k: jax.Array) -> jax.Array:
        graph, _ = take(graphs, bucket.labels, k[None])
        return descriptor(params, graph, safe_vectors(edge_vectors(graph), graph, potential.config.cutoff))

    kept = jnp.stack([one(bucket.graphs, jnp.asarray(k)) for k in range(bucket.n_structures)])
    names = ("neighbors", "neighbor_species", "shifts", "reverse", "mask")
    stripped = {name: getattr(bucket.graphs, name)[:, :, :0] for name in names}
    return Part(bucket._replace(graphs=bucket.graphs._replace(**stripped)), kept)


@jax.jit
def drawn(part: Part, rows: jax.Array) -> tuple:
    """The example of some structures of a part, as `terms` takes it; negative rows are empty."""
    graph, labels = take(part.bucket.graphs, part.bucket.labels, rows)
    descriptors = None
    if part.descriptors is not None:
        descriptors = part.descriptors[rows].reshape(-1, part.descriptors.shape[-1])
    return graph, labels, descriptors


def chunks(n: int, size: int) -> np.ndarray:
    """The numbers 0 … n − 1 in rows of ``size``, filled up with −1."""
    size = min(size, n)
    rows = np.full(-(-n // size) * size, -1)
    rows[:n] = np.arange(n)
    return rows.reshape(-1, size)


@partial(jax.jit, static_argnums=(0, 3))
def _evaluate(potential: Potential, params: Params, example: tuple, weights: Weights) -> Terms:
    return terms(potential, params, example, weights)


def add_terms(sums: list[Terms]) -> Terms:
    """The sum of several."""
    return jax.tree.map(lambda *x: np.sum(np.asarray(x, np.float64)), *jax.device_get(sums))


def _validate(problem: Problem, params: Params) -> Terms:
    size = problem.settings.batch_size
    found = [
        _evaluate(problem.potential, params, drawn(part, jnp.asarray(rows)), problem.settings)
        for part in problem.validation
        for rows in chunks(part.bucket.n_structures, size)
    ]
    return add_terms(found)


def _run(problem: Problem, method: Method, kept: tuple[Path | None, str], shown: Callable) -> tuple[_Run, list]:
    folder, key = kept
    settings, rows = problem.settings, []
    trained, _ = split_params(problem.potential, problem.params)
    run = _Run(method.init(trained), trained, float("inf"), 0, 0)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        run, rows = load_checkpoint(folder, key, run) or (run, rows)
        write_log(folder / LOG, rows)
    while run.epoch < settings.epochs and not _stale(run, settings) and not (rows and method.finished(rows[-1])):
        run, row = _advance(problem, method, run)
        rows.append(row)
        shown(row)
        if folder is not None:
            append_log(folder / LOG, row)
            if run.epoch % settings.checkpoint_every == 0:
                save_checkpoint(folder, key, run, rows)
    if folder is not None:
        save_checkpoint(folder, key, run, rows)
    return run, rows


def _stale(run: _Run, settings: Training) -> bool:
    return settings.patience is not None and run.epoch - run.best_epoch >= settings.patience


def _advance(problem: Problem, method: Method, run: _Run) -> tuple[_Run, dict[str, Any]]:
    """One epoch, with the best parameters so far, and its row of the log."""
    started = (time.perf_counter(), time.process_time())
    number = int(run.epoch) + 1
    state, sums, facts = method.epoch(run.state, number)
    row: dict[str, Any] = {"epoch": number}
    row |= {f"train_{name}": value for name, value in add_terms([sums]).errors().items()}
    params = method.params(state)
    loss = row["train_loss"]
    if problem.validation:
        found = _validate(problem, {**problem.params, **params}).errors()
        row |= {f"validation_{name}": value for name, value in found.items()}
        loss = found["loss"]
    if not np.isfinite(loss):
        raise FloatingPointError(
            f"the loss of epoch {number} is {loss}: lower the learning rate, clip the gradient (clip_norm), or look "
            "for broken structures with `jaxmlip audit`"
        )
    row |= facts
    row |= {"seconds": time.perf_counter() - started[0], "cpu_seconds": time.process_time() - started[1]}
    best, best_loss, best_epoch = run.best, run.best_loss, run.best_epoch
    if loss < best_loss or not problem.validation:
        best, best_loss, best_epoch = jax.tree.map(jnp.copy, params), loss, number
    return _Run(state, best, best_loss, best_epoch, number), row
