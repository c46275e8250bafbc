"""Energies of occupations of fixed sites, and of the few sites that a change of occupants reaches.

E = Σ_i E_i(occupants within the cutoff of i): after a change only the sites within the cutoff of a changed one are
evaluated again, at a cost that does not depend on the size of the cell. All that is used of a potential is its
contract, ``atomic_energies`` of edge vectors; one that passes messages (``local=False``) is evaluated whole instead.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer

from jaxmlip.cathodes.disorder.moves import VACANCY
from jaxmlip.cathodes.disorder.sites import Sites
from jaxmlip.config import unknown_name
from jaxmlip.graph.batch import Graph, batch, edge_vectors
from jaxmlip.potentials.base import Potential, safe_vectors
from jaxmlip.potentials.model import Model


class Lattice(NamedTuple):
    """Sites on the device, with the neighbours that never change; a pytree."""

    graph: Graph  # with an atom on every site; its species are replaced by an occupation
    vectors: Float[Array, "n_sites max_neighbors 3"]  # Å
    reached: Int[Array, "n_sites n_reached"]  # sites whose energy depends on a site's occupant; padding: n_sites
    sublattice: Int[Array, " n_sites"]
    members: Int[Array, " n_sites"]  # sites, sublattice by sublattice
    first: Int[Array, " n_sublattices"]  # where a sublattice starts there
    size: Int[Array, " n_sublattices"]

    @property
    def n_sites(self) -> int:
        """Number of sites."""
        return self.members.shape[0]


def lattice_of(sites: Sites, potential: Potential, dtype: str | None = None) -> Lattice:
    """``sites`` for ``potential``: all neighbours within its cutoff.

    Raises:
        ValueError: a species of ``sites`` that the potential does not know.
    """
    config = potential.config
    symbols = config.symbols
    for symbol in sites.symbols:
        if symbol not in (*symbols, "X"):
            raise ValueError(unknown_name("element", symbol, symbols) + ": fit a potential whose species include it")
    full = sites.frame.copy()
    full.numbers[:] = int(config.species[0])
    full.pbc = True
    graph = batch(full, config, dtype=dtype)
    vectors = safe_vectors(edge_vectors(graph), graph, config.cutoff)
    sizes = np.array([len(part.sites) for part in sites.sublattices], np.int32)
    members = np.concatenate([part.sites for part in sites.sublattices]).astype(np.int32)
    reached = _reached(np.asarray(graph.neighbors), np.asarray(graph.mask))
    sublattice = np.zeros(len(members), np.int32)
    sublattice[members] = np.repeat(np.arange(len(sizes)), sizes)
    tables = (reached, sublattice, members, (np.cumsum(sizes) - sizes).astype(np.int32), sizes)
    return Lattice(graph, vectors, *map(jnp.asarray, tables))


def _reached(neighbors: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A site and its neighbours, each once: in a small cell a neighbour is one several times."""
    n_sites = len(neighbors)
    table = np.where(mask, neighbors, n_sites)
    table = np.sort(np.concatenate([np.arange(n_sites)[:, None], table], axis=1), axis=1)
    again = np.zeros(table.shape, bool)
    again[:, 1:] = table[:, 1:] == table[:, :-1]
    table = np.sort(np.where(again, n_sites, table), axis=1)
    return table[:, : int((table < n_sites).sum(axis=1).max())].astype(np.int32)


def codes_of(
    numbers: Integer[np.ndarray, "*batch n_sites"], potential: Potential
) -> Integer[np.ndarray, "*batch n_sites"]:
    """Indices into the potential's species, one more for a vacancy."""
    species = [*potential.config.species, VACANCY]
    table = np.zeros(max(species) + 1, np.int32)
    table[species] = np.arange(len(species))
    return table[np.asarray(numbers)]


def numbers_of(
    codes: Integer[np.ndarray, "*batch n_sites"], potential: Potential
) -> Integer[np.ndarray, "*batch n_sites"]:
    """Atomic numbers of codes, 0 for a vacancy."""
    return np.array([*potential.config.species, VACANCY], np.uint8)[np.asarray(codes)]


def energies_of_sites(
    model: Model, lattice: Lattice, occupation: Int[Array, " n_sites"], rows: Int[Array, " n_rows"]
) -> Float[Array, " n_rows"]:
    """Energies E_i of the sites ``rows`` in eV; zero for a vacancy, and for a row n_sites, which is padding.

    Raises:
        ValueError: the potential passes messages: the energy of a site depends on more than its neighbours.
    """
    if not model.potential.local:
        raise ValueError("this potential passes messages: only energies of the whole lattice are exact (all_energies)")
    graph, inside = lattice.graph, rows < lattice.n_sites
    rows = jnp.minimum(rows, lattice.n_sites - 1)
    part = graph._replace(mask=graph.mask[rows], atom_mask=inside)
    occupants = occupation[rows], occupation[graph.neighbors[rows]]
    return _energies(model, part, occupants, lattice.vectors[rows])


def all_energies(model: Model, lattice: Lattice, occupation: Int[Array, " n_sites"]) -> Float[Array, " n_sites"]:
    """Energies of all sites in eV, of any family."""
    around = occupation[lattice.graph.neighbors]
    return _energies(model, lattice.graph, (occupation, around), lattice.vectors)


def _energies(model: Model, graph: Graph, occupants: tuple[Array, Array], vectors: Array) -> Array:
    """Of the atoms in ``graph``, whose masks say which slots exist; vacancies are masked here."""
    own, around = occupants
    n_species = len(model.potential.config.species)
    here = graph.atom_mask & (own < n_species)
    graph = graph._replace(
        species=jnp.minimum(own, n_species - 1),
        neighbor_species=jnp.minimum(around, n_species - 1),
        atom_mask=here,
        mask=graph.mask & (around < n_species),
    )
    return jnp.where(here, model.potential.atomic_energies(model.params, graph, vectors), 0)
