"""The moment-tensor basis: its size at every level, its invariance, and its evaluation against plain loops."""

import hashlib
import json

import jax.numpy as jnp
import mtp_reference
import numpy as np
import pytest

from jaxmlip.descriptors.contraction import moment_energy, scalar_moments
from jaxmlip.descriptors.moment_basis import MomentBasis, moment_basis, monomials, scalar_graphs
from jaxmlip.descriptors.moments import (
    basic_moments,
    direction_monomials,
    moment_tables,
    pair_moments,
    radial_functions,
)
from jaxmlip.potentials.mtp import MTPConfig

LEVELS = json.loads((mtp_reference.FOLDER / "levels.json").read_text())


def plain_scalars(basis, vectors):
    """Every scalar of one atom as the definition says, one product after another; f_μ(r) = cos((μ + 1) r)."""
    r = np.linalg.norm(vectors, axis=1)
    x, y, z = (vectors / r[:, None]).T
    M = np.zeros(basis.n_moments)
    for n, (mu, p, q, t) in enumerate(basis.basic.tolist()):
        M[n] = np.sum(np.cos((mu + 1) * r) * x**p * y**q * z**t)
    for i, j, m, k in basis.times.tolist():
        M[k] += m * M[i] * M[j]
    return M[basis.scalars]


def reference_basis(name):
    z = mtp_reference.content(name)
    lists = (z[f"alpha_{key}"].astype(np.int32) for key in ("index_basic", "index_times", "moment_mapping"))
    return MomentBasis(*lists, mtp_reference.n_moments(z))


@pytest.mark.parametrize("level", [int(level) for level in LEVELS])
def test_sizes_of_every_level(level):
    expected, basis, graphs = LEVELS[str(level)], moment_basis(level), scalar_graphs(level)
    assert len(basis.scalars) == len(graphs) == expected["alpha_scalar_moments"]
    assert len(basis.basic) == expected["alpha_index_basic"]
    assert basis.n_mu == expected["radial_funcs"]
    assert basis.basic[:, 1:].sum(axis=1).max() == expected["max_tensor_rank"]
    assert 1 + max(len(graph.nodes) for graph in graphs) == expected["max_body_order"]
    levels = {str(k): sum(graph.level == k for graph in graphs) for k in range(2, level + 1, 2)}
    assert levels == expected["scalar_levels"]
    assert basis.times.dtype == np.int32
    assert len(basis.times) <= expected["alpha_index_times"], "more products than MLIP's lists"


def test_the_order_of_scalars_is_that_of_saved_models():
    """Files hold a level and coefficients, so this digest of the names of the scalars must never change."""
    names = [[g.nodes, list(g.edges.values())] for level in range(2, 29, 2) for g in scalar_graphs(level)]
    assert (
        hashlib.sha256(json.dumps(names).encode()).hexdigest()
        == "72965da543e78037e6c727e99a71bfad82c85523e7f73e488caa15f05652e872"
    )


@pytest.mark.parametrize("name", ["random11_level04", "random11_level08", "random11_level16"])
def test_the_scalars_are_mlips(name):
    """One to one, whatever their order; 1e-10 relative: sums of products in another order."""
    theirs, rng = reference_basis(name), np.random.default_rng(0)
    ours = moment_basis(int(name[-2:]))
    np.testing.assert_array_equal(ours.basic, theirs.basic)
    samples = [rng.normal(size=(6, 3)) for _ in range(3)]
    A, B = (np.array([plain_scalars(basis, v) for v in samples]) for basis in (ours, theirs))
    same = np.all(np.abs(A[:, :, None] - B[:, None, :]) <= 1e-10 * np.abs(B[:, None, :]), axis=0)
    assert (same.sum(axis=0) == 1).all()
    assert (same.sum(axis=1) == 1).all()


@pytest.mark.parametrize("level", [12, 16, 20, 24])
def test_scalars_do_not_change_when_space_is_turned(level):
    """1e-9 of the largest: products of up to four moments with multiplicities up to 5,000."""
    rng = np.random.default_rng(1)
    vectors, turn = rng.normal(size=(6, 3)), np.linalg.qr(rng.normal(size=(3, 3)))[0]
    first, second = (plain_scalars(moment_basis(level), v) for v in (vectors, -vectors @ turn))
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-9 * np.abs(first).max())


@pytest.mark.parametrize("basis", [moment_basis(14), reference_basis("random11_level16")], ids=["ours", "MLIP's"])
def test_evaluation_in_layers_is_the_plain_one(basis):
    """1e-12 relative to the largest scalar: other orders of the same sums."""
    rng, tables = np.random.default_rng(2), moment_tables(basis)
    vectors = rng.normal(size=(5, 7, 3))
    expected = np.array([plain_scalars(basis, v) for v in vectors])
    v = vectors.transpose(2, 0, 1)
    r = np.linalg.norm(v, axis=0)
    radial = jnp.cos(np.arange(1, basis.n_mu + 1)[:, None, None] * r)
    parts = radial, direction_monomials(jnp.asarray(v / r), tables.max_degree)
    M = basic_moments(*parts, tables)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(pair_moments(*parts, tables).sum(axis=-1), M, rtol=0, atol=1e-13 * np.abs(M).max())
    np.testing.assert_allclose(scalar_moments(M, tables.contraction).T, expected, rtol=0, atol=1e-12 * scale)
    xi = jnp.asarray(rng.normal(size=tables.contraction.n_scalars))
    np.testing.assert_allclose(moment_energy(M, xi, tables.contraction), expected @ xi, rtol=0, atol=1e-11 * scale)


def test_an_own_list_may_leave_out_radial_functions_and_components():
    """Only what is listed exists: here M_{2,1} and one component of M_{0,2}, and nothing with μ = 1."""
    lists = [[2, 1, 0, 0], [2, 0, 0, 1], [0, 0, 2, 0]], [[0, 0, 3, 3], [1, 1, 1, 3], [3, 2, 2, 4]], [4, 2, 3]
    basis = MomentBasis(*(np.array(x, np.int32) for x in lists), 5)
    tables, vectors = moment_tables(basis), np.random.default_rng(4).normal(size=(1, 5, 3))
    v = vectors.transpose(2, 0, 1)
    r = np.linalg.norm(v, axis=0)
    radial = jnp.cos(np.arange(1, 4)[:, None, None] * r)
    M = basic_moments(radial, direction_monomials(jnp.asarray(v / r), tables.max_degree), tables)
    np.testing.assert_allclose(
        scalar_moments(M, tables.contraction)[:, 0], plain_scalars(basis, vectors[0]), rtol=1e-12
    )


def test_monomials_are_in_the_order_of_their_exponents():
    directions = np.random.default_rng(3).normal(size=(3, 4))
    names = [c for degree in range(6) for c in monomials(degree)]
    expected = [np.prod(directions ** np.array(c)[:, None], axis=0) for c in names]
    np.testing.assert_allclose(direction_monomials(jnp.asarray(directions), 5), expected, rtol=1e-13)


@pytest.mark.parametrize("repulsive", [False, True])
def test_radial_functions_are_chebyshevs_polynomials(repulsive):
    """T_k(s) = cos(k arccos s) inside; below min_dist they go on as polynomials, or stay with ``repulsive``."""
    config = MTPConfig(species=("Mo",), cutoff=5.0, min_dist=2.0, scaling=0.3, radial_basis_size=6, repulsive=repulsive)
    r = np.array([1.5, 2.0, 2.7, 4.999, 5.0, 5.3])
    unit = np.eye(6)[:, :, None]
    f = np.asarray(radial_functions(jnp.asarray(r), jnp.asarray(unit), config))
    inside = np.maximum(r, 2.0) if repulsive else r
    s = (2 * inside - 7) / 3
    T = np.array([np.polynomial.chebyshev.chebval(s, np.eye(6)[k]) for k in range(6)])
    np.testing.assert_allclose(f, 0.3 * T * np.where(r < 5, (5 - inside) ** 2, 0), atol=1e-12)
