"""Rows of the design matrix of a linear potential: energies, forces and stresses as functions of its coefficients.

Columns: the offsets of each species, then for each species the features of one atom summed over its atoms,
E = Σ_i [c_0(s_i) + Σ_k c_k(s_i) f_k(i)], exactly as `Potential.features` and ``params`` order them. Where all species
share the coefficients (`Potential.shared`) the features are summed over all atoms.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmlip.graph.batch import Graph, edge_vectors
from jaxmlip.potentials.base import CPU_BLOCK, Params, Potential, map_blocks, safe_vectors


class Design(NamedTuple):
    """A row times the coefficients is an energy in eV, a force component in eV/Å, a stress component in eV/Å³."""

    energy: Float[Array, "n_graphs n_columns"]
    forces: Float[Array, "n_atoms 3 n_columns"]
    stress: Float[Array, "n_graphs 3 3 n_columns"]


class _Invariants(NamedTuple):
    """Invariants of each atom and their derivatives with respect to its neighbours' vectors and its virial."""

    values: Float[Array, "n_atoms n_invariants"]
    gradient: Float[Array, "n_atoms max_neighbors 3 n_invariants"]


@partial(jax.jit, static_argnums=(0, 3))
def design(potential: Potential, params: Params, graph: Graph, with_stress: bool = True) -> Design:
    """The rows of one batch; ``params`` matter only to families whose features have parameters of their own.

    With D_im = ∂B_i/∂r_im the force on atom a is Σ_m (D_am − D_reverse(am)) c, each D with the coefficients of its own
    central atom.

    References:
        Thompson et al., J. Comput. Phys. 285, 316 (2015), equations 13-16.
    """
    vectors = safe_vectors(edge_vectors(graph), graph, potential.config.cutoff)
    block = CPU_BLOCK if jax.default_backend() == "cpu" else 4096
    B, D = map_blocks(partial(_derivatives, potential, params), graph, vectors, min(block, graph.n_atoms))
    D = jnp.where(graph.mask[:, :, None, None], D, 0)
    n_species = len(potential.config.species)
    counts = jnp.where(graph.atom_mask[:, None], _one_hot(graph.species, n_species, B.dtype), 0)
    own = jnp.sum(counts, axis=1, keepdims=True) if potential.shared else counts
    quadratic = potential.linear is not None and potential.linear.quadratic

    features = _features(B, quadratic)
    energy = _segment(graph, own[:, :, None] * features[:, None, :])
    forces = _forces(graph, (B, D), own, quadratic)
    energy = jnp.concatenate([_segment(graph, counts), energy.reshape(graph.n_graphs, -1)], axis=1)
    forces = _no_offsets(forces.reshape(graph.n_atoms, 3, -1), n_species)
    stress = jnp.zeros((graph.n_graphs, 3, 3, 0))
    if with_stress:
        stress = _no_offsets(_stress(graph, vectors, (B, D), own, quadratic), n_species)
    return Design(energy, forces, stress)


def _derivatives(potential: Potential, params: Params, graph: Graph, vectors: Array) -> _Invariants:
    """B and ∂B_i/∂r_im = ∂B_i/∂(density) · ∂(density of the pair)/∂r_im, one matrix product an atom."""
    linear = potential.linear
    if linear is None:
        raise ValueError(f"{type(potential.config).__name__} is not linear in its coefficients")
    density_fn = partial(linear.density, params, graph)

    def along(direction: Array) -> Array:
        return jax.jvp(density_fn, (vectors,), (jnp.broadcast_to(direction, vectors.shape),))[1]

    slope = jax.vmap(along, out_axes=2)(jnp.eye(3, dtype=vectors.dtype))  # [n_atoms, max_neighbors, 3, n_basis]
    total = density_fn(vectors).sum(axis=1)
    flat = slope.reshape(slope.shape[0], -1, slope.shape[-1])
    gradient = jnp.einsum("aep,akp->aek", flat, linear.jacobian(params, graph, total))
    return _Invariants(linear.invariants(params, graph, total), gradient.reshape(*slope.shape[:3], -1))


def _features(B: Array, quadratic: bool) -> Array:
    if not quadratic:
        return B
    return jnp.concatenate([B, _half_triangle(B[:, :, None] * B[:, None, :]) / 2], axis=1)


def _half_triangle(outer: Array) -> Array:
    """``outer`` plus its transpose as the upper triangle of the last two axes, the diagonal halved.

    With ``outer`` = B_k ∂B_l this is the derivative of ½ B_k² and B_k B_l.
    """
    k, l = np.triu_indices(outer.shape[-1])  # noqa: E741
    half = np.where(k == l, 0.5, 1.0).astype(outer.dtype).reshape((1,) * (outer.ndim - 2) + (-1,))
    return (outer[..., k, l] + outer[..., l, k]) * half


def _forces(graph: Graph, derivatives: tuple[Array, Array], own: Array, quadratic: bool) -> Array:
    """[n_atoms, 3, n_species, n_features]; one species for all where ``own`` has one column."""
    B, D = derivatives
    arriving = D.reshape(-1, *D.shape[2:])[graph.reverse]  # the neighbours' invariants seen from their side
    other = jnp.where(graph.mask[:, :, None], own[graph.neighbors], 0)
    leaving = D.sum(axis=1)
    linear = jnp.einsum("as,ack->acsk", own, leaving) - jnp.einsum("ams,amck->acsk", other, arriving)
    if not quadratic:
        return linear
    factors = (other[:, :, :, None] * B[graph.neighbors][:, :, None, :]).reshape(*other.shape[:2], -1)
    outer = jnp.einsum("amx,amcl->acxl", factors, arriving)
    outer = outer.reshape(*outer.shape[:2], own.shape[1], B.shape[1], B.shape[1])
    mine = jnp.einsum("as,ak,acl->acskl", own, B, leaving)
    return jnp.concatenate([linear, _half_triangle(mine - outer)], axis=-1)


def _stress(graph: Graph, vectors: Array, derivatives: tuple[Array, Array], own: Array, quadratic: bool) -> Array:
    """[n_graphs, 3, 3, n_species · n_features]; zero where the cell spans no volume."""
    B, D = derivatives
    virial = jnp.einsum("amx,amyk->axyk", vectors, D)
    virial = (virial + jnp.swapaxes(virial, 1, 2)) / 2
    if quadratic:
        outer = _half_triangle(B[:, None, None, :, None] * virial[:, :, :, None, :])
        virial = jnp.concatenate([virial, outer], axis=-1)
    summed = _segment(graph, own[:, None, None, :, None] * virial[:, :, :, None, :])
    volume = jnp.abs(jnp.linalg.det(graph.cell))[:, None, None, None, None]
    stress = jnp.where(volume > 0, summed / jnp.where(volume > 0, volume, 1), 0)
    return stress.reshape(graph.n_graphs, 3, 3, -1)


def _no_offsets(rows: Array, n_species: int) -> Array:
    """Offsets do not act on forces and stresses: zeros in their columns."""
    return jnp.concatenate([jnp.zeros((*rows.shape[:-1], n_species), rows.dtype), rows], axis=-1)


def _segment(graph: Graph, rows: Array) -> Array:
    return jax.ops.segment_sum(rows, graph.atom_graph, graph.n_graphs)


def _one_hot(species: Array, n_species: int, dtype) -> Array:
    return jax.nn.one_hot(species, n_species, dtype=dtype)
