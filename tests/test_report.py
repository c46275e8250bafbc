import base64
import hashlib
import re
from html.parser import HTMLParser

import numpy as np
from matplotlib.figure import Figure

from jaxmlip.evaluate.provenance import provenance, write_json, write_rows
from jaxmlip.evaluate.report import Picture, Section, Table, html, write_report

VOID = {"meta", "link", "img"}


class Checker(HTMLParser):
    """Balanced tags, and every address that the page would load."""

    def __init__(self):
        super().__init__()
        self.open, self.addresses, self.tags = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def page():
    figure = Figure(figsize=(1, 1))
    figure.subplots().plot([0, 1])
    table = Table(["method", "V"], [["<script>alert(1)</script>", 3.14159], ["snap", "ran away"], ["x", None]], "A & B")
    section = Section('"Voltages" <b>', ["5 < 6"], [table], [Picture(figure, "a > b")])
    return html("Li & O <x>", [section], provenance({"file": "</pre><script>"}, command=["jaxmlip", "<study>"]))


def test_the_page_is_whole_and_loads_nothing():
    checker = Checker()
    checker.feed(page())
    assert not checker.open
    assert all(address.startswith(("data:", "#")) for address in checker.addresses)
    assert checker.tags.count("script") == 1  # the page's own, and none of the data's
    assert not re.search(r"url\(|@import|https?:|fetch|XMLHttp|eval\(|innerHTML", page())


def test_the_policy_names_the_pages_own_script_and_style():
    text = page()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text).group(1)
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    for tag in ("script", "style"):
        content = re.search(f"<{tag}>(.*)</{tag}>", text, re.DOTALL).group(1)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_numbers_keep_all_digits_for_sorting_and_means_stand_apart():
    table = Table(["x"], [[1234.5678], ["words"], [None], [float("nan")], [True], [7]], n_summary=1)
    text = html("T", [Section("S", tables=[table])], {})
    assert '<td class="n" data-value="1234.5678">1235</td>' in text
    assert text.count("data-value=") == 2
    assert '<tfoot><tr><td class="n" data-value="7.0">7</td></tr></tfoot>' in text


def test_everything_is_escaped():
    text = page()
    for dangerous in ("<script>alert", "<b>", "<x>", "<study>"):
        assert dangerous not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_words_stand_where_there_is_no_number():
    text = page()
    assert ">3.142<" in text
    assert ">ran away<" in text
    assert ">—<" in text


def test_light_phone_and_print():
    text = page()
    assert 'name="viewport"' in text
    assert "@media print" in text
    assert "color-scheme: light" in text


def test_versions_date_and_command_are_in_it(tmp_path):
    record = provenance({"seed": 3}, command=["jaxmlip", "study"])
    write_report(tmp_path / "report.html", "T", sections=[Section("Errors")], record=record)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    for expected in (record["date"], record["versions"]["jax"], "Command: jaxmlip study", "&quot;seed&quot;: 3"):
        assert expected in text


def test_long_cells_are_broken_into_lines():
    """A list of eleven elements would push the other columns out of sight."""
    species = ", ".join(map(str, range(20, 31)))
    text = html("T", [Section("S", tables=[Table(["a", "b", "c"], [["x", species, 1.0]])])], {})
    assert f'<td>x</td><td class="w">{species}</td><td class="n"' in text


def test_json_has_no_nan_and_rows_keep_all_columns(tmp_path):
    write_json(tmp_path / "a.json", {"x": np.float64("nan"), "y": np.arange(2), "p": tmp_path})
    assert '"x": null' in (tmp_path / "a.json").read_text()
    write_rows(tmp_path, "rows", [{"a": 1, "b": {"d": None}}, {"a": 2, "c": "x,y"}])
    assert (tmp_path / "rows.csv").read_text().splitlines() == ["a,b,c", '1,"{""d"": null}",', '2,,"x,y"']
    assert (tmp_path / "rows.jsonl").read_text().count("\n") == 2
