import numpy as np
import pytest
from ase.build import bulk
from ase.filters import FrechetCellFilter
from ase.optimize import LBFGS
from morse import alloy, model

from jaxmlip.potentials.base import Model
from jaxmlip.simulate import calculator, relax


@pytest.mark.parametrize("cell", [True, False])
def test_finds_the_minimum_that_ase_finds(cell):
    atoms = alloy()
    relaxed = relax(model(), atoms, cell=cell, fmax=1e-3, smax=1e-5)
    assert relaxed.converged, relaxed.problem
    assert relaxed.max_force <= 1e-3
    atoms.calc = calculator(model())
    assert LBFGS(FrechetCellFilter(atoms) if cell else atoms, logfile=None).run(fmax=1e-3, steps=300)
    # both end with forces of 1e-3 eV/Å: the energy above the minimum is of order f²/2k = 1e-7 eV an atom
    assert relaxed.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-5)
    assert relaxed.atoms.get_volume() == pytest.approx(atoms.get_volume(), rel=1e-3)
    # what it reports is what the calculator says of the structure it returns
    found = relaxed.atoms
    found.calc = calculator(model())
    assert found.get_potential_energy() == pytest.approx(relaxed.energy, abs=1e-10)
    assert np.linalg.norm(found.get_forces(), axis=1).max() == pytest.approx(relaxed.max_force, abs=1e-9)
    if cell:
        assert np.abs(found.get_stress()).max() == pytest.approx(relaxed.max_stress, abs=1e-10)
    else:
        np.testing.assert_array_equal(found.cell.array, alloy().cell.array)


def test_like_structures_share_one_program():
    from jaxmlip.simulate.relax import _program

    first = relax(model(), alloy())
    run = _program(model().potential, (True, True, True), True)
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
    potential, params = model()
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
    with pytest.raises(ValueError, match="must be positive"):
        relax(model(), alloy(), fmax=0.0)
