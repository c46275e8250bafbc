"""NequIP against numbers of nequip 0.19.1 (float64), and what its layers promise."""

from pathlib import Path

import ase
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmlip
from jaxmlip.config import ConfigError
from jaxmlip.data.labels import Labels, attach, labels
from jaxmlip.fitting import GradientFit
from jaxmlip.fitting.training import gradient
from jaxmlip.graph.messages import gather_neighbors, in_blocks
from jaxmlip.potentials.base import safe_vectors
from jaxmlip.potentials.message_passing import convolution, tensor_product
from jaxmlip.potentials.message_passing.convolution import edge_embedding
from jaxmlip.potentials.nequip import NequIPConfig, features, nequip

REFERENCE = Path(__file__).parent / "reference" / "nequip"
NAMES = ("tiny", "tiny_zbl", "tiny_4layers")
EXACT = 1e-10  # of numbers of order 1 … 25; found: 1e-14


@pytest.fixture(scope="module", params=NAMES)
def case(request):
    """A model, the reference's numbers, and all its structures as one batch (s0, s1, s2 after each other)."""
    model = jaxmlip.load(REFERENCE / f"{request.param}.yaml")
    with np.load(REFERENCE / f"{request.param}_outputs.npz") as content:
        expected = {name: content[name] for name in content.files}
    frames = [
        ase.Atoms(expected[f"{s}/numbers"], expected[f"{s}/positions"], cell=expected[f"{s}/cell"], pbc=True)
        for s in ("s0", "s1", "s2")
    ]
    return model, expected, jaxmlip.batch(frames, model.potential.config)


def joined(expected, name):
    return np.concatenate([np.atleast_1d(expected[f"{s}/{name}"]) for s in ("s0", "s1", "s2")])


def test_energies_forces_stresses(case):
    model, expected, graph = case
    found = jaxmlip.predict(model, graph)
    for ours, theirs in (("energy", "energy"), ("forces", "forces"), ("atomic_energies", "atomic_energies")):
        np.testing.assert_allclose(getattr(found, ours), joined(expected, theirs), rtol=0, atol=EXACT)
    np.testing.assert_allclose(found.stress.reshape(-1, 3), joined(expected, "stress"), rtol=0, atol=EXACT)


def test_features_of_every_layer(case):
    """Ours have the channels last, e3nn's the components."""
    model, expected, graph = case
    config = model.potential.config
    vectors = safe_vectors(jaxmlip.graph.edge_vectors(graph), graph, config.cutoff)
    found = jax.jit(features, static_argnums=0)(config, model.params, graph, vectors)
    for k, layer in enumerate(config.layers):
        start, blocks = 0, []
        for block in layer.outputs:
            part = np.asarray(found[k + 1])[:, start : start + block.size]
            blocks.append(part.reshape(len(part), -1, block.channels).swapaxes(1, 2).reshape(len(part), -1))
            start += block.size
        theirs = joined(expected, f"layer{k}_convnet_out")
        np.testing.assert_allclose(np.concatenate(blocks, axis=1), theirs, rtol=0, atol=EXACT)


def test_edge_embedding_and_harmonics(case):
    model, expected, _ = case
    start, end = expected["s1/edge_index"]
    mask = jnp.ones((1, len(end)), bool)
    images = expected["s1/edge_cell_shift"] @ expected["s1/cell"]
    vectors = expected["s1/positions"][end] - expected["s1/positions"][start] + images
    embedding, Y = edge_embedding(model.potential.config.edge_basis, None, jnp.asarray(vectors)[None], mask)
    np.testing.assert_allclose(embedding[0], expected["s1/edge_embedding"], rtol=0, atol=EXACT)
    np.testing.assert_allclose(Y[0], expected["s1/edge_sh"], rtol=0, atol=EXACT)


def test_every_other_option():
    """l_max 2, channels by degree, trained Bessel functions, deeper read-out, averages by element; forces reach 380."""
    model = jaxmlip.load(REFERENCE / "options.yaml")
    with np.load(REFERENCE / "options_outputs.npz") as z:
        atoms = ase.Atoms(z["numbers"], z["positions"], cell=z["cell"], pbc=True)
        found = jaxmlip.predict(model, jaxmlip.batch(atoms, model.potential.config))
        np.testing.assert_allclose(found.energy, z["energy"], rtol=0, atol=EXACT)
        np.testing.assert_allclose(found.forces, z["forces"], rtol=0, atol=100 * EXACT)
        np.testing.assert_allclose(found.stress[0], z["stress"], rtol=0, atol=EXACT)


@pytest.fixture
def small():
    """Ten atoms and a model with everything: l_max 2, different channels, trained Bessel functions, ZBL."""
    config = NequIPConfig(
        species=("Li", "O", "Ni"), cutoff=4.0, num_layers=2, l_max=2, num_features=(4, 3, 2), radial_mlp_width=5,
        type_embed_num_features=2, bessel_trainable=True, readout_mlp_hidden_layers_depth=1, zbl=True,
    )  # fmt: skip
    atoms = ase.Atoms("Li3O5Ni2", np.random.default_rng(0).uniform(0, 6, (10, 3)), cell=[6, 6, 6.5], pbc=True)
    potential = nequip(config)
    graph = jaxmlip.batch(atoms, config)
    return potential, potential.init(jax.random.key(1), graph), graph


def test_blocks_of_atoms_change_nothing(small, monkeypatch):
    """Energies, forces, and the gradient of a loss of both, to rounding (1e-12 of the largest); also of wide layers."""
    _, _, graph = small
    potential = nequip(NequIPConfig(("Li", "O", "Ni"), 4.0, num_layers=2, num_features=(3, 2), radial_mlp_depth=1))
    params = potential.init(jax.random.key(1), graph)

    @jax.jit
    def evaluated(params):
        return jax.value_and_grad(loss, has_aux=True)(params)

    def loss(params):
        found = jaxmlip.predict(jaxmlip.Model(potential, params), graph)
        return found.energy.sum() + jnp.sum(found.forces**2), found

    results = []
    for few, wide in ((64, False), (0, False), (64, True)):
        monkeypatch.setitem(convolution.FEW_ATOMS, "cpu", few)
        monkeypatch.setattr(convolution, "_COLUMNS", 2 if wide else 160)
        monkeypatch.setattr(tensor_product, "_MANY_CHANNELS", 1 if wide else 32)
        monkeypatch.setitem(convolution.BLOCK, "cpu", 4)
        jax.clear_caches()  # the limit is read when a function is traced
        (_, found), slope = evaluated(params)
        results.append((found, slope))
    jax.clear_caches()
    for a, *others in zip(*map(jax.tree.leaves, results), strict=True):
        for b in others:
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * (1 + float(jnp.abs(a).max(initial=0))))


def test_it_is_invariant_with_all_options(small):
    """Rotation with reflection: 1e-10 of forces of order 1."""
    potential, params, graph = small
    matrix = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    turned = graph._replace(positions=graph.positions @ matrix.T, cell=graph.cell @ matrix.T)
    base, found = (jaxmlip.predict(jaxmlip.Model(potential, params), g) for g in (graph, turned))
    scale = float(jnp.abs(base.forces).max())
    np.testing.assert_allclose(found.energy, base.energy, rtol=1e-12)
    np.testing.assert_allclose(found.forces, base.forces @ matrix.T, rtol=0, atol=EXACT * scale)


def test_neighbours_are_averaged_over_the_data(small):
    _, params, graph = small
    np.testing.assert_allclose(params["average_neighbors"], float(graph.mask.sum()) / 10, rtol=1e-12)
    assert set(small[0].fixed) == {"scales", "average_neighbors"}


def test_gathering_is_the_transpose_of_summing(small):
    _, _, graph = small
    rng = np.random.default_rng(0)
    x, y = jnp.asarray(rng.normal(size=(10, 3))), rng.normal(size=(10, graph.mask.shape[1], 3))
    _, pull = jax.vjp(lambda x: gather_neighbors(x, graph.neighbors, graph.reverse), x)
    expected = np.zeros((10, 3))
    np.add.at(expected, np.asarray(graph.neighbors), y)
    np.testing.assert_allclose(pull(jnp.asarray(y))[0], expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("n", [1, 4, 7, 8])
def test_blocks_of_rows(n):
    x = jnp.arange(2.0 * n).reshape(n, 2)
    np.testing.assert_array_equal(in_blocks(lambda rows: rows**2, x, 4), x**2)


def test_portions_of_a_minibatch_change_nothing(monkeypatch):
    """Three structures at once or one by one: the same parameters after an epoch, to rounding (1e-11)."""
    rng = np.random.default_rng(0)
    frames = [ase.Atoms("LiO", rng.uniform(0, 3, (2, 3)), cell=[3, 3, 3.5], pbc=True) for _ in range(3)]
    for frame in frames:
        attach(frame, Labels(rng.normal(), rng.normal(size=(2, 3)), None))
    potential = nequip(NequIPConfig(species=("Li", "O"), cutoff=3.0, num_layers=1, num_features=2, radial_mlp_depth=0))
    fitted = []
    for portion in (1, 100):
        monkeypatch.setattr(gradient, "CPU_PORTION", portion)
        settings = GradientFit(epochs=1, batch_size=4, validation_fraction=0.0, n_shapes=1, dtype="float64")
        fitted.append(jaxmlip.fit(potential, frames, settings=settings)[0].params)
    for a, b in zip(*map(jax.tree.leaves, fitted), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-11)
    rms = np.sqrt(np.mean([labels(frame).forces ** 2 for frame in frames]))
    np.testing.assert_allclose(fitted[0]["scales"], rms, rtol=1e-12)  # of all forces, and not trained


def test_size_of_the_studys_model():
    """16 features, l_max 1, 4 layers, 11 elements."""
    config = NequIPConfig(species=("Li", "O", "Sc", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu"))
    params = nequip(config).init(None, None)
    assert 64000 < sum(x.size for x in jax.tree.leaves(params)) < 65000


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_features": (4, 4, 4)}, "one for each degree 0 … 1"),
        ({"num_layers": 0}, "num_layers: expected int ≥ 1"),
        ({"l_max": 9}, "l_max: expected int ≥ 0, ≤ 6"),
        ({"polynomial_cutoff_p": 1}, "polynomial_cutoff_p: expected int ≥ 2"),
    ],
)
def test_settings_that_mean_nothing(settings, message):
    with pytest.raises(ConfigError, match=message):
        NequIPConfig(species=("Li",), **settings)
