"""Simulations with any potential: ASE's calculator, relaxation, dynamics, and an adapter to jax-md.

Neighbour lists (`neighbor_list`) and equations of motion (`integrators`) are our own, in jax-md's manner; their modules
say why. `to_jaxmd` gives a model and a structure to everything that jax-md has. Importing this package imports no
jax-md, which costs many seconds: that function does when it is called.
"""

from jaxmlip.simulate.calculator import calculator
from jaxmlip.simulate.dynamics import Dynamics, Trajectory, molecular_dynamics, nve
from jaxmlip.simulate.jaxmd import JaxMD, to_jaxmd
from jaxmlip.simulate.relax import Relaxation, Relaxed, relax

__all__ = [
    "Dynamics",
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
