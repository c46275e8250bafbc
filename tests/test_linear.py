"""Linear fits: they find the coefficients that made the labels, weigh as documented, and refuse bad labels."""

import jax
import numpy as np
import pytest

import jaxmlip
from jaxmlip.config import ConfigError
from jaxmlip.data import attach, labels
from jaxmlip.data.labels import Labels
from jaxmlip.evaluate import errors, predict_atoms
from jaxmlip.fitting import LinearFit
from jaxmlip.study.published import ATOMIC_ENERGIES

SMALL = {"species": ("Mo",), "cutoff": 4.0}


@pytest.fixture(scope="module")
def frames():
    return jaxmlip.datasets.load("mo", split="test")[:12]


def relabelled(frames, model, **missing):
    """Copies whose labels are the model's predictions."""
    found = predict_atoms(model, frames)
    result = []
    for frame, energy, forces, stress in zip(frames, *found[:3]):
        copy = frame.copy()
        attach(copy, Labels(energy, forces, stress)._replace(**missing))
        result.append(copy)
    return result


@pytest.mark.parametrize(("family", "twojmax"), [("snap", 4), ("qsnap", 2)])
@pytest.mark.parametrize("stress_weight", [0.0, 100.0])
def test_recovers_the_coefficients_that_made_the_labels(frames, family, twojmax, stress_weight):
    """1e-6 relative: the condition number of these columns is about 1e6 and rounding 1e-16."""
    potential = jaxmlip.build(family, twojmax=twojmax, **SMALL)
    rng = np.random.default_rng(0)
    truth = {"offsets": np.array([-9.0]), "coefficients": rng.normal(size=(1, potential.config.n_features)) / 100}
    data = relabelled(frames, jaxmlip.Model(potential, truth))
    settings = LinearFit(ridge=0.0, stress_weight=stress_weight)
    model, history = jaxmlip.fit(potential, data, settings=settings)
    size = np.abs(truth["coefficients"]).max()
    np.testing.assert_allclose(model.params["coefficients"], truth["coefficients"], rtol=0, atol=1e-6 * size)
    assert history.summary["condition_number"] > 1
    n_atoms = sum(map(len, frames))
    assert history.summary["n_rows"] == len(frames) * (7 if stress_weight else 1) + 3 * n_atoms


def test_mo_reaches_lammps_and_lstsq():
    """LAMMPS compute snap + lstsq, energy weight 100, twojmax 6, R 4.615858: test 12.0 meV/atom | 0.317 eV/Å (±1 %)."""
    potential = jaxmlip.build("snap", species=("Mo",), cutoff=4.615858, twojmax=6)
    model, _ = jaxmlip.fit(potential, jaxmlip.datasets.load("mo", split="train"), settings=LinearFit(ridge=0.0))
    table = errors(model, jaxmlip.datasets.load("mo", split="test"))
    assert table["energy"].rmse == pytest.approx(0.0120, rel=0.01)
    assert table["forces"].rmse == pytest.approx(0.317, rel=0.01)


def test_cross_validated_ridge_and_its_record(frames):
    potential = jaxmlip.build("snap", twojmax=4, **SMALL)
    rows = []
    settings = LinearFit(ridge="folds", n_folds=3)
    _, history = jaxmlip.fit(potential, frames, settings=settings, show_progress=rows.append)
    assert [row["step"] for row in rows] == list(range(1, rows[0]["n_steps"] + 1))
    scores = {row["ridge"]: row["score"] for row in history.rows}
    assert scores[history.summary["ridge"]] <= 1.001 * min(scores.values())


def test_order_of_structures_does_not_matter(frames):
    """Sums in another order: 1e-8 relative at condition numbers of 1e4."""
    potential = jaxmlip.build("snap", twojmax=2, **SMALL)
    first, _ = jaxmlip.fit(potential, frames, settings=LinearFit(ridge=1e-6))
    second, _ = jaxmlip.fit(potential, frames[::-1], settings=LinearFit(ridge=1e-6))
    np.testing.assert_allclose(first.params["coefficients"], second.params["coefficients"], rtol=1e-8)


def test_a_group_of_weight_zero_is_not_there(frames):
    potential = jaxmlip.build("snap", twojmax=2, **SMALL)
    copies = [frame.copy() for frame in frames]
    for k, (copy, frame) in enumerate(zip(copies, frames)):
        copy.info["kind"] = "good" if k < 8 else "bad"
        attach(copy, labels(frame))
    settings = LinearFit(ridge=1e-6, group_key="kind", group_weights={"bad": 0.0})
    weighted, _ = jaxmlip.fit(potential, copies, settings=settings)
    alone, _ = jaxmlip.fit(potential, copies[:8], settings=LinearFit(ridge=1e-6))
    np.testing.assert_allclose(weighted.params["coefficients"], alone.params["coefficients"], rtol=1e-8)
    with pytest.raises(ValueError, match="did you mean 'bad'"):
        jaxmlip.fit(potential, copies, settings=LinearFit(group_key="kind", group_weights={"bda": 0.0}))


def test_given_offsets_are_kept():
    potential = jaxmlip.build("snap", species=("Li", "O", *range(21, 30)), cutoff=3.0, twojmax=1)
    data = jaxmlip.datasets.load("ldr")[:20]
    model, _ = jaxmlip.fit(potential, data, settings=LinearFit(offsets=ATOMIC_ENERGIES, ridge=1e-4))
    assert model.params["offsets"][:2].tolist() == [-0.3, -1.7]
    again, _ = jaxmlip.fit(model, data[:5], settings=LinearFit(offsets="keep", ridge=1e-4))
    assert again.params["offsets"].tolist() == model.params["offsets"].tolist()
    with pytest.raises(ConfigError, match="no energy for O, Sc"):
        jaxmlip.fit(potential, data, settings=LinearFit(offsets={"Li": -0.3}))


@pytest.mark.parametrize("label", ["energy", "forces"])
def test_nan_labels_are_refused(frames, label):
    potential = jaxmlip.build("snap", twojmax=2, **SMALL)
    bad = frames[0].copy()
    given = labels(frames[0])
    attach(bad, given._replace(**{label: getattr(given, label) * np.nan}))
    with pytest.raises(ValueError, match=rf"structure 1 .*{label}.*jaxmlip audit"):
        jaxmlip.fit(potential, [frames[1], bad])


def test_missing_labels(frames):
    potential = jaxmlip.build("snap", twojmax=2, **SMALL)
    with pytest.raises(ValueError, match="no structure has a label"):
        jaxmlip.fit(potential, [frame.copy() for frame in frames])
    with pytest.raises(ValueError, match="no structures"):
        jaxmlip.fit(potential, [])


def test_settings_that_cannot_be_minimised():
    with pytest.raises(ValueError, match="expected float ≥ 0"):
        LinearFit(energy_weight=-1.0)
    with pytest.raises(ValueError, match="all zero"):
        LinearFit(energy_weight=0.0, force_weight=0.0)


def test_single_precision_after_double(frames):
    """Cached tables must not carry one precision into the other."""
    potential = jaxmlip.build("snap", twojmax=1, **SMALL)
    for dtype, enabled in ((np.float64, True), (np.float32, False)):
        with jax.enable_x64(enabled):
            graph = jaxmlip.batch(frames[0], potential.config)
            params = jax.tree.map(np.asarray, potential.init(None, None))
            assert jaxmlip.predict(jaxmlip.Model(potential, params), graph).forces.dtype == dtype
