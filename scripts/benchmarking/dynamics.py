"""The jaxmlip side of dynamics: chunks of steps of one structure."""

from collections.abc import Callable
from typing import Any

import ase
import jax
import jax.numpy as jnp
import numpy as np

import jaxmlip
from benchmarking.cases import HEAVY
from jaxmlip.simulate.dynamics import Dynamics, Hooks
from jaxmlip.simulate.dynamics.ensembles import Configuration
from jaxmlip.simulate.dynamics.motion import Moment
from jaxmlip.simulate.dynamics.recorder import Recorder
from jaxmlip.simulate.dynamics.start import bath_at, first_moment, prepared
from jaxmlip.simulate.jaxmd import jaxmd_context
from jaxmlip.units import BOLTZMANN

_TEMPERATURE = 300.0


def _integration(energy_fn: Callable, shift_fn: Callable, dt: float, kT: Any) -> tuple:
    """A step of NVT without forces: what remains is all that is neither potential nor neighbour list."""
    from jax_md import simulate

    return simulate.nvt_nose_hoover(lambda position, **_: jnp.zeros_like(position), shift_fn, dt, kT, chain_length=3)


class Run:
    """A structure on its way."""

    def __init__(self, model: jaxmlip.Model, atoms: ase.Atoms, precision: str) -> None:
        atoms.set_masses(atoms.get_masses() * HEAVY)  # pyright: ignore[reportArgumentType]
        spread = np.sqrt(_TEMPERATURE * HEAVY * BOLTZMANN / atoms.get_masses())[:, None]
        velocities = spread * np.random.default_rng(0).standard_normal((len(atoms), 3))
        atoms.set_velocities(velocities - velocities.mean(axis=0))
        settings: Any = {"precision": precision, "temperature": _TEMPERATURE * HEAVY, "keep_velocities": True}
        with jaxmd_context("float64"):
            self.runs = {
                name: prepared(model, [atoms], Dynamics("nvt", **settings), hooks, many=False)
                for name, hooks in (("nvt", Hooks()), ("integration", Hooks(simulator=_integration)))
            }
        self.moments: dict[str, Moment] = {}

    def start(self, n_steps: int) -> Configuration:
        """The first forces, with their energy, and steps: all that compiles."""
        for name, run in self.runs.items():
            with jaxmd_context("float64"):
                self.moments[name] = first_moment(run, [Recorder(run.settings, run.hooks)])[1]
        self.steps("nvt", n_steps)
        return self.moments["nvt"].state.force

    def steps(self, kind: str, n_steps: int) -> None:
        """The first steps once more.

        Raises:
            RuntimeError: the neighbour list overflowed: then what was timed is nothing.
        """
        run = self.runs[kind]
        with jaxmd_context("float64"):
            bath = bath_at(run, 0)
            advance = run.program.advance
            end = jax.block_until_ready(advance(jnp.asarray(n_steps), self.moments[kind], (bath, bath), run.world))
        if bool(end.failed.any()):
            raise RuntimeError(f"the run failed: room, age of the list, lost atoms {np.asarray(end.failed).tolist()}")
