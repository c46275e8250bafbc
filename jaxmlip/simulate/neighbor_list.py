"""Neighbours on the device for any cell, with jax-md's interface: small cells see their images, large ones have bins.

Each lattice direction has ``bins`` of equal width, and the bins up to ``reach`` of them away are searched, around the
border as often as it takes: one bin a direction is a search through images, many bins are a linked-cell list. Pairs up
to cutoff + skin are listed; at each step the list is cut down to the pairs within the cutoff, so that a potential
computes no other.

One list for all cells, where jax-md has two: its cell list takes the nearest image, so it needs cells wider than twice
the cutoff, and its ``neighbor_list_multi_image`` compares all pairs in all images, n_atoms² × images.

References:
    Allen and Tildesley, Computer Simulation of Liquids, Oxford 2017, section 5.3: cell structures and Verlet lists.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import ase
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from scipy.special import ndtr

from jaxmlip.graph.batch import Graph
from jaxmlip.graph.messages import in_blocks
from jaxmlip.graph.neighbors import Pairs, neighbor_pairs
from jaxmlip.graph.tables import first_columns, shortened

_BLOCK = 256  # atoms searched at once: bounds the memory
_BIN_MARGIN = 1.05  # bins are wider than the reach by this, so that a cell may shrink
_SMEARING = 0.2  # Å, of distances in a hot crystal: what comes within the cutoff on the way
_DEVIATIONS = 4.0  # room for so many standard deviations of the number of neighbours
_MARGIN = 0.2  # of the skin

Triple = tuple[int, int, int]


class Plan(NamedTuple):
    """The static sizes that a compiled step depends on."""

    pbc: tuple[bool, bool, bool]
    cutoff: float  # Å
    skin: float  # Å
    bins: Triple  # along each lattice vector
    reach: Triple  # bins searched to either side
    capacity: int  # atoms in a bin
    width: int  # listed neighbours an atom, within cutoff + skin
    inner: int  # neighbours within the cutoff
    margin: float  # Å; by so much may two atoms come nearer in one step


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["reference_position", "box", "neighbors", "shifts", "reverse", "mask", "did_buffer_overflow"],
    meta_fields=["plan"],
)
@dataclasses.dataclass(frozen=True)
class NeighborList:
    """Pairs within cutoff + skin at the reference, in jax-md's manner.

    A list whose ``did_buffer_overflow`` is true is wrong: throw the result away, allocate again, repeat the step.
    Positions are fractional, wrapped into the cell or not. A pytree, whose leaves JAX may replace by anything.
    """

    reference_position: Any  # [n_atoms, 3]
    box: Any  # [3, 3], of the reference; lattice vectors are columns
    neighbors: Any  # [n_atoms, width], padding points at the atom itself
    shifts: Any  # [n_atoms, width, 3]
    reverse: Any  # [n_atoms, width]
    mask: Any  # [n_atoms, width]
    did_buffer_overflow: Any  # []
    plan: Plan

    def update(self, position: Float[Array, "n_atoms 3"], *, box: Float[Array, "3 3"], **_: Any) -> "NeighborList":
        """The same list while it stays right for one more step, else a new one: on the device."""
        return update(self, position, box)

    @property
    def idx(self) -> Int[Array, "n_atoms width"]:
        """Neighbours as jax-md has them: padding is n_atoms."""
        return jnp.where(self.mask, self.neighbors, len(self.neighbors))

    @property
    def max_occupancy(self) -> int:
        """Columns of the table."""
        return self.plan.width

    @property
    def format(self) -> Any:
        """jax-md's word for a table of both directions."""
        from jax_md import partition

        return partition.Dense


def plan(atoms: ase.Atoms, cutoff: float, skin: float, *, extra: int = 0) -> Plan:
    """Sizes for ``atoms``, with room for what thermal motion brings nearer, and for ``extra`` neighbours.

    Raises:
        ValueError: a structure without neighbour list.
    """
    reach = (cutoff + skin) * _BIN_MARGIN
    pairs = neighbor_pairs(atoms, cutoff + skin + 3 * _SMEARING)
    heights = 1 / np.linalg.norm(np.linalg.inv(atoms.cell.complete().array), axis=0)
    most = max(1, int(len(atoms) ** (1 / 3)) + 1)
    bins = np.where(atoms.pbc, np.clip(heights // reach, 1, most), 1).astype(int)
    steps = np.where(atoms.pbc, np.ceil(reach * bins / heights), 0).astype(int)
    scaled = np.linalg.solve(atoms.cell.complete().array.T, atoms.positions.T).T
    cells = np.floor((scaled - np.floor(scaled)) * bins).astype(int) % bins * atoms.pbc
    fullest = np.bincount(np.ravel_multi_index(tuple(cells.T), tuple(bins))).max()
    capacity = len(atoms) if bins.prod() == 1 else min(len(atoms), int(fullest * 1.15) + 2)
    width = _rounded(most_neighbors(pairs, cutoff + skin) + extra, 4)
    inner = min(width, _rounded(most_neighbors(pairs, cutoff) + extra, 2))  # every column costs in each step
    shape = (_triple(atoms.pbc, bool), cutoff, skin, _triple(bins), _triple(steps))
    return Plan(*shape, capacity, width, inner, _MARGIN * skin)


def grown(old: Plan, new: Plan) -> Plan:
    """At least the sizes of both plans, and a quarter more than the old one where nothing else is larger."""
    sizes = [max(getattr(new, n), getattr(old, n) * 5 // 4 + 1) for n in ("capacity", "width", "inner")]
    return new._replace(capacity=sizes[0], width=sizes[1], inner=min(sizes[1:]))


def most_neighbors(pairs: Pairs, cutoff: float) -> float:
    """More than what any atom should have within ``cutoff`` once the distances are smeared by thermal motion."""
    nearer = ndtr((cutoff - pairs.distances) / _SMEARING)
    mean, variance = (np.bincount(pairs.centers.astype(int), x, 1) for x in (nearer, nearer * (1 - nearer)))
    return float((mean + _DEVIATIONS * np.sqrt(variance)).max(initial=0)) + 1


def _rounded(number: float, to: int) -> int:
    return int(-(-number // to) * to)


def build_list(plan: Plan, position: Float[Array, "n_atoms 3"], box: Float[Array, "3 3"]) -> NeighborList:
    """All pairs within cutoff + skin at fractional ``position`` in ``box``."""
    n_atoms, bins = len(position), jnp.asarray(plan.bins, jnp.int32)
    lattice = jnp.where(jnp.asarray(plan.pbc), jnp.floor(position), 0)
    inside = position - lattice
    home = jnp.where(jnp.asarray(plan.pbc), jnp.clip((inside * bins).astype(jnp.int32), 0, bins - 1), 0)
    table, full = _fill_bins(plan, home)
    ranges = (np.arange(-n, n + 1) for n in plan.reach)
    around = jnp.asarray(np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3), jnp.int32)

    def search(rows: tuple) -> tuple:
        own, here, at = rows
        target = here[:, None, :] + around
        image = jnp.floor_divide(target, bins)
        found = table[_flat(target - image * bins, plan.bins)]  # [block, n_around, capacity]
        delta = inside[jnp.minimum(found, n_atoms - 1)] - at[:, None, None, :]
        vectors = _cartesian(delta + image[:, :, None, :].astype(at.dtype), box)
        itself = (found == own[:, None, None]) & jnp.all(image == 0, axis=-1)[:, :, None]
        near = (jnp.sum(vectors**2, axis=-1) < (plan.cutoff + plan.skin) ** 2) & (found < n_atoms) & ~itself
        slot, mask, count = first_columns(near.reshape(len(own), -1), plan.width)
        neighbors = jnp.take_along_axis(found.reshape(len(own), -1), slot, axis=1)
        images = jnp.take_along_axis(image, (slot // plan.capacity)[:, :, None], axis=1)
        return jnp.where(mask, neighbors, own[:, None]), jnp.where(mask[:, :, None], images, 0), mask, count

    own = jnp.arange(n_atoms, dtype=jnp.int32)
    neighbors, images, mask, count = in_blocks(search, (own, home, inside), _BLOCK)
    shifts = images + (lattice[:, None, :] - lattice[neighbors]).astype(jnp.int32)
    heights = 1 / jnp.sqrt(jnp.sum(jnp.linalg.inv(box) ** 2, axis=1))
    covered = heights * jnp.asarray(plan.reach, box.dtype) / bins >= plan.cutoff + plan.skin
    too_small = ~jnp.all(covered | ~jnp.asarray(plan.pbc))
    reverse = _reverse(plan, neighbors, images, mask)
    overflow = full | jnp.any(count > plan.width) | too_small
    return NeighborList(position, box, neighbors, shifts, reverse, mask, overflow, plan)


def update(listed: NeighborList, position: Float[Array, "n_atoms 3"], box: Float[Array, "3 3"]) -> NeighborList:
    """The same list while no pair can come within the cutoff unseen in the next step, else a new one."""
    stays = lasts(listed, position, box)
    new = jax.lax.cond(stays, lambda: listed, lambda: build_list(listed.plan, position, box))
    overflow = listed.did_buffer_overflow | new.did_buffer_overflow
    return dataclasses.replace(new, did_buffer_overflow=overflow)


def lasts(listed: NeighborList, position: Float[Array, "n_atoms 3"], box: Float[Array, "3 3"]) -> Bool[Array, ""]:
    """Whether no pair can come within the cutoff unseen in the next step."""
    return room_left(listed, position, box) >= listed.plan.margin


def crowded(listed: NeighborList, position: Float[Array, "n_atoms 3"], box: Float[Array, "3 3"]) -> Bool[Array, ""]:
    """Whether an atom has more neighbours within the cutoff than there is room for."""
    near = _near(listed, anchored(listed, position), box)
    return jnp.any(jnp.sum(near, axis=1) > listed.plan.inner) | listed.did_buffer_overflow


def holds(listed: NeighborList, position: Float[Array, "n_atoms 3"], box: Float[Array, "3 3"]) -> Bool[Array, ""]:
    """Whether the list has every pair within the cutoff at ``position``, and room for them all."""
    return (room_left(listed, position, box) >= 0) & ~crowded(listed, position, box)


def anchored(listed: NeighborList, position: Float[Array, "n_atoms 3"]) -> Float[Array, "n_atoms 3"]:
    """Each atom at the image nearest to where the list was built, because the list's shifts belong to that image."""
    lattice = jnp.round(jax.lax.stop_gradient(position) - listed.reference_position)
    return position - jnp.where(jnp.asarray(listed.plan.pbc), lattice, 0)


def room_left(listed: NeighborList, position: Array, box: Array) -> Array:
    """By how much, in Å, all pairs that are not listed must be farther than the cutoff.

    A strain of the box shrinks a distance at most by 1 − |A − 1|; what remains of the displacements, u, by 2 max|u|.
    """
    u = _cartesian(anchored(listed, position) - listed.reference_position, box)
    strain = box @ jnp.linalg.inv(listed.box) - jnp.eye(3, dtype=box.dtype)
    shrink = 1 - jnp.sqrt(jnp.sum(strain**2))
    farthest = jnp.sqrt(jnp.max(jnp.sum(u**2, axis=1)))
    return shrink * (listed.plan.cutoff + listed.plan.skin) - 2 * farthest - listed.plan.cutoff


def _near(listed: NeighborList, position: Array, box: Array) -> Bool[Array, "n_atoms width"]:
    separation = position[listed.neighbors] - position[:, None, :] + listed.shifts.astype(position.dtype)
    return (jnp.sum(_cartesian(separation, box) ** 2, axis=-1) < listed.plan.cutoff**2) & listed.mask


def within_cutoff(
    listed: NeighborList, position: Float[Array, "n_atoms 3"], box: Float[Array, "3 3"], species: Int[Array, " n_atoms"]
) -> Graph:
    """The `Graph` of the pairs within the cutoff; wrong where the list does not hold (`holds`)."""
    n_atoms, inner = len(position), listed.plan.inner
    position = anchored(listed, position)
    near = _near(listed, position, box)
    cut = shortened(near, listed.reverse, inner)
    itself = jnp.arange(n_atoms, dtype=jnp.int32)
    neighbors = jnp.where(cut.mask, jnp.take_along_axis(listed.neighbors, cut.slot, axis=1), itself[:, None])
    return Graph(
        positions=_cartesian(position, box),
        species=species,
        cell=box.T[None],
        atom_graph=jnp.zeros(n_atoms, jnp.int32),
        atom_mask=jnp.ones(n_atoms, bool),
        neighbors=neighbors,
        neighbor_species=species[neighbors],
        shifts=jnp.where(cut.mask[:, :, None], jnp.take_along_axis(listed.shifts, cut.slot[:, :, None], axis=1), 0),
        reverse=cut.reverse,
        mask=cut.mask,
    )


def _fill_bins(plan: Plan, home: Int[Array, "n_atoms 3"]) -> tuple[Array, Array]:
    """Atoms of each bin, [n_bins, capacity] filled up with n_atoms; and whether a bin was too small."""
    n_atoms, n_bins = len(home), int(np.prod(plan.bins))
    which = _flat(home, plan.bins)
    order = jnp.argsort(which, stable=True).astype(jnp.int32)
    sorted_bins = which[order]
    first = jnp.searchsorted(sorted_bins, jnp.arange(n_bins, dtype=jnp.int32)).astype(jnp.int32)
    rank = jnp.arange(n_atoms, dtype=jnp.int32) - first[sorted_bins]
    table = jnp.full((n_bins, plan.capacity), n_atoms, jnp.int32)
    return table.at[sorted_bins, rank].set(order, mode="drop"), jnp.any(rank >= plan.capacity)


def _reverse(plan: Plan, neighbors: Array, images: Array, mask: Array) -> Int[Array, "n_atoms width"]:
    """Flat slot of the same pair seen from the neighbour; of padding its own."""
    most = [-(-(n + b - 1) // b) for n, b in zip(plan.reach, plan.bins, strict=True)]
    n_images = int(np.prod([2 * n + 1 for n in most]))
    image = _flat(images + jnp.asarray(most, jnp.int32), [2 * n + 1 for n in most])
    key = jnp.where(mask, neighbors * n_images + image, -1)
    itself = jnp.arange(len(neighbors), dtype=jnp.int32)

    def block(rows: tuple) -> Array:
        own, theirs, code, there = rows
        wanted = own[:, None] * n_images + (n_images - 1 - code)
        slot = jnp.argmax(key[theirs] == wanted[:, :, None], axis=2).astype(jnp.int32)
        unchanged = own[:, None] * plan.width + jnp.arange(plan.width, dtype=jnp.int32)[None]
        return jnp.where(there, theirs * plan.width + slot, unchanged)

    return in_blocks(block, (itself, neighbors, image, mask), _BLOCK)


def _flat(index: Int[Array, "... 3"], sizes: Sequence[int]) -> Int[Array, " ..."]:
    return (index[..., 0] * sizes[1] + index[..., 1]) * sizes[2] + index[..., 2]


def _cartesian(fractional: Float[Array, "... 3"], box: Float[Array, "3 3"]) -> Float[Array, "... 3"]:
    """Written out, which costs less than a matrix product and gives r_ij = −r_ji to the last bit."""
    return sum(fractional[..., k, None] * box[:, k] for k in range(3))  # type: ignore[return-value]


def _triple(values: Any, kind: type = int) -> Any:
    return kind(values[0]), kind(values[1]), kind(values[2])
