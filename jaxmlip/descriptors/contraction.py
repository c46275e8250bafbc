"""Sums of products of two moments, layer by layer: how moment tensors (MTP) and cluster functions (ACE) are contracted.

Lists say which products of moments are summed to others, M_k += f M_i M_j. Moments that are factors of others are
stored, in layers: a layer is computed at once from those before it. All other moments only enter an energy, with a
coefficient, and are never stored.

Atoms run fastest in memory, so that a processor works on several at once.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


class MomentProducts(NamedTuple):
    """Sums of products of two moments: result[k] = Σ factor · M[left] · M[right], sorted by k."""

    left: Int[np.ndarray, " n_products"]
    right: Int[np.ndarray, " n_products"]
    factor: Float[np.ndarray, " n_products"]
    result: Int[np.ndarray, " n_products"]
    n_results: int


class Contraction(NamedTuple):
    """Lists in the order of evaluation: from the basic moments of an atom to its scalars."""

    layers: tuple[MomentProducts, ...]  # stored moments: the basic ones, then these
    products: MomentProducts  # scalars that are not stored
    stored: tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]  # scalars that are: their moments, their places
    n_basic: int

    @property
    def n_scalars(self) -> int:
        """Basis functions of an atom."""
        return self.products.n_results


class Lists(NamedTuple):
    """Which products make which moments: the first ``n_basic`` are given; factors of a moment stand before it."""

    n_basic: int
    pairs: Int[np.ndarray, "n_products 3"]  # i, j, k of M_k += f M_i M_j
    factors: Float[np.ndarray, " n_products"]
    scalars: Int[np.ndarray, " n_scalars"]  # which moments are the basis functions
    n_moments: int


def contraction(lists: Lists) -> Contraction:
    """Lists prepared for evaluation."""
    n_basic, used = lists.n_basic, np.unique(lists.pairs[:, :2])
    depth = np.zeros(lists.n_moments, int)
    for i, j, k in lists.pairs.tolist():
        depth[k] = max(depth[k], depth[i] + 1, depth[j] + 1)
    place = np.full(lists.n_moments, -1)
    place[:n_basic] = np.arange(n_basic)
    n_stored, layers = n_basic, []
    for level in range(1, int(depth[used].max(initial=0)) + 1):
        members = used[(depth[used] == level) & (used >= n_basic)]
        layers.append(_products(lists, place, members))
        place[members] = n_stored + np.arange(len(members))
        n_stored += len(members)
    stored = place[lists.scalars] >= 0
    at = (place[lists.scalars[stored]].astype(np.int32), np.flatnonzero(stored).astype(np.int32))
    final = np.where(stored, -1, lists.scalars)
    return Contraction(tuple(layers), _products(lists, place, final), at, n_basic)


def stored_moments(basic: Float[Array, "n_basic n_atoms"], tables: Contraction) -> Float[Array, "n_stored n_atoms"]:
    """Basic moments and all others that are factors."""
    moments = basic
    for layer in tables.layers:
        moments = jnp.concatenate([moments, _sums(_multiply(moments, layer), layer)])
    return moments


def scalar_moments(basic: Float[Array, "n_basic n_atoms"], tables: Contraction) -> Float[Array, "n_scalars n_atoms"]:
    """The basis functions B_n of each atom."""
    moments = stored_moments(basic, tables)
    rows, places = tables.stored
    return _sums(_multiply(moments, tables.products), tables.products).at[places].set(moments[rows])


def moment_energy(
    basic: Float[Array, "n_basic n_atoms"], coefficients: Float[Array, " n_scalars"], tables: Contraction
) -> Float[Array, " n_atoms"]:
    """Σ_n ξ_n B_n of each atom, without the scalars that are not factors."""
    moments = stored_moments(basic, tables)
    rows, places = tables.stored
    weights = coefficients[tables.products.result]
    final = jnp.sum(weights[:, None] * _multiply(moments, tables.products), axis=0)
    return final + jnp.sum(coefficients[places][:, None] * moments[rows], axis=0)


class Step(NamedTuple):
    """Terms of one kind of product: what is added to which slope."""

    source: Int[np.ndarray, " n_terms"]
    moment: Int[np.ndarray, " n_terms"]
    factor: Float[np.ndarray, " n_terms"]
    result: Int[np.ndarray, " n_terms"]
    n_results: int


class Slopes(NamedTuple):
    """Derivatives of each scalar by the moments that it is made of, from the scalar down to the basic moments.

    A step adds Σ factor · slope[source] · M[moment] to the slopes there are; the last ones are ∂B/∂M of the basic
    moments, at ``places`` of the flattened ``[n_scalars, n_basic]``.
    """

    steps: tuple[Step, ...]
    places: Int[np.ndarray, " n_slopes"]


def slopes(tables: Contraction) -> Slopes:
    """Lists for `scalar_slopes`: for each scalar only the moments that it has."""
    n_stored = tables.n_basic + sum(layer.n_results for layer in tables.layers)
    depth, start = np.zeros(n_stored, int), tables.n_basic
    made: dict[int, list] = {}  # products of each stored moment
    for level, layer in enumerate(tables.layers, 1):
        depth[start : start + layer.n_results] = level
        for i, j, f, k in zip(*(x.tolist() for x in layer[:4])):
            made.setdefault(start + k, []).append((i, j, f))
        start += layer.n_results
    known: dict[tuple[int, int], int] = {(scalar, -1): scalar for scalar in range(tables.n_scalars)}
    terms: dict[tuple[int, int], list] = {}  # of (scalar, moment): source, moment, factor
    for i, j, f, scalar in zip(*(x.tolist() for x in tables.products[:4])):
        terms.setdefault((scalar, i), []).append((scalar, j, f))
        terms.setdefault((scalar, j), []).append((scalar, i, f))
    for row, scalar in zip(*(x.tolist() for x in tables.stored)):
        for i, j, f in made.get(row, []):  # none: a basic moment
            terms.setdefault((scalar, i), []).append((scalar, j, f))
            terms.setdefault((scalar, j), []).append((scalar, i, f))
    steps = []
    for level in range(len(tables.layers), -1, -1):
        mine = sorted(name for name in terms if depth[name[1]] == level)
        for name in mine:
            known[name] = len(known)
        rows = [(*term, k) for k, name in enumerate(mine) for term in terms[name]]
        steps.append(_step(rows, len(mine)))
        for scalar, moment in mine if level else []:
            for i, j, f in made[moment]:
                terms.setdefault((scalar, i), []).append((known[scalar, moment], j, f))
                terms.setdefault((scalar, j), []).append((known[scalar, moment], i, f))
    places = [scalar * tables.n_basic + moment for scalar, moment in mine]
    return Slopes(tuple(steps), np.array(places, np.int32))


def _step(rows: list, n_results: int) -> Step:
    source, moment, factor, result = np.array(rows, float).reshape(-1, 4).T
    return Step(source.astype(np.int32), moment.astype(np.int32), factor, result.astype(np.int32), n_results)


def scalar_slopes(
    tables: Contraction, lists: Slopes, total: Float[Array, "n_atoms n_basic"]
) -> Float[Array, "n_atoms n_scalars n_basic"]:
    """∂B/∂M of each atom by the lists of `slopes`: each scalar costs what it is made of, not what all are made of."""
    moments = stored_moments(total.T, tables)
    found = jnp.ones((tables.n_scalars, total.shape[0]), total.dtype)
    for step in lists.steps:
        factor = jnp.asarray(step.factor, total.dtype)[:, None]
        terms = factor * rows_of(found, step.source) * rows_of(moments, step.moment)
        new = jax.ops.segment_sum(terms, step.result, step.n_results, indices_are_sorted=True)
        found = jnp.concatenate([found, new])
    last = found[found.shape[0] - len(lists.places) :]
    J = jnp.zeros((tables.n_scalars * tables.n_basic, total.shape[0]), total.dtype).at[lists.places].set(last)
    rows, places = (x[tables.stored[0] < tables.n_basic] for x in tables.stored)
    J = J.at[places * tables.n_basic + rows].set(1) if len(rows) else J
    return jnp.moveaxis(J.reshape(tables.n_scalars, tables.n_basic, -1), -1, 0)


def _products(lists: Lists, place: np.ndarray, members: np.ndarray) -> MomentProducts:
    """The products that make ``members``, with the places of the stored moments."""
    rank = np.full(len(place), -1)
    rank[members[members >= 0]] = np.flatnonzero(members >= 0)
    mine = np.flatnonzero(rank[lists.pairs[:, 2]] >= 0)
    mine = mine[np.argsort(rank[lists.pairs[mine, 2]], kind="stable")]
    i, j, k = lists.pairs[mine].T
    left, right, result = (x.astype(np.int32) for x in (place[i], place[j], rank[k]))
    return MomentProducts(left, right, lists.factors[mine].astype(float), result, len(members))


def _multiply(moments: Array, products: MomentProducts) -> Array:
    factor = jnp.asarray(products.factor, moments.dtype)[:, None]
    return factor * rows_of(moments, products.left) * rows_of(moments, products.right)


def rows_of(
    moments: Float[Array, "n_moments n_atoms"], index: Int[np.ndarray, " n_rows"]
) -> Float[Array, "n_rows n_atoms"]:
    """Rows by an index that is known to be within."""
    return moments.at[index].get(mode="promise_in_bounds")


def _sums(terms: Array, products: MomentProducts) -> Array:
    return jax.ops.segment_sum(
        terms, products.result, products.n_results, indices_are_sorted=True, mode="promise_in_bounds"
    )
