"""QUIP's gap.xml: what is read, what is written, what is refused.

That quippy predicts the same from a file written here was checked when the format was made (quippy-ase 0.10.3: 1e-12
eV/atom, 1e-11 eV/Å; `scripts/benchmark.py` compares the two again where quippy is installed).
"""

import lzma
import re
import shutil

import ase
import jax
import numpy as np
import pytest
from gap_reference import MODELS, REFERENCE

import jaxmlip
from jaxmlip.formats.gap import read_gap
from jaxmlip.potentials.gap import GAPConfig, gap
from jaxmlip.potentials.predictions import predict_atoms
from jaxmlip.potentials.sums import add_models


@pytest.fixture
def folder(tmp_path):
    """A copy of the multi-element model that a test may damage."""
    shutil.copytree(REFERENCE / "li_ni_ti_o", tmp_path / "model")
    return tmp_path / "model"


def changed(folder, old: str, new: str):
    text = (folder / "gap.xml").read_text()
    assert old in text
    (folder / "gap.xml").write_text(text.replace(old, new))
    return folder / "gap.xml"


@pytest.mark.parametrize("name", MODELS)
def test_written_and_read_again_the_model_is_the_same(name, tmp_path):
    """To the bit: all digits are written."""
    model = jaxmlip.load(REFERENCE / name / "gap.xml")
    jaxmlip.save(model, tmp_path / "copy.xml")
    again = jaxmlip.load(tmp_path / "copy.xml")
    assert again.potential.config == model.potential.config
    jax.tree.map(np.testing.assert_array_equal, again.params, model.params)
    jaxmlip.save(model, tmp_path / "copy.npz")
    jax.tree.map(np.testing.assert_array_equal, jaxmlip.load(tmp_path / "copy.npz").params, model.params)


def test_every_setting_survives(tmp_path):
    settings = {
        "cutoff": 5.5, "n_max": 3, "l_max": 2, "sigma_atom": 0.4, "zeta": 2.5, "delta": 0.3, "nu_R": 1, "nu_S": 0,
        "cutoff_transition_width": 0.7, "soap_cutoff": 4.5, "central_weight": 0.5, "basis_error_exponent": 8.0,
        "covariance_sigma0": 0.1, "normalise": False, "central_reference_all_species": True,
        "distance_2b_cutoff": 5.5, "distance_2b_delta": 2.0, "distance_2b_theta": 0.8,
        "distance_2b_transition_width": 1.0,
    }  # fmt: skip
    potential = gap(GAPConfig(species=("O", "Li"), **settings))
    params = jax.tree.map(np.asarray, potential.init(jax.random.key(0), None))
    rng = np.random.default_rng(0)
    params["alpha"] = jax.tree.map(lambda x: rng.normal(size=x.shape), params["alpha"])
    params["offsets"] = np.array([-1.5, 0.25])
    jaxmlip.save(jaxmlip.Model(potential, params), tmp_path / "model.xml")
    again = jaxmlip.load(tmp_path / "model.xml")
    assert again.potential.config == potential.config
    jax.tree.map(np.testing.assert_array_equal, again.params, params)


def test_species_without_points_stay_without(tmp_path):
    potential = gap(GAPConfig(species=("O", "Li"), n_max=2, l_max=1))
    params = jax.tree.map(np.array, potential.init(jax.random.key(0), None))
    params["points"]["soap"][1] = 0
    params["points"]["soap"][0, 5:] = 0
    jaxmlip.save(jaxmlip.Model(potential, params), tmp_path / "model.xml")
    points = jaxmlip.load(tmp_path / "model.xml").params["points"]["soap"]
    assert points.shape == (2, 5, potential.config.soap.n_features)
    np.testing.assert_array_equal(points[0], params["points"]["soap"][0, :5])
    assert not points[1].any()


def test_points_inside_the_xml(folder):
    """`sparse_separate_file=F`: the points stand in slices of fifty numbers."""
    model = jaxmlip.load(folder / "gap.xml")
    text = (folder / "gap.xml").read_text()
    for file in folder.glob("*.xz"):
        numbers = lzma.decompress(file.read_bytes()).decode().split()
        points = [numbers[k : k + 313] for k in range(0, len(numbers), 313)]
        name = file.name.removesuffix(".xz")
        head, rest = text.split(f' sparseX_filename="{name}"')
        _, rest = rest.split(">", 1)
        body, tail = rest.split("</gpCoordinates>", 1)
        for i, point in enumerate(points, 1):
            slices = "".join(
                f'<sparseX_slice start="{k + 1}" end="{min(k + 50, 313)}">{" ".join(point[k : k + 50])}</sparseX_slice>'
                for k in range(0, 313, 50)
            )
            start = body.index(f'<sparseX i="{i}" ')
            end = body.index("/>", start)
            body = f"{body[:end]}>{slices}</sparseX>{body[end + 2 :]}"
        text = f"{head}>{body}</gpCoordinates>{tail}"
        file.unlink()
    (folder / "gap.xml").write_text(text)
    jax.tree.map(np.testing.assert_array_equal, jaxmlip.load(folder / "gap.xml").params, model.params)


def test_different_delta_of_elements_is_folded_into_alpha(folder):
    """Prediction depends on α δ² alone."""
    model = jaxmlip.load(folder / "gap.xml")
    text = (folder / "gap.xml").read_text()
    first, second = (f'label="GAP_2026_11_23_0_0_1_52_787{k}" dimensions="313" signal_variance="1.0' for k in (1, 2))
    assert first in text
    (folder / "gap.xml").write_text(text.replace(second, second.replace('"1.0', '"3.0')))
    again = jaxmlip.load(folder / "gap.xml")
    ratio = np.asarray(again.params["alpha"]["soap"]) / model.params["alpha"]["soap"]
    np.testing.assert_allclose(ratio, np.array([1, 9, 1, 1])[:, None] * np.ones((1, 8)), rtol=1e-14)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('do_core="F"', 'do_core="T"', "do_core"),
        ('covariance_type="2"', 'covariance_type="1"', "covariance_type 1"),
        ("<descriptor>soap", "<descriptor>angle_3b", "descriptor 'angle_3b' is not supported.*without it.*quippy"),
        ("n_max=3", "n_max=3 radial_basis=GTO", "radial_basis=GTO"),
        ("n_max=3", "n_max=3 surprise=1", "unknown key of soap 'surprise'"),
        ("Z=22 species_Z", "Z=0 species_Z", "any element"),
        ("l_max=3 n_max=3 atom_sigma=0.5 zeta=4 cutoff=5.0", "l_max=3 n_max=3 cutoff=5.0", "atom_sigma"),
        ('gap_version="1769700636"', 'gap_version="1000"', "another normalisation"),
        ('sparseCutoff="1.0', 'sparseCutoff="0.5', "sparseCutoff"),
        ("IP GAP label", "IP GAP E_scale=2.0 label", "E_scale"),
        ("</gpSparse>", "", "not a complete XML file"),
        ("sparseX_md5sum=", 'sparseX_md5sum="0" old=', "checksum"),
    ],
)  # fmt: skip
def test_what_cannot_be_represented_is_refused(folder, old, new, message):
    with pytest.raises(ValueError, match=message):
        jaxmlip.load(changed(folder, old, new))


SECOND = (
    "soap l_max=3 n_max=3 atom_sigma=0.5 zeta=4 cutoff=5.0 cutoff_transition_width=0.5 delta=1.0 "
    "covariance_type=dot_product n_sparse=8 sparse_method=cur_points               n_species=4 Z=22"
)


def test_several_soaps_are_a_sum(folder):
    """The SOAP of titanium gets another width: its terms become the second GAP of a sum, the energies add up."""
    whole = jaxmlip.load(folder / "gap.xml")
    model = jaxmlip.load(changed(folder, SECOND, SECOND.replace("sigma=0.5", "sigma=0.4")))
    alpha = np.asarray(whole.params["alpha"]["soap"])
    titanium = whole.potential.config.symbols.index("Ti")
    first, second = (np.asarray(model.params[part]["alpha"]["soap"]) for part in ("first", "second"))
    np.testing.assert_array_equal(second[titanium, : alpha.shape[1]], alpha[titanium])
    np.testing.assert_array_equal(np.delete(first, titanium, 0), np.delete(alpha, titanium, 0))
    assert not first[titanium].any()
    assert not np.delete(second, titanium, 0).any()
    np.testing.assert_array_equal(model.params["offsets"], whole.params["offsets"])
    jaxmlip.save(model, folder / "written.xml")
    again = jaxmlip.load(folder / "written.xml")
    assert again.potential.config == model.potential.config
    np.testing.assert_array_equal(again.params["offsets"], model.params["offsets"])
    for part in ("first", "second"):  # rows without points are not written; alpha of those that are, bit for bit
        for written, kept in zip(again.params[part]["alpha"]["soap"], model.params[part]["alpha"]["soap"], strict=True):
            np.testing.assert_array_equal(written[written != 0], np.asarray(kept)[np.asarray(kept) != 0])
    frame = ase.Atoms("LiNiTiO", np.eye(4, 3) * [1.9, 2.0, 2.1], cell=[4, 4, 4], pbc=True)
    np.testing.assert_array_equal(*(predict_atoms(one, [frame]).energy for one in (model, again)))


def test_a_sum_with_another_family_is_not_written(tmp_path):
    gap_model, snap = (
        jaxmlip.Model(potential, potential.init(jax.random.key(0), None))
        for potential in (
            gap(GAPConfig(species=("Li",), n_max=2, l_max=1)),
            jaxmlip.build("snap", species=("Li",), cutoff=4.0, twojmax=2),
        )
    )
    with pytest.raises(ValueError, match=r"sums of them.*SNAPConfig"):
        jaxmlip.save(add_models(gap_model, snap), tmp_path / "a.xml")


def test_zeta_of_old_files_stands_in_theta():
    """Layout of gap_fit before the attribute existed; numbers of quippy-ase 0.10.3, 1e-10 is their agreement."""
    model = jaxmlip.load(REFERENCE / "old_theta_zeta" / "old_theta_zeta.xml")
    (atoms,) = jaxmlip.read(REFERENCE / "old_theta_zeta" / "frame.xyz")
    expected = np.load(REFERENCE / "old_theta_zeta" / "quippy.npz")
    found = predict_atoms(model, [atoms])
    np.testing.assert_allclose(found.energy[0], expected["energy"], rtol=0, atol=1e-10)
    np.testing.assert_allclose(found.forces[0], expected["forces"], rtol=0, atol=1e-10)
    np.testing.assert_allclose(found.stress[0], expected["stress"], rtol=0, atol=1e-10)


@pytest.mark.parametrize(("e0", "species", "message"), [(True, None, None), (False, ["Si"], None),
                                                        (False, None, "any element.*species=")])  # fmt: skip
def test_a_model_of_one_element_that_is_not_named(tmp_path, e0, species, message):
    """gap_fit with add_species=F; the energy e0 or the caller tells the element."""
    source = REFERENCE / "si"
    shutil.copytree(source, tmp_path / "si")
    path = tmp_path / "si" / "gap.xml"
    text = re.sub(r" (Z|species_Z|n_species)=(\{[\d ]*\}|\d+)", "", path.read_text())
    text = re.sub(r'(<e0 Z="\d+" value=")[^"]*', r"\g<1>0.0", text)
    if e0:
        text = text.replace('<e0 Z="14" value="0.0', '<e0 Z="14" value="-0.79')
    path.write_text(text)
    if message:
        with pytest.raises(ValueError, match=message):
            jaxmlip.load(path)
        return
    model, named = jaxmlip.load(path, species=species), jaxmlip.load(source / "gap.xml")
    assert model.potential.config == named.potential.config
    np.testing.assert_array_equal(model.params["alpha"]["soap"], named.params["alpha"]["soap"])


def test_files_that_are_missing_or_of_others(folder, tmp_path):
    next(folder.glob("*.xz")).unlink()
    with pytest.raises(FileNotFoundError, match="keeps its sparse points there"):
        jaxmlip.load(folder / "gap.xml")
    with pytest.raises(FileNotFoundError):
        jaxmlip.load(folder / "other.xml")
    (folder / "other.xml").write_text("<Potential/>")
    with pytest.raises(ValueError, match="not a GAP"):
        jaxmlip.load(folder / "other.xml")
    model = jaxmlip.Model(jaxmlip.build("snap", species=("Li",), cutoff=3.0, twojmax=1), {})
    with pytest.raises(ValueError, match="only GAP"):
        jaxmlip.save(model, tmp_path / "snap.xml")
    embedded = gap(GAPConfig(species=("Li", "O"), n_channels=1, n_max=2, l_max=1))
    with pytest.raises(ValueError, match="no form in QUIP"):
        jaxmlip.save(jaxmlip.Model(embedded, embedded.init(None, None)), tmp_path / "embedded.xml")


def test_species_can_only_be_confirmed():
    path = REFERENCE / "li_ni_ti_o" / "gap.xml"
    assert read_gap(path, species=("Li", "Ti", "Ni", "O")).potential.config.symbols == ("Li", "Ti", "Ni", "O")
    with pytest.raises(ValueError, match="in this order"):
        read_gap(path, species=("O", "Li"))


def test_an_old_version_puts_the_centre_into_all_channels(folder):
    model = jaxmlip.load(changed(folder, 'gap_version="1769700636"', 'gap_version="1424000000"'))
    assert model.potential.config.soap.central_everywhere
