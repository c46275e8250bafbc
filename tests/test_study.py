import dataclasses
import json
import shutil

import numpy as np
import pytest
from matplotlib.figure import Figure

import jaxmlip
from jaxmlip import datasets, pretrained
from jaxmlip.config import ConfigError, from_mapping
from jaxmlip.evaluate.errors import errors
from jaxmlip.potentials import trainable
from jaxmlip.study import StudyConfig, StudyMethod, run_study
from jaxmlip.study import fits as fits_module
from jaxmlip.study import run as run_module
from jaxmlip.study.learning_curve import learning_curve_figure, plain_numbers, times_figure
from jaxmlip.study.ready_made import ready_made, ready_made_section
from jaxmlip.study.sources import fingerprint, load_structures
from jaxmlip.study.summary import error_tables
from jaxmlip.study.tasks import make_tasks, parts
from jaxmlip.study.timing import stopwatch
from jaxmlip.study.voltages import can_have_voltages, voltage_table

TINY = {"twojmax": 0, "cutoff": 3.0}
FIGURES = ("learning_curve", "times", "parity_energy", "heat_map", "error_time", "overfitting", "parity_forces_qsnap-0")


@pytest.fixture(scope="module")
def atoms():
    """Real silicon structures, the smallest first."""
    return sorted(jaxmlip.datasets.load("si", split="test"), key=len)[:10]


@pytest.fixture(scope="module")
def study(tmp_path_factory, atoms):
    """A finished study of two methods and two sizes."""
    folder = tmp_path_factory.mktemp("study")
    jaxmlip.write(folder / "si.xyz", atoms)
    fit = {"ridge": 1e-8}
    methods = {"snap": StudyMethod(potential=TINY, fit=fit), "qsnap-0": StudyMethod(potential=TINY, fit=fit)}
    config = StudyConfig(str(folder / "si.xyz"), methods, (3, 6), voltages=False, out=folder / "out")
    return config, run_study(config)


def test_one_tidy_row_a_fit(study):
    config, result = study
    assert [(row["method"], row["size"]) for row in result.rows] == [
        ("snap", 3), ("qsnap-0", 3), ("snap", 6), ("qsnap-0", 6)
    ]  # fmt: skip
    for row in result.rows:
        for part in ("train", "test"):
            assert all(row[f"{part}_{quantity}_rmse"] >= 0 for quantity in ("energy", "forces", "stress"))
        assert row["fit_wall_s"] > 0
        assert row["inference_us_per_atom"] > 0
        assert row["fit_wall_s"] >= row["fit_compile_s"] >= 0
        assert row["n_test"] == 2
        assert row["fit_peak_mb"] is None or 0 <= row["fit_peak_mb"] < 2000  # of so small a fit alone
        assert row["fit"]["ridge"] == 1e-8
    lines = (config.out / "results.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == json.loads(json.dumps(result.rows))


def test_the_folder_is_complete(study):
    config, _ = study
    names = {path.relative_to(config.out).as_posix() for path in config.out.rglob("*") if path.parent.name != "fits"}
    figures = {f"figures/{f}.{s}" for s in ("png", "svg") for f in FIGURES}
    expected = {"report.html", "run.json", "results.csv", "results.jsonl", "models/snap.npz", "models/qsnap-0.npz"}
    assert names >= expected | figures
    record = json.loads((config.out / "run.json").read_text(encoding="utf-8"))
    assert record["settings"]["sizes"] == [3, 6]
    assert record["versions"]["jax"]
    report = (config.out / "report.html").read_text(encoding="utf-8")
    for heading in ("Errors", "Parity", "Learning curve", "Time", "How this was made"):
        assert f">{heading}</h2>" in report
    assert report.count('<div class="chart"') == 2  # parity points and learning curves


def test_rows_are_the_errors_of_the_saved_model(study, atoms):
    from jaxmlip.evaluate.errors import errors

    config, result = study
    table = errors(jaxmlip.load(config.out / "models" / "snap.npz"), parts(atoms, config, 0).test)
    # the same float64 program on the same numbers
    assert table["forces"].rmse == pytest.approx(result.rows[2]["test_forces_rmse"], rel=1e-10)


def test_finished_fits_are_not_repeated_and_changed_ones_are(study, monkeypatch):
    config, result = study
    done = []

    def count(task, pieces):
        done.append((task.name, task.size))
        raise KeyboardInterrupt

    monkeypatch.setattr(fits_module, "_fit", count)
    assert run_study(config).rows == json.loads(json.dumps(result.rows))
    assert not done
    changed = dict(config.methods) | {"snap": StudyMethod(potential=TINY, fit={"ridge": 1e-7})}
    with pytest.raises(KeyboardInterrupt):
        run_study(dataclasses.replace(config, methods=changed))
    assert done == [("snap", 3)]


def test_figures_are_drawn_again_only_for_other_results(study, tmp_path, monkeypatch):
    config = dataclasses.replace(study[0], out=tmp_path / "copy")
    shutil.copytree(study[0].out / "fits", config.out / "fits")
    drawn = []

    def draw(config, results, extra):
        drawn.append(len(results))
        (config.out / "report.html").touch()

    monkeypatch.setattr(run_module, "write_results", draw)
    again = dataclasses.replace(config, note="Labels: none.")
    for one in (config, config, again, again, dataclasses.replace(config, sizes=(3,)), config):
        run_study(one)
    assert drawn == [4, 4, 2, 4]
    (config.out / "report.html").unlink()
    run_study(config)
    assert drawn == [4, 4, 2, 4, 4]


def test_a_stopped_study_goes_on(study, tmp_path, monkeypatch):
    config, _ = study
    config = dataclasses.replace(config, out=tmp_path / "stopped")
    real, done = fits_module._fit, []

    def stop_at_the_third(task, pieces):
        done.append(task.name)
        if len(done) == 3:
            raise KeyboardInterrupt
        return real(task, pieces)

    monkeypatch.setattr(fits_module, "_fit", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        run_study(config)
    assert not (config.out / "report.html").exists()
    run_study(config)
    assert len(done) == 3 + 2  # the third again, and the fourth
    assert (config.out / "report.html").exists()


def test_splits_are_shared_nested_and_drawn_by_the_seed(atoms):
    config = StudyConfig(sizes=(3, 6))
    first, again, other = (parts(atoms, config, seed) for seed in (0, 0, 1))
    assert fingerprint(first.train) == fingerprint(again.train) != fingerprint(other.train)
    assert len(first.train) + len(first.test) == len(atoms)
    with pytest.raises(ConfigError, match=r"60 training structures asked for, but 10 .* leave 8"):
        parts(atoms, StudyConfig(sizes=(3, 60)), 0)


def test_a_method_may_have_sizes_of_its_own(atoms):
    methods = {"snap": StudyMethod(), "qsnap": StudyMethod(sizes=(4, 2))}
    config = from_mapping(StudyConfig, {"methods": {"snap": {}, "qsnap": {"sizes": [4, 2]}}, "sizes": [6, 3]})
    assert config.methods == methods
    assert [(t.size, t.name) for t in make_tasks(atoms, config)] == [
        (2, "qsnap"), (3, "snap"), (4, "qsnap"), (6, "snap")
    ]  # fmt: skip
    alone = make_tasks(atoms, StudyConfig(methods={"qsnap": StudyMethod()}, sizes=(2,)))
    assert alone[0].key == make_tasks(atoms, config)[0].key  # a finished fit stays one
    with pytest.raises(ConfigError, match=r"60 training structures asked for, but 10 .* leave 8"):
        parts(atoms, StudyConfig(methods={"snap": StudyMethod(sizes=(60,))}, sizes=(3,)), 0)


def test_mistakes_are_found_before_the_first_fit(atoms):
    cases = [
        ({"snapp": StudyMethod()}, "methods.snapp: unknown family 'snapp'; did you mean 'snap'"),
        ({"snap": StudyMethod(potential={"twojmx": 6})}, "methods.snap: .*did you mean 'twojmax'"),
        ({"snap": StudyMethod(fit={"rigde": 6})}, "methods.snap: .*did you mean 'ridge'"),
        ({"snap": StudyMethod(potential={"cutoff": -1.0})}, "cutoff: expected float > 0"),
    ]
    for methods, message in cases:
        with pytest.raises(ConfigError, match=message):
            make_tasks(atoms, StudyConfig(methods=methods, sizes=(3,)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sizes": []}, "sizes"),
        ({"methods": {"snap": {"sizes": [0]}}}, "methods.snap: sizes.0.: expected int ≥ 1"),
        ({"test_fraction": 1.5}, "test_fraction: expected float > 0, < 1, got 1.5"),
        ({"size": [3]}, "did you mean 'sizes'"),
        ({"methods": {"snap": {"potental": {}}}}, "did you mean 'potential'"),
        ({"seeds": []}, "at least one"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        from_mapping(StudyConfig, settings)


def test_the_key_depends_on_data_and_settings_but_not_on_names(atoms, tmp_path):
    jaxmlip.write(tmp_path / "copy.xyz", atoms)
    assert fingerprint(load_structures(tmp_path / "copy.xyz")) == fingerprint(atoms) != fingerprint(atoms[1:])


def test_sources_that_do_not_exist(tmp_path):
    with pytest.raises(FileNotFoundError, match="did you mean 'ldr'"):
        load_structures("ldrr")
    with pytest.raises(FileNotFoundError, match="nothing"):
        load_structures(tmp_path / "nothing.xyz")


def test_figures_mark_the_sizes_and_one_size_is_a_figure_too():
    row = {
        "method": "snap",
        "size": 30,
        "fit_wall_s": 2.0,
        "fit_cpu_s": 1.5,
        "fit_compile_s": 1.0,
        "inference_us_per_atom": 5.0,
    }
    row |= {"train_energy_rmse": 0.25, "test_energy_rmse": 0.5}
    (panel,) = learning_curve_figure([row]).axes  # no forces, no panel for them
    assert panel.get_ylabel() == "energy RMSE (meV/atom)"
    assert [line.get_ydata().tolist() for line in panel.lines] == [[500.0], [250.0]]
    times = times_figure([row]).axes[0]
    assert times.get_xticks().tolist() == [30]
    assert [line.get_ydata().tolist() for line in times.lines] == [[0.75], [1.5]]  # of the processor, not the wall


@pytest.mark.parametrize(
    ("limits", "expected"), [((0.15, 0.47), {"0.2", "0.3", "0.4"}), ((4, 250), {"5", "10", "20", "50", "100", "200"})]
)
def test_logarithmic_axes_have_plain_numbers(limits, expected):
    figure = Figure()
    axis = figure.subplots()
    axis.set(yscale="log", ylim=limits)
    plain_numbers(axis.yaxis)
    figure.draw_without_rendering()
    ticks = [*axis.yaxis.get_major_ticks(), *axis.yaxis.get_minor_ticks()]
    shown = {tick.label1.get_text() for tick in ticks if limits[0] <= tick.get_loc() <= limits[1]}
    assert shown - {""} == expected


def test_voltage_table_shows_what_went_wrong():
    rows = [
        {"method": "snap", "metal": "Co", "voltage": 3.91, "status": "converged"},
        {"method": "snap", "metal": "Ni", "voltage": None, "status": "ran away"},
    ]
    columns, lines = voltage_table(rows)
    assert columns == ["TM", "DFT (published)", "snap", "AENET (published)", "MTP (published)"]
    assert [line[:3] for line in lines[:2]] == [["Co", 3.81, 3.91], ["Ni", 4.64, "ran away"]]
    assert lines[2][2] == "0.10 (1 of 2)"
    assert lines[2][3] == pytest.approx(np.round((4.27 - 3.81 + 4.64 - 4.38) / 2, 2))
    assert can_have_voltages(("Li", "O", "Ni"), ("Co", "Ni"))
    assert not can_have_voltages(("Li", "Ni"), ("Ni",))


def test_a_preset_is_a_method_that_settings_complete(atoms):
    methods = {
        "mine": StudyMethod(preset="study-gap", fit={"n_sparse": 7}),
        "nequip": StudyMethod(potential={"l_max": 0}),
    }
    tasks = make_tasks(atoms, StudyConfig(methods=methods, sizes=(3,)))
    first, second = (task.method for task in tasks)
    assert (first.family, first.potential["n_max"], first.fit["n_sparse"]) == ("gap", 4, 7)
    assert second.family == "nequip"
    with pytest.raises(ConfigError, match=r"methods.a: preset 'study-gap' is of gap, not of snap"):
        make_tasks(atoms, StudyConfig(methods={"a": StudyMethod("snap", preset="study-gap")}, sizes=(3,)))
    with pytest.raises(ConfigError, match="did you mean 'study-gap'"):
        make_tasks(atoms, StudyConfig(methods={"a": StudyMethod(preset="study-gp")}, sizes=(3,)))


def test_the_example_compares_the_families_that_are_trained_from_nothing():
    assert {method.family or name for name, method in StudyConfig().methods.items()} >= {"snap", "qsnap", "nequip"}
    tasks = make_tasks(load_structures("ldr"), StudyConfig(sizes=(30,)))
    assert {task.method.family for task in tasks} == set(trainable()) - {"sevennet"}  # its start is a trained model


def test_error_tables_name_seeds_where_there_are_several():
    rows = [{"method": "qsnap", "size": 3, "seed": seed, "test_energy_rmse": 0.25 + seed} for seed in (0, 1)]
    (alone,), (both,) = error_tables(rows[:1]), error_tables(rows)
    assert alone.columns == ["method", "structures", "train RMSE", "train MAE", "test RMSE", "test MAE"]
    assert alone.rows == [["qSNAP", 3, None, None, 250.0, None]]
    assert both.columns[:3] == ["method", "structures", "seed"]
    assert [row[2] for row in both.rows] == [0, 1]


def test_voltages_are_drawn_beside_the_published_ones():
    from jaxmlip.study.figures import voltage_figure

    rows = [{"method": "snap", "metal": "Co", "voltage": 3.9}, {"method": "snap", "metal": "Ni", "voltage": None}]
    (axis,) = voltage_figure(rows).axes
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["LiCoO$_2$", "LiNiO$_2$"]
    assert axis.lines[-1].get_ydata().tolist() == [3.9]


def test_memory_is_that_of_the_block_alone():
    """An array of 80 MB that is touched, and one that was there before."""
    before = np.ones(20_000_000)
    with stopwatch() as times:
        inside = np.ones(10_000_000)
    if times.peak is not None:  # Linux tells it
        assert 70 < times.peak < 150
    assert before.size + inside.size == 30_000_000


def test_shipped_potentials_are_tested_on_what_they_have_not_learned():
    atoms = datasets.load("ldr")
    config = StudyConfig(pretrained=("rocksalt-mtp",), voltages=False)
    pieces = parts(atoms, config, 0)
    rows, volts = ready_made(config, pieces, {})
    learned = set(pretrained.card("rocksalt-mtp").learned)
    assert len(learned) == 120
    new = [frame for frame in pieces.test if frame.info["id"] not in learned]
    expected = errors(jaxmlip.potentials.predict_atoms(jaxmlip.load("rocksalt-mtp"), new), new)
    assert [row["method"] for row in rows] == ["rocksalt-mtp"]
    assert rows[0]["n"] == len(new) == 9
    assert rows[0]["energy"] == pytest.approx(expected["energy"].rmse)
    assert not volts
    assert "9 test structures" in ready_made_section(rows).text[0]


def test_no_shipped_potential_of_this_name():
    with pytest.raises(ConfigError, match="did you mean 'rocksalt-ace'"):
        StudyConfig(pretrained=("rocksalt-acee",))
