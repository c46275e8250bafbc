"""Stochastic training through optax: minibatches, a learning-rate schedule, clipping, an average of the parameters.

Each step draws a few structures of one bucket (`jaxmlip.graph.stack`) on the device, or some on each of several
(`devices`). Validation, and the result, use the exponential moving average of the parameters.

References:
    Kingma, Ba, ICLR 2015 (Adam); Loshchilov, Hutter, ICLR 2019 (AdamW, cosine schedule); Reddi et al., ICLR 2018
    (AMSGrad).
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxmlip.config import ConfigError, Range
from jaxmlip.fitting.objective import Terms, terms
from jaxmlip.fitting.training.devices import replicated, shares, split, summed
from jaxmlip.fitting.training.loop import Method, add_terms
from jaxmlip.fitting.training.problem import Part, Problem, Training, drawn, split_params
from jaxmlip.graph.stack import shuffled_rows
from jaxmlip.potentials.base import Params, Potential

CPU_PORTION = 16
"""Atoms that message passing evaluates at once on a CPU, at least one structure."""


@dataclasses.dataclass(frozen=True)
class GradientFit(Training):
    """Minibatch training: Adam and its kin."""

    optimizer: Literal["adam", "adamw", "amsgrad"] = "adam"
    learning_rate: float = 3e-3
    schedule: Literal["cosine", "constant", "plateau"] = "cosine"
    """cosine: to zero at the last epoch; plateau: halved after ``plateau_epochs`` without a better training loss."""
    warmup_epochs: int = 1
    """Epochs in which the learning rate rises from zero; not of "plateau"."""
    plateau_epochs: int = 10
    weight_decay: float = 0.0
    """Of "adamw" only; offsets do not decay."""
    clip_norm: float | None = 10.0
    """Longer gradients (of the loss per structure) are cut to this length."""
    ema_decay: float = 0.99
    """Weight of the past in the moving average of the parameters; 0: no average."""
    tunable: ClassVar[Mapping[str, Range]] = {"learning_rate": Range(5e-4, 3e-2, log=True)}

    def __post_init__(self) -> None:
        """Refuses what cannot be run."""
        super().__post_init__()
        if not (self.learning_rate > 0 and 0 <= self.ema_decay < 1 and self.weight_decay >= 0):
            raise ConfigError(
                f"learning_rate must be positive, ema_decay in 0 … 1, weight_decay ≥ 0: got {self.learning_rate}, "
                f"{self.ema_decay}, {self.weight_decay}"
            )
        if self.weight_decay and self.optimizer != "adamw":
            raise ConfigError(f"weight_decay needs optimizer 'adamw', got {self.optimizer!r}")


class _State(NamedTuple):
    params: Params
    average: Params
    optimizer: Any


def gradient_method(problem: Problem) -> Method:
    """The `Method` of `GradientFit` settings."""
    settings: GradientFit = problem.settings
    size = settings.batch_size
    n_steps = sum(len(shuffled_rows(part.bucket.n_structures, size, None)) for part in problem.train)
    facts = _Facts(problem.potential, settings, n_steps)
    _, fixed = split_params(problem.potential, problem.params)

    def init(params: Params) -> _State:
        return replicated(_State(params, jax.tree.map(jnp.copy, params), _optimizer(facts).init(params)))

    def epoch(state: _State, number: int) -> tuple[_State, Terms, dict[str, Any]]:
        rng = np.random.Generator(np.random.PCG64([settings.seed, number]))
        work = [
            (k, rows)
            for k, part in enumerate(problem.train)
            for rows in shuffled_rows(part.bucket.n_structures, size, rng)
        ]
        sums = []
        for k in rng.permutation(len(work)):
            part, rows = work[k]
            portions = _portions(problem.potential, problem.train[part], shares(rows))
            state, found = _step(facts, state, fixed, problem.train[part], split(portions))
            sums.append(found)
        return state, add_terms(sums), {}

    def average(state: _State) -> Params:
        return state.average if settings.ema_decay else state.params

    return Method(init, epoch, average)


class _Facts(NamedTuple):
    """What a compiled step depends on."""

    potential: Potential
    settings: GradientFit
    n_steps: int


def _optimizer(facts: _Facts) -> optax.GradientTransformationExtraArgs:
    settings, n_steps = facts.settings, facts.n_steps
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


def _portions(potential: Potential, part: Part, rows: np.ndarray) -> np.ndarray:
    """Each device's share ``[n_devices, n]`` in portions that are evaluated one after another; −1: empty.

    Message passing on a CPU is up to twice as fast when the arrays of a portion stay in the cache; local potentials
    are evaluated in blocks of atoms anyway, other devices want all at once.
    """
    if potential.local or jax.default_backend() != "cpu":
        return rows[:, None]
    size = max(1, CPU_PORTION // part.bucket.graphs.mask.shape[1])
    padded = np.full((len(rows), -(-rows.shape[1] // size) * size), -1)
    padded[:, : rows.shape[1]] = rows
    return padded.reshape(len(rows), -1, size)


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def _step(facts: _Facts, state: _State, fixed: Params, part: Part, portions: jax.Array) -> tuple[_State, Terms]:
    """One minibatch: the objective per structure, its gradient, the optimiser, the average."""
    found, gradient = summed(partial(_sums, facts))(portions, state.params, fixed, part)
    n = jnp.maximum(found.n_structures, 1)
    gradient = jax.tree.map(lambda g: g / n, gradient)
    updates, optimizer = _optimizer(facts).update(gradient, state.optimizer, state.params, value=found.objective / n)
    params = optax.apply_updates(state.params, updates)
    average = optax.incremental_update(params, state.average, 1 - facts.settings.ema_decay)
    return _State(params, average, optimizer), found


def _sums(facts: _Facts, portions: jax.Array, params: Params, fixed: Params, part: Part) -> tuple[Terms, Params]:
    """Terms and the gradient of their objective, of all structures of some portions."""

    def objective(params: Params, rows: jax.Array) -> tuple[jax.Array, Terms]:
        found = terms(facts.potential, {**params, **fixed}, drawn(part, rows), facts.settings)
        return found.objective, found

    def add(k: Any, total: Any) -> Any:
        (_, found), gradient = jax.value_and_grad(objective, has_aux=True)(params, portions[k])
        return jax.tree.map(jnp.add, total, (found, gradient))

    if len(portions) == 1:
        (_, found), gradient = jax.value_and_grad(objective, has_aux=True)(params, portions[0])
        return found, gradient
    zero = Terms(*(jnp.zeros((), part.bucket.labels.energy.dtype) for _ in Terms._fields))
    n_filled = jnp.sum(jnp.any(portions >= 0, axis=1))  # empty ones come last
    return jax.lax.fori_loop(0, n_filled, add, (zero, jax.tree.map(jnp.zeros_like, params)))
