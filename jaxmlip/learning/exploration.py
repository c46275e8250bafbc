"""What a teacher visits and says: labels, snapshots of its dynamics, and the paths of its relaxations.

Structures move side by side in batches of one shape, so that few programs compile whatever the sizes are: their
neighbours are found anew at each step, on the host, which is little beside the forces of a large network. Every
snapshot carries the teacher's energy (eV), forces (eV/Å) and stress (eV/Å³), for they are known there.

References:
    Leimkuhler, Matthews, Appl. Math. Res. Express 2013, 34: BAOAB. Bernetti, Bussi, J. Chem. Phys. 153, 114107 (2020):
    stochastic cell rescaling. Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006): FIRE.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import ase
import jax
import numpy as np
from jaxtyping import Float

from jaxmlip.config import Settings
from jaxmlip.data.labels import Labels, attach, labels
from jaxmlip.graph.batch import Shape, batch, max_neighbors
from jaxmlip.graph.neighbors import neighbor_pairs
from jaxmlip.learning.structures import bare, is_sound
from jaxmlip.potentials.base import cast_params
from jaxmlip.potentials.model import Model, predict
from jaxmlip.units import BOLTZMANN, FEMTOSECOND

_ROUNDING = (8, 8, 16)  # numbers of structures, atoms and neighbours are rounded up to multiples
_PACK = 72  # atoms that are labelled at once
_FASTEST = 0.1  # Å; no atom moves farther in a step
_COMPRESSIBILITY = 1.6  # Å³/eV, 1/(100 GPa) as of an oxide; it sets how fast a cell follows, not where it goes
Watch = Callable[[list[ase.Atoms]], Sequence[bool]]
"""Looks at snapshots while structures move, and tells which of them go on."""


@dataclasses.dataclass(frozen=True)
class Exploration(Settings):
    """How a teacher's dynamics and relaxations are run."""

    temperatures: tuple[float, ...] = (300.0, 600.0, 1000.0)
    """K; one is drawn for each start."""
    timestep: float = 2.0
    """fs."""
    n_steps: int = 100
    """Of each run of dynamics."""
    relaxation_steps: int = 40
    """Of each relaxation (FIRE, the cell fixed)."""
    snapshots: int = 5
    """Kept of each run or relaxation, evenly spaced; the start is not one of them."""
    friction: float = 0.02
    """1/fs, of the Langevin bath."""
    pressures: tuple[float, ...] = ()
    """eV/Å³ (1 GPa is 0.00624); one is drawn for each start, whose cell then breathes without changing its shape.
    None: cells stay."""
    barostat_time: float = 500.0
    """fs, in which a cell follows its pressure."""
    dtype: str = "float32"
    """Precision of the teacher."""
    seed: int = 0
    """Of velocities and the bath."""


def labelled(model: Model, atoms: Sequence[ase.Atoms], *, dtype: str = "float32") -> list[ase.Atoms]:
    """Copies of ``atoms`` with what ``model`` says of them; ``info`` is kept.

    >>> from jaxmlip.potentials.zbl import ZBLConfig, zbl
    >>> potential = zbl(ZBLConfig(species=("Li",), cutoff=2.0))
    >>> (found,) = labelled(Model(potential, potential.init(None, None)), [ase.Atoms("Li")])
    >>> labels(found).energy
    0.0
    """
    frames = [bare(frame) for frame in atoms]
    for copy, frame in zip(frames, atoms, strict=True):
        copy.info = dict(frame.info)
    shapes: dict[bool, Shape] = {}
    chunks = list(in_chunks(frames, _PACK))
    for chunk in chunks:  # two sizes for all: a large network takes long to compile
        large = sum(map(len, chunk)) > _PACK
        shapes[large] = _large_enough(chunk, model.potential.config.cutoff, shapes.get(large, Shape(0, 0, 0)))
    for chunk in chunks:
        _attach(model, chunk, shapes[sum(map(len, chunk)) > _PACK], dtype)
    return frames


def dynamics(
    model: Model, atoms: Sequence[ase.Atoms], settings: Exploration, *, watch: Watch | None = None
) -> list[ase.Atoms]:
    """Snapshots of Langevin dynamics of each structure with ``model``, labelled by it.

    A run whose atoms come too near, or whose forces are no numbers, ends there; what it gave before is kept. So does
    one of whose snapshot ``watch`` says that it may not go on; that snapshot is its last.
    """
    rng = np.random.default_rng(settings.seed)
    walkers = [_Walker.at_rest(frame) for frame in atoms]
    kT = [float(rng.choice(settings.temperatures)) * BOLTZMANN for _ in atoms]
    pressures = [float(rng.choice(settings.pressures)) for _ in atoms] if settings.pressures else None
    walkers = [w._replace(velocities=_thermal(w, e, rng)) for w, e in zip(walkers, kT, strict=True)]
    decay = float(np.exp(-settings.friction * settings.timestep))
    step = settings.timestep * FEMTOSECOND
    kept: list[ase.Atoms] = []
    shape = Shape(0, 0, 0)
    for number in range(settings.n_steps + 1):
        walkers, shape = _evaluated(model, walkers, shape, settings.dtype)
        if number and number % max(1, settings.n_steps // settings.snapshots) == 0:
            walkers = _seen(walkers, "dynamics", kept, watch)
        if not any(w.alive for w in walkers):
            break
        if pressures is not None:
            share = settings.timestep / settings.barostat_time
            baths = [_Bath(share, e, p) for e, p in zip(kT, pressures, strict=True)]
            walkers = [_breathed(w, b, rng) if w.alive else w for w, b in zip(walkers, baths, strict=True)]
        walkers = [_baoab(w, (step, decay, e), rng) if w.alive else w for w, e in zip(walkers, kT, strict=True)]
    return kept


def relaxations(
    model: Model, atoms: Sequence[ase.Atoms], settings: Exploration, *, watch: Watch | None = None
) -> list[ase.Atoms]:
    """Snapshots on the way of each structure to a minimum of ``model``, labelled by it; the cell stays.

    ``watch`` ends single relaxations, as those of `dynamics`.
    """
    walkers = [_Walker.at_rest(frame) for frame in atoms]
    fires = [_Fire() for _ in atoms]
    kept: list[ase.Atoms] = []
    shape = Shape(0, 0, 0)
    wanted = set(np.unique(np.geomspace(1, settings.relaxation_steps, settings.snapshots).astype(int)).tolist())
    for number in range(settings.relaxation_steps + 1):
        walkers, shape = _evaluated(model, walkers, shape, settings.dtype)
        if number in wanted:
            walkers = _seen(walkers, "relaxation", kept, watch)
        moved = [_fire_step(w, f) if w.alive else (w, f) for w, f in zip(walkers, fires, strict=True)]
        walkers, fires = [w for w, _ in moved], [f for _, f in moved]
    return kept


class _Walker(NamedTuple):
    """A structure that moves; forces are those of its place once it was evaluated."""

    atoms: ase.Atoms
    velocities: Float[np.ndarray, "n_atoms 3"]  # Å per ASE's unit of time
    forces: Float[np.ndarray, "n_atoms 3"]
    alive: bool  # False: it left what can be trusted

    @classmethod
    def at_rest(cls, atoms: ase.Atoms) -> "_Walker":
        zero = np.zeros_like(atoms.positions)
        return cls(bare(atoms), zero, zero, alive=is_sound(atoms))


class _Bath(NamedTuple):
    """What a cell follows."""

    share: float  # a step's part of the barostat's time
    thermal: float  # kT, eV
    pressure: float  # eV/Å³


class _Fire(NamedTuple):
    step: float = 0.1  # ASE's unit of time
    mixing: float = 0.1  # of the velocity with the direction of the force
    downhill: int = 0  # steps in a row


def _evaluated(model: Model, walkers: list[_Walker], shape: Shape, dtype: str) -> tuple[list[_Walker], Shape]:
    """Walkers with labels and forces of where they are; a larger shape where theirs needs it."""
    walkers = [w._replace(alive=w.alive and is_sound(w.atoms)) for w in walkers]
    alive = [k for k, w in enumerate(walkers) if w.alive]
    if not alive:
        return walkers, shape
    frames = [walkers[k].atoms for k in alive]
    shape = _large_enough(frames, model.potential.config.cutoff, shape)
    _attach(model, frames, shape, dtype)
    for k, frame in zip(alive, frames, strict=True):
        forces = labels(frame).forces
        walkers[k] = walkers[k]._replace(forces=np.zeros((len(frame), 3)) if forces is None else forces)
        walkers[k] = walkers[k]._replace(alive=forces is not None)
    return walkers, shape


def _attach(model: Model, frames: list[ase.Atoms], shape: Shape, dtype: str) -> None:
    """Give structures what the model says of them; none where that is no number."""
    with jax.enable_x64(dtype == "float64"):
        graph = batch(frames, model.potential.config, shape=shape, dtype=dtype)
        found = jax.device_get(predict(Model(model.potential, cast_params(model.params, dtype)), graph))
    first = 0
    for number, frame in enumerate(frames):
        energy, forces = float(found.energy[number]), np.asarray(found.forces[first : first + len(frame)], float)
        first += len(frame)
        stress = np.asarray(found.stress[number], float) if frame.pbc.all() else None
        good = np.isfinite(energy) and np.isfinite(forces).all()
        attach(frame, Labels(energy, forces, stress) if good else Labels(None, None, None))


def _large_enough(frames: list[ase.Atoms], cutoff: float, shape: Shape) -> Shape:
    """The old shape, grown where it must be."""
    width = max(max_neighbors(frame, neighbor_pairs(frame, cutoff)) for frame in frames)
    needed = (len(frames), sum(map(len, frames)), width)
    return Shape(
        *(old if old >= need else -(-need // by) * by for old, need, by in zip(shape, needed, _ROUNDING, strict=True))
    )


def _snapshot(walker: _Walker, kind: str) -> ase.Atoms:
    found = bare(walker.atoms)
    found.info["kind"] = kind
    attach(found, labels(walker.atoms))
    return found


def _seen(walkers: list["_Walker"], kind: str, kept: list[ase.Atoms], watch: Watch | None) -> list["_Walker"]:
    """Snapshots of all that move go to ``kept``; the walkers that ``watch`` lets go on do."""
    moving = [k for k, w in enumerate(walkers) if w.alive]
    found = [_snapshot(walkers[k], kind) for k in moving]
    for k, frame in zip(moving, found, strict=True):
        frame.info["replica"] = k
    kept += found
    if watch is None or not found:
        return walkers
    goes_on = dict(zip(moving, watch(found), strict=True))
    return [w._replace(alive=w.alive and bool(goes_on[k])) if k in goes_on else w for k, w in enumerate(walkers)]


def _thermal(walker: _Walker, kT: float, rng: np.random.Generator) -> np.ndarray:
    masses = walker.atoms.get_masses()[:, None]
    return rng.standard_normal((len(masses), 3)) * np.sqrt(kT / masses)


def _baoab(walker: _Walker, bath: tuple[float, float, float], rng: np.random.Generator) -> _Walker:
    """One step, the half kicks of two neighbouring steps joined: the places are those of BAOAB."""
    step, decay, kT = bath
    masses = walker.atoms.get_masses()[:, None]
    velocities = walker.velocities + step * walker.forces / masses
    atoms = bare(walker.atoms)
    half = _capped(step / 2 * velocities)
    noise = rng.standard_normal(velocities.shape) * np.sqrt(kT * (1 - decay**2) / masses)
    velocities = decay * velocities + noise
    atoms.positions += half + _capped(step / 2 * velocities)
    return walker._replace(atoms=atoms, velocities=velocities)


def _breathed(walker: _Walker, bath: _Bath, rng: np.random.Generator) -> _Walker:
    """Stochastic cell rescaling: d ln V = −(β/τ)(P₀ − P − kT/V) dt + √(2 kT β/(V τ)) dW."""
    share, kT, wanted = bath
    stress = labels(walker.atoms).stress
    if stress is None:
        return walker
    volume = walker.atoms.get_volume()
    kinetic = np.sum(walker.atoms.get_masses()[:, None] * walker.velocities**2)
    pressure = float((kinetic / volume - np.trace(stress)) / 3)
    drift = -_COMPRESSIBILITY * share * (wanted - pressure - kT / volume)
    grown = drift + np.sqrt(2 * kT * _COMPRESSIBILITY * share / volume) * rng.standard_normal()
    factor = float(np.exp(np.clip(grown, -0.02, 0.02) / 3))
    atoms = bare(walker.atoms)
    atoms.set_cell(atoms.cell.array * factor, scale_atoms=True)
    return walker._replace(atoms=atoms, velocities=walker.velocities / factor)


def _fire_step(walker: _Walker, fire: _Fire) -> tuple[_Walker, _Fire]:
    """FIRE of unit masses, in steps that no atom exceeds."""
    F, v = walker.forces, walker.velocities
    if np.vdot(F, v) > 0:
        v = (1 - fire.mixing) * v + fire.mixing * F * np.linalg.norm(v) / max(np.linalg.norm(F), 1e-12)
        fire = fire._replace(downhill=fire.downhill + 1)
        if fire.downhill > 5:
            fire = fire._replace(step=min(fire.step * 1.1, 0.3), mixing=fire.mixing * 0.99)
    else:
        v, fire = np.zeros_like(v), _Fire(step=max(fire.step / 2, 0.01))
    v = v + fire.step * F
    atoms = bare(walker.atoms)
    atoms.positions += _capped(fire.step * v)
    return walker._replace(atoms=atoms, velocities=v), fire


def _capped(step: np.ndarray) -> np.ndarray:
    longest = float(np.linalg.norm(step, axis=1).max(initial=0.0))
    return step * min(1.0, _FASTEST / max(longest, 1e-12))


def in_chunks(frames: Sequence[ase.Atoms], max_atoms: int) -> Iterator[list[ase.Atoms]]:
    """Structures of like size together, about ``max_atoms`` atoms in each chunk.

    >>> [len(chunk) for chunk in in_chunks([ase.Atoms("Li2"), ase.Atoms("Li"), ase.Atoms("Li3")], 3)]
    [2, 1]
    """
    chunk: list[ase.Atoms] = []
    for frame in sorted(frames, key=len):
        if chunk and sum(map(len, chunk)) + len(frame) > max_atoms:
            yield chunk
            chunk = []
        chunk.append(frame)
    if chunk:
        yield chunk
