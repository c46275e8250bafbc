"""Moment tensors of the neighbours of an atom and their contractions to scalars (MTP).

    M_{μ,ν}(i) = Σ_j f_μ(r_ij) r̂_ij ⊗ … ⊗ r̂_ij   (ν factors),

by component: Σ_j f_μ (x/r)^p (y/r)^q (z/r)^t with p + q + t = ν. Index lists say which products of moments are summed
to others (`jaxmlip.descriptors.contraction`).

Atoms run fastest in memory, so that a processor works on several at once.

References:
    Shapeev, Multiscale Model. Simul. 14, 1153 (2016), section 3.
    Novikov, Gubaev, Podryabinkin, Shapeev, Mach. Learn.: Sci. Technol. 2, 025002 (2021), equations 2-6.
"""

from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer

from jaxmlip.basis.chebyshev import chebyshev
from jaxmlip.descriptors.contraction import Contraction, Lists, contraction, rows_of
from jaxmlip.descriptors.moment_basis import MomentBasis, monomials


class MomentTables(NamedTuple):
    """Index lists in the order of evaluation."""

    max_degree: int
    degrees: tuple[int, ...]  # the highest ν of each μ
    basic: Int[np.ndarray, " n_basic"]  # of all components up to these degrees, μ by μ, those of the list
    names: tuple[Int[np.ndarray, " n_basic"], Int[np.ndarray, " n_basic"]]  # μ and monomial of each basic moment
    contraction: Contraction


def moment_tables(basis: MomentBasis) -> MomentTables:
    """Index lists prepared for evaluation.

    >>> from jaxmlip.descriptors.moment_basis import moment_basis
    >>> [len(layer.left) for layer in moment_tables(moment_basis(16)).contraction.layers]
    [575, 51]
    """
    degrees = tuple(
        int(basis.basic[basis.basic[:, 0] == mu, 1:].sum(axis=1).max(initial=0)) for mu in range(basis.n_mu)
    )
    columns = _columns(degrees, basis.basic)
    names = (basis.basic[:, 0], _columns((max(degrees),), basis.basic * [0, 1, 1, 1]))
    pairs, factors = basis.times[:, [0, 1, 3]], basis.times[:, 2].astype(float)
    lists = Lists(len(basis.basic), pairs, factors, basis.scalars, basis.n_moments)
    return MomentTables(max(degrees), degrees, columns, names, contraction(lists))


def radial_functions(
    r: Float[Array, "*pairs"], coefficients: Float[Array, "n_mu n_radial *#pairs"], config
) -> Float[Array, "n_mu *pairs"]:
    """f_μ(r) = Σ_k c_μk Q_k(r), see `radial_basis`."""
    T, cut = _polynomials(r, config)
    return jnp.sum(coefficients * T[None], axis=1) * cut[None]


def radial_basis(r: Float[Array, "*pairs"], config) -> Float[Array, "n_radial *pairs"]:
    """Q_k(r) = scaling T_k(s) (R − r)², s = (2r − R_min − R)/(R − R_min): Chebyshev polynomials on [R_min, R].

    Zero from R on. Below R_min the polynomials go on, or stay what they are there with ``repulsive``.
    """
    T, cut = _polynomials(r, config)
    return T * cut[None]


def _polynomials(r: Array, config) -> tuple[Array, Array]:
    distance = jnp.maximum(r, config.r_min) if config.repulsive else r
    s = (2 * distance - (config.r_min + config.cutoff)) / (config.cutoff - config.r_min)
    cut = jnp.where(r < config.cutoff, config.scaling * (config.cutoff - distance) ** 2, 0)
    return jnp.stack(chebyshev(s, config.radial_basis_size - 1)), cut


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def direction_monomials(directions: Float[Array, "3 *pairs"], max_degree: int) -> Float[Array, "n_monomials *pairs"]:
    """x^p y^q z^t of unit vectors by degree, each degree from the one before."""
    x, y, z = directions
    degrees = [jnp.ones_like(x)[None]]
    for degree in range(1, max_degree + 1):
        lower = degrees[-1]  # x first: those without x are its last `degree`, that without x and y its last
        degrees.append(jnp.concatenate([x[None] * lower, y[None] * lower[-degree:], z[None] * lower[-1:]]))
    return jnp.concatenate(degrees)


@direction_monomials.defjvp
def _moved_monomials(max_degree: int, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """∂/∂x of x^p y^q z^t is p times a monomial that is there already."""
    (directions,), (moved,) = primals, tangents
    found = direction_monomials(directions, max_degree)
    along = (1,) * (directions.ndim - 1)
    parts = [
        power.astype(found.dtype).reshape(-1, *along) * found[lower] * step[None]
        for power, lower, step in zip(*_derivatives(max_degree), moved, strict=True)
    ]
    return found, parts[0] + parts[1] + parts[2]


@lru_cache
def _derivatives(max_degree: int) -> tuple[Integer[np.ndarray, "3 n"], Integer[np.ndarray, "3 n"]]:
    """p, q and t of all monomials, and which are those of one less."""
    powers = np.array([name for degree in range(max_degree + 1) for name in monomials(degree)]).reshape(-1, 3)
    number = {name: k for k, name in enumerate(map(tuple, powers.tolist()))}
    lower = [[number[tuple(name)] for name in np.maximum(powers - step, 0).tolist()] for step in np.eye(3, dtype=int)]
    return powers.T, np.array(lower, np.uint16)


def basic_moments(
    radial: Float[Array, "n_mu n_atoms max_neighbors"],
    monomials: Float[Array, "n_monomials n_atoms max_neighbors"],
    tables: MomentTables,
) -> Float[Array, "n_basic n_atoms"]:
    """Σ_j f_μ(r_j) x^p y^q z^t / r^ν of the listed components: a matrix product an atom."""
    wide = _count(tables.degrees[0])
    first = jnp.einsum("am,cam->ca", radial[0], monomials[:wide])
    return _listed([first, *_rest(radial, monomials, tables)], tables)


def pair_moments(
    radial: Float[Array, "n_mu n_atoms max_neighbors"],
    monomials: Float[Array, "n_monomials n_atoms max_neighbors"],
    tables: MomentTables,
) -> Float[Array, "n_basic n_atoms max_neighbors"]:
    """The terms of `basic_moments`, neighbour by neighbour."""
    terms = [radial[mu][None] * monomials[: _count(degree)] for mu, degree in enumerate(tables.degrees)]
    return _listed(terms, tables)


def radial_slopes(
    Q: Float[Array, "n_radial n_atoms max_neighbors"],
    monomials: Float[Array, "n_monomials n_atoms max_neighbors"],
    neighbor: Float[Array, "n_atoms max_neighbors n_species"],
    weights: Float[Array, "n_atoms n_basic"],
    tables: MomentTables,
) -> tuple[Float[Array, "n_atoms n_coefficients n_basic"], Float[Array, "n_atoms max_neighbors n_coefficients"]]:
    """Derivatives by the radial coefficients c_zμk of M, and of Σ w M pair by pair, for neighbours of species z.

    ∂M_μn/∂c_zμk = Σ_j δ(z, z_j) Q_k(r_j) Y_n(r̂_j) with the monomials Y_n, ``neighbor`` = δ(z, z_j);
    ∂(w·M_j)/∂c_zμk = δ(z, z_j) Q_k(r_j) Σ_n w_μn Y_n(r̂_j).
    """
    mu, monomial = tables.names
    n_atoms, n_mu, width = weights.shape[0], len(tables.degrees), monomials.shape[0]
    sums = jnp.einsum("kamz,nam->azkn", Q[..., None] * neighbor[None], monomials)
    of_mu = jnp.asarray(mu == np.arange(n_mu)[:, None], sums.dtype)
    moments = sums[:, :, None, :, monomial] * of_mu[:, None, :]
    by_mu = jnp.zeros((n_atoms, n_mu, width), weights.dtype).at[:, mu, monomial].set(weights)
    seen = jnp.einsum("aun,nam->amu", by_mu, monomials)
    pairs = neighbor[..., None, None] * seen[:, :, None, :, None] * jnp.moveaxis(Q, 0, -1)[:, :, None, None, :]
    n_columns = neighbor.shape[-1] * n_mu * Q.shape[0]
    return moments.reshape(n_atoms, n_columns, -1), pairs.reshape(n_atoms, -1, n_columns)


def _rest(radial: Array, monomials: Array, tables: MomentTables) -> list[Array]:
    """All but μ = 0, which has the highest degree by far: no work on monomials that only it needs."""
    degrees = tables.degrees[1:]
    every = jnp.einsum("uam,cam->uca", radial[1:], monomials[: _count(max(degrees, default=0))])
    return [every[k, : _count(degree)] for k, degree in enumerate(degrees)]


def _columns(degrees: tuple[int, ...], basic: np.ndarray) -> np.ndarray:
    """Where each listed component stands among all up to the degree of its μ."""
    names = [(mu, *c) for mu, degree in enumerate(degrees) for d in range(degree + 1) for c in monomials(d)]
    column = {name: k for k, name in enumerate(names)}
    return np.array([column[tuple(row)] for row in basic.tolist()], np.int32)


def _listed(by_mu: list[Array], tables: MomentTables) -> Array:
    every = jnp.concatenate(by_mu)
    in_order = np.array_equal(tables.basic, np.arange(every.shape[0]))
    return every if in_order else rows_of(every, tables.basic)


def _count(degree: int) -> int:
    """Monomials up to a degree."""
    return (degree + 1) * (degree + 2) * (degree + 3) // 6
