import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "benchmark.py"


def run(*arguments):
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments], capture_output=True, text=True, timeout=900, check=False
    )


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    out = tmp_path_factory.mktemp("benchmark") / "benchmark.json"
    done = run("--smoke", "--out", str(out))
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text(encoding="utf-8")), done.stdout


def test_every_family_has_a_row_for_each_benchmark_and_precision(smoke):
    from jaxmlip.fitting import method_of
    from jaxmlip.potentials import trainable

    rows = {(r["benchmark"], r["family"], r["precision"]): r for r in smoke[0]["rows"] if r["code"] == "jaxmlip"}
    kinds = [("predict", family) for family in trainable()]
    direct = ("linear", "gaussian-process")
    kinds += [("fit" if method_of(family) in direct else "train", family) for family in trainable()]
    kinds += [("soap", "gap"), ("soap gradients", "gap"), ("md", "snap"), ("elements", "mtp"), ("trials", "mtp")]
    expected = {(*kind, p) for kind in kinds for p in ("float64", "float32")}
    assert rows.keys() >= expected | {("graphs", "", "float64"), ("graphs", "", "float32")}
    for (kind, _, precision), row in rows.items():
        if (kind, precision) == ("fit", "float32"):
            assert row["status"].startswith("fits are always float64")
        else:
            assert row["status"] == "ok"
            assert row["cpu"] > 0
            assert row["wall"] > 0
            assert row["cold_first_wall"] > 0
            assert row["compile"] >= 0
            assert row["peak_gb"] > 0.01


def test_a_peer_is_measured_and_agrees_or_the_table_says_why_not(smoke):
    result, printed = smoke
    peers = [row for row in result["rows"] if row["code"] != "jaxmlip"]
    measured = {(row["benchmark"], row["family"], row["code"]) for row in peers}
    assert measured >= {
        ("predict", "snap", "LAMMPS"),
        ("md", "snap", "LAMMPS"),
        ("fit", "qsnap", "LAMMPS"),
        ("predict", "mtp", "motep"),
        ("elements", "mtp", "motep"),
        ("predict", "gap", "quippy"),
        ("predict", "nequip", "nequip"),
        ("train", "nequip", "nequip"),
    }
    for row in peers:
        assert row["status"] == "ok" or row["status"].startswith("not installed")
        if row["status"] != "ok":
            assert "not installed" in printed
    measured = {row["name"] for row in peers if row["status"] == "ok"}
    for row in result["rows"]:
        if row["code"] == "jaxmlip" and row["status"] == "ok" and row["name"] in measured:
            assert row["ratio_cpu"] > 0
            assert row["agreement"]["ok"]


def test_targets_are_listed_but_tiny_sizes_are_not_judged(smoke):
    targets = smoke[0]["targets"]
    assert len(targets) >= 6
    assert {target["met"] for target in targets} == {None}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--rounds", "0"], "--rounds must be at least 1"), (["--out", os.devnull + "/x/b.json"], "does not exist")],
)
def test_mistakes_are_explained_before_anything_is_timed(arguments, words):
    done = run(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
