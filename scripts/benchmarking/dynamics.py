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
from jaxmlip.simulate.dynamics.motion import Moment, box_of, positions_of
from jaxmlip.simulate.dynamics.recorder import Recorder
from jaxmlip.simulate.dynamics.start import bath_at, first_moment, prepared
from jaxmlip.simulate.jaxmd import jaxmd_context
from jaxmlip.simulate.neighbor_list import grown
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
                sizes, moment, _ = first_moment(run, [Recorder(run.settings, run.hooks)])
                if name == "integration":  # atoms without forces would fly apart, and lists overflow
                    moment = moment._replace(state=moment.state.set(momentum=0 * moment.state.momentum))
                while bool(self._advanced(name, moment, n_steps).failed[0]):  # room, as dynamics makes it on its way
                    sizes = grown(sizes, sizes)
                    blank = moment._replace(failed=jnp.zeros_like(moment.failed))
                    moment = run.program.relist(sizes, blank, positions_of(moment.state), box_of(moment))
                self.moments[name] = moment
        self.steps("nvt", n_steps)
        return self.moments["nvt"].state.force

    def steps(self, kind: str, n_steps: int) -> None:
        """The first steps once more.

        Raises:
            RuntimeError: the neighbour list overflowed: then what was timed is nothing.
        """
        with jaxmd_context("float64"):
            end = self._advanced(kind, self.moments[kind], n_steps)
        if bool(end.failed.any()):
            raise RuntimeError(f"the run failed: room, age of the list, lost atoms {np.asarray(end.failed).tolist()}")

    def _advanced(self, kind: str, moment: Moment, n_steps: int) -> Moment:
        run = self.runs[kind]
        bath = bath_at(run, 0)
        return jax.block_until_ready(run.program.advance(jnp.asarray(n_steps), moment, (bath, bath), run.world))
