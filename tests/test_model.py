"""A model as Python users meet it: a pytree, callable, picklable, and every transformation of JAX on every family."""

import dataclasses
import pickle
import re
import subprocess
import sys

import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from families import model, rocksalt
from pymatgen.io.ase import AseAtomsAdaptor

import jaxmlip
from jaxmlip.config import ConfigError
from jaxmlip.data.labels import Labels, attach, labels
from jaxmlip.data.structures import frames_of
from jaxmlip.fitting import GradientFit, LinearFit, fit_committee, predict_committee
from jaxmlip.fitting.committee import random_folds
from jaxmlip.fitting.training.problem import initial_params
from jaxmlip.potentials import Model, descriptors, trainable
from jaxmlip.potentials.hyperparameters import settings_as_params
from jaxmlip.potentials.message_passing import convolution

PAIR = Atoms("LiMnO", [[0, 0, 0], [0.2, 0.1, 1.9], [1.7, 0.4, 0.3]])


@jax.jit
def transformed(model, graph, along):
    """Energy, its gradient, Hessian, forward derivative, and energies of two structures at once."""

    def energy(positions):
        return jaxmlip.predict(model, graph._replace(positions=positions)).energy[0]

    x = graph.positions
    both = jax.vmap(energy)(jnp.stack([x, x + 0.01 * along]))
    return energy(x), jax.grad(energy)(x), jax.hessian(energy)(x), jax.jvp(energy, (x,), (along,))[1], both


def check_transformations(one, graph):
    """Hessian times a direction against a difference of gradients: second order, 1e-8 of a third derivative."""
    along = jnp.asarray(np.random.default_rng(0).normal(size=graph.positions.shape))
    energy, gradient, hessian, slope, both = transformed(one, graph, along)
    found = jaxmlip.predict(one, graph)
    scale = float(jnp.abs(gradient).max())
    np.testing.assert_allclose(gradient, -found.forces, rtol=0, atol=1e-11 * scale)
    assert slope == pytest.approx(float(jnp.vdot(gradient, along)), abs=1e-11 * scale)
    assert both[0] == pytest.approx(float(energy), abs=1e-12 * abs(float(energy)) + 1e-12)
    moved = [graph._replace(positions=graph.positions + h * along) for h in (1e-4, -1e-4)]
    forces = [jaxmlip.predict(one, g).forces for g in moved]
    expected = -(forces[0] - forces[1]) / 2e-4
    product = jnp.einsum("axby,by->ax", hessian, along)
    np.testing.assert_allclose(product, expected, rtol=0, atol=1e-5 * float(jnp.abs(expected).max()))


@pytest.mark.parametrize("family", trainable())
def test_every_transformation_of_predict_and_init(family):
    one = model(family)
    potential, graph = one.potential, jaxmlip.batch(PAIR, one.potential.config)
    check_transformations(one, graph)
    keys = jax.random.split(jax.random.key(0), 2)
    several = Model(potential, jax.vmap(potential.init)(keys))
    alone = [potential.init(key, None) for key in keys]
    for leaf, *expected in zip(*map(jax.tree.leaves, (several.params, *alone)), strict=True):
        np.testing.assert_array_equal(leaf, jnp.stack(expected))
    energies = jax.vmap(jaxmlip.predict, in_axes=(0, None))(several, graph).energy
    assert energies.shape == (2, 1)
    shapes = jax.eval_shape(potential.init, keys[0], graph)
    assert jax.tree.structure(shapes) == jax.tree.structure(alone[0])
    assert jax.eval_shape(jaxmlip.predict, one, graph).forces.shape == (3, 3)
    slope = jax.grad(lambda m: jaxmlip.predict(m, graph).energy[0])(one)
    assert isinstance(slope, Model)
    assert slope.params["offsets"].tolist() == [1, 1, 1]
    (vectors,) = descriptors(one, PAIR)
    assert vectors.shape[0] == 3
    assert np.isfinite(vectors).all()


def test_forward_derivatives_of_a_convolution_in_blocks(monkeypatch):
    """What cells of more than 512 atoms take, in blocks of two atoms."""
    one = model("nequip")
    graph = jaxmlip.batch(PAIR, one.potential.config)
    expected = jaxmlip.predict(one, graph)
    monkeypatch.setitem(convolution.FEW_ATOMS, "cpu", 1)
    monkeypatch.setitem(convolution.BLOCK, "cpu", 2)
    jax.clear_caches()
    np.testing.assert_allclose(jaxmlip.predict(one, graph).forces, expected.forces, rtol=0, atol=1e-12)
    check_transformations(one, graph)
    jax.clear_caches()


def test_pickled_to_the_bit_and_into_another_process(tmp_path):
    one = settings_as_params(model("aenet"), "cutoff")
    for dumps in (pickle.dumps, cloudpickle.dumps):
        with jax.enable_x64(False):
            again = pickle.loads(dumps(one))
        assert again.potential is one.potential
        for a, b in zip(jax.tree.leaves(again.params), jax.tree.leaves(one.params), strict=True):
            assert a.dtype == np.float64
            np.testing.assert_array_equal(a, b)
    calculator = pickle.loads(pickle.dumps(jaxmlip.calculator(one)))
    assert calculator.get_potential_energy(PAIR) == jaxmlip.calculator(one).get_potential_energy(PAIR)
    assert (calculator.name, calculator.parameters["skin"]) == ("jaxmlip AENET", 1.0)
    (tmp_path / "pickled").write_bytes(pickle.dumps((one, PAIR)))
    code = "import pickle, sys; one, pair = pickle.load(open(sys.argv[1], 'rb')); print(float(one(pair).energy[0]))"
    command = [sys.executable, "-c", code, str(tmp_path / "pickled")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert float(done.stdout) == pytest.approx(float(one(PAIR).energy[0]), abs=1e-12)


def test_structures_and_files_are_taken_everywhere(tmp_path):
    one, cell = model("snap"), rocksalt()
    jaxmlip.save(one, tmp_path / "model.npz")
    structure = AseAtomsAdaptor.get_structure(cell)
    expected = jaxmlip.predict(one, cell)
    for found in (one(structure), jaxmlip.predict(str(tmp_path / "model.npz"), structure)):
        np.testing.assert_allclose(found.forces, expected.forces, rtol=0, atol=1e-12)
    several = jaxmlip.predict(one, [structure, cell])
    np.testing.assert_allclose(several.atomic_energies[1], expected.atomic_energies, rtol=0, atol=1e-12)
    moved = cell.copy()
    attach(moved, Labels(-1.0, None, None))
    moved.positions += 0.3  # all atoms: what was said of them before is of no concern to a prediction
    np.testing.assert_allclose(jaxmlip.predict(one, moved).forces, expected.forces, rtol=0, atol=1e-12)
    labelled = cell.copy()
    attach(labelled, Labels(-1.0, None, None))
    assert labels(frames_of(AseAtomsAdaptor.get_structure(labelled))[0]).energy == -1.0  # rounding moves atoms
    assert jaxmlip.batch(structure, one.potential.config).n_atoms == 8
    relaxed = jaxmlip.simulate.relax(tmp_path / "model.npz", structure, max_steps=1)
    assert len(relaxed.atoms) == 8
    assert jaxmlip.calculator(tmp_path / "model.npz").get_potential_energy(cell) == pytest.approx(expected.energy[0])


def test_what_is_no_model_says_what_to_call():
    potential = model("snap").potential
    with pytest.raises(TypeError, match=r"a potential has no parameters yet: fit it"):
        jaxmlip.predict(potential, PAIR)
    with pytest.raises(TypeError, match=r"a potential has no parameters yet"):
        jaxmlip.calculator(potential)
    with pytest.raises(TypeError, match=r"expected structures.*got str; read files with jaxmlip.read"):
        jaxmlip.predict(model("snap"), ["cells.xyz"])
    with pytest.raises(TypeError, match=r"jaxmlip.fit\(jaxmlip.build\('snap', species=…\), atoms\)"):
        jaxmlip.fit("snap", [PAIR])
    with pytest.raises(ConfigError, match=r"jaxmlip.build\('snap', species=…\)"):
        jaxmlip.build(species="Mo")


def test_a_model_is_one_line_and_a_table():
    assert repr(model("nequip")) == "Model(NequIP of Li, Mn, O; cutoff 3.2 Å; 1,369 parameters)"
    html = model("nequip")._repr_html_()
    assert re.findall("<tr><td>(.*?)</td><td>(.*?)</td></tr>", html) == [
        ("family", "NequIP"), ("elements", "Li, Mn, O"), ("cutoff", "3.2 Å"), ("parameters", "1,369")
    ]  # fmt: skip


@pytest.mark.parametrize("fold_seed", [None, 0])
def test_a_committee_is_trained_in_one_program(fold_seed):
    """Each member alone, with its seed and its data, gives the same: 1e-6 in float64, other orders of the same sums."""
    frames = jaxmlip.datasets.load("si", split="test")[:4]
    potential = jaxmlip.build("aenet", species=("Si",), cutoff=4.0, radial_order=3, angular_order=2, hidden=("2:tanh",))
    settings = GradientFit(epochs=2, batch_size=4, dtype="float64", validation_fraction=0.0, n_shapes=1)
    start, seen = potential, frames
    if fold_seed is not None:  # from a model, as initial parameters depend on the data
        start = Model(potential, initial_params(potential, frames, settings))
        settings = dataclasses.replace(settings, offsets="keep")
        seen = [frame for frame, fold in zip(frames, random_folds(4, 2, 0).fold_of, strict=True) if fold != 0]
    models, history = fit_committee(start, frames, n_members=2, settings=settings, fold_seed=fold_seed)
    first, _ = jaxmlip.fit(start, seen, settings=settings)
    for a, b in zip(jax.tree.leaves(models.params), jax.tree.leaves(first.params), strict=True):
        np.testing.assert_allclose(a[0], b, rtol=1e-6, atol=1e-9)
    found = predict_committee(models, frames[:2])
    members = [jaxmlip.predict(jax.tree.map(lambda x, k=k: x[k], models), frames[:2]) for k in range(2)]
    np.testing.assert_allclose(found.energy, np.mean([m.energy for m in members], axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.forces_spread[1], np.std([m.forces[1] for m in members], axis=0), atol=1e-12)
    assert history.rows[-1]["train_loss_spread"] > 0


@pytest.mark.parametrize("ridge", ["folds", 1e-6])
def test_members_of_a_linear_committee_are_the_fits_without_their_parts(ridge):
    """Rows computed once or again: 1e-7 of coefficients that are determined to some 1e-10 by a ridge of 1e-6."""
    frames = jaxmlip.datasets.load("mo", split="test")[:6]
    potential = jaxmlip.build("snap", species=("Mo",), cutoff=4.0, twojmax=2)
    models, history = fit_committee(potential, frames, n_members=3, settings=LinearFit(ridge=ridge), fold_seed=1)
    for k in range(3):
        seen = [frames[i] for i in np.flatnonzero(random_folds(6, 3, 1).fold_of != k)]
        alone, _ = jaxmlip.fit(potential, seen, settings=LinearFit(ridge=history.summary["ridge"]))
        np.testing.assert_allclose(models.params["coefficients"][k], alone.params["coefficients"], rtol=1e-7)


def test_a_committee_by_other_methods_and_what_it_refuses(tmp_path):
    frames = jaxmlip.datasets.load("mo", split="test")[:4]
    gap = jaxmlip.build("gap", species=("Mo",), cutoff=4.0, n_max=2, l_max=2)
    few = jaxmlip.fitting.GaussianProcessFit(n_sparse=6)
    models, history = fit_committee(gap, frames, n_members=2, settings=few)
    assert [row["member"] for row in history.rows] == [0, 1]
    assert predict_committee(models, frames[:1]).energy_spread[0] > 0
    mtp, three = jaxmlip.build("mtp", species=("Mo",), cutoff=4.0, level=2), jaxmlip.fitting.GaussNewtonFit(epochs=3)
    made = [fit_committee(mtp, frames, n_members=2, settings=three, folder=tmp_path)[0] for _ in range(2)]
    assert (tmp_path / "member-1/log.jsonl").exists()  # kept, and gone on from: nothing is left to do
    assert all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, made), strict=True))
    for changes, message in [
        ({"n_members": 1}, "at least two members"),
        ({"n_members": 5}, "5 members need at least as many structures, got 4"),
        ({"fold_seed": None}, "all members would be the same"),
    ]:
        with pytest.raises(ValueError, match=message):
            fit_committee(jaxmlip.build("snap", species=("Mo",), cutoff=4.0, twojmax=2), frames, **changes)
