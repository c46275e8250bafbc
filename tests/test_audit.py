"""The audit finds what is broken, and only that."""

import re
import time
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from jaxmlip import datasets
from jaxmlip.data import (
    AuditSettings,
    Labels,
    attach,
    audit,
    clean,
    findings_rows,
    labels,
    leakage,
    read,
    trajectories,
)

DATA = Path(__file__).parent / "data"


def rocksalts(n: int, *, seed: int = 0) -> list[Atoms]:
    """Good structures: rattled MgO with plausible labels, energies spread by 10 meV/atom."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(n):
        atoms = bulk("MgO", "rocksalt", a=4.2 * rng.uniform(0.98, 1.02), cubic=True)
        atoms.positions += rng.normal(0, 0.05, (8, 3))
        forces = rng.normal(0, 0.5, (8, 3))
        attach(atoms, Labels(-48.0 + 0.08 * rng.normal(), forces - forces.mean(axis=0), 0.01 * np.eye(3)))
        frames.append(atoms)
    return frames


def checks(findings, severity="broken") -> set[tuple[int, str]]:
    return {(item.index, item.check) for item in findings if item.severity == severity}


def relabel(atoms: Atoms, **new) -> None:
    attach(atoms, labels(atoms)._replace(**new))


def test_finds_exactly_the_three_corrupt_cells():
    frames = read(DATA / "ldr_three_broken.xyz.xz")
    findings = audit(frames)
    broken = {frames[item.index].info["id"] for item in findings if item.severity == "broken"}
    assert broken == {1015, 2086, 2182}
    kept = clean(frames, findings)
    assert len(kept) == len(frames) - 3
    assert not checks(audit(kept))
    assert "Li4Ni2Ti2O8 id=1015" in " ".join(row[0] for row in findings_rows(findings))


@pytest.mark.parametrize("name", datasets.available())
def test_shipped_data_are_clean(name):
    assert not checks(audit(datasets.load(name)))


def test_good_structures_pass():
    assert audit(rocksalts(40)) == []


def test_overlap_through_a_periodic_image():
    frames = rocksalts(1)
    moved = bulk("MgO", "rocksalt", a=4.2, cubic=True)
    moved.positions[0] = [0.05, 0.05, 0.05]
    moved.positions[3] = moved.cell.array[0] - 0.1
    attach(moved, labels(frames[0]))
    assert checks(audit([moved])) == {(0, "overlap")}


@pytest.mark.parametrize("name", ["O2", "H2", "CO2", "CH4"])
def test_molecules_do_not_overlap(name):
    atoms = molecule(name, vacuum=5.0)
    attach(atoms, Labels(-9.0, np.zeros((len(atoms), 3)), None))
    assert audit([atoms]) == []
    atoms.calc = None
    atoms.cell[:] = 0
    attach(atoms, Labels(-9.0, np.zeros((len(atoms), 3)), None))
    assert audit([atoms]) == []


def test_impossible_volume_and_no_volume():
    dense, flat = bulk("Mo", a=2.2), bulk("Mo")
    flat.cell[2] = flat.cell[1]
    for atoms in (dense, flat):
        attach(atoms, Labels(-10.0, np.zeros((1, 3)), None))
    assert checks(audit([dense, flat])) >= {(0, "volume"), (1, "volume")}


def test_a_cell_far_from_its_kind_is_suspicious():
    frames = rocksalts(20)
    stored = labels(frames[4])
    frames[4].set_cell(2 * frames[4].cell.array)
    attach(frames[4], stored)
    findings = audit(frames)
    assert checks(findings) == set()
    assert (4, "volume") in checks(findings, "suspicious")


def test_energies():
    frames = rocksalts(40)
    relabel(frames[3], energy=-480.0)  # a slipped decimal point
    relabel(frames[5], energy=-40.0)  # 1 eV/atom too high
    findings = audit(frames)
    assert checks(findings) == {(3, "energy")}
    assert checks(findings, "suspicious") == {(5, "energy")}


def test_many_outliers_do_not_move_the_fit():
    frames = rocksalts(60)
    for index in range(0, 60, 4):
        relabel(frames[index], energy=-4800.0)
    assert checks(audit(frames)) == {(index, "energy") for index in range(0, 60, 4)}


def test_a_high_energy_needs_forces():
    frames = rocksalts(40)
    forces = labels(frames[7]).forces
    assert forces is not None
    relabel(frames[6], energy=-48.0 + 8 * 15)
    relabel(frames[7], energy=-48.0 + 8 * 15, forces=40 * forces / np.abs(forces).max())
    assert checks(audit(frames)) == {(6, "energy")}


def test_forces_and_stress():
    frames = rocksalts(5)
    forces = labels(frames[0]).forces
    assert forces is not None
    relabel(frames[0], forces=forces + 0.1)
    relabel(frames[1], forces=1e4 * forces)
    relabel(frames[2], stress=5.0 * np.eye(3))  # GPa
    findings = audit(frames)
    assert checks(findings) == {(1, "force")}
    assert checks(findings, "suspicious") == {(0, "net force"), (2, "stress")}


def test_missing_and_nan_labels():
    frames = rocksalts(6)
    relabel(frames[0], energy=None)
    relabel(frames[1], forces=None)
    relabel(frames[2], energy=np.nan)
    relabel(frames[3], forces=np.full((8, 3), np.nan))
    frames[4].calc = None
    stored = labels(frames[5])
    frames[5].positions[0] = np.nan
    attach(frames[5], stored)
    findings = audit(frames)
    assert checks(findings) == {
        (0, "missing label"),
        (2, "not a number"),
        (3, "not a number"),
        (4, "missing label"),
        (5, "not a number"),
    }
    assert (1, "missing label") in checks(findings, "suspicious")


def test_duplicates_up_to_order_and_images():
    frames = rocksalts(4)
    stored = labels(frames[1])
    order = np.random.default_rng(1).permutation(8)
    twin = frames[1][order]
    twin.positions += np.array([[1, 0, -1]]) @ twin.cell.array
    twin.wrap()
    assert stored.forces is not None
    assert stored.energy is not None
    attach(twin, Labels(stored.energy + 0.8, stored.forces[order], stored.stress))
    (found,) = audit([*frames, twin])
    assert (found.index, found.check) == (4, "duplicate")
    assert found.value == pytest.approx(0.1)
    assert "number 1, with another energy (+100 meV/atom)" in found.message


def test_many_copies_are_quick():
    start = time.process_time()
    findings = audit([rocksalts(1)[0]] * 1000)
    assert sum(item.check == "duplicate" for item in findings) == 999
    assert time.process_time() - start < 5


def test_swapped_elements_are_no_duplicate():
    first = rocksalts(1)[0]
    second = first.copy()
    second.numbers[[0, 1]] = second.numbers[[1, 0]]
    attach(second, labels(first))
    assert audit([first, second]) == []


def test_leakage_and_trajectories():
    parents = [bulk("MgO", "rocksalt", a=4.2) * 2, bulk("MgO", "zincblende", a=4.6) * 2, bulk("Mo") * 2]
    frames = []
    for seed in range(3):
        for atoms in parents:
            frames.append(atoms.copy())
            frames[-1].rattle(0.05, seed=seed)
            frames[-1].positions += 0.7 * seed  # drift of the whole cell
            frames[-1].set_cell(frames[-1].cell.array * (1 + 0.005 * seed), scale_atoms=True)
    assert trajectories(frames).tolist() == [0, 1, 2] * 3
    assert [item.index for item in leakage(frames[:2], frames[3:6])] == [0, 1]
    findings = audit(frames[3:6], other=frames[:2])
    assert {item.index for item in findings if item.check == "leakage"} == {0, 1}


def test_rows_are_counted_when_many():
    frames = [bulk("Mo") for _ in range(5)]
    rows = findings_rows(audit(frames), max_per_check=2)
    assert ("3 more", "missing label", "", "broken") in rows


def test_bad_input():
    with pytest.raises(ValueError, match="no structures"):
        audit([])
    with pytest.raises(ValueError, match="overlap_broken: expected float > 0, got 0"):
        AuditSettings(overlap_broken=0.0)


def with_emt(atoms):
    from ase.calculators.emt import EMT

    new = atoms.copy()
    new.calc = EMT()
    found = Labels(new.get_potential_energy() - 3.5 * len(new), new.get_forces(), new.get_stress(voigt=False))
    attach(new, found)
    return new


def scaled(frames, *, energy=1.0, forces=1.0, stress=1.0):
    result = []
    for atoms in frames:
        new, item = atoms.copy(), labels(atoms)
        attach(new, Labels(item.energy * energy, item.forces * forces, item.stress * stress))
        result.append(new)
    return result


@pytest.fixture(scope="module")
def volumes():
    return [with_emt(bulk("Cu", cubic=True, a=a)) for a in np.linspace(3.4, 3.9, 9)]


@pytest.fixture(scope="module")
def trajectory():
    """32 atoms on waves, one cell."""
    start = bulk("Cu", cubic=True, a=3.62) * (2, 2, 2)
    frames = []
    for k in range(6):
        atoms = start.copy()
        atoms.positions += 0.15 * np.sin(0.4 * k + np.arange(96).reshape(32, 3))
        frames.append(with_emt(atoms))
    return frames


def named(frames, check):
    return sorted({item.message for item in audit(frames) if item.check == check})


@pytest.mark.parametrize(
    ("factor", "reason"), [(-1.0, "of the other sign"), (160.2, "in GPa"), (-1602.0, "in kbar and of the other sign")]
)
def test_stresses_of_neighbouring_volumes_tell_their_unit_and_sign(volumes, factor, reason):
    assert audit(volumes) == []
    (message,) = named(scaled(volumes, stress=factor), "unit of stress")
    assert reason in message
    assert "dE/dV" in message


def test_without_energies_the_slope_over_the_volume_and_the_size_tell(volumes, trajectory):
    (message,) = named(scaled(volumes, energy=np.nan, stress=-1.0), "unit of stress")
    assert "falls as the volume grows" in message
    (message,) = named(scaled(volumes, energy=np.nan, stress=160.2), "unit of stress")
    assert "bulk modulus" in message
    (message,) = named(scaled(trajectory, stress=16.0), "unit of stress")
    assert "half of the stresses" in message


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"energy": 1 / 32}, r"energies are per atom \(32 atoms\)"),
        ({"energy": 1 / 27.2114}, "energies are in Hartree"),
        ({"forces": -1.0}, "of the other sign"),
        ({"forces": 1 / 51.422}, "forces are in Hartree/Bohr"),
    ],
)
def test_forces_along_a_trajectory_tell_the_unit(trajectory, change, reason):
    assert audit(trajectory) == []
    (message,) = named(scaled(trajectory, **change), "unit of forces")
    assert re.search(reason, message)


def test_energies_per_atom_show_in_cells_of_several_sizes(volumes, trajectory):
    frames = [*volumes, *trajectory]
    assert audit(frames) == []
    wrong = [new for atoms in frames for new in scaled([atoms], energy=1 / len(atoms))]
    assert "energy per atom instead of per cell?" in named(wrong, "energy per atom")[0]
    one = [*frames[:3], *scaled(frames[3:4], energy=1 / 4), *frames[4:]]
    assert "looks like one per atom" in named(one, "energy")[0]


def test_loops_that_did_not_converge_and_several_levels(volumes):
    frames = scaled(volumes)
    for k, atoms in enumerate(frames):
        atoms.info["run_type"] = "GGA+U" if k == 2 else "GGA"
    frames[5].info["converged"] = False
    found = {(item.index, item.check, item.severity) for item in audit(frames)}
    assert found == {(2, "level of theory", "suspicious"), (5, "not converged", "broken")}
    findings = audit(frames)
    assert len(clean(frames, findings)) == len(frames) - 1
    assert len(clean(frames, findings, drop="suspicious")) == len(frames) - 2
