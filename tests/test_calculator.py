import ase
import jax
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.neighborlist import neighbor_list
from ase.stress import full_3x3_to_voigt_6_stress
from morse import alloy, model

import jaxmlip
from jaxmlip.graph import batch
from jaxmlip.potentials.model import Model, predict, predict_graph
from jaxmlip.simulate import calculator


def with_calculator(atoms, **settings):
    atoms = atoms.copy()
    atoms.calc = calculator(model(), **settings)
    return atoms


def pair_stresses(atoms):
    """½ Σ_j r ⊗ ∂φ/∂r / V of each atom, from the forces of its pairs alone: a bond belongs to both of its ends."""
    stresses, calc = np.zeros((len(atoms), 3, 3)), calculator(model())
    for a, b, vector in zip(*neighbor_list("ijD", atoms, model().potential.config.cutoff), strict=True):
        pair = ase.Atoms(atoms.numbers[[a, b]], [[0, 0, 0], vector], calculator=calc)
        stresses[a] += np.outer(vector, pair.get_forces()[0]) / 2
    return full_3x3_to_voigt_6_stress(stresses) / atoms.get_volume()


def test_agrees_with_predict_and_ase_conventions():
    atoms = with_calculator(alloy())
    with jax.enable_x64(True):
        expected = jax.device_get(predict(model(), batch(atoms, model().potential.config)))
    # float64; the wider list only adds exact zeros, in another order of summation
    assert abs(atoms.get_potential_energy() - expected.energy[0]) < 1e-12
    assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()
    np.testing.assert_allclose(atoms.get_potential_energies().sum(), atoms.get_potential_energy(), atol=1e-12)
    np.testing.assert_allclose(atoms.get_forces(), expected.forces, atol=1e-12)
    np.testing.assert_allclose(atoms.get_stress(voigt=False), expected.stress[0], atol=1e-13)
    stresses = atoms.get_stresses()
    np.testing.assert_allclose(stresses.sum(axis=0), atoms.get_stress(), atol=1e-13)
    np.testing.assert_allclose(stresses, pair_stresses(atoms), atol=1e-12)


def test_forces_and_stress_are_derivatives_by_ases_own_check():
    atoms = with_calculator(alloy())
    # central differences of 1e-4 Å: error about 1e-8 times a third derivative of order 10 to 100
    np.testing.assert_allclose(atoms.get_forces(), calculate_numerical_forces(atoms, eps=1e-4), atol=1e-6)
    stress = calculate_numerical_stress(atoms, eps=1e-5)
    np.testing.assert_allclose(atoms.get_stress(), stress, atol=1e-7)


def test_the_list_is_kept_while_it_is_valid_and_right_afterwards():
    atoms = with_calculator(alloy(), skin=1.0)
    rng = np.random.default_rng(0)
    atoms.get_forces()
    for step in range(12):
        atoms.positions += rng.normal(scale=0.1, size=(4, 3))
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(scale=0.004, size=(3, 3))), scale_atoms=True)
        fresh = with_calculator(atoms)
        np.testing.assert_allclose(atoms.get_forces(), fresh.get_forces(), atol=1e-11, err_msg=f"step {step}")
        np.testing.assert_allclose(atoms.get_stress(), fresh.get_stress(), atol=1e-12)
    assert 1 < atoms.calc.n_builds < 9


def test_rebuilds_when_atoms_are_other_ones_or_periodicity_changes():
    atoms = with_calculator(alloy())
    atoms.get_potential_energy()
    for change in ("numbers", "pbc", "length"):
        if change == "numbers":
            atoms.numbers[0] = 46
        elif change == "pbc":
            atoms.pbc = [True, True, False]
        else:
            atoms = _shorter(atoms)
        assert atoms.get_potential_energy() == pytest.approx(with_calculator(atoms).get_potential_energy(), abs=1e-12)


def _shorter(atoms):
    kept, calc = atoms[:3], atoms.calc
    kept.calc = calc
    return kept


def test_a_run_with_many_rebuilds_compiles_a_few_times():
    atoms = with_calculator(bulk("Cu", cubic=True, a=3.7) * (2, 1, 1), skin=0.1)
    predict_graph.clear_cache()
    for factor in np.linspace(1.0, 0.85, 25):  # compressed: ever more neighbours
        strained = atoms.copy()
        strained.set_cell(atoms.cell.array * factor, scale_atoms=True)
        strained.calc = atoms.calc
        strained.get_potential_energy()
    assert atoms.calc.n_builds >= 6
    assert predict_graph.n_programs() <= 3  # 63 % more neighbours: two growths by a quarter, and a margin


def test_stress_needs_a_volume():
    molecule = with_calculator(ase.Atoms("CuNi", [[0, 0, 0], [0, 0, 2.4]]))
    assert np.isfinite(molecule.get_potential_energy())
    with pytest.raises(PropertyNotImplementedError, match="has no volume"):
        molecule.get_stress()


def test_single_precision():
    atoms, exact = with_calculator(alloy(), dtype="float32"), with_calculator(alloy())
    # float32 has 7 digits: energies of 10 eV to 1e-6, forces of 1 eV/Å from sums of about 100 terms to 1e-5
    assert atoms.get_potential_energy() == pytest.approx(exact.get_potential_energy(), abs=2e-5)
    np.testing.assert_allclose(atoms.get_forces(), exact.get_forces(), atol=5e-5)


def test_errors_teach():
    with pytest.raises(ValueError, match=r"unknown element 'Mo'.*Known: Cu, Ni, Pd"):
        with_calculator(bulk("Mo")).get_potential_energy()
    with pytest.raises(ValueError, match="skin"):
        calculator(model(), skin=-1.0)
    with pytest.raises(ValueError, match="float16"):
        calculator(model(), dtype="float16")
    potential, params = model().potential, model().params
    broken = alloy()
    broken.calc = calculator(Model(potential, {**params, "depth": params["depth"] * np.nan}))
    with pytest.raises(RuntimeError, match="parameters contain NaN"):
        broken.get_potential_energy()


def test_is_a_public_name():
    assert jaxmlip.calculator is calculator
