"""Checks of the audit for what makes a whole set wrong: units, signs, energies per atom, mixed levels of theory.

Energies, forces and stresses are derivatives of each other, so structures that are near each other tell:
between neighbours of a trajectory ΔE ≈ −Σ F·Δr, between volumes of one structure ΔE ≈ tr σ/3 · ΔV, and over volumes
tr σ/3 rises with the bulk modulus. The ratio of the two sides names the mistake. Where there are no neighbours,
the order of magnitude of pressures and energies remains.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from ase import Atoms

from jaxmlip.data.checks import finding, is_finite
from jaxmlip.data.findings import AuditSettings, Finding
from jaxmlip.data.labels import Labels, is_converged
from jaxmlip.units import BOHR, GPA, HARTREE

_LEVELS = ("run_type", "functional", "xc", "xc_functional", "level_of_theory", "hubbard", "ldau")
_BULK_MODULUS = 4.0  # eV/Å³ (640 GPa); diamond has 2.8
_NEAR = 0.3  # Å, the largest displacement over which forces are nearly constant
_ENOUGH = 3  # pairs of structures that must agree
_STRESS_RATIOS = {
    "of the other sign (VASP's, positive under compression)": -1.0,
    "in GPa": GPA,
    "in GPa and of the other sign": -GPA,
    "in kbar": 10 * GPA,
    "in kbar and of the other sign": -10 * GPA,
}
_FORCE_RATIOS = {
    "forces are of the other sign (gradients)": -1.0,
    "energies are in Hartree": HARTREE,
    "energies are in Rydberg": HARTREE / 2,
    "forces are in Hartree/Bohr": BOHR / HARTREE,
    "forces are in Rydberg/Bohr": 2 * BOHR / HARTREE,
}


def check_convergence(frames: Sequence[Atoms], labels: Sequence[Labels], settings: AuditSettings) -> Iterator[Finding]:
    """Calculations whose electronic loop did not converge."""
    for index, atoms in enumerate(frames):
        if not is_converged(atoms):
            text = "the electronic loop did not converge: its energy and forces are not those of this structure"
            yield finding(frames, index, "not converged", text, "broken", 1.0)


def check_levels(frames: Sequence[Atoms], labels: Sequence[Labels], settings: AuditSettings) -> Iterator[Finding]:
    """Several functionals, or calculations with and without U, in one list."""
    for key in _LEVELS:
        named = [str(atoms.info[key]) if atoms.info.get(key) is not None else None for atoms in frames]
        counts = Counter(name for name in named if name is not None)
        if len(counts) < 2:
            continue
        usual, number = counts.most_common(1)[0]
        for index, name in enumerate(named):
            if name not in (usual, None):
                text = f"{key} is {name}, beside {number} structures with {usual}: their energies are on other scales"
                yield finding(frames, index, "level of theory", text, "suspicious", float(counts[str(name)]))


def check_energy_scale(frames: Sequence[Atoms], labels: Sequence[Labels], settings: AuditSettings) -> Iterator[Finding]:
    """Energies per atom where those of the cell are expected."""
    rows = [i for i, item in enumerate(labels) if item.energy is not None and np.isfinite(item.energy)]
    sizes = np.array([len(frames[i]) for i in rows])
    if len(rows) < _ENOUGH or sizes.min() < 2:
        return
    energies = np.array([labels[i].energy for i in rows], float)
    reason = ""
    if sizes.max() >= 1.5 * sizes.min() and len(rows) >= 5 and _of_one_composition(frames, rows):
        slope = float(np.polyfit(np.log(sizes), np.log(np.maximum(np.abs(energies), 1e-6)), 1)[0])
        if slope < 0.3:  # 1 for energies of the cell
            reason = "energies hardly change with the number of atoms"
    elif sizes.min() >= 8 and np.abs(energies / sizes).max() < 0.5 and not _agree(_pairs(frames, labels)):
        reason = (
            f"no energy is beyond {np.abs(energies / sizes).max():.2g} eV/atom, less than any solid binds its atoms"
        )
    if reason:
        for index in rows:
            text = f"{reason}: energy per atom instead of per cell?"
            yield finding(frames, index, "energy per atom", text, "suspicious", float(labels[index].energy or 0))


def check_force_scale(frames: Sequence[Atoms], labels: Sequence[Labels], settings: AuditSettings) -> Iterator[Finding]:
    """Forces against the change of the energy between neighbouring structures of a trajectory."""
    pairs = _pairs(frames, labels)
    if len(pairs) < _ENOUGH:
        return
    change, work = np.array([pair[1:] for pair in pairs]).T
    ratio = _ratio(work, change)
    reasons = dict(_FORCE_RATIOS)
    sizes = {len(frames[pair[0]]) for pair in pairs}
    if len(sizes) == 1:
        (size,) = sizes
        reasons[f"energies are per atom ({size} atoms)"] = float(size)
    reason = _named(ratio, reasons)
    if reason:
        members = sorted({index for pair in pairs for index in (pair[0], pair[0] + 1)})
        for index in members:
            text = f"between neighbouring structures −ΣF·Δr is {ratio:.3g} times ΔE: {reason}"
            yield finding(frames, index, "unit of forces", text, "suspicious", ratio)


def check_stress_scale(frames: Sequence[Atoms], labels: Sequence[Labels], settings: AuditSettings) -> Iterator[Finding]:
    """Stresses against the energies of neighbouring volumes, their slope over volumes, or their order of magnitude."""
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, item in enumerate(labels):
        usable = item.stress is not None and np.isfinite(item.stress).all() and is_finite(frames[index])
        if usable and frames[index].pbc.all() and frames[index].cell.rank == 3:
            groups[tuple(np.sort(frames[index].numbers).tolist())].append(index)
    stresses = {index: np.asarray(labels[index].stress) for group in groups.values() for index in group}
    mean = {index: float(np.trace(stress)) / 3 for index, stress in stresses.items()}
    text = _by_energies(frames, labels, groups, mean) or _by_volumes(frames, groups, mean)
    if not text and stresses:
        largest = float(np.median([np.abs(stress).max() for stress in stresses.values()]))
        if largest > settings.stress_usual:
            text = f"half of the stresses are beyond {largest:.2g} eV/Å³ ({GPA * largest:.3g} GPa): in GPa or kbar?"
    if text and not text.startswith("="):
        for index, stress in stresses.items():
            yield finding(frames, index, "unit of stress", text, "suspicious", float(np.abs(stress).max()))


def _by_energies(
    frames: Sequence[Atoms],
    labels: Sequence[Labels],
    groups: dict[tuple[int, ...], list[int]],
    stress: dict[int, float],
) -> str:
    """What ΔE/ΔV between volumes of one structure says of tr σ/3; "=" where they agree, empty where none tells."""
    rows = []
    for group in groups.values():
        order = sorted(group, key=lambda i: frames[i].get_volume())
        for i, j in pairwise(order):
            first, second = (np.nan if labels[k].energy is None else float(labels[k].energy or 0) for k in (i, j))
            change = frames[j].get_volume() - frames[i].get_volume()
            close = 2e-3 < change / frames[i].get_volume() < 0.1
            if np.isfinite(second - first) and close and _same_scaled(frames[i], frames[j]):
                rows.append(((second - first) / change, (stress[i] + stress[j]) / 2))
    if len(rows) < _ENOUGH:
        return ""
    slope, mean = np.array(rows).T
    if np.abs(slope).max() < 1e-3:  # 0.16 GPa: near the minimum other errors decide
        return ""
    ratio = _ratio(mean, slope)
    reason = _named(ratio, _STRESS_RATIOS)
    if not reason:
        return "=" if 0.7 < ratio < 1.4 else ""
    return f"between neighbouring volumes tr σ/3 is {ratio:.4g} times dE/dV: the stress is {reason}"


def _by_volumes(frames: Sequence[Atoms], groups: dict[tuple[int, ...], list[int]], stress: dict[int, float]) -> str:
    """What the slope of tr σ/3 over the volume, a bulk modulus, says."""
    for group in groups.values():
        if len(group) < 5:
            continue
        volume = np.log([frames[i].get_volume() for i in group])
        mean = np.array([stress[i] for i in group])
        if np.ptp(volume) < 0.02 or not np.ptp(mean) or abs(np.corrcoef(volume, mean)[0, 1]) < 0.8:
            continue
        modulus = float(np.polyfit(volume, mean, 1)[0])
        if abs(modulus) > _BULK_MODULUS:
            return (
                f"over the volume tr σ/3 changes with a bulk modulus of {GPA * abs(modulus):.3g} GPa: the stress is in "
                f"GPa or kbar{', and of the other sign' if modulus < 0 else ''}"
            )
        return "=" if modulus > 0 else "tr σ/3 falls as the volume grows: the stress is of the other sign"
    return ""


def _pairs(frames: Sequence[Atoms], labels: Sequence[Labels]) -> list[tuple[int, float, float]]:
    """Structures whose successor is a neighbour, with the change of the energy and the work of the forces, in eV."""
    found = [(i, _work(frames, labels, i)) for i in range(len(frames) - 1)]
    return [(i, *values) for i, values in found if values is not None]


def _agree(pairs: list[tuple[int, float, float]]) -> bool:
    """Whether the forces are the derivatives of the energies as they stand."""
    if len(pairs) < _ENOUGH:
        return False
    change, work = np.array([pair[1:] for pair in pairs]).T
    return 0.7 < _ratio(work, change) < 1.4


def _work(frames: Sequence[Atoms], labels: Sequence[Labels], i: int) -> tuple[float, float] | None:
    """ΔE and −½ Σ (F + F')·Δr from structure i to the next, in one cell and with atoms that moved little."""
    one, two, (first, second) = frames[i], frames[i + 1], (labels[i], labels[i + 1])
    if first.energy is None or second.energy is None or first.forces is None or second.forces is None:
        return None
    alike = np.array_equal(one.numbers, two.numbers) and np.array_equal(one.pbc, two.pbc)
    if not alike or not (is_finite(one) and is_finite(two)) or not np.allclose(one.cell, two.cell, rtol=0, atol=1e-6):
        return None
    moved = two.positions - one.positions
    if one.pbc.any() and one.cell.rank == 3:
        scaled = np.linalg.solve(one.cell.array.T, moved.T).T
        moved = moved - np.where(one.pbc, np.round(scaled), 0) @ one.cell.array
    work = -0.5 * float(np.sum((first.forces + second.forces) * moved))
    change = second.energy - first.energy
    near = 1e-4 < np.abs(moved).max() < _NEAR
    useful = near and np.isfinite([work, change]).all() and max(abs(work), abs(change)) > 1e-3
    return (change, work) if useful else None


def _same_scaled(one: Atoms, two: Atoms) -> bool:
    """Whether two structures differ by an isotropic strain alone, atoms in the same order."""
    if not np.array_equal(one.numbers, two.numbers):
        return False
    strain = np.linalg.solve(one.cell.array, two.cell.array)
    factor = np.trace(strain) / 3
    if np.abs(strain - factor * np.eye(3)).max() > 1e-3:
        return False
    shift = np.linalg.solve(two.cell.array.T, two.positions.T).T - np.linalg.solve(one.cell.array.T, one.positions.T).T
    return bool(np.abs((shift - np.round(shift)) @ two.cell.array).max() < 0.02)


def _ratio(left: np.ndarray, right: np.ndarray) -> float:
    """The factor between two columns that should be equal, from the pairs where the larger is not small."""
    size = np.abs(right)
    kept = size >= 0.2 * size.max()
    return float(np.median(left[kept] / np.where(right[kept] == 0, np.inf, right[kept])))


def _named(ratio: float, reasons: dict[str, float]) -> str:
    """The reason whose factor is nearest within a third, if it is nearer than agreement."""
    if 0.7 < ratio < 1.4:
        return ""
    near = [(abs(np.log(ratio / value)), text) for text, value in reasons.items() if ratio * value > 0]
    distance, text = min(near, default=(np.inf, ""))
    return text if distance < np.log(4 / 3) else ""


def _of_one_composition(frames: Sequence[Atoms], rows: Sequence[int]) -> bool:
    """Whether all have nearly the same share of each element, so that energies per atom are alike."""
    elements = sorted({int(z) for i in rows for z in frames[i].numbers})
    shares = np.array([[np.mean(frames[i].numbers == z) for z in elements] for i in rows])
    return bool(np.ptp(shares, axis=0).max() < 0.1)
