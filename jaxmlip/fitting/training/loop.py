"""What every iterative fit shares: data on the device, validation, early stopping, checkpoints, a log.

A method (`gradient`, `quasi_newton`) is an `Optimizer`: where it starts, what one epoch does, and which parameters it
stands for. `train` runs it. The numbers of a run depend on nothing but potential, data, settings and machine: a run
that is killed goes on from its last checkpoint and ends in the same bits.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import ase
import jax
import numpy as np

from jaxmlip.config import ConfigError
from jaxmlip.data.labels import is_converged
from jaxmlip.data.packed import PackedData
from jaxmlip.data.split import random_split
from jaxmlip.fitting.history import History, append_log, write_log
from jaxmlip.fitting.objective import Terms, Weights, check_labels, terms
from jaxmlip.fitting.training.checkpoint import load_checkpoint, run_key, save_checkpoint
from jaxmlip.fitting.training.devices import is_first_process, replicated, spread, summed
from jaxmlip.fitting.training.frozen import frozen, thawed
from jaxmlip.fitting.training.problem import Part, Problem, Training, chunks, drawn, make_problem, split_params
from jaxmlip.fitting.training.signals import termination
from jaxmlip.potentials.base import Params, Potential
from jaxmlip.potentials.model import Model
from jaxmlip.programs import program, work
from jaxmlip.progress import Report, Terminated, live

LOG = "log.jsonl"


class Optimizer(NamedTuple):
    """A method of training on a `Problem`."""

    init: Callable[[Params], Any]  # trained params -> state
    epoch: Callable[[Any, int], tuple[Any, Terms, dict[str, Any]]]  # state, number -> state, sums, facts to log
    params: Callable[[Any], Params]  # the trained params that a state stands for
    finished: Callable[[dict[str, Any]], bool] = lambda facts: False


class _Run(NamedTuple):
    """What a checkpoint holds."""

    state: Any  # of the optimizer
    best: Params  # on the validation structures
    best_loss: float
    best_epoch: int
    epoch: int  # the last one that ended


class Extras(NamedTuple):
    """What `jaxmlip.fit` takes beside the data and the settings."""

    validation: Sequence[ase.Atoms] | None = None
    """Structures that choose the best epoch; None: a part of the data."""
    folder: Path | None = None
    """Where the log and checkpoints are kept; None: nowhere."""
    show_progress: bool | Report = False
    """A bar, or what takes the rows."""


class Store(NamedTuple):
    """Where checkpoints are kept, and whose they are."""

    folder: Path | None
    key: str


def train(
    start: Potential | Model,
    atoms: Sequence[ase.Atoms],
    settings: Training,
    extras: Extras,
    *,
    optimizer: Callable[[Problem], Optimizer],
) -> tuple[Model, History]:
    """Run ``optimizer``; see `jaxmlip.fit`."""
    if settings.frozen:
        return in_groups(start, settings, partial(train, atoms=atoms, extras=extras, optimizer=optimizer))
    clock = (time.perf_counter(), time.process_time())
    atoms, validation = held_out(atoms, extras.validation, settings)
    validation = [frame for frame in validation if settings.unconverged or is_converged(frame)]
    check_labels(atoms, settings)
    with precision(settings.dtype), live("training", settings.epochs, show=extras.show_progress) as shown:
        made = make_problem(start, atoms, validation, settings)
        key = run_key(made.potential.config, settings, (atoms, validation), made.params)
        with work(_edges(made)):
            run, rows = _run(made, optimizer(made), Store(extras.folder, key), shown)
        best = {**made.params, **run.best}
        params = jax.tree.map(lambda x: np.asarray(x, np.float64), best)
    return Model(made.potential, params), History(summary_of(run, (len(atoms), len(validation)), clock), rows)


def summary_of(run: Any, sizes: tuple[int, int], clock: tuple[float, float]) -> dict[str, Any]:
    """How a run ended: ``sizes`` of the data for training and validation, ``clock`` when it began."""
    summary = {"epochs": int(run.epoch), "best_epoch": int(run.best_epoch), "best_loss": float(run.best_loss)}
    summary |= {"n_train": sizes[0], "n_validation": sizes[1]}
    return summary | {"seconds": time.perf_counter() - clock[0], "cpu_seconds": time.process_time() - clock[1]}


def in_groups(
    start: Potential | Model, settings: Training, fit: Callable[..., tuple[Model, History]]
) -> tuple[Model, History]:
    """``fit(start, settings=…)`` of a model some of whose parameters are frozen."""
    if not isinstance(start, Model):
        raise ConfigError("frozen: there is nothing to keep yet; give a model to go on from (--start), not a potential")
    grouped, rest = frozen(start, settings.frozen), dataclasses.replace(settings, frozen=())
    model, history = fit(grouped, settings=rest)
    return thawed(start.potential, model.params), history


def _edges(problem: Problem) -> int:
    """What all epochs evaluate."""
    return problem.settings.epochs * sum(part.bucket.graphs.mask.size for part in (*problem.train, *problem.validation))


@contextmanager
def precision(dtype: str) -> Iterator[None]:
    """Computations inside are in ``dtype``, whatever JAX's global settings are; optax needs implicit promotion."""
    with jax.enable_x64(dtype == "float64"), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def held_out(
    atoms: Sequence[ase.Atoms], validation: Sequence[ase.Atoms] | None, settings: Training
) -> tuple[Sequence[ase.Atoms], Sequence[ase.Atoms]]:
    """Structures to train on, and to validate with."""
    if validation is not None:
        return atoms, validation
    if not settings.validation_fraction:
        return atoms, []
    parts = random_split(len(atoms), test=settings.validation_fraction, seed=settings.seed)
    if isinstance(atoms, PackedData):
        return atoms.select(parts.train), atoms.select(parts.test)
    return [atoms[k] for k in parts.train], [atoms[k] for k in parts.test]


@program(static_argnums=(0, 4))
def _evaluate(potential: Potential, params: Params, part: Part, rows: jax.Array, weights: Weights) -> Terms:
    def on_one(rows: jax.Array, params: Params, part: Part) -> Terms:
        return terms(potential, params, drawn(part, rows), weights)

    return summed(on_one)(rows, params, part)


def add_terms(sums: list[Terms]) -> Terms:
    """The sum of several."""
    return jax.tree.map(lambda *x: np.sum(np.asarray(x, np.float64)), *jax.device_get(sums))


def _validate(problem: Problem, params: Params) -> Terms:
    size = problem.settings.batch_size
    found = [
        _evaluate(problem.potential, params, part, spread(rows), problem.settings)
        for part in problem.validation
        for rows in chunks(part.bucket.n_structures, size)
    ]
    return add_terms(found)


def _run(problem: Problem, method: Optimizer, store: Store, shown: Report) -> tuple[_Run, list]:
    run, rows = _begun(problem, method, store)
    written = store if is_first_process() else Store(None, "")
    with termination(handled=store.folder is not None) as asked:
        while not _finished(problem, method, run, rows):
            run, row = _advance(problem, method, run)
            rows.append(row)
            shown(row)
            if written.folder is not None:
                append_log(written.folder / LOG, row)
            ended = asked()
            if ended or run.epoch % problem.settings.checkpoint_every == 0:
                save(written, run, rows)
            if ended:
                raise Terminated(f"SIGTERM: stopped after epoch {run.epoch}; the same call goes on in {store.folder}")
    save(written, run, rows)
    return run, rows


def _begun(problem: Problem, method: Optimizer, store: Store) -> tuple[_Run, list]:
    """The start, or the last checkpoint."""
    folder, key = store
    trained, _ = split_params(problem.potential, problem.params)
    run = _Run(method.init(trained), trained, float("inf"), 0, 0)
    if folder is None:
        return run, []
    folder.mkdir(parents=True, exist_ok=True)
    run, rows = load_checkpoint(folder, key, run) or (run, [])
    if is_first_process():
        write_log(folder / LOG, rows)
    return run._replace(state=replicated(run.state)), rows


def save(store: Store, run: Any, rows: list) -> None:
    """A checkpoint of ``run``, where checkpoints are kept."""
    if store.folder is not None:
        save_checkpoint(store.folder, store.key, run, rows)


def _finished(problem: Problem, method: Optimizer, run: _Run, rows: list) -> bool:
    done = int(run.epoch) >= problem.settings.epochs or is_stale(run, problem.settings)
    return done or bool(rows and method.finished(rows[-1]))


def is_stale(run: Any, settings: Training) -> bool:
    """Whether validation has not become better for the patience of the settings."""
    return settings.patience is not None and int(run.epoch - run.best_epoch) >= settings.patience


def _advance(problem: Problem, method: Optimizer, run: _Run) -> tuple[_Run, dict[str, Any]]:
    """One epoch, with the best parameters so far, and its row of the log."""
    started = (time.perf_counter(), time.process_time())
    number = int(run.epoch) + 1
    state, sums, facts = method.epoch(run.state, number)
    params = method.params(state)
    validation = _validate(problem, {**problem.params, **params}) if problem.validation else None
    row, loss = epoch_row(number, add_terms([sums]), validation)
    row |= facts
    row |= {"seconds": time.perf_counter() - started[0], "cpu_seconds": time.process_time() - started[1]}
    run = run._replace(state=state, epoch=number)
    if loss < run.best_loss or not problem.validation:
        run = run._replace(best=copied(params), best_loss=loss, best_epoch=number)
    return run, row


def copied(params: Params) -> Params:
    """On the host: buffers of the device are used again."""
    return jax.tree.map(np.array, params)


def epoch_row(number: int, sums: Terms, validation: Terms | None) -> tuple[dict[str, Any], float]:
    """The row of an epoch in the log, and the loss that tells whether it is the best.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    row: dict[str, Any] = {"epoch": number}
    row |= {f"train_{name}": value for name, value in sums.errors().items()}
    loss = row["train_loss"]
    if validation is not None:
        found = validation.errors()
        row |= {f"validation_{name}": value for name, value in found.items()}
        loss = found["loss"]
    check_finite(loss, f"epoch {number}")
    return row, loss


def check_finite(loss: float, when: str) -> None:
    """Refuses to go on from a loss that is no number.

    Raises:
        FloatingPointError: telling what to do.
    """
    if not np.isfinite(loss):
        raise FloatingPointError(
            f"the loss of {when} is {loss}: lower the learning rate, clip the gradient (clip_norm), or look for broken "
            "structures with `jaxmlip audit`"
        )
