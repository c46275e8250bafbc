"""The bundle of ``lammps-jax``: a model for LAMMPS's ``pair_style jax/kk``, Kokkos and GPUs through PJRT.

The package ``lammps-jax`` writes the file. It gives LAMMPS's own neighbours as sparse pairs, atoms of other ranks and
periodic images being atoms of their own (ghosts); the program returns energies of atoms, of which own atoms count, and
LAMMPS sends forces on ghosts back. With n layers of message passing LAMMPS keeps ghosts to n cutoffs.
"""

from collections.abc import Callable
from math import ceil, pi
from pathlib import Path
from typing import Any, Literal, NamedTuple

import ase
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from jaxmlip.config import ConfigError
from jaxmlip.graph.batch import Graph, max_neighbors
from jaxmlip.graph.neighbors import neighbor_pairs
from jaxmlip.potentials.base import Potential, cast_params, safe_vectors
from jaxmlip.potentials.model import Model

SUFFIX = ".lammps-jax.json"
_DENSITY = 0.11  # atoms/Å³ of an oxide, where no structure is given
_NONE = 1 << 30  # sender of padding
_ROOM = 1.3  # for what thermal motion and other compositions bring


class Capacity(NamedTuple):
    """Sizes of the program. LAMMPS stops where one is exceeded; ``n_rows`` and ``width`` give energies that are NaN."""

    max_atoms: int  # own atoms and ghosts of a rank
    n_rows: int  # atoms that are evaluated, the first ones: own atoms, and with message passing all
    max_edges: int  # pairs within the cutoff
    width: int  # neighbours of an atom


def write_lammps_jax(model: Model, path: str | Path) -> None:
    """As `write_bundle` for some 4000 atoms a rank of an oxide's density, in float64 and for GPUs."""
    write_bundle(model, path)


def write_bundle(
    model: Model,
    path: str | Path,
    *,
    like: ase.Atoms | None = None,
    n_owned: int = 4000,
    dtype: Literal["float64", "float32"] = "float64",
    platform: Literal["cuda", "cpu"] = "cuda",
) -> dict[str, Any]:
    """Write the bundle, and return it; LAMMPS's types are the potential's species in their order.

    Args:
        model: a potential with its parameters.
        path: the file, whose name ends in .lammps-jax.json.
        like: a structure whose density and neighbours those in LAMMPS will resemble.
        n_owned: atoms of one rank.
        dtype: of the program.
        platform: that LAMMPS will run it on.

    Raises:
        ConfigError: the package lammps-jax is not installed.
    """
    try:
        from lammps_jax.export import export_model
    except ImportError:
        raise ConfigError('lammps-jax writes this format and is not installed: pip install "jaxmlip[lammps]"') from None
    config = model.potential.config
    capacity = capacity_for(model.potential, like=like, n_owned=n_owned)
    # The package mixes dtypes as JAX does by default.
    with jax.enable_x64(dtype == "float64"), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return export_model(
            energy_fn=energy_function(Model(model.potential, cast_params(model.params, dtype)), capacity),
            path=path,
            max_atoms=capacity.max_atoms,
            max_edges=capacity.max_edges,
            cutoff=config.cutoff,
            unit_style="metal",
            precision=dtype,
            n_hops=config.n_hops,
            n_species=len(config.species),
            platform=platform,
        )


def capacity_for(potential: Potential, *, like: ase.Atoms | None, n_owned: int) -> Capacity:
    """Room for the ghosts around a cube of ``n_owned`` atoms, and for the neighbours of all.

    >>> import jaxmlip
    >>> capacity_for(jaxmlip.build("snap", species=("O",), cutoff=5.0), like=None, n_owned=4000)
    Capacity(max_atoms=13145, n_rows=5200, max_edges=390000, width=75)
    """
    cutoff = potential.config.cutoff
    density, most = _DENSITY, _DENSITY * 4 / 3 * pi * cutoff**3
    if like is not None:
        density = len(like) / like.get_volume()
        most = max_neighbors(like, neighbor_pairs(like, cutoff))
    side = (n_owned / density) ** (1 / 3) + 2 * potential.config.n_hops * (cutoff + 1.0)
    max_atoms, width = ceil(_ROOM * density * side**3), ceil(_ROOM * most)
    n_rows = min(max_atoms, ceil(_ROOM * n_owned)) if potential.local else max_atoms
    return Capacity(max_atoms, n_rows, n_rows * width, width)


def energy_function(model: Model, capacity: Capacity) -> Callable[..., Any]:
    """Energies of atoms ``(positions, species, graph) -> [max_atoms]`` in eV, as lammps-jax calls it.

    ``graph`` has ``senders``, the atoms whose neighbours the ``receivers`` are, and ``edge_mask``, in any order. NaN
    where an atom has more than ``width`` neighbours, or one beyond ``n_rows`` has any.
    """
    n_rows = capacity.n_rows
    potential, cutoff = model.potential, model.potential.config.cutoff

    def energies(positions: Array, species: Array, graph: Any) -> Array:
        neighbors, mask, crowded = _table(graph, n_rows, capacity.width)
        reverse, found = _reverse(neighbors, mask)
        mask = mask if potential.local else mask & found
        species = jnp.clip(species, 0, len(potential.config.species) - 1)
        around = Graph(
            positions=positions[:n_rows],
            species=species[:n_rows],
            cell=jnp.zeros((1, 3, 3), positions.dtype),
            atom_graph=jnp.zeros(n_rows, jnp.int32),
            atom_mask=jnp.ones(n_rows, bool),
            neighbors=neighbors,
            neighbor_species=species[neighbors],
            shifts=jnp.zeros((*neighbors.shape, 3), jnp.int32),
            reverse=reverse,
            mask=mask,
        )
        vectors = safe_vectors(positions[neighbors] - positions[:n_rows, None, :], around, cutoff)
        of_rows = potential.atomic_energies(model.params, around, vectors)
        return jnp.where(crowded, jnp.nan, jnp.pad(of_rows, (0, len(positions) - n_rows)))

    return energies


class _Table(NamedTuple):
    neighbors: Int[Array, "n_rows width"]  # padding points at the atom itself
    mask: Bool[Array, "n_rows width"]  # False: padding
    crowded: Bool[Array, ""]  # an atom has more neighbours than there are columns


def _table(graph: Any, n_rows: int, width: int) -> _Table:
    """Sparse pairs in any order as a table of neighbours."""
    senders = jnp.where(graph.edge_mask, graph.senders, _NONE).astype(jnp.int32)
    order = jnp.argsort(senders, stable=True)
    senders, receivers = senders[order], graph.receivers[order].astype(jnp.int32)
    slot = jnp.arange(len(senders), dtype=jnp.int32) - jnp.searchsorted(senders, senders).astype(jnp.int32)
    itself = jnp.broadcast_to(jnp.arange(n_rows, dtype=jnp.int32)[:, None], (n_rows, width))
    neighbors = itself.at[senders, slot].set(receivers, mode="drop")
    mask = jnp.zeros((n_rows, width), bool).at[senders, slot].set(True, mode="drop")
    return _Table(neighbors, mask, jnp.any(((slot >= width) | (senders >= n_rows)) & (senders < _NONE)))


def _reverse(neighbors: Array, mask: Array) -> tuple[Int[Array, "n_rows width"], Bool[Array, "n_rows width"]]:
    """Where each pair stands seen from its neighbour, and whether it does; at the rim of the ghosts some do not."""
    n_rows, width = neighbors.shape
    own = jnp.arange(n_rows, dtype=jnp.int32)[:, None]
    itself = own * width + jnp.arange(width, dtype=jnp.int32)[None]
    key = jnp.where(mask, neighbors, -1)

    def column(slot: Array) -> tuple[Array, Array]:
        same = key[jnp.minimum(neighbors[:, slot], n_rows - 1)] == own
        return jnp.argmax(same, axis=1).astype(jnp.int32), jnp.any(same, axis=1)

    back, found = jax.lax.map(column, jnp.arange(width, dtype=jnp.int32))
    found = found.T & mask
    return jnp.where(found, neighbors * width + back.T, itself), found
