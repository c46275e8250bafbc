"""Simulations with any potential: ASE's calculator, and relaxation and dynamics through jax-md.

Importing this package imports no jax-md, which costs many seconds: its functions do when they are called.
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
