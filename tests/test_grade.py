import ase.build
import numpy as np
import pytest
from ase import units
from ase.md.verlet import VelocityVerlet

import jaxmlip
from jaxmlip.evaluate.grade import (
    GradeMonitor,
    active_set,
    grades,
    load_active_set,
    save_active_set,
    select,
)
from jaxmlip.evaluate.maxvol import maxvol, row_grades
from jaxmlip.fitting import LinearFit


@pytest.fixture(scope="module")
def fitted():
    frames = sorted(jaxmlip.datasets.load("mo", split="train"), key=len)[:40]
    potential = jaxmlip.build("mtp", species=("Mo",), level=4, cutoff=4.5, min_dist=2.0, radial_basis_size=4)
    model, _ = jaxmlip.fit(potential, frames, settings=LinearFit())
    return model, frames


def test_maxvol_finds_a_dominant_submatrix():
    """No swap of a row enlarges the volume; rounding 1e-9."""
    rows = np.random.default_rng(0).normal(size=(300, 12))
    active = maxvol(rows, tolerance=1e-6)
    assert len(set(active.index.tolist())) == 12
    np.testing.assert_allclose(rows[active.index] @ active.inverse, np.eye(12), atol=1e-9)
    found = row_grades(active, rows)
    assert found.max() <= 1 + 2e-6
    np.testing.assert_allclose(found[active.index], 1, atol=1e-9)
    random = [abs(np.linalg.det(rows[np.random.default_rng(k).permutation(300)[:12]])) for k in range(50)]
    assert abs(np.linalg.det(rows[active.index])) > max(random)


def test_directions_without_data_are_known_as_such():
    rows = np.random.default_rng(0).normal(size=(50, 4))
    rows[:, 2] = 0.0
    active = maxvol(rows)
    assert sorted(active.index.tolist())[0] == -1
    assert row_grades(active, rows).max() < 1.01
    outside = np.array([[0.0, 0.0, 1.0, 0.0]])
    assert row_grades(active, outside)[0] > 1e5
    with pytest.raises(ValueError, match="finite"):
        maxvol(np.array([[np.nan]]))


@pytest.mark.parametrize("mode", ["structures", "atoms"])
def test_training_data_interpolate_and_others_do_not(fitted, mode, tmp_path):
    model, frames = fitted
    active = active_set(model, frames, mode=mode)
    known = grades(model, active, frames)
    assert known.structures.max() < 1.01
    pressed = ase.build.bulk("Mo", "bcc", a=2.6).repeat(3)
    found = grades(model, active, [pressed])
    assert found.structures[0] > 3
    if mode == "atoms":
        assert found.atoms is not None
        assert len(found.atoms[0]) == len(pressed)
        assert found.structures[0] == found.atoms[0].max()
    save_active_set(active, tmp_path / "active.npz")
    again = grades(model, load_active_set(tmp_path / "active.npz"), [pressed])
    assert again.structures[0] == found.structures[0]


def test_the_vector_of_a_structure_is_the_derivative_of_its_energy(fitted):
    """Central differences with a step of 1e-4 of parameters near 1: 1e-6."""
    from jaxmlip.evaluate.grade import _vectors

    model, frames = fitted
    (row,) = _vectors(model, frames[-1:], "structures")[0]
    offset = {**model.params, "offsets": model.params["offsets"] + 1.0}
    graph = jaxmlip.batch(frames[-1], model.potential.config)
    models = [jaxmlip.Model(model.potential, params) for params in (model.params, offset)]
    change = [float(jaxmlip.predict(one, graph).energy[0]) for one in models]
    order = model.potential.config.n_features  # ravelled by name: coefficients, offsets, radial
    assert row[order] == pytest.approx(change[1] - change[0], rel=1e-9)
    assert row[order] == pytest.approx(len(frames[-1]))
    step = np.zeros_like(model.params["radial"])
    step[0, 0, 0, 1] = 1e-4 * np.abs(model.params["radial"]).max()
    both = [{**model.params, "radial": model.params["radial"] + s * step} for s in (1, -1)]
    high, low = (float(jaxmlip.predict(jaxmlip.Model(model.potential, p), graph).energy[0]) for p in both)
    assert row[order + 2] == pytest.approx((high - low) / (2 * step.max()), rel=1e-5)


def test_selection_takes_what_is_new(fitted):
    model, frames = fitted
    pressed = [ase.build.bulk("Mo", "bcc", a=a).repeat(2) for a in (2.7, 2.9)]
    chosen = select(model, frames[:20], [*frames[:5], *pressed])
    assert chosen[0] == 5  # the densest is the farthest from the data
    assert not set(chosen) & set(range(5))


def test_a_run_that_leaves_the_data_is_stopped(fitted):
    model, frames = fitted
    active = active_set(model, frames)
    atoms = frames[-1].copy()
    atoms.calc = jaxmlip.calculator(model)
    atoms.set_momenta(np.random.default_rng(0).normal(scale=1.0, size=(len(atoms), 3)))  # some 100 K
    monitor = GradeMonitor(model, active, atoms, stop=1e9)
    dynamics = VelocityVerlet(atoms, 2 * units.fs)
    dynamics.attach(monitor, interval=2)
    dynamics.run(4)
    assert [step for step, _ in monitor.found] == [0, 1, 2]
    assert monitor.found[0][1] < 1.01
    monitor.stop = 1e-3
    with pytest.raises(RuntimeError, match="left the training data"):
        dynamics.run(4)
