"""Settings: what is refused when they are made, in Python as from a file, and what is converted."""

import dataclasses
import inspect
from pathlib import Path

import numpy as np
import pytest

from jaxmlip.commands.parse import field_texts
from jaxmlip.config import ConfigError, Settings, from_mapping, to_mapping
from jaxmlip.data.findings import AuditSettings
from jaxmlip.fitting import FIT_METHODS, GradientFit, LinearFit
from jaxmlip.potentials import FAMILIES
from jaxmlip.potentials.snap import SNAPConfig
from jaxmlip.simulate.dynamics import Dynamics
from jaxmlip.simulate.relax import Relaxation
from jaxmlip.study.config import StudyConfig, StudyMethod

KINDS = [
    AuditSettings,
    Dynamics,
    Relaxation,
    StudyMethod,
    StudyConfig,
    *(family.config for name, family in FAMILIES.items() if name not in ("sum", "tabulated")),  # those are of others
    *(method.settings for method in FIT_METHODS.values()),
]


def make(kind, **values):
    """``kind(**values)`` without beartype, which checks arguments in the tests alone and before the settings do."""
    made = object.__new__(kind)
    inspect.unwrap(kind.__init__)(made, **values)
    return made


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (GradientFit, {"schedule": "Cosine"}, "schedule: expected one of 'cosine', .*did you mean 'cosine'"),
        (GradientFit, {"schedule": "linear"}, "schedule: expected one of"),
        (GradientFit, {"epochs": 2.5}, r"epochs: expected int, got 2.5 \(float\)"),
        (GradientFit, {"epochs": True}, r"epochs: expected int, got True \(bool\)"),
        (GradientFit, {"clip_norm": -1}, "clip_norm: expected float > 0, got -1"),
        (GradientFit, {"learning_rate": float("nan")}, "learning_rate: expected a finite number"),
        (GradientFit, {"patience": 0}, "patience: expected int ≥ 1, got 0"),
        (LinearFit, {"offsets": "none"}, "offsets: expected one of"),
        (LinearFit, {"offsets": "Fit"}, "did you mean 'fit'"),
        (LinearFit, {"ridge": "fold"}, "did you mean 'folds'"),
        (LinearFit, {"group_weights": {"a": -1.0}, "group_key": "b"}, "group_weights.a: expected float ≥ 0"),
        (Dynamics, {"precision": "double"}, "precision: expected one of 'float64', 'float32'"),
        (Dynamics, {"ensemble": "NVT"}, "ensemble: expected one of .*did you mean 'nvt'"),
        (Relaxation, {"method": "bfgs"}, "did you mean 'lbfgs'"),
        (SNAPConfig, {"species": "Mo", "cutoff": 4.0}, "species: expected a list, such as .'Mo'"),
        (StudyConfig, {"sizes": 30}, "sizes: expected a list"),
    ],
)
def test_python_refuses_what_a_file_does(kind, values, message):
    with pytest.raises(ConfigError, match=message) as python:
        make(kind, **values)
    with pytest.raises(ConfigError, match=message) as file:
        from_mapping(kind, values, where="fit.toml")
    assert str(file.value) == f"fit.toml: {python.value}"


def test_numpys_numbers_and_lists_are_taken():
    given = {"epochs": np.int64(3), "learning_rate": np.float32(0.5), "clip_norm": None, "schedule": np.str_("plateau")}
    fit = make(GradientFit, **given)
    assert fit == GradientFit(epochs=3, learning_rate=0.5, clip_norm=None, schedule="plateau")
    assert type(fit.epochs) is int
    config = make(SNAPConfig, species=np.array([3, 8]), cutoff=np.float64(4), radii=[1, 2], chemflag=np.bool_(True))
    assert config == SNAPConfig((3, 8), 4.0, radii=(1.0, 2.0), chemflag=True)
    assert hash(config) == hash(SNAPConfig(("Li", "O"), 4.0, radii=(1.0, 2.0), chemflag=True))
    assert make(StudyConfig, out="here").out == Path("here")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_of_settings_is_checked_and_explained(kind):
    """Each field has a text for the help; a value that no field can take is refused, whichever field it is given."""
    assert issubclass(kind, Settings)
    assert not {field.name for field in dataclasses.fields(kind)} - set(field_texts(kind))
    required = {"species": ("Li", "O"), "cutoff": 5.0} if "cutoff" in inspect.signature(kind).parameters else {}
    for field in dataclasses.fields(kind):
        with pytest.raises(ConfigError, match=field.name):
            make(kind, **{**required, field.name: object()})
    made = kind(**required)
    assert from_mapping(kind, to_mapping(made)) == made
