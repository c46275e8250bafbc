"""The compiled part of dynamics: chunks of steps of any pair of jax-md's form, of one structure or of many."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import ase
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxmlip.potentials.base import Params, Potential
from jaxmlip.programs import program as by_work
from jaxmlip.simulate.dynamics.ensembles import ENSEMBLES, Bath, Configuration, Ensemble, extended_energy, own, register
from jaxmlip.simulate.jaxmd import (
    Evaluation,
    Measured,
    energy_function,
    fractional,
    measure,
    shift_function,
    strain_matrix,
)
from jaxmlip.simulate.neighbor_list import NeighborList, Plan, build_list, crowded, lasts, room_left

_LARGEST_STEP = 0.5  # Å; an atom that moves more in one step is no dynamics any more


class Kind(NamedTuple):
    """What a compiled program depends on."""

    potential: Potential
    ensemble: str | Callable  # a name, or a user's simulator
    precision: str  # of the potential; motion and neighbours are always in float64
    n_dof: int
    bias: Callable | None = None  # (Cartesian positions, cell with rows as vectors) -> eV
    many: bool = False  # structures of equal size, side by side


class World(NamedTuple):
    """What stays as it is in a run."""

    params: Params
    species: Int[Array, " n_atoms"]
    mass: Float[Array, "n_atoms 1"]  # eV·step²/Å²
    free: Bool[Array, "n_atoms 1"]  # not held fixed


class Moment(NamedTuple):
    """Everything that the future of a run depends on."""

    state: Any  # of the pair
    neighbors: Any  # NeighborList
    box: Float[Array, "3 3"]  # of pairs that have none
    heat: Float[Array, ""]  # eV that a stochastic bath has given
    failed: Bool[Array, "3"]  # no room for neighbours; a list too old when it was used; an atom moved too far


class Row(NamedTuple):
    """What the log says of one moment."""

    potential: Array  # eV
    kinetic: Array  # eV
    conserved: Array  # eV
    pressure: Array  # eV/Å³
    stress: Array  # [3, 3], eV/Å³, with the part of the motion
    volume: Array  # Å³
    temperature: Array  # 2 E_kin / n_dof, in eV


class Program(NamedTuple):
    """Compiled functions of one kind; ``plan`` is static. Of many structures all but the params have a first axis."""

    start: Any  # (plan, position, box, momentum, key, bath, world) -> Moment
    relist: Any  # (plan, moment, position, box) -> Moment with neighbours found there
    advance: Any  # (n_steps, moment, (bath before, bath after), world) -> Moment
    row: Any  # (moment, bath, world) -> Row


def positions_of(state: Any) -> Any:
    """Fractional positions, (…, n_atoms, 3), of JAX or of NumPy as the state is."""
    return getattr(state.position, "value", state.position)


class Places(NamedTuple):
    """Where a run starts."""

    position: Float[Array, "n_atoms 3"]
    """Fractional."""
    box: Float[Array, "3 3"]
    momentum: Float[Array, "n_atoms 3"]
    """eV·step/Å."""
    key: Array


def box_of(moment: Moment) -> Any:
    """The box of now, (…, 3, 3), of JAX or of NumPy; lattice vectors are columns."""
    return getattr(moment.state, "box", moment.box)


def masses(atoms: ase.Atoms, step: float) -> Float[np.ndarray, "n_atoms 1"]:
    """In eV·step²/Å², for a ``step`` in ASE's unit of time."""
    return atoms.get_masses()[:, None] / step**2


@lru_cache(maxsize=64)
def program(kind: Kind) -> Program:
    """The compiled functions; jax-md is imported here."""
    register()
    axes: Any = World(None, 0, 0, 0)  # pyright: ignore[reportArgumentType]
    over = partial(jax.vmap, in_axes=(0, axes)) if kind.many else lambda function: function
    each = jax.vmap if kind.many else lambda function: function

    @by_work(static_argnums=0)  # it runs once
    def start(plan: Plan, at: Places, bath: Bath, world: World) -> Moment:
        return over(lambda at, world: _start(kind, plan, at, bath, world))(at, world)

    @partial(jax.jit, static_argnums=0)
    def relist(plan: Plan, moment: Moment, position: Array, box: Array) -> Moment:
        found = each(partial(build_list, plan))(position, box)
        overflow = moment.failed.at[..., 0].set(found.did_buffer_overflow)
        return moment._replace(neighbors=found, failed=overflow)

    @jax.jit
    def advance(n_steps: Array, moment: Moment, baths: tuple[Bath, Bath], world: World) -> Moment:
        def goes_on(carry: tuple) -> Array:
            return (carry[0] < n_steps) & ~jnp.any(carry[1].failed)

        def step(carry: tuple) -> tuple:
            k, moment = carry
            bath = jax.tree.map(lambda a, b: a + (b - a) * (k + 1) / n_steps, *baths)
            moment = over(lambda moment, world: _step(kind, moment, bath, world))(moment, world)
            return k + 1, _refreshed(each, moment)

        return jax.lax.while_loop(goes_on, step, (jnp.zeros_like(n_steps), moment))[1]

    @jax.jit
    def row(moment: Moment, bath: Bath, world: World) -> Row:
        return over(lambda moment, world: _row(kind, moment, bath, world))(moment, world)

    return Program(start, relist, advance, row)


def _ensemble(kind: Kind) -> Ensemble:
    return own(kind.ensemble) if callable(kind.ensemble) else ENSEMBLES[kind.ensemble]


def _pair(kind: Kind, bath: Bath, world: World) -> tuple[Callable, Callable]:
    def force_fn(position: Configuration, *, neighbor: NeighborList, box: Array, **_: Any) -> Configuration:
        found = _measured(kind, neighbor, position.value, box, world)
        return Configuration(found.force, found.energy, found.stress, kind.n_dof)

    def energy_fn(position: Array, *, neighbor: NeighborList, box: Any = None, perturbation: Any = None, **_: Any):
        function = energy_function(kind.potential, kind.precision)
        position = jnp.where(world.free, position, jax.lax.stop_gradient(position))
        at = {"neighbor": neighbor, "box": box, "perturbation": perturbation}
        energy = function(position, **at, params=world.params, species=world.species)
        if kind.bias is None:
            return energy
        from jax_md import space

        strain = strain_matrix(perturbation, position.dtype)
        return energy + kind.bias(space.transform(box, position) @ strain.T, (strain @ box).T)

    def shift_fn(position: Array, displacement: Array, **at: Any) -> Array:
        return shift_function()(position, jnp.where(world.free, displacement, 0), **at)

    ensemble = _ensemble(kind)
    return ensemble.pair(force_fn if ensemble.measured else energy_fn, shift_fn, bath)


def _start(kind: Kind, plan: Plan, at: Places, bath: Bath, world: World) -> Moment:
    position, box, momentum, key = at
    neighbors = build_list(plan, position, box)
    if _ensemble(kind).measured:
        zero = jnp.zeros((), position.dtype)
        position = Configuration(position, zero, jnp.zeros_like(box), kind.n_dof)
    init, _ = _pair(kind, bath, world)
    offered = {"kT": bath.kT, "mass": world.mass, "momenta": momentum, "neighbor": neighbors, "box": box}
    state = init(key, position, **_accepted(init, offered))
    if hasattr(getattr(state, "thermostat", None), "degrees_of_freedom"):  # jax-md counts the centre of mass too
        state = state.set(thermostat=state.thermostat.set(degrees_of_freedom=kind.n_dof))
    overflow = crowded(neighbors, positions_of(state), box)
    return Moment(state, neighbors, box, jnp.zeros((), box.dtype), jnp.zeros(3, bool).at[0].set(overflow))


def _accepted(function: Callable, offered: dict[str, Any]) -> dict[str, Any]:
    """Those of the arguments ``offered`` that ``function`` takes."""
    import inspect

    parameters = inspect.signature(function).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return offered
    return {name: value for name, value in offered.items() if name in parameters}


def _step(kind: Kind, moment: Moment, bath: Bath, world: World) -> Moment:
    """One step with the list as it is, and what was wrong with it."""
    _, apply = _pair(kind, bath, world)
    old, neighbors = moment.state, moment.neighbors
    new = apply(old, neighbor=neighbors, **({} if hasattr(old, "box") else {"box": moment.box}))
    moved = moment._replace(state=new)
    position, box = positions_of(new), box_of(moved)
    step = (position - positions_of(old)) @ box.T
    lost = ~(jnp.max(jnp.sum(step**2, axis=1)) < _LARGEST_STEP**2)  # also true of NaN
    failed = (crowded(neighbors, position, box), room_left(neighbors, position, box) < 0, lost)
    heat = _ensemble(kind).heat
    given = 0 if heat is None else heat(partial(_kinetic, world), old, new)
    return moved._replace(heat=moment.heat + given, failed=moment.failed | jnp.stack(failed))


def _refreshed(each: Callable, moment: Moment) -> Moment:
    """New lists for all, where one of them does not last."""
    listed, position, box = moment.neighbors, each(positions_of)(moment.state), each(box_of)(moment)
    stays = jnp.all(each(lasts)(listed, position, box))
    new = jax.lax.cond(stays, lambda: listed, lambda: each(partial(build_list, listed.plan))(position, box))
    overflow = moment.failed[..., 0] | new.did_buffer_overflow
    return moment._replace(neighbors=new, failed=moment.failed.at[..., 0].set(overflow))


def _measured(kind: Kind, neighbors: NeighborList, position: Array, box: Array, world: World) -> Measured:
    how = Evaluation(kind.potential, kind.precision)
    found = measure(how, world.params, neighbors, world.species, position, box)
    if kind.bias is not None:
        found = jax.tree.map(jnp.add, found, _bias(kind.bias, position, box))
    return found._replace(force=jnp.where(world.free, found.force, 0))


def _bias(bias: Callable, position: Array, box: Array) -> Measured:
    cartesian, eye = position @ box.T, jnp.eye(3, dtype=box.dtype)

    def energy(moved: Array, strain: Array) -> Array:
        return bias(moved @ strain.T, (strain @ box).T)

    value, (slope, virial) = jax.value_and_grad(energy, argnums=(0, 1))(cartesian, eye)
    return Measured(value, -slope, (virial + virial.T) / 2 / jnp.abs(jnp.linalg.det(box)))


def _kinetic(world: World, momentum: Array) -> Array:
    return jnp.sum(jnp.where(world.free, momentum**2 / world.mass, 0)) / 2


def _row(kind: Kind, moment: Moment, bath: Bath, world: World) -> Row:
    state, box = moment.state, box_of(moment)
    volume = jnp.abs(jnp.linalg.det(box))
    carried = _ensemble(kind).measured
    found = state.force if carried else _measured(kind, moment.neighbors, state.position, box, world)
    momentum = jnp.where(world.free, getattr(state, "momentum", jnp.zeros_like(positions_of(state))), 0)
    kinetic, motion = _kinetic(world, momentum), (momentum / world.mass).T @ momentum
    stress = found.stress - motion / volume
    conserved = found.energy + kinetic - moment.heat + extended_energy(state, bath)
    temperature = 2 * kinetic / max(kind.n_dof, 1)
    return Row(found.energy, kinetic, conserved, -jnp.trace(stress) / 3, stress, volume, temperature)


def first_places(atoms: ase.Atoms, velocities: Float[np.ndarray, "n_atoms 3"], step: float, seed: int) -> Places:
    """Where atoms are and how they move; ``velocities`` in ASE's units."""
    position, box = fractional(atoms, "float64")
    momentum = jnp.asarray(atoms.get_masses()[:, None] * velocities / step)
    return Places(position, box, momentum, jax.random.PRNGKey(seed))
