"""The shipped data are there, complete, and explain themselves."""

import numpy as np
import pytest

from jaxmlip import datasets
from jaxmlip.data import labels, leakage


@pytest.mark.parametrize(
    ("name", "n_frames", "n_atoms", "has_stress"),
    [
        ("ldr", 150, 4224, False),
        ("ldr-surrogate", 2898, 66953, True),
        ("mo", 217, 11276, True),
        ("si", 239, 14758, True),
        ("layered", 16, 56, True),
    ],
)
def test_content(name, n_frames, n_atoms, has_stress):
    frames = datasets.load(name)
    assert len(frames) == n_frames
    assert sum(map(len, frames)) == n_atoms
    for atoms in frames:
        energy, forces, stress = labels(atoms)
        assert energy is not None
        assert np.isfinite(energy)
        assert forces is not None
        assert np.linalg.norm(forces.sum(axis=0)) < 1e-3
        assert (stress is not None) == has_stress
        assert atoms.pbc.all()


def test_info_of_the_source_is_kept():
    first = datasets.load("ldr")[0]
    assert first.info["id"] == 93
    assert first.info["split_in_paper"] in ("train", "test")
    assert labels(first).energy == -90.77330828
    assert {atoms.info["group"] for atoms in datasets.load("si")} == {"AIMD-NVT", "Elastic", "Surface", "Vacancy"}
    layered = datasets.load("layered")
    assert {(atoms.info["kind"], atoms.info["metal"]) for atoms in layered} == {
        (kind, metal) for kind in ("LiTMO2", "TMO2") for metal in ("Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu")
    }
    assert all("not DFT" in atoms.info["labels"] for atoms in layered)


def test_surrogate_says_what_it_is():
    frames = datasets.load("ldr-surrogate")
    assert all("not DFT" in atoms.info["labels"] for atoms in frames)
    assert len({atoms.info["composition_id"] for atoms in frames}) == 110
    assert leakage(frames, datasets.load("ldr")) == []


@pytest.mark.parametrize(("name", "n_train", "n_test"), [("mo", 194, 23), ("si", 214, 25)])
def test_published_splits(name, n_train, n_test):
    assert len(datasets.load(name, split="train")) == n_train
    assert len(datasets.load(name, split="test")) == n_test


def test_stress_of_the_source():
    stress = labels(datasets.load("mo")[0]).stress
    assert stress is not None
    assert stress[0, 0] == -0.03181350254290267  # dft_stress, which is -dft_virial / volume


def test_names_teach():
    assert datasets.available() == ["ldr", "ldr-surrogate", "mo", "si", "layered"]
    for name in datasets.available():
        assert "cite:" in datasets.describe(name)
    assert all("not DFT" in datasets.describe(name) for name in ("ldr-surrogate", "layered"))
    with pytest.raises(ValueError, match="unknown data set 'layerd'; did you mean 'layered'"):
        datasets.load("layerd")
    with pytest.raises(ValueError, match="did you mean 'test'"):
        datasets.load("mo", split="tests")
    with pytest.raises(ValueError, match="'ldr' has no published split"):
        datasets.load("ldr", split="train")
    with pytest.raises(ValueError, match="unknown data set"):
        datasets.describe("x")
