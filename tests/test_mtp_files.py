"""`.mtp` files: round trips to the bit, every dialect that MLIP-2, MLIP-3 and motep write, and refusals that teach."""

import jax
import mtp_reference
import numpy as np
import pytest

import jaxmlip
from jaxmlip.formats.mtp import read_mtp
from jaxmlip.potentials.mtp import MTPConfig, mtp

SYMBOLS = mtp_reference.content("random11_level08")["symbols"].tolist()


@pytest.fixture(scope="module")
def text():
    return mtp_reference.file_text(mtp_reference.content("random11_level08"))


@pytest.fixture
def model(text, tmp_path):
    (tmp_path / "original.mtp").write_text(text)
    return jaxmlip.load(tmp_path / "original.mtp", species=SYMBOLS)


def same(first, second):
    arrays = [np.array_equal(first.params[key], second.params[key]) for key in first.params]
    return first.potential is second.potential and all(arrays)


@pytest.mark.parametrize("name", mtp_reference.NAMES)
def test_round_trip_to_the_bit(name, tmp_path):
    z = mtp_reference.content(name)
    symbols = z["symbols"].tolist()
    (tmp_path / "a.mtp").write_text(mtp_reference.file_text(z))
    model = jaxmlip.load(tmp_path / "a.mtp", species=symbols)
    np.testing.assert_array_equal(model.params["radial"], z["radial_coeffs"])
    assert model.potential.config.level == int(name[-2:])
    jaxmlip.save(model, tmp_path / "b.mtp")
    assert same(jaxmlip.load(tmp_path / "b.mtp", species=symbols), model)
    jaxmlip.save(model, tmp_path / "c.npz")
    again = jaxmlip.load(tmp_path / "c.npz")
    assert again.potential.config == model.potential.config
    np.testing.assert_array_equal(again.params["coefficients"], model.params["coefficients"])


@pytest.mark.parametrize("level", [2, 12])
def test_our_own_basis_is_recognised(level, tmp_path):
    potential = mtp(MTPConfig(species=("Li", "O"), level=level, cutoff=4.2, repulsive=True, scaling=0.02))
    rng = np.random.default_rng(0)
    params = {k: rng.normal(size=v.shape) for k, v in potential.init(jax.random.key(0), None).items()}
    jaxmlip.save(jaxmlip.Model(potential, params), tmp_path / "x.mtp")
    model = jaxmlip.load(tmp_path / "x.mtp", species=[3, 8])
    assert model.potential.config.index_lists is None
    assert same(model, jaxmlip.Model(potential, params))


DIALECTS = {
    "carriage returns": lambda t: t.replace("\n", "\r\n"),
    "tabs before all fields": lambda t: "MTP\n" + "\n".join("\t" + line for line in t.split("\n")[1:]),
    "no final newline": lambda t: t.rstrip("\n"),
    "remarks": lambda t: t.replace("species_count = 11", "species_count = 11   <<< number of components"),
    "motep 0.2.0": lambda t: (
        t.replace("\tmin_dist", "\tmin").replace("\tmax_dist", "\tmax").replace("\tradial_basis_size", "\tsize")
    ),
    "older motep": lambda t: (
        t.replace("\tmin_dist", "\tmin_val")
        .replace("\tmax_dist", "\tmax_val")
        .replace("\tradial_basis_size", "\tbasis_size")
    ),
    "count after the coefficients": lambda t: t.replace("\tradial_funcs_count = 2\n", "").replace(
        "alpha_moments", "radial_funcs_count = 2\nalpha_moments", 1
    ),
}


@pytest.mark.parametrize("change", DIALECTS.values(), ids=DIALECTS)
def test_dialects(change, text, model, tmp_path):
    changed = change(text)
    assert changed != text
    (tmp_path / "x.mtp").write_text(changed, newline="")
    assert same(jaxmlip.load(tmp_path / "x.mtp", species=SYMBOLS), model)


def test_mlip3_with_its_own_labels_and_an_active_set(text, model, tmp_path):
    lines, own = [], [f"{z + 20}" for z in range(11)]
    for line in text.split("\n"):
        a, dash, b = line.strip().partition("-")
        pair = line.startswith("\t\t") and dash and a.isdigit() and b.isdigit()
        lines.append(f"\t\t{own[int(a)]}-{own[int(b)]}" if pair else line)
    binary = b"#MVS_v1.1\nenergy_weight 1\n" + bytes(range(256)) + b"\nscaling = 7\n"
    (tmp_path / "x.almtp").write_bytes("\n".join(lines).encode() + binary)
    assert same(jaxmlip.load(tmp_path / "x.almtp", species=SYMBOLS), model)


def test_scalings_multiply(text, model, tmp_path):
    (tmp_path / "x.mtp").write_text(text.replace("\tradial_basis_size", "\tscaling = 2.0\n\tradial_basis_size"))
    config = read_mtp(tmp_path / "x.mtp", species=SYMBOLS).potential.config
    assert config.scaling == 2 * model.potential.config.scaling
    (tmp_path / "x.mtp").write_text(text.replace("scaling = 0.03\n", ""))
    assert read_mtp(tmp_path / "x.mtp", species=SYMBOLS).potential.config.scaling == 1


def test_untrained_templates_start_from_initial_parameters(text, tmp_path):
    start = text.index("\tradial_coeffs"), text.index("alpha_moments_count")
    template = text[: start[0]] + text[start[1] : text.index("species_coeffs")]
    (tmp_path / "x.mtp").write_text(template.replace("species_count = 11", "species_count = 1"))
    model = jaxmlip.load(tmp_path / "x.mtp", species=["Li", "Ni", "O"])
    assert model.params["radial"].shape == (3, 3, 2, 8)
    assert model.params["radial"].any()
    assert not model.params["coefficients"].any()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("MTP\n", "MLP\n", "first line must be `MTP`"),
        ("version = 1.1.0", "version = 2.0", "version 2.0"),
        ("RBChebyshev\n", "RBTaylor\n", "radial_basis_type RBTaylor"),
        ("alpha_moments", "magnetic_basis_type = B\nalpha_moments", "magnetic"),
        ("radial_funcs_count = 2", "radial_funcs_count = 1", "needs 2"),
        ("alpha_index_times_count = 14", "alpha_index_times_count = 15", "14 entries"),
        ("{0, 0, 1, 11}", "{17, 17, 1, 11}", "before it is complete"),
        ("{0, 0, 1, 11}", "{0, 99, 1, 11}", "do not exist"),
        ("alpha_moment_mapping = {0, 10,", "alpha_moment_mapping = {0, 0,", "twice"),
        ("\t\t3-4\n", "", "half trained|rows of"),
        ("max_dist = 5.0", "max_dist = five", "must be float, got 'five'"),
        ("moment_coeffs = {", "moment_coeffs = {1.0, ", "10 numbers, expected 9"),
        ("species_coeffs = {", "species_koeffs = {", "no field species_coeffs"),
    ],
)
def test_damaged_files(old, new, message, text, tmp_path):
    assert old in text
    (tmp_path / "x.mtp").write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        jaxmlip.load(tmp_path / "x.mtp", species=SYMBOLS)


def test_a_file_that_ends_early(text, tmp_path):
    for share in (0.1, 0.5, 0.9, 0.99):
        (tmp_path / "x.mtp").write_text(text[: int(share * len(text))])
        with pytest.raises(ValueError, match=r"x\.mtp"):
            jaxmlip.load(tmp_path / "x.mtp", species=SYMBOLS)


@pytest.mark.parametrize("species", [None, ["Li"], SYMBOLS[:10]])
def test_elements_are_never_guessed(species, text, tmp_path):
    (tmp_path / "x.mtp").write_text(text)
    with pytest.raises(ValueError, match=r"11 species but does not say which.*species=\[\.\.\.\]"):
        jaxmlip.load(tmp_path / "x.mtp", species=species)


def test_other_potentials_and_active_sets_cannot_be_written(model, tmp_path):
    snap = jaxmlip.build("snap", species=("Mo",), cutoff=4.0, twojmax=2)
    with pytest.raises(ValueError, match="only MTP models"):
        jaxmlip.save(jaxmlip.Model(snap, snap.init(None, None)), tmp_path / "x.mtp")
    with pytest.raises(ValueError, match="suffix"):
        jaxmlip.save(model, tmp_path / "x.almtp")
