"""Equation of state: energy against volume, and the equilibrium volume and bulk modulus from it.

References:
    Birch, Phys. Rev. 71, 809 (1947): the third-order equation, a cubic polynomial in V^(−2/3).
"""

from typing import NamedTuple

import ase
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from jaxmlip.evaluate.style import styled
from jaxmlip.potentials.model import Model
from jaxmlip.potentials.predictions import predict_atoms
from jaxmlip.simulate.relax import relax
from jaxmlip.units import GPA, MEV


class EquationOfState(NamedTuple):
    """Birch-Murnaghan fit to relaxed energies; the modulus in eV/Å³ (`jaxmlip.units.GPA` converts)."""

    volume: float  # Å³
    energy: float  # eV
    bulk_modulus: float  # eV/Å³
    derivative: float  # dB/dP
    volumes: Float[np.ndarray, " n"]  # Å³, of the points
    energies: Float[np.ndarray, " n"]  # eV, of the points
    residual: float  # eV, largest distance of a point from the fit


def equation_of_state(
    model: Model, atoms: ase.Atoms, *, strain: float = 0.06, n_points: int = 9, relaxed: bool = True
) -> EquationOfState:
    """E(V) = Σ_k c_k V^(−2k/3), k ≤ 3, through ``n_points`` volumes around that of ``atoms``.

    >>> from ase.build import bulk
    >>> from jaxmlip.potentials.zbl import ZBLConfig, zbl
    >>> potential = zbl(ZBLConfig(species=("Si",), cutoff=2.2))
    >>> equation_of_state(Model(potential, potential.init(None, None)), bulk("Si"), relaxed=False)
    Traceback (most recent call last):
    ...
    ValueError: the energy of Si2 has no minimum between 33.4 and 47.9 Å³: relax the structure first, or widen strain=

    Args:
        model: a potential with its parameters.
        atoms: a structure near its minimum.
        strain: largest change of lengths, relative; volumes change by three times as much.
        n_points: number of volumes, at least 4.
        relaxed: relax positions and the shape of the cell at each volume.

    Raises:
        ValueError: too few points, the energy has no minimum among them, or a relaxation failed.
    """
    if n_points < 4 or not 0 < strain < 0.3:
        raise ValueError(f"four points or more and a strain between 0 and 0.3 are needed, got {n_points} and {strain}")
    frames = []
    for factor in np.exp(np.linspace(-strain, strain, n_points)):
        frames.append(atoms.copy())
        frames[-1].set_cell(atoms.cell.array * factor, scale_atoms=True)
    volumes = np.array([frame.get_volume() for frame in frames])
    energies = _energies(model, frames, relaxed)
    x, scale = volumes ** (-2 / 3), volumes.mean() ** (-2 / 3)
    polynomial = np.polynomial.Polynomial.fit(x / scale, energies, 3).convert()
    slope, curvature, third = (polynomial.deriv(k) for k in (1, 2, 3))
    roots = [r.real for r in slope.roots() if abs(r.imag) < 1e-12 and curvature(r.real) > 0]
    inside = [r for r in roots if (x / scale).min() < r < (x / scale).max()]
    if not inside or np.ptp(energies) == 0:
        raise ValueError(
            f"the energy of {atoms.get_chemical_formula()} has no minimum between {volumes[0]:.1f} and "
            f"{volumes[-1]:.1f} Å³: relax the structure first, or widen strain="
        )
    # Chain rule for derivatives with respect to V at the minimum, where the first one is zero.
    V = float((inside[0] * scale) ** -1.5)
    x1, x2 = -2 / 3 * V ** (-5 / 3) / scale, 10 / 9 * V ** (-8 / 3) / scale
    second = curvature(inside[0]) * x1**2
    bulk_modulus = float(V * second)
    derivative = float(-1 - V * (third(inside[0]) * x1**3 + 3 * curvature(inside[0]) * x1 * x2) / second)
    residual = float(np.abs(polynomial(x / scale) - energies).max())
    return EquationOfState(V, float(polynomial(inside[0])), bulk_modulus, derivative, volumes, energies, residual)


@styled
def equation_of_state_figure(found: EquationOfState, n_atoms: int) -> Figure:
    """Energies in meV/atom above the minimum against volume: the points, and the fit through them.

    Not run here, the relaxations take some seconds:

    >>> equation_of_state_figure(equation_of_state(model, atoms), len(atoms)).savefig("eos.png")  # doctest: +SKIP
    """
    figure = Figure(figsize=(3.6, 2.8), layout="constrained")
    axes, scale = figure.subplots(), MEV / n_atoms
    volumes = np.linspace(found.volumes[0], found.volumes[-1], 200)
    x, ratio = volumes ** (-2 / 3), found.volumes.mean() ** (-2 / 3)
    fit = np.polynomial.Polynomial.fit(found.volumes ** (-2 / 3) / ratio, found.energies, 3)
    axes.plot(volumes / n_atoms, (fit(x / ratio) - found.energy) * scale, color="#0072b2")
    axes.plot(found.volumes / n_atoms, (found.energies - found.energy) * scale, "o", color="#0072b2")
    axes.axvline(found.volume / n_atoms, color="#5b5b5b", linewidth=0.8)
    axes.set(xlabel="volume (Å³/atom)", ylabel="energy above minimum (meV/atom)")
    title = f"$V_0$ {found.volume / n_atoms:.2f} Å³/atom, $B_0$ {found.bulk_modulus * GPA:.0f} GPa"
    axes.set_title(title)
    return figure


def _energies(model: Model, frames: list[ase.Atoms], relaxed: bool) -> np.ndarray:
    if not relaxed:
        return predict_atoms(model, frames).energy
    found = relax(model, frames, fixed_volume=True, fmax=1e-4, smax=1e-5)
    for frame, one in zip(frames, found, strict=True):
        if not one.converged:
            raise ValueError(f"at {frame.get_volume():.1f} Å³: {one.problem}; a smaller strain= may avoid it")
    return np.array([one.energy for one in found])
