"""Dynamics and relaxation of every family, and of many atoms."""

import resource

import numpy as np
import pytest
from ase.build import bulk
from ase.md.verlet import VelocityVerlet
from ase.units import fs
from families import model, rocksalt
from morse import model as morse_model

from jaxmlip.potentials import trainable
from jaxmlip.simulate import calculator, molecular_dynamics, relax
from jaxmlip.simulate.neighbor_list import plan


@pytest.fixture(scope="module", params=trainable())
def moving(request):
    return model(request.param)


def test_dynamics(moving):
    run = molecular_dynamics(moving, rocksalt(), ensemble="nve", timestep=0.5, n_steps=10, log_every=1, frame_every=10)
    total = run.potential_energy + run.kinetic_energy
    # velocity Verlet's error is of second order: what is exchanged in 5 fs is kept to a percent
    assert np.ptp(run.potential_energy) > 1e-5
    assert np.ptp(total) < 0.01 * np.ptp(run.potential_energy)
    atoms = rocksalt()
    atoms.calc = calculator(moving)
    atoms.set_velocities(run.velocities[0] / fs)
    VelocityVerlet(atoms, timestep=0.5 * fs).run(10)
    np.testing.assert_allclose(run.positions[-1], atoms.positions, atol=1e-9)
    assert run.potential_energy[-1] == pytest.approx(atoms.get_potential_energy(), abs=1e-8)


def test_relaxation(moving):
    atoms = rocksalt()
    atoms.calc = calculator(moving)
    relaxed = relax(moving, rocksalt(), max_steps=4)
    assert 0 < relaxed.n_steps <= 4
    found = relaxed.atoms
    found.calc = atoms.calc
    assert relaxed.energy == pytest.approx(found.get_potential_energy(), abs=1e-8)
    assert relaxed.max_force == pytest.approx(np.linalg.norm(found.get_forces(), axis=1).max(), abs=1e-7)
    assert relaxed.max_stress == pytest.approx(np.abs(found.get_stress()).max(), abs=1e-8)
    assert relaxed.energy < atoms.get_potential_energy()
    assert not np.allclose(found.cell.array, atoms.cell.array)


def test_fifty_thousand_atoms(compile_well):
    cutoff, crystal = 3.3, bulk("Cu", cubic=True, a=3.6) * (24, 24, 22)
    assert len(crystal) > 50_000
    assert min(plan(crystal, cutoff, 1.0).bins) > 10  # linked cells
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run = molecular_dynamics(morse_model(cutoff), crystal, ensemble="nvt", n_steps=4, log_every=4, frame_every=4)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (after - before) * 1024 < 1.5e9
    assert np.ptp(run.conserved_energy) / len(crystal) < 1e-6
    assert np.ptp(run.kinetic_energy) / len(crystal) > 2e-5
    one = bulk("Cu", cubic=True, a=3.6)
    one.calc = calculator(morse_model(cutoff))
    assert run.potential_energy[0] / len(crystal) == pytest.approx(one.get_potential_energy() / 4, abs=1e-9)
