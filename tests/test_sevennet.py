"""SevenNet against numbers of sevenn 0.13 (float64 from float32 weights)."""

from pathlib import Path

import ase
import jax
import numpy as np
import pytest

import jaxmlip
from jaxmlip.config import ConfigError
from jaxmlip.formats.torch_zip import read_checkpoint
from jaxmlip.potentials.sevennet import SevenNetConfig, sevennet

REFERENCE = Path(__file__).parent / "reference" / "sevennet"
VOIGT = ([0, 1, 2, 0, 1, 0], [0, 1, 2, 1, 2, 2])  # sevenn's order: xx yy zz xy yz zx


def structures(name, chosen=None):
    """Structures with the reference's numbers for each."""
    with np.load(REFERENCE / f"{name}_outputs.npz") as z:
        content = {key: z[key] for key in z.files}
    keys = sorted({key.split("_")[0] for key in content}) if chosen is None else chosen
    frames = [
        ase.Atoms(
            content[f"{k}_numbers"], content[f"{k}_positions"], cell=content[f"{k}_cell"], pbc=content[f"{k}_pbc"]
        )
        for k in keys
    ]
    wanted = ("energy", "forces", "stress", "atomic_energies")
    return frames, {what: [content[f"{k}_{what}"] for k in keys] for what in wanted}


def compare(model, name, chosen=None):
    """1e-9 eV/atom, 1e-8 eV/Å, 1e-9 eV/Å³: the original's 3j tensors are rounded to float32."""
    frames, expected = structures(name, chosen)
    found = jaxmlip.predict(model, jaxmlip.batch(frames, model.potential.config))
    sizes = np.array([len(frame) for frame in frames], float)
    energy = np.asarray(found.energy) / sizes
    np.testing.assert_allclose(energy, np.ravel(expected["energy"]) / sizes, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.forces, np.concatenate(expected["forces"]), rtol=0, atol=1e-8)
    np.testing.assert_allclose(found.stress[:, *VOIGT], -np.stack(expected["stress"]), rtol=0, atol=1e-9)
    atomic = np.concatenate([np.ravel(x) for x in expected["atomic_energies"]])
    np.testing.assert_allclose(found.atomic_energies, atomic, rtol=0, atol=2e-9)


@pytest.mark.parametrize("name", ["tiny_linear", "tiny_nequip"])
def test_tiny_models(name):
    compare(jaxmlip.load(REFERENCE / f"{name}.pth"), name)


def test_the_universal_potential():
    """SevenNet-0 out of sevenn's wheel, cut down to the elements of the structures, which see path order and signs."""
    chosen = ["0", "3", "5"]
    elements = sorted({int(z) for frame in structures("7net-0", chosen)[0] for z in frame.numbers})
    model = jaxmlip.load("sevennet-0", species=elements)
    assert model.potential.config.species == tuple(elements)
    assert model.potential.config.fan_in == 89
    compare(model, "7net-0", chosen)


@pytest.mark.parametrize("name", ["tiny_linear", "tiny_nequip"])
def test_elements_in_another_order(name):
    compare(jaxmlip.load(REFERENCE / f"{name}.pth", species=["Ti", "O", "Mn", "Li"]), name)


def test_degree_three():
    """SevenNet-l3i5 is read; its numbers need minutes to compile and are in the notes of the reference."""
    model = jaxmlip.load("sevennet-l3i5", species=["Li"])
    assert model.potential.config.l_max == 3
    assert model.potential.config.layers[1].n_radial == 1760


def test_a_file_of_our_own(tmp_path):
    model = jaxmlip.load(REFERENCE / "tiny_nequip.pth")
    jaxmlip.save(model, tmp_path / "x.npz")
    again = jaxmlip.load(tmp_path / "x.npz")
    assert again.potential is model.potential
    jax.tree.map(np.testing.assert_array_equal, again.params, model.params)


@pytest.mark.parametrize("name", ["tiny_linear", "tiny_nequip"])
def test_a_written_checkpoint_is_that_of_sevenn(name, tmp_path):
    """Names, their order, shapes, types and bits of the state dict; elements given in another order."""
    model = jaxmlip.load(REFERENCE / f"{name}.pth", species=["Ti", "O", "Mn", "Li"])
    jaxmlip.save(model, tmp_path / "again.pth")
    old, new = (read_checkpoint(p)["model_state_dict"] for p in (REFERENCE / f"{name}.pth", tmp_path / "again.pth"))
    assert list(new) == list(old)
    for key, value in old.items():
        assert new[key].dtype == value.dtype
        np.testing.assert_array_equal(
            new[key], np.broadcast_to(value, new[key].shape), err_msg=key
        )  # one shift for all
        assert new[key].shape == value.shape or key.startswith("rescale")
    first, second = (jaxmlip.load(p) for p in (REFERENCE / f"{name}.pth", tmp_path / "again.pth"))
    assert second.potential is first.potential
    jax.tree.map(np.testing.assert_array_equal, second.params, first.params)


def test_a_written_model_of_fewer_elements(tmp_path):
    """sevenn divides by √4 for the file's four elements, by √2 for two: weights are scaled, to rounding of float32."""
    model = jaxmlip.load(REFERENCE / "tiny_nequip.pth", species=["O", "Li"])
    jaxmlip.save(model, tmp_path / "two.pth")
    again = jaxmlip.load(tmp_path / "two.pth")
    assert again.potential.config.symbols == ("Li", "O")
    scaled = again.params["embedding"]["weight"][::-1] * 2**0.5
    np.testing.assert_allclose(scaled, model.params["embedding"]["weight"], rtol=1e-7)


def test_initial_weights():
    """Biases are zero, everything else is drawn; Bessel functions start at whole numbers."""
    config = SevenNetConfig(species=("Li", "O"), bias=True, parity=True, irreps=("4x0e", "4x0e+2x1o", "4x0e"))
    params = sevennet(config).init(jax.random.key(1), None)
    assert not params["layers"]["0"]["linear_1"]["bias"].any()
    assert params["layers"]["0"]["linear_2"]["bias"].shape == (6,)
    np.testing.assert_allclose(params["frequencies"], np.arange(1, 9) * np.pi / 5, rtol=1e-15)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"irreps": ("8x0e",)}, "at least two entries"),
        ({"irreps": ("8x0e", "8x0e+4x1e", "8x0e")}, "no coupling gives 4x1e"),
        ({"irreps": ("8x0e", "4x1e+4x1e", "8x0e")}, "may be named once"),
        ({"irreps": ("8x0e", "eight", "8x0e")}, "must look like"),
        ({"self_connection": ("linear", "nequip")}, "self_connection needs one entry or 3"),
        ({"cutoff_on": 6.0}, "within the cutoff"),
        ({"l_max": 7}, "l_max: expected"),
        ({"radial_hidden": (0,)}, r"radial_hidden\[0\]: expected"),
    ],
)
def test_settings_that_mean_nothing(settings, message):
    with pytest.raises(ConfigError, match=message):
        SevenNetConfig(species=("Li",), **settings)
