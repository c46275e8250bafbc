"""Distillation with a cheap teacher: what is made, what is told, what is chosen, and going on after a kill."""

import dataclasses
import json

import ase
import numpy as np
import pytest
from ase.build import bulk

import jaxmlip
from jaxmlip.cathodes import layered
from jaxmlip.data.labels import labels
from jaxmlip.graph.neighbors import neighbor_pairs
from jaxmlip.learning import Around, Distillation, Exploration, Place, Student, around, distil
from jaxmlip.learning.exploration import dynamics, relaxations
from jaxmlip.learning.offsets import aligned
from jaxmlip.learning.selection import informative
from jaxmlip.learning.structures import CLOSE, is_sound, metals_of, moved_layers
from jaxmlip.potentials.model import Model
from jaxmlip.potentials.zbl import ZBLConfig, zbl

SPECIES = ("Li", "O", "Mn", "Ni")


@pytest.fixture(scope="module")
def seeds():
    """Rocksalt cells of eight atoms with two metals, without labels."""
    found = []
    for k, metal in enumerate(("Mn", "Ni", "Mn", "Ni")):
        cell = bulk("LiO", "rocksalt", a=4.2, cubic=True)
        cell.symbols[[0, 4]] = metal
        cell.rattle(0.05, seed=k)
        found.append(cell)
    return found


@pytest.fixture(scope="module")
def teacher():
    """Screened nuclei, which repel each other up to 4 Å: a rocksalt is at rest in its cell."""
    potential = zbl(ZBLConfig(species=SPECIES, cutoff=4.0, inner=1.0))
    return Model(potential, {"offsets": -np.arange(4.0)})


def test_each_kind_changes_what_its_name_says(seeds):
    made = around(seeds, Around(number=60))
    kinds = {kind: [one for one in made if one.info["kind"] == kind] for kind in ("rattled", "strained", "swapped")}
    gone = [one for one in made if one.info["kind"] == "delithiated"]
    assert all([*kinds.values(), gone])
    assert all((one.symbols == "Li").sum() < 2 for one in gone)  # of two lithium atoms at least one left
    for one in kinds["rattled"]:
        assert one.numbers.tolist() == seeds[one.info["seed"]].numbers.tolist()
        assert np.array_equal(one.cell, seeds[one.info["seed"]].cell)
    for one in kinds["strained"]:
        F = np.linalg.solve(seeds[one.info["seed"]].cell.array, one.cell.array)
        assert 0 < np.abs(F - np.eye(3)).max() <= Around().largest_strain + 1e-12
        assert np.allclose(F, F.T, atol=1e-12)  # a strain does not rotate
    assert {metals_of([one]) for one in kinds["swapped"]} >= {("Mn", "Ni")}  # mixtures that no seed has
    assert all((one.symbols == "O").sum() == 4 for one in made)
    assert all(one.calc is None and is_sound(one) for one in made)


@pytest.mark.parametrize("repeat", [(1, 1, 1), (2, 1, 1), (1, 3, 2)])
def test_layers_move_as_rigid_bodies(repeat):
    """Of CoO2: distances within layers stay to 1e-9 Å, in whatever cell; LiCoO2 has none that lithium does not bind."""
    full = layered("Co")
    empty = full[[atom.symbol != "Li" for atom in full]].repeat(repeat)
    assert moved_layers(full.repeat(repeat), np.random.default_rng(0)) is None
    assert moved_layers(empty[[0, 0, 1]], np.random.default_rng(0)) is None  # overlapping atoms
    changes = []
    for seed in range(20):
        moved = moved_layers(empty, np.random.default_rng(seed), largest=0.8)
        volumes = [cell.get_volume() / np.prod(repeat) for cell in (empty, moved)]
        area = np.linalg.norm(np.cross(full.cell[0] - full.cell[1], full.cell[1] - full.cell[2]))
        changes.append((volumes[1] - volumes[0]) / area)
        bonds = [neighbor_pairs(cell, 2.2) for cell in (empty, moved)]
        assert len(bonds[0].centers) == 12 * np.prod(repeat)  # six oxygens around each cobalt, in both directions
        assert np.allclose(np.sort(bonds[0].distances), np.sort(bonds[1].distances), rtol=0, atol=1e-9)
    assert -0.2 - 1e-9 < min(changes) < 0 < 0.5 < max(changes) < 0.8


def test_a_structure_depends_on_its_number_alone(seeds):
    few, many = around(seeds, Around(number=5)), around(seeds, Around(number=9))
    assert all(np.array_equal(a.positions, b.positions) for a, b in zip(few, many, strict=False))
    other = around(seeds, Around(number=5, seed=1))
    assert not any(
        np.array_equal(a.positions, b.positions) for a, b in zip(few, other, strict=True) if len(a) == len(b)
    )


def test_close_atoms_are_no_structure():
    distance = CLOSE * 2 * 0.66  # of two oxygens
    assert is_sound(ase.Atoms("O2", [[0, 0, 0], [0, 0, distance + 0.01]]))
    assert not is_sound(ase.Atoms("O2", [[0, 0, 0], [0, 0, distance - 0.01]]))
    assert not is_sound(ase.Atoms("O2", np.zeros((2, 3))))


def test_dynamics_vibrates(teacher, seeds):
    """Atoms vibrate and stay where they belong; the same seed gives the same run."""
    settings = Exploration(temperatures=(300.0,), n_steps=20, snapshots=2, timestep=4.0, friction=0.05, dtype="float64")
    found = dynamics(teacher, seeds, settings)
    assert len(found) == 8
    assert {one.info["kind"] for one in found} == {"dynamics"}
    moved = np.concatenate([(one.positions - seeds[k % 4].positions).ravel() for k, one in enumerate(found)])
    assert 0.02 < moved.std() < 0.5  # Å: they vibrate and do not fly apart
    again = dynamics(teacher, seeds, settings)
    assert all(np.array_equal(a.positions, b.positions) for a, b in zip(found, again, strict=True))


def test_relaxations_go_down(teacher, seeds):
    found = relaxations(teacher, seeds[:1], Exploration(relaxation_steps=40, snapshots=4, dtype="float64"))
    energy = [labels(one).energy for one in found]
    force = [np.abs(labels(one).forces).max() for one in found]
    assert energy == sorted(energy, reverse=True)
    assert force[-1] < force[0] / 2


def test_alignment_finds_the_offsets(teacher, seeds):
    moved = Model(teacher.potential, {**teacher.params, "offsets": np.zeros(4)})
    cells = [ase.Atoms(symbol, cell=[9, 9, 9], pbc=True) for symbol in SPECIES]  # alone: the offsets are all there is
    from jaxmlip.learning.exploration import labelled

    told = labelled(teacher, cells, dtype="float64")
    found = aligned(moved, told, dtype="float64")
    assert np.allclose(found.params["offsets"], teacher.params["offsets"], atol=1e-12)
    with pytest.raises(ValueError, match="none of the 4 structures has an energy"):
        aligned(moved, cells)


def test_informative_structures_are_the_different_ones(seeds):
    """Of many copies of one structure and one that differs, the one that differs is taken."""
    model = Model(
        potential := jaxmlip.build("snap", species=SPECIES, cutoff=3.5, twojmax=2), potential.init(None, None)
    )
    pool = [*[seeds[0]] * 10, seeds[1], seeds[0]]
    assert 10 in informative(model, pool, 2)
    assert len(informative(model, pool, 5)) == 5
    assert informative(model, pool, 20) == list(range(12))


SETTINGS = Distillation(
    labels=24,
    around=Around(number=30),
    dynamics=1,
    relaxations=2,
    exploration=Exploration(n_steps=10, relaxation_steps=6, snapshots=2, dtype="float64"),
    atoms_per_job=64,
    held_out=0.2,
)


def snap(train):
    return jaxmlip.build("snap", species=SPECIES, cutoff=3.5, twojmax=4)


@pytest.fixture(scope="module")
def distilled(teacher, seeds, tmp_path_factory):
    from jaxmlip.learning.exploration import labelled

    told = labelled(teacher, seeds, dtype="float64")
    place = Place(tmp_path_factory.mktemp("distilled"))
    shifted = Model(teacher.potential, {**teacher.params, "offsets": np.ones(4)})
    return distil(shifted, Student(snap), told, SETTINGS, place), place, (shifted, told)


def test_a_student_learns_what_the_teacher_says(distilled):
    found, place, _ = distilled
    train = jaxmlip.read(place.folder / "train.extxyz")
    spread = np.std([labels(one).forces for one in train if len(one) == 8])
    assert found.against_teacher["forces"].rmse < spread / 2
    assert found.against_reference["energy"].rmse < 0.02  # the teacher's offsets were ones, its energies fitted
    rows = json.loads((place.folder / "errors.json").read_text())
    assert {row["against"] for row in rows} == {"teacher, held out", "seeds"}


def test_a_killed_distillation_goes_on(distilled, monkeypatch):
    """Without one of its jobs the same call runs that job alone, and ends in the same bits."""
    found, place, (teacher, told) = distilled
    from jaxmlip.learning import jobs

    calls = []
    run = jobs.run_job
    monkeypatch.setattr(jobs, "run_job", lambda job, *rest: (calls.append(job.name), run(job, *rest)))
    (place.folder / "jobs" / "label-0001.extxyz").unlink()
    again = distil(teacher, Student(snap), told, SETTINGS, place)
    assert calls == ["label-0001.extxyz"]
    assert np.array_equal(again.model.params["coefficients"], found.model.params["coefficients"])


def test_another_distillation_is_refused(distilled):
    _, place, (teacher, told) = distilled
    with pytest.raises(ValueError, match="another teacher, other seeds or settings"):
        distil(teacher, Student(snap), told, dataclasses.replace(SETTINGS, seed=1), place)


def test_the_command_distils(teacher, seeds, tmp_path, capsys):
    from jaxmlip.cli import main
    from jaxmlip.learning.exploration import labelled

    jaxmlip.save(teacher, tmp_path / "teacher.npz")
    jaxmlip.write(tmp_path / "seeds.extxyz", labelled(teacher, seeds, dtype="float64"))
    words = ["distil", str(tmp_path / "teacher.npz"), "--student", "snap", "--data", str(tmp_path / "seeds.extxyz")]
    words += ["--test", str(tmp_path / "seeds.extxyz"), "--out", str(tmp_path / "out"), "--potential.cutoff", "3.5"]
    words += ["--potential.twojmax", "4", "--ask.labels", "12", "--ask.around.number", "12", "--ask.dynamics", "0"]
    assert main([*words, "--ask.relaxations", "0"]) == 0
    assert jaxmlip.load(tmp_path / "out" / "model.npz").potential.config.symbols == ("Li", "O", "Mn", "Ni")
    assert "teacher, held out" in capsys.readouterr().out
    assert main(["distil", str(tmp_path / "teacher.npz"), "--student", "snapp"]) == 2
    assert "did you mean 'snap'" in capsys.readouterr().err
