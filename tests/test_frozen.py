"""Parameter groups in training: what is frozen keeps its bits, the rest moves, and the model is the same."""

import jax
import numpy as np
import pytest

import jaxmlip
from jaxmlip.config import ConfigError
from jaxmlip.fitting import GradientFit
from jaxmlip.fitting.training.frozen import flattened, frozen, thawed
from jaxmlip.potentials.model import Model


@pytest.fixture(scope="module")
def case():
    frames = jaxmlip.datasets.load("mo", split="test")[:3]
    potential = jaxmlip.build("mtp", species=("Mo",), cutoff=3.5, level=4, radial_basis_size=3)
    return Model(potential, potential.init(jax.random.key(0), jaxmlip.batch(frames, potential.config))), frames


def test_a_model_in_groups_has_the_same_energies(case):
    model, frames = case
    parts = frozen(model, ["radial*"])
    graph = jaxmlip.batch(frames, model.potential.config)
    one, other = (jaxmlip.predict(m, graph) for m in (model, parts))
    assert np.array_equal(one.energy, other.energy)
    back = thawed(model.potential, parts.params)
    names = flattened(model.params)
    assert flattened(back.params).keys() == names.keys()
    assert all(np.array_equal(flattened(back.params)[name], names[name]) for name in names)


def test_frozen_parameters_keep_their_bits(case):
    model, frames = case
    settings = GradientFit(epochs=2, batch_size=3, validation_fraction=0.0, dtype="float64", frozen=("radial*",))
    found, _ = jaxmlip.fit(model, frames, settings=settings)
    before, after = flattened(model.params), flattened(found.params)
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved == {"coefficients", "offsets"}
    assert found.potential is model.potential


def test_what_cannot_be_frozen_is_refused(case):
    model, frames = case
    with pytest.raises(ConfigError, match="no parameter is called 'radail'; there are"):
        frozen(model, ["radail"])
    with pytest.raises(ConfigError, match="leave nothing to train"):
        frozen(model, ["*"])
    with pytest.raises(ConfigError, match="give a model to go on from"):
        jaxmlip.fit(model.potential, frames, settings=GradientFit(epochs=1, frozen=("radial*",)))
