"""Energies, forces and virials of one rank's own atoms, on the device."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxmlip.graph.batch import Graph
from jaxmlip.graph.derivatives import arriving, virials, voigt
from jaxmlip.graph.tables import shortened
from jaxmlip.potentials.base import energies_and_gradient, safe_vectors
from jaxmlip.potentials.model import Model
from jaxmlip.simulate.lammps.surroundings import Tables


class Evaluated(NamedTuple):
    """Of all rows; those of own atoms are right."""

    energies: Float[Array, " n_rows"]  # eV
    forces: Float[Array, "n_rows 3"]  # eV/Å
    virials: Float[Array, "n_rows 6"]  # eV; LAMMPS's sign, −∂E/∂ε shared out, in Voigt order
    overflow: Bool[Array, ""]  # an atom has more neighbours within the cutoff than there is room for


@partial(jax.jit, static_argnames="inner")
def evaluated(
    model: Model, tables: Tables, positions: Float[Array, "n_points 3"], cell: Float[Array, "3 3"], *, inner: int
) -> Evaluated:
    """Forces on an atom from the energies of itself and its neighbours, all of which have rows.

    An atom's share of the virial is that of the heat current, see `jaxmlip.graph.derivatives.atomic_stresses`.
    """
    cutoff, n_rows = model.potential.config.cutoff, len(tables.counted)
    shifts = tables.shifts.astype(cell.dtype)
    images = sum(shifts[:, :, k, None] * cell[None, None, k] for k in range(3))
    vectors = positions[tables.neighbors] - positions[:n_rows, None, :] + images
    near = (jnp.sum(vectors**2, axis=-1) < cutoff**2) & tables.mask
    cut = shortened(near, tables.reverse, inner)
    itself = jnp.arange(n_rows, dtype=jnp.int32)[:, None]
    neighbors = jnp.where(cut.mask, jnp.take_along_axis(tables.neighbors, cut.slot, axis=1), itself)
    graph = Graph(
        positions=positions[:n_rows],
        species=tables.species[:n_rows],
        cell=cell[None],
        atom_graph=jnp.zeros(n_rows, jnp.int32),
        atom_mask=tables.counted,
        neighbors=neighbors,
        neighbor_species=tables.species[neighbors],
        shifts=jnp.take_along_axis(tables.shifts, cut.slot[:, :, None], axis=1),
        reverse=cut.reverse,
        mask=cut.mask,
    )
    vectors = safe_vectors(jnp.take_along_axis(vectors, cut.slot[:, :, None], axis=1), graph, cutoff)
    energies, gradient = energies_and_gradient(model.potential, model.params, graph, vectors)
    gradient = jnp.where(graph.mask[:, :, None], gradient, 0)
    incoming = jnp.where(graph.mask[:, :, None], arriving(graph, gradient), 0)
    forces = jnp.sum(gradient - incoming, axis=1)
    return Evaluated(energies, forces, voigt(virials(vectors, incoming)), jnp.any(cut.count > inner))
