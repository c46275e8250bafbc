"""The report in a real browser: sorting, parity points, learning curves, phone, print, and a quiet console."""

import browser
import numpy as np
import pytest
from matplotlib.figure import Figure

from jaxmlip.evaluate.provenance import provenance
from jaxmlip.evaluate.report import Picture, Section, Table, write_report
from jaxmlip.evaluate.report_charts import Axes, Curves, Line, Lines, Points, Scatter

pytestmark = pytest.mark.skipif(browser.executable() is None, reason="needs chromium (apt-get install chromium)")

SIZES = ["30", "60"]
WORST = 3  # the structure of which SNAP is most wrong
SHOWN = """[...document.querySelectorAll('.tip')].filter(tip => !tip.hidden).map(tip => tip.innerText).join('|')"""


def scatter():
    """Energies of five structures and forces of one by two families and two sizes; one prediction is not finite."""
    energy = Axes("DFT energy (eV/atom)", "predicted (eV/atom)", "eV/atom", 5, "meV/atom", 1000.0)
    force = Axes("DFT force (eV/Å)", "predicted (eV/Å)", "eV/Å")
    reference = np.linspace(-6.0, -5.0, 5)
    panels = []
    for k, size in enumerate(SIZES):
        snap = reference + np.array([0.001, -0.002, 0.003, -0.25, 0.004]) / (k + 1)
        predicted = {"SNAP": snap, "MTP": reference + np.array([0.01, 0.02, 0.03, np.nan, 90.0])}
        notes = {"SNAP": f"RMSE {k}", "MTP": "RMSE 2"}
        panels.append(Points(("energy", size), energy, reference, predicted, np.arange(5), None, notes, "All 5."))
    values = np.linspace(-1, 1, 6)
    predicted = {"SNAP": values + 0.1, "MTP": values}
    panels.append(Points(("forces", "60"), force, values, predicted, np.full(6, 4), np.arange(6), {}, "6 of 9"))
    owners = [f"structure {k} (id </script><b>{k})\nLi{k + 1}O" for k in range(5)]
    colors = {"SNAP": "#0072b2", "MTP": "#009e73"}
    menus = {"quantity": ["energy", "forces"], "training structures": SIZES}
    return Scatter(menus, colors, owners, panels, ["energy", "60"], caption="Parity & more")


def curves():
    sizes, axes = np.array([30, 60]), Axes("training structures", "RMSE (meV/atom)", "meV/atom", 5)
    lines = []
    for name, shift in (("SNAP", 1.0), ("MTP", 2.0)):
        mean = np.array([90.0, 45.0]) * shift
        lines += [
            Line(name, "test", sizes, mean, mean - 1, mean + 1),
            Line(name, "train", sizes, mean / 3, mean / 3, mean / 3, True),
        ]
    return Curves(
        {"quantity": ["energy"]}, {"SNAP": "#0072b2", "MTP": "#009e73"}, [Lines(("energy",), axes, lines)], ["energy"]
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    figure = Figure(figsize=(6, 3))
    figure.subplots().plot([0, 1])
    rows = [["qSNAP", 100.0, 1], ["SNAP", 9.5, 2], ["GAP", "ran away", 3], ["MTP", None, 4], ["aenet", 1234.561, 5]]
    rows += [["NequIP", 1234.559, 6], ["mean", 1.0, 7]]
    wide = Table(["method", *(f"quantity {k} (meV/atom)" for k in range(12))], [["SNAP", *([0.12345] * 12)]] * 2)
    sections = [
        Section(
            "Errors", ["Data: " + 9 * "../unbroken"], [Table(["method", "RMSE", "n"], rows, "Errors", "", 1), wide]
        ),
        Section("Parity", (), (), [Picture(figure, "static", has_chart=True)], [scatter()]),
        Section("Learning curve", (), (), [Picture(figure, "also shown")], [curves()]),
    ]
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, "Potentials compared", sections=sections, record=provenance({"a": "b" * 300}, command=["x"]))
    return path


@pytest.fixture(scope="module")
def window():
    one = browser.Browser()
    yield one
    one.close()


@pytest.fixture
def opened(window, page):
    """The page on a desk, after which nothing must have been said on the console and nothing loaded."""
    window.open(page)
    yield window
    assert window.messages == []
    addresses = [url for url in window.events if url != "load" and not url.startswith("data:")]
    assert addresses == [page.resolve().as_uri()]


def column(window, k=1):
    return window.run(f"[...document.querySelector('table').rows].map(row => row.cells[{k}].innerText.trim())")[1:]


def middle(window, selector):
    return window.run(
        f"(() => {{ const e = document.querySelector('{selector}'); e.scrollIntoView({{block: 'center'}}); "
        "const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()"
    )


def choose(window, chart, value):
    window.click(*middle(window, f'[data-chart={chart}] input[value="{value}"]'))


def points(window, chart="chart100"):
    return window.run(f"document.querySelector('[data-chart={chart}] canvas').dataset.points")


def picture_of(window, chart="chart100"):
    return window.run(f"document.querySelector('[data-chart={chart}] canvas').toDataURL()")


def hover(window, x, y, chart="chart100", *, move=None):
    """The tooltip at a place given as parts of the canvas's width and height."""
    left, top, width, height = window.run(
        f"(() => {{ const e = document.querySelector('[data-chart={chart}] canvas'); "
        "e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect(); "
        "return [r.x, r.y, r.width, r.height]; })()"
    )
    (move or window.move)(left + x * width, top + y * height)
    return window.run(SHOWN)


def find(window, text, chart="chart100"):
    """Move over the canvas along its diagonal until a tooltip says ``text``: as a reader would."""
    for x in np.linspace(0.98, 0.2, 27):
        for y in np.linspace(0.98 - x, 1.1 - x, 5):
            shown = hover(window, x, y, chart)
            if text in shown:
                return shown
    return ""


def test_tables_sort_numbers_then_words_then_gaps(opened):
    before = column(opened)
    head = "table th:nth-child(2) button"
    opened.click(*middle(opened, head))
    assert column(opened) == ["9.5", "100", "1235", "1235", "ran away", "—", "1"]  # the mean stays below
    assert column(opened, 0)[2:4] == ["NequIP", "aenet"]  # by all digits, not by those shown
    assert opened.run("document.querySelector('table th:nth-child(2)').ariaSort") == "ascending"
    opened.press("Enter")  # the button has the focus
    assert column(opened) == ["1235", "1235", "100", "9.5", "ran away", "—", "1"]
    assert opened.run("document.querySelector('table th:nth-child(2)').ariaSort") == "descending"
    opened.press("Enter")
    assert column(opened) == before
    opened.click(*middle(opened, "table th:nth-child(1) button"))
    assert column(opened, 0) == ["aenet", "GAP", "MTP", "NequIP", "qSNAP", "SNAP", "mean"]


def test_hovering_a_point_names_its_structure_and_error(opened):
    assert opened.run(SHOWN) == ""
    # the fourth of five references between the margins of 6 %; SNAP's prediction of it is 125 meV/atom too low
    shown = find(opened, f"structure {WORST} ")
    lines = shown.split("\n")
    assert lines == [
        f"structure {WORST} (id </script><b>{WORST})", "Li4O",
        "reference −5.25000 eV/atom", "SNAP −5.37500 eV/atom", "error −125 meV/atom",
    ]  # fmt: skip
    assert hover(opened, 0.99, 0.99) == ""


def test_switching_family_size_and_quantity_changes_the_points(opened):
    pictures = [picture_of(opened)]
    assert points(opened) == "5"
    for value, expected in (("MTP", "4"), ("all", "9"), ("SNAP", "5")):  # one of MTP's is not finite
        choose(opened, "chart100", value)
        pictures.append(picture_of(opened))
        assert points(opened) == expected
    assert pictures[0] == pictures[-1]
    assert len(set(pictures)) == 3
    choose(opened, "chart100", "forces")
    assert points(opened) == "6"
    assert "atom 1, z" in find(opened, "atom 1, z")
    choose(opened, "chart100", "30")
    assert points(opened) == "0"
    assert "SNAP: nothing at this setting" in opened.run("document.querySelector('.chart').innerText")


def test_the_keyboard_goes_through_the_points_from_the_worst(opened):
    opened.run("document.querySelectorAll('[data-chart=chart100] input')[0].focus()")
    opened.press("ArrowRight")
    assert opened.run("document.activeElement.value") == "forces"
    opened.run("document.querySelector('[data-chart=chart100] input[value=energy]').click()")
    opened.press("Tab")
    opened.run("document.querySelector('[data-chart=chart100] canvas').focus({focusVisible: true})")
    assert f"structure {WORST} " in opened.run(SHOWN)
    opened.press("ArrowRight")
    assert "structure 4 " in opened.run(SHOWN)
    opened.press("Home")
    assert f"structure {WORST} " in opened.run(SHOWN)
    opened.press("Escape")
    assert opened.run(SHOWN) == ""


def test_learning_curves_tell_their_values(opened):
    assert points(opened, "chart200") == "8"
    opened.run("document.querySelector('[data-chart=chart200] canvas').focus({focusVisible: true})")
    assert opened.run(SHOWN).split("\n") == [
        "MTP, test", "30 training structures", "180 meV/atom", "179 to 181 over the seeds"
    ]  # fmt: skip
    choose(opened, "chart200", "SNAP")
    assert points(opened, "chart200") == "4"


def test_a_phone_scrolls_down_only_and_a_tap_names_a_point(window, page):
    window.open(page, width=360, height=740, phone=True)
    assert window.run("document.documentElement.scrollWidth") == 360
    assert window.run("document.querySelector('canvas').getBoundingClientRect().right") <= 360
    # SNAP at 60 structures: the lowest energy's point lies on the diagonal, 6 % of 1.12 from the left
    left = window.run("[...document.querySelectorAll('canvas')].map(c => c.getBoundingClientRect().width)")[0]
    assert 300 < left <= 360
    shown = next(
        text for x in np.linspace(0.15, 0.3, 8) for y in np.linspace(0.7, 0.9, 8)
        if (text := hover(window, x, y, move=window.tap))
    )  # fmt: skip
    assert "structure 0 " in shown
    box = window.run(
        "(() => { const r = document.querySelector('.tip').getBoundingClientRect(); return [r.left, r.right]; })()"
    )
    assert 0 <= box[0] < box[1] <= 360
    assert window.run("document.documentElement.scrollWidth") == 360
    assert window.messages == []


def test_print_and_no_scripts_show_the_static_figures(window, page):
    visible = "[...document.querySelectorAll('.chart,.has-chart,.sort')].map(e => e.getClientRects().length > 0)"
    window.open(page)
    assert set(window.run("[...document.querySelectorAll('.has-chart')].map(e => e.offsetHeight)")) == {0}
    window.call("Emulation.setEmulatedMedia", media="print")
    assert window.run("document.querySelector('.has-chart img').offsetHeight") > 100
    assert window.run("document.querySelector('.chart').offsetHeight") == 0
    window.call("Emulation.setEmulatedMedia", media="")
    window.open(page, scripts=False)
    assert window.run(visible) == [False, True, False]
    assert window.messages == []


def test_the_policy_forbids_other_scripts(window, page, tmp_path):
    text = page.read_text(encoding="utf-8").replace("</main>", "</main><script>document.title = 'run'</script>")
    (tmp_path / "changed.html").write_text(text, encoding="utf-8")
    window.open(tmp_path / "changed.html")
    assert window.run("document.title") == "Potentials compared"
    assert any("Content Security Policy" in str(message) for message in window.messages)
