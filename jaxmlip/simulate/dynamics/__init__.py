"""Molecular dynamics: jax-md's integrators, and what a run needs around them."""

from jaxmlip.simulate.dynamics.driver import molecular_dynamics, nve
from jaxmlip.simulate.dynamics.recorder import Trajectory
from jaxmlip.simulate.dynamics.settings import Dynamics, Hooks

__all__ = ["Dynamics", "Hooks", "Trajectory", "molecular_dynamics", "nve"]
