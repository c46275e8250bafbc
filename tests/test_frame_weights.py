"""Weights of structures and groups: what the names mean, and that every method takes them alike."""

import dataclasses

import ase
import jax
import numpy as np
import pytest

import jaxmlip
from jaxmlip.data import DataWarning, Labels, attach
from jaxmlip.data.weights import FrameWeights, Sigmas, frame_sigmas, frame_weights
from jaxmlip.fitting import GaussianProcessFit, GaussNewtonFit, LinearFit
from jaxmlip.fitting.frame_weights import residual_factors
from jaxmlip.fitting.objective import Example, Weights, linearized, residuals, structure_factors, terms
from jaxmlip.graph.batch import batches
from jaxmlip.potentials import predict_atoms


def cells(*infos, n=4):
    """Distorted cells of two Mo atoms with labels, and with what each says in info."""
    rng = np.random.default_rng(0)
    found = []
    for k in range(n):
        atoms = ase.Atoms("Mo2", rng.normal([[0, 0, 0], [1.6, 1.6, 1.6]], 0.15), cell=[3.2, 3.2, 3.2], pbc=True)
        stress = np.diag(rng.normal(0, 0.01, 3))
        attach(atoms, Labels(-21.0 + rng.normal(0, 0.3), rng.normal(0, 0.5, (2, 3)), stress))
        atoms.info.update(infos[k] if k < len(infos) else {})
        found.append(atoms)
    return found


def copy(atoms):
    new = atoms.copy()
    new.info.clear()
    attach(new, jaxmlip.data.labels(atoms))
    return new


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({}, (1, 1, 1)),
        ({"weight": 3.0}, (3, 3, 3)),  # GPUMD
        ({"config_weight": 2.0, "config_energy_weight": 5.0, "config_forces_weight": 0.0}, (10, 0, 2)),  # MACE
        ({"energy_weight": 0.5, "forces_weight": 4, "virials_weight": 9.0}, (0.5, 4, 9)),
        ({"weight": 2.0, "config_weight": 2.0}, (2, 2, 2)),  # one weight by two names
    ],
)
def test_names_of_weights(info, expected):
    assert frame_weights(ase.Atoms("H", info=info)) == FrameWeights(*expected)


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"weight": -1.0}, "weight=-1.0.*≥ 0"),
        ({"energy_weight": "high"}, "energy_weight='high'"),
        ({"weight": 2.0, "config_weight": 3.0}, "name the same weight and differ"),
        ({"energy_sigma": 0.0}, "a sigma is 0"),
        ({"force_sigma": np.nan}, "force_sigma=nan"),
    ],
)
def test_weights_that_are_none_are_refused_with_the_structure(info, message):
    with pytest.raises(ValueError, match=f"structure 1 \\(Mo2\\): .*{message}"):
        structure_factors(cells({}, info), Weights())


def test_sigmas_stand_in_place_of_weights_and_noise():
    """gap_fit's sigmas are absolute: 0.1 eV of the cell of two atoms, 0.5 eV/Å, 2 eV of 32.768 Å³ × stress."""
    atoms = cells({"energy_sigma": 0.1, "force_sigma": 0.5, "virial_sigma": 2.0}, n=1)
    assert frame_sigmas(atoms[0]) == Sigmas(0.1, 0.5, 2.0)
    (found,) = structure_factors(atoms, Weights(100.0, 1.0, 10.0))
    np.testing.assert_allclose(found, [2 / 100 / 0.1, 1 / 0.5, 32.768 / 10 / 2], rtol=1e-12)
    noise = GaussianProcessFit(sigma_energy=0.005, sigma_force=0.1, sigma_virial=0.02)
    (found,) = residual_factors(atoms, noise, noise.noise.of)
    np.testing.assert_allclose(found, [0.005 * 2**0.5 / 0.1, 0.1 / 0.5, 0.02 * 2**0.5 / 2], rtol=1e-12)
    (found,) = structure_factors(atoms, Weights(100.0, 1.0, 0.0))  # a weight of 0 leaves stresses out
    assert found[2] == 0


def test_groups_by_config_type_apart_for_each_label():
    atoms = cells({"config_type": "slab", "weight": 4.0}, {"config_type": "bulk"}, {"config_type": "slab"}, n=3)
    settings = Weights(group_weights={"slab": 2.0, "slab.energy": 0.5, "bulk.stress": 0.0})
    squares = structure_factors(atoms, settings) ** 2
    np.testing.assert_allclose(squares, [[4, 8, 8], [1, 1, 0], [1, 2, 2]], rtol=1e-12)
    with pytest.raises(ValueError, match="unknown config_type 'slap'"):
        structure_factors(atoms, Weights(group_weights={"slap": 2.0}))


@pytest.fixture(scope="module")
def snap():
    return jaxmlip.build("snap", species=("Mo",), cutoff=4.0, twojmax=2)


def test_the_objective_counts_a_weight_as_copies(snap):
    """Value, residuals and design rows, in float64: equal sums in another order."""
    infos = ({"energy_weight": 4.0, "forces_weight": 2.0, "stress_weight": 3.0}, {"weight": 0.0})
    weights = Weights(30.0, 1.0, 5.0)
    atoms = cells(*infos, n=3)
    (batch,) = batches(atoms, snap.config, n_shapes=1, factors=structure_factors(atoms, weights))
    params = snap.init(jax.random.key(0), None)
    params = {**params, "coefficients": params["coefficients"] + 0.01}
    example = Example(batch.graph, batch.labels)
    found = terms(snap, params, example, weights)
    (plain,) = batches(atoms, snap.config, n_shapes=1)
    by_structure = []
    for k in range(3):
        g = batch.index.tolist().index(k)
        rows = (g, np.flatnonzero(np.asarray(plain.graph.atom_mask & (plain.graph.atom_graph == g))), g)
        parts = residuals(snap, params, Example(plain.graph, plain.labels), weights)
        by_structure.append([float(np.sum(np.square(part[at]))) for part, at in zip(parts, rows, strict=True)])
    expected = np.dot([4, 2, 3], by_structure[0]) + np.sum(by_structure[2])
    np.testing.assert_allclose(float(found.objective), expected, rtol=1e-10)
    rest, jacobian = linearized(snap, params, example, weights, False)
    np.testing.assert_allclose(float(np.sum(np.square(rest))), expected, rtol=1e-10)
    assert jacobian.shape[1] == rest.shape[0]


def test_a_linear_fit_counts_a_weight_as_copies(snap):
    settings = LinearFit(ridge=1e-8, stress_weight=5.0)
    weighted, _ = jaxmlip.fit(snap, cells({"weight": 3.0}, {"weight": 0.0}), settings=settings)
    first, _, *rest = cells()
    copied, _ = jaxmlip.fit(snap, [first, copy(first), copy(first), *rest], settings=settings)
    # 1e-6: the solutions of the same least squares from other rows, condition number some 1e4
    np.testing.assert_allclose(weighted.params["coefficients"], copied.params["coefficients"], rtol=1e-6, atol=1e-8)


def test_a_gaussian_process_takes_the_sigma_of_the_structure():
    potential = jaxmlip.build("gap", species=("Mo",), cutoff=3.5, n_max=2, l_max=1)
    quiet = {"sigma_energy": 0.01, "sigma_force": 0.1, "n_sparse": 4, "offsets": "zero"}
    own = {"energy_sigma": 0.02 * 2**0.5, "force_sigma": 0.3}
    by_frames, _ = jaxmlip.fit(potential, cells(*[own] * 4), settings=GaussianProcessFit(**quiet))
    loud = {**quiet, "sigma_energy": 0.02, "sigma_force": 0.3}
    by_settings, _ = jaxmlip.fit(potential, cells(), settings=GaussianProcessFit(**loud))
    np.testing.assert_allclose(by_frames.params["alpha"]["soap"], by_settings.params["alpha"]["soap"], rtol=1e-8)


def test_a_gaussian_process_counts_a_weight_as_copies():
    """All environments are points, so both fits are the same equations; 1e-6 as for the linear fit above."""
    potential = jaxmlip.build("gap", species=("Mo",), cutoff=3.5, n_max=2, l_max=1)
    settings = GaussianProcessFit(sigma_energy=0.01, sigma_force=0.1, n_sparse=100, offsets="zero")
    weighted, _ = jaxmlip.fit(potential, cells({"Config_Weight": 3.0}), settings=settings)
    first, *rest = cells()
    copied, _ = jaxmlip.fit(potential, [first, copy(first), copy(first), *rest], settings=settings)
    found, expected = (predict_atoms(model, rest).energy for model in (weighted, copied))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_weight_of_no_convention_is_said():
    frames = cells({"eweight": 3.0, "molecular_weight": 192.0})
    frames[1].arrays["force_mask"] = np.array([True, False])
    with pytest.warns(DataWarning, match="^eweight, force_mask of the structures look like weights"):
        residual_factors(frames, LinearFit(), lambda atoms: (1.0, 1.0, 1.0))


def test_structures_that_did_not_converge_are_left_out(snap):
    settings = LinearFit(ridge=1e-8)
    with pytest.warns(DataWarning, match=r"1 of 4 structures .* did not converge: left out"):
        without, _ = jaxmlip.fit(snap, cells({"converged": False}), settings=settings)
    expected, _ = jaxmlip.fit(snap, cells()[1:], settings=settings)
    np.testing.assert_array_equal(without.params["coefficients"], expected.params["coefficients"])
    with pytest.raises(ValueError, match="nothing to fit"):
        jaxmlip.fit(snap, cells({"converged": False}, n=1), settings=settings)


def test_an_energy_under_another_name_is_not_passed_over(snap):
    atoms = cells()
    for frame in atoms:
        frame.info["pbe_energy"] = jaxmlip.data.labels(frame).energy
        attach(frame, jaxmlip.data.labels(frame)._replace(energy=None))
    with pytest.raises(ValueError, match=r"'pbe_energy'.*--energy-key pbe_energy"):
        jaxmlip.fit(snap, atoms, settings=LinearFit(ridge=1e-8))
    jaxmlip.fit(snap, atoms, settings=LinearFit(ridge=1e-8, energy_weight=0.0))


def test_settings_with_group_weights_stay_hashable():
    """They are static arguments of compiled functions."""
    assert hash(GaussNewtonFit(group_weights={"a": 2.0})) == hash(GaussNewtonFit(group_weights={"a": 3.0}))
    assert GaussNewtonFit(group_weights={"a": 2.0}) != GaussNewtonFit(group_weights={"a": 3.0})


@pytest.mark.parametrize("settings", [LinearFit(ridge=1e-8), GaussianProcessFit(n_sparse=4, sigma_energy=0.01)])
def test_energies_of_isolated_atoms_are_offsets_in_every_method(snap, settings):
    """The same as the number given; the atom itself is not fitted."""
    gap = jaxmlip.build("gap", species=("Mo",), cutoff=3.5, n_max=2, l_max=1)
    potential = gap if isinstance(settings, GaussianProcessFit) else snap
    atom = ase.Atoms("Mo", cell=[9, 9, 9], pbc=True, info={"config_type": "IsolatedAtom"})
    attach(atom, Labels(-4.6, np.zeros((1, 3)), None))
    taken, _ = jaxmlip.fit(potential, [atom, *cells()], settings=dataclasses.replace(settings, offsets="isolated"))
    given, _ = jaxmlip.fit(potential, cells(), settings=dataclasses.replace(settings, offsets={"Mo": -4.6}))
    assert float(taken.params["offsets"][0]) == -4.6
    jax.tree.map(np.testing.assert_array_equal, taken.params, given.params)


def test_isolated_atoms_that_are_not_there_or_not_used(snap):
    with pytest.raises(ValueError, match=r"there is none: name them with isolated_name"):
        jaxmlip.fit(snap, cells(), settings=LinearFit(offsets="isolated"))
    atom = ase.Atoms("Mo", cell=[9, 9, 9], info={"config_type": "isolated_atom"})
    attach(atom, Labels(-4.6, None, None))
    with pytest.warns(DataWarning, match="1 isolated atoms are fitted like other structures"):
        jaxmlip.fit(snap, [*cells(), atom], settings=LinearFit(ridge=1e-8))


def test_a_linear_fit_keeps_the_offsets_of_a_model(snap):
    settings = LinearFit(ridge=1e-8)
    model, _ = jaxmlip.fit(snap, cells(), settings=settings)
    again, _ = jaxmlip.fit(model, cells(), settings=dataclasses.replace(settings, offsets="keep"))
    np.testing.assert_array_equal(again.params["offsets"], model.params["offsets"])
