"""Phonons by automatic differentiation: dispersions without a supercell where the potential is local, force constants.

References:
    Born and Huang, Dynamical Theory of Crystal Lattices, Oxford 1954, chapter 4: the dynamical matrix.
    Togo and Tanaka, Scr. Mater. 108, 1 (2015): phonopy, whose file formats are written.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import ase
import ase.units
import numpy as np
from jaxtyping import Complex, Float
from matplotlib.figure import Figure

from jaxmlip.evaluate.style import styled
from jaxmlip.files import write_lines
from jaxmlip.potentials.model import Model
from jaxmlip.properties.second_derivatives import edge_hessians, hessian

THZ = 1000 * ase.units.fs / (2 * np.pi)
"""THz of a frequency ω = 1 sqrt(eV/amu)/Å."""


class Bands(NamedTuple):
    """Frequencies along a path in THz; imaginary ones are negative."""

    frequencies: Float[np.ndarray, "n_points n_modes"]
    points: Float[np.ndarray, "n_points 3"]  # fractional, of the reciprocal cell
    distance: Float[np.ndarray, " n_points"]  # 1/Å along the path
    ticks: Float[np.ndarray, " n_labels"]
    labels: list[str]


def phonon_bands(
    model: Model,
    atoms: ase.Atoms,
    *,
    path: str | None = None,
    n_points: int = 100,
    repeat: tuple[int, int, int] | None = None,
) -> Bands:
    """Frequencies along ASE's band path of the primitive cell ``atoms`` (relaxed before).

    D_ab(q) = (m_a m_b)^(−½) Σ_i Σ_mm′ P*_im,a H_i,mm′ P_im′,b with H_i the second derivatives of the energy of atom i
    with respect to the vectors to its neighbours and P_im,a = δ_{j,a} e^{iq·R} − δ_{i,a}: exact, from one cell. A
    potential that passes messages has no such H_i; it gets force constants of a supercell.

    Not run here, it takes some seconds:

    >>> bands = phonon_bands(model, bulk("Mo"), path="GHNGP")  # doctest: +SKIP

    Args:
        model: a potential with its parameters.
        atoms: a relaxed primitive cell.
        path: as ASE writes it, as "GXWKGL"; default: the standard path of the lattice.
        n_points: along the whole path.
        repeat: the supercell of a potential that passes messages; default: twice the cutoff along each vector.

    Raises:
        ValueError: the structure is not periodic.
    """
    if not atoms.pbc.all():
        raise ValueError(f"a dispersion needs three periodic directions, got {atoms.pbc.tolist()}")
    band = atoms.cell.bandpath(path, npoints=n_points)
    if model.potential.local and repeat is None:
        matrices = dynamical_matrices(model, atoms, band.kpts)
    else:
        repeat = repeat or default_supercell(atoms, model.potential.config.cutoff)
        matrices = _fourier(atoms, repeat, force_constants(model, atoms, repeat), band.kpts)
    squares = np.linalg.eigvalsh(matrices)
    distance, ticks, labels = band.get_linear_kpoint_axis()
    frequencies = np.sign(squares) * np.sqrt(np.abs(squares)) * THZ
    return Bands(frequencies, band.kpts, distance, ticks, labels)


def dynamical_matrices(
    model: Model, atoms: ase.Atoms, points: Float[np.ndarray, "n_points 3"]
) -> Complex[np.ndarray, "n_points n n"]:
    """D(q) in eV/Å²/amu at fractional ``points`` of the reciprocal cell; for potentials that are local."""
    graph, H = edge_hessians(model, atoms)
    n, masses = len(atoms), np.repeat(atoms.get_masses(), 3)
    centers, slots = np.nonzero(graph.mask)
    neighbors, shifts = np.asarray(graph.neighbors)[centers, slots], np.asarray(graph.shifts)[centers, slots]
    matrices = []
    for q in points:
        P = np.zeros((*graph.mask.shape, n), complex)
        P[centers, slots, neighbors] += np.exp(2j * np.pi * shifts @ q)
        P[centers, slots, centers] -= 1
        half = np.einsum("imxny,inb->imxby", H, P, optimize=True)
        D = np.einsum("ima,imxby->axby", P.conj(), half, optimize=True).reshape(3 * n, 3 * n)
        matrices.append((D + D.conj().T) / 2 / np.sqrt(masses[:, None] * masses))
    return np.array(matrices)


def force_constants(
    model: Model, atoms: ase.Atoms, repeat: Sequence[int]
) -> Float[np.ndarray, "n_atoms n_supercell 3 3"]:
    """Φ_ab = ∂²E/∂u_a∂u_b in eV/Å² of the atoms a of ``atoms`` and b of its supercell, in phonopy's order.

    Phonopy's supercell holds all translations of the first atom (the first vector fastest), then of the second, …:
    `phonopy_supercell` makes it.

    >>> from ase.build import bulk
    >>> from jaxmlip.potentials.zbl import ZBLConfig, zbl
    >>> potential = zbl(ZBLConfig(species=("Si",), cutoff=2.2))
    >>> force_constants(Model(potential, potential.init(None, None)), bulk("Si"), (2, 2, 1)).shape
    (2, 8, 3, 3)
    """
    supercell, n_cells = phonopy_supercell(atoms, repeat), int(np.prod(repeat))
    rows = (np.arange(len(atoms))[:, None] * n_cells * 3 + np.arange(3)).ravel()
    found = hessian(model, supercell, rows)[:, : 3 * len(supercell)]
    return found.reshape(len(atoms), 3, len(supercell), 3).transpose(0, 2, 1, 3)


def phonopy_supercell(atoms: ase.Atoms, repeat: Sequence[int]) -> ase.Atoms:
    """The supercell with its atoms in phonopy's order."""
    order = _translations(repeat)
    positions = atoms.positions[:, None, :] + (order @ atoms.cell.array)[None]
    numbers = np.repeat(atoms.numbers, len(order))
    cell = atoms.cell.array * np.array(repeat)[:, None]
    masses = np.repeat(atoms.get_masses(), len(order))
    return ase.Atoms(numbers, positions.reshape(-1, 3), cell=cell, pbc=atoms.pbc, masses=masses)


def default_supercell(atoms: ase.Atoms, cutoff: float) -> tuple[int, int, int]:
    """Repetitions that make a supercell twice as wide as ``cutoff`` (Å) along each vector.

    >>> from ase.build import bulk
    >>> default_supercell(bulk("Mo", cubic=True), 4.0)
    (3, 3, 3)
    """
    heights = 1 / np.linalg.norm(np.linalg.inv(atoms.cell.array), axis=0)
    a, b, c = np.ceil(2 * cutoff / heights).astype(int)
    return int(a), int(b), int(c)


def write_force_constants(path: str | Path, model: Model, atoms: ase.Atoms, repeat: Sequence[int]) -> None:
    """A ``FORCE_CONSTANTS`` file that phonopy reads (``phonopy --dim … --readfc``), compact, in eV/Å².

    Not run here, it takes some seconds:

    >>> write_force_constants("FORCE_CONSTANTS", model, bulk("Mo"), (4, 4, 4))  # doctest: +SKIP
    """
    constants = force_constants(model, atoms, repeat)
    n_cells = int(np.prod(repeat))
    lines = [f"{len(atoms):4d} {constants.shape[1]:4d}"]
    for a, row in enumerate(constants):
        for b, block in enumerate(row):
            lines.append(f"{a * n_cells + 1} {b + 1}")
            lines += [" ".join(f"{x:22.15f}" for x in line) for line in block]
    write_lines(path, lines)


@styled
def bands_figure(bands: Bands) -> Figure:
    """The dispersion: frequencies in THz along the path, imaginary ones below zero.

    Not run here, the bands take some seconds:

    >>> bands_figure(phonon_bands(model, bulk("Mo"))).savefig("bands.png")  # doctest: +SKIP
    """
    figure = Figure(figsize=(4.6, 3.2), layout="constrained")
    axes = figure.subplots()
    breaks = np.flatnonzero(np.diff(bands.distance) < 1e-9) + 1  # where the path jumps to another point
    for part in np.split(np.arange(len(bands.distance)), breaks):
        axes.plot(bands.distance[part], bands.frequencies[part], color="#0072b2", linewidth=1.1)
    axes.axhline(0, color="#5b5b5b", linewidth=0.8)
    axes.set(ylabel="frequency (THz)", xlim=(bands.distance[0], bands.distance[-1]))
    names: dict[float, str] = {}
    for tick, name in zip(bands.ticks.round(9).tolist(), bands.labels, strict=True):
        names[tick] = f"{names[tick]}|{name}" if tick in names else name
    axes.set_xticks(list(names), [name.replace("G", "Γ") for name in names.values()])
    axes.grid(axis="y", visible=False)
    return figure


def _translations(repeat: Sequence[int]) -> np.ndarray:
    c, b, a = (x.ravel() for x in np.meshgrid(*(np.arange(n) for n in reversed(repeat)), indexing="ij"))
    return np.stack([a, b, c], axis=1)


def _fourier(atoms: ase.Atoms, repeat: Sequence[int], constants: np.ndarray, points: np.ndarray) -> np.ndarray:
    """D(q) of a supercell's force constants, each at the nearest image, shared where several are as near."""
    n, n_cells = len(atoms), int(np.prod(repeat))
    around = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), axis=-1).reshape(-1, 3) * np.array(repeat)
    cells = np.tile(_translations(repeat), (n, 1))[None] + around[:, None]  # [27, n_supercell, 3]
    home = np.repeat(atoms.positions, n_cells, axis=0)
    offsets = home[None] + cells @ atoms.cell.array  # of b, everywhere
    lengths = np.linalg.norm(offsets[:, None] - atoms.positions[None, :, None], axis=-1)
    nearest = lengths < lengths.min(axis=0) + 1e-4
    weights = nearest / nearest.sum(axis=0)
    masses = np.repeat(atoms.get_masses(), 3)
    matrices = []
    for q in points:
        phases = (weights * np.exp(2j * np.pi * cells @ q)[:, None]).sum(axis=0)  # [n, n_supercell]
        D = (phases[:, :, None, None] * constants).reshape(n, n, n_cells, 3, 3).sum(axis=2)
        D = D.transpose(0, 2, 1, 3).reshape(3 * n, 3 * n)
        matrices.append((D + D.conj().T) / 2 / np.sqrt(masses[:, None] * masses))
    return np.array(matrices)
