"""Members of a committee, trained by minibatches side by side in one program."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import ase
import jax
import jax.numpy as jnp
import numpy as np

from jaxmlip.fitting.committee import Folds
from jaxmlip.fitting.history import History
from jaxmlip.fitting.objective import Terms, check_labels
from jaxmlip.fitting.training.gradient import gradient_states
from jaxmlip.fitting.training.loop import precision
from jaxmlip.fitting.training.problem import initial_params, make_problem, split_params
from jaxmlip.potentials.base import Potential, cast_params
from jaxmlip.potentials.model import Model


def train_members(
    start: Potential | Model, atoms: Sequence[ase.Atoms], settings: Any, folds: Folds
) -> tuple[Model, History]:
    """Members by `GradientFit` settings, from initial parameters and in orders of their own, in one compiled program.

    The last epoch counts: nothing is held out for validation, and there is no checkpoint.

    Args:
        start: a potential; of a model all members start from its parameters.
        atoms: structures with labels.
        settings: `GradientFit`.
        folds: what each member does not see.

    Raises:
        ValueError: data that cannot be fitted (`jaxmlip.fit`).
        FloatingPointError: a member diverged.
    """
    started = time.perf_counter()
    check_labels(atoms, settings)
    seeds = [settings.seed + k for k in range(folds.number)]
    with precision(settings.dtype):
        problem = make_problem(start, atoms, [], settings)
        members = [problem.params for _ in seeds]
        if isinstance(start, Potential):
            members = [initial_params(start, atoms, dataclasses.replace(settings, seed=seed)) for seed in seeds]
        params = jax.tree.map(lambda *x: jnp.stack(x), *[cast_params(one, settings.dtype) for one in members])
        trained, fixed = split_params(problem.potential, params)
        rows = []
        states = gradient_states(problem, trained, fixed, seeds, folds.fold_of)
        for number, (state, sums) in enumerate(states, start=1):
            trained = state
            rows.append({"epoch": number, **_losses(sums)})
        found = jax.tree.map(lambda x: np.asarray(x, np.float64), {**params, **trained})
    summary = {"epochs": len(rows), "seconds": time.perf_counter() - started}
    return Model(problem.potential, found), History(summary, rows)


def _losses(sums: list[Terms]) -> dict[str, float]:
    """Mean and standard deviation of the members' loss a structure.

    Raises:
        FloatingPointError: one is not finite.
    """
    losses = sum(np.asarray(x.objective) for x in sums) / sum(np.asarray(x.n_structures) for x in sums)
    if not np.isfinite(losses).all():
        raise FloatingPointError(
            f"members {np.flatnonzero(~np.isfinite(losses)).tolist()} diverged: lower learning_rate"
        )
    return {"train_loss": float(np.mean(losses)), "train_loss_spread": float(np.std(losses))}
