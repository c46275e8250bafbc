"""SNAP against LAMMPS's own numbers (tests/reference/snap, LAMMPS 22 Jul 2025, float64).

Tolerances: the issue asks for 1e-8 eV/atom, 1e-7 eV/Å and 1e-8 eV/Å³; both codes sum some 10⁵ products in float64, so
1e-10 leaves two digits of room over what is seen (1e-12 eV at energies of 500 eV, 3e-13 eV/Å, 1e-14 eV/Å³).
"""

from pathlib import Path

import ase
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import eval_chebyu

import jaxmlip
from jaxmlip.basis.hyperspherical import Rotations, factors, harmonics, pair_harmonics
from jaxmlip.basis.hyperspherical_products import coupled, products
from jaxmlip.descriptors.bispectrum import PairGeometry, rotations
from jaxmlip.fitting.design import design
from jaxmlip.potentials.base import descriptor
from jaxmlip.potentials.snap import SNAPConfig, snap

REFERENCE = Path(__file__).parent / "reference" / "snap"
LDR = ("linear", "quadratic", "inner", "noswitch", "chem", "chem_plain")


def ldr_frames(reference) -> list[ase.Atoms]:
    starts = np.cumsum([0, *reference["n_atoms"]])
    return [
        ase.Atoms(reference["symbols"][a:b], positions=reference["positions"][a:b], cell=cell, pbc=True)
        for a, b, cell in zip(starts, starts[1:], reference["cell"])
    ]


@pytest.mark.parametrize("name", ["Mo_snap", "Mo_qsnap", "Si_snap", "Si_qsnap"])
def test_published_potentials_on_their_test_sets(name):
    reference = np.load(REFERENCE / f"{name}.npz")
    model = jaxmlip.load(REFERENCE / f"{name}.snapcoeff")
    frames = jaxmlip.datasets.load(name[:2].lower(), split="test")
    n_graphs = len(frames)
    found = jaxmlip.predict(model, jaxmlip.batch(frames, model.potential.config))
    stress = np.asarray(found.stress)[:, [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    np.testing.assert_array_equal(reference["n_atoms"], [len(f) for f in frames])
    np.testing.assert_allclose(found.energy, reference["energy"], rtol=0, atol=1e-10 * 64)
    np.testing.assert_allclose(found.forces, reference["forces"], rtol=0, atol=1e-10)
    np.testing.assert_allclose(stress, reference["stress"].reshape(n_graphs, 6), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", LDR)
def test_several_elements_and_every_flag(name):
    reference = np.load(REFERENCE / f"ldr4_{name}.npz")
    model = jaxmlip.load(REFERENCE / f"ldr4_{name}.snapcoeff")
    graph = jaxmlip.batch(ldr_frames(reference), model.potential.config)
    found = jaxmlip.predict(model, graph)
    for key in ("energy", "forces", "stress", "atomic_energies"):
        np.testing.assert_allclose(getattr(found, key), reference[key], rtol=0, atol=1e-10, err_msg=key)


@pytest.mark.parametrize("name", LDR)
def test_bispectrum_components(name):
    """1e-12 relative to the largest component; LAMMPS and an independent code differ by 5e-15."""
    reference = np.load(REFERENCE / f"ldr4_{name}.npz")
    model = jaxmlip.load(REFERENCE / f"ldr4_{name}.snapcoeff")
    config = model.potential.config
    graph = jaxmlip.batch(ldr_frames(reference)[0], config)
    vectors = jaxmlip.graph.edge_vectors(graph)
    vectors = jnp.where(graph.mask[:, :, None], vectors, 1.0)
    features = descriptor(model.potential)(model.params, graph, vectors)
    expected = reference["bispectrum"]
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_design_matrix_is_compute_snap():
    """Rows of LAMMPS's `compute snap` array, in its rotated frame; 1e-12 of the largest entry, as above."""
    reference = np.load(REFERENCE / "ldr4_linear_compute_snap.npz")
    model = jaxmlip.load(REFERENCE / "ldr4_linear.snapcoeff")
    frame = ldr_frames(np.load(REFERENCE / "ldr4_linear.npz"))[0]
    rows = design(model.potential, model.params, jaxmlip.batch(frame, model.potential.config))
    array = reference["array"][:, :-1]
    n_species, n_features = 4, model.potential.config.n_features
    assert tuple(reference["types"]) == model.potential.config.symbols
    energy = np.asarray(rows.energy)[0, n_species:]
    forces = np.asarray(rows.forces)[:, :, n_species:]
    rotated = np.einsum("acp,cd->adp", forces, reference["rotation"]).reshape(-1, n_species * n_features)
    virial = -np.asarray(rows.stress)[0, :, :, n_species:] * frame.get_volume()
    virial = np.einsum("xyp,xc,yd->cdp", virial, reference["rotation"], reference["rotation"])
    scale = np.abs(array).max()
    np.testing.assert_allclose(energy, array[0], rtol=0, atol=1e-12 * scale)
    np.testing.assert_allclose(rotated, array[1 : 1 + 3 * len(frame)], rtol=0, atol=1e-12 * scale)
    six = virial[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    np.testing.assert_allclose(six, array[-6:], rtol=0, atol=1e-12 * scale)


@pytest.mark.parametrize(
    "settings",
    [
        {"twojmax": 3},
        {"twojmax": 2, "quadratic": True, "radii": (0.5, 0.4), "weights": (1.0, -0.4)},
        {"twojmax": 2, "chemflag": True},
    ],
)
def test_design_matrix_times_coefficients_is_the_prediction(settings):
    """1e-12 relative: two ways to sum the same products."""
    potential = snap(SNAPConfig(species=("Li", "O"), cutoff=4.0, **settings))
    cell = [[2.9, 0, 0], [1.4, 2.6, 0], [0.9, -0.7, 2.7]]
    frames = [
        ase.Atoms("LiO", [[0, 0, 0], [1.1, 1.3, 1.0]], cell=cell, pbc=True),
        ase.Atoms("O2", [[0, 0, 0], [0, 1, 1]]),
    ]
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: rng.normal(size=x.shape), potential.init(jax.random.key(0), None))
    graph = jaxmlip.batch(frames, potential.config)
    rows, found = design(potential, params, graph), jaxmlip.predict(jaxmlip.Model(potential, params), graph)
    coefficients = np.concatenate([params["offsets"], params["coefficients"].ravel()])
    for key in ("energy", "forces", "stress"):
        expected = getattr(found, key)
        np.testing.assert_allclose(
            getattr(rows, key) @ coefficients, expected, rtol=0, atol=1e-12 * np.abs(expected).max(), err_msg=key
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cutoff": 0.0}, "cutoff: expected float > 0, got 0.0"),
        ({"cutoff": -1.0}, "cutoff: expected float > 0"),
        ({"twojmax": 15}, "twojmax: expected int ≥ 0, ≤ 14, got 15"),
        ({"species": ("Li", "Li")}, "once"),
        ({"species": ("Lu", "Xx")}, "element 'Xx'"),
        ({"weights": (1.0,)}, "weights needs one number"),
        ({"rmin0": 6.0}, "rmin0 must lie between 0 and the cutoff"),
        ({"sinner": (1.0, 1.0)}, "go together"),
    ],
)
def test_settings_without_meaning_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SNAPConfig(**{"species": ("Li", "O"), "cutoff": 4.0, **settings})


def test_component_counts():
    counts = [SNAPConfig(species=("Li",), cutoff=4.0, twojmax=j).n_features for j in range(2, 9)]
    assert counts == [5, 8, 14, 20, 30, 40, 55]
    assert 11 * (1 + SNAPConfig(species=("Li",), cutoff=4.0, twojmax=6, quadratic=True).n_features) == 5456


@pytest.mark.parametrize("r", [0.3, 1.2, 1.9])
def test_pairs_below_rmin0_as_lammps_maps_them(r):
    """LAMMPS's own formulas, z0 = r / tan θ0 and lengths from a positive root, which change sign below rmin0."""
    config = SNAPConfig(species=("Mo",), cutoff=4.0, twojmax=3, rmin0=1.5)
    vector = r * np.array([2.0, -1.0, 2.0]) / 3
    one = jnp.ones((1, 1))
    pair = PairGeometry(4.0 * one, one, one > 0)
    found = rotations(jnp.asarray(vector, float)[None, None], pair, config)
    theta0 = (r - 1.5) * config.rfac0 * np.pi / (4.0 - 1.5)
    z0 = r / np.tan(theta0)
    x, y, z = vector
    a, b = np.array([z0, -z]) / np.hypot(r, z0), np.array([y, -x]) / np.hypot(r, z0)
    weight = 1.0 if r <= 1.5 else (1 + np.cos(np.pi * (r - 1.5) / 2.5)) / 2
    np.testing.assert_allclose(np.ravel(found), [*a, *b, weight], rtol=0, atol=1e-14)


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_harmonics_and_their_products(device, monkeypatch):
    """Σ φ(p) φ(p') = U_j(p · p'), and Z is the mean of f g φ over the sphere by an exact quadrature; 1e-13: rounding.

    Elsewhere than on a CPU the same terms are added otherwise.
    """
    twojmax, rng = 5, np.random.default_rng(0)
    table = harmonics(twojmax)

    def at(p: np.ndarray) -> np.ndarray:
        p = jnp.asarray(p)
        of = factors(Rotations(*p.T[:, :, None], jnp.ones((len(p), 1))), twojmax)
        return np.asarray(pair_harmonics(of, twojmax))[0].T

    p = rng.normal(size=(6, 4))
    p /= np.linalg.norm(p, axis=1, keepdims=True)
    phi = at(p)
    for level in range(twojmax + 1):
        own = phi[:, table.own(level)]
        np.testing.assert_allclose(own @ own.T, eval_chebyu(level, p @ p.T), rtol=0, atol=1e-13)
    x, weights = np.polynomial.legendre.leggauss(twojmax + 3)
    angles = 2 * np.pi * np.arange(3 * twojmax + 1) / (3 * twojmax + 1)
    x, alpha, beta = (part.ravel() for part in np.meshgrid(x, angles, angles, indexing="ij"))
    big, small = np.sqrt((1 + x) / 2), np.sqrt((1 - x) / 2)
    points = np.stack([big * np.cos(alpha), big * np.sin(alpha), small * np.cos(beta), small * np.sin(beta)], axis=1)
    phi, weights = at(points), np.repeat(weights / 2, angles.size**2) / angles.size**2
    c = rng.normal(size=(table.level.size, 2, 3))
    monkeypatch.setattr(jax, "default_backend", lambda: device)
    found = coupled(jnp.asarray(c), twojmax)
    for level, pairs in enumerate(products(twojmax).pairs):
        for Z, (first, second) in zip(found[level], pairs, strict=True):
            f, g = (np.einsum("pn,nea->pea", phi[:, table.own(one)], c[table.own(one)]) for one in (first, second))
            mean = np.einsum("p,pm,pea,pfa->mefa", weights, phi[:, table.own(level)], f, g, optimize=True)
            np.testing.assert_allclose(Z, mean, rtol=0, atol=1e-13 * np.abs(mean).max() + 1e-13)
