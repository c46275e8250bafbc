"""A committee: one potential from several initial parameters, trained side by side in one program.

Members differ by their initial weights and by the order in which they see the data; how far they disagree tells where
the data leave the potential open. The models of a committee are one `Model` whose parameters have a first axis
[n_members], as ``jax.vmap(potential.init)`` makes them.

References:
    Behler, Int. J. Quantum Chem. 115, 1032 (2015), section on the reliability of predictions.
"""

import dataclasses
import time
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxmlip.data.structures import frames_of, unlabelled
from jaxmlip.fitting.history import History
from jaxmlip.fitting.objective import Terms, check_labels
from jaxmlip.fitting.training.gradient import GradientFit, gradient_states
from jaxmlip.fitting.training.loop import precision
from jaxmlip.fitting.training.problem import initial_params, make_problem, split_params
from jaxmlip.graph.batch import Graph, batches
from jaxmlip.potentials.base import Potential, cast_params
from jaxmlip.potentials.model import Model, Prediction, predict


class Committee(NamedTuple):
    """Means over the members and their standard deviations, one entry a structure."""

    energy: Float[np.ndarray, " n_structures"]  # eV
    energy_spread: Float[np.ndarray, " n_structures"]  # eV
    forces: list[Float[np.ndarray, "_ 3"]]  # eV/Å
    forces_spread: list[Float[np.ndarray, "_ 3"]]  # eV/Å


def fit_committee(
    potential: Potential, structures: Any, *, n_members: int = 4, settings: GradientFit | None = None
) -> tuple[Model, History]:
    """Train ``n_members`` of a potential on the labels of ``structures``, all in one compiled program.

    The last epoch counts: no structures are held out, and there is no checkpoint.

    >>> import jaxmlip
    >>> potential = jaxmlip.build("snap", species=("Mo",), cutoff=4.0, twojmax=2)
    >>> frames = jaxmlip.datasets.load("mo", split="test")[:3]
    >>> models, _ = fit_committee(potential, frames, n_members=2, settings=GradientFit(epochs=2))
    >>> models.params["coefficients"].shape
    (2, 1, 5)

    Raises:
        ValueError: fewer than two members, or data that cannot be fitted (`jaxmlip.fit`).
        FloatingPointError: a member diverged.
    """
    settings = settings or GradientFit()
    if n_members < 2:
        raise ValueError(f"a committee has at least two members, got n_members={n_members}")
    started, frames = time.perf_counter(), frames_of(structures)
    check_labels(frames, settings)
    seeds = [settings.seed + k for k in range(n_members)]
    with precision(settings.dtype):
        problem = make_problem(potential, frames, [], settings)
        members = [initial_params(potential, frames, dataclasses.replace(settings, seed=seed)) for seed in seeds]
        params = jax.tree.map(lambda *x: jnp.stack(x), *[cast_params(one, settings.dtype) for one in members])
        trained, fixed = split_params(potential, params)
        rows = []
        for number, (state, sums) in enumerate(gradient_states(problem, trained, fixed, seeds), start=1):
            trained = state
            rows.append({"epoch": number, **_losses(sums)})
        found = jax.tree.map(lambda x: np.asarray(x, np.float64), {**params, **trained})
    return Model(potential, found), History({"epochs": len(rows), "seconds": time.perf_counter() - started}, rows)


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


def predict_committee(models: Model, structures: Any) -> Committee:
    """Mean and spread of energies and forces of a committee, in float64.

    >>> import jaxmlip
    >>> potential = jaxmlip.build("aenet", species=("Mo",), cutoff=4.0, hidden=("2:tanh",))
    >>> models = Model(potential, jax.vmap(potential.init)(jax.random.split(jax.random.key(0), 3)))
    >>> found = predict_committee(models, jaxmlip.datasets.load("mo", split="test")[:2])
    >>> found.forces_spread[0].shape == found.forces[0].shape, bool(found.energy_spread[0] > 0)
    (True, True)
    """
    frames = unlabelled(structures)
    n: Any = [None] * len(frames)
    found = Committee(np.zeros(len(frames)), np.zeros(len(frames)), list(n), list(n))
    with jax.enable_x64(True):
        models = Model(models.potential, cast_params(models.params, "float64"))
        for one in batches(frames, models.potential.config):
            mean, spread = jax.device_get(_mean_and_spread(models, one.graph))
            for index, slot, mine in one.members():
                found.energy[index], found.energy_spread[index] = mean.energy[slot], spread.energy[slot]
                found.forces[index], found.forces_spread[index] = mean.forces[mine], spread.forces[mine]
    return found


@jax.jit
def _mean_and_spread(models: Model, graph: Graph) -> tuple[Prediction, Prediction]:
    each = jax.vmap(predict, in_axes=(0, None))(models, graph)

    def over(function: Any) -> Prediction:
        return jax.tree.map(partial(function, axis=0), each)

    return over(jnp.mean), over(jnp.std)
