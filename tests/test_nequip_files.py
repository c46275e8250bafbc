"""nequip's files: read, written, and refused with a message that says why."""

import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import yaml

import jaxmlip
from jaxmlip.cli import main
from jaxmlip.potentials.nequip import NequIPConfig, nequip

REFERENCE = Path(__file__).parent / "reference" / "nequip"


def same(first, second):
    assert first.potential is second.potential
    for a, b in zip(*(jax.tree.leaves(model.params) for model in (first, second)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture
def files(tmp_path):
    for name in ("tiny.yaml", "tiny_state_dict.npz"):
        shutil.copy(REFERENCE / name, tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["tiny", "tiny_zbl", "tiny_4layers"])
def test_written_files_have_the_original_weights(name, tmp_path):
    model = jaxmlip.load(REFERENCE / f"{name}.yaml")
    jaxmlip.save(model, tmp_path / "again.yaml")
    same(jaxmlip.load(tmp_path / "again.yaml"), model)
    with np.load(REFERENCE / f"{name}_state_dict.npz") as old, np.load(tmp_path / "again_state_dict.npz") as new:
        for key in new.files:
            np.testing.assert_array_equal(new[key], old[key])
        constants = (
            "_empty",
            "_rmax_recip",
            "mul.weight",
            "output_mask",
            "bias",
            "tp.weight",
            "_w3j",
            "pair_potential",
        )
        left_out = set(old.files) - set(new.files)
        assert all(any(word in key for word in constants) for key in left_out)


def test_every_option_round_trips(tmp_path):
    config = NequIPConfig(
        species=("O", "Ni"), cutoff=4.5, num_layers=3, l_max=2, parity=False, num_features=(4, 3, 2), zbl=True,
        type_embed_num_features=5, radial_mlp_depth=1, radial_mlp_width=6, num_bessels=5, bessel_trainable=True,
        polynomial_cutoff_p=5, readout_mlp_hidden_layers_depth=1, readout_mlp_hidden_layers_width=7,
    )  # fmt: skip
    potential = nequip(config)
    params = jax.tree.map(np.asarray, potential.init(jax.random.key(0), None))
    params["average_neighbors"] = np.array([11.0, 13.5])
    model = jaxmlip.Model(potential, params)
    jaxmlip.save(model, tmp_path / "x.yaml")
    same(jaxmlip.load(tmp_path / "x.yaml"), model)
    jaxmlip.save(model, tmp_path / "x.npz")
    same(jaxmlip.load(tmp_path / "x.npz"), model)


def test_convert(files):
    assert main(["convert", str(files / "tiny.yaml"), str(files / "ours.npz")]) == 0
    assert main(["convert", str(files / "ours.npz"), str(files / "back.yaml")]) == 0
    same(jaxmlip.load(files / "back.yaml"), jaxmlip.load(files / "tiny.yaml"))


def test_elements_in_another_order(files):
    whole, turned = jaxmlip.load(files / "tiny.yaml"), jaxmlip.load(files / "tiny.yaml", species=["O", "Li"])
    assert turned.potential.config.symbols == ("O", "Li")
    np.testing.assert_array_equal(turned.params["embedding"], whole.params["embedding"][::-1])
    with pytest.raises(ValueError, match="unknown element 'Ni'"):
        jaxmlip.load(files / "tiny.yaml", species=["Ni"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"convnet_resnet": True}, "unknown setting 'convnet_resnet'"),
        ({"per_edge_type_cutoff": {"Li": 3.0}}, "unknown setting 'per_edge_type_cutoff'"),
        ({"readout_mlp_nonlinearity": "gelu"}, "unknown setting 'readout_mlp_nonlinearity'"),
        ({"num_features": 16}, "the settings need"),
        ({"num_layers": 3}, "has no layer2_convnet|the settings need"),
        ({"num_layers": "four"}, "expected int, got 'four'"),
        ({"avg_num_neighbors": None}, "avg_num_neighbors is missing"),
        ({"avg_num_neighbors": {"Li": 3.0}}, "one number for each of Li, O"),
        ({"type_names": ["Aa", "Bb"]}, "symbols of elements, got Aa, Bb"),
        ({"polynomial_cutoff_p": 4.5}, "whole number"),
        (
            {"pair_potential": {"_target_": "nequip.nn.pair_potential.LennardJones"}},
            "must be nequip.nn.pair_potential.ZBL",
        ),
    ],
)
def test_settings_that_are_not_ours(changes, message, files):
    content = yaml.safe_load((files / "tiny.yaml").read_text())
    content["config"] |= changes
    (files / "tiny.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=message):
        jaxmlip.load(files / "tiny.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not valid YAML"),
        ("a: 1", "has no `config`"),
        ("builder: x.Allegro\nconfig: {a: 1}", "the builder must"),
    ],
)
def test_damaged_settings(text, message, files):
    (files / "tiny.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        jaxmlip.load(files / "tiny.yaml")


def test_missing_and_damaged_weights(files):
    np.savez(files / "tiny_state_dict.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match="not the state dict of a nequip model"):
        jaxmlip.load(files / "tiny.yaml")
    (files / "tiny_state_dict.npz").write_text("no archive")
    with pytest.raises(ValueError, match=r"tiny_state_dict\.npz"):
        jaxmlip.load(files / "tiny.yaml")
    (files / "tiny_state_dict.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"tiny_state_dict\.npz is missing"):
        jaxmlip.load(files / "tiny.yaml")


def test_other_potentials_cannot_be_written(tmp_path):
    snap = jaxmlip.build("snap", species=("Mo",), cutoff=4.0, twojmax=2)
    with pytest.raises(ValueError, match=r"only NequIP and ACE models can be written as \.yaml, this is SNAPConfig"):
        jaxmlip.save(jaxmlip.Model(snap, snap.init(None, None)), tmp_path / "x.yaml")
