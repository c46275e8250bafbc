"""aenet's files: networks written and read to the bit, other writers' text, inputs, folders, and what is refused."""

import shutil

import ase
import jax
import numpy as np
import pytest
from aenet_reference import NAMES, frames, network_file, reference

import jaxmlip
from jaxmlip.cli import main
from jaxmlip.data import DataWarning
from jaxmlip.formats.aenet_domain import has_old_domain
from jaxmlip.formats.aenet_inputs import read_folder, read_input, read_setup
from jaxmlip.formats.aenet_network import read_network, write_network
from jaxmlip.graph.batch import batch, edge_vectors
from jaxmlip.potentials.aenet import AENETConfig, aenet, fingerprints
from jaxmlip.potentials.base import safe_vectors
from jaxmlip.potentials.predictions import predict_atoms

STP = """DESCR
  N. Artrith and A. Urban, Comput. Mater. Sci. 114 (2016) 135-150.
  ATOM is not a keyword here
END DESCR

ATOM Ti

ENV 2
Ti
O

! comment
rmin 0.75d0

BASIS type=Chebyshev
radial_Rc = 8.0  radial_N = 16 angular_Rc = 6.5  angular_N = 4
"""
GENERATE = """OUTPUT  TiO2.train

TYPES
2
O   -432.503149303  ! eV
Ti -1604.604515075d0  | eV

SETUPS
O   O.stp
Ti Ti.stp

FILES
2
./a.xsf
b.xsf
"""
TRAIN = """TRAININGSET TiO2.train
TESTPERCENT  10
ITERATIONS  500
TIMING
METHOD
bfgs

NETWORKS
! types  file-name      layers  nodes:activation
  O       O.10t-10t.ann    2    10:twist 10:twist
  Ti     Ti.10t-10t.ann    2    10:twist 10:twist
"""
PREDICT = """TYPES
4
Ti
Li
O
Ni

NETWORKS
  Ti nets/Ti.x.nn
  Li nets/Li.x.nn
  O nets/O.x.nn
  Ni nets/Ni.x.nn

FORCES
"""


def same(first, second):
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, first, second)))


def write_all(folder, suffix=".nn", name="lto4_twist", **changes):
    """Files of a reference model; a change is given as Element=dict(field=value)."""
    folder.mkdir(exist_ok=True)
    arrays = reference(name)
    for symbol in map(str, arrays["species"]):
        network = network_file(arrays, symbol)._replace(**changes.get(symbol, {}))
        write_network(network, folder / f"{symbol}.x{suffix}")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("aenet") / "nets")


@pytest.fixture(scope="module")
def model(folder):
    return jaxmlip.load(folder)


@pytest.mark.parametrize("suffix", [".nn", ".nn.ascii"])
@pytest.mark.parametrize("name", NAMES)
def test_networks_round_trip_to_the_bit(tmp_path, name, suffix):
    arrays = reference(name)
    for symbol in map(str, arrays["species"]):
        network = network_file(arrays, symbol)
        write_network(network, tmp_path / f"one{suffix}")
        found = read_network(tmp_path / f"one{suffix}")
        assert all(np.array_equal(a, b) for a, b in zip(network, found))
    write_all(tmp_path / "nets", suffix, name)
    first = jaxmlip.load(tmp_path / "nets")
    jaxmlip.save(first, tmp_path / f"again{suffix}")
    again = jaxmlip.load(tmp_path / f"again{suffix}")
    assert again.potential is first.potential
    assert same(again.params, first.params)
    assert not list(tmp_path.glob(".*")), "a temporary file was left"


def test_binary_layout(tmp_path):
    """Marks and lengths of the records of one file, as the reference lists them."""
    write_network(network_file(reference("mo_tanh"), "Mo"), tmp_path / "Mo.nn")
    raw, lengths, at = (tmp_path / "Mo.nn").read_bytes(), [], 0
    while at < len(raw):
        size = int.from_bytes(raw[at : at + 4], "little")
        assert raw[at + 4 + size : at + 8 + size] == raw[at : at + 4]
        lengths.append(size)
        at += size + 8
    network = [4, 4, 4, 4, 16, 12, 16, 16, 8 * 351]
    setup = [1024, 2, 4, 2, 8, 8, 100, 4, 4, 4 * 22, 8 * 88, 4 * 44, 4, *[8 * 22] * 4]
    assert lengths == [*network, *setup, 1024, 4, 8, 8, 4, 2, 8, 4, 4, 24]


def test_every_way_to_name_the_files(folder, model, tmp_path):
    files = sorted(folder.iterdir())
    shutil.copytree(folder, tmp_path / "nets")
    (tmp_path / "predict.in").write_text(PREDICT)
    for path in (folder / "x.nn", str(folder), files, tmp_path, tmp_path / "predict.in"):
        found = jaxmlip.load(path)
        assert found.potential is model.potential
        assert same(found.params, model.params)


def test_species_in_another_order_give_the_same_energies(folder, model):
    """1e-12: the same sums; the order of ENV, not of the species, sets the type weights."""
    found = jaxmlip.load(folder, species=["Ti", "O", "Ni", "Li"])
    assert found.potential.config.symbols == ("Ti", "O", "Ni", "Li")
    frame = frames(reference("lto4_twist"))[0]
    energies = [jaxmlip.predict(m, jaxmlip.batch(frame, m.potential.config)).energy for m in (found, model)]
    np.testing.assert_allclose(*energies, rtol=1e-12)
    one = jaxmlip.load(folder / "O.x.nn", species=["O"]).potential.config
    assert (one.weights, one.n_features) == ((-1.0,), 44)


def test_narrow_networks_are_filled_up_and_written_as_they_were(tmp_path):
    arrays = reference("lto4_twist")
    narrow = network_file(arrays, "O")
    matrices = [np.random.default_rng(0).normal(size=s) for s in ((7, 45), (10, 8), (1, 11))]
    weights = np.concatenate([m.ravel(order="F") for m in matrices])
    folder = write_all(tmp_path / "nets", O={"nodes": (44, 7, 10, 1), "weights": weights})
    model = jaxmlip.load(folder)
    assert model.potential.config.hidden == ("10:twist", "10:twist")
    assert not model.params["networks"]["W0"][1, 7:].any()
    jaxmlip.save(model, tmp_path / "again.nn")
    found = read_network(tmp_path / "O.again.nn")
    assert found.nodes == (44, 7, 10, 1)
    np.testing.assert_array_equal(found.weights, weights)
    assert narrow.nodes == (44, 10, 10, 1)


def test_text_of_other_writers(tmp_path):
    """Numbers over several lines, Fortran's exponents, and lists of 2-letter names without blanks between."""
    write_network(network_file(reference("lto4_twist"), "Ti"), tmp_path / "Ti.nn.ascii")
    plain = read_network(tmp_path / "Ti.nn.ascii")
    lines = (tmp_path / "Ti.nn.ascii").read_text().splitlines()
    wrapped = []
    for k, line in enumerate(lines):
        words = line.split()
        if words == ["Li", "O", "Ni", "Ti"]:
            wrapped.append(" LiO NiTi" if k > 25 else "\n".join(words))
        else:
            spread = [" ".join(words[n : n + 4]) for n in range(0, len(words), 4)]
            wrapped.append("\n".join(spread).replace("e-01", "D-01") if len(words) > 4 else line)
    (tmp_path / "Ti.nn.ascii").write_text("\n".join(wrapped) + "\n")
    assert all(np.array_equal(a, b) for a, b in zip(plain, read_network(tmp_path / "Ti.nn.ascii")))


def test_set_up_file(tmp_path):
    (tmp_path / "Ti.stp").write_text(STP)
    setup = read_setup(tmp_path / "Ti.stp")
    assert (setup.atom, setup.environment, setup.rmin) == ("Ti", ("Ti", "O"), 0.75)
    assert (setup.radial_cutoff, setup.radial_order, setup.angular_cutoff, setup.angular_order) == (8.0, 16, 6.5, 4)
    assert setup.description.startswith("N. Artrith")


def test_inputs(tmp_path):
    (tmp_path / "train.in").write_text(TRAIN)
    found = read_input(tmp_path / "train.in")
    assert found.networks == {"O": "O.10t-10t.ann", "Ti": "Ti.10t-10t.ann"}
    assert found.hidden["Ti"] == ("10:twist", "10:twist")
    assert found.keywords["method"] == "bfgs"
    assert found.keywords["testpercent"] == "10"
    assert "timing" in found.keywords


def test_a_folder_to_train_in(tmp_path):
    for name, text in {
        "generate.in": GENERATE, "train.in": TRAIN, "Ti.stp": STP, "O.stp": STP.replace("ATOM Ti", "ATOM O"),
    }.items():  # fmt: skip
        (tmp_path / name).write_text(text)
    found = read_folder(tmp_path)
    assert found.config == AENETConfig(species=("Ti", "O"), hidden=("10:twist", "10:twist"), rmin=0.75)
    np.testing.assert_array_equal(found.offsets, [-1604.604515075, -432.503149303])
    assert [file.name for file in found.files] == ["a.xsf", "b.xsf"]
    (tmp_path / "O.stp").write_text(STP.replace("Ti\nO\n", "O\nTi\n"))
    with pytest.raises(ValueError, match="ENV and BASIS of O, Ti differ"):
        read_folder(tmp_path)


def test_convert_takes_a_folder_over(folder, model, tmp_path):
    assert main(["convert", str(folder), str(tmp_path / "model.npz")]) == 0
    assert same(jaxmlip.load(tmp_path / "model.npz").params, model.params)
    assert main(["convert", str(tmp_path / "model.npz"), str(tmp_path / "back.nn")]) == 0
    assert {p.name for p in tmp_path.glob("*.nn")} == {f"{s}.back.nn" for s in ("Li", "O", "Ni", "Ti")}
    assert same(jaxmlip.load(tmp_path / "back.nn").params, model.params)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"O": {"environment": ("O", "Li", "Ni", "Ti")}}, "ENV lists"),
        ({"O": {"parameters": (7.0, 16.0, 6.5, 4.0)}}, "cutoffs and orders"),
        ({"O": {"activations": (1, 1, 0)}}, "activations"),
        ({"O": {"atom": "Li"}}, "two networks for Li"),
        ({s: {"activations": (4, 4, 1)} for s in ("Li", "O", "Ni", "Ti")}, "linear"),
        ({s: {"parameters": (8.0, 15.0, 6.5, 4.0)} for s in ("Li", "O", "Ni", "Ti")}, "44 inputs"),
    ],
)
def test_networks_that_do_not_belong_together(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        jaxmlip.load(write_all(tmp_path / "nets", **changes))


def test_damaged_and_foreign_files(folder, tmp_path):
    (tmp_path / "Ti.nn").write_bytes((folder / "Ti.x.nn").read_bytes()[:5000])
    with pytest.raises(ValueError, match="not a complete network file"):
        jaxmlip.load(tmp_path / "Ti.nn")
    write_all(tmp_path / "text", ".nn.ascii")
    text = (tmp_path / "text" / "Ti.x.nn.ascii").read_text()
    (tmp_path / "Ti.nn.ascii").write_text(text[:9000])
    with pytest.raises(ValueError, match="not a complete network file"):
        jaxmlip.load(tmp_path / "Ti.nn.ascii")
    (tmp_path / "Ti.nn.ascii").write_text(text.replace("Chebyshev", "Behler2011"))
    with pytest.raises(ValueError, match="only Chebyshev"):
        jaxmlip.load(tmp_path / "Ti.nn.ascii")
    (tmp_path / "Ti.stp").write_text(STP.replace("BASIS type=Chebyshev", "FUNCTIONS type=Behler2011"))
    with pytest.raises(ValueError, match="not single symmetry functions"):
        read_setup(tmp_path / "Ti.stp")
    with pytest.raises(ValueError, match="network of Ti alone"):
        jaxmlip.load(folder / "Ti.x.nn")
    with pytest.raises(ValueError, match="unknown element 'Fe'"):
        jaxmlip.load(folder, species=["Fe"])
    for path in (tmp_path / "other.nn", tmp_path / "text" / "predict.in", tmp_path / "nowhere" / "predict.in"):
        with pytest.raises(FileNotFoundError):
            jaxmlip.load(path)


def test_what_aenet_cannot_hold(tmp_path):
    potential = aenet(AENETConfig(species=("Li", "O", "Ti"), type_weights="nonzero"))
    model = jaxmlip.Model(potential, potential.init(jax.random.key(0), None))
    with pytest.raises(ValueError, match="save this model"):
        jaxmlip.save(model, tmp_path / "m.nn")
    snap = jaxmlip.build("snap", species=("Mo",), cutoff=4.0, twojmax=1)
    with pytest.raises(ValueError, match="only AENET"):
        jaxmlip.save(jaxmlip.Model(snap, snap.init(None, None)), tmp_path / "m.nn")


def old_angular(positions, i, parameters):
    """aenet's angular sums before 2.0.4, pair by pair: T_n(2 cos θ/π − 1)."""
    _, _, cutoff, order = parameters
    vectors = np.delete(positions, i, axis=0) - positions[i]
    r = np.linalg.norm(vectors, axis=1)
    f = np.where(r < cutoff, (1 + np.cos(np.pi * r / cutoff)) / 2, 0)
    total = np.zeros(round(order) + 1)
    for j in range(len(r)):
        for k in range(j):
            x = 2 * (vectors[j] @ vectors[k]) / (r[j] * r[k]) / np.pi - 1
            values = [1.0, x]
            while len(values) < len(total):
                values.append(2 * x * values[-1] - values[-2])
            total += f[j] * f[k] * np.array(values)
    return total


def test_the_angular_domain_of_old_networks(tmp_path):
    """Recognised by averages that T_n(cos θ) cannot have, and converted: energies by hand in the old domain."""
    arrays = reference("mo_tanh")
    new = network_file(arrays, "Mo")
    assert not has_old_domain(new)
    start, stop = (round(new.parameters[1]) + k for k in (1, 2 + round(new.parameters[3])))
    rng = np.random.default_rng(0)
    positions = np.array([[0, 0, 0], [2.4, 0.3, 0], [0.2, 2.6, 0.1], [-1.1, -1.9, 1.7], [0.4, 0.2, -2.7]])
    cluster = ase.Atoms("Mo5", positions)
    reach = AENETConfig(species=("Mo",), cutoff=new.parameters[0], radial_order=round(new.parameters[1]),
                        angular_cutoff=new.parameters[2], angular_order=round(new.parameters[3]))  # fmt: skip
    graph = batch(cluster, reach)
    vectors = safe_vectors(edge_vectors(graph), graph, reach.cutoff)
    found = np.array(fingerprints(reach, None, graph, vectors))
    found[:, start:stop] = [old_angular(positions, i, new.parameters) for i in range(5)]
    old = new._replace(average=found.mean(axis=0), square=found.mean(axis=0) ** 2 + rng.uniform(0.5, 2, found.shape[1]))
    assert has_old_domain(old)
    write_network(old, tmp_path / "Mo.x.nn")
    h = (found - old.average) / np.sqrt(old.square - old.average**2)
    for k, (W, b) in enumerate(old.layers()):
        h = h @ W.T + b
        h = np.tanh(h) if k < len(old.nodes) - 2 else h
    expected = np.sum(h / old.energy_scale + old.energy_shift + old.atomic_energies["Mo"])
    with pytest.warns(DataWarning, match=r"Mo.x.nn: made by aenet before 2.0.4"):
        model = jaxmlip.load(tmp_path / "Mo.x.nn")
    energy = predict_atoms(model, [cluster]).energy[0]
    assert energy == pytest.approx(expected, abs=1e-9)  # float64; the domains differ by factors up to (2/π)^-order


def test_the_domain_shows_in_the_extremes_too():
    new = network_file(reference("mo_tanh"), "Mo")
    start = round(new.parameters[1]) + 1
    extremes = np.zeros((2, new.nodes[0]))
    extremes[1, start], extremes[0, start + 1] = 1.0, -0.9
    assert not has_old_domain(new._replace(extremes=extremes))
    extremes[0, start + 1] = -1.3
    assert has_old_domain(new._replace(extremes=extremes))
