"""The jaxmlip side of dynamics: chunks of steps of one structure."""

from typing import Any

import ase
import jax
import jax.numpy as jnp
import numpy as np

import jaxmlip
from benchmarking.cases import HEAVY
from jaxmlip.potentials.base import cast_params
from jaxmlip.simulate.integrators import INTEGRATORS, Bath, State, nvt_nose_hoover
from jaxmlip.simulate.jaxmd import jaxmd_context, species_of
from jaxmlip.simulate.motion import first_state, program
from jaxmlip.simulate.neighbor_list import grown, plan
from jaxmlip.units import BOLTZMANN, FEMTOSECOND

_SKIN, _TEMPERATURE = 1.0, 300.0


def _integration(state: State, evaluate: Any, bath: Bath) -> State:
    """A step of NVT whose forces stay as they are: what remains is all that is neither potential nor neighbour list."""
    return nvt_nose_hoover(state, lambda moved: moved, bath)


INTEGRATORS["integration"] = _integration


class Run:
    """A structure on its way."""

    def __init__(self, model: jaxmlip.Model, atoms: ase.Atoms, precision: str) -> None:
        potential = model.potential
        atoms.set_masses(atoms.get_masses() * HEAVY)  # pyright: ignore[reportArgumentType]
        spread = np.sqrt(_TEMPERATURE * HEAVY * BOLTZMANN / atoms.get_masses())[:, None]
        velocities = spread * np.random.default_rng(0).standard_normal((len(atoms), 3))
        with jaxmd_context("float64"):
            self.plan = plan(atoms, potential.config.cutoff, _SKIN)
            self.fixed = (cast_params(model.params, precision), species_of(potential, atoms))
            self.state = first_state(atoms, velocities - velocities.mean(axis=0), 0)
            fs, kT = FEMTOSECOND, _TEMPERATURE * HEAVY * BOLTZMANN
            numbers = (fs, kT, 0.0, 100 * fs, 1000 * fs, 0.01 / fs, 3.0 * len(atoms) - 3)
            self.bath = Bath._make(jnp.asarray(x, float) for x in (*numbers, 6.0))
        self.programs = {name: program(potential, name, precision) for name in ("nvt", "integration")}

    def start(self, n_steps: int) -> State:
        """The first forces and steps, with room for the neighbours that come on the way: all that compiles."""
        first = self.state
        for _ in range(5):
            with jaxmd_context("float64"):
                self.state = self.programs["nvt"].start(self.plan, first, *self.fixed)
            try:
                self.steps("nvt", n_steps)
                break
            except RuntimeError:
                self.plan = grown(self.plan, self.plan)
        return self.state

    def steps(self, kind: str, n_steps: int) -> None:
        """The first steps once more.

        Raises:
            RuntimeError: the neighbour list overflowed: then what was timed is nothing.
        """
        with jaxmd_context("float64"):
            advance = self.programs[kind].advance
            end = jax.block_until_ready(advance(self.plan, jnp.asarray(n_steps), self.state, self.bath, self.fixed))
        if bool(end.failed.any()):
            raise RuntimeError(f"the run failed: overflow and lost atoms {np.asarray(end.failed).tolist()}")
