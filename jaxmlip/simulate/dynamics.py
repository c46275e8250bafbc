"""Molecular dynamics through jax-md: velocity Verlet at constant energy, on the device.

References:
    Swope et al., J. Chem. Phys. 76, 637 (1982): velocity Verlet.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import ase
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmlip.potentials.base import Model, Potential
from jaxmlip.simulate.jaxmd import (
    Engine,
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
from jaxmlip.units import BOLTZMANN, FEMTOSECOND, MEV

_SKIN = 1.0  # Å
_EVERY = 10  # steps from one kept frame to the next, in one call of the device
_MAX_REALLOCATIONS = 10


class Trajectory(NamedTuple):
    """Frames of a run, the first one its start; positions are never wrapped into the cell."""

    time: Float[np.ndarray, " n_frames"]  # fs
    positions: Float[np.ndarray, "n_frames n_atoms 3"]  # Å
    velocities: Float[np.ndarray, "n_frames n_atoms 3"]  # Å/fs
    potential_energy: Float[np.ndarray, " n_frames"]  # eV
    kinetic_energy: Float[np.ndarray, " n_frames"]  # eV
    atoms: ase.Atoms  # the last frame, with momenta in ASE's units

    @property
    def temperature(self) -> Float[np.ndarray, " n_frames"]:
        """2 E_kin / (3 (N − 1) k_B) in K: the centre of mass is at rest."""
        return 2 * self.kinetic_energy / (3 * max(self.positions.shape[1] - 1, 1) * BOLTZMANN)

    @property
    def drift(self) -> float:
        """Slope of the total energy against time in meV/atom/ps: zero for exact dynamics."""
        total = self.potential_energy + self.kinetic_energy
        slope = np.polyfit(self.time, total, 1)[0]
        return float(slope * 1000 * MEV / self.positions.shape[1])


class _Run(NamedTuple):
    """The compiled program of one potential: shared by all structures with equal shapes."""

    engine: Engine
    start: Callable
    advance: Callable
    frame: Callable


def nve(
    model: Model,
    atoms: ase.Atoms,
    *,
    timestep: float = 1.0,
    n_steps: int = 1000,
    temperature: float = 300.0,
    seed: int = 0,
) -> Trajectory:
    """A run at constant energy, cell and number of atoms, in float64; every tenth step is kept.

    >>> from ase.build import bulk
    >>> from jaxmlip.potentials.offsets import ZBLConfig, zbl
    >>> potential = zbl(ZBLConfig(species=("Si",), cutoff=2.2))
    >>> run = nve(Model(potential, potential.init(None, None)), bulk("Si"), n_steps=20, temperature=10.0)
    >>> run.time.tolist(), abs(run.drift) < 0.1
    ([0.0, 10.0, 20.0], True)

    Args:
        model: a potential with its parameters.
        atoms: the start; masses as ASE has them. Not changed.
        timestep: fs.
        n_steps: a multiple of 10.
        temperature: K, of the initial Maxwell-Boltzmann velocities; the centre of mass is put to rest.
        seed: of the velocities.

    Raises:
        ValueError: settings without meaning, or an element that the potential does not know.
        RuntimeError: the run blew up: a number is not finite, or a pair moved by more than half the skin in a step.
    """
    _check_settings(timestep, n_steps, temperature)
    pbc = (bool(atoms.pbc[0]), bool(atoms.pbc[1]), bool(atoms.pbc[2]))
    with jaxmd_context("float64"):
        run = _program(model.potential, pbc)
        positions, box = fractional(atoms, "float64")
        fixed = {
            "params": cast(model.params, "float64"),
            "species": species_of(model.potential, atoms),
            "box": box,
            "dt": jnp.asarray(timestep * FEMTOSECOND),
        }
        neighbor = _allocate(run, model, atoms, positions, box)
        state = run.start(jax.random.key(seed), positions, atoms.get_masses(), temperature, neighbor, fixed)
        frames = [jax.device_get(run.frame(state, neighbor, fixed))]
        for _ in range(n_steps // _EVERY):
            state, neighbor = _checked_advance(run, model, atoms, state, neighbor, fixed)
            frames.append(jax.device_get(run.frame(state, neighbor, fixed)))
    return _trajectory(atoms, frames, timestep * _EVERY)


def _check_settings(timestep: float, n_steps: int, temperature: float) -> None:
    if not (timestep > 0 and temperature >= 0):
        raise ValueError(
            f"timestep must be positive and temperature not negative, got {timestep} fs and {temperature} K"
        )
    if n_steps < _EVERY or n_steps % _EVERY:
        raise ValueError(f"n_steps must be a positive multiple of {_EVERY}, the distance of kept frames; got {n_steps}")


def _allocate(run: _Run, model: Model, atoms: ase.Atoms, positions: Array, box: Array, extra: int = 0) -> NeighborList:
    size = list_size(placed(atoms, positions, box), model.potential.config.cutoff + _SKIN, extra)
    return allocate_list(run.engine, positions, box, size)


def _checked_advance(
    run: _Run, model: Model, atoms: ase.Atoms, state: Any, neighbor: NeighborList, fixed: dict
) -> tuple[Any, NeighborList]:
    """``_EVERY`` steps; after an overflow they are thrown away and repeated with a larger neighbour list."""
    for _ in range(_MAX_REALLOCATIONS):
        new, new_neighbor, overflow, lost = run.advance(state, neighbor, fixed)
        if not overflow:
            break
        # Halfway between the frames there were more neighbours than at their ends: room for a quarter more.
        extra = neighbor.max_occupancy // 4
        neighbor = _allocate(run, model, atoms, state.position, fixed["box"], extra)
    else:
        lost = True
    if lost:
        raise RuntimeError(
            f"the run of {atoms.get_chemical_formula()} blew up: positions are not finite, or atoms moved by more than "
            f"{_SKIN / 2} Å in one step. Take a shorter timestep or a lower temperature, relax the start first "
            "(jaxmlip.simulate.relax), or check the potential's errors on such structures"
        )
    return new, new_neighbor


@lru_cache(maxsize=32)
def _program(potential: Potential, pbc: tuple[bool, bool, bool]) -> _Run:
    from jax_md import simulate

    engine = engine_of(potential, _SKIN, pbc, "float64")
    nve_start, nve_step = simulate.nve(engine.energy_fn, engine.shift_fn)

    @jax.jit
    def start(key: Array, positions: Array, masses: Array, temperature: Array, neighbor: Any, fixed: dict) -> Any:
        # jax-md's kT: it draws momenta with variance m kT and removes the motion of the centre of mass.
        return nve_start(key, positions, temperature * BOLTZMANN, mass=masses, neighbor=neighbor, **fixed)

    def step(carry: tuple, fixed: dict) -> tuple:
        state, neighbor, overflow, lost = carry
        neighbor = engine.update(state.position, neighbor, box=fixed["box"])
        state = nve_step(state, neighbor=neighbor, **fixed)
        lost |= ~(engine.moved(state.position, neighbor, fixed["box"]) < _SKIN)  # also true of NaN
        return state, neighbor, overflow | neighbor.did_buffer_overflow, lost

    @jax.jit
    def advance(state: Any, neighbor: NeighborList, fixed: dict) -> tuple:
        carry = (state, neighbor, jnp.asarray(False), jnp.asarray(False))
        return jax.lax.fori_loop(0, _EVERY, lambda _, carry: step(carry, fixed), carry)

    @jax.jit
    def frame(state: Any, neighbor: NeighborList, fixed: dict) -> tuple:
        energy = engine.energy_fn(state.position, neighbor=neighbor, **fixed)
        kinetic = jnp.sum(state.momentum**2 / state.mass) / 2
        return state.position @ fixed["box"].T, state.momentum / state.mass, energy, kinetic

    return _Run(engine, start, advance, frame)


def _trajectory(atoms: ase.Atoms, frames: list[tuple], interval: float) -> Trajectory:
    positions, velocities, potential, kinetic = (np.stack(values) for values in zip(*frames, strict=True))
    last = atoms.copy()
    last.positions = positions[-1]
    last.set_velocities(velocities[-1])
    time = np.arange(len(frames)) * interval
    return Trajectory(time, positions, velocities * FEMTOSECOND, potential, kinetic, last)
