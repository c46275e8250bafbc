"""Stochastic training through optax: minibatches, a learning-rate schedule, clipping, an average of the parameters.

Each step draws a few structures of one bucket (`jaxmlip.graph.stack`) on the device, or some on each of several
(`devices`). Validation, and the result, use the exponential moving average of the parameters.

References:
    Kingma, Ba, ICLR 2015 (Adam); Loshchilov, Hutter, ICLR 2019 (AdamW, cosine schedule); Reddi et al., ICLR 2018
    (AMSGrad).
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Int

from jaxmlip.config import ConfigError, Count, NotNegative, Positive, Range, Share, Whole
from jaxmlip.fitting.objective import Terms, terms
from jaxmlip.fitting.training.devices import replicated, shares, spread, summed
from jaxmlip.fitting.training.loop import Optimizer, add_terms
from jaxmlip.fitting.training.problem import Chunk, Objective, Part, Problem, Training, drawn, split_params
from jaxmlip.graph.stack import shuffled_rows
from jaxmlip.potentials.base import Params, Potential
from jaxmlip.programs import program

CPU_PORTION = 16
"""Atoms that message passing evaluates at once on a CPU, at least one structure."""


@dataclasses.dataclass(frozen=True)
class GradientFit(Training):
    """Minibatch training: Adam and its kin."""

    optimizer: Literal["adam", "adamw", "amsgrad"] = "adam"
    """Adam, Adam with decay of the weights apart from the gradient, or AMSGrad."""
    learning_rate: Positive = 3e-3
    """Length of a step at the height of the schedule."""
    schedule: Literal["cosine", "constant", "plateau"] = "cosine"
    """cosine: to zero at the last epoch; plateau: halved after ``plateau_epochs`` without a better training loss."""
    warmup_epochs: Whole = 1
    """Epochs in which the learning rate rises from zero; not of "plateau"."""
    plateau_epochs: Count = 10
    """Of "plateau" only."""
    weight_decay: NotNegative = 0.0
    """Of "adamw" only; offsets do not decay."""
    clip_norm: Positive | None = 10.0
    """Longer gradients (of the loss per structure) are cut to this length."""
    ema_decay: Share = 0.99
    """Weight of the past in the moving average of the parameters; 0: no average."""
    workers: Whole = 0
    """Of packed data: processes that make graphs ahead of the device; 0: a thread. A script that asks for any needs its
    ``if __name__ == "__main__":``."""
    checkpoint_steps: Count = 1000
    """Of packed data: steps between checkpoints, where a folder is given."""
    tunable: ClassVar[Mapping[str, Range]] = {"learning_rate": Range(5e-4, 3e-2, log=True)}

    def __post_init__(self) -> None:
        """Refuses what cannot be run."""
        super().__post_init__()
        if self.weight_decay and self.optimizer != "adamw":
            raise ConfigError(f"weight_decay needs optimizer 'adamw', got {self.optimizer!r}")


class GradientState(NamedTuple):
    """What a step changes."""

    params: Params
    average: Params  # exponential, of the params
    optimizer: Any  # optax's state


def gradient_method(problem: Problem) -> Optimizer:
    """The `Optimizer` of `GradientFit` settings."""
    settings: GradientFit = problem.settings
    size = settings.batch_size
    n_steps = sum(len(shuffled_rows(part.bucket.n_structures, size, None)) for part in problem.train)
    objective = Objective(problem.potential, settings)
    _, fixed = split_params(problem.potential, problem.params)

    def init(params: Params) -> GradientState:
        return replicated(begun(objective, n_steps, params))

    def epoch(state: GradientState, number: int) -> tuple[GradientState, Terms, dict[str, Any]]:
        rng = np.random.Generator(np.random.PCG64([settings.seed, number]))
        work = [
            (k, rows)
            for k, part in enumerate(problem.train)
            for rows in shuffled_rows(part.bucket.n_structures, size, rng)
        ]
        sums = []
        for k in rng.permutation(len(work)):
            part, rows = work[k]
            portions = portioned(problem.potential, problem.train[part].n_atoms, shares(rows))
            state, found = _step(objective, n_steps, state, fixed, problem.train[part], spread(portions))
            sums.append(found)
        return state, add_terms(sums), {}

    def average(state: GradientState) -> Params:
        return state.average if settings.ema_decay else state.params

    return Optimizer(init, epoch, average)


def gradient_states(
    problem: Problem, trained: Params, fixed: Params, seeds: Sequence[int], fold_of: Int[np.ndarray, " n_structures"]
) -> Iterator[tuple[Params, list[Terms]]]:
    """Epoch by epoch the trained params of several members [n_members, …], and the sums of their minibatches.

    Each member has an order of the structures of its own, by its seed, and does not see the fold of its number. Where
    that leaves it fewer of a size than another, it sees some of its own twice.
    """
    settings: GradientFit = problem.settings
    size = settings.batch_size
    seen = [[np.flatnonzero(fold_of[part.bucket.index] != k) for k in range(len(seeds))] for part in problem.train]
    lengths = [max(map(len, own)) for own in seen]
    n_steps = sum(-(-length // size) for length in lengths)
    optimizer = _optimizer(settings, n_steps)
    state = jax.vmap(lambda one: GradientState(one, one, optimizer.init(one)))(trained)
    one_step = partial(_step, Objective(problem.potential, settings), n_steps)
    step = jax.jit(jax.vmap(one_step, in_axes=(0, 0, None, 0)))
    for number in range(1, settings.epochs + 1):
        orders = [np.random.Generator(np.random.PCG64([seed, number])) for seed in seeds]
        drawn_rows = [
            [_rows_of(own, length, size, rng) for own, rng in zip(part, orders, strict=True)]
            for part, length in zip(seen, lengths, strict=True)
        ]
        work = [(k, b) for k, rows in enumerate(drawn_rows) for b in range(len(rows[0]))]
        sums = []
        for k, b in (work[i] for i in orders[0].permutation(len(work))):
            part = problem.train[k]
            portions = np.stack([portioned(problem.potential, part.n_atoms, shares(rows[b])) for rows in drawn_rows[k]])
            state, found = step(state, fixed, part, jnp.asarray(portions))
            sums.append(jax.device_get(found))
        yield (state.average if settings.ema_decay else state.params), sums


def _rows_of(
    own: Int[np.ndarray, " n"], length: int, size: int, rng: np.random.Generator
) -> Int[np.ndarray, "n_batches size"]:
    """``length`` numbers of ``own``, in a random order and where needed again from the first on; filled up with −1."""
    rows = shuffled_rows(length, size, None)
    order = rng.permutation(own) if len(own) else np.full(1, -1)
    return np.where(rows < 0, -1, order[rows % len(order)])


@program(static_argnums=(0, 1), weight=0.0)
def begun(objective: Objective, n_steps: int, params: Params) -> GradientState:
    """The state before the first step."""
    optimizer = _optimizer(objective.settings, n_steps).init(params)
    return GradientState(params, jax.tree.map(jnp.copy, params), optimizer)


def _optimizer(settings: GradientFit, n_steps: int) -> optax.GradientTransformationExtraArgs:
    """``n_steps``: minibatches of an epoch."""
    warmup, total = settings.warmup_epochs * n_steps, settings.epochs * n_steps
    rate: Any = settings.learning_rate
    if settings.schedule != "plateau" and 0 < warmup < total:
        end = 0.0 if settings.schedule == "cosine" else rate
        rate = optax.warmup_cosine_decay_schedule(rate / warmup, rate, warmup, total, end_value=end)
    elif settings.schedule == "cosine":
        rate = optax.cosine_decay_schedule(rate, total)
    chain = [] if settings.clip_norm is None else [optax.clip_by_global_norm(settings.clip_norm)]
    if settings.optimizer == "adamw":
        chain.append(optax.adamw(rate, weight_decay=settings.weight_decay, mask=_without_offsets))
    else:
        chain.append({"adam": optax.adam, "amsgrad": optax.amsgrad}[settings.optimizer](rate))
    if settings.schedule == "plateau":
        patience = settings.plateau_epochs
        chain.append(optax.contrib.reduce_on_plateau(factor=0.5, patience=patience, accumulation_size=n_steps))
    return optax.with_extra_args_support(optax.chain(*chain))


def _without_offsets(params: Params) -> Any:
    """What decays: energies of atoms are no weights of a model."""
    return {name: jax.tree.map(lambda _, name=name: name != "offsets", part) for name, part in params.items()}


def portioned(
    potential: Potential, n_atoms: int, rows: Int[np.ndarray, "n_devices n"]
) -> Int[np.ndarray, "n_devices n_portions _"]:
    """Each device's share of structures of ``n_atoms`` in portions that are evaluated one after another; −1: empty.

    Message passing on a CPU is up to twice as fast when the arrays of a portion stay in the cache; local potentials
    are evaluated in blocks of atoms anyway, other devices want all at once.
    """
    if potential.local or jax.default_backend() != "cpu":
        return rows[:, None]
    size = max(1, CPU_PORTION // n_atoms)
    padded = np.full((len(rows), -(-rows.shape[1] // size) * size), -1)
    padded[:, : rows.shape[1]] = rows
    return padded.reshape(len(rows), -1, size)


@program(static_argnums=(0, 1), donate_argnums=2)
def _step(
    objective: Objective, n_steps: int, state: GradientState, fixed: Params, part: Part, portions: jax.Array
) -> tuple[GradientState, Terms]:
    """One minibatch, drawn on the device."""
    found, gradient = summed(partial(_sums, objective))(portions, state.params, fixed, part)
    return _moved(objective, n_steps, state, gradient, found), found


@program(static_argnums=(0, 1), donate_argnums=2)
def step_of(
    objective: Objective, n_steps: int, state: GradientState, fixed: Params, chunk: Chunk
) -> tuple[GradientState, Terms]:
    """One minibatch that was made on the host, each device's part of it [n_devices, …] apart."""

    def sums(chunk: Chunk, params: Params, fixed: Params) -> tuple[Terms, Params]:
        return _sums(objective, chunk.rows, params, fixed, chunk.part)

    found, gradient = summed(sums)(chunk, state.params, fixed)
    return _moved(objective, n_steps, state, gradient, found), found


def _moved(objective: Objective, n_steps: int, state: GradientState, gradient: Params, found: Terms) -> GradientState:
    """The gradient per structure, the optimiser, the average."""
    n = jnp.maximum(found.n_structures, 1)
    gradient = jax.tree.map(lambda g: g / n, gradient)
    updates, optimizer = _optimizer(objective.settings, n_steps).update(
        gradient, state.optimizer, state.params, value=found.objective / n
    )
    params = optax.apply_updates(state.params, updates)
    average = optax.incremental_update(params, state.average, 1 - objective.settings.ema_decay)
    return GradientState(params, average, optimizer)


def _sums(objective: Objective, portions: jax.Array, params: Params, fixed: Params, part: Part) -> tuple[Terms, Params]:
    """Terms and the gradient of their objective, of all structures of some portions."""

    def value(params: Params, rows: jax.Array) -> tuple[jax.Array, Terms]:
        found = terms(objective.potential, {**params, **fixed}, drawn(part, rows), objective.settings)
        return found.objective, found

    def add(k: Any, total: Any) -> Any:
        (_, found), gradient = jax.value_and_grad(value, has_aux=True)(params, portions[k])
        return jax.tree.map(jnp.add, total, (found, gradient))

    if len(portions) == 1:
        (_, found), gradient = jax.value_and_grad(value, has_aux=True)(params, portions[0])
        return found, gradient
    zero = Terms(*(jnp.zeros((), part.bucket.labels.energy.dtype) for _ in Terms._fields))
    n_filled = jnp.sum(jnp.any(portions >= 0, axis=1))  # empty ones come last
    return jax.lax.fori_loop(0, n_filled, add, (zero, jax.tree.map(jnp.zeros_like, params)))
