import numpy as np
import pytest
from ase.build import bulk
from ase.constraints import FixAtoms, FixBondLength
from ase.filters import FrechetCellFilter
from ase.optimize import LBFGS
from ase.spacegroup.symmetrize import check_symmetry
from ase.units import GPa
from morse import alloy, model

from jaxmlip.potentials.model import Model
from jaxmlip.simulate import calculator, minimization, relax


def ases_minimum(atoms, *, cell):
    atoms = atoms.copy()
    atoms.calc = calculator(model(), skin=0.6)
    assert LBFGS(FrechetCellFilter(atoms) if cell else atoms, logfile=None).run(fmax=1e-4, steps=300)
    return atoms


def ases_forces(atoms, **cell):
    """What is left to relax, by ASE's filter."""
    atoms = atoms.copy()
    atoms.calc = calculator(model(), skin=0.6)
    return np.linalg.norm(FrechetCellFilter(atoms, **cell).get_forces(), axis=1).max()


@pytest.mark.parametrize("cell", [True, False])
def test_finds_the_minimum_that_ase_finds(cell):
    relaxed = relax(model(), alloy(), cell=cell, fmax=1e-4, smax=1e-6)
    assert relaxed.converged, relaxed.problem
    assert relaxed.max_force <= 1e-4
    atoms = ases_minimum(alloy(), cell=cell)
    # forces of 1e-4 eV/Å and stiffnesses of eV/Å²: both lie less than 1e-7 eV above the minimum
    assert relaxed.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
    assert relaxed.atoms.get_volume() == pytest.approx(atoms.get_volume(), rel=1e-4)
    # what it reports is what the calculator says of the structure it returns
    found = relaxed.atoms
    found.calc = calculator(model())
    assert found.get_potential_energy() == pytest.approx(relaxed.energy, abs=1e-10)
    assert np.linalg.norm(found.get_forces(), axis=1).max() == pytest.approx(relaxed.max_force, abs=1e-9)
    if cell:
        assert np.abs(found.get_stress()).max() == pytest.approx(relaxed.max_stress, abs=1e-10)
    else:
        np.testing.assert_array_equal(found.cell.array, alloy().cell.array)


def test_both_methods_find_the_same_minimum():
    slow, fast = (relax(model(), alloy(), method=method, fmax=1e-4, smax=1e-6) for method in ("fire", "lbfgs"))
    assert slow.converged
    assert slow.energy == pytest.approx(fast.energy, abs=1e-6)
    assert fast.n_steps < slow.n_steps / 2


def test_under_pressure_and_at_fixed_volume_as_ase():
    pressure = 5 * GPa
    pressed = relax(model(), alloy(), pressure=pressure, fmax=1e-4, smax=1e-6)
    assert pressed.converged
    assert ases_forces(pressed.atoms, scalar_pressure=pressure) < 1e-4
    pressed.atoms.calc = calculator(model(), skin=0.6)
    np.testing.assert_allclose(pressed.atoms.get_stress()[:3], -pressure, atol=1e-6)
    fixed = relax(model(), alloy(), fixed_volume=True, fmax=1e-4, smax=1e-6)
    assert fixed.converged
    assert fixed.atoms.get_volume() == pytest.approx(alloy().get_volume(), rel=1e-12)
    assert ases_forces(fixed.atoms, constant_volume=True) < 1e-4
    assert ases_forces(fixed.atoms) > 1e-2
    assert not np.allclose(fixed.atoms.cell.array, alloy().cell.array, atol=1e-3)


def test_cell_alone_and_atoms_held():
    alone = relax(model(), alloy(), positions=False)
    np.testing.assert_allclose(alone.atoms.get_scaled_positions(), alloy().get_scaled_positions(), atol=1e-12)
    assert alone.converged
    assert alone.max_force == 0
    held = alloy()
    held.set_constraint(FixAtoms([2]))
    found = relax(model(), held, cell=False, fmax=1e-4)
    np.testing.assert_array_equal(found.atoms.positions[2], held.positions[2])
    assert found.energy == pytest.approx(ases_minimum(held, cell=False).get_potential_energy(), abs=1e-6)
    assert len(found.atoms.constraints) == 1
    held.set_constraint(FixBondLength(0, 1))
    with pytest.raises(ValueError, match="FixBondLengths; only FixAtoms"):
        relax(model(), held)


def test_keeps_the_symmetry():
    crystal = bulk("Cu", cubic=True, a=3.5)
    crystal.symbols[:] = ["Cu", "Cu", "Ni", "Ni"]
    crystal.set_cell(crystal.cell.array * [[1.1], [1], [1]], scale_atoms=True)
    relaxed = relax(model(), crystal, fixed_symmetry=True, fmax=1e-4, smax=1e-6)
    assert relaxed.converged
    assert check_symmetry(relaxed.atoms, 1e-5).number == check_symmetry(crystal, 1e-5).number == 123
    # 5e-4 Å of noise is within the tolerance of the symmetry; its odd part neither grows nor moves
    noisy = crystal.copy()
    noisy.rattle(1e-4, seed=1)
    kept = relax(model(), noisy, fixed_symmetry=True, fmax=1e-4, smax=1e-6)
    assert check_symmetry(kept.atoms, 2e-3).number == 123
    assert kept.energy == pytest.approx(relaxed.energy, abs=1e-5)


def test_many_structures_are_what_single_ones_are():
    rng = np.random.default_rng(0)
    frames = []
    for k in range(40):
        atoms = alloy() if k % 20 else bulk("Ni", a=3.4 + 0.005 * k)
        atoms.rattle(0.05, rng=rng)
        atoms.symbols[:] = rng.choice(["Cu", "Ni", "Pd"], len(atoms))
        frames.append(atoms)
    frames[7].set_cell(frames[7].cell.array * 0.75, scale_atoms=True)
    frames[11].positions[1] = frames[11].positions[0]
    together = relax(model(), frames, fmax=1e-4, smax=1e-6)
    assert [one.converged for one in together] == [k not in (7, 11) for k in range(40)]
    assert "apart" in together[11].problem
    assert "volume" in together[7].problem
    for k in (1, 22):
        alone = relax(model(), frames[k], fmax=1e-4, smax=1e-6)
        assert together[k].energy == pytest.approx(alone.energy, abs=1e-6)
        assert together[k].atoms.get_chemical_formula() == frames[k].get_chemical_formula()


def test_the_last_of_many_large_structures_go_on_in_a_smaller_table(monkeypatch):
    """Above a size the table shrinks when few are left; here above one of no atoms at all."""
    monkeypatch.setattr(minimization, "_SMALL", 0)
    frames = [alloy() for _ in range(8)]
    frames[3].rattle(0.15, seed=1)
    for frame in frames[:3] + frames[4:]:
        frame.set_positions(relax(model(), alloy(), cell=False).atoms.positions)
    found = relax(model(), frames, cell=False)
    alone = relax(model(), frames[3], cell=False)
    assert all(one.converged for one in found)
    assert found[3].n_steps > 2 * found[0].n_steps
    assert found[3].energy == pytest.approx(alone.energy, abs=1e-9)


def test_ases_criterion():
    relaxed = relax(model(), alloy(), fmax=1e-3, smax=None)
    assert relaxed.converged
    assert ases_forces(relaxed.atoms) <= 1.01e-3  # its derivative of the logarithm is taken elsewhere


def test_like_structures_share_one_program():
    from jaxmlip.simulate.deformation import Freedom
    from jaxmlip.simulate.minimization import _program

    first = relax(model(), alloy())
    run = _program(model().potential, "lbfgs", Freedom(), False)
    compiled = run.advance._cache_size(), run.start._cache_size()
    other = alloy()
    other.symbols[:] = ["Ni", "Ni", "Cu", "Pd"]
    other.set_cell(other.cell.array * 1.01, scale_atoms=True)
    second = relax(model(), other)
    assert first.converged
    assert second.converged
    assert (run.advance._cache_size(), run.start._cache_size()) == compiled


def test_says_when_it_did_not_converge():
    relaxed = relax(model(), alloy(), max_steps=3)
    assert not relaxed.converged
    assert relaxed.n_steps == 3
    assert relaxed.problem.startswith("not converged in 3 steps: largest force")


def test_says_when_it_ran_away():
    compressed = alloy()
    compressed.set_cell(compressed.cell.array * 0.75, scale_atoms=True)  # the minimum has more than twice the volume
    relaxed = relax(model(), compressed)
    assert not relaxed.converged
    assert np.isnan(relaxed.energy)
    assert "ran away: the volume became" in relaxed.problem
    potential, params = model().potential, model().params
    attractive = Model(potential, {**params, "depth": -params["depth"]})  # a well at zero distance
    assert "ran away" in relax(attractive, alloy(), cell=False).problem
    broken = Model(potential, {**params, "depth": params["depth"] * np.nan})
    assert "not a finite number" in relax(broken, alloy()).problem


def test_bad_input():
    slab = alloy()
    slab.pbc = [True, True, False]
    with pytest.raises(ValueError, match="cell=False"):
        relax(model(), slab)
    with pytest.raises(ValueError, match="unknown element 'Mo'"):
        relax(model(), bulk("Mo"))
    with pytest.raises(ValueError, match="fmax: expected float > 0"):
        relax(model(), alloy(), fmax=0.0)
    with pytest.raises(ValueError, match="pressure"):
        relax(model(), alloy(), cell=False, pressure=1.0)
    with pytest.raises(ValueError, match="nothing to relax"):
        relax(model(), alloy(), cell=False, positions=False)
    assert relax(model(), []) == []


def test_few_sizes_are_compiled_without_much_padding():
    def sizes(*n_atoms):
        return sorted(set(minimization._sizes(np.array(n_atoms)).tolist()))

    assert sizes(1) == [1]
    assert sizes(5, 6, 17, 30) == [32]
    assert sizes(*[8] * 500, *[30] * 100, 500) == [8, 32, 500]
    many = np.random.default_rng(0).integers(8, 41, 500)
    padded = minimization._sizes(many)
    assert len(np.unique(padded)) == 2
    assert (padded >= many).all()
    assert padded.sum() < 1.5 * many.sum()
