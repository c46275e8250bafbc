"""Committees: how far several models disagree tells where the data leave the potential open.

The models of a committee are one `Model` whose parameters have a first axis [n_members], as
``jax.vmap(potential.init)`` makes them.

References:
    Behler, Int. J. Quantum Chem. 115, 1032 (2015), section on the reliability of predictions.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jaxmlip.data.structures import unlabelled
from jaxmlip.graph.batch import Graph, batches
from jaxmlip.potentials.base import cast_params
from jaxmlip.potentials.model import Model, Prediction, predict


class Folds(NamedTuple):
    """Parts of the data: member k of a committee does not see fold k."""

    number: int
    """As many as members."""
    fold_of: Int[np.ndarray, " n_structures"]
    """Of each structure; −1: in none, all members see it."""


class Committee(NamedTuple):
    """Means over the members and their standard deviations, one entry a structure."""

    energy: Float[np.ndarray, " n_structures"]  # eV
    energy_spread: Float[np.ndarray, " n_structures"]  # eV
    forces: list[Float[np.ndarray, "_ 3"]]  # eV/Å
    forces_spread: list[Float[np.ndarray, "_ 3"]]  # eV/Å


def random_folds(n_structures: int, number: int, seed: int) -> Folds:
    """Each structure in one fold, drawn at random; all folds of about one size.

    >>> sorted(random_folds(5, 2, 0).fold_of.tolist())
    [0, 0, 0, 1, 1]
    """
    return Folds(number, np.random.default_rng([seed, n_structures]).permutation(n_structures) % number)


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
