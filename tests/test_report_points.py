import json
import re

import ase
import numpy as np
import pytest

from jaxmlip.data.labels import Labels, attach
from jaxmlip.evaluate.report import Section, html
from jaxmlip.evaluate.report_charts import chart_html
from jaxmlip.potentials.predictions import Predicted
from jaxmlip.study.config import StudyMethod
from jaxmlip.study.fits import Outcome
from jaxmlip.study.report_points import chosen_points, learning_curves, parity_chart, study_charts
from jaxmlip.study.summary import family_parity
from jaxmlip.study.tasks import Parts, Task

NAMES = ("snap", "qsnap", "mtp", "gap", "aenet", "nequip")
SIZES = (20, 40, 60)


def structures(n, n_atoms, *, with_stress=False):
    random = np.random.Generator(np.random.PCG64(7))
    frames = []
    for k in range(n):
        atoms = ase.Atoms("Li" * (n_atoms - 1) + "O", random.random((n_atoms, 3)), info={"id": 1000 + k})
        stress = random.normal(size=6) if with_stress else None
        attach(atoms, Labels(-5.0 * n_atoms + random.normal(), random.normal(size=(n_atoms, 3)), stress))
        frames.append(atoms)
    return frames


def predicted(frames, random, error=0.1):
    forces = [frame.get_forces() + error * random.normal(size=(len(frame), 3)) for frame in frames]
    energy = np.array([frame.get_potential_energy() for frame in frames]) + error * random.normal(size=len(frames))
    return Predicted(energy, forces, np.zeros((len(frames), 3, 3)))


def outcomes(pieces, names=NAMES, sizes=SIZES, seeds=(0,)):
    """Fits that never were, with predictions and the rows that go with them."""
    found = []
    for size in sizes:
        for seed in seeds:
            for k, name in enumerate(names):
                random = np.random.Generator(np.random.PCG64([size, seed, k]))
                train = predicted(pieces.train[:size], random)
                row = {
                    "method": name,
                    "size": size,
                    "seed": seed,
                    "train_energy_rmse": 1.0,
                    "test_energy_rmse": 2.0 + seed,
                }
                test = predicted(pieces.test, random)
                found.append((Task(name, StudyMethod(name), size, seed, ""), Outcome(row, train, test)))
    return found


@pytest.fixture(scope="module")
def large():
    """Six families at three sizes; 60 test structures of 120 atoms have 21,600 force components."""
    atoms = structures(120, 120)
    pieces = Parts(atoms[::-1][:60], atoms[:60])
    return atoms, pieces, parity_chart(outcomes(pieces), {0: pieces}, atoms)


def panel(chart, *choice):
    """The panel of a quantity, size, part and seed, the first unless given."""
    wanted = choice if len(choice) == 4 else (*choice, "0")
    return next(panel for panel in chart.panels if panel.choice == wanted)


def test_points_know_their_structure_atom_and_component(large):
    atoms, _, chart = large
    for part, first in (("test", 0), ("train", 119)):
        found = panel(chart, "forces", "60", part)
        assert found.owner.min() == (0 if part == "test" else 60)
        for k in range(0, len(found.reference), 97):
            frame = atoms[found.owner[k]]
            assert found.reference[k] == frame.get_forces().ravel()[found.item[k]]
        energy = panel(chart, "energy", "60", part)
        assert energy.item is None
        assert energy.owner[0] == first
        assert energy.reference[0] == atoms[first].get_potential_energy() / 120
    assert chart.owners[3] == "structure 3 (id 1003)\nLi119O"


def test_many_points_are_thinned_the_same_way_and_the_worst_stay(large):
    atoms, pieces, chart = large
    found = panel(chart, "forces", "60", "test")
    n = len(found.reference)
    worst = n // 20
    assert n <= 4000
    assert found.caption == (
        f"{n:,} of 21,600 force components, the worst {worst} of each method among them; RMSE and MAE are over all."
    )
    random = np.random.Generator(np.random.PCG64([60, 0, 2]))
    predicted(pieces.train, random)
    errors = np.abs(
        np.concatenate(predicted(pieces.test, random).forces) - np.concatenate([a.get_forces() for a in pieces.test])
    )
    shown = np.abs(found.predicted["MTP"] - found.reference)
    assert np.sort(shown)[-worst:] == pytest.approx(np.sort(errors.ravel())[-worst:], rel=1e-9)
    assert found.notes["MTP"].startswith(f"RMSE {np.sqrt(np.mean(errors**2)):.3g} eV/Å")
    again = parity_chart(outcomes(pieces), {0: pieces}, atoms)
    assert panel(again, "forces", "60", "test").owner.tolist() == found.owner.tolist()


def test_six_families_at_three_sizes_stay_small(large):
    text = chart_html(0, large[2])
    assert len(text.encode()) < 2.2e6  # of the 5 MB of a report, whose figures need the rest
    data = json.loads(re.search(r"<script[^>]*>(.*)</script>", text, re.DOTALL).group(1))
    assert len(data["panels"]) == 2 * 3 * 2
    assert data["names"]["values"] == ["SNAP", "qSNAP", "MTP", "GAP", "AENET", "NequIP"]
    assert data["start"] == ["energy", "60", "test", "0"]


def test_methods_that_lack_a_size_and_diverged_ones():
    atoms = structures(8, 3, with_stress=True)
    pieces = Parts(atoms[:6], atoms[6:])
    results = outcomes(pieces, ("snap",), (2, 4)) + outcomes(pieces, ("mtp",), (4,))
    results[-1][1].test.energy[:] = np.nan
    chart = parity_chart(results, {0: pieces}, atoms)
    assert chart.menus["quantity"] == ["energy", "forces", "stress"]
    assert list(panel(chart, "energy", "2", "test").predicted) == ["SNAP"]
    assert list(panel(chart, "energy", "4", "test").predicted) == ["SNAP", "MTP"]
    assert panel(chart, "stress", "4", "test").caption == "All 18 stress components."
    assert '"MTP":[null,null]' in chart_html(0, chart)


def test_every_seed_can_be_chosen_and_more_seeds_make_no_larger_page(large):
    atoms, pieces, alone = large
    other = Parts(pieces.test, pieces.train)
    seeds = {0: pieces, 7: other, 8: pieces}
    chart = parity_chart(outcomes(pieces) + outcomes(other, seeds=(7,)) + outcomes(pieces, seeds=(8,)), seeds, atoms)
    assert chart.menus["seed"] == ["0", "7", "8"]
    assert len(chart.panels) == 3 * len(alone.panels)
    owners = [panel(chart, "energy", "60", "test", seed).owner for seed in ("0", "7", "8")]
    assert [found.min() for found in owners] == [0, 60, 0]  # the test structures of each seed's own split
    notes = {panel(chart, "energy", "60", "test", seed).notes["SNAP"] for seed in ("0", "7", "8")}
    assert len(notes) == 3
    assert len(chart_html(0, chart).encode()) < 2.2e6


def test_static_parity_has_the_points_of_all_seeds(large):
    atoms, pieces, _ = large
    seeds = {0: pieces, 7: Parts(pieces.test, pieces.train)}
    results = outcomes(pieces, ("snap",), (20,)) + outcomes(seeds[7], ("snap",), (20,), (7,))
    figure = family_parity(results, seeds)["parity_energy_snap"]
    points = [axis.collections[0].get_offsets().data[:, 0] for axis in figure.axes]
    assert [len(found) for found in points] == [40, 120]  # training above test
    expected = [frame.get_potential_energy() / len(frame) for frame in atoms]
    assert np.sort(points[1]) == pytest.approx(np.sort(expected), rel=1e-12)


def test_worst_points_include_those_that_are_not_numbers():
    error = np.zeros(1000)
    error[[17, 500]] = np.nan, 3.0
    assert {17, 500} <= set(chosen_points([error], 40).tolist())
    assert len(chosen_points([error, -error], 40)) == 40


def test_learning_curves_have_a_band_over_seeds():
    atoms = structures(8, 3)
    pieces = Parts(atoms[:6], atoms[6:])
    results = outcomes(pieces, ("snap", "qsnap"), (2, 4), (0, 2))
    curves = learning_curves([found.row for _, found in results])
    assert curves.menus == {"quantity": ["energy"]}
    line = next(line for line in curves.panels[0].lines if (line.name, line.part) == ("qSNAP", "test"))
    assert [line.x.tolist(), line.y.tolist(), line.low.tolist(), line.high.tolist()] == [
        [2, 4],
        [3e3, 3e3],
        [2e3, 2e3],
        [4e3, 4e3],
    ]
    charts = study_charts(results, {0: pieces, 2: pieces}, atoms)
    assert [len(charts[title]) for title in ("Parity", "Learning curve")] == [1, 1]


def test_data_in_the_page_cannot_end_its_script():
    atoms = structures(3, 2)
    atoms[0].info["id"] = "</script><script>alert(1)</script>\u2028<!--"
    pieces = Parts(atoms[:2], atoms[2:])
    text = html(
        "T", [Section("Parity", charts=[parity_chart(outcomes(pieces, ("snap",), (2,)), {0: pieces}, atoms)])], {}
    )
    blocks = re.findall(r"<script(?: [^>]*)?>(.*?)</script>", text, re.DOTALL)
    assert len(blocks) == 2  # the data and the page's own script
    assert json.loads(blocks[0])["owners"][0].startswith(
        "structure 0 (id </script><script>alert(1)</script>\u2028<!--)"
    )
    assert "\u2028" not in text
    assert "<!--" not in text


def test_no_labels_no_chart():
    atoms = [ase.Atoms("Li", info={}) for _ in range(3)]
    pieces = Parts(atoms[:2], atoms[2:])
    nothing = Predicted(np.zeros(2), [np.zeros((1, 3))] * 2, np.zeros((2, 3, 3)))
    row = {"method": "snap", "size": 2, "seed": 0}
    results = [(Task("snap", StudyMethod("snap"), 2, 0, ""), Outcome(row, nothing, nothing))]
    assert study_charts(results, {0: pieces}, atoms) == {"Parity": [], "Learning curve": []}
