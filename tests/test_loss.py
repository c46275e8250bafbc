"""The loss of a hand-written training loop is what the trainers minimise, and its batches lose nothing."""

import jax
import numpy as np
import pytest

import jaxmlip
from jaxmlip.fitting import Weights
from jaxmlip.fitting.objective import Example, terms
from jaxmlip.graph import minibatches, stack

WEIGHTS = Weights(energy_weight=10.0, force_weight=2.0, stress_weight=3.0)
EXACT = 1e-12  # float64: sums of some hundred squares


@pytest.fixture(scope="module")
def silicon():
    """Three cells, one without forces, and an untrained potential."""
    cells = jaxmlip.datasets.load("si", split="test")[:3]
    bare = cells[1].copy()
    jaxmlip.data.attach(bare, jaxmlip.data.labels(cells[1])._replace(forces=None))
    cells = [cells[0], bare, cells[2]]
    potential = jaxmlip.build("aenet", species=("Si",), cutoff=3.5, radial_order=2, angular_order=1, hidden=("3:tanh",))
    return cells, jaxmlip.fitting.initial(potential, cells)


def by_hand(model, atoms):
    """L_s of one structure from its prediction."""
    graph = jaxmlip.batch(atoms, model.potential.config)
    found = jaxmlip.predict(model, graph)
    given = jaxmlip.data.labels(atoms)
    energy = 10.0 * (float(found.energy[0]) - given.energy) / len(atoms)
    forces = 0.0 if given.forces is None else 2.0 * (np.asarray(found.forces) - given.forces)
    stress = 3.0 * np.asarray(found.stress[0] - given.stress)[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    return energy**2, np.sum(np.square(forces)), np.sum(stress**2)


def test_loss_of_each_structure_is_the_objective(silicon):
    cells, model = silicon
    (bucket,) = stack(cells, model.potential.config, n_shapes=1)
    (batch,) = minibatches([bucket], size=4, seed=3)  # one of its four structures is empty
    value, found = jaxmlip.loss(model, batch, WEIGHTS)
    whole = terms(model.potential, model.params, Example(batch.graph, batch.labels), WEIGHTS)
    np.testing.assert_allclose(value, whole.objective / 3, rtol=EXACT)
    for row, number in enumerate(batch.index):
        expected = (0, 0, 0) if number < 0 else by_hand(model, cells[number])
        np.testing.assert_allclose([part[row] for part in found], expected, rtol=1e-9, atol=1e-12)  # sums of 10³ pairs


def test_gradient_by_the_model_is_that_of_differences_and_leaves_what_is_fixed(silicon):
    cells, model = silicon
    (bucket,) = stack(cells, model.potential.config, n_shapes=1)
    (batch,) = minibatches([bucket], size=4, seed=0)
    gradient = jax.grad(lambda model: jaxmlip.loss(model, batch, WEIGHTS)[0])(model).params
    fixed = [leaf for name in model.potential.fixed for leaf in jax.tree.leaves(gradient[name])]
    assert fixed
    assert not any(np.any(leaf) for leaf in fixed)

    def moved(by):
        changed = {**model.params, "offsets": model.params["offsets"] + by}
        return float(jaxmlip.loss(jaxmlip.Model(model.potential, changed), batch, WEIGHTS)[0])

    step = 1e-3  # the loss is quadratic in the offsets: central differences are exact but for rounding, 1e-13/1e-3
    np.testing.assert_allclose(gradient["offsets"][0], (moved(step) - moved(-step)) / (2 * step), rtol=1e-8, atol=1e-8)


def test_minibatches_hold_each_structure_once_in_an_order_of_the_seed(silicon):
    cells, model = silicon
    buckets = stack([*cells, *cells], model.potential.config, n_shapes=2)
    orders = [[batch.index.tolist() for batch in minibatches(buckets, size=2, seed=seed)] for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    for order in orders:
        assert sorted(number for rows in order for number in rows if number >= 0) == list(range(6))
    with pytest.raises(ValueError, match="at least 1; got 0"):
        next(minibatches(buckets, size=0, seed=0))
