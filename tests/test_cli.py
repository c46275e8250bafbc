import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import jaxmlip
from jaxmlip.cli import COMMANDS, main
from jaxmlip.data.labels import Labels, attach, labels

PROGRAM = [sys.executable, "-m", "jaxmlip.cli"]
SMALL = ["--potential.twojmax", "0", "--potential.cutoff", "3.0", "--fit.ridge", "1e-8"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A file of ten small real silicon structures."""
    file = tmp_path_factory.mktemp("data") / "si.xyz"
    jaxmlip.write(file, sorted(jaxmlip.datasets.load("si", split="test"), key=len)[:10])
    return str(file)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, data):
    """The folder that a fit leaves."""
    out = tmp_path_factory.mktemp("fit") / "snap"
    assert main(["fit", "snap", data, "--test-fraction", "0.2", "--seed", "3", "--out", str(out), *SMALL]) == 0
    return out


def complaint(capsys, words):
    """What a refused command says: one message, no traceback, exit code 2."""
    assert main(words) == 2
    text = capsys.readouterr().err
    assert "Traceback" not in text
    return text


def test_help_is_quick_and_imports_no_jax():
    script = "import sys; from jaxmlip.cli import main; main(['--help']); sys.exit('jax' in sys.modules)"
    before = os.times()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert os.times().children_user - before.children_user < 1.0  # 0.05 s; however busy the machine is
    for command, (_, example) in COMMANDS.items():
        assert f"  {command} " in done.stdout
        assert example in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself_with_an_example(command, capsys):
    assert main([command, "--help"]) == 0
    assert f"example: jaxmlip {command}" in capsys.readouterr().out


def test_version_and_no_command(capsys):
    assert main([]) == 0
    assert "usage: jaxmlip COMMAND" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"jaxmlip {jaxmlip.__version__}\n"


def test_fit_leaves_model_errors_figures_and_a_record(fitted):
    names = {path.name for path in fitted.iterdir()}
    assert names >= {"model.npz", "errors.csv", "errors.jsonl", "parity_energy.png", "parity_forces.png", "run.json"}
    record = json.loads((fitted / "run.json").read_text(encoding="utf-8"))
    assert (record["family"], record["seed"], record["n_train"], record["n_test"]) == ("snap", 3, 8, 2)
    assert record["command"][:3] == ["jaxmlip", "fit", "snap"]
    assert record["potential"]["species"] == [14]
    assert record["versions"]["jaxmlip"] == jaxmlip.__version__
    assert jaxmlip.load(fitted / "model.npz").potential.config.twojmax == 0


def test_flags_win_over_the_file(data, tmp_path):
    config = tmp_path / "fit.toml"
    config.write_text(
        f'family = "qsnap"\ntrain = ["{data}"]\nout = "{tmp_path / "a"}"\ntest_fraction = 0.0\n'
        "[potential]\ncutoff = 3.0\ntwojmax = 2\n[fit]\nridge = 1e-6\n"
    )
    assert main(["fit", "--config", str(config), "--potential.twojmax", "0"]) == 0
    record = json.loads((tmp_path / "a" / "run.json").read_text(encoding="utf-8"))
    potential, fit = record["settings"]["potential"], record["settings"]["fit"]
    assert (record["family"], potential["twojmax"], potential["cutoff"], fit["ridge"]) == ("qsnap", 0, 3.0, 1e-6)


def test_evaluate_prints_and_writes(fitted, data, tmp_path, capsys):
    out = tmp_path / "errors"
    assert main(["evaluate", str(fitted / "model.npz"), data, "--out", str(out), "--group-key", "group"]) == 0
    assert "meV/atom" in capsys.readouterr().out
    rows = [json.loads(line) for line in (out / "errors.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {row["scope"] for row in rows} == {"all", "element", "group"}
    assert json.loads((out / "run.json").read_text())["n_structures"] == 10


def test_predict_writes_predicted_labels(fitted, data, tmp_path):
    out = tmp_path / "predicted.xyz"
    assert main(["predict", str(fitted / "model.npz"), data, "--out", str(out)]) == 0
    from jaxmlip.potentials.predictions import predict_atoms

    frames = jaxmlip.read(out)
    expected = predict_atoms(jaxmlip.load(fitted / "model.npz"), jaxmlip.read(data))
    # the same float64 program; the file keeps every digit
    np.testing.assert_allclose([labels(frame).energy for frame in frames], expected.energy, atol=1e-10)
    np.testing.assert_allclose(labels(frames[0]).forces, expected.forces[0], atol=1e-10)
    assert (tmp_path / "predicted.xyz.run.json").exists()


def test_convert_goes_there_and_back(fitted, tmp_path):
    model = str(fitted / "model.npz")
    assert main(["convert", model, str(tmp_path / "Si.snapcoeff")]) == 0
    assert (tmp_path / "Si.snapparam").exists()
    assert main(["convert", str(tmp_path / "Si.snapcoeff"), str(tmp_path / "back.npz")]) == 0
    first, back = (jaxmlip.load(path).params["coefficients"] for path in (model, tmp_path / "back.npz"))
    np.testing.assert_allclose(np.asarray(back), np.asarray(first), rtol=1e-12)  # text with at least 15 digits


def test_audit_finds_and_removes_what_is_broken(data, tmp_path, capsys):
    assert main(["audit", data]) == 0
    frames = jaxmlip.read(data)
    broken = frames[2].copy()
    broken.positions[0] = broken.positions[1] + 0.2
    attach(broken, labels(frames[2]))
    jaxmlip.write(tmp_path / "bad.xyz", [*frames[:2], broken, *frames[3:]])
    capsys.readouterr()
    assert main(["audit", str(tmp_path / "bad.xyz"), "--write", str(tmp_path / "clean.xyz")]) == 1
    assert "overlap" in capsys.readouterr().out
    assert len(jaxmlip.read(tmp_path / "clean.xyz")) == 9
    assert (tmp_path / "clean.xyz.run.json").exists()


def test_data_options_are_the_same_in_every_command(tmp_path, capsys):
    cases = Path(__file__).parent / "data" / "cases"
    kept = tmp_path / "kept.xyz"
    assert main(["audit", str(cases / "virial_section.cfg"), "--species", "Li", "O", "--write", str(kept)]) == 0
    assert "wrote 1 structures" in capsys.readouterr().out
    assert jaxmlip.read(kept)[0].get_chemical_formula() == "LiO"
    assert main(["audit", str(cases / "dump_types.lammpstrj")]) == 2
    assert "--species Li O" in capsys.readouterr().err
    files = [str(cases / "energy_elsewhere.xyz"), "--out", str(tmp_path / "fit")]
    assert main(["fit", "snap", *files, "--potential.twojmax", "2"]) == 2
    assert "--energy-key pbe_energy" in capsys.readouterr().err
    assert main(["audit", files[0], "--energy-key", "pbe_energy", "--drop", "suspicious"]) == 0
    conflict = [str(cases / "virial_conflict.xyz"), "--virial-key", "virial", "--write", str(kept)]
    assert main(["audit", *conflict]) == 0  # duplicates are suspicious only
    assert "suspicious ones are among those written" in capsys.readouterr().out


def test_an_iterative_fit_leaves_its_log_and_goes_on(data, tmp_path, capsys):
    config = tmp_path / "fit.toml"
    config.write_text('[fit]\nmethod = "gradient"\nbatch_size = 4\n')
    words = ["fit", "snap", data, "--config", str(config), "--out", str(tmp_path / "fit"), *SMALL[:4]]
    assert main([*words, "--fit.epochs", "2"]) == 0
    log = tmp_path / "fit" / "log.jsonl"
    assert [json.loads(line)["epoch"] for line in log.read_text().splitlines()] == [1, 2]
    for name in ("model.npz", "checkpoint.msgpack", "training.png", "errors.csv", "run.json"):
        assert (tmp_path / "fit" / name).exists()
    assert main([*words, "--fit.epochs", "3"]) == 2
    assert "belongs to a run with other data, settings" in capsys.readouterr().err
    assert main([*words, "--fit.method", "newton"]) == 2
    assert "did you mean 'quasi-newton'?" in capsys.readouterr().err
    assert main(["fit", data, "--preset", "study-snapp"]) == 2
    assert "did you mean 'study-snap'?" in capsys.readouterr().err


def test_a_preset_gives_family_and_settings(data, tmp_path):
    out = tmp_path / "aenet"
    words = ["fit", "--preset", "study-aenet", data, "--out", str(out), "--fit.epochs", "2", "--fit.n-shapes", "1"]
    assert main([*words, "--potential.cutoff", "4", "--potential.angular-cutoff", "4"]) == 0
    record = json.loads((out / "run.json").read_text())
    assert record["settings"]["fit"]["force_weight"] == 0.0
    assert record["potential"]["hidden"] == ["15:tanh", "15:tanh"]
    assert jaxmlip.load(out / "model.npz").potential.config.symbols == ("Si",)


def test_a_model_is_fine_tuned(fitted, data, tmp_path, capsys):
    out, model = tmp_path / "tuned", str(fitted / "model.npz")
    words = ["fit", data, "--start", model, "--out", str(out), "--fit.method", "gradient", "--fit.epochs", "1"]
    assert main([*words, "--fit.learning-rate", "1e-9"]) == 0
    before, after = jaxmlip.load(model), jaxmlip.load(out / "model.npz")
    assert after.potential.config == before.potential.config
    np.testing.assert_allclose(after.params["coefficients"], before.params["coefficients"], atol=1e-6)
    assert json.loads((out / "run.json").read_text())["settings"]["start"] == model
    for more, expected in (
        (["--potential.twojmax", "4"], "made with other settings: twojmax"),
        (["--preset", "nequip-rocksalt"], "is a snap potential, not nequip"),
    ):
        assert expected in complaint(capsys, [*words, *more])
    assert "no.npz" in complaint(capsys, ["fit", data, "--start", "no.npz"])


def test_grade_flags_what_is_far_from_the_training_data(fitted, data, tmp_path, capsys):
    frames = jaxmlip.read(data)
    far = frames[0].copy()
    far.set_cell(far.cell * 0.8, scale_atoms=True)
    jaxmlip.write(tmp_path / "new.xyz", [frames[1], far])
    out = tmp_path / "graded.xyz"
    words = ["grade", str(fitted / "model.npz"), str(tmp_path / "new.xyz"), "--train", data, "--mode", "atoms"]
    assert main([*words, "--out", str(out), "--limit", "1.1"]) == 1
    graded = jaxmlip.read(out)
    assert graded[0].info["grade"] < 1.1 < graded[1].info["grade"]
    assert graded[1].info["grade"] == pytest.approx(graded[1].arrays["grades"].max())
    assert "unreliable" in capsys.readouterr().out
    assert main([*words, "--out", str(out), "--select", "3"]) in (0, 1)
    assert [frame.info["grade"] > 1.1 for frame in jaxmlip.read(out)] == [True]


def test_relax_writes_structures_and_says_what_failed(fitted, data, tmp_path, monkeypatch, capsys):
    import jaxmlip.simulate as module

    def fake(_, frames, settings):
        assert settings == module.Relaxation(cell=False)
        good = [len(atoms) > 1 for atoms in frames]
        problems = ["" if ok else "ran away [x]" for ok in good]
        rows = zip(frames, good, problems, strict=True)
        return [module.Relaxed(atoms.copy(), -1.0, ok, 3, 0.001, 0.0, problem) for atoms, ok, problem in rows]

    monkeypatch.setattr(module, "relax", fake)
    frames = jaxmlip.read(data)[:2]
    frames[1] = frames[1].copy()[:1]
    jaxmlip.write(tmp_path / "two.xyz", frames)
    out = tmp_path / "relaxed.xyz"
    code = main(["relax", str(fitted / "model.npz"), str(tmp_path / "two.xyz"), "--no-cell", "--out", str(out)])
    assert code == 1
    assert "ran away [x]" in capsys.readouterr().out
    assert [frame.info["relaxed"] for frame in jaxmlip.read(out)] == [True, False]
    assert [labels(frame).energy is None for frame in jaxmlip.read(out)] == [False, True]


def test_relax_with_a_real_model(fitted, data, tmp_path, capsys):
    jaxmlip.write(tmp_path / "one.xyz", jaxmlip.read(data)[:1])
    out = tmp_path / "relaxed.xyz"
    words = ["relax", str(fitted / "model.npz"), str(tmp_path / "one.xyz"), "--max-steps", "2", "--fmax", "1e-9"]
    assert main([*words, "--out", str(out)]) == 1
    (frame,) = jaxmlip.read(out)
    assert frame.info["relaxation_steps"] == 2
    assert not frame.info["relaxed"]
    assert "not" in capsys.readouterr().out


def test_voltage_prints_words_where_there_is_no_number(tmp_path, monkeypatch, capsys):
    import jaxmlip.cathodes

    def fake(model, *, metals, lithium_energy, active):
        assert (lithium_energy, active) == (-2.0, None)
        numbers = {"Co": (3.9, "converged"), "Ni": (None, "did not converge")}
        return [jaxmlip.cathodes.Voltage(m, *numbers[m], None, None, 0.1) for m in metals]

    known = SimpleNamespace(potential=SimpleNamespace(config=SimpleNamespace(symbols=("Li", "O", "Co"))))
    monkeypatch.setattr(jaxmlip.cathodes, "voltages", fake)
    monkeypatch.setattr("jaxmlip.commands.voltage.load_model", lambda path: known)
    out = tmp_path / "v.json"
    words = ["voltage", "m.npz", "--metals", "Co", "Ni", "--lithium-energy", "-2.0", "--out", str(out)]
    assert main(words) == 1
    assert "did not converge" in capsys.readouterr().out
    assert json.loads(out.read_text())[0]["voltage"] == 3.9
    assert "needs Li, O and one of the metals" in complaint(capsys, ["voltage", "m.npz", "--metals", "Fe"])
    assert "give --disordered too" in complaint(capsys, ["voltage", "m.npz", "--relaxed"])


def test_voltages_of_a_real_model_with_their_grades(tmp_path, capsys):
    """Whatever the numbers of so small a model are: each row has one, or says why it has none."""
    words = ["fit", "snap", "layered", "--potential.twojmax", "2", "--potential.cutoff", "4", "--test-fraction", "0"]
    assert main([*words, "--fit.ridge", "1e-4", "--out", str(tmp_path / "fit")]) == 0
    model, out = str(tmp_path / "fit" / "model.npz"), tmp_path / "v.json"
    assert main(["voltage", model, "--metals", "Co", "Ni", "--train", "layered", "--out", str(out)]) in (0, 1)
    shown = capsys.readouterr().out
    assert "LiCoO2 - CoO2" in shown
    assert "0.34 V, 10.05 %" in shown
    for row in json.loads(out.read_text()):
        assert (row["voltage"] is None) == (row["status"] != "converged")
        assert row["voltage"] is None or row["grade"] > 0


def test_study_from_a_file_with_flags(data, tmp_path, capsys):
    config = tmp_path / "study.toml"
    config.write_text(
        f'data = "{data}"\nsizes = [3, 6]\nvoltages = false\n'
        "[methods.snap.potential]\ntwojmax = 0\ncutoff = 3.0\n[methods.snap.fit]\nridge = 1e-8\n[methods.other]\n"
    )
    out = tmp_path / "out"
    assert main(["study", str(config), "--methods", "snap", "--sizes", "4", "--out", str(out)]) == 0
    assert "report.html" in capsys.readouterr().out.replace("\n", "")
    assert json.loads((out / "results.jsonl").read_text())["size"] == 4
    assert "did you mean 'snap'" in complaint(capsys, ["study", str(config), "--methods", "snp"])


def test_mistakes_get_one_message(fitted, data, tmp_path, capsys):
    files = {name: tmp_path / name for name in ("corrupt.xyz", "empty.xyz", "nan.xyz", "bare.xyz", "li.xyz", "c.toml")}
    frames = jaxmlip.read(data)
    files["corrupt.xyz"].write_text("2\nProperties=species:S:1:pos:R:3 energy=-1\nSi 0 0 0\nSi 0 0 x\n")
    files["empty.xyz"].write_text("")
    files["c.toml"].write_text("[fit]\nrigde = 1.0\n")
    bare = [frame.copy() for frame in frames]
    jaxmlip.write(files["bare.xyz"], bare)
    broken = [frame.copy() for frame in frames]
    for frame in broken:
        attach(frame, Labels(-1.0, np.full((len(frame), 3), np.nan), None))
    jaxmlip.write(files["nan.xyz"], broken)
    bare[0].symbols[0] = "Li"
    jaxmlip.write(files["li.xyz"], bare[:1])
    model, out = str(fitted / "model.npz"), ["--out", str(tmp_path / "refused"), *SMALL]
    newer = tmp_path / "newer.npz"
    newer.write_bytes(b"PK not a model")
    cases = [
        (["fti"], "did you mean 'fit'"),
        (["fit", "snapp", data], "did you mean 'snap'"),
        (["fit"], "no family"),
        (["fit", "snap"], "no training data"),
        (["fit", "snap", "ldrr"], "did you mean 'ldr'"),
        (["fit", "snap", str(tmp_path / "nothing.xyz"), *out], "nothing.xyz"),
        (["fit", "snap", data, "--config", str(files["c.toml"])], "did you mean 'ridge'"),
        (["fit", "snap", data, "--config", "no.toml"], "no.toml"),
        (["fit", "snap", data, *out, "--potential.twojma", "2"], "--potential.twojmax"),
        (["fit", "snap", data, *out, "--potential.cutoff", "0"], "cutoff: expected float > 0, got 0"),
        (["fit", "snap", data, *out, "--potential.species", "Xx"], "unknown element 'Xx'"),
        (["fit", "snap", str(files["corrupt.xyz"]), *out], "line 4"),
        (["fit", "snap", str(files["empty.xyz"]), *out], "empty"),
        (["fit", "snap", str(files["nan.xyz"]), *out], "finite"),
        (["fit", "snap", str(files["bare.xyz"]), *out], "label"),
        (["evaluate", model, str(files["bare.xyz"])], "none of the 10 structures has"),
        (["evaluate", model, str(files["li.xyz"])], "unknown element 'Li'"),
        (["evaluate"], "no model"),
        (["evaluate", model], "no structures"),
        (["evaluate", str(newer), data], "newer.npz"),
        (["predict", model, data, "--out", str(tmp_path / "no" / "p.xyz")], "does not exist"),
        (["convert", model], "two files"),
    ]
    for words, expected in cases:
        assert expected in complaint(capsys, words), words


def test_debug_shows_where_and_surprises_keep_their_traceback(data, monkeypatch):
    with pytest.raises(ValueError, match="no family"):
        main(["fit", "--debug"])
    import jaxmlip.commands.fit as module

    def surprise(words):
        raise RuntimeError("a bug")

    monkeypatch.setattr(module, "main", surprise)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["fit", "snap", data])


def test_double_precision_ends_with_the_command():
    import jax
    import jax.numpy as jnp

    from jaxmlip.commands.cache import double_precision

    with jax.enable_x64(False):
        with double_precision():
            assert jnp.zeros(0).dtype == jnp.float64
        assert jnp.zeros(0).dtype == jnp.float32


def test_who_is_killed_while_writing_leaves_the_old_file(tmp_path):
    code = """
import os, signal, sys
from jaxmlip.files import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_text("ha")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    path = tmp_path / "model.npz"
    path.write_text("whole")
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "whole"


@pytest.mark.parametrize("words", [["voltage", "--help"], ["--help"]])
def test_a_reader_that_goes_away_is_no_error(words):
    """As ``| head -1``; the program meets a closed pipe from its first word on."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*PROGRAM, *words], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_md_writes_a_log_and_frames_and_goes_on(fitted, data, tmp_path, capsys):
    words = ["md", str(fitted / "model.npz"), str(data), "--out", str(tmp_path / "run"), "--ensemble", "npt"]
    words += ["--frame-every", "10", "--checkpoint-every", "10", "--temperature", "50", "--timestep", "0.5"]
    assert main([*words, "--n-steps", "10"]) == 0
    assert "temperature" in capsys.readouterr().out
    assert main([*words, "--n-steps", "20"]) == 0
    log = (tmp_path / "run" / "log.csv").read_text().splitlines()
    assert log[0].startswith("step,time_fs,temperature_K,potential_eV")
    assert [line.split(",")[0] for line in log[1:]] == ["0", "10", "20"]
    assert len(jaxmlip.read(tmp_path / "run" / "trajectory.extxyz")) == 3
    assert (tmp_path / "run" / "run.json").exists()
    assert main([*words, "--index", "99999"]) == 2
    assert "--index 99999" in capsys.readouterr().err


def test_properties_of_a_crystal(tmp_path, capsys):
    """Copper-like pairs (of ZBL and SNAP there is no small stable crystal): the potential is put in by hand."""
    from ase.build import bulk
    from ase.io import read
    from morse import model

    import jaxmlip.commands.properties as module

    crystal = bulk("Cu", cubic=True, a=3.6)
    crystal.symbols[[0, 1]] = "Ni"
    jaxmlip.write(tmp_path / "crystal.xyz", [crystal])
    out = tmp_path / "out"
    words = ["properties", "model.npz", str(tmp_path / "crystal.xyz"), "--out", str(out), "--strain", "0.03"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "load_model", lambda path: model(3.3))
        assert main([*words, "--supercell", "2", "2", "2"]) == 0
        text = capsys.readouterr().out
        assert "bulk modulus (Hill)" in text
        assert "highest frequency" in text
        assert main([*words, "--only", "elastic", "--no-relax"]) == 1
        assert "elastic: Cu2Ni2 is no minimum" in capsys.readouterr().out.replace("\n", " ")
    assert {path.name for path in out.iterdir()} == {
        *("relaxed.xyz", "properties.json", "run.json", "POSCAR", "FORCE_CONSTANTS"),
        *("equation_of_state.png", "phonons.png"),
    }
    assert len(read(out / "POSCAR")) == 2
    assert (out / "FORCE_CONSTANTS").read_text().split()[:2] == ["2", "16"]
    assert "largest force" in json.loads((out / "run.json").read_text())["problems"][0]
    assert complaint(capsys, ["properties", str(tmp_path / "no.npz"), str(tmp_path / "crystal.xyz")])
