"""A family of another package does all that ours do, known by its entry point alone."""

import pickle
import tomllib
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxmlip
from jaxmlip import testing
from jaxmlip.cli import main
from jaxmlip.config import ConfigError
from jaxmlip.evaluate import style
from jaxmlip.potentials import FAMILIES, Family, descriptors, register, trainable
from jaxmlip.potentials.hyperparameters import settings_as_params
from jaxmlip.potentials.registry import GROUP
from jaxmlip.study.config import StudyConfig, StudyMethod
from jaxmlip.study.fits import outcome
from jaxmlip.study.tasks import make_tasks, parts
from jaxmlip.study.tune import tune

PACKAGE = Path(__file__).parent / "outside"
FRAMES = jaxmlip.datasets.load("si", split="test")[:8]


@pytest.fixture(scope="module", autouse=True)
def _installed(tmp_path_factory):
    """The package on the path, with what an installation would write of its entry points."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    folder = tmp_path_factory.mktemp("site")
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [f"{name} = {value}" for name, value in project["entry-points"][GROUP].items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines]))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(PACKAGE)
        patch.syspath_prepend(folder)
        yield
    FAMILIES._found.pop("pairs")


@pytest.fixture(scope="module")
def potential():
    return jaxmlip.build("pairs", species="Si", cutoff=4.0)


@pytest.fixture(scope="module")
def model(potential):
    return jaxmlip.fit(potential, FRAMES)[0]


def test_it_conforms():
    testing.check_all(jaxmlip.build("pairs", species=testing.ELEMENTS, cutoff=4.0))


def test_it_is_known(potential):
    assert "pairs" in trainable()
    assert "pairs" in jaxmlip.FAMILIES
    assert style.label("pairs") == "pairs"
    assert style.color("pairs").startswith("#")
    assert jaxmlip.build("pairs", species=("Si",), cutoff=4.0) is potential


def test_fitted_saved_loaded_pickled(model, tmp_path):
    jaxmlip.save(model, tmp_path / "model.npz")
    for again in (jaxmlip.load(tmp_path / "model.npz"), pickle.loads(pickle.dumps(model))):
        assert again.potential is model.potential
        np.testing.assert_array_equal(again.params["coefficients"], model.params["coefficients"])
    assert repr(model) == "Model(pairs of Si; cutoff 4 Å; 4 parameters)"
    assert descriptors(model, FRAMES[0])[0].shape == (len(FRAMES[0]), 3)


def test_the_command_line_fits_it(tmp_path):
    words = ["fit", "pairs", "si:test", "--potential.n-functions", "4", "--test-fraction", "0", "--out", str(tmp_path)]
    assert main(words) == 0
    assert jaxmlip.load(tmp_path / "model.npz").potential.config.n_functions == 4


def test_derivative_by_its_cutoff(model):
    opened = settings_as_params(model, "cutoff")
    graph = jaxmlip.batch(FRAMES[0], opened.potential.config)

    def energy(cutoff):
        changed = opened.params | {"settings": {"cutoff": cutoff}}
        return jaxmlip.predict(jaxmlip.Model(opened.potential, changed), graph).energy[0]

    found = jax.grad(energy)(np.array(3.99))
    expected = (energy(np.array(3.99 + 1e-5)) - energy(np.array(3.99 - 1e-5))) / 2e-5
    assert found == pytest.approx(float(expected), rel=1e-6)  # a central difference: 1e-10 of the third derivative


def test_study_and_tuning(tmp_path):
    config = StudyConfig(methods={"pairs": StudyMethod()}, sizes=(4,), voltages=False)
    (task,) = make_tasks(FRAMES, config)
    assert np.isfinite(outcome(task, parts(FRAMES, config, 0), tmp_path).row["test_energy_rmse"])
    found = tune(StudyMethod("pairs"), FRAMES, n_trials=1, folder=tmp_path)
    assert {"cutoff", "n_functions"} == set(found.method.potential)


def test_a_name_can_be_given_once():
    family = FAMILIES["pairs"]
    register(family)
    with pytest.raises(ConfigError, match="there is a family 'snap' already"):
        register(family._replace(name="snap"))
    with pytest.raises(ConfigError, match=r"did you mean 'pairs'.*build\('snap'"):
        jaxmlip.build("pair", species="Si")
    assert isinstance(family, Family)
