"""Iterative fits of a small SNAP potential, whose exact solution is known, and of a small AENET."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmlip
from jaxmlip.config import ConfigError
from jaxmlip.data.labels import Labels, attach
from jaxmlip.evaluate import errors, predict_atoms
from jaxmlip.fitting import GaussNewtonFit, GradientFit, LinearFit, QuasiNewtonFit, read_log
from jaxmlip.fitting.training import gradient, loop
from jaxmlip.fitting.training.gauss_newton import normal_matrix, prepared
from jaxmlip.fitting.training.problem import make_problem
from jaxmlip.potentials.model import Model

WEIGHTS = {"energy_weight": 10.0, "force_weight": 1.0, "stress_weight": 2.0}
GRADIENT = GradientFit(**WEIGHTS, epochs=6, batch_size=3, checkpoint_every=2, dtype="float64", n_shapes=1)
NEWTON = QuasiNewtonFit(**WEIGHTS, epochs=6, checkpoint_every=2, validation_fraction=0.0, n_shapes=1)
MARQUARDT = GaussNewtonFit(**WEIGHTS, epochs=6, checkpoint_every=2, validation_fraction=0.0, n_shapes=1, tolerance=0.0)


@pytest.fixture(scope="module")
def potential():
    return jaxmlip.build("snap", species=("Mo",), cutoff=4.0, twojmax=2)


@pytest.fixture(scope="module")
def frames():
    atoms = sorted(jaxmlip.datasets.load("mo", split="train"), key=len)
    return [frame for frame in atoms if len(frame) > 1][:10]


def objective(model, frames, weights):
    """The sum that all fits minimise, from the errors that users see."""
    total = 0.0
    with jax.enable_x64(True):
        for frame in frames:
            found = jaxmlip.predict(model, jaxmlip.batch(frame, model.potential.config))
            given = jaxmlip.data.labels(frame)
            total += weights.energy_weight**2 * float((found.energy[0] - given.energy) / len(frame)) ** 2
            total += weights.force_weight**2 * float(np.sum((found.forces - given.forces) ** 2))
            if given.stress is not None:
                six = (np.asarray(found.stress[0]) - given.stress)[(0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1)]
                total += weights.stress_weight**2 * float(np.sum(six**2))
    return total


def test_all_methods_minimise_the_same_sum(potential, frames):
    """L-BFGS comes to the least squares of the linear fit: 1e-4 of the sum, where it stopped descending."""
    linear, _ = jaxmlip.fit(potential, frames, settings=LinearFit(**WEIGHTS, ridge=0.0))
    settings = dataclasses.replace(NEWTON, epochs=300)
    newton, history = jaxmlip.fit(potential, frames, settings=settings)
    least = objective(linear, frames, settings)
    assert objective(newton, frames, settings) == pytest.approx(least, rel=1e-4)
    assert history.rows[-1]["train_loss"] * len(frames) == pytest.approx(objective(newton, frames, settings), rel=1e-9)
    found = errors(newton, frames)
    assert history.rows[-1]["train_energy"] == pytest.approx(found["energy"].rmse, rel=1e-9)
    assert history.rows[-1]["train_forces"] == pytest.approx(found["forces"].rmse, rel=1e-9)


def test_minibatches_approach_it(potential, frames):
    settings = dataclasses.replace(GRADIENT, epochs=60, learning_rate=0.02, validation_fraction=0.0, ema_decay=0.9)
    model, history = jaxmlip.fit(potential, frames, settings=settings)
    assert history.rows[-1]["train_loss"] < 0.5 * history.rows[0]["train_loss"]
    assert history.summary["best_epoch"] == 60  # without validation the last one counts
    assert model.params["coefficients"].dtype == np.float64
    again, _ = jaxmlip.fit(potential, frames, settings=settings)
    np.testing.assert_array_equal(model.params["coefficients"], again.params["coefficients"])


@pytest.mark.parametrize("dense_limit", [400, 0])
def test_levenberg_marquardt_solves_a_linear_fit_at_once(potential, frames, dense_limit):
    """1e-9 of the sum with the matrix; 1e-6 with conjugate gradients, which stop at a residual of 1e-4."""
    linear, _ = jaxmlip.fit(potential, frames, settings=LinearFit(**WEIGHTS, ridge=0.0))
    settings = dataclasses.replace(MARQUARDT, dense_limit=dense_limit, epochs=1 if dense_limit else 3, cg_steps=200)
    model, history = jaxmlip.fit(potential, frames, settings=settings)
    least = objective(linear, frames, settings)
    assert objective(model, frames, settings) == pytest.approx(least, rel=1e-9 if dense_limit else 1e-6)
    assert history.rows[0]["gain"] == pytest.approx(1.0, rel=1e-3)


def test_variable_projection_fits_moment_tensors(frames):
    """What is not linear is found too: labels made with other radial functions are reached to a thousandth."""
    potential = jaxmlip.build("mtp", species=("Mo",), level=4, cutoff=4.0, min_dist=2.0, radial_basis_size=3)
    rng = np.random.default_rng(0)
    truth = jax.tree.map(lambda x: rng.normal(size=x.shape), potential.init(None))
    made = [frame.copy() for frame in frames]
    for frame, *found in zip(made, *predict_atoms(Model(potential, truth), made)[:3], strict=True):
        attach(frame, Labels(*found))
    settings = dataclasses.replace(MARQUARDT, epochs=30, stress_weight=0.0)
    _, history = jaxmlip.fit(potential, made, settings=settings)
    spread = np.std(np.concatenate([frame.get_forces().ravel() for frame in made]))
    assert history.rows[-1]["train_forces"] < 1e-3 * spread
    held = dataclasses.replace(settings, epochs=3, prior=1e6)
    start = Model(
        potential, {**potential.init(jax.random.key(1)), "coefficients": np.ones(potential.config.n_features)}
    )
    model, _ = jaxmlip.fit(start, made, settings=held)
    np.testing.assert_allclose(model.params["radial"], start.params["radial"], rtol=1e-2)


def test_the_normal_matrix_of_moment_tensors_is_that_of_plain_tangents():
    """The structure of the density and forward derivatives of everything: float64, 1e-12 of the largest entry."""
    frames = jaxmlip.datasets.load("ldr")[:2]
    species = tuple(np.unique(np.concatenate([frame.numbers for frame in frames])).tolist())
    assert len(species) > 2
    potential = jaxmlip.build("mtp", species=species, level=6, cutoff=4.0, min_dist=1.6, radial_basis_size=2)
    plain = potential._replace(stages=potential.stages._replace(inner=None))
    found = []
    for one in (potential, plain):
        with loop.precision("float64"):
            problem = make_problem(one, frames, [], MARQUARDT)
            rng = np.random.default_rng(0)
            params = jax.tree.map(lambda x, rng=rng: jnp.asarray(rng.normal(size=x.shape)), problem.params)
            facts, trained, data = prepared(problem._replace(params=params))
            found.append(normal_matrix(facts, trained, data, np.arange(len(data.linear))))
    (matrix, slope), (expected, expected_slope) = found
    np.testing.assert_allclose(matrix, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
    np.testing.assert_allclose(slope, expected_slope, rtol=0, atol=1e-12 * np.abs(expected_slope).max())


@pytest.mark.parametrize("settings", [GRADIENT, NEWTON, MARQUARDT], ids=["gradient", "quasi-newton", "gauss-newton"])
def test_a_killed_run_goes_on_and_ends_in_the_same_bits(potential, frames, settings, tmp_path, monkeypatch):
    if settings is MARQUARDT:  # one step would do for a linear potential
        potential = jaxmlip.build("mtp", species=("Mo",), level=4, cutoff=4.0, min_dist=2.0, radial_basis_size=3)
    whole, history = jaxmlip.fit(potential, frames, settings=settings, folder=tmp_path / "whole")
    append = loop.append_log

    def killed(path, row):
        append(path, row)
        if row["epoch"] == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "append_log", killed)
    with pytest.raises(KeyboardInterrupt):
        jaxmlip.fit(potential, frames, settings=settings, folder=tmp_path / "killed")
    monkeypatch.setattr(loop, "append_log", append)
    other = dataclasses.replace(settings, checkpoint_every=7)  # how often it is saved does not count
    resumed, after = jaxmlip.fit(potential, frames, settings=other, folder=tmp_path / "killed")
    for name in whole.params:
        np.testing.assert_array_equal(whole.params[name], resumed.params[name])
    without_time = [[{k: v for k, v in row.items() if "seconds" not in k} for row in h.rows] for h in (history, after)]
    assert without_time[0] == without_time[1]
    logged = read_log(tmp_path / "killed" / "log.jsonl")
    assert logged == after.rows
    assert [row["epoch"] for row in logged] == [1, 2, 3, 4, 5, 6]
    finished, _ = jaxmlip.fit(potential, frames, settings=settings, folder=tmp_path / "killed")
    np.testing.assert_array_equal(finished.params["offsets"], whole.params["offsets"])


def test_a_checkpoint_of_another_run_is_refused(potential, frames, tmp_path):
    settings = dataclasses.replace(NEWTON, epochs=1)
    jaxmlip.fit(potential, frames, settings=settings, folder=tmp_path)
    with pytest.raises(ValueError, match="belongs to a run with other data"):
        jaxmlip.fit(potential, frames[:-1], settings=settings, folder=tmp_path)
    (tmp_path / "checkpoint.msgpack").write_bytes(b"half")
    with pytest.raises(ValueError, match="is damaged"):
        jaxmlip.fit(potential, frames, settings=settings, folder=tmp_path)


def test_a_log_line_that_a_kill_cut_off_is_left_out(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps({"epoch": 1}) + "\n" + '{"epo')
    assert read_log(path) == [{"epoch": 1}]


def test_it_stops_where_validation_does_not_improve(potential, frames):
    settings = dataclasses.replace(GRADIENT, epochs=50, learning_rate=3.0, clip_norm=None, patience=3, ema_decay=0.0)
    model, history = jaxmlip.fit(potential, frames[:-2], settings=settings, validation=frames[-2:])
    summary = history.summary
    assert summary["epochs"] == summary["best_epoch"] + 3 < 50
    assert (summary["n_train"], summary["n_validation"]) == (8, 2)
    best = history.rows[summary["best_epoch"] - 1]
    assert errors(model, frames[-2:])["energy"].rmse == pytest.approx(best["validation_energy"], rel=1e-9)


def test_weight_decay_shrinks_weights_and_no_offsets(potential, frames):
    settings = dataclasses.replace(GRADIENT, epochs=3, optimizer="adamw")
    free, _ = jaxmlip.fit(potential, frames, settings=settings)
    held, _ = jaxmlip.fit(potential, frames, settings=dataclasses.replace(settings, weight_decay=100.0))
    size = [float(np.linalg.norm(model.params["coefficients"])) for model in (free, held)]
    assert size[1] < 0.9 * size[0]
    assert held.params["offsets"] == pytest.approx(free.params["offsets"], abs=0.05)


def test_a_plateau_halves_the_learning_rate(potential):
    """A loss that stays the same: steps of Adam on a constant gradient have the learning rate's size."""
    settings = GradientFit(schedule="plateau", plateau_epochs=2, learning_rate=0.5)
    optimizer = gradient._optimizer(settings, 1)
    params = {"x": jnp.ones(1)}
    state, sizes = optimizer.init(params), []
    with loop.precision("float64"):
        for _ in range(8):
            updates, state = optimizer.update(params, state, params, value=1.0)
            sizes.append(float(-updates["x"][0]))
    assert sizes[0] == pytest.approx(0.5, rel=1e-6)
    assert sizes[-1] < 0.26


def test_a_model_is_a_start(potential, frames):
    linear, _ = jaxmlip.fit(potential, frames, settings=LinearFit(**WEIGHTS, ridge=0.0))
    _, history = jaxmlip.fit(linear, frames, settings=dataclasses.replace(NEWTON, epochs=1))
    assert history.rows[0]["train_loss"] * len(frames) == pytest.approx(objective(linear, frames, NEWTON), rel=1e-6)


def test_offsets_of_a_model_follow_the_data(frames):
    """Fine-tuning on another energy scale: one energy per element is taken up at once, everything else is kept."""
    mixed = [frame.copy() for frame in frames]
    shift = {"Mo": 0.7, "W": -1.3}
    for k, (old, new) in enumerate(zip(frames, mixed, strict=True)):
        new.symbols[: k % len(new)] = "W"
        attach(new, jaxmlip.data.labels(old))
    potential = jaxmlip.build("snap", species=("Mo", "W"), cutoff=4.0, twojmax=2)
    before, _ = jaxmlip.fit(potential, mixed, settings=LinearFit(**WEIGHTS, ridge=0.0))
    moved = [frame.copy() for frame in mixed]
    for old, new in zip(mixed, moved, strict=True):
        given = jaxmlip.data.labels(old)
        attach(new, given._replace(energy=given.energy + sum(shift[symbol] for symbol in old.symbols)))
    gentle = dataclasses.replace(GRADIENT, epochs=1, learning_rate=1e-12, validation_fraction=0.0)
    after, _ = jaxmlip.fit(before, moved, settings=gentle)
    change = after.params["offsets"] - before.params["offsets"]
    np.testing.assert_allclose(change, [shift["Mo"], shift["W"]], atol=1e-8)
    np.testing.assert_allclose(after.params["coefficients"], before.params["coefficients"], atol=1e-9)
    kept, _ = jaxmlip.fit(before, moved, settings=dataclasses.replace(gentle, offsets="keep"))
    np.testing.assert_allclose(kept.params["offsets"], before.params["offsets"], atol=1e-9)


@pytest.mark.parametrize(("given", "dtype"), [("float64", "float32"), ("float32", "float64")])
def test_a_model_of_another_precision_is_a_start(potential, frames, given, dtype):
    params = jax.tree.map(lambda x: jnp.asarray(x, given), potential.init(jax.random.key(0)))
    settings = dataclasses.replace(NEWTON, epochs=1, validation_fraction=0.0, dtype=dtype)
    same = jax.tree.map(lambda x: np.asarray(x, "float32").astype("float64"), params)
    first, second = (jaxmlip.fit(Model(potential, one), frames, settings=settings)[0] for one in (params, same))
    jax.tree.map(np.testing.assert_array_equal, first.params, second.params)


def test_divergence_is_an_error(potential, frames):
    wild = Model(potential, {"offsets": np.array([np.inf]), "coefficients": np.zeros((1, 5))})
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        jaxmlip.fit(wild, frames, settings=GRADIENT)


def test_settings_that_mean_nothing():
    for wrong in ({"epochs": 0}, {"learning_rate": -1.0}, {"weight_decay": 0.1}, {"validation_fraction": 1.0}):
        with pytest.raises(ConfigError):
            GradientFit(**wrong)
    with pytest.raises(ConfigError):
        QuasiNewtonFit(memory=0)
    with pytest.raises(ConfigError):
        GaussNewtonFit(prior=-1.0)
    with pytest.raises(TypeError, match="GradientFit"):
        jaxmlip.fit(jaxmlip.build("snap", species=("Mo",), cutoff=4.0, twojmax=0), [], settings=3)


def test_kept_descriptors_change_nothing(frames):
    """float64: the same operations, 1e-10 over a few steps of amplified rounding."""
    potential = jaxmlip.build("aenet", species=("Mo",), cutoff=4.0, radial_order=4, angular_order=2, hidden=("4:tanh",))
    settings = QuasiNewtonFit(energy_weight=10.0, force_weight=0.0, epochs=4, n_shapes=1)
    kept, _ = jaxmlip.fit(potential, frames, settings=settings)
    whole, _ = jaxmlip.fit(potential._replace(stages=None), frames, settings=settings)
    np.testing.assert_allclose(kept.params["networks"]["W0"], whole.params["networks"]["W0"], rtol=1e-8)
    for name in potential.fixed:
        for a, b in zip(jax.tree.leaves(kept.params[name]), jax.tree.leaves(whole.params[name]), strict=True):
            np.testing.assert_array_equal(a, b)
