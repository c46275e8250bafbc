import matplotlib as mpl
import numpy as np
import pytest
from ase.build import bulk

from jaxmlip.data.labels import Labels, attach
from jaxmlip.evaluate import style
from jaxmlip.evaluate.parity import Parity, parity, parity_figure, point_density
from jaxmlip.potentials import Predicted, trainable
from jaxmlip.units import GPA


def points(quantity="energy", n=50, noise=0.1):
    random = np.random.default_rng(0)
    reference = random.normal(size=n)
    return Parity(quantity, reference, reference + noise * random.normal(size=n), np.arange(n))


def test_units_and_structures():
    atoms = [bulk("Mo", cubic=True), bulk("Mo")]
    attach(atoms[0], Labels(-20.0, np.ones((2, 3)), None))
    attach(atoms[1], Labels(None, None, np.eye(3)))
    predicted = Predicted(np.array([-22.0, 0.0]), [np.zeros((2, 3)), np.zeros((1, 3))], np.zeros((2, 3, 3)))
    energy, forces, stress = (parity(predicted, atoms, quantity=q) for q in ("energy", "forces", "stress"))
    assert (energy.reference.tolist(), energy.predicted.tolist()) == ([-10.0], [-11.0])
    assert forces.reference.size == 6
    assert set(forces.structure) == {0}
    assert stress.reference.max() == 1.0  # eV/Å³; the figure shows it in GPa
    drawn = parity_figure({"snap": {"test": stress}}).axes[0]
    assert drawn.get_xlabel() == "reference stress component (GPa)"
    assert drawn.get_xlim()[1] == pytest.approx(1.08 * GPA, rel=1e-12)
    assert set(stress.structure) == {1}
    assert next(energy.records()) == {
        "quantity": "energy", "unit": "eV/atom", "structure": 0, "reference": -10.0, "predicted": -11.0
    }  # fmt: skip


def test_unknown_quantity():
    with pytest.raises(ValueError, match="energy, forces, stress, got 'charge'"):
        parity(Predicted(np.zeros(0), [], np.zeros((0, 3, 3))), [], quantity="charge")


def test_train_stands_above_test_on_equal_axes():
    figure = parity_figure({"snap": {"train": points(), "test": points(n=10)}, "qsnap": {"test": points()}})
    top, _, bottom, _ = figure.axes
    assert "train" in top.get_ylabel()
    assert "test" in bottom.get_ylabel()
    assert bottom.get_xlabel() == "reference energy (eV/atom)"
    assert [axis.get_title() for axis in figure.axes] == ["SNAP", "qSNAP", "", ""]
    assert {axis.get_xlim() for axis in figure.axes} == {axis.get_ylim() for axis in figure.axes} == {top.get_xlim()}


def test_a_wild_prediction_is_said_not_hidden():
    wild = points("forces", n=20)
    wild.predicted[3] = 1e6
    (axis,) = parity_figure({"snap": {"test": wild}}).axes
    assert axis.get_ylim()[1] < 10
    assert "1 beyond the frame" in axis.texts[0].get_text()


def test_no_points_is_a_figure_too():
    empty = Parity("forces", np.empty(0), np.empty(0), np.empty(0, int))
    assert parity_figure({"snap": {"test": empty}}).axes[0].texts[0].get_text() == "no labels"


def test_density_is_higher_where_points_are():
    x = np.array([0.5] * 20 + [0.9])
    density = point_density(x, x, (0.0, 1.0))
    assert density[0] > density[-1]


def test_figures_leave_matplotlib_and_its_backend_alone(tmp_path):
    before = dict(mpl.rcParams)
    for suffix in ("png", "svg"):
        style.save_figure(parity_figure({"snap": {"test": points()}}), tmp_path / f"a.{suffix}")
    assert dict(mpl.rcParams) == before
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    style.save_figure(parity_figure({"snap": {"test": points()}}), tmp_path / "b.svg")
    assert (tmp_path / "b.svg").read_text(encoding="utf-8") == text  # the same figure is the same file


def test_every_family_has_a_colour_of_its_own():
    assert len({style.color(name) for name in trainable()}) == len(trainable())
    assert style.color("rocksalt-ace") != style.color("rocksalt-mtp")  # points of one figure
    assert style.label("qsnap-8") == "qSNAP-8"


def test_potentials_beyond_the_columns_stand_below():
    points = Parity("energy", np.arange(3.0), np.arange(3.0), np.arange(3))
    figure = parity_figure({name: {"train": points, "test": points} for name in ("a", "b", "c", "d", "e")}, n_columns=3)
    titles = [axis.get_title() for axis in figure.axes]
    assert [title for title in titles if title] == ["a", "b", "c", "d", "e"]
    assert len(figure.axes) == 10
    tops = {axis.get_title(): axis for axis in figure.axes if axis.get_title()}
    assert [bool(axis.get_ylabel()) for axis in tops.values()] == [True, False, False, True, False]
    figure.draw_without_rendering()
    left, middle = (np.mean([tops[name].get_position().x0 for name in names]) for names in ("abc", "de"))
    assert left == pytest.approx(middle, abs=0.01)  # a shorter line stands in the middle: no empty corner
