"""What follows from the derivatives of energies by edge vectors, for every potential and every fit: forces, stress.

With g_im = ∂E/∂r_im of neighbour m of atom i

    F_i = Σ_m (g_im − g_reverse(im)),        σ = (1/V) ∂E/∂ε = (1/V) Σ_im r_im ⊗ g_im,

symmetric, positive under tension (ASE's sign). Further axes of g are further functions: the columns of a design matrix.

References:
    Fan et al., Phys. Rev. B 92, 094301 (2015), equations 23-25: partial forces and the virial of many-body potentials
    under periodic boundaries.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmlip.data.labels import VOIGT
from jaxmlip.graph.batch import Graph


def arriving(
    graph: Graph, gradient: Float[Array, "n_atoms max_neighbors 3 *columns"]
) -> Float[Array, "n_atoms max_neighbors 3 *columns"]:
    """G of the same pairs seen from the neighbours, g_reverse(im); of padding its own."""
    return gradient.reshape(-1, *gradient.shape[2:])[graph.reverse]


def forces(
    graph: Graph, gradient: Float[Array, "n_atoms max_neighbors 3 *columns"]
) -> Float[Array, "n_atoms 3 *columns"]:
    """Forces in eV/Å of ``gradient`` in eV/Å; what padding holds does not count."""
    mask = graph.mask.reshape(graph.mask.shape + (1,) * (gradient.ndim - 2))
    gradient = jnp.where(mask, gradient, 0)
    return jnp.sum(gradient - arriving(graph, gradient), axis=1)


def forces_by_species(
    graph: Graph,
    gradient: Float[Array, "n_atoms max_neighbors 3 n_columns"],
    own: Float[Array, "n_atoms n_species"],
) -> Float[Array, "n_atoms 3 n_species n_columns"]:
    """`forces`, each g in the columns of its own central atom: ``own`` is one at its species, zero for padding.

    ``gradient`` is zero for padding. With one species in ``own`` all atoms share its columns.
    """
    leaving, incoming = gradient.sum(axis=1), arriving(graph, gradient)
    if own.shape[1] == 1:
        return (leaving - incoming.sum(axis=1))[:, :, None]
    other = jnp.where(graph.mask[:, :, None], own[graph.neighbors], 0)
    return jnp.einsum("as,ack->acsk", own, leaving) - jnp.einsum("ams,amck->acsk", other, incoming)


def virials(
    vectors: Float[Array, "n_atoms max_neighbors 3"], gradient: Float[Array, "n_atoms max_neighbors 3 *columns"]
) -> Float[Array, "n_atoms 3 3 *columns"]:
    """Σ_m r_im ⊗ g_im of each atom in eV, symmetric; ``gradient`` is zero for padding. Their sum is ∂E/∂ε."""
    if gradient.ndim == 3:  # written out: batched matrix products of this size are slow
        found = jnp.sum(vectors[:, :, :, None] * gradient[:, :, None, :], axis=1)
    else:
        found = jnp.einsum("amx,amyk->axyk", vectors, gradient)
    return (found + jnp.swapaxes(found, 1, 2)) / 2


def stress(graph: Graph, of_atoms: Float[Array, "n_atoms 3 3 *columns"]) -> Float[Array, "n_graphs 3 3 *columns"]:
    """Stress in eV/Å³ from the `virials` of atoms; zero where the cell spans no volume."""
    total = per_graph(graph, of_atoms)
    volume = jnp.abs(jnp.linalg.det(graph.cell)).reshape(-1, *(1,) * (total.ndim - 1))
    return jnp.where(volume > 0, total / jnp.where(volume > 0, volume, 1), 0)


def atomic_stresses(
    graph: Graph, vectors: Float[Array, "n_atoms max_neighbors 3"], gradient: Float[Array, "n_atoms max_neighbors 3"]
) -> Float[Array, "n_atoms 3 3"]:
    """(1/V) Σ_m r_mi ⊗ ∂E_m/∂r_mi, symmetric, in eV/Å³: the energies of an atom's neighbours by the vectors to it.

    So shared out stresses are those of the heat current (equation 25 of the reference). They add up to the stress.
    ``gradient`` is zero for padding; V is the volume of the cell.
    """
    volume = jnp.abs(jnp.linalg.det(graph.cell))[graph.atom_graph][:, None, None]
    return virials(-vectors, arriving(graph, gradient)) / volume


def per_graph(graph: Graph, of_atoms: Float[Any, "n_atoms *columns"]) -> Float[Any, "n_graphs *columns"]:
    """Sums over the atoms of each structure; NumPy arrays stay NumPy's."""
    if isinstance(of_atoms, np.ndarray):
        sums = np.zeros((graph.n_graphs, *of_atoms.shape[1:]), of_atoms.dtype)
        np.add.at(sums, graph.atom_graph, of_atoms)
        return sums
    return jax.ops.segment_sum(of_atoms, graph.atom_graph, graph.n_graphs)


def voigt(tensor: Float[Any, "n 3 3 *columns"]) -> Float[Any, "n 6 *columns"]:
    """xx, yy, zz, yz, xz, xy of symmetric tensors."""
    return tensor[:, *VOIGT]


def deformed(graph: Graph, positions: Float[Array, "n_atoms 3"], F: Float[Array, "3 3"]) -> Graph:
    """The graph with its atoms at ``positions``, then all of it deformed: r = F r⁰; neighbours stay as listed."""
    return graph._replace(positions=positions @ F.T, cell=graph.cell @ F.T)
