import numpy as np
import pytest
from ase.build import bulk
from ase.md.verlet import VelocityVerlet
from ase.units import fs
from morse import alloy, model

from jaxmlip.simulate import calculator, nve


@pytest.fixture(scope="module")
def start():
    atoms = bulk("Cu", cubic=True, a=3.55) * (2, 1, 1)
    atoms.symbols[:] = ["Cu", "Ni", "Pd", "Cu", "Ni", "Ni", "Cu", "Pd"]
    return atoms


def test_conserves_energy(start):
    run = nve(model(), start, timestep=2.0, n_steps=1000, temperature=600.0, seed=1)
    assert run.time[-1] == 2000.0
    assert run.temperature[0] == pytest.approx(600, rel=0.6)  # 21 degrees of freedom: one draw scatters by 30 %
    # velocity Verlet oscillates with dt², it does not drift: 2 ps of 8 atoms show at most 0.1 meV/atom/ps
    assert abs(run.drift) < 0.1
    total = run.potential_energy + run.kinetic_energy
    assert np.ptp(total) / len(start) < 2e-3
    momentum = np.einsum("a,fax->fx", start.get_masses(), run.velocities)
    np.testing.assert_allclose(momentum, 0, atol=1e-6)  # jax-md rounds time steps to float32


def test_follows_ases_verlet(start):
    run = nve(model(), start, timestep=1.0, n_steps=20, temperature=300.0)
    atoms = start.copy()
    atoms.calc = calculator(model())
    atoms.set_velocities(run.velocities[0] / fs)
    VelocityVerlet(atoms, timestep=1.0 * fs).run(20)
    # jax-md holds dt in float32: 6e-8 of a path of 0.2 Å
    np.testing.assert_allclose(run.positions[-1], atoms.positions, atol=1e-6)
    np.testing.assert_allclose(run.atoms.get_velocities(), atoms.get_velocities(), atol=1e-6)
    assert run.potential_energy[-1] == pytest.approx(atoms.get_potential_energy(), abs=1e-6)


def test_an_overflow_repeats_the_steps_with_a_larger_list(start, monkeypatch):
    from jaxmlip.simulate import dynamics

    expected = nve(model(), start, n_steps=20)
    allocate, extras = dynamics._allocate, []

    def tight(run, model, atoms, positions, box, extra=0):
        extras.append(extra)
        return allocate(run, model, atoms, positions, box, extra if extra else -40)

    monkeypatch.setattr(dynamics, "_allocate", tight)
    found = nve(model(), start, n_steps=20)
    assert len(extras) > 1
    np.testing.assert_allclose(found.positions, expected.positions, atol=1e-10)


def test_a_run_that_blows_up_is_an_error():
    hot = alloy()
    with pytest.raises(RuntimeError, match=r"blew up.*shorter timestep"):
        nve(model(), hot, timestep=50.0, n_steps=100, temperature=20000.0)


def test_bad_input(start):
    with pytest.raises(ValueError, match="multiple of 10"):
        nve(model(), start, n_steps=15)
    with pytest.raises(ValueError, match="timestep"):
        nve(model(), start, timestep=0.0)
