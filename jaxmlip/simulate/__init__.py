"""Simulations with any potential: ASE's calculator, relaxation, dynamics, and an adapter to jax-md.

jax-md's integrators and minimizers do the work; neighbour lists (`neighbor_list`) and what jax-md lacks are our own,
with its interfaces. `to_jaxmd` gives a model and a structure to everything that jax-md has. Importing this package
imports no jax-md, which costs many seconds: a run does.
"""

from jaxmlip.simulate.calculator import calculator
from jaxmlip.simulate.dynamics import Dynamics, Hooks, Trajectory, molecular_dynamics, nve
from jaxmlip.simulate.jaxmd import JaxMD, to_jaxmd
from jaxmlip.simulate.relax import Relaxation, Relaxed, relax

__all__ = [
    "Dynamics",
    "Hooks",
    "JaxMD",
    "Relaxation",
    "Relaxed",
    "Trajectory",
    "calculator",
    "molecular_dynamics",
    "nve",
    "relax",
    "to_jaxmd",
]
