"""Derivatives of SOAP vectors by the positions of neighbours, contracted with sparse points.

A neighbour's share of the density is a product of a radial and an angular factor, c_klm += G_k Y_m. So with
A_k' = Σ_m Y_m c_k'lm, which costs as much as the density itself, the derivative of the power spectrum is of rank two,

    ∂p_{kk'l}/∂r = f_kk' (∂G_k A_k' + G_k Σ_m ∂Y_m c_k'lm  +  the same with k and k' exchanged),

and no derivative of the density by each neighbour is ever held.
"""

from functools import partial

import ase
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmlip.basis.gaussian_radial import radial_table
from jaxmlip.descriptors.soap import SOAP, angular_part, neighbor_channels, radial_part, with_centre
from jaxmlip.graph.batch import Graph, batch, edge_vectors

Pair = tuple[Array, Array, Array, Array]  # G, ∂G, Y, ∂Y of one degree


def soap_derivatives(
    atoms: ase.Atoms, settings: SOAP
) -> tuple[Float[Array, "n_atoms n_features"], Float[Array, "n_atoms max_neighbors 3 n_features"], Graph]:
    """SOAP vectors, their derivatives ∂p_i/∂r_ij by the vectors to neighbours in 1/Å, and the graph that lists these.

    Neighbour k of atom i is atom ``graph.neighbors[i, k]``; padding has derivatives of zero. Moving an atom moves the
    vectors to it and, the other way, its own, so ∂p_i/∂r_i = −Σ_j ∂p_i/∂r_ij.

    >>> import ase.build
    >>> x, slopes, graph = soap_derivatives(ase.build.bulk("Si"), SOAP(species=("Si",), cutoff=4.0, n_max=2, l_max=2))
    >>> slopes.shape[2:], x.shape == (2, 10)
    ((3, 10), True)

    Raises:
        ValueError: a compressed spectrum (ν_R or ν_S below 2), an unknown element, or overlapping atoms.
    """
    if not settings.nu_R == settings.nu_S == 2:
        raise ValueError("derivatives are written for the exact spectrum: leave nu_R and nu_S at 2, or use jax.jacfwd")
    graph = batch(atoms, settings)
    vectors = jnp.where(graph.mask[:, :, None], edge_vectors(graph), settings.cutoff / 2)
    return *_vectors_and_slopes(settings, graph, vectors), graph


@partial(jax.jit, static_argnums=0)
def _vectors_and_slopes(settings: SOAP, graph: Graph, vectors: Array) -> tuple[Array, Array]:
    pairs, density = _pair_derivatives(graph, vectors, settings)
    P = jnp.stack([_triangle(_outer(c, c), 0.5) for c in density], axis=-1).reshape(graph.n_atoms, -1)
    dP = jnp.stack([_slopes(c, pair) for c, pair in zip(density, pairs)], axis=3)  # [n_atoms, 3, products, degrees, …]
    dP = dP.reshape(*dP.shape[:2], -1, dP.shape[-1])
    if settings.normalise:
        length = _length(jnp.sum(P**2, axis=1, keepdims=True))
        P = P / length
        along = jnp.einsum("axdj,ad->axj", dP, P)
        dP = (dP - along[:, :, None] * P[:, None, :, None]) / length[:, :, None, None]
    last = jnp.full((graph.n_atoms, 1), settings.covariance_sigma0, P.dtype)
    slopes = jnp.where(graph.mask[:, :, None, None], jnp.transpose(dP, (0, 3, 1, 2)), 0)
    return jnp.concatenate([P, last], axis=1), jnp.pad(slopes, ((0, 0), (0, 0), (0, 0), (0, 1)))


def overlap_slopes(
    graph: Graph,
    vectors: Float[Array, "n_atoms max_neighbors 3"],
    settings: SOAP,
    points: Float[Array, "n_sparse n_features"],
) -> tuple[Float[Array, "n_atoms n_sparse"], Float[Array, "n_atoms max_neighbors 3 n_sparse"]]:
    """p_i · s_m and ∂(p_i · s_m)/∂r_ij for the exact spectrum (ν_R = ν_S = 2); ``points`` [n_sparse, n_features]."""
    pairs, density = _pair_derivatives(graph, vectors, settings)
    P = jnp.concatenate([_triangle(_outer(c, c), 0.5) for c in density], axis=1)  # [n_atoms, n_features − 1]
    dP = jnp.concatenate([_slopes(c, pair) for c, pair in zip(density, pairs)], axis=2)
    n_sparse, n_degrees = points.shape[0], settings.l_max + 1
    s = jnp.swapaxes(points[:, :-1].reshape(n_sparse, -1, n_degrees), 1, 2).reshape(n_sparse, -1)  # l slowest, as here
    trailing = settings.covariance_sigma0 * points[:, -1]
    length = jnp.ones_like(P[:, :1])
    if settings.normalise:
        length = _length(jnp.sum(P**2, axis=1, keepdims=True))
    p = P / length
    overlap = p @ s.T
    slopes = jnp.einsum("axdj,md->ajxm", dP, s)
    if settings.normalise:
        along = jnp.einsum("axdj,ad->ajx", dP, p)
        slopes = slopes - along[..., None] * overlap[:, None, None]
    return overlap + trailing[None], slopes / length[:, :, None, None]


def overlap_slopes_by_density(
    graph: Graph,
    vectors: Float[Array, "n_atoms max_neighbors 3"],
    settings: SOAP,
    points: Float[Array, "n_sparse n_features"],
) -> tuple[Float[Array, "n_atoms n_sparse"], Float[Array, "n_atoms max_neighbors 3 n_sparse"]]:
    """As `overlap_slopes`, but contracts the points with the density first: cheaper where vectors are long.

    With T_m the symmetric matrices that a point is the lower triangle of, ∂(p · s_m)/∂c = 2 T_m c.
    """
    pairs, density = _pair_derivatives(graph, vectors, settings)
    T = _symmetric(points, settings)
    half = [jnp.einsum("nkl,alm->ankm", T[:, degree], c) for degree, c in enumerate(density)]
    overlap = jnp.stack([jnp.einsum("ankm,akm->an", h, c) for h, c in zip(half, density)]).sum(axis=0)
    # p · p needs the atom's own vector as a point, in the same form
    own = [jnp.einsum("akm,alm->akl", c, c) for c in density]
    own_half = [jnp.einsum("akl,alm->akm", P, c) for P, c in zip(own, density)]
    length = jnp.ones_like(overlap[:, :1])
    gradient = jnp.concatenate([2 * h.reshape(*h.shape[:2], -1) for h in half], axis=2)
    if settings.normalise:
        length = _length(jnp.stack([jnp.sum(P**2, axis=(1, 2)) for P in own]).sum(axis=0)[:, None])
        overlap = overlap / length
        along = jnp.concatenate([2 * h.reshape(h.shape[0], -1) for h in own_half], axis=1) / length
        gradient = gradient - overlap[:, :, None] * along[:, None]

    def of_atom(one: tuple[list[Pair], Array]) -> Array:
        mine, slope = one
        return jnp.einsum("xcj,nc->jxn", _density_slopes(mine), slope)

    slopes = jax.lax.map(of_atom, (pairs, gradient / length[:, :, None]))
    return overlap + settings.covariance_sigma0 * points[None, :, -1], slopes


def _length(squares: Float[Array, "n_atoms 1"]) -> Float[Array, "n_atoms 1"]:
    """Of the vector of each atom; 1 where it is zero."""
    return jnp.sqrt(jnp.where(squares > 0, squares, 1))


def _density_slopes(pairs: list[Pair]) -> Float[Array, "3 n_density max_neighbors"]:
    """∂c by each neighbour of one atom."""
    parts = []
    for G, dG, Y, dY in pairs:
        part = dG[:, :, None] * Y[None, None] + G[None, :, None] * dY[:, None]
        parts.append(part.reshape(3, -1, part.shape[-1]))
    return jnp.concatenate(parts, axis=1)


def _symmetric(points: Array, settings: SOAP) -> Float[Array, "n_sparse n_degrees n_functions n_functions"]:
    """T with p · s = Σ_l Σ_kk' T_lkk' Σ_m c_klm c_k'lm."""
    n = settings.channels.shape[1] * settings.n_max
    s = jnp.swapaxes(points[:, :-1].reshape(points.shape[0], -1, settings.l_max + 1), 1, 2)
    rows, columns = np.maximum.outer(np.arange(n), np.arange(n)), np.minimum.outer(np.arange(n), np.arange(n))
    factors = np.where(np.eye(n) > 0, 1, np.sqrt(0.5))
    return s[:, :, rows * (rows + 1) // 2 + columns] * jnp.asarray(factors, s.dtype)[None, None]


def _pair_derivatives(graph: Graph, vectors: Array, settings: SOAP) -> tuple[list[Pair], list[Array]]:
    """G [n_atoms, K, max_neighbors], Y [n_atoms, 2l + 1, …], their derivatives (an axis 3 after the first), and c."""
    table = radial_table(settings.radial, vectors.dtype.itemsize)
    v = jnp.swapaxes(vectors, 1, 2)
    r = jnp.sqrt(jnp.sum(v * v, axis=1, keepdims=True))
    unit = v / r
    g, dg = jax.jvp(lambda r: radial_part(r, graph.mask, settings, table), (r,), (jnp.ones_like(r),))
    w = neighbor_channels(graph, settings, vectors.dtype)
    axes = jnp.eye(3, dtype=v.dtype)[:, None, :, None]
    across = (axes - unit[None] * jnp.moveaxis(unit, 1, 0)[:, :, None]) / r[None]  # ∂(unit)/∂x, ∂y, ∂z

    def turned(direction: Array) -> list[Array]:
        return jax.jvp(lambda u: angular_part(u, settings.l_max), (unit,), (direction,))[1]

    result = []
    for degree, (Y, dY) in enumerate(zip(angular_part(unit, settings.l_max), jax.vmap(turned, out_axes=1)(across))):
        G, dG = (_with_channels(w, part[:, degree]) for part in (g, dg))
        result.append((G, dG[:, None] * unit[:, :, None], Y, dY))
    density = [jnp.einsum("akj,amj->akm", G, Y) for G, _, Y, _ in result]
    return result, with_centre(density, graph, settings, table)


def _with_channels(w: Array, g: Array) -> Array:
    """Functions of each channel: [n_atoms, n_channels · n_max, max_neighbors]."""
    return (w[:, :, None] * g[:, None]).reshape(g.shape[0], -1, g.shape[2])


def _outer(first: Array, second: Array) -> Array:
    """Σ_m c_km c_k'm as [n_atoms, K, K, 1]: the last axis stands for neighbours."""
    return jnp.einsum("akm,alm->akl", first, second)[..., None]


def _slopes(c: Array, pair: Pair) -> Float[Array, "n_atoms 3 n_products max_neighbors"]:
    """∂p of one degree by each neighbour, products as `_triangle` orders them."""
    G, dG, Y, dY = pair
    A, dA = jnp.einsum("akm,amj->akj", c, Y), jnp.einsum("akm,axmj->axkj", c, dY)
    products = dG[:, :, :, None] * A[:, None, None] + G[:, None, :, None] * dA[:, :, None]
    flat = _triangle(products.reshape(-1, *products.shape[2:]), 1.0, keep=True)
    return flat.reshape(*products.shape[:2], *flat.shape[1:])


def _triangle(products: Array, diagonal: float, *, keep: bool = False) -> Array:
    """Rows of the lower triangle of ``products`` [n, K, K, …] plus its transpose, off-diagonal ones times √2.

    ``diagonal`` 1 is for derivatives, where the transpose is the other half of the product rule; ½ for the spectrum.
    """
    n = products.shape[1]
    rows = []
    for k in range(n):
        both = products[:, k, : k + 1] + products[:, : k + 1, k]
        factors = np.where(np.arange(k + 1) == k, 1.0, np.sqrt(2)) * diagonal
        rows.append(both * jnp.asarray(factors, products.dtype)[None, :, None])
    result = jnp.concatenate(rows, axis=1)
    return result if keep else result[..., 0]
