"""Minimization of many structures side by side: steps on the device, neighbour lists and bookkeeping on the host."""

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import ase
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxmlip.potentials.base import Params, Potential, cast_params
from jaxmlip.potentials.model import Model
from jaxmlip.simulate import slots as table
from jaxmlip.simulate.deformation import (
    Evaluation,
    Freedom,
    Structures,
    coordinates,
    evaluate,
    geometry,
    list_is_valid,
)
from jaxmlip.simulate.minimizers import MINIMIZERS, Minimizer

VOLUME_FACTOR = 2.0  # a relaxation that swells or shrinks the cell by more has left the potential's data
_MAX_ATOMS = 8192  # evaluated together
_ROUND_ATOMS = 4
_WORTH = 4_000  # atoms of padding, evaluated until they rest, cost about what compiling for another size does
_SMALL = 512  # atoms: fewer are not worth another compilation
_SHRINK = 4  # fewer slots once only one in four is used: each size is compiled anew


class Limits(NamedTuple):
    """When a structure is done; eV/Å, eV/Å³ (None: ASE's), steps; and the pressure in eV/Å³."""

    fmax: float
    smax: Any  # float, or None
    max_steps: int
    pressure: float = 0.0


class Ended(NamedTuple):
    """Where the minimization of a structure ended."""

    atoms: ase.Atoms
    energy: float
    converged: bool
    n_steps: int
    max_force: float
    max_stress: float
    problem: str = ""


class Progress(NamedTuple):
    """Of each slot; energy, forces and stress at the last accepted point."""

    state: Any  # of the minimizer
    energy: Float[Array, " b"]
    max_force: Float[Array, " b"]
    max_stress: Float[Array, " b"]
    n_evaluations: Int[Array, " b"]
    active: Bool[Array, " b"]
    converged: Bool[Array, " b"]


class _Program(NamedTuple):
    """Compiled functions."""

    start: Any  # (positions, which slots are active) -> Progress
    advance: Any  # until enough slots are done: (structures, progress, limits, enough, params) -> progress, valid lists
    places: Any  # positions and cells of the accepted and of the trial point


class How(NamedTuple):
    """What a minimization does."""

    method: str
    """One of `MINIMIZERS`."""
    freedom: Freedom
    symmetry: bool
    """Kept."""


def minimize(model: Model, frames: Sequence[ase.Atoms], limits: Limits, how: How) -> list[Ended]:
    """The ends of all structures, those of like size side by side. JAX must be in 64-bit mode."""
    padded = _sizes(np.array([len(frame) for frame in frames]))
    ends: dict[int, Ended] = {}
    for n_atoms in np.unique(padded):
        members = np.flatnonzero(padded == n_atoms).tolist()
        found = _minimize_group(model, [frames[k] for k in members], int(n_atoms), limits, how)
        ends.update(zip(members, found, strict=True))
    return [ends[k] for k in range(len(frames))]


def _sizes(n_atoms: np.ndarray) -> np.ndarray:
    """To how many atoms each structure is padded: to few different sizes, for each of them is compiled anew."""
    own = np.where(n_atoms > 1, -(-n_atoms // _ROUND_ATOMS) * _ROUND_ATOMS, 1)
    padded, size, padding = own.copy(), 0, 0
    for one in np.unique(own)[::-1]:
        same = own == one
        padding += int((size - n_atoms[same]).sum())
        if padding > _WORTH or not size:
            size, padding = one, 0
        padded[same] = size
    return padded


def _minimize_group(model: Model, frames: list[ase.Atoms], n_atoms: int, limits: Limits, how: How) -> list[Ended]:
    program = _program(model.potential, how.method, how.freedom, limits.smax is None)
    params = cast_params(model.params, "float64")
    waiting, ends = list(range(len(frames))), {}
    n_slots = min(_power_of_two(len(frames)), max(1, _MAX_ATOMS // n_atoms))
    slots = table.new_slots(model.potential.config, frames, (n_slots, n_atoms))
    if how.symmetry:
        table.find_symmetry(slots)
    progress = program.start(jnp.zeros((n_slots, n_atoms, 3)), jnp.zeros(n_slots, bool))
    while len(ends) < len(frames):
        progress = _refill(program, slots, progress, waiting, ends)
        if not bool(progress.active.any()):
            continue
        stop_at = _enough(slots, progress, bool(waiting))
        numbers = jax.tree.map(jnp.asarray, limits._replace(smax=limits.smax or 0.0))
        structures = table.on_device(slots)
        progress, valid = program.advance(structures, progress, numbers, jnp.asarray(stop_at), params)
        progress = _collect(program, slots, structures, progress, valid, ends)
        if not waiting and _SHRINK * int(progress.active.sum()) <= n_slots and n_slots * n_atoms > _SMALL:
            slots, progress = _shrunk(slots, progress)
            n_slots = len(slots.holds)
    return [ends[k] for k in range(len(frames))]


def _enough(slots: table.Slots, progress: Progress, waiting: bool) -> int:
    """With no more active slots than this the device returns: to refill others, or to go on with fewer."""
    if waiting:
        n_active = int(progress.active.sum())
        return n_active - max(1, n_active // 4)
    n_slots = len(slots.holds)
    return n_slots // _SHRINK if n_slots * slots.shape.n_atoms > _SMALL else 0


def _refill(program: _Program, slots: table.Slots, progress: Progress, waiting: list[int], ends: dict) -> Progress:
    """Put structures that wait into slots that are free."""
    fresh, positions = np.zeros(len(slots.holds), bool), np.zeros((len(slots.holds), slots.shape.n_atoms, 3))
    for slot in np.flatnonzero(slots.holds < 0):
        while waiting and not fresh[slot]:
            which = waiting.pop(0)
            try:
                positions[slot], fresh[slot] = table.put(slots, int(slot), which), True
            except ValueError as error:
                if slots.frames[which].constraints:
                    raise
                ends[which] = Ended(slots.frames[which].copy(), np.nan, False, 0, np.nan, np.nan, str(error))
                slots.holds[slot] = -1
    if not fresh.any():
        return progress
    new = program.start(jnp.asarray(positions), jnp.asarray(fresh))
    return jax.tree.map(lambda a, b: _choose(jnp.asarray(fresh), a, b), new, progress)


def _collect(
    program: _Program, slots: table.Slots, structures: Structures, progress: Progress, valid: Array, ends: dict
) -> Progress:
    """Take out what is done, and find new neighbours where the list has become too old."""
    accepted, trial = jax.device_get(program.places(structures, progress.state))
    host = jax.device_get(progress._replace(state=()))
    active = np.array(host.active)
    for slot in np.flatnonzero(slots.holds >= 0):
        problem, which = "", int(slots.holds[slot])
        if active[slot] and not valid[slot]:
            try:
                table.find_neighbors(slots, int(slot), trial[0][slot], trial[1][slot])
            except ValueError as error:  # atoms on top of each other, or a cell without a volume
                problem, active[slot] = str(error), False
        if not active[slot]:
            atoms = table.at(slots, int(slot), accepted[0][slot], accepted[1][slot])
            numbers = (float(host.energy[slot]), bool(host.converged[slot]), max(0, int(host.n_evaluations[slot]) - 1))
            ends[which] = Ended(atoms, *numbers, float(host.max_force[slot]), float(host.max_stress[slot]), problem)
            slots.holds[slot] = -1
    return progress._replace(active=jnp.asarray(active))


def _shrunk(slots: table.Slots, progress: Progress) -> tuple[table.Slots, Progress]:
    """The slots in use, in a smaller table."""
    used = np.flatnonzero(slots.holds >= 0)
    size = _power_of_two(max(1, len(used)))
    unused = np.flatnonzero(slots.holds < 0)
    keep = np.concatenate([used, unused[: size - len(used)]])
    names = ("holds", "cell", "listed_cell", "reach", "free")
    for name in names:
        setattr(slots, name, getattr(slots, name)[keep])
    slots.graphs = jax.tree.map(lambda x: x[keep], slots.graphs)
    return slots, jax.tree.map(lambda x: x[keep], progress)


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()


@lru_cache(maxsize=32)
def _program(potential: Potential, method: str, freedom: Freedom, as_ase: bool) -> _Program:
    minimizer = MINIMIZERS[method]

    @jax.jit
    def start(positions: Array, active: Array) -> Progress:
        b = len(positions)
        unknown = jnp.full(b, jnp.nan, positions.dtype)
        state = jax.vmap(minimizer.start)(coordinates(positions))
        return Progress(state, unknown, unknown, unknown, jnp.zeros(b, int), active, jnp.zeros(b, bool))

    @jax.jit
    def advance(
        structures: Structures, progress: Progress, limits: Limits, enough: Array, params: Params
    ) -> tuple[Progress, Array]:
        def valid(progress: Progress) -> Array:
            return list_is_valid(structures, progress.state.trial, potential.config.cutoff)

        def goes_on(carry: tuple) -> Array:
            progress, valid = carry
            stuck = jnp.sum(progress.active & ~valid)
            n_active = jnp.sum(progress.active)
            return (n_active > enough) & (8 * stuck <= n_active) & (stuck < n_active)

        def body(carry: tuple) -> tuple:
            progress, there = carry
            found = evaluate(potential, params, structures, progress.state.trial, freedom, limits.pressure)
            new = _step(minimizer, structures, progress, found, limits, as_ase=as_ase)
            progress = jax.tree.map(partial(_choose, progress.active & there), new, progress)
            return progress, valid(progress)

        return jax.lax.while_loop(goes_on, body, (progress, valid(progress)))

    @jax.jit
    def places(structures: Structures, state: Any) -> tuple:
        return tuple(geometry(structures, x) for x in (state.x, state.trial))

    return _Program(start, advance, places)


def _step(
    minimizer: Minimizer,
    structures: Structures,
    progress: Progress,
    found: Evaluation,
    limits: Limits,
    *,
    as_ase: bool,
) -> Progress:
    """What one evaluation changes, as if every slot were active."""
    max_force = jnp.sqrt(jnp.max(jnp.sum(found.forces**2, axis=2), axis=1))
    max_stress = jnp.max(jnp.abs(found.stress), axis=(1, 2))
    if as_ase:
        rows = jnp.sqrt(jnp.sum(found.stress**2, axis=2)) * (found.volume / structures.n_atoms)[:, None]
        converged = (max_force <= limits.fmax) & (jnp.max(rows, axis=1) <= limits.fmax)
    else:
        converged = (max_force <= limits.fmax) & (max_stress <= limits.smax)

    state = jax.vmap(minimizer.update)(progress.state, found.enthalpy, found.gradient, converged)
    accepted = jnp.all(state.x == progress.state.trial, axis=1)
    values = ((found.energy, progress.energy), (max_force, progress.max_force), (max_stress, progress.max_stress))
    energy, max_force, max_stress = (jnp.where(accepted, new, old) for new, old in values)
    ratio = found.volume / jnp.abs(jnp.linalg.det(structures.cell))
    far = ~((ratio < VOLUME_FACTOR) & (ratio > 1 / VOLUME_FACTOR)) & accepted
    n = progress.n_evaluations + 1
    done = accepted & converged
    ended = done | far | ~jnp.isfinite(energy) | (n > limits.max_steps)
    return Progress(state, energy, max_force, max_stress, n, progress.active & ~ended, done)


def _choose(where: Bool[Array, " b"], new: Array, old: Array) -> Array:
    return jnp.where(where.reshape(-1, *[1] * (new.ndim - 1)), new, old)
