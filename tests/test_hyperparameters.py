"""Derivatives by settings: what rebuilding the potential with other settings gives, by differences."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk
from families import SETTINGS, SPECIES, model, rocksalt

import jaxmlip
from jaxmlip.cathodes import property_gradient
from jaxmlip.config import ConfigError
from jaxmlip.potentials import trainable
from jaxmlip.potentials.hyperparameters import params_as_settings, settings_as_params
from jaxmlip.potentials.model import predict_energy
from jaxmlip.simulate import relax

STEP = 1e-4


@pytest.fixture(scope="module")
def atoms():
    return rocksalt()


def error(model, graph):
    """Of energy and forces against zero: any function will do."""
    found = jaxmlip.predict(model, graph)
    return jnp.mean(found.forces**2) + found.energy[0]


@pytest.mark.parametrize("family", trainable())
def test_derivative_of_an_error_by_every_continuous_setting(family, atoms):
    names = [name for name, x in SETTINGS[family].items() if np.asarray(x).dtype == float]
    potential = model(family).potential
    opened = settings_as_params(model(family), *names)
    graph = jaxmlip.batch(atoms, potential.config)
    value_and_slope = jax.jit(jax.value_and_grad(error))
    value, slope = value_and_slope(opened, graph)

    def at(name, place, step):
        changed = np.array(opened.params["settings"][name])
        changed[place] += step
        values = opened.params["settings"] | {name: changed}
        return float(value_and_slope(jaxmlip.Model(opened.potential, opened.params | {"settings": values}), graph)[0])

    for name in names:
        found = np.asarray(slope.params["settings"][name])
        place = found.ndim * (1,)  # of numbers for elements, manganese's
        step = STEP if "cutoff" not in name else -STEP
        values = [at(name, place, k * step) for k in range(3)]  # no farther than the cutoff
        expected = (4 * values[1] - 3 * values[0] - values[2]) / (2 * step)
        # differences of second order: 1e-8 of a third derivative, which is large of cutoffs and radii
        assert found[place] == pytest.approx(expected, rel=1e-4, abs=1e-6 * abs(float(value))), name
        assert abs(expected) > 1e-5 * abs(value), f"{name} does nothing here"
    rng = np.random.default_rng(0)
    moved = {name: x * rng.uniform(0.9, 1, x.shape) for name, x in opened.params["settings"].items()}
    other = jaxmlip.Model(opened.potential, opened.params | {"settings": moved})
    rebuilt = params_as_settings(other)
    assert rebuilt.potential.config != potential.config
    found, expected = (predict_energy(one, graph)[0] for one in (other, rebuilt))
    assert found == pytest.approx(float(expected), rel=1e-10)


def test_derivative_of_a_relaxed_volume():
    potential = jaxmlip.build("snap", species=("Mo",), cutoff=4.0, twojmax=2)
    fitted, _ = jaxmlip.fit(potential, jaxmlip.datasets.load("mo", split="test")[:6])
    opened = settings_as_params(fitted, "cutoff")

    def relaxed(cutoff):
        changed = opened.params | {"settings": {"cutoff": np.array(cutoff)}}
        return relax(jaxmlip.Model(opened.potential, changed), bulk("Mo"), fmax=1e-9, smax=1e-11).atoms

    volume, slope = property_gradient(opened, relaxed(4.0), lambda cell: jnp.abs(jnp.linalg.det(cell.cell)))
    ends = [relaxed(4.0 - k * 1e-3).get_volume() for k in range(3)]
    assert volume == pytest.approx(ends[0])
    assert slope["settings"]["cutoff"] == pytest.approx((3 * ends[0] - 4 * ends[1] + ends[2]) / 2e-3, rel=1e-4)


def test_files_hold_the_settings_that_the_params_have(tmp_path, atoms):
    potential = jaxmlip.build("snap", species=SPECIES, **SETTINGS["snap"])
    opened = settings_as_params(jaxmlip.Model(potential, potential.init(None, None)), "weights", "rfac0")
    changed = opened.params | {"settings": {"weights": np.array([0.8, 1.0, 0.25]), "rfac0": np.array(0.97)}}
    jaxmlip.save(jaxmlip.Model(opened.potential, changed), tmp_path / "model.npz")
    loaded = jaxmlip.load(tmp_path / "model.npz")
    assert loaded.potential.config == dataclasses.replace(potential.config, weights=(0.8, 1.0, 0.25), rfac0=0.97)
    assert "settings" not in loaded.params
    assert params_as_settings(loaded) is loaded


def test_what_has_no_derivative_is_refused(atoms):
    potential = jaxmlip.build("snap", species=SPECIES, cutoff=3.2, twojmax=2)
    blank = jaxmlip.Model(potential, potential.init(None, None))
    with pytest.raises(ConfigError, match="unknown continuous setting 'twojmax'"):
        settings_as_params(blank, "twojmax")
    with pytest.raises(ConfigError, match="weights is None"):
        settings_as_params(blank, "weights")
    opened = settings_as_params(blank, "cutoff")
    farther = jaxmlip.Model(opened.potential, opened.params | {"settings": {"cutoff": jnp.asarray(3.5)}})
    assert jnp.isnan(jaxmlip.predict(farther, jaxmlip.batch(atoms, potential.config)).energy[0])
    gap = jaxmlip.build("gap", species=SPECIES, **SETTINGS["gap"])
    graph = jaxmlip.batch(atoms, gap.config, dtype="float32")
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), gap.init(jax.random.key(0), None))
    narrow = settings_as_params(jaxmlip.Model(gap, params), "sigma_atom")
    with pytest.raises(TypeError, match="need float64"):
        jaxmlip.predict(narrow, graph)
