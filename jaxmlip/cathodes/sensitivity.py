"""Derivatives of relaxed structures and voltages by a potential's parameters.

At a minimum x*(θ) of the energy, ∂E/∂x = 0. A property P(x, θ) of the relaxed structure therefore has

    dP/dθ = ∂P/∂θ − (∂P/∂x) H⁺ ∂²E/∂x∂θ,        H = ∂²E/∂x∂x,

with the pseudo-inverse H⁺, which leaves out what costs no energy: translations and rotations. x are positions and the
deformation of the cell. Of an energy itself only ∂E/∂θ remains, as ∂E/∂x = 0 (Hellmann-Feynman), so a voltage needs no
second derivatives.

References:
    Krantz and Parks, The Implicit Function Theorem (2003); Blondel et al., NeurIPS 2022: implicit differentiation.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import ase
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmlip.cathodes.structures import layered
from jaxmlip.cathodes.voltage import average_voltage
from jaxmlip.graph.batch import Graph, batch
from jaxmlip.graph.derivatives import deformed
from jaxmlip.potentials.base import Params, Potential
from jaxmlip.potentials.model import Model, predict_energy
from jaxmlip.simulate.relax import relax
from jaxmlip.units import LITHIUM_BCC

_SOFT = 1e-6  # of the largest eigenvalue of H: softer motions count as free


class Cell(NamedTuple):
    """A structure as properties see it."""

    positions: Float[Array, "n_atoms 3"]  # Å
    cell: Float[Array, "3 3"]  # Å, rows are vectors
    energy: Float[Array, ""]  # eV


Property = Callable[[Cell], Float[Array, ""]]


def property_gradient(model: Model, relaxed: ase.Atoms, of: Property) -> tuple[float, Params]:
    """A property of a relaxed structure and its derivative by all parameters of the potential, in float64.

    >>> from ase.build import bulk
    >>> import jaxmlip
    >>> data = jaxmlip.datasets.load("mo", split="test")[:6]
    >>> model, _ = jaxmlip.fit(jaxmlip.build("snap", species=("Mo",), cutoff=4.0, twojmax=2), data)
    >>> relaxed = jaxmlip.simulate.relax(model, bulk("Mo"), fmax=1e-6, smax=1e-8).atoms
    >>> volume, slope = property_gradient(model, relaxed, lambda cell: jnp.abs(jnp.linalg.det(cell.cell)))
    >>> sorted(slope)
    ['coefficients', 'offsets']

    Args:
        model: the potential that ``relaxed`` is a minimum of.
        relaxed: positions and cell relaxed, tightly: what is left of forces is an error of the derivative.
        of: a differentiable function of a `Cell`.
    """
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        graph = batch(relaxed, model.potential.config)
        params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), model.params)
        value, gradient = _implicit(model.potential, of, params, graph)
        return float(value), jax.tree.map(np.asarray, gradient)


@partial(jax.jit, static_argnums=(0, 1))
def _implicit(potential: Potential, of: Property, params: Params, graph: Graph) -> tuple[Array, Params]:
    n = graph.n_atoms
    start = jnp.zeros(3 * n + 9, graph.positions.dtype)

    def energy(x: Array, params: Params) -> Array:
        return predict_energy(Model(potential, params), _moved(graph, x))[0]

    def value(x: Array, params: Params) -> Array:
        there = _moved(graph, x)
        return of(Cell(there.positions, there.cell[0], energy(x, params)))

    found, (by_structure, by_params) = jax.value_and_grad(value, argnums=(0, 1))(start, params)
    hessian = jax.hessian(energy)(start, params)
    values, vectors = jnp.linalg.eigh((hessian + hessian.T) / 2)
    stiff = jnp.abs(values) > _SOFT * jnp.max(jnp.abs(values))
    inverse = jnp.where(stiff, 1 / jnp.where(stiff, values, 1.0), 0.0)
    direction = vectors @ (inverse * (vectors.T @ by_structure))
    # (∂P/∂x) H⁺ ∂²E/∂x∂θ: the derivative by θ of the slope of E along one direction
    mixed = jax.grad(lambda p: jnp.vdot(jax.grad(energy)(start, p), direction))(params)
    return found, jax.tree.map(lambda a, b: a - b, by_params, mixed)


def _moved(graph: Graph, x: Array) -> Graph:
    """The graph with positions displaced by the first coordinates and then all deformed by 1 + the last nine."""
    n = graph.n_atoms
    deformation = jnp.eye(3, dtype=x.dtype) + x[3 * n :].reshape(3, 3)
    return deformed(graph, graph.positions + x[: 3 * n].reshape(n, 3), deformation)


class VoltageGradient(NamedTuple):
    """A voltage in V and its derivative by the parameters."""

    voltage: float
    gradient: Params


def voltage_gradients(
    model: Model, metals: Sequence[str], *, lithium_energy: float = LITHIUM_BCC, ends: Mapping | None = None
) -> dict[str, VoltageGradient]:
    """Voltages of layered LiTMO2 to TMO2 through relaxed cells, with their derivatives by all parameters.

    Metals whose cells do not relax to minima are left out. ``ends`` (metal → relaxed LiTMO2 and TMO2) saves the
    relaxation: near a minimum the derivatives change little.

    Not run here, it takes a minute:

    >>> slope = voltage_gradients(model, ("Co",))["Co"]  # doctest: +SKIP
    """
    cells = relaxed_ends(model, metals) if ends is None else ends
    return {metal: _voltage(model, full, empty, lithium_energy) for metal, (full, empty) in cells.items()}


def relaxed_ends(
    model: Model, metals: Sequence[str], *, fmax: float = 1e-3, smax: float = 1e-5
) -> dict[str, tuple[ase.Atoms, ase.Atoms]]:
    """The relaxed LiTMO2 and TMO2 of each metal, where both are minima; limits in eV/Å and eV/Å³.

    Not run here, it takes a minute:

    >>> lithiated, delithiated = relaxed_ends(model, ("Co",))["Co"]  # doctest: +SKIP
    """
    starts = [layered(metal, lithium=lithium) for metal in metals for lithium in (True, False)]
    found = relax(model, starts, fmax=fmax, smax=smax)
    pairs = {metal: (found[2 * k], found[2 * k + 1]) for k, metal in enumerate(metals)}
    return {metal: (a.atoms, b.atoms) for metal, (a, b) in pairs.items() if a.converged and b.converged}


def _voltage(model: Model, lithiated: ase.Atoms, delithiated: ase.Atoms, lithium_energy: float) -> VoltageGradient:
    with jax.enable_x64(True):
        params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), model.params)
        (a, slope_a), (b, slope_b) = (
            _energy_and_gradient(model.potential, params, batch(atoms, model.potential.config))
            for atoms in (lithiated, delithiated)
        )
        gradient = jax.tree.map(lambda x, y: np.asarray(y - x), slope_a, slope_b)
    return VoltageGradient(average_voltage(float(a), float(b), lithium_energy=lithium_energy), gradient)


@partial(jax.jit, static_argnums=0)
def _energy_and_gradient(potential: Potential, params: Params, graph: Graph) -> Any:
    return jax.value_and_grad(lambda p: predict_energy(Model(potential, p), graph)[0])(params)
