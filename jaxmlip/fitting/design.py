"""Rows of the design matrix of a potential: derivatives of energies, forces and stresses by its coefficients.

Columns: the offsets of each species, then for each species the features of one atom summed over its atoms,
E = Σ_i [c_0(s_i) + Σ_k c_k(s_i) f_k(i)]: the invariants of its stages (`Linear`), then their products, in the order of
``params``. Where all species share the coefficients the features are summed over all atoms. After these, where asked
for, the parameters of the density (``Inner``): the energy is not linear in them, and these are the derivatives at their
values.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmlip.fitting.rows import Rows
from jaxmlip.graph.batch import Graph
from jaxmlip.graph.derivatives import arriving, forces_by_species, per_graph, stress, virials
from jaxmlip.potentials.base import (
    Linear,
    Params,
    Potential,
    Products,
    block_size,
    map_blocks,
    safe_edges,
)
from jaxmlip.potentials.linear_stages import invariant_jacobian, product_features
from jaxmlip.programs import program

_CPU_BLOCK = 4  # atoms; on a CPU the derivatives of their density stay in the cache
_TANGENTS = 32  # parameters of the density differentiated at once: bounds the memory


class _Invariants(NamedTuple):
    """Invariants of each atom and their derivatives with respect to its neighbours' vectors, zero for padding."""

    values: Float[Array, "n_atoms n_invariants"]
    gradient: Float[Array, "n_atoms max_neighbors 3 n_invariants"]


@program(static_argnums=(0, 3, 4))
def design(
    potential: Potential, params: Params, graph: Graph, with_stress: bool = True, with_inner: bool = False
) -> Rows:
    """Rows of a batch; ``params`` matter only to families whose features have parameters of their own.

    With D_im = ∂B_i/∂r_im the force on atom a is Σ_m (D_am − D_reverse(am)) c, each D with the coefficients of its own
    central atom.

    References:
        Thompson et al., J. Comput. Phys. 285, 316 (2015), equations 13-16.
    """
    stages = potential.stages
    if not isinstance(stages, Linear):
        raise ValueError(f"{type(potential.config).__name__} is not linear in its coefficients")
    vectors = safe_edges(graph, potential.config)
    block = block_size(graph.n_atoms, _CPU_BLOCK if stages.gradient is None else potential.block, 4096)
    found = map_blocks(partial(_derivatives, stages, params, with_inner), graph, vectors, block)
    n_species, dtype = len(potential.config.species), vectors.dtype
    counts = jnp.where(graph.atom_mask[:, None], _one_hot(graph.species, n_species, dtype), 0)
    own = [jnp.sum(counts, axis=1, keepdims=True) if params["coefficients"].ndim == 1 else counts, counts]

    energy, forces = [per_graph(graph, counts)], [jnp.zeros((graph.n_atoms, 3, n_species), dtype)]
    tensors = [jnp.zeros((graph.n_graphs, 3, 3, n_species), dtype)]
    for part, mine in zip(found, own):
        products = None if stages.products is None else stages.products(part.values.shape[1])
        values = mine[:, :, None] * _features(part.values, products)[:, None, :]
        energy.append(per_graph(graph, values).reshape(graph.n_graphs, -1))
        forces.append(_forces(graph, part, mine, products).reshape(graph.n_atoms, 3, -1))
        if with_stress:
            tensors.append(_stress(graph, vectors, part, mine, products))
    empty = jnp.zeros((graph.n_graphs, 3, 3, 0), dtype)
    rows = (jnp.concatenate(parts, axis=-1) for parts in (energy, forces, tensors if with_stress else [empty]))
    return Rows(*rows)


def _derivatives(linear: Linear, params: Params, with_inner: bool, graph: Graph, vectors: Array) -> list[_Invariants]:
    """B and ∂B_i/∂r_im = ∂B_i/∂ρ_i · ∂ρ_im/∂r_im with the density ρ_i = Σ_m ρ_im, one matrix product an atom.

    With the parameters p of the density the same for ∂E_i/∂p, E_i(ρ_i) = Σ_k c_k B_k:
    ∂²E_i/∂p∂r_im = (∂²E_i/∂ρ_i² ∂ρ_i/∂p) · ∂ρ_im/∂r_im + ∂E_i/∂ρ_i · ∂²ρ_im/∂p∂r_im.
    """
    if linear.gradient is not None:
        return [_Invariants(*linear.gradient(params, graph, vectors))]
    total = linear.density(params, graph, vectors).sum(axis=1)
    slope = _by_vectors(partial(linear.density, params, graph), vectors)
    slope = slope.reshape(slope.shape[0], -1, slope.shape[-1])  # [n_atoms, max_neighbors · 3, n_basis]

    def chain(outer: Array) -> Array:
        moved = jnp.einsum("aep,akp->aek", slope, outer).reshape(*vectors.shape, -1)
        return jnp.where(graph.mask[:, :, None, None], moved, 0)

    found = [
        _Invariants(linear.invariants(params, graph, total), chain(invariant_jacobian(linear, params, graph, total)))
    ]
    if not with_inner or linear.inner is None:
        return found
    slopes = linear.inner.slopes

    def energy(total: Array) -> Array:
        return jnp.sum(linear.invariants(params, graph, total) @ params["coefficients"])

    weights, curvature = jax.linearize(jax.grad(energy), total)
    moved, _ = slopes(params, graph, vectors, weights)
    bent = jax.lax.map(curvature, jnp.moveaxis(moved, 1, 0), batch_size=_TANGENTS)
    mixed = _by_vectors(lambda v: slopes(params, graph, v, weights)[1], vectors)
    values = jnp.einsum("akp,ap->ak", moved, weights)
    return [*found, _Invariants(values, chain(jnp.moveaxis(bent, 0, 1)) + mixed)]


def _by_vectors(function: Callable, vectors: Array) -> Array:
    """∂f_im/∂r_im of ``function(vectors)`` [n_atoms, max_neighbors, n], before its last axis."""

    def along(direction: Array) -> Array:
        return jax.jvp(function, (vectors,), (jnp.broadcast_to(direction, vectors.shape),))[1]

    return jax.vmap(along, out_axes=2)(jnp.eye(3, dtype=vectors.dtype))


def design_names(potential: Potential, *, with_inner: bool) -> tuple[str, ...]:
    """Names of the params that have columns in the design matrix, in its order; none without linear stages."""
    stages = potential.stages
    if not isinstance(stages, Linear):
        return ()
    return ("offsets", "coefficients", *([stages.inner.name] if with_inner and stages.inner is not None else []))


def _features(B: Array, products: Products | None) -> Array:
    return B if products is None else jnp.concatenate([B, product_features(B, products)], axis=1)


def _of_products(outer: Array, of: Products) -> Array:
    """Derivatives f (B_k ∂B_l + B_l ∂B_k) of products from ``outer`` = B_k ∂B_l in the last two axes."""
    factors = of.factors.astype(outer.dtype).reshape((1,) * (outer.ndim - 2) + (-1,))
    return (outer[..., of.first, of.second] + outer[..., of.second, of.first]) * factors


def _forces(graph: Graph, derivatives: _Invariants, own: Array, products: Products | None) -> Array:
    """[n_atoms, 3, n_species, n_features]; one species for all where ``own`` has one column."""
    B, D = derivatives
    linear = forces_by_species(graph, D, own)
    if products is None:
        return linear
    other = jnp.where(graph.mask[:, :, None], own[graph.neighbors], 0)
    factors = (other[:, :, :, None] * B[graph.neighbors][:, :, None, :]).reshape(*other.shape[:2], -1)
    outer = jnp.einsum("amx,amcl->acxl", factors, arriving(graph, D))
    outer = outer.reshape(*outer.shape[:2], own.shape[1], B.shape[1], B.shape[1])
    mine = jnp.einsum("as,ak,acl->acskl", own, B, D.sum(axis=1))
    return jnp.concatenate([linear, _of_products(mine - outer, products)], axis=-1)


def _stress(graph: Graph, vectors: Array, derivatives: _Invariants, own: Array, products: Products | None) -> Array:
    """[n_graphs, 3, 3, n_species · n_features]; zero where the cell spans no volume."""
    B, D = derivatives
    virial = virials(vectors, D)
    if products is not None:
        outer = _of_products(B[:, None, None, :, None] * virial[:, :, :, None, :], products)
        virial = jnp.concatenate([virial, outer], axis=-1)
    return stress(graph, own[:, None, None, :, None] * virial[:, :, :, None, :]).reshape(graph.n_graphs, 3, 3, -1)


def _one_hot(species: Array, n_species: int, dtype) -> Array:
    return jax.nn.one_hot(species, n_species, dtype=dtype)
