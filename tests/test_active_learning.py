"""Active learning with a cheap calculator: its parts, what it leaves after kills, its command and its page."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import ase
import browser
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

import jaxmlip
from jaxmlip.config import ConfigError
from jaxmlip.data.labels import labels
from jaxmlip.evaluate.grade import grades_by_halves, structure_rows
from jaxmlip.learning import Exploration, Place, Student
from jaxmlip.learning.active import Doubt, Explorer, Exploring, Fitted, Labelling, Learning, choose, label_all, learn
from jaxmlip.learning.active.choice import information_matrix, representative
from jaxmlip.learning.active.explorers import EXPLORERS, MonteCarlo, explorer
from jaxmlip.learning.active.rounds import drawn
from jaxmlip.learning.active.uncertainty import uncertainty
from jaxmlip.learning.exploration import dynamics
from jaxmlip.potentials.model import Model
from jaxmlip.potentials.zbl import ZBLConfig, zbl

CALLS = []


class CountingEMT(EMT):
    """EMT that notes what it was asked."""

    def calculate(self, atoms, *rest):
        CALLS.append(atoms.positions.tobytes())
        super().calculate(atoms, *rest)


class NoNumber(EMT):
    def get_forces(self, *rest, **further):
        return np.full((len(self.atoms), 3), np.nan)


class NoSilver(EMT):
    def calculate(self, atoms, *rest):
        if "Ag" in atoms.symbols:
            raise RuntimeError("silver")
        super().calculate(atoms, *rest)


def breathing(model, starts, exploring, rng):
    """An explorer of one's own: cells of other sizes."""
    found = []
    for start in starts:
        cell = start.copy()
        cell.set_cell(cell.cell.array * rng.uniform(*exploring.options["factors"]), scale_atoms=True)
        found.append(cell)
    return found


LOOKED = []


def looking(model, starts, exploring, rng):
    """An explorer that notes which of some cells a replica may go on from."""
    cells = [starts[0].copy(), starts[0].copy()]
    cells[0].rattle(0.2, seed=1)
    cells[1].set_cell(cells[1].cell.array * 0.4, scale_atoms=True)
    LOOKED.append((cells, exploring.inside(cells)))
    return cells[:1]


def copper(n=6, size=1):
    """Cubic cells of four atoms."""
    found = []
    for k in range(n):
        cell = bulk("Cu", "fcc", a=3.5 + 0.03 * k, cubic=True).repeat((size, 1, 1))
        cell.rattle(0.05, seed=k)
        found.append(cell)
    return found


def snap():
    return jaxmlip.build("snap", species=("Cu",), cutoff=3.5, twojmax=4)


HERE = "test_active_learning"
SETTINGS = Learning(
    budget=11,
    per_round=4,
    starts=4,
    explore=(
        Explorer("dynamics", 2.0, {"n_steps": 6, "snapshots": 2, "temperatures": [900.0], "dtype": "float64"}),
        Explorer(f"{HERE}.breathing", 1.0, {"factors": [0.93, 1.1]}),
    ),
    doubt=Doubt(soft=1.05),
    label=Labelling(calculator=f"{HERE}.CountingEMT"),
)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Copper with the labels of EMT, and SNAP fitted to it."""
    cells = label_all(copper(), Labelling(calculator="ase.calculators.emt.EMT"), tmp_path_factory.mktemp("told")).good
    return jaxmlip.fit(snap(), cells)[0], cells


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A learning that nobody disturbed."""
    CALLS.clear()
    place = Place(tmp_path_factory.mktemp("learned"))
    return learn(Student(snap()), copper(), SETTINGS, place), place.folder, list(CALLS)


def same(found, expected):
    assert found.ended == expected.ended
    assert len(found.train) == len(expected.train)
    for one, other in zip(found.train, expected.train, strict=True):
        assert np.array_equal(one.positions, other.positions)
        assert labels(one).energy == labels(other).energy
    for name, leaf in expected.model.params.items():
        assert np.array_equal(found.model.params[name], leaf), name
    keys = [{k: v for k, v in row.items() if k != "seconds"} for row in expected.rows]
    assert [{k: v for k, v in row.items() if k != "seconds"} for row in found.rows] == keys


# --- the whole ---


def test_a_learning_asks_where_it_does_not_know(learned):
    found, folder, calls = learned
    assert found.ended == "budget"
    assert len(found.train) == SETTINGS.budget == len(calls) == len(set(calls))  # none paid for twice
    assert {str(one.info.get("explorer")) for one in found.train[4:]} <= {"dynamics", f"{HERE}.breathing", "given"}
    assert all(one.info["doubt"] > SETTINGS.doubt.soft for one in found.train[4:])
    assert [row["n_train"] for row in found.rows] == [4, 8, 11]
    assert len(jaxmlip.read(folder / "train.extxyz")) == 11
    kept = jaxmlip.load(folder / "model.npz")
    assert np.array_equal(kept.params["coefficients"], found.model.params["coefficients"])
    rows = [json.loads(line) for line in (folder / "labels.jsonl").read_text().splitlines()]
    assert len(rows) == 7
    assert all(row["force_error"] > 0 for row in rows)


def test_starts_are_drawn_evenly_over_formulas():
    """Of 1,000 draws with replacement 500 ± 16 are of either formula; 4 σ are allowed. Few enough come once each."""
    many = [bulk("Cu", a=3.6 + 0.01 * k) for k in range(19)] + [bulk("Au")]
    found = drawn(many, 1000, np.random.default_rng(0))
    assert abs(sum(one.symbols[0] == "Au" for one in found) - 500) < 64
    few = drawn(many, 10, np.random.default_rng(0))
    assert len({one.get_volume() for one in few}) == 10
    assert "Au" in {one.symbols[0] for one in few}


class Killed(BaseException):
    """Stands for the death of the process."""


def test_kills_at_many_points_change_nothing(learned, tmp_path, monkeypatch):
    """Files are put in place by `Path.replace`: the run dies before or after the n-th of these, over and over."""
    expected, _, calls = learned
    CALLS.clear()
    rename, kills, rng, left = Path.replace, 0, np.random.default_rng(0), [0]

    def replace(self, target):
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        done = rename(self, target)
        if left[0] == 0 and kills % 2:
            raise Killed
        return done

    monkeypatch.setattr(Path, "replace", replace)
    while kills < 36:
        left[0] = int(rng.integers(1, 4))
        try:
            learn(Student(snap()), copper(), SETTINGS, Place(tmp_path))
            break
        except Killed:
            kills += 1
    left[0] = 10**6
    assert kills >= 30
    assert len(list(tmp_path.glob("round-*/labels/*"))) >= 4  # the kills were spread over several rounds
    same(learn(Student(snap()), copper(), SETTINGS, Place(tmp_path)), expected)
    assert set(CALLS) == set(calls)
    assert not list(tmp_path.rglob(".*"))  # no half-written file


def test_a_process_that_is_killed_goes_on(learned, tmp_path):
    """SIGKILL in the middle of the labels of the first round."""
    code = (
        "import sys, jax; jax.config.update('jax_enable_x64', True); sys.path.insert(0, sys.argv[2]);"
        f"import {HERE} as t, pathlib;"
        "t.learn(t.Student(t.snap()), t.copper(), t.SETTINGS, t.Place(pathlib.Path(sys.argv[1])))"
    )
    words = [sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parent)]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL, env=os.environ | {"PYTHONWARNINGS": "ignore"})
    until = time.monotonic() + 120
    while not (tmp_path / "round-000/labels/0001.extxyz").exists() and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.005)
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "round-001/labels/0001.extxyz").exists()
    same(learn(Student(snap()), copper(), SETTINGS, Place(tmp_path)), learned[0])


def test_a_larger_budget_prolongs_and_other_settings_are_refused(learned):
    import dataclasses

    found, folder, _ = learned
    CALLS.clear()
    longer = dataclasses.replace(SETTINGS, budget=13)
    again = learn(Student(snap()), copper(), longer, Place(folder))
    assert len(again.train) <= 13
    assert len(CALLS) == len(again.train) - 11
    assert all(np.array_equal(a.positions, b.positions) for a, b in zip(again.train, found.train, strict=False))
    with pytest.raises(ValueError, match="other data, of another potential or with other settings"):
        learn(Student(snap()), copper(), dataclasses.replace(SETTINGS, seed=1), Place(folder))


def test_it_ends_where_the_exploration_stays_inside(told, tmp_path):
    import dataclasses

    _, cells = told
    calm = dataclasses.replace(
        SETTINGS,
        explore=(Explorer(f"{HERE}.breathing", 1.0, {"factors": [1.0, 1.0]}),),
        doubt=Doubt(kind="committee", n_members=2, soft=50.0, hard=100.0),
    )
    lines = []
    found = learn(Student(snap()), cells, calm, Place(tmp_path, None, lines.append), test=cells[:2])
    assert (found.ended, len(found.train)) == ("inside", len(cells))
    assert lines[0].startswith("round 0: 6 labels, test ")
    assert lines[0].endswith("end: it stays inside")
    assert (tmp_path / "round-000/member-1.npz").exists()


def test_random_selection_takes_any(told, tmp_path, monkeypatch):
    import dataclasses

    from jaxmlip.learning.active import loop

    looked = []
    monkeypatch.setattr(loop, "forget_programs", lambda: looked.append(True))  # else a hundred rounds crash JAX

    _, cells = told
    any_ = dataclasses.replace(SETTINGS, choice="random", budget=3, per_round=3)
    found = learn(Student(snap()), cells, any_, Place(tmp_path))
    assert (found.ended, len(found.train)) == ("budget", len(cells) + 3)
    assert len(looked) == len(found.rows)


def test_without_explorers_it_asks_for_the_structures_given(tmp_path):
    """Four of copper and two with silver: first one of each; none twice, failed or not; it ends where none is left."""
    cells = copper(6)
    for cell in cells[4:]:
        cell.symbols[0] = "Ag"
    potential = jaxmlip.build("snap", species=("Cu", "Ag"), cutoff=3.5, twojmax=2)
    label = Labelling(calculator=f"{HERE}.NoSilver", retries=0)
    settings = Learning(per_round=2, explore=(), doubt=Doubt(soft=1e-9), label=label, twins=1e-9)
    lines = []
    student = Student(potential, jaxmlip.fitting.LinearFit(ridge=1e-6))  # a single label is enough
    found = learn(student, cells, settings, Place(tmp_path, None, lines.append))
    assert lines[1] == "first labels: 1, failed: 1"
    assert (found.ended, found.rows[-1]["spent"]) == ("inside", 6)
    assert sorted(one.info["given"] for one in found.train) == list(range(4))


# --- labels ---


def test_failures_are_kept_apart_with_their_reason(tmp_path):
    cells = copper(3)
    told = label_all(cells, Labelling(calculator=f"{HERE}.NoNumber"), tmp_path / "nan")
    assert not told.good
    assert {one.reason for one in told.failed} == {"an energy or a force is not a finite number"}
    assert len(list((tmp_path / "nan/failed").glob("*.extxyz"))) == 3
    told = label_all([ase.Atoms("U")], Labelling(calculator="ase.calculators.emt.EMT"), tmp_path / "uranium")
    assert "No EMT-potential for U" in told.failed[0].reason
    told = label_all(cells[:1], Labelling(calculator="ase.calculators.emt.EMT", largest_force=1e-3), tmp_path / "force")
    assert "above largest_force = 0.001" in told.failed[0].reason


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("sys.exit('no licence')", "exit code 1: no licence"),
        ("time.sleep(60)", "took longer than 2 s"),
        ("pass", "wrote no {output}"),
        ("out(text.replace('pbc=', 'converged=F energy=-1 pbc='))", "did not converge"),
        ("out(text.replace('pbc=', 'energy=-1 pbc='))", "gave no forces"),
        ("out('1\\nenergy=-1\\nCu 0 0 0')", "another structure"),
    ],
)
def test_a_command_that_fails_says_why(tmp_path, body, reason):
    program = tmp_path / "dft.py"
    program.write_text(
        "import pathlib, sys, time\ntext = pathlib.Path(sys.argv[1]).read_text()\n"
        f"out = pathlib.Path(sys.argv[2]).write_text\n{body}\n"
    )
    settings = Labelling(command=f"{sys.executable} -S {program} {{input}} {{output}}", time_limit=2.0, retries=0)
    told = label_all(copper(1), settings, tmp_path)
    assert reason in told.failed[0].reason
    program.unlink()
    assert label_all(copper(1), settings, tmp_path).failed[0].reason == told.failed[0].reason  # not tried again


def test_a_failed_command_is_tried_again(tmp_path):
    """The first call fails, the second labels: each atom pulled by 1 eV/Å."""
    program = tmp_path / "dft.py"
    program.write_text(
        "import pathlib, sys\nflag = pathlib.Path(__file__).with_name('flag')\n"
        "if not flag.exists():\n    flag.touch()\n    sys.exit(1)\n"
        "n, head, *rows = pathlib.Path(sys.argv[1]).read_text().splitlines()\n"
        "head = head.replace('pos:R:3', 'pos:R:3:forces:R:3') + ' energy=-2.5'\n"
        "pathlib.Path(sys.argv[2]).write_text('\\n'.join([n, head, *(row + ' 1 0 0' for row in rows)]))\n"
    )
    told = label_all(copper(1), Labelling(command=f"{sys.executable} -S {program} {{input}} {{output}}"), tmp_path)
    assert labels(told.good[0]).energy == -2.5
    assert np.array_equal(labels(told.good[0]).forces, np.tile([1.0, 0.0, 0.0], (4, 1)))


def test_processes_give_the_same_labels(tmp_path):
    cells = copper(2)
    here = label_all(
        cells, Labelling(calculator="ase.calculators.emt.EMT", arguments={"asap_cutoff": True}), tmp_path / "a"
    )
    settings = Labelling(calculator="ase.calculators.emt.EMT", arguments={"asap_cutoff": True}, processes=2)
    there = label_all(cells, settings, tmp_path / "b")
    for one, other in zip(here.good, there.good, strict=True):
        assert labels(one).energy == labels(other).energy
        assert np.array_equal(labels(one).forces, labels(other).forces)


def test_a_labeller_that_never_succeeds_ends_the_learning(told, tmp_path):
    import dataclasses

    _, cells = told
    broken = dataclasses.replace(SETTINGS, label=Labelling(calculator=f"{HERE}.NoNumber", retries=0))
    with pytest.raises(ValueError, match=r"none of 4 calculations succeeded.*not a finite number"):
        learn(Student(snap()), cells, broken, Place(tmp_path))


# --- parts ---


@pytest.mark.parametrize("kind", ["grade", "committee", "variance"])
def test_each_uncertainty_is_one_at_the_edge_of_the_data(told, kind):
    _, cells = told
    potential = snap()
    if kind == "variance":
        potential = jaxmlip.build("gap", species=("Cu",), cutoff=3.5, n_max=2, l_max=2)
    fit = jaxmlip.fitting.GaussianProcessFit(n_sparse=8) if kind == "variance" else jaxmlip.fitting.LinearFit()
    model, _ = jaxmlip.fit(potential, cells, settings=fit)
    doubt = uncertainty(Fitted(model, cells, potential, fit), Doubt(kind=kind))
    inside = doubt(cells)
    assert np.quantile(inside, 0.95) == pytest.approx(1.0)  # by its definition
    pressed = cells[0].copy()
    pressed.set_cell(pressed.cell.array * 0.85, scale_atoms=True)
    assert doubt([pressed])[0] > 2
    if kind != "variance":
        with pytest.raises(ValueError, match="no variance"):
            uncertainty(Fitted(model, cells, potential), Doubt(kind="variance"))


def test_the_hard_limit_counts_from_how_far_the_data_lie_apart(told, tmp_path):
    import dataclasses

    model, cells = told
    few, many = (uncertainty(Fitted(model, copper(n), model.potential), Doubt()) for n in (6, 80))
    assert few.apart > 100  # 24 atoms and 15 features: neither half spans them
    assert 1 / 3 < many.apart < 3
    assert np.isinf(uncertainty(Fitted(model, cells[:1], model.potential), Doubt()).apart)
    with pytest.raises(ValueError, match="at least two structures, got 1"):
        grades_by_halves(model, cells[:1])
    LOOKED.clear()
    settings = dataclasses.replace(SETTINGS, explore=(Explorer(f"{HERE}.looking"),), budget=1)
    found = learn(Student(snap()), cells, settings, Place(tmp_path))
    (seen, goes_on), *_ = LOOKED
    first = uncertainty(Fitted(model, cells, snap()), Doubt())
    assert found.rows[0]["apart"] == pytest.approx(first.apart)  # rounding of a fit made again
    assert first(seen)[0] > settings.doubt.hard  # which alone would end it
    assert goes_on == [True, False]


def test_the_most_telling_are_chosen_and_no_twins():
    rng = np.random.default_rng(0)
    kinds = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 9.0]])
    of = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 2])
    rows = kinds[of] + 0.1 * rng.normal(size=(10, 3))
    found = representative(rows, 10, information=np.eye(3), twins=0.0)
    assert of[found[0]] == 0  # of the most common kind first; one far from all before more of these
    assert set(of[found[:3]]) == {0, 1, 2}
    assert sorted(found) == list(range(10))
    told = representative(rows, 2, information=np.eye(3) + 900 * np.outer(kinds[0], kinds[0]))
    assert set(of[told]) == {1, 2}  # what the training data know, they need not be told
    again = representative(np.concatenate([rows, rows + 0.01]), 20, information=np.eye(3))
    assert len({k % 10 for k in again}) == len(again)
    model = Model(snap(), snap().init(None, None))
    cells = copper(4)
    doubts = np.array([30.0, 4.0, 1.5, 1000.0])
    assert set(choose(model, cells, doubts, 4, train=[], settings=Learning())) == {0, 1, 3}  # the third is not outside
    same_cells = [cells[0], *[cells[1]] * 3]
    assert len(choose(model, same_cells, np.full(4, 5.0), 4, train=[], settings=Learning())) == 2


FAMILIES = {
    "snap": ({"twojmax": 4}, jaxmlip.fitting.LinearFit()),
    "gap": ({"n_max": 2, "l_max": 2}, jaxmlip.fitting.GaussianProcessFit(n_sparse=8)),
    "aenet": ({"hidden": ("3:tanh",)}, jaxmlip.fitting.GradientFit(epochs=1)),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_what_the_labels_tell_is_not_asked_again(told, family):
    _, cells = told
    settings, fit = FAMILIES[family]
    model, _ = jaxmlip.fit(jaxmlip.build(family, species=("Cu",), cutoff=3.5, **settings), cells, settings=fit)
    pressed = [cell.copy() for cell in cells[:2]]
    for cell in pressed:
        cell.set_cell(cell.cell.array * 0.9, scale_atoms=True)
    picked = choose(model, [*cells, *pressed], np.full(len(cells) + 2, 5.0), 1, train=cells, settings=Learning())
    assert picked[0] >= len(cells)


def test_elements_without_labels_are_asked_for(told):
    _, cells = told
    potential = jaxmlip.build("snap", species=("Cu", "Ag"), cutoff=3.5, twojmax=4)
    silver = copper(2)
    for cell in silver:
        cell.symbols[0] = "Ag"
    model = Model(potential, potential.init(None, None))
    picked = choose(model, [*copper(8), *silver], np.full(10, 5.0), 1, train=cells, settings=Learning())
    assert picked[0] >= 8


def test_information_is_of_all_labels(told):
    model, cells = told
    energies = [frame.copy() for frame in cells]
    for one, frame in zip(energies, cells, strict=True):
        one.calc = SinglePointCalculator(one, energy=labels(frame).energy)
    rows = structure_rows(model, cells) / 4  # atoms a cell
    of_energies, of_all = (information_matrix(model, train, rows) for train in (energies, cells))
    expected = 30.0**2 * rows.T @ rows
    rounding = 1e-9 * np.abs(expected).max()
    apart = ~np.eye(len(of_all), dtype=bool)  # the pull is on the diagonal
    assert of_energies[apart] == pytest.approx(expected[apart], rel=0, abs=rounding)
    more = of_all - of_energies  # forces, and a pull that grows with the diagonal
    assert np.linalg.eigvalsh(more).min() > -rounding
    assert np.trace(more) > 0.01 * np.trace(of_energies)
    wrong = [frame.copy() for frame in cells]
    for one, frame in zip(wrong, cells, strict=True):
        one.calc, one.info["converged"] = frame.calc, False
    assert np.array_equal(information_matrix(model, [*cells, *wrong], rows), of_all)  # they are not fitted either


def test_replicas_end_where_they_leave_the_data():
    """Of two replicas the first may never go on: it has one snapshot, the other all four."""
    potential = zbl(ZBLConfig(species=("Cu",), cutoff=3.0, inner=1.0))
    model = Model(potential, potential.init(None, None))
    looked = []

    def inside(frames):
        looked.append(len(frames))
        return [frame.info["replica"] != 0 for frame in frames]

    options = Exploration(n_steps=8, snapshots=4, dtype="float64")
    found = EXPLORERS["dynamics"].function(model, copper(2), Exploring(options, inside), np.random.default_rng(0))
    assert [one.info["replica"] for one in found] == [0, 1, 1, 1, 1]
    assert looked == [2, 1, 1, 1]


def test_cells_breathe_under_pressure():
    """Repelling nuclei swell at 0 eV/Å³ and are pressed together at 3 eV/Å³; shapes stay."""
    potential = zbl(ZBLConfig(species=("Cu",), cutoff=4.0, inner=1.0))
    model = Model(potential, potential.init(None, None))
    settings = {"temperatures": (300.0,), "n_steps": 40, "snapshots": 1, "barostat_time": 50.0, "dtype": "float64"}
    (free,) = dynamics(model, copper(1), Exploration(pressures=(0.0,), **settings))
    (pressed,) = dynamics(model, copper(1), Exploration(pressures=(3.0,), **settings))
    assert pressed.get_volume() < 0.95 * copper(1)[0].get_volume() < free.get_volume()
    assert np.allclose(pressed.cell.angles(), 90)


def test_swaps_keep_the_composition(tmp_path):
    cells = copper(2, size=2)
    for cell in cells:
        cell.symbols[:4] = "Al"
    potential = zbl(ZBLConfig(species=("Al", "Cu"), cutoff=3.0, inner=1.0))
    model = Model(potential, potential.init(None, None))
    exploring = Exploring(
        MonteCarlo(n_steps=6, snapshots=3, temperatures=(5000.0,)), lambda frames: [True] * len(frames)
    )
    found = EXPLORERS["monte-carlo"].function(model, cells, exploring, np.random.default_rng(1))
    assert len(found) == 6
    assert {one.get_chemical_formula() for one in found} == {"Al4Cu4"}
    assert any(not np.array_equal(one.positions, cells[one.info["replica"]].positions) for one in found)


def test_mistakes_are_answered_with_the_right_name():
    with pytest.raises(ConfigError, match="unknown explorer 'dynamic'; did you mean 'dynamics'"):
        explorer(Explorer("dynamic"))
    with pytest.raises(ConfigError, match="options of dynamics: unknown setting 'n_step'; did you mean 'n_steps'"):
        explorer(Explorer("dynamics", options={"n_step": 3}))
    with pytest.raises(ConfigError, match="cannot be imported"):
        explorer(Explorer("nowhere.at_all"))
    with pytest.raises(ConfigError, match="hard must not be below soft"):
        Doubt(soft=20.0)
    with pytest.raises(ConfigError, match="one of calculator, command and model, not calculator and model"):
        Labelling(calculator="ase.calculators.emt.EMT", model="rocksalt-mtp")
    with pytest.raises(ConfigError, match=r"must contain \{input\} and \{output\}"):
        Labelling(command="vasp")


# --- command and page ---

FILE = f"""
data = ["start.xyz"]
family = "snap"
potential = {{cutoff = 3.5, twojmax = 4}}
budget = 4
per_round = 4
starts = 4
[label]
calculator = "ase.calculators.emt.EMT"
[[explore]]
kind = "{HERE}.breathing"
options = {{factors = [0.93, 1.1]}}
"""


def test_the_command_learns(tmp_path, monkeypatch, capsys, told):
    from jaxmlip.cli import main

    monkeypatch.chdir(tmp_path)
    jaxmlip.write("start.xyz", told[1])
    Path("learn.toml").write_text(FILE)
    assert main(["learn", "learn.toml", "--out", "out"]) == 0
    printed = capsys.readouterr().out
    assert "round 0: 6 labels, explored 4, " in printed
    assert "end: the budget is spent" in printed
    assert jaxmlip.load("out/model.npz").potential.config.symbols == ("Cu",)
    assert json.loads(Path("out/run.json").read_text())["ended"] == "budget"
    Path("learn.toml").write_text(FILE.replace("per_round", "per_rond"))
    assert main(["learn", "learn.toml"]) == 2
    assert "did you mean 'per_round'" in capsys.readouterr().err
    Path("learn.toml").write_text(FILE.replace("calculator =", "calculater ="))
    assert main(["learn", "learn.toml"]) == 2
    assert "did you mean 'calculator'" in capsys.readouterr().err
    assert main(["learn"]) == 2
    assert "no structures to start from" in capsys.readouterr().err


def test_the_page_tells_what_was_asked_for(learned):
    text = (learned[1] / "learning.html").read_text()
    for words in ("Doubt against true error", "Rank correlation", "New labels by composition", "Cost", "Fresh labels"):
        assert words in text


@pytest.mark.skipif(browser.executable() is None, reason="needs chromium (apt-get install chromium)")
def test_the_page_in_a_browser(learned):
    rows = [json.loads(line) for line in (learned[1] / "rounds.jsonl").read_text().splitlines()]
    n_points = sum(row.get("fresh_energy_rmse") is not None for row in rows)
    page = browser.Browser()
    try:
        page.open(learned[1] / "learning.html")
        assert page.run("document.querySelector('.chart:not([hidden]) canvas').dataset.points") == str(n_points)
        page.run("document.querySelector('.chart input[value=forces]').click()")
        assert page.run("document.querySelectorAll('table').length") >= 6
        assert not page.messages
    finally:
        page.close()


@pytest.mark.skipif(shutil.which("gpaw") is None, reason="needs GPAW (apt-get install gpaw gpaw-data)")
def test_two_rounds_with_real_dft(tmp_path):
    script = Path(__file__).parents[1] / "scripts" / "learn_with_dft.py"
    command = [sys.executable, script, "LiH", "--budget", "3", "--per-round", "1", "--out", tmp_path]
    done = subprocess.run(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rounds = [json.loads(line) for line in (tmp_path / "rounds.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [one["n_train"] for one in rounds] == [1, 2, 3]
    assert [one["n_failed"] for one in rounds[:2]] == [0, 0]
    assert max(one["fresh_energy_rmse"] for one in rounds[:2]) < 0.2  # eV/atom: of one structure each, but no nonsense
    cells = jaxmlip.read(tmp_path / "train.extxyz")
    assert {cell.get_chemical_formula(empirical=True) for cell in cells} == {"HLi"}
    # PBE's LiH binds by some 2.4 eV/atom; the stress of strained cells is some GPa
    assert all(-4 < cell.get_potential_energy() / len(cell) < -2 for cell in cells)
    assert all(0 < np.abs(cell.get_stress()).max() < 0.5 for cell in cells)
