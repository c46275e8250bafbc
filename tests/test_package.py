"""The package as a whole: layers, what an import costs and changes, public names."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np

import jaxmlip

ROOT = Path(jaxmlip.__file__).parent
ROWS = (
    {"config", "files", "progress", "units"},
    {"data"},
    {"datasets", "pretrained"},
    {"graph"},
    {"basis"},
    {"descriptors"},
    {"potentials"},
    {"fitting"},
    {"formats"},
    {"evaluate"},
    {"simulate"},
    {"properties"},
    {"cathodes"},
    {"learning"},
    {"study", "testing"},
    {"commands"},
    {"cli"},
)


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_a_module_imports_only_from_rows_above():
    row = {name: k for k, names in enumerate(ROWS) for name in names}
    for path in ROOT.rglob("*.py"):
        here = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if here == "__init__":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jaxmlip."):
                there = node.module.split(".")[1]
                assert row[there] <= row[here], f"{path}: {here} imports {there}"


def test_import_does_nothing():
    code = "import sys, threading, jaxmlip; print('jax' in sys.modules, threading.active_count())"
    assert run(code) == "False 1"


def test_using_the_library_changes_no_jax_setting():
    code = """
import jax
before = dict(jax.config.values)
import jaxmlip
potential = jaxmlip.build("snap", species=("Mo",), cutoff=3.0, twojmax=1)
jaxmlip.fit(potential, jaxmlip.datasets.load("mo", split="test")[:2])
print([k for k in before if before[k] != jax.config.values[k]])
"""
    assert run(code) == "[]"


def test_public_names_exist():
    for name in jaxmlip.__all__:
        assert getattr(jaxmlip, name) is not None


def test_settings_may_be_numbers_of_numpy():
    config = jaxmlip.build("snap", species=tuple(np.unique([8, 3])), cutoff=np.float64(4.0)).config
    assert config == jaxmlip.build("snap", species=("Li", "O"), cutoff=4.0).config
    assert type(config.species[0]) is int
