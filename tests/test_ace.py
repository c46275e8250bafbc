"""ACE against python-ace's own numbers, its couplings and lists of functions, and the checks of every potential.

Tolerances. With the original's splines energies to 1e-13 and forces to 1e-12 of the largest: rounding of sums of some
10³ terms, and of differences over 0.001 Å in the slope of a spline. Without splines, against the original with splines
of 0.0001 Å, energies to 1e-12 of the largest, and forces to 2e-8 eV/Å: splines smooth jumps of third derivatives.
"""

import dataclasses
import json

import ace_reference
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import sph_harm_y

import jaxmlip
from jaxmlip.descriptors.cluster_functions import Function, Sizes, coefficients, functions, momenta
from jaxmlip.descriptors.cluster_tables import cluster_tables
from jaxmlip.descriptors.contraction import scalar_moments
from jaxmlip.fitting import GaussNewtonFit, LinearFit, QuasiNewtonFit
from jaxmlip.fitting.design import design
from jaxmlip.potentials.ace import ACEConfig, ace, widened
from jaxmlip.potentials.ace_embedding import FUNCTIONS
from jaxmlip.potentials.ace_radial import Bond, Pairs, pair_functions, pair_table
from jaxmlip.testing import cases, check_forces, check_second_derivatives, check_stress, subject


def predicted(model, frames):
    found = jaxmlip.predict(model, jaxmlip.batch(frames, model.potential.config))
    return jax.tree.map(np.asarray, found)


@pytest.fixture(scope="module", params=ace_reference.FILES)
def reference(request):
    z = ace_reference.content(request.param.split(".")[0])
    return jaxmlip.load(ace_reference.FOLDER / request.param), z, "yace_" if request.param.endswith("yace") else ""


def compare(found, z, prefix, energy, forces):
    scale = np.abs(z["energy"]).max()
    np.testing.assert_allclose(found.energy, z[f"{prefix}energy"], rtol=0, atol=energy * scale)
    np.testing.assert_allclose(found.atomic_energies, z[f"{prefix}atomic_energies"], rtol=0, atol=energy * scale)
    np.testing.assert_allclose(found.forces, z[f"{prefix}forces"], rtol=0, atol=forces)
    volume = np.abs(np.linalg.det(z["cell"])).min()
    np.testing.assert_allclose(found.stress, z[f"{prefix}stress"], rtol=0, atol=5 * forces * 10 / volume)


def test_with_splines_it_is_the_original(reference):
    model, z, prefix = reference
    compare(predicted(model, ace_reference.frames(z)), z, prefix, 1e-13, 1e-12 * np.abs(z["forces"]).max())


def test_without_splines_it_is_the_original_with_fine_ones(reference):
    model, z, _ = reference
    config = dataclasses.replace(model.potential.config, spline_step=0.0)
    found = predicted(jaxmlip.Model(ace(config), model.params), ace_reference.frames(z))
    compare(found, z, "fine_", 1e-12, 2e-8)


def test_radial_functions_of_every_bond(reference):
    """g, R and u at ten distances: 1e-13 of numbers up to some hundreds."""
    model, z, _ = reference
    config = model.potential.config
    table = pair_table(config.parts.table, config.species, config.spline_step)
    for (i, j), g, core in zip(z["rad_pairs"].tolist(), z["rad_g"], z["rad_core"]):
        bond = config.parts.bond(i, j)
        values = jnp.asarray(np.repeat(table[i, j][:, None], len(z["rad_r"]), axis=1))
        r = jnp.asarray(z["rad_r"])
        found = pair_functions(r, Pairs(*values), bond.basis, config.parts.inner, bond.n_basis, splines=True)
        np.testing.assert_allclose(found[:-1].T, g[:, : bond.n_basis], rtol=0, atol=1e-13)
        np.testing.assert_allclose(found[-1], core, rtol=1e-12, atol=1e-13)


def test_both_formats_say_the_same():
    """Products are coupled to functions again: coefficients to rounding of a least-squares solution."""
    first, second = (jaxmlip.load(ace_reference.FOLDER / f"cu_zbl.{suffix}") for suffix in ("yaml", "yace"))
    a, b = (model.potential.config.parts.functions for model in (first, second))
    order = [b.index(function) for function in a]
    np.testing.assert_allclose(second.params["coefficients"][:, :, order], first.params["coefficients"], atol=1e-13)
    np.testing.assert_array_equal(second.params["radial"], first.params["radial"])


def test_couplings():
    """Rounding of products of up to six Clebsch-Gordan coefficients."""
    for one in json.loads((ace_reference.FOLDER / "couplings.json").read_text()):
        found, expected = coefficients(tuple(one["ls"]), tuple(one["LS"])), dict(zip(map(tuple, one["ms"]), one["c"]))
        for ms in {*found, *expected}:
            assert found.get(ms, 0) == pytest.approx(expected.get(ms, 0), abs=1e-15)


@pytest.mark.parametrize("name", ["mo_linear", "cu_zbl"])
def test_functions_are_those_of_pacemaker_in_its_order(name):
    listed = jaxmlip.load(ace_reference.FOLDER / f"{name}.yaml").potential.config.parts.functions
    rules = json.loads(str(ace_reference.content(name)["functions"]))["UNARY"]
    sizes = Sizes(tuple(rules["nradmax_by_orders"]), tuple(rules["lmax_by_orders"]))
    assert tuple(functions(1, sizes)) == listed


def test_products_as_they_are_listed(tmp_path):
    """A .yace may have products that are no sum of invariants: Re Π A with SciPy's harmonics."""
    text = (ace_reference.FOLDER / "cu_fs.yace").read_text()
    ms, c = [[1, 0, -1], [2, -2, 1], [-1, -1, 0]], [0.3, -0.2, 0.5]
    entry = {"mu0": 0, "rank": 3, "ndensity": 2, "num_ms_combs": 3, "mus": [0, 0, 0], "ns": [1, 2, 2], "ls": [2, 2, 1]}
    entry |= {"ms_combs": [m for one in ms for m in one], "ctildes": [x for one in c for x in (one, 0.0)]}
    head, _ = text.split("functions:")
    (tmp_path / "m.yace").write_text(f"{head}functions:\n  0: [{json.dumps(entry)}]\n")
    model = jaxmlip.load(tmp_path / "m.yace")
    parts = model.potential.config.parts
    assert [f.orders for f in parts.functions] == [tuple(m) for m in ms]
    tables = cluster_tables(parts.functions)
    rng = np.random.default_rng(0)
    v = rng.normal(size=(5, 3))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    R = rng.normal(size=(3, 5))  # of n
    theta, phi = np.arccos(v[:, 2]), np.arctan2(v[:, 1], v[:, 0])

    def A(n, degree, m):
        return np.sqrt(4 * np.pi) * np.sum(R[n] * sph_harm_y(degree, m, theta, phi))

    def real(n, degree, m):
        Y = A(n, degree, abs(m)) * (-1) ** m
        return A(n, degree, 0).real if m == 0 else np.sqrt(2) * (Y.real if m > 0 else Y.imag)

    basic = jnp.asarray([[real(n, degree, m)] for _, n, degree, m in tables.angular.tolist()])
    found = scalar_moments(basic, tables.contraction)[:, 0]
    slots = list(zip(entry["ns"], entry["ls"]))
    expected = [np.prod([A(n - 1, degree, m) for (n, degree), m in zip(slots, one)]).real for one in ms]
    np.testing.assert_allclose(found, expected, rtol=1e-13)
    with pytest.raises(ValueError, match="single products"):
        jaxmlip.save(model, tmp_path / "m.yaml")
    jaxmlip.save(model, tmp_path / "again.yace")
    np.testing.assert_array_equal(
        jaxmlip.load(tmp_path / "again.yace").params["coefficients"], model.params["coefficients"]
    )


@pytest.mark.parametrize("name", ["limntio.yaml", "cu_zbl.yace"])
def test_written_files_read_back(name, tmp_path):
    """Bits of a .yaml; a .yace couples its products again, which rounds."""
    model = jaxmlip.load(ace_reference.FOLDER / name)
    jaxmlip.save(model, tmp_path / name)
    again = jaxmlip.load(tmp_path / name)
    a, b = (one.potential.config.parts for one in (model, again))
    assert (a.bonds, a.centres, a.inner) == (b.bonds, b.centres, b.inner)
    for row, other, mine, theirs in zip(
        model.params["coefficients"], again.params["coefficients"], a.members, b.members
    ):
        assert {a.functions[k] for k in mine} == {b.functions[k] for k in theirs}
        order = [b.functions.index(a.functions[k]) for k in mine]
        np.testing.assert_allclose(other[:, order], row[:, list(mine)], rtol=0, atol=0 if "yaml" in name else 1e-14)
    np.testing.assert_array_equal(again.params["radial"], model.params["radial"])


def test_a_fitted_potential_in_every_format(tmp_path):
    frames = jaxmlip.datasets.load("mo", split="test")[:4]
    potential = jaxmlip.build("ace", species=("Mo",), cutoff=4.0, n_max=(4, 2), l_max=(0, 2))
    model, _ = jaxmlip.fit(potential, frames)
    expected = predicted(model, frames)
    for suffix in ("npz", "yaml", "yace"):
        jaxmlip.save(model, tmp_path / f"m.{suffix}")
        found = predicted(jaxmlip.load(tmp_path / f"m.{suffix}"), frames)
        # splines of 0.001 Å: 1e-9 of the values for smooth functions of a length of 1 Å
        np.testing.assert_allclose(found.energy, expected.energy, rtol=1e-12)
        np.testing.assert_allclose(found.forces, expected.forces, rtol=0, atol=1e-7)


def test_elements_in_another_order_and_fewer(tmp_path):
    path, z = ace_reference.FOLDER / "limntio.yaml", ace_reference.content("limntio")
    chosen = [k for k, one in enumerate(ace_reference.frames(z)) if set(one.symbols) <= {"O", "Li"}]
    frames = [ace_reference.frames(z)[k] for k in chosen]
    model = jaxmlip.load(path, species=("O", "Li"))
    assert model.potential.config.symbols == ("O", "Li")
    assert len(frames) > 3
    np.testing.assert_allclose(predicted(model, frames).energy, z["energy"][chosen], rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    "settings", [GaussNewtonFit(epochs=3), QuasiNewtonFit(epochs=6, n_shapes=1)], ids=lambda x: type(x).__name__
)
def test_a_ladder_of_fits_with_two_densities(settings):
    """Each rung starts from the last and ends lower; Gauss-Newton and L-BFGS see the same energies."""
    frames = jaxmlip.datasets.load("mo", split="test")[:4]
    config = {"cutoff": 4.0, "n_max": (4, 2), "l_max": (0, 1), "parameters": (1.0, 1.0, 1.0, 0.5)}
    config["embedding"] = "FinnisSinclairShiftedScaled"
    first, second = (jaxmlip.build("ace", species=("Mo",), degree=degree, **config) for degree in (3, 6))
    settings = dataclasses.replace(settings, validation_fraction=0.0)
    model, history = jaxmlip.fit(first, frames, settings=settings)
    wide = widened(model, second)
    np.testing.assert_allclose(predicted(wide, frames).energy, predicted(model, frames).energy, rtol=1e-12)
    _, further = jaxmlip.fit(wide, frames, settings=settings)
    losses = [row["train_loss"] for row in (*history.rows, *further.rows)]
    assert losses[-1] < 0.9 * losses[len(history.rows) - 1] < 0.5 * losses[0]


def test_a_ridge_grows_with_roughness():
    """Coefficients under a strong ridge are those of normal equations with the squared roughness as its weights."""
    frames = jaxmlip.datasets.load("mo", split="test")[:2]
    potential = jaxmlip.build("ace", species=("Mo",), cutoff=4.0, n_max=(4, 2), l_max=(0, 1))
    model, _ = jaxmlip.fit(potential, frames, settings=LinearFit(ridge=1e3, force_weight=0.0, energy_weight=1.0))
    rows = design(potential, jax.tree.map(jnp.asarray, model.params), jaxmlip.batch(frames, potential.config))
    energies = [frame.get_potential_energy() for frame in frames]
    A = np.asarray(rows.energy) / np.array([[len(frame)] for frame in frames])
    b = np.array(energies) / [len(frame) for frame in frames]
    rough = potential.stages.roughness()
    features = A[:, 1:] / rough
    features, b = features - features.mean(axis=0), b - b.mean()  # the offset takes the mean
    expected = np.linalg.solve(features.T @ features + 1e3 * np.eye(len(rough)), features.T @ b) / rough
    np.testing.assert_allclose(model.params["coefficients"][0], expected, rtol=1e-6)


DAMAGE = {
    "an alias": (lambda t: t.replace("E0: [0]", "E0: &a [0]\nx: *a"), "aliases"),
    "an object": (lambda t: t.replace("E0: [0]", "E0: !!python/object/apply:os.system [ls]"), "plain data"),
    "not text": (lambda t: t.replace("[0, 0]:", "[[0], 0]:"), "stands twice|expected 2 numbers|plain data"),
    "a name for a number": (lambda t: t.replace("rcut: 6", "rcut: far"), "rcut must be a finite number"),
    "infinite": (lambda t: t.replace("rcut: 6", "rcut: .inf"), "rcut must be a finite number"),
    "too many": (lambda t: t.replace("nradmax: 4", "nradmax: 2000000000"), "nradmax must be a whole number"),
    "another size": (
        lambda t: t.replace("nradmax: 4", "nradmax: 5"),
        "radcoefficients must be finite numbers of shape",
    ),
    "an unknown basis": (lambda t: t.replace("ChebExpCos", "ChebExpCoz"), "did you mean 'ChebExpCos'"),
    "another program's": (lambda t: t.replace("ChebExpCos", "ACE.jl.base"), "unknown radial basis"),
    "an unknown embedding": (lambda t: t.replace("npoti: Finnis", "npoti: Pinnis"), "did you mean 'FinnisSinclair'"),
    "an order too high": (lambda t: t.replace("ms_combs: [0, 0]", "ms_combs: [7, -7]", 1), "above l"),
    "another element": (lambda t: t.replace("elements: [Cu]", "elements: [Qq]"), "must be a list of elements"),
    "cut": (lambda t: t[: len(t) // 2], "plain data|is missing|must"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_files_are_refused(name, tmp_path):
    change, message = DAMAGE[name]
    text = (ace_reference.FOLDER / "cu_fs.yace").read_text()
    assert change(text) != text
    (tmp_path / "m.yace").write_text(change(text))
    with pytest.raises(ValueError, match=message):
        jaxmlip.load(tmp_path / "m.yace")


def test_yaml_of_other_families_is_not_taken_for_one(tmp_path):
    (tmp_path / "m.yaml").write_text("config: {num_layers: 1}\n")
    with pytest.raises(FileNotFoundError, match="nequip"):
        jaxmlip.load(tmp_path / "m.yaml")


@pytest.mark.parametrize("inner", ["zbl", "distance"])
def test_densities_and_cores_have_forces(inner):
    """Two densities, and a core whose ramp the atoms stand in."""
    config = ACEConfig(
        species=("Li", "Sc", "O", "Mn", "Ni"),
        cutoff=4.0,
        n_max=(3, 2),
        l_max=(0, 1),
        n_channels=2,
        radial_basis="ChebExpCos",
        dcut=0.5,
        embedding="FinnisSinclairShiftedScaled",
        parameters=(1.0, 1.0, 0.7, 0.5),
        inner_cutoff=inner,
        r_in=2.4,
        delta_in=1.2,
        core=(1.0, 0.5),
    )
    tested = subject(ace(config))
    for check in (check_forces, check_stress, check_second_derivatives):
        check(tested, cases(4.0)["skewed cell"])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_embeddings_are_odd_and_have_finite_slopes(name):
    F = FUNCTIONS[name]
    x = jnp.asarray([0.0, 1e-12, 1e-7, 1e-3, 2.0])
    np.testing.assert_allclose(F(-x, 0.5), -F(x, 0.5), rtol=1e-15)
    assert F(x, 0.5)[0] == 0
    slope = jax.vmap(jax.grad(lambda y: F(y, 0.5)))(x)
    assert np.isfinite(slope).all()
    assert slope[0] == pytest.approx({"FinnisSinclair": 1000, "FinnisSinclairShiftedScaled": 1.25}[name])
    np.testing.assert_allclose(slope[-1], (F(x + 1e-6, 0.5) - F(x - 1e-6, 0.5))[-1] / 2e-6, rtol=1e-8)


def test_what_cannot_be_coupled_is_refused():
    for ls, couplings in (((1, 1, 1), (1,)), ((1, 2), ()), ((1,), ()), ((2, 2, 2), (5,)), ((1, 1), (0,))):
        with pytest.raises(ValueError, match=r"coupled|invariant|intermediate"):
            momenta(ls, couplings)


def test_a_repeated_factor_that_vanishes():
    """Two equal vectors have no antisymmetric product: the function is there, and zero."""
    odd = Function((0,) * 4, (0,) * 4, (1,) * 4, (1, 1))
    tables = cluster_tables((odd,))
    assert float(jnp.abs(scalar_moments(jnp.ones((3, 1)), tables.contraction)).max()) == 0


def test_settings_that_have_no_meaning():
    for settings in (
        {"n_max": (3, 2)},
        {"l_max": (1, 3, 2)},
        {"parameters": (1.0,)},
        {"n_channels": 2},
        {"delta_in": 1.0},
    ):
        with pytest.raises(ValueError, match="got"):
            ACEConfig(species=("Mo",), **settings)
    assert Bond().basis == ACEConfig(species=("Mo",)).radial_basis
