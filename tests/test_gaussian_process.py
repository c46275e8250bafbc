"""The sparse Gaussian process against gap_fit, against textbook formulas, and its likelihood against differences.

gap_fit's coefficients of its own training set: α reaches 8e3 and K_mm has condition 5e8, so equal programs agree to
1e-5 of α and far better in what they predict; the tolerances are ten times what is seen (8e-6; 2e-10 eV/Å).
"""

import dataclasses

import ase.build
import jax
import numpy as np
import pytest
from gap_reference import REFERENCE, predictions, training_set
from morse import MorseConfig, morse

import jaxmlip
from jaxmlip.data.labels import Labels, attach
from jaxmlip.descriptors.soap import soap
from jaxmlip.fitting import GaussianProcessFit
from jaxmlip.fitting.gaussian_process.marginal_likelihood import Hyperparameters, evidence, evidence_problem, improve
from jaxmlip.fitting.gaussian_process.predictive_variance import predict_variance
from jaxmlip.fitting.gaussian_process.regression import covariance_factor
from jaxmlip.potentials.gap import GAPConfig, gap
from jaxmlip.potentials.gap_rows import kernel_rows, species_blocks

CONFIG = GAPConfig(species=("Cu",), cutoff=4.0, n_max=3, l_max=2)


def morse_cells(n_cells, n_nickel=0):
    """Cells of 8 rattled atoms with the energies, forces and stresses of Morse pairs: cheap, smooth, not small."""
    pairs = morse(MorseConfig(species=("Cu", "Ni"), cutoff=4.5))
    params = pairs.init() | {"depth": np.array([[0.5, 0.8], [0.8, 0.3]])}
    frames = []
    for seed in range(n_cells):
        cell = ase.build.bulk("Cu", "fcc", a=3.7, cubic=True).repeat((1, 1, 2))
        cell.numbers[np.random.default_rng(seed).permutation(8)[:n_nickel]] = 28
        cell.rattle(0.15, seed=seed)
        label = jaxmlip.predict(jaxmlip.Model(pairs, params), jaxmlip.batch(cell, pairs.config))
        attach(cell, Labels(*(np.asarray(x) for x in (label.energy[0], label.forces, label.stress[0]))))
        frames.append(cell)
    return frames


FRAMES = morse_cells(8)


@pytest.mark.parametrize(
    ("name", "sigma_virial", "jitter"), [("li_ni_ti_o", 0, 1e-8), ("li_ni_ti_o_virial", 0.05, 1e-5)]
)
def test_gap_fit_is_reproduced(name, sigma_virial, jitter):
    model = jaxmlip.load(REFERENCE / name / "gap.xml")
    settings = GaussianProcessFit(
        sigma_energy=0.005,
        sigma_force=0.1,
        sigma_virial=float(sigma_virial),
        jitter=jitter,
        offsets="keep",
        batch_atoms=999,
    )  # one batch, so that one shape compiles
    fitted, history = jaxmlip.fit(model, training_set(name), settings=settings)
    np.testing.assert_allclose(
        fitted.params["alpha"]["soap"], model.params["alpha"]["soap"], rtol=0, atol=1e-4, err_msg="alpha"
    )
    assert history.summary["jitter"] == jitter
    assert history.summary["n_rows"] == 538 + 60 * (sigma_virial > 0)
    frames, expected = predictions(name)
    found = jaxmlip.predict(fitted, jaxmlip.batch(frames, model.potential.config))
    np.testing.assert_allclose(found.energy, expected["energy"], rtol=0, atol=4e-8)
    np.testing.assert_allclose(found.forces, expected["forces"], rtol=0, atol=4e-9)


SETTINGS = GaussianProcessFit(n_sparse=40, sigma_virial=0.02, sigma_energy=0.01, jitter=1e-9, batch_atoms=64)


@pytest.fixture(scope="module")
def found():
    return jaxmlip.fit(gap(CONFIG), FRAMES, settings=SETTINGS)[0]


def test_a_fit_is_better_than_none_and_repeats(found):
    graph = jaxmlip.batch(FRAMES, CONFIG)
    forces = np.concatenate([frame.get_forces() for frame in FRAMES])
    predicted = np.asarray(jaxmlip.predict(found, graph).forces)
    assert np.std(predicted - forces) < 0.85 * np.std(forces)  # 40 coefficients, 192 forces
    again, _ = jaxmlip.fit(gap(CONFIG), FRAMES, settings=SETTINGS)
    np.testing.assert_array_equal(again.params["alpha"]["soap"], found.params["alpha"]["soap"])


def test_variance_is_that_of_the_whole_process_when_all_environments_are_points():
    """With every environment a point and energies alone, the sparse process is the full one: var = K − K (K + Λ)⁻¹ K.

    Its own jitter is 1e-10 and conditions reach 1e6: 1e-6 of the prior variance.
    """
    frames = FRAMES[:3]
    settings = GaussianProcessFit(n_sparse=500, sigma_energy=0.05, sigma_force=0.0, jitter=1e-10)
    process, _ = jaxmlip.fit(gap(CONFIG), frames, settings=settings)
    x = np.concatenate([np.asarray(soap(frame, CONFIG.soap)) for frame in frames])
    owner = np.repeat(np.eye(3), [len(frame) for frame in frames], axis=0)
    K = (x @ x.T) ** 4
    noise = np.diag([0.05**2 * len(frame) for frame in frames])
    inner = np.linalg.inv(owner.T @ K @ owner + noise)
    expected = K - K @ owner @ inner @ owner.T @ K
    variance = predict_variance(process, frames)
    np.testing.assert_allclose(np.concatenate(variance.atoms), np.diag(expected), rtol=0, atol=1e-6)
    np.testing.assert_allclose(variance.structures, np.diag(owner.T @ expected @ owner), rtol=0, atol=1e-5)


def test_far_from_the_data_the_prior_variance_returns(found):
    """A compressed cell is unlike all training data: its variance is far larger than theirs, at most the prior's."""
    seen = predict_variance(found, FRAMES[:2])
    squeezed = FRAMES[0].copy()
    squeezed.set_cell(0.7 * squeezed.cell, scale_atoms=True)
    strange = predict_variance(found, squeezed)
    assert strange.atoms[0].mean() > 5 * np.mean(np.concatenate(seen.atoms))
    assert strange.atoms[0].max() <= CONFIG.delta**2 + 1e-6
    assert min(x.min() for x in seen.atoms) > -1e-8
    with pytest.raises(ValueError, match="no posterior"):
        predict_variance(jaxmlip.Model(found.potential, found.params), squeezed)


def test_pair_term_and_soap_are_fitted_together():
    """Pairs alone make the energy here, so the pair term learns it from six cells: a tenth of the forces is left."""
    frames = morse_cells(8, n_nickel=4)
    config = GAPConfig(
        species=("Ni", "Cu"), cutoff=4.5, n_max=2, l_max=1, delta=0.01, distance_2b_cutoff=4.5, distance_2b_theta=0.7,
        distance_2b_transition_width=2.0,
    )  # fmt: skip
    settings = GaussianProcessFit(n_sparse=5, n_sparse_2b=12, sigma_energy=0.001, sigma_force=0.01, sigma_virial=0.01)
    model, history = jaxmlip.fit(gap(config), frames[:6], settings=settings)
    assert history.summary["n_sparse"] == 2 * 5 + 3 * 12
    found = jaxmlip.predict(model, jaxmlip.batch(frames[6:], config))
    expected = np.concatenate([frame.get_forces() for frame in frames[6:]])
    assert np.std(np.asarray(found.forces) - expected) < 0.1 * np.std(expected)


def test_jitter_grows_until_the_points_are_independent():
    """Two equal points make K_mm singular; what it took is reported."""
    potential = gap(CONFIG)
    points = np.array(potential.init(jax.random.key(0), None)["points"]["soap"])
    points[0, 1] = points[0, 0]
    U, used, jitter = covariance_factor(potential.stages, {"soap": points}, 1e-25)
    assert 1e-18 < jitter < 1e-12
    assert used.all()
    K = (points[0] @ points[0].T) ** 4
    np.testing.assert_allclose(U.T @ U, K + jitter * np.eye(len(K)), rtol=0, atol=1e-14)


def weighted(frames):
    """Copies, the first of which counts more and the second with an energy noise of its own."""
    copies = [frame.copy() for frame in frames]
    for copy, frame in zip(copies, frames, strict=True):
        copy.calc = frame.calc
    copies[0].info["weight"], copies[1].info["energy_sigma"] = 4.0, 0.05
    return copies


@pytest.fixture(scope="module")
def problem():
    return evidence_problem(gap(CONFIG), weighted(FRAMES[:3]), GaussianProcessFit(n_sparse=10, jitter=1e-6))


START = Hyperparameters(0.005, 0.1, {"delta": 1.0, "sigma_atom": 0.5, "zeta": 4.0})


def test_gradient_of_the_likelihood(problem):
    """Against central differences of 1e-4: 1e-7 of the largest, 1e-5 for σ, whose basis is itself a difference."""
    leaves, structure = jax.tree.flatten(START)
    found = jax.tree.leaves(evidence(problem, START).gradient)
    for k, slope in enumerate(found):
        moved = [[x * np.exp(h * (i == k)) for i, x in enumerate(leaves)] for h in (-1e-4, 1e-4)]
        low, high = (evidence(problem, jax.tree.unflatten(structure, one)).value for one in moved)
        tolerance = 1e-5 if leaves[k] == START.settings["sigma_atom"] else 1e-6
        assert abs((high - low) / 2e-4 - slope) < tolerance * max(map(abs, found)), k


def test_the_likelihood_is_that_of_the_full_covariance(problem):
    """log N(y; 0, Q + Λ) formed as a matrix; energies of the model as gap_fit would have them."""
    hyper = Hyperparameters(0.02, 0.3, {"delta": 0.5, "zeta": 3.0})
    config = dataclasses.replace(CONFIG, zeta=3.0, delta=0.5)
    x = np.concatenate([np.asarray(soap(frame, CONFIG.soap)) for frame in FRAMES[:3]])
    (chosen,) = problem.sparse.atoms
    points = {"soap": x[chosen][None]}
    rows = kernel_rows(config, points, problem.graph, species_blocks(problem.graph, 1))
    A = np.concatenate([np.asarray(rows.energy), np.asarray(rows.forces).reshape(-1, len(chosen))])
    K = 0.25 * (points["soap"][0] @ points["soap"][0].T) ** 3 + problem.jitter * np.eye(len(chosen))
    sizes = np.array([len(frame) for frame in FRAMES[:3]])
    noise = np.concatenate([0.02**2 * sizes, np.full(3 * sizes.sum(), 0.3**2)])
    noise[0] /= 4  # the weight of the first structure
    noise[3 : 3 + 3 * sizes[0]] /= 4
    noise[1] = 0.05**2  # the second one's own
    C = A @ np.linalg.solve(K, A.T) + np.diag(noise)
    energies = np.asarray(problem.labels.energy) - sizes * problem.offsets[0]
    y = np.concatenate([energies, np.ravel(problem.labels.forces)])
    expected = -(y @ np.linalg.solve(C, y) + np.linalg.slogdet(C)[1] + len(y) * np.log(2 * np.pi)) / 2
    np.testing.assert_allclose(evidence(problem, hyper).value, expected, rtol=1e-8)


def test_hyperparameters_are_improved(problem):
    better, values = improve(problem, START, iterations=4)
    assert values[-1] > values[0] + 1
    assert all(value > 0 for value in jax.tree.leaves(better))
    assert better.settings.keys() == START.settings.keys()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sigma_energy": -1.0}, "sigma_"),
        ({"sigma_energy": 0.0, "sigma_force": 0.0}, "all zero"),
        ({"jitter": 0.0}, "jitter: expected float > 0"),
    ],
)
def test_settings_without_meaning_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        GaussianProcessFit(**settings)


def test_what_cannot_be_fitted_is_refused():
    snap = jaxmlip.build("snap", species=("Si",), cutoff=4.0, twojmax=1)
    with pytest.raises(ValueError, match="needs a GAP"):
        jaxmlip.fit(snap, FRAMES, settings=GaussianProcessFit())
    with pytest.raises(ValueError, match="offsets='keep'"):
        jaxmlip.fit(gap(CONFIG), FRAMES, settings=GaussianProcessFit(offsets="keep"))
    blank = FRAMES[0].copy()
    attach(blank, Labels(None, None, None))
    with pytest.raises(ValueError, match="nothing to fit"):
        jaxmlip.fit(gap(CONFIG), [blank])
    with pytest.raises(ValueError, match="environments alone"):
        evidence_problem(gap(dataclasses.replace(CONFIG, distance_2b_cutoff=3.0)), FRAMES[:1])
