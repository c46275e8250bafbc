"""Packed data sets: what is written is read, damage is named, and fits of them are those of data in memory."""

import dataclasses
import hashlib
import os
import pickle
import shutil
import signal
import subprocess
import sys
from contextlib import suppress

import msgpack
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixCartesian

import jaxmlip
from jaxmlip.cli import main
from jaxmlip.data import CorruptRecordError, DataWarning, Labels, PackedData, attach, iread, labels, pack, packing, read
from jaxmlip.data.packed import ROW
from jaxmlip.data.record import decoded, encoded
from jaxmlip.data.structures import frames_of
from jaxmlip.fitting import GradientFit, LinearFit, Terminated
from jaxmlip.fitting.frame_weights import converged, with_isolated
from jaxmlip.fitting.objective import force_scale, structure_factors
from jaxmlip.fitting.survey import survey
from jaxmlip.fitting.training import streamed
from jaxmlip.graph.batch import batch
from jaxmlip.graph.loading import Layout, Rows, ahead, makers, stacked_rows, widened
from jaxmlip.potentials.offsets import fit_offsets

WEIGHTS = {"energy_weight": 10.0, "force_weight": 1.0, "stress_weight": 2.0}
GRADIENT = GradientFit(**WEIGHTS, epochs=3, batch_size=2, dtype="float64", n_shapes=1, checkpoint_steps=2)


@pytest.fixture(scope="module")
def frames():
    """Ten structures of 54 atoms, some with weights of their own."""
    chosen = [frame.copy() for frame in jaxmlip.datasets.load("mo", split="train") if len(frame) == 54][:10]
    given = [frame for frame in jaxmlip.datasets.load("mo", split="train") if len(frame) == 54]
    for k, (frame, old) in enumerate(zip(chosen, given, strict=False)):
        attach(frame, labels(old))
        frame.info["config_type"] = "ab"[k % 2]
        if k == 3:
            frame.info["energy_weight"] = 4.0
    return chosen


@pytest.fixture(scope="module")
def data(frames, tmp_path_factory):
    return pack(frames, tmp_path_factory.mktemp("data") / "packed")


@pytest.fixture(scope="module")
def potential():
    return jaxmlip.build("snap", species=("Mo",), cutoff=4.0, twojmax=2)


def same(one, other):
    """Whether two values are the same, types and bits included."""
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, (np.ndarray, np.generic)):
        return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    return type(one) is type(other) and (one == other or one != one)


def same_structure(one, other):
    pairs = [(x.arrays, x.cell.array, x.pbc, x.get_celldisp(), x.info) for x in (one, other)]
    results = [getattr(x.calc, "results", None) for x in (one, other)]
    constraints = [[c.todict() for c in x.constraints] for x in (one, other)]
    return same(*pairs) and same(*results) and same(*constraints)


def rich():
    """A structure with all that readers give."""
    atoms = Atoms("LiO", [[0, 0, 0], [0.1, np.nextafter(2, 3), -0.0]], cell=[3, 4, 5.5], pbc=[True, False, True])
    atoms.info = {"id": 7, "text": "Å", "none": None, "yes": True, "nested": {"a": [1, (2.5, "b")]}, 3: 2**70}
    atoms.info |= {"number": np.float32(0.1), "truth": np.bool_(False), "nan": float("nan"), "complex": 1 - 2j}
    atoms.info |= {
        "table": np.arange(6, dtype=">i2").reshape(2, 3),
        "weight": 2.0,
        "empty": np.zeros((0, 3)),
        "blank": np.str_(""),
    }
    atoms.arrays |= {"names": np.array(["a", "bc"]), "flags": np.array([True, False]), "tags": np.array([1, 2])}
    atoms.set_constraint([FixAtoms([1]), FixCartesian(0, [True, False, True])])
    atoms.calc = SinglePointCalculator(atoms)
    atoms.calc.results = {"energy": -1.25, "forces": np.full((2, 3), np.nan), "stress": np.arange(6.0)}
    return atoms


def test_structures_survive_bit_for_bit(tmp_path):
    frames = [rich(), Atoms("H"), *jaxmlip.datasets.load("ldr")[:3]]
    data = pack(iter(frames), tmp_path / "packed")
    assert all(map(same_structure, data, frames))
    assert all(map(same_structure, read(data.path), frames))
    assert all(map(same_structure, iread(data.path), frames))
    assert data.sizes.tolist() == [len(frame) for frame in frames]
    assert same_structure(data[-1], frames[-1])
    assert [len(frame) for frame in data[1:3]] == [1, len(frames[2])]
    assert {frame.symbols[0] for frame in read(data.path, index="0:2")} == {"Li", "H"}
    assert set(data.species) == {int(z) for frame in frames for z in frame.numbers}


def test_files_are_full_after_some_records(frames, tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "_SHARD_BYTES", 10_000)
    data = pack(frames, tmp_path / "packed")
    assert len(list(data.path.glob("structures-*.bin"))) > 2
    assert all(map(same_structure, data, frames))


@pytest.mark.parametrize("thing", [object(), np.array([object()]), {"a": {1, 2}}, np.ma.array([1, 2], mask=[0, 1])])
def test_what_has_no_form_is_refused(thing, tmp_path):
    with pytest.raises(ValueError, match=r"structure 1 cannot be packed: H: info\['x'\] of type"):
        pack([Atoms("H"), Atoms("H", info={"x": thing})], tmp_path / "packed")
    assert not list(tmp_path.iterdir())


def test_bytes_of_others_run_nothing():
    """Cut, altered and made-up records are errors, whatever they hold."""
    record = encoded(rich())
    rng = np.random.default_rng(0)
    for wrong in (record[:-5], b"", b"\x80\x04N.", record.replace(b"FixAtoms", b"np.array")):
        with pytest.raises(ValueError, match="not a structure"):
            decoded(wrong)
    for _ in range(200):
        altered = bytearray(record)
        altered[rng.integers(len(record))] = rng.integers(256)
        with suppress(ValueError):  # no other exception
            assert isinstance(decoded(bytes(altered)), Atoms)


def test_deep_records_do_not_overflow_the_stack():
    record, deep = msgpack.packb([1]), ()
    for _ in range(3000):
        record = msgpack.packb([msgpack.ExtType(3, record)])
    with pytest.raises(ValueError, match="more than 64 tags"):
        decoded(record)
    for _ in range(100):
        deep = (deep,)
    with pytest.raises(ValueError, match="cannot be packed"):
        encoded(Atoms("H", info={"x": deep}))


def test_parts_are_chosen_by_positions_or_a_mask(tmp_path):
    data = pack([Atoms("H"), Atoms("H2"), Atoms("H")], tmp_path / "packed")
    assert data.select(data.sizes == 1).records.tolist() == [0, 2]
    assert data.select([2, -3]).records.tolist() == [2, 0]
    assert len(data.select([])) == 0
    for wrong, error in (([0.5], TypeError), ([3], IndexError), ([True], IndexError)):
        with pytest.raises(error):
            data.select(wrong)
    for wrong in ([0, 1], data.sizes == 1, 1.0):
        with pytest.raises(TypeError, match=r"data\.select"):
            data[wrong]
    assert len(pack(Atoms("H3"), tmp_path / "one")[0]) == 3
    with pytest.raises(TypeError, match="got list"):
        pack([[Atoms("H")]], tmp_path / "lists")


def test_a_part_of_a_set_that_was_replaced_is_refused(tmp_path):
    """A process that gets a part by its path must not read the same numbers of another set."""
    data = pack([Atoms("H"), Atoms("He")], tmp_path / "packed")
    part = pickle.dumps(data[1:])
    assert pickle.loads(pickle.dumps(data[::-1])).records.tolist() == [1, 0]
    assert len(pickle.dumps(data)) < len(pickle.dumps(data[::-1]))
    assert pickle.loads(part)[0].symbols[0] == "He"
    shutil.rmtree(data.path)
    pack([Atoms("Li"), Atoms("Be")], data.path)
    with pytest.raises(ValueError, match="written again"):
        pickle.loads(part)
    with pytest.raises(CorruptRecordError):
        data[1]


@pytest.mark.filterwarnings("ignore:.*corrupt records")
@pytest.mark.parametrize(("name", "value"), [("offset", 2**64 - 1), ("size", 2**32 - 1), ("shard", 7), ("n_atoms", 9)])
def test_tables_of_others_read_nothing_else(name, value, tmp_path):
    """A made-up table whose checksum is right."""
    data = pack([Atoms("H"), Atoms("He")], tmp_path / "packed")
    rows = np.fromfile(data.path / "table.bin", ROW)
    rows[name][0] = value
    rows.tofile(data.path / "table.bin")
    index = data.path / "packed.index"
    index.write_text(
        index.read_text().replace(data.fingerprint.split("-")[0], hashlib.sha256(rows.tobytes()).hexdigest())
    )
    with pytest.raises(CorruptRecordError, match="record 0"):
        PackedData(data.path)[0]
    assert PackedData(data.path, skip_corrupt=True).records.tolist() == [1]


def test_a_set_without_its_index_is_named(tmp_path):
    data = pack([Atoms("H")], tmp_path / "packed")
    index = data.path / "packed.index"
    for text, match in (('{"format": 2}', "format 2"), ('{"format": 1, "n_structures": Infinity}', "is damaged")):
        index.write_text(text)
        with pytest.raises(ValueError, match=match):
            PackedData(data.path)
    index.unlink()
    for function in (PackedData, read):
        with pytest.raises(ValueError, match=r"has no packed\.index; copy the set again"):
            function(data.path)


def test_a_killed_writer_leaves_no_data_set(tmp_path):
    code = """
import sys, os, signal, ase
from jaxmlip.data import pack
def frames():
    yield ase.Atoms("H")
    os.kill(os.getpid(), signal.SIGKILL)
pack(frames(), sys.argv[1])
"""
    found = subprocess.run([sys.executable, "-c", code, str(tmp_path / "packed")], check=False)
    assert found.returncode == -signal.SIGKILL
    assert [path.suffix for path in tmp_path.iterdir()] == [".unfinished"]
    with pytest.raises(ZeroDivisionError):
        pack((Atoms("H", info={"x": 1 / k}) for k in (1, 0)), tmp_path / "other")
    assert len(list(tmp_path.iterdir())) == 1
    pack([Atoms("H")], tmp_path / "packed")
    with pytest.raises(FileExistsError, match="exists already"):
        pack([Atoms("H")], tmp_path / "packed")


@pytest.mark.filterwarnings("default")
def test_a_corrupt_record_is_named_and_skipped_on_request(frames, tmp_path, capsys):
    data = pack(frames[:4], tmp_path / "packed")
    file = data.path / "structures-00000.bin"
    content = bytearray(file.read_bytes())
    content[len(content) // 4 + 100] ^= 1
    file.write_bytes(content)
    assert len(data[0]) == 54
    with pytest.raises(CorruptRecordError, match=r"record 1 of .* is corrupt: its checksum is wrong"):
        list(data)
    with pytest.warns(DataWarning, match="1 corrupt records are left out: 1"):
        rest = PackedData(data.path, skip_corrupt=True)
    assert all(map(same_structure, rest, [frames[k] for k in (0, 2, 3)]))
    assert main(["data", "pack", str(data.path), str(tmp_path / "again")]) == 2
    assert "record 1" in capsys.readouterr().err
    assert main(["data", "pack", str(data.path), str(tmp_path / "again"), "--skip-corrupt"]) == 0
    assert len(PackedData(tmp_path / "again")) == 3


@pytest.mark.parametrize("name", ["packed.index", "table.bin", "structures-00000.bin"])
def test_damaged_files_are_named(name, tmp_path):
    data = pack([Atoms("H")] * 3, tmp_path / "packed")
    file = data.path / name
    file.write_bytes(file.read_bytes()[:-8])
    os.utime(data.path / "packed.index", ns=(1, 1))  # what is open in this process is not looked at again
    with pytest.raises(ValueError, match=name.replace(".", r"\.")):
        PackedData(data.path)
    with pytest.raises(ValueError, match="no packed data set"):
        PackedData(tmp_path)
    with pytest.raises(FileNotFoundError):
        PackedData(tmp_path / "nowhere")


def test_rows_are_the_graphs_of_their_structures(frames, data, potential):
    layout = Layout(data, potential.config, 56, 8, "float64")
    with makers(0) as pool:
        (bucket,) = ahead(pool, stacked_rows, [Rows(layout, np.array([4, -1, 2]), None)], depth=1)
    graph = batch(frames[4], potential.config)
    assert bucket.graphs.mask.sum(axis=(1, 2)).tolist()[:2] == [int(graph.mask.sum()), 0]
    assert bucket.labels.has_energy.ravel().tolist() == [True, False, True]
    wide = widened(bucket, 96).graphs
    slots = np.flatnonzero(wide.mask[0])
    back = wide.reverse[0].ravel()[slots]
    assert (wide.reverse[0].ravel()[back] == slots).all()
    assert (wide.neighbors[0].ravel()[back] == slots // 96).all()


@pytest.mark.parametrize(
    "settings",
    [
        LinearFit(**WEIGHTS, ridge=1e-3, group_weights={"b": 2.0}),
        LinearFit(**WEIGHTS, ridge="folds", group_key="config_type"),
        GRADIENT,
    ],
    ids=lambda settings: type(settings).__name__,
)
def test_a_fit_of_packed_data_is_that_of_data_in_memory(potential, frames, data, settings):
    """float64: the same batches in the same order, 1e-10 for sums in another order."""
    expected, before = jaxmlip.fit(potential, frames, settings=settings)
    found, after = jaxmlip.fit(potential, data, settings=settings)
    for name in expected.params:
        np.testing.assert_allclose(found.params[name], expected.params[name], rtol=1e-10, atol=1e-12)
    for row, other in zip(after.rows, before.rows, strict=True):
        numbers = [{k: v for k, v in one.items() if "seconds" not in k} for one in (row, other)]
        assert numbers[0] == pytest.approx(numbers[1], rel=1e-9)


def test_a_linear_fit_in_pieces_is_the_same(potential, data, monkeypatch):
    settings = LinearFit(**WEIGHTS, ridge=1e-3)
    whole, _ = jaxmlip.fit(potential, data, settings=settings)
    monkeypatch.setattr("jaxmlip.fitting.least_squares.linear._PIECE_ATOMS", 150)
    pieces, _ = jaxmlip.fit(potential, data, settings=settings)
    np.testing.assert_allclose(pieces.params["coefficients"], whole.params["coefficients"], rtol=1e-9)


def test_a_survey_finds_what_functions_of_lists_find(frames, data, tmp_path):
    settings = LinearFit(**WEIGHTS, group_weights={"b": 2.0, "a.forces": 0.5})
    mixed = [frame.copy() for frame in frames]
    for k, (frame, old) in enumerate(zip(mixed, frames, strict=True)):
        frame.symbols[: k + 1] = "W"
        attach(frame, labels(old))
    with makers(0) as pool:
        found = survey(pack(mixed, tmp_path / "mixed"), (42, 74), settings, pool)
        with pytest.raises(ValueError, match="config_type"):
            survey(data, (42,), dataclasses.replace(settings, group_weights={"c": 1.0}), pool)
        with pytest.raises(ValueError, match="no parameters for it"):
            survey(data, (74,), settings, pool)
    np.testing.assert_array_equal(found.factors, structure_factors(mixed, settings))
    np.testing.assert_allclose(found.scales.offsets, fit_offsets(mixed, (42, 74)), rtol=1e-9)
    assert found.scales.forces == pytest.approx(force_scale(mixed), rel=1e-12)


def test_what_did_not_converge_and_isolated_atoms_are_left_out(frames, tmp_path):
    atom = Atoms("Mo", info={"config_type": "isolated_atom"})
    attach(atom, Labels(-4.0, None, None))
    bad = frames[0].copy()
    bad.info["converged"] = False
    data = pack([frames[0], atom, bad, frames[1]], tmp_path / "packed")
    settings = LinearFit(**WEIGHTS, offsets="isolated")
    with pytest.warns(DataWarning, match="1 of 4 structures are of calculations whose"):
        kept, chosen = with_isolated(converged(data, settings), settings)
    assert kept.records.tolist() == [0, 3]
    assert chosen.offsets == {"Mo": -4.0}


def test_other_methods_read_everything(frames, data):
    assert all(map(same_structure, frames_of(data), frames))


def test_a_model_is_a_start(potential, frames, data):
    """With validation structures in memory."""
    start, _ = jaxmlip.fit(potential, frames, settings=LinearFit(**WEIGHTS, ridge=1e-3))
    settings = dataclasses.replace(GRADIENT, epochs=1)
    found = [jaxmlip.fit(start, x, settings=settings, validation=frames[:3]) for x in (frames, data)]
    numbers = [model.params["coefficients"] for model, _ in found]
    np.testing.assert_allclose(numbers[1], numbers[0], rtol=1e-8)
    losses = [history.rows[0]["validation_loss"] for _, history in found]
    assert losses[1] == pytest.approx(losses[0], rel=1e-8)


@pytest.mark.parametrize("stop", [1, 4, 6])
def test_a_run_ends_at_any_step_and_goes_on_with_the_same_numbers(potential, data, stop, tmp_path, monkeypatch):
    """Five steps an epoch: SIGTERM inside the first, at the end of it, inside the second."""
    whole, history = jaxmlip.fit(potential, data, settings=GRADIENT, folder=tmp_path / "whole")
    steps = 0

    def step_of(*args):
        nonlocal steps
        steps += 1
        if steps == stop:
            os.kill(os.getpid(), signal.SIGTERM)
        return STEP(*args)

    STEP = streamed.step_of
    monkeypatch.setattr(streamed, "step_of", step_of)
    with pytest.raises(Terminated, match="stopped after step"):
        jaxmlip.fit(potential, data, settings=GRADIENT, folder=tmp_path / "killed")
    assert steps == stop
    other = dataclasses.replace(GRADIENT, checkpoint_steps=7)  # how often it is saved does not count
    resumed, after = jaxmlip.fit(potential, data, settings=other, folder=tmp_path / "killed")
    for name in whole.params:
        np.testing.assert_array_equal(whole.params[name], resumed.params[name])
    without_time = [[{k: v for k, v in row.items() if "seconds" not in k} for row in h.rows] for h in (history, after)]
    assert without_time[0] == without_time[1]


def test_data_of_another_order_is_another_run(potential, data, tmp_path):
    settings = dataclasses.replace(GRADIENT, epochs=1)
    jaxmlip.fit(potential, data, settings=settings, folder=tmp_path)
    with pytest.raises(ValueError, match="belongs to a run with other data"):
        jaxmlip.fit(potential, data[1:], settings=settings, folder=tmp_path)


def test_data_that_cannot_be_fitted_are_named(frames, potential, tmp_path):
    frames = [frame.copy() for frame in frames[:3]]
    attach(frames[1], Labels(np.nan, None, None))
    with pytest.raises(ValueError, match=r"structure 1 .* energy that are not finite"):
        jaxmlip.fit(potential, pack(frames, tmp_path / "nan"), settings=GRADIENT)
    attach(frames[1], Labels(None, None, None))
    with pytest.raises(ValueError, match="nothing to fit"):
        jaxmlip.fit(potential, pack(frames, tmp_path / "none"), settings=GRADIENT)


def test_commands(frames, data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("jaxmlip.commands.fit._N_SHOWN", 3)
    words = ["--potential.twojmax", "2", "--potential.cutoff", "4", "--out", str(tmp_path / "fit")]
    assert main(["fit", "snap", str(data.path), *words]) == 0
    assert "errors of train: of 3 out of 9 structures" in capsys.readouterr().out
    assert main(["fit", "snap", str(data.path), "--energy-key", "x", *words]) == 2
    assert main(["data", "pack", "mo:test", str(tmp_path / "mo")]) == 0
    assert len(PackedData(tmp_path / "mo")) == len(jaxmlip.datasets.load("mo", split="test"))
    assert main(["data", "pack", "mo:test", str(tmp_path / "mo")]) == 2
    assert "exists already: give another name" in capsys.readouterr().err
    assert main(["data", "unpack"]) == 2
    assert "expected `jaxmlip data pack FILES FOLDER`, got 'unpack'" in capsys.readouterr().err
