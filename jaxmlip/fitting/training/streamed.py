"""Stochastic training on packed data (`jaxmlip.data.PackedData`), which never are in memory.

The same steps as in memory (`gradient`), on minibatches that are made ahead of the device (`batches`). The unit is the
step: a run shows its progress, keeps its checkpoints and ends on SIGTERM at any of them, and goes on from there with
the same numbers.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxmlip.data.packed import PackedData
from jaxmlip.fitting.frame_weights import converged
from jaxmlip.fitting.history import History, append_log, write_log
from jaxmlip.fitting.objective import Terms, Weights, structure_factors, terms
from jaxmlip.fitting.survey import survey
from jaxmlip.fitting.training.batches import Stream, minibatch_chunks, stream
from jaxmlip.fitting.training.checkpoint import load_checkpoint, run_key
from jaxmlip.fitting.training.devices import is_first_process, replicated, summed
from jaxmlip.fitting.training.gradient import GradientFit, GradientState, begun, step_of
from jaxmlip.fitting.training.loop import (
    LOG,
    Extras,
    Store,
    check_finite,
    copied,
    epoch_row,
    held_out,
    in_groups,
    is_stale,
    precision,
    save,
    summary_of,
)
from jaxmlip.fitting.training.problem import (
    Chunk,
    Objective,
    Part,
    drawn,
    initial_params,
    model_offsets,
    split_params,
)
from jaxmlip.fitting.training.signals import termination
from jaxmlip.graph.loading import makers
from jaxmlip.graph.stack import stack
from jaxmlip.potentials.base import Params, Potential, cast_params
from jaxmlip.potentials.model import Model
from jaxmlip.programs import program, work
from jaxmlip.progress import Report, Terminated, live

STEPS = "steps.jsonl"
"""Rows within epochs, one a checkpoint."""
_OFFSET_STRUCTURES = 1024  # by which the offsets of a model to go on from are corrected
_GATHERED = 32  # steps whose sums wait on the device
_ASK_EVERY = 16  # steps between questions whether another process got SIGTERM


class _Task(NamedTuple):
    """What is trained on what."""

    objective: Objective
    params: Params
    train: Stream
    validation: Stream | None


class _Run(NamedTuple):
    """What a checkpoint holds."""

    state: GradientState
    best: Params
    best_loss: float
    best_epoch: int
    epoch: int  # epochs that are done
    step: int  # steps of the next one that are done
    sums: Terms  # of these steps


class _Watch(NamedTuple):
    """Who looks on."""

    store: Store
    written: Store
    shown: Report
    asked: Callable[[], bool]


def train_streamed(
    start: Potential | Model, atoms: PackedData, settings: GradientFit, extras: Extras
) -> tuple[Model, History]:
    """`GradientFit` on packed data; see `jaxmlip.fit`."""
    if settings.frozen:
        return in_groups(start, settings, partial(train_streamed, atoms=atoms, extras=extras))
    clock = (time.perf_counter(), time.process_time())
    train, validation = held_out(atoms, extras.validation, settings)
    validation = converged(validation, settings) if len(validation) else validation
    with ExitStack() as entered:
        entered.enter_context(precision(settings.dtype))
        shown = entered.enter_context(live("training", settings.epochs, show=extras.show_progress))
        thread = entered.enter_context(makers(0))
        pool = entered.enter_context(makers(settings.workers)) if settings.workers else thread
        task = _task(start, (train, validation), settings, pool=pool, thread=thread)
        store = Store(
            extras.folder, run_key(task.objective.potential.config, settings, (train, validation), task.params)
        )
        asked = entered.enter_context(termination(handled=store.folder is not None))
        entered.enter_context(work(settings.epochs * task.train.n_edges))
        written = store if is_first_process() else Store(None, "")
        run, rows = _run(task, _Watch(store, written, shown, asked))
        params = jax.tree.map(lambda x: np.asarray(x, np.float64), {**task.params, **run.best})
    return Model(task.objective.potential, params), History(summary_of(run, (len(train), len(validation)), clock), rows)


def _task(start: Any, data: Sequence[Any], settings: GradientFit, *, pool: Executor, thread: Executor) -> _Task:
    """Where to begin, and the minibatches; ``data`` to train on and to validate with."""
    train, validation = data
    potential = start.potential if isinstance(start, Model) else start
    config = potential.config
    found = survey(train, config.species, settings, pool)
    if isinstance(start, Model):
        params = cast_params(start.params, settings.dtype)
        params = {**params, "offsets": _offsets(Model(potential, params), train, found.factors, settings)}
    else:
        params = cast_params(initial_params(potential, train, settings, found.scales), settings.dtype)
    given, other = stream(train, found.factors, config, settings, pool), None
    if isinstance(validation, PackedData):
        other = stream(validation, survey(validation, config.species, settings, pool).factors, config, settings, pool)
    elif len(validation):
        other = stream(validation, structure_factors(validation, settings), config, settings, thread)
    return _Task(Objective(potential, settings), replicated(params), given, other)


def _offsets(start: Model, atoms: PackedData, factors: np.ndarray | None, settings: GradientFit) -> jax.Array:
    """Of a model to go on from, by a sample of the data."""
    rng = np.random.Generator(np.random.PCG64(settings.seed))
    chosen = np.sort(rng.permutation(len(atoms))[:_OFFSET_STRUCTURES])
    own = None if factors is None else factors[chosen]
    size = {"n_shapes": settings.n_shapes, "dtype": settings.dtype}
    buckets = stack([atoms[int(k)] for k in chosen], start.potential.config, factors=own, **size)
    return model_offsets(start.potential, start.params, [Part(bucket, None) for bucket in buckets], settings)


def _run(task: _Task, watch: _Watch) -> tuple[_Run, list]:
    settings = task.objective.settings
    run, rows = _begun(task, watch.store)
    while run.epoch < settings.epochs and not is_stale(run, settings):
        started = (time.perf_counter(), time.process_time())
        run = _epoch(task, run, watch, rows)
        run, row = _closed(task, run)
        row |= {"seconds": time.perf_counter() - started[0], "cpu_seconds": time.process_time() - started[1]}
        rows.append(row)
        watch.shown(row)
        if watch.written.folder is not None:
            append_log(watch.written.folder / LOG, row)
        if run.epoch % settings.checkpoint_every == 0:
            save(watch.written, run, rows)
    save(watch.written, run, rows)
    return run, rows


def _begun(task: _Task, store: Store) -> tuple[_Run, list]:
    """The start, or the last checkpoint."""
    trained, _ = split_params(task.objective.potential, task.params)
    state = replicated(begun(task.objective, task.train.n_steps, trained))
    run = _Run(state, copied(trained), float("inf"), 0, 0, 0, _nothing())
    if store.folder is None:
        return run, []
    store.folder.mkdir(parents=True, exist_ok=True)
    run, rows = load_checkpoint(store.folder, store.key, run) or (run, [])
    if is_first_process():
        write_log(store.folder / LOG, rows)
    numbers = {name: int(getattr(run, name)) for name in ("best_epoch", "epoch", "step")}
    return run._replace(state=replicated(run.state), **numbers), rows


def _epoch(task: _Task, run: _Run, watch: _Watch, rows: list) -> _Run:
    """The remaining steps of an epoch.

    Raises:
        Terminated: SIGTERM arrived.
    """
    objective, settings, n_steps = task.objective, task.objective.settings, task.train.n_steps
    _, fixed = split_params(objective.potential, task.params)
    seed, waiting = [settings.seed, run.epoch + 1], []
    for chunk in minibatch_chunks(task.train, objective.potential, seed=seed, first=run.step):
        state, found = step_of(objective, n_steps, run.state, fixed, chunk)
        run = run._replace(state=state, step=run.step + 1)
        waiting.append(found)
        ended = _is_asked(watch, run.step)
        keep = ended or run.step % settings.checkpoint_steps == 0
        if keep or len(waiting) == _GATHERED or run.step == n_steps:
            run = run._replace(sums=_added(run.sums, waiting))
            waiting = []
            row = _step_row(run, n_steps)
            watch.shown({"stage": f"epoch {run.epoch + 1}", **row})
        if keep:
            _keep(watch, run, rows, row)
        if ended:
            raise Terminated(
                f"SIGTERM: stopped after step {run.step} of epoch {run.epoch + 1}; the same call goes on in "
                f"{watch.store.folder}"
            )
    return run


def _is_asked(watch: _Watch, step: int) -> bool:
    """Whether SIGTERM arrived; where several processes have to agree they are not asked at each step."""
    return (jax.process_count() == 1 or step % _ASK_EVERY == 0) and watch.asked()


def _step_row(run: _Run, n_steps: int) -> dict[str, Any]:
    """How far an epoch is, and its errors up to here."""
    errors = {f"train_{name}": value for name, value in run.sums.errors().items()}
    check_finite(errors["train_loss"], f"epoch {run.epoch + 1} up to step {run.step}")
    return {"step": run.step, "n_steps": n_steps, **errors}


def _keep(watch: _Watch, run: _Run, rows: list, row: dict[str, Any]) -> None:
    save(watch.written, run, rows)
    if watch.written.folder is not None:
        append_log(watch.written.folder / STEPS, {"in_epoch": run.epoch + 1, **row})


def _closed(task: _Task, run: _Run) -> tuple[_Run, dict[str, Any]]:
    """The end of an epoch: validation, the best parameters so far, and the row of the log."""
    settings, number = task.objective.settings, run.epoch + 1
    params = run.state.average if settings.ema_decay else run.state.params
    validation = None if task.validation is None else _validate(task, task.validation, {**task.params, **params})
    row, loss = epoch_row(number, run.sums, validation)
    run = run._replace(epoch=number, step=0, sums=_nothing())
    if loss < run.best_loss or validation is None:
        run = run._replace(best=copied(params), best_loss=loss, best_epoch=number)
    return run, row


def _validate(task: _Task, given: Stream, params: Params) -> Terms:
    potential, weights = task.objective.potential, task.objective.settings
    waiting, sums = [], _nothing()
    for chunk in minibatch_chunks(given, potential, seed=None):
        waiting.append(_evaluate(potential, params, chunk, weights))
        if len(waiting) == _GATHERED:
            sums, waiting = _added(sums, waiting), []
    return _added(sums, waiting)


@program(static_argnums=(0, 3))
def _evaluate(potential: Potential, params: Params, chunk: Chunk, weights: Weights) -> Terms:
    def on_one(chunk: Chunk, params: Params) -> Terms:
        return terms(potential, params, drawn(chunk.part, chunk.rows.ravel()), weights)

    return summed(on_one)(chunk, params)


def _nothing() -> Terms:
    zeros: Any = [np.zeros(()) for _ in Terms._fields]
    return Terms(*zeros)


def _added(sums: Terms, more: list[Terms]) -> Terms:
    """Sums and further ones, one after another: the order, and so the number, does not depend on when it is done."""
    for one in jax.device_get(more):
        sums = jax.tree.map(lambda total, x: total + np.asarray(x, np.float64), sums, one)
    return sums
