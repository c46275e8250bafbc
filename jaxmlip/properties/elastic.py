"""Elastic tensors by automatic differentiation, with the atoms relaxed under strain.

References:
    Wallace, Thermodynamics of Crystals, Wiley 1972: internal strain.
    Hill, Proc. Phys. Soc. A 65, 349 (1952): averages over polycrystals.
"""

from typing import NamedTuple

import ase
import numpy as np
from jaxtyping import Float

from jaxmlip.potentials.model import Model
from jaxmlip.properties.second_derivatives import hessian, residual

_LARGEST_FORCE, _LARGEST_STRESS = 0.02, 2e-3  # eV/Å, eV/Å³: beyond, the structure is no minimum


class Elastic(NamedTuple):
    """In eV/Å³ (`jaxmlip.units.GPA` converts); Voigt order xx yy zz yz xz xy, engineering shears."""

    tensor: Float[np.ndarray, "6 6"]  # with relaxed atoms
    clamped: Float[np.ndarray, "6 6"]  # atoms moved with the cell
    bulk_modulus: float  # Hill's average
    shear_modulus: float  # Hill's average
    stable: bool  # the tensor is positive definite (Born)


def elastic_tensor(model: Model, atoms: ase.Atoms) -> Elastic:
    """C_ij = (1/V) [∂²E/∂η_i∂η_j − Λ_i · K⁺ Λ_j],  K = ∂²E/∂u∂u,  Λ_i = ∂²E/∂u∂η_i.

    The second term is what the atoms gain by moving when the cell is strained; K⁺ leaves rigid shifts out.

    >>> from ase.build import bulk
    >>> from jaxmlip.potentials.zbl import ZBLConfig, zbl
    >>> potential = zbl(ZBLConfig(species=("Si",), cutoff=2.2))
    >>> elastic_tensor(Model(potential, potential.init(None, None)), bulk("Si")).tensor.shape
    (6, 6)

    Args:
        model: a potential with its parameters.
        atoms: a relaxed structure (`jaxmlip.simulate.relax`), periodic along three directions.

    Raises:
        ValueError: the structure is not periodic, or no minimum: then other definitions of the tensor differ.
    """
    if not atoms.pbc.all():
        raise ValueError(f"an elastic tensor needs three periodic directions, got {atoms.pbc.tolist()}")
    force, stress = residual(model, atoms)
    if force > _LARGEST_FORCE or stress > _LARGEST_STRESS:
        raise ValueError(
            f"{atoms.get_chemical_formula()} is no minimum (largest force {force:.2g} eV/Å, stress {stress:.2g} "
            "eV/Å³): relax positions and cell first, jaxmlip.simulate.relax(model, atoms, fmax=1e-4, smax=1e-6).atoms"
        )
    n, volume = 3 * len(atoms), atoms.get_volume()
    full = hessian(model, atoms, np.arange(n + 6))
    K, coupling = (full[:n, :n] + full[:n, :n].T) / 2, full[:n, n:]
    values, modes = np.linalg.eigh(K)
    soft = np.abs(values) < 1e-8 * max(np.abs(values).max(), 1e-300)
    inverse = np.where(soft, 0, 1 / np.where(soft, 1, values))
    projected = modes.T @ coupling
    clamped = full[n:, n:] / volume
    tensor = clamped - projected.T @ (inverse[:, None] * projected) / volume
    return _averaged((tensor + tensor.T) / 2, (clamped + clamped.T) / 2)


def _averaged(C: np.ndarray, clamped: np.ndarray) -> Elastic:
    """Voigt's and Reuss's averages, and Hill's between them."""
    stable = bool(np.linalg.eigvalsh(C).min() > 0)
    diagonal, cross, shear = np.trace(C[:3, :3]), C[0, 1] + C[0, 2] + C[1, 2], np.trace(C[3:, 3:])
    bulk, stiff = (diagonal + 2 * cross) / 9, (diagonal - cross + 3 * shear) / 15
    if not stable:
        return Elastic(C, clamped, float(bulk), float(stiff), False)
    S = np.linalg.inv(C)
    diagonal, cross, shear = np.trace(S[:3, :3]), S[0, 1] + S[0, 2] + S[1, 2], np.trace(S[3:, 3:])
    reuss_bulk, reuss_shear = 1 / (diagonal + 2 * cross), 15 / (4 * diagonal - 4 * cross + 3 * shear)
    return Elastic(C, clamped, float((bulk + reuss_bulk) / 2), float((stiff + reuss_shear) / 2), True)
