"""The checks of the audit: each takes frames and gives findings."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from jaxtyping import Float

from jaxmlip.data.elsewhere import elsewhere, how_to_read
from jaxmlip.data.findings import AuditSettings, Finding, Severity, structure_name
from jaxmlip.data.labels import Labels

# eV/Å: atoms pushed into each other, or torn apart by some 10 eV each, feel more than this.
_CALM = 10.0

Check = Callable[[Sequence[Atoms], Sequence[Labels], AuditSettings], Iterator[Finding]]


def finding(frames: Sequence[Atoms], index: int, check: str, message: str, severity: Severity, value: float) -> Finding:
    """A `Finding` for one frame."""
    return Finding(index, structure_name(frames[index]), check, message, severity, float(value))


def is_finite(atoms: Atoms) -> bool:
    """Whether positions and cell are numbers."""
    return bool(np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all())


def packing(atoms: Atoms) -> float:
    """Volume of the covalent spheres over the volume of the cell; 0 for one that is not periodic in all directions."""
    if not atoms.pbc.all():
        return 0.0
    spheres = 4 / 3 * np.pi * np.sum(covalent_radii[atoms.numbers] ** 3)
    volume = abs(np.linalg.det(atoms.cell.array))
    return float(spheres / volume) if volume > 0 else np.inf


def check_labels(frames: Sequence[Atoms], labels: Sequence[Labels], settings: AuditSettings) -> Iterator[Finding]:
    """Positions, cells and labels that are missing or not numbers."""
    for index, atoms in enumerate(frames):
        if not is_finite(atoms):
            text = "positions or cell hold NaN or infinity"
            yield finding(frames, index, "not a number", text, "broken", np.nan)
    some_have = {name: any(getattr(item, name) is not None for item in labels) for name in Labels._fields}
    for index, item in enumerate(labels):
        if item.energy is None:
            yield finding(frames, index, "missing label", _no_energy(frames[index]), "broken", np.nan)
        for name in ("forces", "stress"):
            if getattr(item, name) is None and some_have[name]:
                text = f"no {name}, which other structures have"
                yield finding(frames, index, "missing label", text, "suspicious", np.nan)
        for name in Labels._fields:
            value = getattr(item, name)
            if value is None:
                continue
            n_bad = int(np.size(value) - np.isfinite(value).sum())
            if n_bad:
                text = f"{name}: {n_bad} of {np.size(value)} numbers are NaN or infinite"
                yield finding(frames, index, "not a number", text, "broken", float(n_bad))


def _no_energy(atoms: Atoms) -> str:
    found = elsewhere(atoms, "energy")
    if found:
        return f"no energy, but {found[0]!r}: {how_to_read('energy', found[0])}"
    return "no energy; if it has another name in the file, read it with energy_key="


def check_volumes(frames: Sequence[Atoms], labels: Sequence[Labels], settings: AuditSettings) -> Iterator[Finding]:
    """Cells that no pressure could make, and cells far from those of the same elements."""
    volumes: dict[frozenset[int], list[tuple[int, float]]] = defaultdict(list)
    for index, atoms in enumerate(frames):
        if not is_finite(atoms) or not atoms.pbc.all():
            continue
        fraction, volume = packing(atoms), abs(np.linalg.det(atoms.cell.array)) / len(atoms)
        if fraction > settings.packing_suspicious:
            severity = "broken" if fraction > settings.packing_broken else "suspicious"
            text = f"{volume:.3g} Å³ per atom: the covalent spheres fill {fraction:.1f} times the cell"
            yield finding(frames, index, "volume", text, severity, fraction)
        else:
            volumes[frozenset(atoms.numbers.tolist())].append((index, volume))
    for group in volumes.values():
        median = float(np.median([volume for _, volume in group]))
        for index, volume in group:
            ratio = max(volume / median, median / volume)
            if len(group) >= 10 and ratio > settings.volume_factor:
                text = f"{volume:.3g} Å³ per atom, where structures of the same elements have {median:.3g} (median)"
                yield finding(frames, index, "volume", text, "suspicious", ratio)


def check_overlaps(frames: Sequence[Atoms], labels: Sequence[Labels], settings: AuditSettings) -> Iterator[Finding]:
    """Atoms, or periodic images, closer than any calculation makes sense."""
    from vesin import NeighborList

    for index, atoms in enumerate(frames):
        # In a collapsed cell the list of images has no end; `check_volumes` reports those.
        if not is_finite(atoms) or packing(atoms) > 20 * settings.packing_broken:
            continue
        radii = covalent_radii[atoms.numbers]
        search = NeighborList(cutoff=float(2 * radii.max() * settings.overlap_suspicious), full_list=False)
        # A non-periodic direction needs no vector, but vesin wants a cell that can be inverted.
        cell = atoms.cell.complete().array
        pbc = [bool(item) for item in atoms.pbc]
        i, j, distance = search.compute(points=atoms.positions, box=cell, periodic=pbc, quantities="ijd")
        fraction = distance / (radii[i] + radii[j])
        if not len(fraction) or fraction.min() > settings.overlap_suspicious:
            continue
        worst = int(fraction.argmin())
        severity = "broken" if fraction[worst] < settings.overlap_broken else "suspicious"
        pair = f"{atoms.symbols[i[worst]]}{i[worst]}–{atoms.symbols[j[worst]]}{j[worst]}"
        text = f"{pair} at {distance[worst]:.3f} Å, {fraction[worst]:.2f} of the sum of covalent radii"
        forces = labels[index].forces
        if severity == "broken" and forces is not None and np.abs(forces).max() < _CALM:
            largest = np.abs(forces).max()
            text += f"; yet no force is above {largest:.2g} eV/Å: cell or positions are not the calculated ones"
        yield finding(frames, index, "overlap", text, severity, fraction[worst])


def check_energies(frames: Sequence[Atoms], labels: Sequence[Labels], settings: AuditSettings) -> Iterator[Finding]:
    """Energies far from a sum of one energy per element, which a robust fit finds."""
    rows = [i for i, item in enumerate(labels) if item.energy is not None and np.isfinite(item.energy)]
    elements = sorted({int(z) for i in rows for z in frames[i].numbers})
    if len(rows) < max(10, 3 * len(elements)):
        return  # too few to tell an outlier from a composition
    fractions = np.array([[np.mean(frames[i].numbers == z) for z in elements] for i in rows])
    energies = np.array([labels[i].energy for i in rows]) / [len(frames[i]) for i in rows]
    residuals = energies - fractions @ robust_fit(fractions, energies)
    spread = _spread(residuals)
    for index, residual in zip(rows, residuals, strict=True):
        size = abs(residual)
        if size < max(settings.energy_suspicious, settings.energy_deviations * spread):
            continue
        severity = "broken" if _is_impossible(residual, labels[index], settings) else "suspicious"
        text = f"{residual:+.3g} eV/atom from the fit of one energy per element; the others spread by {spread:.2g}"
        n_atoms = len(frames[index])
        if n_atoms > 1 and abs((labels[index].energy or 0) * (1 - 1 / n_atoms) + residual) < max(8 * spread, 0.2):
            text += "; the energy of the cell looks like one per atom"
        yield finding(frames, index, "energy", text, severity, residual)


def _is_impossible(residual: float, item: Labels, settings: AuditSettings) -> bool:
    """Whether an energy (eV/atom, from the fit) has no geometry that could explain it."""
    limit = settings.energy_broken
    is_calm = item.forces is not None and np.abs(item.forces).max() < _CALM
    return bool(residual < -limit or residual > 10 * limit or (residual > limit and is_calm))


def robust_fit(
    matrix: Float[np.ndarray, "n_values n_coefficients"],
    values: Float[np.ndarray, " n_values"],
    *,
    n_iterations: int = 50,
) -> Float[np.ndarray, " n_coefficients"]:
    """The coefficients of ``values ≈ matrix @ coefficients``, unmoved by outliers.

    Huber's loss is minimised by reweighted least squares, its scale being 1.4826 times the median absolute residual,
    and its constant 1.345 of that.

    References:
        Huber, Ann. Math. Statist. 35, 73 (1964).
    """
    weights = np.ones(len(values))
    coefficients = np.zeros(matrix.shape[1])
    for _ in range(n_iterations):
        root = np.sqrt(weights)
        previous, coefficients = coefficients, np.linalg.lstsq(matrix * root[:, None], values * root, rcond=None)[0]
        residuals = np.abs(values - matrix @ coefficients)
        limit = 1.345 * max(1.4826 * float(np.median(residuals)), 1e-12 * float(np.abs(values).max() or 1))
        weights = limit / np.maximum(residuals, limit)
        if np.allclose(coefficients, previous, rtol=1e-10, atol=1e-12):
            break
    return coefficients


def check_forces(frames: Sequence[Atoms], labels: Sequence[Labels], settings: AuditSettings) -> Iterator[Finding]:
    """Forces too large to mean anything or to be fitted, and cells that pull themselves."""
    for index, item in enumerate(labels):
        if item.forces is None or not np.isfinite(item.forces).all():
            continue
        sizes = np.linalg.norm(item.forces, axis=1)
        largest = float(sizes.max())
        if largest > settings.force_suspicious:
            severity = "broken" if largest > settings.force_broken else "suspicious"
            atom = int(sizes.argmax())
            text = f"{frames[index].symbols[atom]}{atom} feels {largest:.3g} eV/Å"
            yield finding(frames, index, "force", text, severity, largest)
        net = float(np.linalg.norm(item.forces.sum(axis=0)))
        if net > settings.net_force:
            text = f"forces sum to {net:.3g} eV/Å instead of 0: coarse grid, outer field, or rows missing or mixed up"
            yield finding(frames, index, "net force", text, "suspicious", net)


def check_stresses(frames: Sequence[Atoms], labels: Sequence[Labels], settings: AuditSettings) -> Iterator[Finding]:
    """Stresses that look like another unit."""
    for index, item in enumerate(labels):
        largest = 0.0 if item.stress is None else float(np.abs(item.stress).max())
        if largest > settings.stress_suspicious:
            text = f"stress of {largest:.3g} eV/Å³ ({160.2 * largest:.4g} GPa); is it in GPa or kbar, or a virial?"
            yield finding(frames, index, "stress", text, "suspicious", largest)


def _spread(residuals: np.ndarray) -> float:
    return 1.4826 * float(np.median(np.abs(residuals - np.median(residuals))))
