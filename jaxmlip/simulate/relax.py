"""Relaxation of positions and cell to a minimum of the energy: FIRE through jax-md, on the device.

References:
    Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006): FIRE.
    Tadmor et al., Phys. Rev. B 59, 235 (1999): the deformation gradient as the cell's degrees of freedom.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import ase
import jax
import jax.numpy as jnp
import numpy as np
from ase.data import covalent_radii
from jaxtyping import Array

from jaxmlip.graph.neighbors import neighbor_pairs
from jaxmlip.potentials.base import Model
from jaxmlip.simulate.jaxmd import (
    Engine,
    ListSize,
    NeighborList,
    allocate_list,
    cast,
    engine_of,
    fractional,
    jaxmd_context,
    list_size,
    placed,
    species_of,
)

_SKIN = 0.4  # Å; a step that changes a pair by more than half of it is refused and tried again with half the time step
_VOLUME_FACTOR = 2.0  # a relaxation that swells or shrinks the cell by more has left the potential's data
_OVERLAP = 0.5  # of the sum of covalent radii
_STRETCH = 1.25  # how much thinner the cell may become before more images must be searched
_MAX_REALLOCATIONS = 20


class Relaxed(NamedTuple):
    """Where a relaxation ended. Only ``converged`` tells that ``energy`` belongs to a minimum."""

    atoms: ase.Atoms
    energy: float  # eV; NaN when the relaxation ran away
    converged: bool
    n_steps: int
    max_force: float  # eV/Å, largest norm
    max_stress: float  # eV/Å³, largest component; 0 with a fixed cell
    problem: str  # why it did not converge, else empty


class _Limits(NamedTuple):
    fmax: Any
    smax: Any
    n_steps: Any


class _Run(NamedTuple):
    """The compiled program of one potential: shared by all structures with equal shapes."""

    engine: Engine
    start: Callable
    advance: Callable


def relax(
    model: Model,
    atoms: ase.Atoms,
    *,
    cell: bool = True,
    fmax: float = 0.01,
    smax: float = 3e-4,
    max_steps: int = 1000,
) -> Relaxed:
    """The nearest minimum of the energy, in float64: largest force norm ≤ ``fmax``, largest stress ≤ ``smax``.

    Structures with the same number of atoms share the compiled program. ``atoms`` is not changed.

    >>> from ase.build import bulk
    >>> from jaxmlip.potentials.offsets import ZBLConfig, zbl
    >>> potential = zbl(ZBLConfig(species=("Si",), cutoff=2.2))  # diamond, 2.35 Å: beyond the repulsion
    >>> relaxed = relax(Model(potential, potential.init(None, None)), bulk("Si"))
    >>> relaxed.converged, relaxed.n_steps, relaxed.energy
    (True, 0, 0.0)

    Args:
        model: a potential with its parameters.
        atoms: the structure.
        cell: relax the cell too; needs three periodic directions.
        fmax: eV/Å.
        smax: eV/Å³; 3e-4 is 0.05 GPa.
        max_steps: of FIRE; an answer that needs more is reported as not converged.

    Raises:
        ValueError: an element that the potential does not know, a cell to relax that is not periodic, or limits
            that are not positive.
    """
    if min(fmax, smax) <= 0 or max_steps < 1:
        raise ValueError(f"fmax, smax and max_steps must be positive, got {fmax}, {smax} and {max_steps}")
    if cell and not atoms.pbc.all():
        raise ValueError(
            f"the cell of {atoms.get_chemical_formula()} is periodic along {atoms.pbc.tolist()} only: relax positions "
            "with cell=False, or set atoms.pbc = True"
        )
    species_of(model.potential, atoms)  # an unknown element is the caller's mistake, not a relaxation that failed
    with jaxmd_context("float64"):
        return _relax(model, atoms, cell, _Limits(fmax, smax, max_steps))


def _relax(model: Model, atoms: ase.Atoms, cell: bool, limits: _Limits) -> Relaxed:
    pbc = (bool(atoms.pbc[0]), bool(atoms.pbc[1]), bool(atoms.pbc[2]))
    run = _program(model.potential, pbc, cell)
    fixed = {"params": cast(model.params, "float64"), "species": species_of(model.potential, atoms)}
    reach = model.potential.config.cutoff + _SKIN
    stretch = _STRETCH if cell else 1.0
    positions, box = fractional(atoms, "float64")
    size = list_size(atoms, reach, stretch=stretch)
    neighbor = allocate_list(run.engine, positions, box, size)
    state = run.start(positions, box, neighbor, fixed)
    n_steps = 0
    for _ in range(_MAX_REALLOCATIONS):
        left = limits._replace(n_steps=limits.n_steps - n_steps)
        state, neighbor, done, overflow, energy = run.advance(state, neighbor, left, fixed)
        n_steps += int(done)
        if not overflow:
            break
        try:
            size = _larger(size, list_size(placed(atoms, state.position, state.box), reach, stretch=stretch))
        except ValueError as error:  # atoms on top of each other, or a cell without a volume
            return _result(placed(atoms, state.position, state.box), state, n_steps, (np.nan, limits, str(error)))
        neighbor = allocate_list(run.engine, state.position, state.box, size)
    problem = "its neighbours keep growing in number" if overflow else ""
    return _result(placed(atoms, state.position, state.box), state, n_steps, (float(energy), limits, problem))


def _larger(size: ListSize, needed: ListSize) -> ListSize:
    """Geometric growth, so that a growing list is compiled a few times only."""
    images = tuple(max(pair) for pair in zip(size.images, needed.images, strict=True))
    grown = size.max_neighbors if needed.max_neighbors <= size.max_neighbors else size.max_neighbors * 5 // 4
    return ListSize(max(grown, needed.max_neighbors), images)  # type: ignore[arg-type]


@lru_cache(maxsize=32)
def _program(potential: Any, pbc: tuple[bool, bool, bool], cell: bool) -> _Run:
    from jax_md import minimize

    engine = engine_of(potential, _SKIN, pbc, "float64")
    make: Any = minimize.fire_descent_box
    fire_start, fire_step = make(engine.energy_fn, engine.shift_fn, mask=None if cell else np.zeros((3, 3)))

    @jax.jit
    def start(positions: Array, box: Array, neighbor: NeighborList, fixed: dict) -> Any:
        state = fire_start(positions, box, neighbor=neighbor, box_factor=jnp.asarray(float(len(positions))), **fixed)
        return jax.tree.map(jnp.asarray, state)

    def step(state: Any, neighbor: NeighborList, fixed: dict) -> tuple[Any, NeighborList]:
        neighbor = engine.update(state.position, neighbor, box=state.box)
        new = fire_step(state, neighbor=neighbor, **fixed)
        too_far = ~(engine.moved(new.position, neighbor, new.box) < _SKIN)  # also true of NaN
        refused = too_far | neighbor.did_buffer_overflow | ~jnp.isfinite(new.force).all()
        waiting = jax.tree.map(jnp.zeros_like, (state.momentum, state.box_momentum))
        slower = state.set(momentum=waiting[0], box_momentum=waiting[1], dt=state.dt / 2)
        return jax.tree.map(lambda a, b: jnp.where(refused, a, b), slower, new), neighbor

    @jax.jit
    def advance(state: Any, neighbor: NeighborList, limits: _Limits, fixed: dict) -> tuple:
        def unfinished(carry: tuple) -> Array:
            n, state, neighbor = carry
            finished = _converged(state, limits) | neighbor.did_buffer_overflow | _ran_away(state)
            return (n < limits.n_steps) & ~finished

        def body(carry: tuple) -> tuple:
            n, state, neighbor = carry
            state, neighbor = step(state, neighbor, fixed)
            return n + 1, state, neighbor

        done, state, neighbor = jax.lax.while_loop(unfinished, body, (jnp.asarray(0), state, neighbor))
        neighbor = engine.update(state.position, neighbor, box=state.box)
        energy = engine.energy_fn(state.position, neighbor=neighbor, box=state.box, **fixed)
        return state, neighbor, done, neighbor.did_buffer_overflow, energy

    return _Run(engine, start, advance)


def _max_force(state: Any) -> Array:
    return jnp.sqrt(jnp.max(jnp.sum(state.force**2, axis=1)))


def _max_stress(state: Any) -> Array:
    """From jax-md's box force, −(∂E/∂ε) F⁻ᵀ / factor with the deformation gradient F."""
    deformation = state.box_position / state.box_factor
    virial = state.box_force * state.box_factor @ deformation.T
    return jnp.max(jnp.abs(virial)) / jnp.abs(jnp.linalg.det(state.box))


def _volume_ratio(state: Any) -> Array:
    return jnp.linalg.det(state.box) / jnp.linalg.det(state.reference_box)


def _converged(state: Any, limits: _Limits) -> Array:
    return (_max_force(state) <= limits.fmax) & (_max_stress(state) <= limits.smax)


def _ran_away(state: Any) -> Array:
    ratio = _volume_ratio(state)
    return ~((ratio < _VOLUME_FACTOR) & (ratio > 1 / _VOLUME_FACTOR) & jnp.isfinite(state.force).all())


def _result(atoms: ase.Atoms, state: Any, n_steps: int, end: tuple[float, _Limits, str]) -> Relaxed:
    """Judges where the run ended; a number is returned only where it means something."""
    energy, limits, problem = end
    force, stress = float(_max_force(state)), float(_max_stress(state))
    converged = bool(_converged(state, limits)) and not problem
    runaway = problem or _runaway(atoms, energy, float(_volume_ratio(state)))
    if runaway:
        return Relaxed(atoms, float("nan"), False, n_steps, force, stress, f"ran away: {runaway}")
    if not converged:
        problem = f"not converged in {n_steps} steps: largest force {force:.3g} eV/Å, largest stress {stress:.3g} eV/Å³"
    return Relaxed(atoms, energy, converged, n_steps, force, stress, problem)


def _runaway(atoms: ase.Atoms, energy: float, ratio: float) -> str:
    """Why the final structure is none, or an empty string."""
    if not np.isfinite(energy):
        return "the energy or a force is not a finite number"
    if not 1 / _VOLUME_FACTOR < ratio < _VOLUME_FACTOR:
        return f"the volume became {ratio:.2g} times the initial one"
    try:
        pairs = neighbor_pairs(atoms, 2 * float(covalent_radii[atoms.numbers].max()) * _OVERLAP)
    except ValueError as error:
        return str(error)
    radii = covalent_radii[atoms.numbers]
    near = pairs.distances < _OVERLAP * (radii[pairs.centers] + radii[pairs.neighbors])
    if near.any():
        k = int(np.argmax(near))
        return f"atoms {pairs.centers[k]} and {pairs.neighbors[k]} came as near as {pairs.distances[k]:.2f} Å"
    return ""
