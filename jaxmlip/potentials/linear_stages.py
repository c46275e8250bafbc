"""What follows from the stages of a linear potential alone: energies, products of invariants, slopes of invariants."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmlip.graph.batch import Graph
from jaxmlip.potentials.base import AtomFn, Linear, Params, Products


def linear_energies(stages: Linear) -> AtomFn:
    """Energies of atoms from the stages of a linear potential: enough for a family without a shorter way.

    >>> stages = Linear(lambda params, graph, vectors: vectors, lambda params, graph, density: density)
    >>> atomic_energies = linear_energies(stages)  # of Σ_j r_ij · coefficients
    """

    def atomic_energies(params: Params, graph: Graph, vectors: Array) -> Array:
        B = stages.invariants(params, graph, stages.density(params, graph, vectors).sum(axis=1))
        if stages.products is not None:
            B = jnp.concatenate([B, product_features(B, stages.products(B.shape[1]))], axis=1)
        c = params["coefficients"]
        c = c[graph.species] if c.ndim == 2 else c[None]
        return params["offsets"][graph.species] + jnp.sum(B * c, axis=1)

    return atomic_energies


def product_features(B: Float[Array, "n_atoms n_invariants"], of: Products) -> Float[Array, "n_atoms n_products"]:
    """F B_k B_l."""
    return B[:, of.first] * B[:, of.second] * of.factors.astype(B.dtype)[None]


def invariant_jacobian(
    stages: Linear, params: Params, graph: Graph, density: Float[Array, "n_atoms n_basis"]
) -> Float[Array, "n_atoms n_invariants n_basis"]:
    """∂B/∂density ``[n_atoms, n_invariants, n_basis]``: the family's own, else by one backward pass an invariant."""
    if stages.jacobian is not None:
        return stages.jacobian(params, graph, density)
    value, pullback = jax.vjp(partial(stages.invariants, params, graph), density)
    unit = jnp.eye(value.shape[1], dtype=value.dtype)
    one_each = jnp.broadcast_to(unit[:, None, :], (unit.shape[0], *value.shape))
    return jnp.moveaxis(jax.vmap(lambda cotangent: pullback(cotangent)[0])(one_each), 0, 1)
