"""The border to jax-md, and the only place that knows its conventions.

jax-md's box has the lattice vectors as columns (our cell transposed), its positions here are fractional, its forces
Cartesian, and its stress is −(1/V) ∂E/∂ε, the opposite of ours.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache, partial
from typing import Any, NamedTuple

import ase
import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float, Int

from jaxmlip.graph.batch import Graph, edge_vectors, species_index
from jaxmlip.graph.derivatives import forces
from jaxmlip.potentials.base import Params, Potential, cast_params, energies_and_gradient, safe_vectors
from jaxmlip.potentials.model import Model
from jaxmlip.simulate import neighbor_list
from jaxmlip.simulate.neighbor_list import NeighborList, anchored, build_list, holds, within_cutoff

_NO_BOX = (
    "box is missing: energies, shifts and neighbour lists of jaxmlip take the cell with each call, as box=system.box "
    "(of a simulator: apply(state, neighbor=neighbor, box=system.box))"
)


class NeighborFns(NamedTuple):
    """``allocate(positions, box=box)`` on the host, ``update(positions, neighbor, box=box)`` on the device.

    A list whose ``did_buffer_overflow`` is true is wrong: throw the result away, allocate again, repeat the step.
    """

    allocate: Callable[..., NeighborList]
    update: Callable[..., NeighborList]


class JaxMD(NamedTuple):
    """One structure in jax-md's terms; what its simulators, minimizers and ``quantity.stress`` take."""

    positions: Float[Array, "n_atoms 3"]  # fractional
    box: Float[Array, "3 3"]  # lattice vectors are columns
    neighbor_fn: NeighborFns
    energy_fn: Callable[..., Array]  # (positions, neighbor=, box=, perturbation=None) -> eV
    shift_fn: Callable[..., Array]  # (positions, Cartesian displacement, box=) -> positions, never wrapped


class Measured(NamedTuple):
    """What one evaluation of a potential gives."""

    energy: Float[Array, ""]  # eV
    force: Float[Array, "n_atoms 3"]  # eV/Å
    stress: Float[Array, "3 3"]  # eV/Å³, ASE's sign


def to_jaxmd(model: Model, atoms: ase.Atoms, *, skin: float = 1.0, dtype=None) -> JaxMD:
    """``model`` and ``atoms`` as jax-md wants them: E(fractional positions, box), neighbours updated on the device.

    Gradients of ``energy_fn`` with respect to the positions are Cartesian, −F in eV/Å, as in all of jax-md;
    `jax_md.quantity.stress` of it is minus our stress. It has derivatives of any order, forward and reverse. With a
    list that has become too old, or had no room, energies and forces are NaN.

    >>> from ase.build import bulk
    >>> from jaxmlip.potentials.snap import SNAPConfig, snap
    >>> potential = snap(SNAPConfig(species=("Mo",), cutoff=4.6, twojmax=2))
    >>> system = to_jaxmd(Model(potential, potential.init(jax.random.key(0), None)), bulk("Mo"))
    >>> neighbor = system.neighbor_fn.allocate(system.positions, box=system.box)
    >>> float(system.energy_fn(system.positions, neighbor=neighbor, box=system.box))
    0.0

    Args:
        model: a potential with its parameters.
        atoms: the structure; directions that are not periodic are neither repeated nor wrapped.
        skin: Å beyond the cutoff; the list is rebuilt when half of it is used up, the other half is for the step that
            jax-md takes between an update and the forces at the new positions.
        dtype: of positions, box and parameters; the default is JAX's float.

    Raises:
        ValueError: an element that the potential does not know, or a structure without neighbour list; when used: no
            box, Cartesian positions, or a list that is too old.
    """
    dtype = jnp.zeros(0, dtype).dtype
    with jaxmd_context(dtype.name):
        params, species = cast_params(model.params, dtype), species_of(model.potential, atoms)
        positions, box = fractional(atoms, dtype)

    def allocate(positions: Any, *, box: Any = None, extra_capacity: int = 0, **_: Any) -> NeighborList:
        box = _needed(box)
        _refuse_cartesian(atoms, np.asarray(positions))
        sizes = neighbor_list.plan(
            placed(atoms, positions, box), model.potential.config.cutoff, skin, extra=extra_capacity
        )
        with jaxmd_context(dtype.name):
            return jax.jit(build_list, static_argnums=0)(sizes._replace(margin=skin / 2), jnp.asarray(positions), box)

    def update(positions: Any, neighbor: NeighborList, *, box: Any = None, **_: Any) -> NeighborList:
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return neighbor_list.update(neighbor, jnp.asarray(positions), _needed(box))

    energy_fn = partial(energy_function(model.potential, dtype.name), params=params, species=species)
    return JaxMD(positions, box, NeighborFns(allocate, update), energy_fn, shift_function())


@contextmanager
def jaxmd_context(dtype: str) -> Iterator[None]:
    """JAX as jax-md needs it: 64-bit numbers if ``dtype`` asks for them, and its mixed dtypes and ranks allowed."""
    with ExitStack() as stack:
        stack.enter_context(jax.enable_x64(np.dtype(dtype).itemsize == 8))
        stack.enter_context(jax.numpy_dtype_promotion("standard"))
        stack.enter_context(jax.numpy_rank_promotion("allow"))
        yield


def species_of(potential: Potential, atoms: ase.Atoms) -> Int[Array, " n_atoms"]:
    """Species index of each atom.

    Raises:
        ValueError: an element that the potential does not know.
    """
    return jnp.asarray(species_index(atoms.numbers, [int(z) for z in potential.config.species]), jnp.int32)


def fractional(atoms: ase.Atoms, dtype) -> tuple[Float[Array, "n_atoms 3"], Float[Array, "3 3"]]:
    """Fractional positions and box (lattice vectors as columns); missing vectors are completed as ASE does."""
    cell = atoms.cell.complete().array
    positions = np.linalg.solve(cell.T, atoms.positions.T).T
    return jnp.asarray(positions, dtype), jnp.asarray(cell.T, dtype)


def placed(atoms: ase.Atoms, positions: Any, box: Any) -> ase.Atoms:
    """A copy of ``atoms`` at fractional ``positions`` in ``box``; a cell that was absent stays absent."""
    cell = np.asarray(box, np.float64).T
    new = atoms.copy()
    constraints = new.constraints
    new.set_constraint()
    new.positions = np.asarray(positions, np.float64) @ cell
    new.cell = np.where(np.any(atoms.cell.array, axis=1, keepdims=True), cell, 0)
    new.set_constraint(constraints)
    return new


@lru_cache(maxsize=64)
def energy_function(potential: Potential, precision: str) -> Callable[..., Array]:
    """E(positions, neighbor=, box=, params=, species=, perturbation=None): shared, so that equal shapes compile once.

    The potential computes in ``precision``; everything else is in the precision of the positions.
    """

    def energy_fn(
        position: Any, *, neighbor: NeighborList, box: Any = None, params: Params, species: Array,
        perturbation: Any = None, **_: Any,
    ) -> Array:  # fmt: skip
        from jax_md import space

        position, box = jnp.asarray(position), _needed(box)
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            strain = strain_matrix(perturbation, box.dtype)
            right = holds(neighbor, position, strain @ box)
            _refuse_old(right)
            graph = within_cutoff(neighbor, jax.lax.stop_gradient(position), jax.lax.stop_gradient(box), species)
            cartesian = space.transform(box, anchored(neighbor, position))
            energy = _energy((potential, precision), params, graph, cartesian @ strain.T, strain @ box)
            return energy * jnp.where(right, 1, jnp.nan)

    return energy_fn


@lru_cache(maxsize=1)
def shift_function() -> Callable[..., Array]:
    """jax-md's shift of fractional positions by Cartesian displacements, which are never wrapped; it needs a box."""
    from jax_md import space

    _, shift = space.periodic_general(jnp.eye(3), fractional_coordinates=True, wrapped=False)

    def shift_fn(position: Any, displacement: Any, *, box: Any = None, **_: Any) -> Array:
        return shift(position, displacement, box=_needed(box))  # pyright: ignore[reportCallIssue]

    return shift_fn


def measure(
    potential: Potential, precision: str, fixed: tuple[Params, Array], neighbor: NeighborList, at: tuple[Array, Array]
) -> Measured:
    """Energy, forces and stress ``at`` fractional positions and a box; ``fixed``: parameters and species.

    Vectors, sums and what comes back are in the precision of the positions whatever the potential computes in.
    """
    params, species = fixed
    graph = within_cutoff(neighbor, *at, species)
    energy, force, (vectors, gradient) = _assembled((potential, precision), params, graph)
    virial = vectors.reshape(-1, 3).T @ gradient.reshape(-1, 3)
    stress = (virial + virial.T) / 2 / jnp.abs(jnp.linalg.det(graph.cell[0]))
    return Measured(energy, force, stress)


def _assembled(how: tuple[Potential, str], params: Params, graph: Graph) -> tuple[Array, Array, tuple[Array, Array]]:
    """Energy, forces, and the edge vectors with ∂E/∂vectors."""
    potential, precision = how
    vectors = safe_vectors(edge_vectors(graph), graph, potential.config.cutoff)
    energies, gradient = energies_and_gradient(potential, params, graph, vectors.astype(precision))
    gradient = jnp.where(graph.mask[:, :, None], gradient.astype(vectors.dtype), 0)
    return energies.astype(vectors.dtype).sum(), forces(graph, gradient), (vectors, gradient)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _energy(how: tuple[Potential, str], params: Params, graph: Graph, cartesian: Array, box: Array) -> Array:
    """Σ E_i in blocks of atoms: one backward pass over the edge vectors serves all first derivatives."""
    return _assembled(how, params, _moved(graph, cartesian, box))[0]


def _energy_jvp(how: tuple[Potential, str], primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    params, graph, cartesian, box = primals
    graph = _moved(graph, cartesian, box)
    energy, force, (vectors, gradient) = _assembled(how, params, graph)
    by_box = jnp.einsum("imx,imk->xk", gradient, graph.shifts.astype(gradient.dtype))
    change = jnp.zeros_like(energy)
    for slope, tangent in ((-force, tangents[2]), (by_box, tangents[3])):
        if not isinstance(tangent, SymbolicZero):
            change = change + jnp.sum(slope * tangent)
    leaves, tree = jax.tree.flatten(params)
    moves = tree.flatten_up_to(tangents[0])
    if not all(isinstance(move, SymbolicZero) for move in moves):
        moves = [_filled(move) for move in moves]

        def total(*leaves: Array) -> Array:
            energies = how[0].atomic_energies(tree.unflatten(leaves), graph, vectors.astype(how[1]))
            return energies.astype(energy.dtype).sum()

        change = change + jax.jvp(total, tuple(leaves), tuple(moves))[1]
    return energy, change


_energy.defjvp(_energy_jvp, symbolic_zeros=True)


def _filled(tangent: Any) -> Any:
    zero = isinstance(tangent, SymbolicZero)
    return np.zeros(tangent.shape, tangent.dtype) if zero else tangent  # pyright: ignore[reportArgumentType, reportCallIssue]


def strain_matrix(perturbation: Any, dtype: jnp.dtype) -> Float[Array, "3 3"]:
    """jax-md strains by a matrix, by a number for each direction, or by one number; None: not at all."""
    if perturbation is not None and jnp.ndim(perturbation) == 2:
        return perturbation
    return jnp.eye(3, dtype=dtype) * (1 if perturbation is None else perturbation)


def _moved(graph: Graph, cartesian: Array, box: Array) -> Graph:
    return graph._replace(positions=cartesian, cell=box.T[None])


def _needed(box: Any) -> Array:
    if box is None:
        raise ValueError(_NO_BOX)
    return jnp.asarray(box)


def _refuse_cartesian(atoms: ase.Atoms, positions: np.ndarray) -> None:
    """Positions that are near those of ``atoms`` in Å, and far from its fractional ones, are a mistake."""
    cell = atoms.cell.complete().array
    moved = positions - np.linalg.solve(cell.T, atoms.positions.T).T
    far = np.linalg.norm((moved - np.where(atoms.pbc, np.round(moved), 0)) @ cell)
    if np.linalg.norm(positions - atoms.positions) < 0.2 * far:
        raise ValueError(
            f"the positions of {atoms.get_chemical_formula()} look Cartesian (those of atoms.positions, in Å), but "
            "fractional ones are meant: pass system.positions, or atoms.get_scaled_positions(wrap=False)"
        )


def _refuse_old(right: Array) -> None:
    """A message where positions are known; under jax.jit what follows is NaN."""
    try:
        known = bool(right)
    except jax.errors.ConcretizationTypeError:
        return
    if not known:
        raise ValueError(
            "the neighbour list does not hold at these positions: it is too old or overflowed (call "
            "neighbor_fn.update, and allocate again where did_buffer_overflow), or the positions are Cartesian where "
            "fractional ones are meant (system.positions)"
        )
