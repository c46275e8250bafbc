"""How a run starts: what is checked, velocities, sizes of neighbour lists, and where a stopped one goes on."""

import operator
from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

import ase
import jax
import jax.numpy as jnp
import numpy as np
from ase.constraints import FixAtoms

from jaxmlip.potentials.base import cast_params
from jaxmlip.potentials.model import Model
from jaxmlip.programs import work
from jaxmlip.simulate.dynamics.ensembles import ENSEMBLES, Bath
from jaxmlip.simulate.dynamics.motion import (
    Kind,
    Moment,
    Places,
    Program,
    World,
    box_of,
    first_places,
    masses,
    positions_of,
)
from jaxmlip.simulate.dynamics.motion import program as compiled
from jaxmlip.simulate.dynamics.recorder import Recorder
from jaxmlip.simulate.dynamics.settings import Dynamics, Hooks
from jaxmlip.simulate.jaxmd import placed, species_of
from jaxmlip.simulate.neighbor_list import Plan, grown, plan
from jaxmlip.units import BOLTZMANN, FEMTOSECOND


class Run(NamedTuple):
    """What a run needs beside its state."""

    program: Program
    settings: Dynamics
    hooks: Hooks
    world: World
    frames: list[ase.Atoms]  # where it starts
    cutoff: float
    many: bool


def check(atoms: ase.Atoms, settings: Dynamics) -> None:
    """Refuses what a run cannot keep."""
    for constraint in atoms.constraints:
        if not isinstance(constraint, FixAtoms):
            raise ValueError(
                f"{atoms.get_chemical_formula()} has the constraint {type(constraint).__name__}; dynamics here keep "
                "FixAtoms only: remove it (atoms.set_constraint()), or run it with ASE and jaxmlip.calculator"
            )
    if settings.ensemble.startswith("npt") and not atoms.pbc.all():
        raise ValueError(
            f"{settings.ensemble} changes the cell, but {atoms.get_chemical_formula()} is periodic along "
            f"{atoms.pbc.tolist()} only: take nvt, or set atoms.pbc = True"
        )


def _free(atoms: ase.Atoms) -> np.ndarray:
    """[n_atoms, 1], False for atoms that are held fixed."""
    free = np.ones((len(atoms), 1), bool)
    for constraint in atoms.constraints:
        free[constraint.get_indices()] = False
    return free


def _n_dof(atoms: ase.Atoms, settings: Dynamics, hooks: Hooks) -> int:
    """3 N, less three where the centre of mass stays at rest."""
    free, ensemble = _free(atoms), ENSEMBLES[settings.ensemble]
    alone = free.all() and len(atoms) > 1 and hooks.bias is None and ensemble.conserves_momentum
    return 3 * int(free.sum()) - (3 if alone else 0)


def prepared(model: Model, frames: list[ase.Atoms], settings: Dynamics, hooks: Hooks, *, many: bool) -> Run:
    """The compiled program, and what stays as it is in the run."""
    dofs = {_n_dof(frame, settings, hooks) for frame in frames}
    if len(dofs) > 1:
        raise ValueError("structures that move side by side must hold equally many atoms fixed: run them one by one")
    kind = Kind(model.potential, hooks.simulator or settings.ensemble, settings.precision, dofs.pop(), hooks.bias, many)
    columns = [
        (species_of(model.potential, frame), masses(frame, settings.timestep * FEMTOSECOND), _free(frame))
        for frame in frames
    ]
    species, mass, free = (joined([jnp.asarray(x) for x in column], many) for column in zip(*columns, strict=True))
    world = World(cast_params(model.params, settings.precision), species, mass, free)
    return Run(compiled(kind), settings, hooks, world, frames, model.potential.config.cutoff, many)


def joined(parts: Sequence[Any], many: bool) -> Any:
    """One pytree with a first axis of structures; of a single structure without."""
    return jax.tree.map(lambda *x: jnp.stack(x), *parts) if many else parts[0]


def each(run: Run, tree: Any) -> list[Any]:
    """The pytrees of the structures, on the host."""
    tree = jax.device_get(tree)
    if not run.many:
        return [tree]
    return [jax.tree.map(operator.itemgetter(k), tree) for k in range(len(run.frames))]


def bath_at(run: Run, step: int) -> Bath:
    """The surroundings after a number of steps."""
    settings, hooks, time = run.settings, run.hooks, step * run.settings.timestep
    kelvin, pressure = settings.temperature, settings.pressure
    if settings.final_temperature is not None:
        kelvin += (settings.final_temperature - kelvin) * min(1.0, step / settings.n_steps)
    kelvin = kelvin if hooks.temperature is None else hooks.temperature(time)
    pressure = pressure if hooks.pressure is None else hooks.pressure(time)
    numbers = (kelvin * BOLTZMANN, pressure, settings.thermostat_time / settings.timestep)
    numbers += (settings.barostat_time / settings.timestep, settings.friction * settings.timestep)
    return Bath._make(jnp.asarray(x, float) for x in numbers)


def first_moment(run: Run, recorders: list[Recorder]) -> tuple[Plan, Moment, int]:
    """Where the run starts, or where it was stopped."""
    settings, cutoff = run.settings, run.cutoff
    places = [
        first_places(frame, _velocities(run, k), settings.timestep * FEMTOSECOND, settings.seed + k)
        for k, frame in enumerate(run.frames)
    ]
    sizes = reduce(both, [plan(frame, cutoff, settings.skin) for frame in run.frames])
    moment = _started(run, sizes, places)
    while bool(moment.failed.any()):  # more than the room that was made: rare
        sizes = grown(sizes, sizes)
        moment = _started(run, sizes, places)
    found = [recorder.restore(one) for recorder, one in zip(recorders, each(run, moment), strict=True)]
    known = [one for one in found if one is not None]
    if not known:
        return sizes, moment, 0
    if len(known) < len(found) or len({one.step for one in known}) > 1:
        raise ValueError("the checkpoints of these structures belong to different steps: give another folder")
    # The list as it was: built where it was built then.
    sizes, step = known[0].sizes, known[0].step
    then = joined([one.moment for one in known], run.many)
    positions, box = (joined(list(parts), run.many) for parts in zip(*((one.listed, one.box) for one in known)))
    return sizes, run.program.relist(sizes, then, positions, box), step


def _started(run: Run, sizes: Plan, places: list[Places]) -> Moment:
    """Before the first step, by a program that is compiled as one evaluation is worth it."""
    with work(run.world.species.size * sizes.width):
        return run.program.start(sizes, joined(places, run.many), bath_at(run, 0), run.world)


def both(one: Plan, other: Plan) -> Plan:
    """Sizes that serve both structures."""
    if (one.pbc, one.bins, one.reach) == (other.pbc, other.bins, other.reach):
        sizes = [max(getattr(one, n), getattr(other, n)) for n in ("capacity", "width", "inner")]
        return one._replace(capacity=sizes[0], width=sizes[1], inner=sizes[2])
    raise ValueError(
        "structures that move side by side need cells of about the same size and the same periodic directions: run "
        f"them one by one (bins {one.bins} and {other.bins}, periodic {one.pbc} and {other.pbc})"
    )


def _velocities(run: Run, k: int) -> np.ndarray:
    """Drawn at random, the centre of mass at rest, of exactly the temperature; or the structure's. In ASE's units."""
    atoms, settings = run.frames[k], run.settings
    free, kept = _free(atoms), settings.keep_velocities
    if kept:
        return np.where(free, atoms.get_velocities(), 0)
    weights = atoms.get_masses()[:, None]
    rng = np.random.default_rng(settings.seed + k)
    velocities = np.where(free, rng.standard_normal((len(weights), 3)) / np.sqrt(weights), 0)
    at_rest = free.all() and len(weights) > 1
    if at_rest:
        velocities -= (weights * velocities).sum(axis=0) / weights.sum()
    n_dof = max(1, 3 * int(free.sum()) - 3 * at_rest)
    twice = max((weights * velocities**2).sum(), 1e-300)
    return velocities * np.sqrt(n_dof * settings.temperature * BOLTZMANN / twice)


def frames_of(run: Run, moment: Moment) -> list[ase.Atoms]:
    """The structures with their momenta."""
    frames = []
    for start, one in zip(run.frames, each(run, moment), strict=True):
        atoms = placed(start, positions_of(one.state), box_of(one))
        momentum = np.asarray(getattr(one.state, "momentum", np.zeros((len(atoms), 3))))
        held = np.where(_free(start), momentum * run.settings.timestep * FEMTOSECOND, 0)
        atoms.set_momenta(held, apply_constraint=False)
        frames.append(atoms)
    return frames
