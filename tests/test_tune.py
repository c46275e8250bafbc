"""The search for hyper-parameters on a handful of silicon cells."""

import pytest

import jaxmlip
from jaxmlip.cli import main
from jaxmlip.config import ConfigError, Range, read_toml, toml_text
from jaxmlip.potentials import trainable
from jaxmlip.study import StudyMethod
from jaxmlip.study import tune as module
from jaxmlip.study.tune import JOURNAL, PRESET, ranges, score, tune

QUICK = StudyMethod("snap", {"twojmax": 0}, {"ridge": 1e-8})


@pytest.fixture(scope="module")
def atoms():
    return sorted(jaxmlip.datasets.load("si", split="test"), key=len)[:10]


def test_a_search_goes_on_and_leaves_a_preset_that_fits(atoms, tmp_path):
    rows = []
    first = tune(QUICK, atoms, n_trials=2, folder=tmp_path, report=rows.append)
    assert [row["trial"] for row in rows] == [0, 1]
    assert all(3.5 <= row["potential.cutoff"] <= 7.0 for row in rows)
    again = tune(QUICK, atoms, n_trials=3, folder=tmp_path, report=rows.append)
    assert [row["trial"] for row in rows] == [0, 1, 2]  # two were kept
    assert again.trials[:2] == first.trials
    assert again.score == min(row["score"] for row in again.trials) <= first.score
    preset = read_toml(tmp_path / PRESET)
    assert preset["family"] == "snap"
    assert preset["potential"]["twojmax"] == 0
    assert preset["potential"]["cutoff"] == again.method.potential["cutoff"]
    with pytest.raises(ConfigError, match="other data or settings"):
        tune(QUICK, atoms[:8], n_trials=3, folder=tmp_path)


def test_trials_that_cannot_be_fitted_are_bad_ones(atoms, tmp_path, monkeypatch):
    def broken(*args, **kwargs):
        raise FloatingPointError("diverged")

    monkeypatch.setattr(module.jaxmlip, "fit", broken)
    with pytest.raises(ConfigError, match="all 2 trials failed"):
        tune(QUICK, atoms, n_trials=2, folder=tmp_path)
    assert (tmp_path / JOURNAL).exists()


def test_the_score_weighs_energies_and_forces(atoms):
    model, _ = jaxmlip.fit(jaxmlip.build("snap", species=("Si",), cutoff=4.0, twojmax=0), atoms)
    value, found = score(model, atoms)
    assert value**2 == pytest.approx((30 * found["energy"]) ** 2 + found["forces"] ** 2, rel=1e-12)


@pytest.mark.parametrize("family", trainable())
def test_every_family_marks_what_can_be_tuned(family):
    """The marks are settings of the family, and their ends can be built."""
    for end in ("low", "high"):
        chosen = {
            name: int(getattr(found, end)) if found.step else getattr(found, end)
            for name, found in ranges(StudyMethod(family))["potential"].items()
        }
        assert chosen
        jaxmlip.build(family, **{"species": ("Si",), "cutoff": 5.0, **chosen})


def test_whole_numbers_and_real_ones_come_back_from_a_finished_trial():
    import optuna

    method = StudyMethod("mtp")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda trial: module._tried(trial, method, ranges(method)).potential["level"], n_trials=3)
    best = module._tried(study.best_trial, method, ranges(method))
    assert best.potential["level"] == study.best_value
    assert isinstance(best.potential["level"], int)
    assert 4.0 <= best.potential["cutoff"] <= 7.0
    assert 1e-5 <= best.fit["prior"] <= 1.0


def test_what_is_given_is_not_searched():
    assert "cutoff" not in ranges(StudyMethod("mtp", {"cutoff": 5.0}))["potential"]
    assert ranges(StudyMethod("mtp"))["fit"] == {"prior": Range(1e-5, 1.0, log=True)}


def test_toml(tmp_path):
    settings = {"family": "snap", "potential": {"weights": (1.0, 0.5), "a": True}, "fit": {"ridge": 1e-8, "x": None}}
    (tmp_path / "a.toml").write_text(toml_text(settings), encoding="utf-8")
    found = read_toml(tmp_path / "a.toml")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_toml(tmp_path / "b.toml")
    assert found == {"family": "snap", "potential": {"weights": [1.0, 0.5], "a": True}, "fit": {"ridge": 1e-8}}


def test_the_command(atoms, tmp_path, capsys):
    jaxmlip.write(tmp_path / "si.xyz", atoms)
    (tmp_path / "given.toml").write_text(toml_text({"potential": QUICK.potential, "fit": QUICK.fit}), encoding="utf-8")
    words = ["tune", "snap", str(tmp_path / "si.xyz"), "--config", str(tmp_path / "given.toml")]
    assert main([*words, "--trials", "2", "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "trial 1: score" in shown
    assert (tmp_path / "out" / PRESET).exists()
    words = ["fit", str(tmp_path / "si.xyz"), "--config", str(tmp_path / "out" / PRESET), "--out", str(tmp_path / "f")]
    assert main(words) == 0
    assert main(["tune", "snp", str(tmp_path / "si.xyz")]) != 0
    assert "did you mean 'snap'" in capsys.readouterr().err
