"""The package as a whole: layers, what an import costs and changes, public names."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import numpy as np
import yaml

import jaxmlip

ROOT = Path(jaxmlip.__file__).parent
ROWS = (
    {"config", "files", "pretrained", "programs", "progress", "units"},
    {"data"},
    {"datasets"},
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


def test_public_names_exist_and_completion_shows_them():
    assert {"fit", "predict", "simulate", "cathodes", "properties"} < set(dir(jaxmlip))
    for name in dir(jaxmlip):
        assert getattr(jaxmlip, name) is not None


def test_packages_of_the_library_are_attributes_without_an_import():
    code = "import jaxmlip; print(jaxmlip.simulate.relax.__name__, jaxmlip.cathodes.layered.__name__)"
    assert run(code) == "relax layered"


def test_every_import_is_declared():
    def canonical(requirement):
        return re.sub("[-_.]+", "-", re.split(r"[\[<>=!~ ]", requirement)[0]).lower()

    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["project"]
    always = set(map(canonical, project["dependencies"]))
    extras = {canonical(one) for extra in project["optional-dependencies"].values() for one in extra}
    owners = packages_distributions()
    for path in ROOT.rglob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            found = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found += [node.module] if isinstance(node, ast.ImportFrom) else []
            declared = always if node in tree.body else always | extras  # an extra is imported where it is used
            for name in {full.split(".")[0] for full in found} - {"jaxmlip"} - sys.stdlib_module_names:
                assert {*map(canonical, owners.get(name, [name]))} & declared, f"{path} imports {name}: not declared"


def test_versions_agree():
    citation = yaml.safe_load((ROOT.parent / "CITATION.cff").read_text())
    assert citation["version"] == jaxmlip.__version__


def test_settings_may_be_numbers_of_numpy():
    config = jaxmlip.build("snap", species=tuple(np.unique([8, 3])), cutoff=np.float64(4.0)).config
    assert config == jaxmlip.build("snap", species=("Li", "O"), cutoff=4.0).config
    assert type(config.species[0]) is int
