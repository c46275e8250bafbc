"""Positions and cells as coordinates of a minimization: undeformed positions q and the logarithm U of the deformation.

r = F q, cell vectors a = F a₀, F = exp(U).  Minimized is the enthalpy H(q, U) = E + P V with
∂H/∂q_i = −Fᵀ f_i  and  ∂H/∂F = V (σ + P) F⁻ᵀ;  det F = exp(tr U), so a traceless U keeps the volume exactly.

References:
    Tadmor et al., Phys. Rev. B 59, 235 (1999): the deformation gradient as the cell's degrees of freedom.
    ASE's ``FrechetCellFilter``: its logarithm.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxmlip.graph.batch import Graph
from jaxmlip.potentials.base import Params, Potential
from jaxmlip.potentials.model import Model, predict

_SQUARINGS, _TERMS = 6, 9  # exp of matrices up to norm 2: (2/2⁶)¹⁰/10! is below rounding


class Symmetry(NamedTuple):
    """Operations of each structure: atom i is the image of atom ``source`` under the Cartesian ``rotation``."""

    rotation: Float[Array, "n_structures n_operations 3 3"]
    source: Int[Array, "n_structures n_operations n_atoms"]
    weight: Float[Array, "n_structures n_operations"]  # they sum to 1; 0: padding


class Structures(NamedTuple):
    """Structures of one padded size, and all that their coordinates refer to."""

    graph: Graph  # one graph a structure, [n_structures · n_atoms] rows; its positions and cells are replaced
    cell: Float[Array, "n_structures 3 3"]  # undeformed
    listed_positions: Float[Array, "n_structures n_atoms 3"]  # where the neighbour list was built
    listed_cell: Float[Array, "n_structures 3 3"]
    reach: Float[Array, " n_structures"]  # Å, of the neighbour list
    n_atoms: Float[Array, " n_structures"]  # without padding
    free: Bool[Array, "n_structures n_atoms"]  # neither padding nor held fixed
    symmetry: Symmetry | None


class Freedom(NamedTuple):
    """What may change: a hashable setting of compiled functions."""

    positions: bool = True
    cell: bool = True
    fixed_volume: bool = False


class Evaluation(NamedTuple):
    """Of each structure; the stress is the part that a minimum has none of."""

    enthalpy: Float[Array, " n_structures"]  # eV
    gradient: Float[Array, "n_structures n"]
    energy: Float[Array, " n_structures"]  # eV
    forces: Float[Array, "n_structures n_atoms 3"]  # eV/Å
    stress: Float[Array, "n_structures 3 3"]  # eV/Å³
    volume: Float[Array, " n_structures"]  # Å³


def exponential(U: Float[Array, "... 3 3"]) -> Float[Array, "... 3 3"]:
    """exp(U) of small matrices by scaling and squaring of the power series; differentiable at every U."""
    small, eye = U / 2**_SQUARINGS, jnp.broadcast_to(jnp.eye(3, dtype=U.dtype), U.shape)
    orders = jnp.arange(_TERMS, 0, -1, dtype=U.dtype)
    series, _ = jax.lax.scan(lambda result, k: (eye + matmul(small, result) / k, None), eye, orders)
    return jax.lax.scan(lambda result, _: (matmul(result, result), None), series, None, length=_SQUARINGS)[0]


def matmul(a: Float[Array, "... 3 3"], b: Float[Array, "... 3 3"]) -> Float[Array, "... 3 3"]:
    """Products of 3 × 3 matrices, written out: batched ones of this size are slow."""
    return jnp.sum(a[..., :, :, None] * b[..., None, :, :], axis=-2)


def coordinates(positions: Float[Array, "b n 3"]) -> Float[Array, "b m"]:
    """Undeformed ``positions`` and U = 0, as one vector a structure."""
    b = positions.shape[0]
    return jnp.concatenate([positions, jnp.zeros((b, 3, 3), positions.dtype)], axis=1).reshape(b, -1)


def geometry(structures: Structures, x: Float[Array, "b m"]) -> tuple[Float[Array, "b n 3"], Float[Array, "b 3 3"]]:
    """Positions [b, n, 3] and cells [b, 3, 3] in Å."""
    rows = x.reshape(len(x), -1, 3)
    return _placed(structures, rows[:, :-3], exponential(_logarithm(structures, rows[:, -3:])))


def evaluate(
    potential: Potential,
    params: Params,
    structures: Structures,
    x: Float[Array, "b m"],
    freedom: Freedom,
    pressure: Any,
) -> Evaluation:
    """H at a ``pressure`` in eV/Å³, its gradient, and what forces and stress remain."""
    rows, eye = x.reshape(len(x), -1, 3), jnp.eye(3, dtype=x.dtype)[None]
    F, pullback = jax.vjp(lambda u: exponential(_logarithm(structures, u)), rows[:, -3:])
    positions, cell = _placed(structures, rows[:, :-3], F)
    graph = structures.graph._replace(positions=positions.reshape(-1, 3), cell=cell)
    found = predict(Model(potential, params), graph)
    forces = jnp.where(structures.free[:, :, None], found.forces.reshape(positions.shape), 0)
    volume = jnp.abs(jnp.linalg.det(cell))
    forces, stress = _symmetric(structures.symmetry, forces, found.stress + pressure * eye)
    if freedom.fixed_volume:
        stress = _traceless(stress)
    forces, stress = forces * float(freedom.positions), stress * float(freedom.cell)

    by_positions = -jnp.einsum("bni,bij->bnj", forces, F)
    by_logarithm = pullback(matmul(volume[:, None, None] * stress, jnp.linalg.inv(F).mT))[0]
    by_logarithm = (by_logarithm + by_logarithm.mT) / 2  # the antisymmetric part of U would only turn the crystal
    if freedom.fixed_volume:  # stays so under rounding
        by_logarithm = _traceless(by_logarithm)
    gradient = jnp.concatenate([by_positions, by_logarithm], axis=1).reshape(x.shape)
    return Evaluation(found.energy + pressure * volume, gradient, found.energy, forces, stress, volume)


def list_is_valid(structures: Structures, x: Float[Array, "b m"], cutoff: float) -> Bool[Array, " b"]:
    """Whether no pair can have come from beyond the list's reach to within the cutoff since it was built.

    The cell's change A = L⁻¹ L′ shrinks a distance at most by 1 − |A − 1|; what remains of the displacements,
    u = r′ − r A, changes it by at most 2 max|u|.
    """
    positions, cell = geometry(structures, x)
    A = matmul(jnp.linalg.inv(structures.listed_cell), cell)
    u = positions - jnp.einsum("bni,bij->bnj", structures.listed_positions, A)
    shrink = 1 - jnp.sqrt(jnp.sum((A - jnp.eye(3, dtype=x.dtype)[None]) ** 2, axis=(1, 2)))
    farthest = jnp.sqrt(jnp.max(jnp.sum(u**2, axis=2), axis=1))
    return ~(shrink * structures.reach - 2 * farthest < cutoff)  # NaN is not a matter of neighbours


def _placed(structures: Structures, q: Array, F: Array) -> tuple[Array, Array]:
    return jnp.einsum("bnj,bij->bni", q, F), matmul(structures.cell, F.mT)


def _logarithm(structures: Structures, rows: Float[Array, "b 3 3"]) -> Float[Array, "b 3 3"]:
    """U from its rows: stretched by √N Å, so that cells are about as stiff as atoms."""
    return rows / jnp.sqrt(structures.n_atoms)[:, None, None]


def _traceless(a: Float[Array, "b 3 3"]) -> Float[Array, "b 3 3"]:
    trace = jnp.trace(a, axis1=1, axis2=2)[:, None, None]
    return a - trace / 3 * jnp.eye(3, dtype=a.dtype)[None]


def _symmetric(symmetry: Symmetry | None, forces: Array, stress: Array) -> tuple[Array, Array]:
    """The parts that the symmetry of each structure allows."""
    if symmetry is None:
        return forces, stress
    source = symmetry.source.reshape(len(forces), -1, 1)
    images = jnp.take_along_axis(forces, source, axis=1).reshape(*symmetry.source.shape, 3)
    turned = jnp.einsum("bg,bgij,bgnj->bni", symmetry.weight, symmetry.rotation, images)
    return turned, jnp.einsum("bg,bgij,bjk,bglk->bil", symmetry.weight, symmetry.rotation, stress, symmetry.rotation)
