"""Model files: written, read back to the bit, and refused with a message that says why."""

import json
from pathlib import Path

import numpy as np
import pytest

import jaxmlip
from jaxmlip.formats.native import write_model
from jaxmlip.formats.snap import symmetrized
from jaxmlip.potentials.sums import add_models
from jaxmlip.potentials.zbl import ZBLConfig, zbl

REFERENCE = Path(__file__).parent / "reference" / "snap"


@pytest.fixture
def model():
    return jaxmlip.load(REFERENCE / "ldr4_quadratic.snapcoeff")


def same(first, second) -> bool:
    arrays = [(first.params[k], second.params[k]) for k in ("offsets", "coefficients")]
    return first.potential is second.potential and all(np.array_equal(a, b) for a, b in arrays)


@pytest.mark.parametrize("suffix", [".npz", ".snapcoeff"])
def test_round_trip_to_the_bit(model, tmp_path, suffix):
    jaxmlip.save(model, tmp_path / f"model{suffix}")
    assert same(jaxmlip.load(tmp_path / f"model{suffix}"), model)
    assert not list(tmp_path.glob(".*")), "a temporary file was left"


@pytest.mark.parametrize("path", sorted(REFERENCE.glob("*.snapcoeff")), ids=lambda p: p.stem)
def test_every_reference_file_round_trips(path, tmp_path):
    """Symmetrised coefficients of chem cases are means of equal numbers: equal to rounding, 1e-15."""
    model = jaxmlip.load(path)
    jaxmlip.save(model, tmp_path / "m.snapcoeff")
    again = jaxmlip.load(tmp_path / "m.snapcoeff")
    assert again.potential is model.potential
    np.testing.assert_allclose(again.params["coefficients"], model.params["coefficients"], rtol=1e-14, atol=1e-15)


def test_a_sum_of_models_round_trips(model, tmp_path):
    config = ZBLConfig(species=model.potential.config.species, cutoff=2.0)
    repulsion = jaxmlip.Model(zbl(config), zbl(config).init(None, None))
    both = add_models(model, repulsion)
    jaxmlip.save(both, tmp_path / "sum.npz")
    again = jaxmlip.load(tmp_path / "sum.npz")
    assert again.potential.config == both.potential.config
    np.testing.assert_array_equal(again.params["first"]["coefficients"], both.params["first"]["coefficients"])


def test_elements_in_another_order():
    model = jaxmlip.load(REFERENCE / "ldr4_linear.snapcoeff", species=["O", "Ti"])
    whole = jaxmlip.load(REFERENCE / "ldr4_linear.snapcoeff")
    assert model.potential.config.symbols == ("O", "Ti")
    k = whole.potential.config.symbols.index("O")
    np.testing.assert_array_equal(model.params["coefficients"][0], whole.params["coefficients"][k])


def test_symmetrizing_keeps_the_energy():
    """1e-12: the same sum in another order."""
    model = jaxmlip.load(REFERENCE / "ldr4_chem_plain.snapcoeff")
    rng = np.random.default_rng(0)
    config = model.potential.config
    raw = rng.normal(size=model.params["coefficients"].shape)
    atoms = jaxmlip.datasets.load("ldr")
    atoms = next(a for a in atoms if set(a.symbols) <= set(config.symbols))
    found = [
        jaxmlip.Model(model.potential, {**model.params, "coefficients": c})(atoms).energy
        for c in (raw, symmetrized(raw, config))
    ]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-12)
    assert np.abs(symmetrized(raw, config) - raw).max() > 0.1


def test_a_newer_version_is_refused(model, tmp_path):
    path = tmp_path / "new.npz"
    write_model(model, path)
    with np.load(path) as content:
        arrays = dict(content)
    header = json.loads(str(arrays.pop("jaxmlip.json"))) | {"version": 99}
    np.savez(path, **{"jaxmlip.json": np.array(json.dumps(header))}, **arrays)
    with pytest.raises(ValueError, match="newer jaxmlip"):
        jaxmlip.load(path)
    header["potential"]["flag_of_tomorrow"] = 1
    np.savez(path, **{"jaxmlip.json": np.array(json.dumps(header))}, **arrays)
    with pytest.raises(ValueError, match="unknown setting 'flag_of_tomorrow'"):
        jaxmlip.load(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.npz", "not a zip", "not a jaxmlip model"),
        ("model.pt", "x", "suffix of a model file"),
        ("a.snapcoeff", "1 2\nMo 0.5 1.0\n1.0\n", "it ends early"),
        ("b.snapcoeff", "1 2\nMo 0.5 1.0\n1.0\nabc\n", "not a complete"),
    ],
)
def test_damaged_files(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    (tmp_path / name).with_suffix(".snapparam").write_text("rcutfac 4.6\ntwojmax 6\n")
    with pytest.raises(ValueError, match=message):
        jaxmlip.load(tmp_path / name)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("rcutfak 4.6", "did you mean 'rcutfac'"),
        ("diagonalstyle 1", "only 3 is left"),
        ("twojmax 8", "do not belong together"),
        ("switchinnerflag 1", "needs sinner and dinner"),
    ],
)
def test_snapparam_mistakes(tmp_path, line, message):
    for suffix in (".snapcoeff", ".snapparam"):
        (tmp_path / f"m{suffix}").write_text((REFERENCE / f"Mo_snap{suffix}").read_text())
    with (tmp_path / "m.snapparam").open("a") as file:
        file.write(f"\n{line}\n")
    with pytest.raises(ValueError, match=message):
        jaxmlip.load(tmp_path / "m.snapcoeff")


def test_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        jaxmlip.load(tmp_path / "model.npz")
    (tmp_path / "m.snapcoeff").write_text("1 1")
    with pytest.raises(FileNotFoundError, match=r"m\.snapparam is missing"):
        jaxmlip.load(tmp_path / "m.snapcoeff")
