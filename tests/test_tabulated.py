"""Radial networks as tables: how near they are to the networks, and that all is derived from the table exactly."""

import ase
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmlip
from jaxmlip.config import ConfigError
from jaxmlip.fitting import GradientFit
from jaxmlip.potentials.message_passing.convolution import TABLE, radial_network
from jaxmlip.potentials.message_passing.splines import hermite_splines
from jaxmlip.potentials.model import predict_energy

STEP = 1e-4  # Å, and strain


@pytest.fixture(scope="module")
def pair():
    """A NequIP with what it can have, its tables, and ten atoms that both know."""
    potential = jaxmlip.build(
        "nequip", species=("Li", "O", "Ni"), cutoff=4.0, num_layers=2, num_features=(4, 3), bessel_trainable=True,
        zbl=True, radial_mlp_width=8,
    )  # fmt: skip
    atoms = ase.Atoms("Li3O5Ni2", np.random.default_rng(0).uniform(0, 6, (10, 3)), cell=[6, 6, 6.5], pbc=True)
    graph = jaxmlip.batch(atoms, potential.config)
    model = jaxmlip.Model(potential, potential.init(jax.random.key(1), graph))
    return model, jaxmlip.tabulated(model), atoms, graph


def _errors(model):
    """Largest errors of values and slopes of all radial functions between 0.8 Å and the cutoff, each by its largest."""
    config = model.potential.config
    params, tables = (jax.tree.map(jnp.asarray, one.params) for one in (model, jaxmlip.tabulated(model)))
    r = jnp.asarray(np.random.default_rng(0).uniform(0.8, config.cutoff, 400))
    found = []
    for name, weights in params["layers"].items():
        splines = tables["layers"][name]["radial"][TABLE]

        def network(r, weights=weights["radial"]):
            return radial_network(config.edge_basis, weights, config.wave_numbers(params), r)

        def tabulated(r, splines=splines):
            return hermite_splines(splines, r / config.cutoff)

        exact, near = (jax.jvp(function, (r,), (jnp.ones_like(r),)) for function in (network, tabulated))
        found.append([float(jnp.abs(a - b).max() / jnp.abs(a).max()) for a, b in zip(exact, near, strict=True)])
    return np.max(found, axis=0)


def test_tables_of_sevennet_0():
    """Of values within what float32 rounds (6e-8 a term of 64); slopes lose h³ instead of h⁴. Found: 1e-8 and 3e-6."""
    value, slope = _errors(jaxmlip.load("sevennet-0", species=("Li", "O")))
    assert value < 1e-7
    assert slope < 1e-5


def test_tables_of_nequip(pair):
    """Smooth functions without an envelope that begins somewhere. Found: 1.5e-9 and less than 1e-6."""
    value, slope = _errors(pair[0])
    assert value < 1e-8
    assert slope < 1e-6


def test_predictions_are_those_of_the_network(pair):
    """As near as the tables are, and float32 of both agrees to its rounding."""
    network, table, _, graph = pair
    exact, near = (jaxmlip.predict(model, graph) for model in (network, table))
    scale = float(jnp.abs(exact.forces).max())
    np.testing.assert_allclose(near.energy, exact.energy, rtol=1e-8)
    np.testing.assert_allclose(near.forces, exact.forces, rtol=0, atol=1e-6 * scale)
    np.testing.assert_allclose(near.stress, exact.stress, rtol=0, atol=1e-6 * float(jnp.abs(exact.stress).max()))


def test_forces_stress_and_their_slopes_are_those_of_the_tabulated_energy(pair):
    """Central differences: 1e-4 of Å leaves 1e-6 of the largest value; of forces, whose slopes jump at knots, 1e-4."""
    _, table, _, graph = pair
    rng = np.random.default_rng(3)
    moved, strain = rng.normal(size=graph.positions.shape), rng.normal(size=(3, 3))
    strain = strain + strain.T

    def along(step):
        return predict_energy(table, graph._replace(positions=graph.positions + step * moved))

    def strained(step):
        F = np.eye(3) + step * strain
        return predict_energy(table, graph._replace(positions=graph.positions @ F, cell=graph.cell @ F))

    found = jaxmlip.predict(table, graph)
    work, virial = (float((f(STEP) - f(-STEP))[0] / (2 * STEP)) for f in (along, strained))
    np.testing.assert_allclose(-float((found.forces * moved).sum()), work, rtol=1e-6)
    volume = abs(np.linalg.det(graph.cell[0]))
    np.testing.assert_allclose(volume * float((found.stress[0] * strain).sum()), virial, rtol=1e-6)

    def force_along(positions):
        energy = jax.grad(lambda p: predict_energy(table, graph._replace(positions=p))[0])
        return jnp.sum(energy(positions) * moved)

    curvature = jax.jvp(force_along, (graph.positions,), (jnp.asarray(moved),))[1]
    ends = [jaxmlip.predict(table, graph._replace(positions=graph.positions + s * moved)).forces for s in (STEP, -STEP)]
    np.testing.assert_allclose(curvature, float(((ends[1] - ends[0]) * moved).sum()) / (2 * STEP), rtol=1e-4)


def test_a_calculator_and_a_file_have_the_same_numbers(pair, tmp_path):
    _, table, atoms, graph = pair
    jaxmlip.save(table, tmp_path / "table.npz")
    for model in (table, jaxmlip.load(tmp_path / "table.npz")):
        moving = atoms.copy()
        moving.calc = jaxmlip.calculator(model)
        np.testing.assert_allclose(moving.get_forces(), jaxmlip.predict(table, graph).forces, rtol=0, atol=1e-9)


def test_what_cannot_be_is_refused(pair):
    with pytest.raises(ValueError, match=r"fit the one that it was made of.*jaxmlip.tabulated"):
        jaxmlip.fit(pair[1], [pair[2]], settings=GradientFit(epochs=1))
    snap = jaxmlip.build("snap", species=("Mo",), cutoff=3.0, twojmax=2)
    with pytest.raises(ConfigError, match=r"only radial networks.*not SNAP"):
        jaxmlip.tabulated(jaxmlip.Model(snap, snap.init(None, None)))
    with pytest.raises(ConfigError, match="tables already"):
        jaxmlip.tabulated(pair[1])
    with pytest.raises(ConfigError, match="n_intervals: at least 100, got 10"):
        jaxmlip.tabulated(pair[0], n_intervals=10)
    with pytest.raises(ValueError, match="no trained parameters"):
        jaxmlip.evaluate.active_set(pair[1], [pair[2]])
    assert repr(pair[1]).startswith("Model(tabulated NequIP of")
