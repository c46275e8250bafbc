from dataclasses import replace

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.constraints import FixAtoms, FixBondLength
from ase.md.nose_hoover_chain import MTKNPT, NoseHooverChainNVT
from ase.md.verlet import VelocityVerlet
from ase.units import fs
from morse import alloy, model

from jaxmlip.simulate import Dynamics, calculator, molecular_dynamics, nve, relax
from jaxmlip.simulate.dynamics import driver, flexible, start
from jaxmlip.simulate.dynamics.recorder import Recorder
from jaxmlip.simulate.neighbor_list import plan
from jaxmlip.units import BOLTZMANN


@pytest.fixture(scope="module")
def alloy_cell():
    atoms = bulk("Cu", cubic=True, a=3.55) * (2, 1, 1)
    atoms.symbols[:] = ["Cu", "Ni", "Pd", "Cu", "Ni", "Ni", "Cu", "Pd"]
    return atoms


def test_conserves_energy(alloy_cell):
    run = nve(model(), alloy_cell, timestep=2.0, n_steps=1000, temperature=600.0, seed=1)
    assert run.time[-1] == 2000.0
    assert run.temperature[0] == pytest.approx(600)
    # velocity Verlet oscillates with dt², it does not drift: 2 ps of 8 atoms show at most 0.1 meV/atom/ps
    assert abs(run.drift) < 0.1
    total = run.potential_energy + run.kinetic_energy
    assert np.ptp(total) / len(alloy_cell) < 2e-3
    momentum = np.einsum("a,fax->fx", alloy_cell.get_masses(), run.velocities)
    np.testing.assert_allclose(momentum, 0, atol=1e-10)


def test_follows_ases_verlet(alloy_cell):
    run = nve(model(), alloy_cell, timestep=1.0, n_steps=20, temperature=300.0)
    atoms = alloy_cell.copy()
    atoms.calc = calculator(model())
    atoms.set_velocities(run.velocities[0] / fs)
    VelocityVerlet(atoms, timestep=1.0 * fs).run(20)
    np.testing.assert_allclose(run.positions[-1], atoms.positions, atol=1e-9)
    np.testing.assert_allclose(run.atoms.get_velocities(), atoms.get_velocities(), atol=1e-9)
    assert run.potential_energy[-1] == pytest.approx(atoms.get_potential_energy(), abs=1e-9)


def test_an_overflow_repeats_the_steps_with_a_larger_list(alloy_cell, monkeypatch):
    expected = nve(model(), alloy_cell, n_steps=20)
    made = []

    def counted(*arguments):
        made.append(plan(*arguments))
        return made[-1]

    # at the start an atom has 42 neighbours, and the next shell stands 0.02 Å beyond the cutoff
    monkeypatch.setattr(start, "plan", lambda *arguments: plan(*arguments)._replace(inner=42))
    monkeypatch.setattr(driver, "plan", counted)
    found = nve(model(), alloy_cell, n_steps=20)
    assert len(made) == 1
    np.testing.assert_allclose(found.positions, expected.positions, atol=1e-10)


def test_a_list_that_was_too_old_repeats_the_steps(alloy_cell, monkeypatch):
    hot = {"n_steps": 40, "temperature": 3000.0, "frame_every": 40, "timestep": 2.0, "checkpoint_every": 40}
    expected = molecular_dynamics(model(), alloy_cell, ensemble="nve", skin=0.3, **hot)
    monkeypatch.setattr(start, "plan", lambda *arguments: plan(*arguments)._replace(margin=1e-3))
    found = molecular_dynamics(model(), alloy_cell, ensemble="nve", skin=0.3, **hot)
    np.testing.assert_allclose(found.positions, expected.positions, atol=1e-8)


@pytest.mark.parametrize("ensemble", ["nvt", "npt"])
def test_follows_ases_baths(alloy_cell, ensemble, monkeypatch):
    """The same equations of motion, given ASE's numbers of degrees of freedom, factorized in another order."""
    atoms = alloy_cell.copy()
    atoms.calc = calculator(model(), skin=0.6)
    atoms.set_velocities(nve(model(), alloy_cell, n_steps=10, temperature=500.0).velocities[0] / fs)
    ours = atoms.copy()
    times = {"tdamp": 40 * fs, "temperature_K": 500}
    if ensemble == "nvt":
        theirs = NoseHooverChainNVT(atoms, timestep=1.0 * fs, **times)
    else:
        theirs = MTKNPT(atoms, timestep=1.0 * fs, pressure_au=0.02, pdamp=200 * fs, **times)
    theirs.run(40)
    settings = Dynamics(
        ensemble, timestep=1.0, n_steps=40, temperature=500.0, thermostat_time=40.0, pressure=0.02,
        barostat_time=200.0, keep_velocities=True, log_every=40, frame_every=40, checkpoint_every=40,
    )  # fmt: skip
    monkeypatch.setattr(start, "_n_dof", lambda atoms, *_: 3 * len(atoms))
    monkeypatch.setattr(flexible, "_CELL_DOF", 9)
    run = molecular_dynamics(model(), ours, settings)
    # the thermostats' substeps differ, which is of second order in dt: 2e-8 Å at 1 fs, a quarter of it at 0.5 fs
    np.testing.assert_allclose(run.atoms.positions, atoms.positions, atol=1e-7)
    np.testing.assert_allclose(run.atoms.get_momenta(), atoms.get_momenta(), atol=1e-6)
    np.testing.assert_allclose(run.atoms.cell.array, atoms.cell.array, atol=1e-7)
    assert run.conserved_energy[-1] == pytest.approx(theirs.get_conserved_energy(), abs=1e-5)


@pytest.fixture(scope="module")
def crystal():
    return bulk("Cu", cubic=True, a=3.47) * (2, 2, 2)


@pytest.mark.parametrize("ensemble", ["nvt", "langevin", "csvr", "npt"])
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
        assert not np.allclose(run.cells[-1], run.cells[-1][0, 0] * np.eye(3))


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
def test_a_stopped_run_goes_on_as_if_nothing_had_been(alloy_cell, tmp_path, ensemble, suffix):
    settings = Dynamics(ensemble, timestep=2.0, n_steps=120, temperature=600.0, checkpoint_every=40, frame_every=20)
    settings = replace(settings, trajectory=suffix)
    whole = molecular_dynamics(model(), alloy_cell, settings, folder=tmp_path / "whole")

    class Stop(Exception):  # noqa: N818
        pass

    def stop(self, step, row, atoms, keep=Recorder.row):
        keep(self, step, row, atoms)
        if step == 90:
            raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recorder, "row", stop)
        with pytest.raises(Stop):
            molecular_dynamics(model(), alloy_cell, settings, folder=tmp_path / "stopped")
    again = molecular_dynamics(model(), alloy_cell, settings, folder=tmp_path / "stopped")
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
    longer = molecular_dynamics(model(), alloy_cell, settings, folder=tmp_path / "stopped", n_steps=160)
    assert longer.time[-1] == 320
    with pytest.raises(ValueError, match="another model, start or settings"):
        molecular_dynamics(model(), alloy_cell, settings, folder=tmp_path / "stopped", temperature=300.0)


def test_single_precision_follows_double_precision(alloy_cell):
    double, single = (
        molecular_dynamics(model(), alloy_cell, ensemble="nve", n_steps=20, precision=precision, frame_every=20)
        for precision in ("float64", "float32")
    )
    assert single.positions.dtype == np.float64
    np.testing.assert_allclose(single.positions, double.positions, atol=1e-5)
    assert single.potential_energy[-1] != double.potential_energy[-1]


def test_a_run_that_blows_up_is_an_error():
    with pytest.raises(RuntimeError, match=r"blew up.*shorter timestep"):
        nve(model(), alloy(), timestep=50.0, n_steps=100, temperature=20000.0)
    with pytest.raises(ValueError, match="1602 GPa: give it in"):
        Dynamics("npt", pressure=10.0)
    collapsing = {"pressure": 4.0, "barostat_time": 50.0, "n_steps": 2000}
    with pytest.raises(RuntimeError, match="blew up"):
        molecular_dynamics(model(), alloy(), ensemble="npt", **collapsing)


def test_many_structures_move_as_each_alone():
    frames = [alloy(), alloy(), bulk("Ni", a=3.5)]
    frames[1].symbols[:] = ["Ni", "Ni", "Cu", "Pd"]
    settings = Dynamics("npt", n_steps=20, frame_every=20, timestep=2.0, temperature=500.0, checkpoint_every=20)
    many = molecular_dynamics(model(), frames, settings)
    assert [len(run.atoms) for run in many] == [4, 4, 1]
    alone = molecular_dynamics(model(), frames[1], replace(settings, seed=1))
    # the same operations in another order: rounding
    np.testing.assert_allclose(many[1].positions, alone.positions, atol=1e-9)
    np.testing.assert_allclose(many[1].conserved_energy, alone.conserved_energy, atol=1e-9)
    assert many[1].atoms.get_chemical_formula() == frames[1].get_chemical_formula()


def test_held_atoms_stay(alloy_cell):
    held = alloy_cell.copy()
    held.set_constraint(FixAtoms([0, 3]))
    for ensemble in ("nvt", "langevin"):
        run = molecular_dynamics(model(), held, ensemble=ensemble, n_steps=20, temperature=600.0)
        np.testing.assert_allclose(run.atoms.positions[[0, 3]], held.positions[[0, 3]], atol=1e-12)
        assert np.abs(run.atoms.positions - held.positions)[1:3].min() > 1e-4
        assert len(run.atoms.constraints) == 1
        assert run.temperature[0] == pytest.approx(600)
    held.set_constraint(FixBondLength(0, 1))
    with pytest.raises(ValueError, match="FixBondLengths; dynamics here keep FixAtoms"):
        molecular_dynamics(model(), held)


def spring(positions, cell):
    """eV, of an atom to a place."""
    return 0.5 * 2.0 * ((positions[0] - 1.0) ** 2).sum()


def static_energy(atoms):
    atoms = atoms.copy()
    atoms.calc = calculator(model())
    return atoms.get_potential_energy()


def test_bias_observables_and_progress(alloy_cell):
    rows = []
    settings = Dynamics("nve", n_steps=40, temperature=300.0, log_every=5, frame_every=20, checkpoint_every=40)
    functions = {"bias": spring, "observables": {"x": lambda atoms: atoms.positions[0, 0]}}
    run = molecular_dynamics(model(), alloy_cell, settings, show_progress=rows.append, **functions)
    total = run.potential_energy + run.kinetic_energy
    assert run.potential_energy[0] == pytest.approx(static_energy(alloy_cell) + 3.0, abs=1e-9)
    assert np.ptp(run.potential_energy) > 0.1
    assert np.ptp(total) < 0.01 * np.ptp(run.potential_energy)  # the spring's force is the slope of its energy
    assert len(run.observables["x"]) == len(run.time) == 9
    assert run.observables["x"][-1] == run.positions[-1][0, 0]
    assert run.observables["x"][0] < run.observables["x"][-1]  # towards 1 Å
    assert [len(frame) for frame in run.frames] == [8, 8, 8]
    np.testing.assert_allclose(run.frames[-1].get_velocities(), run.atoms.get_velocities())
    assert "8 atoms, 40 fs" in repr(run)
    assert rows[-1]["step"] == 40
    assert rows[-1]["ns_per_day"] > 0


def test_a_temperature_that_is_a_function_of_time(alloy_cell):
    heat = {"ensemble": "langevin", "n_steps": 100, "friction": 0.2, "frame_every": 100}
    functional = molecular_dynamics(model(), alloy_cell, temperature=lambda time: 100.0 + 10 * time, **heat)
    linear = molecular_dynamics(model(), alloy_cell, temperature=100.0, final_temperature=1100.0, **heat)
    np.testing.assert_allclose(functional.positions, linear.positions, atol=1e-9)
    assert functional.temperature[-3:].mean() > 400 > functional.temperature[:2].mean()


def test_a_pair_of_the_users_own(alloy_cell):
    """jax-md's velocity Verlet, given as its users write it, is ours."""
    from jax_md import simulate

    settings = Dynamics("nve", n_steps=20, frame_every=20, checkpoint_every=20)
    ours = molecular_dynamics(model(), alloy_cell, settings)
    theirs = molecular_dynamics(model(), alloy_cell, settings, simulator=simulate.nve)
    np.testing.assert_allclose(theirs.positions, ours.positions, atol=1e-9)
    np.testing.assert_allclose(theirs.potential_energy, ours.potential_energy, atol=1e-9)
    brownian = molecular_dynamics(model(), alloy_cell, settings, ensemble="brownian", friction=0.1)
    assert np.isfinite(brownian.potential_energy).all()
    assert brownian.potential_energy[-1] > brownian.potential_energy[0]


def test_an_interrupt_returns_what_was_run(alloy_cell, tmp_path, monkeypatch):
    settings = Dynamics("nve", n_steps=60, frame_every=10, checkpoint_every=60)
    whole = molecular_dynamics(model(), alloy_cell, settings)
    calls = []

    def interrupted(*arguments, keep=driver._chunk):
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return keep(*arguments)

    monkeypatch.setattr(driver, "_chunk", interrupted)
    part = molecular_dynamics(model(), alloy_cell, settings, folder=tmp_path / "run")
    assert part.time[-1] == 30
    assert len(part.frames) == 4
    rest = molecular_dynamics(model(), alloy_cell, settings, folder=tmp_path / "run")
    np.testing.assert_array_equal(rest.atoms.positions, whole.atoms.positions)


def test_a_refused_structure_leaves_no_folder(tmp_path):
    overlapping = bulk("Cu", cubic=True)
    overlapping.positions[1] = overlapping.positions[0]
    with pytest.raises(ValueError, match="0 Å apart"):
        molecular_dynamics(model(), overlapping, folder=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_bad_input(alloy_cell):
    with pytest.raises(ValueError, match="multiples of log_every"):
        nve(model(), alloy_cell, n_steps=15)
    with pytest.raises(ValueError, match="timestep"):
        nve(model(), alloy_cell, timestep=0.0)
    slab = alloy_cell.copy()
    slab.pbc = [True, True, False]
    with pytest.raises(ValueError, match="npt changes the cell"):
        molecular_dynamics(model(), slab, ensemble="npt")
    with pytest.raises(ValueError, match="0 K"):
        Dynamics("nvt", temperature=0.0)
