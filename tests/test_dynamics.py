from dataclasses import replace

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.constraints import FixAtoms
from ase.md.nose_hoover_chain import MTKNPT, NoseHooverChainNVT
from ase.md.verlet import VelocityVerlet
from ase.units import fs
from morse import alloy, model

from jaxmlip.simulate import Dynamics, calculator, dynamics, molecular_dynamics, nve, relax
from jaxmlip.simulate.neighbor_list import plan
from jaxmlip.simulate.recorder import Recorder
from jaxmlip.units import BOLTZMANN


@pytest.fixture(scope="module")
def start():
    atoms = bulk("Cu", cubic=True, a=3.55) * (2, 1, 1)
    atoms.symbols[:] = ["Cu", "Ni", "Pd", "Cu", "Ni", "Ni", "Cu", "Pd"]
    return atoms


def test_conserves_energy(start):
    run = nve(model(), start, timestep=2.0, n_steps=1000, temperature=600.0, seed=1)
    assert run.time[-1] == 2000.0
    assert run.temperature[0] == pytest.approx(600)
    # velocity Verlet oscillates with dt², it does not drift: 2 ps of 8 atoms show at most 0.1 meV/atom/ps
    assert abs(run.drift) < 0.1
    total = run.potential_energy + run.kinetic_energy
    assert np.ptp(total) / len(start) < 2e-3
    momentum = np.einsum("a,fax->fx", start.get_masses(), run.velocities)
    np.testing.assert_allclose(momentum, 0, atol=1e-10)


def test_follows_ases_verlet(start):
    run = nve(model(), start, timestep=1.0, n_steps=20, temperature=300.0)
    atoms = start.copy()
    atoms.calc = calculator(model())
    atoms.set_velocities(run.velocities[0] / fs)
    VelocityVerlet(atoms, timestep=1.0 * fs).run(20)
    np.testing.assert_allclose(run.positions[-1], atoms.positions, atol=1e-9)
    np.testing.assert_allclose(run.atoms.get_velocities(), atoms.get_velocities(), atol=1e-9)
    assert run.potential_energy[-1] == pytest.approx(atoms.get_potential_energy(), abs=1e-9)


def test_an_overflow_repeats_the_steps_with_a_larger_list(start, monkeypatch):
    expected = nve(model(), start, n_steps=20)
    made = []

    def tight(*arguments):
        made.append(plan(*arguments))
        return made[-1] if made[1:] else made[-1]._replace(inner=made[-1].inner // 2)

    monkeypatch.setattr(dynamics, "plan", tight)
    found = nve(model(), start, n_steps=20)
    assert len(made) > 1
    np.testing.assert_allclose(found.positions, expected.positions, atol=1e-10)


@pytest.mark.parametrize("ensemble", ["nvt", "npt"])
def test_follows_ases_baths(start, ensemble):
    """Step by step, given ASE's numbers of degrees of freedom: the same factorization of the propagator."""
    atoms = start.copy()
    atoms.calc = calculator(model(), skin=0.6)
    atoms.set_velocities(nve(model(), start, n_steps=10, temperature=500.0).velocities[0] / fs)
    ours = atoms.copy()
    times = {"tdamp": 40 * fs, "temperature_K": 500}
    if ensemble == "nvt":
        theirs = NoseHooverChainNVT(atoms, timestep=2 * fs, **times)
    else:
        theirs = MTKNPT(atoms, timestep=2 * fs, pressure_au=0.02, pdamp=200 * fs, **times)
    theirs.run(20)
    settings = Dynamics(ensemble, timestep=2.0, n_steps=20, temperature=500.0, thermostat_time=40.0, log_every=20)
    settings = replace(settings, pressure=0.02, barostat_time=200.0, keep_velocities=True, frame_every=20)
    settings = replace(settings, checkpoint_every=20)
    prepared = dynamics._prepared

    def ases(*arguments):
        run = prepared(*arguments)
        return run._replace(bath=run.bath._replace(n_dof=run.bath.n_dof + 3, cell_dof=run.bath.cell_dof + 3))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dynamics, "_prepared", ases)
        run = molecular_dynamics(model(), ours, settings)
    # rounding grows with the motion: 1e-9 Å after 20 steps
    np.testing.assert_allclose(run.atoms.positions, atoms.positions, atol=1e-9)
    np.testing.assert_allclose(run.atoms.get_momenta(), atoms.get_momenta(), atol=1e-8)
    np.testing.assert_allclose(run.atoms.cell.array, atoms.cell.array, atol=1e-9)
    assert run.conserved_energy[-1] == pytest.approx(theirs.get_conserved_energy(), abs=1e-8)


@pytest.fixture(scope="module")
def crystal():
    return bulk("Cu", cubic=True, a=3.47) * (2, 2, 2)


@pytest.mark.parametrize("ensemble", ["nvt", "langevin", "npt"])
def test_averages_and_fluctuations_of_a_bath(crystal, ensemble, compile_well):
    pressure = 0.01
    settings = Dynamics(ensemble, timestep=4.0, n_steps=8000, temperature=400.0, pressure=pressure, friction=0.01)
    settings = replace(settings, thermostat_time=50.0, barostat_time=200.0, frame_every=8000, checkpoint_every=8000)
    run = molecular_dynamics(model(), crystal, settings, seed=3)
    rest = slice(100, None)  # after 4 ps
    n_dof = 3 * len(crystal) - (0 if ensemble == "langevin" else 3)
    kinetic, kT = run.kinetic_energy[rest], 400 * BOLTZMANN
    # 28 ps with a correlation time of some 0.1 ps: the mean is known to about 1 %, the variance to 15 %
    assert kinetic.mean() == pytest.approx(n_dof * kT / 2, rel=0.03)
    assert kinetic.var() == pytest.approx(n_dof * kT**2 / 2, rel=0.35)
    # equipartition of harmonic motion: the potential energy above the minimum fluctuates as the kinetic one
    assert run.potential_energy[rest].var() == pytest.approx(kinetic.var(), rel=0.6)
    # the conserved quantity of the extended system: 4 fs are a sixtieth of the fastest period
    assert abs(run.drift) < 1.0
    if ensemble == "npt":
        np.testing.assert_allclose(-run.stress[rest].mean(axis=0), pressure * np.eye(3), atol=1e-3)
        # Var(V) = kT V κ with κ from two relaxed volumes at 0 K: within a factor, hot crystals are softer
        low, high = (relax(model(), crystal, pressure=p).atoms.get_volume() for p in (pressure, pressure + 2e-3))
        compressibility = (low - high) / (low * 2e-3)
        volume = run.volume[rest]
        assert 0.5 < volume.var() / (kT * volume.mean() * compressibility) < 3
        lengths = np.ptp(run.stress[rest, 0, 1])
        assert lengths > 0


def test_a_small_cell_with_images_is_an_explicit_supercell():
    cell = alloy()
    cell.set_velocities(np.random.default_rng(1).normal(scale=0.02, size=(4, 3)))
    settings = Dynamics("nve", timestep=2.0, n_steps=100, keep_velocities=True, frame_every=20)
    small = molecular_dynamics(model(), cell, settings)
    large = molecular_dynamics(model(), cell * (3, 3, 3), settings)
    np.testing.assert_allclose(large.positions[:, :4], small.positions, atol=1e-9)
    np.testing.assert_allclose(large.potential_energy, 27 * small.potential_energy, atol=1e-8)
    np.testing.assert_allclose(large.stress, small.stress, atol=1e-10)


@pytest.mark.parametrize(("ensemble", "suffix"), [("npt", "extxyz"), ("langevin", "traj")])
def test_a_stopped_run_goes_on_as_if_nothing_had_been(start, tmp_path, ensemble, suffix):
    settings = Dynamics(ensemble, timestep=2.0, n_steps=120, temperature=600.0, checkpoint_every=40, frame_every=20)
    settings = replace(settings, trajectory=suffix)
    whole = molecular_dynamics(model(), start, settings, folder=tmp_path / "whole")

    class Stop(Exception):  # noqa: N818
        pass

    def stop(self, step, row, keep=Recorder.row):
        keep(self, step, row)
        if step == 90:
            raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recorder, "row", stop)
        with pytest.raises(Stop):
            molecular_dynamics(model(), start, settings, folder=tmp_path / "stopped")
    again = molecular_dynamics(model(), start, settings, folder=tmp_path / "stopped")
    for name in ("log.csv",) if suffix == "traj" else ("log.csv", "trajectory.extxyz"):
        assert (tmp_path / "stopped" / name).read_text() == (tmp_path / "whole" / name).read_text()
    np.testing.assert_array_equal(again.positions[-1], whole.positions[-1])
    np.testing.assert_array_equal(again.potential_energy, whole.potential_energy)
    frames = ase.io.read(tmp_path / "stopped" / f"trajectory.{suffix}", index=":")
    assert len(frames) == 7
    if suffix == "extxyz":
        assert [frame.info["step"] for frame in frames] == list(range(0, 121, 20))
    np.testing.assert_allclose(frames[-1].positions, whole.positions[-1], atol=1e-8)
    np.testing.assert_allclose(frames[-1].get_velocities(), whole.atoms.get_velocities(), atol=1e-8)
    # a longer run continues the finished one; another one is refused
    longer = molecular_dynamics(model(), start, settings, folder=tmp_path / "stopped", n_steps=160)
    assert longer.time[-1] == 320
    with pytest.raises(ValueError, match="another model, start or settings"):
        molecular_dynamics(model(), start, settings, folder=tmp_path / "stopped", temperature=300.0)


def test_single_precision_follows_double_precision(start):
    double, single = (
        molecular_dynamics(model(), start, ensemble="nve", n_steps=20, precision=precision, frame_every=20)
        for precision in ("float64", "float32")
    )
    assert single.positions.dtype == np.float64
    np.testing.assert_allclose(single.positions, double.positions, atol=1e-5)
    assert single.potential_energy[-1] != double.potential_energy[-1]


def test_a_run_that_blows_up_is_an_error():
    hot = alloy()
    with pytest.raises(RuntimeError, match=r"blew up.*shorter timestep"):
        nve(model(), hot, timestep=50.0, n_steps=100, temperature=20000.0)


def test_a_refused_structure_leaves_no_folder(tmp_path):
    overlapping = bulk("Cu", cubic=True)
    overlapping.positions[1] = overlapping.positions[0]
    with pytest.raises(ValueError, match="0 Å apart"):
        molecular_dynamics(model(), overlapping, folder=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_bad_input(start):
    with pytest.raises(ValueError, match="multiples of log_every"):
        nve(model(), start, n_steps=15)
    with pytest.raises(ValueError, match="timestep"):
        nve(model(), start, timestep=0.0)
    slab, held = start.copy(), start.copy()
    slab.pbc = [True, True, False]
    held.set_constraint(FixAtoms([0]))
    with pytest.raises(ValueError, match="npt changes the cell"):
        molecular_dynamics(model(), slab, ensemble="npt")
    with pytest.raises(ValueError, match="has constraints"):
        molecular_dynamics(model(), held)
    with pytest.raises(ValueError, match="0 K"):
        Dynamics("nvt", temperature=0.0)
