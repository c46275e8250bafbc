"""SOAP vectors against quippy's, and what a descriptor must be.

Tolerances: vectors have length 1; quippy and an independent program agree to 2e-15, our interpolated radial basis to
7e-15, so 1e-13 leaves a digit of room.
"""

import ase
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gap_reference import REFERENCE, described

from jaxmlip.basis.gaussian_radial import Radial, radial_functions, radial_table
from jaxmlip.descriptors.alchemical import alchemical_embedding
from jaxmlip.descriptors.soap import SOAP, pair_density, power_spectrum, soap, soap_vectors
from jaxmlip.descriptors.soap_gradient import soap_derivatives
from jaxmlip.graph import batch, edge_vectors

LI_NI_TI_O = (3, 22, 28, 8)


@pytest.mark.parametrize("name", ["linitio0", "si"])
def test_vectors_are_quippys(name):
    settings = SOAP(species=LI_NI_TI_O)
    if name == "si":
        settings = SOAP(species=(14,), cutoff=5.4, n_max=8, l_max=8)
    atoms, chosen, expected = described(name)
    np.testing.assert_allclose(np.asarray(soap(atoms, settings))[chosen], expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("nu", ["00", "01", "02", "10", "11", "12", "20", "21"])
def test_compressed_vectors_are_quippys(nu):
    settings = SOAP(species=LI_NI_TI_O, nu_R=int(nu[0]), nu_S=int(nu[1]))
    atoms, *_ = described("linitio0")
    expected = np.load(REFERENCE / "compressed.npz")[f"nu_{nu}"]
    found = soap(atoms, settings)
    assert found.shape[1] == settings.n_features
    np.testing.assert_allclose(found[: len(expected)], expected, rtol=0, atol=1e-13)


def test_the_summed_pair_density_gives_the_same():
    settings = SOAP(species=LI_NI_TI_O, n_max=3, l_max=2)
    atoms, *_ = described("linitio0")
    graph = batch(atoms, settings)
    vectors = jnp.where(graph.mask[:, :, None], edge_vectors(graph), 1.0)
    density = pair_density(graph, vectors, settings).sum(axis=1)
    assert density.shape[1] == settings.n_density
    np.testing.assert_allclose(power_spectrum(density, graph, settings), soap(atoms, settings), rtol=0, atol=1e-14)


def test_derivatives_are_those_of_the_vectors():
    """Against automatic differentiation of the vectors along a random direction; rounding of numbers of size 1."""
    settings = SOAP(species=LI_NI_TI_O, n_max=3, l_max=2, covariance_sigma0=0.1)
    atoms, *_ = described("linitio0")
    x, slopes, graph = soap_derivatives(atoms, settings)
    vectors = jnp.where(graph.mask[:, :, None], edge_vectors(graph), 1.0)
    move = np.random.default_rng(0).normal(size=vectors.shape) * np.asarray(graph.mask)[:, :, None]
    expected, slope = jax.jvp(lambda v: soap_vectors(graph, v, settings), (vectors,), (move,))
    np.testing.assert_allclose(x, expected, rtol=0, atol=1e-14)
    np.testing.assert_allclose(np.einsum("ajx,ajxd->ad", move, np.asarray(slopes)), slope, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="exact spectrum"):
        soap_derivatives(atoms, SOAP(species=LI_NI_TI_O, nu_S=1))


def test_radial_functions_are_interpolated_to_rounding():
    """The largest function is 0.24; float32 keeps seven digits."""
    radial = Radial(5.0, 6, 5, 0.4, 10.0)
    r = np.random.default_rng(0).uniform(0, 5, 200)
    exact = radial_functions(r, radial)
    for itemsize, tolerance in ((8, 3e-15), (4, 1e-7)):
        table = radial_table(radial, itemsize).coefficients
        step = round(len(table) ** 0.5)
        angle = np.arccos(2 * r / 5 - 1)
        products = np.array([np.cos(step * a * angle) * np.cos(b * angle) for a in range(step) for b in range(step)])
        np.testing.assert_allclose(np.tensordot(products.T, table, axes=1), exact, rtol=0, atol=tolerance)


def test_embedded_species_are_invariant_and_fewer():
    exact = SOAP(species=LI_NI_TI_O, n_max=3, l_max=2)
    short = SOAP(species=LI_NI_TI_O, n_max=3, l_max=2, embedding=alchemical_embedding(LI_NI_TI_O, 2))
    whole = SOAP(species=LI_NI_TI_O, n_max=3, l_max=2, embedding=tuple(map(tuple, np.eye(4))))
    atoms, *_ = described("linitio0")
    assert short.n_features < exact.n_features / 3
    np.testing.assert_array_equal(soap(atoms, whole), soap(atoms, exact))
    turned = atoms.copy()
    turned.rotate(37, (1, 2, 3), rotate_cell=True)
    np.testing.assert_allclose(soap(turned, short), soap(atoms, short), rtol=0, atol=1e-13)


def test_an_atom_alone_has_a_vector_without_nan():
    alone = ase.Atoms("O")
    for weight in (1.0, 0.0):
        settings = SOAP(species=LI_NI_TI_O, n_max=2, l_max=1, central_weight=weight)
        x = np.asarray(soap(alone, settings))
        np.testing.assert_allclose(np.linalg.norm(x), weight, rtol=0, atol=1e-15)
        graph = batch(alone, settings)
        slope = jax.grad(lambda c, g=graph, s=settings: power_spectrum(c, g, s).sum())(
            jnp.zeros((1, settings.n_density))
        )
        assert np.isfinite(slope).all()


def test_elements_that_are_alike_share_channels():
    W = np.array(alchemical_embedding(("Li", "Mn", "Fe", "O"), 2))
    similar = W @ W.T
    assert similar[1, 2] > 0.9
    assert abs(similar[1, 3]) < 0.3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_max": 0}, "n_max: expected int ≥ 1"),
        ({"sigma_atom": -1.0}, "sigma_atom: expected float > 0"),
        ({"cutoff_transition_width": 9.0}, "transition_width must lie within"),
        ({"nu_R": 3}, "nu_R: expected int ≥ 0, ≤ 2"),
        ({"embedding": ((1.0,),)}, "row of weights"),
    ],
)
def test_settings_without_meaning_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SOAP(species=("Li", "O"), **settings)
