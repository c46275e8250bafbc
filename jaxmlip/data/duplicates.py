"""Structures that are the same, or the same one vibrating: within a set, and between training and test sets."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from ase import Atoms
from jaxtyping import Int

from jaxmlip.data.checks import finding, is_finite
from jaxmlip.data.findings import AuditSettings, Finding, structure_name
from jaxmlip.data.labels import Labels

# Waves whose sums over the atoms tell structures apart whatever the order of the atoms and their periodic images.
_WAVES = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1], [2, 1, 0]])


def check_duplicates(frames: Sequence[Atoms], labels: Sequence[Labels], settings: AuditSettings) -> Iterator[Finding]:
    """Structures that came before: same cell, same atoms up to their order and periodic images."""
    for first, second in sorted(_duplicate_pairs(frames, settings.duplicate_distance), key=lambda pair: pair[1]):
        text = f"the same structure as number {first}"
        energies = labels[first].energy, labels[second].energy
        difference = 0.0 if None in energies else (energies[1] - energies[0]) / len(frames[second])  # type: ignore[operator]
        if abs(difference) > 1e-3:
            text += f", with another energy ({1e3 * difference:+.3g} meV/atom): other settings, or a mix-up"
        yield finding(frames, second, "duplicate", text, "suspicious", difference)


def leakage(train: Sequence[Atoms], test: Sequence[Atoms], *, settings: AuditSettings | None = None) -> list[Finding]:
    """The structures of ``test`` that have a near twin in ``train``, so that errors on them say little.

    A near twin has the same formula, a cell within ``near_strain``, and the atoms on the same sites: a root mean
    square displacement below ``near_distance`` Å, as frames of one trajectory have. The indices are those of ``test``.

    >>> from ase.build import bulk
    >>> atoms = bulk("MgO", "rocksalt", a=4.2) * 2
    >>> rattled = atoms.copy()
    >>> rattled.rattle(0.05)
    >>> [(finding.check, finding.index) for finding in leakage([atoms], [rattled])]
    [('leakage', 0)]
    """
    settings = settings or AuditSettings()
    groups = _by_formula(train)
    findings = []
    for index, atoms in enumerate(test):
        twins = groups.get(_formula(atoms), [])
        if not twins or not is_finite(atoms):
            continue
        distances = _displacements(_sites(atoms), [site for _, site in twins], settings.near_strain)
        nearest = int(np.argmin(distances))
        distance = float(distances[nearest])
        if distance < settings.near_distance:
            twin = twins[nearest][0]
            text = (
                f"{distance:.3f} Å (root mean square) from training structure {twin} ({structure_name(train[twin])}): "
                "one trajectory or relaxation on both sides; split by trajectory"
            )
            findings.append(finding(test, index, "leakage", text, "suspicious", distance))
    return findings


def trajectories(frames: Sequence[Atoms], *, settings: AuditSettings | None = None) -> Int[np.ndarray, " n_graphs"]:
    """A number for each structure, ``[n_graphs]``, the same for those that are near twins, directly or through others.

    >>> from ase.build import bulk
    >>> first, other = bulk("Mo") * 2, bulk("W") * 2
    >>> second = first.copy()
    >>> second.rattle(0.05)
    >>> trajectories([first, other, second]).tolist()
    [0, 1, 0]
    """
    settings = settings or AuditSettings()
    parents = np.arange(len(frames))
    for members in _by_formula(frames).values():
        waiting = dict(members)
        while waiting:
            root = min(waiting)
            queue = [waiting.pop(root)]
            while queue and waiting:
                keys = list(waiting)
                near = _displacements(queue.pop(), [waiting[key] for key in keys], settings.near_strain)
                for key in np.array(keys)[near < settings.near_distance].tolist():
                    parents[key] = root
                    queue.append(waiting.pop(key))
    return np.unique(parents, return_inverse=True)[1]


class _Sites(NamedTuple):
    """The atoms of a structure, sorted by element and otherwise in their order."""

    cell: np.ndarray  # [3, 3] in Å
    scaled: np.ndarray  # [n_atoms, 3], fractional


def _sites(atoms: Atoms) -> _Sites:
    order = np.argsort(atoms.numbers, kind="stable")
    cell = _cell(atoms)
    return _Sites(cell, np.linalg.solve(cell.T, atoms.positions[order].T).T)


def _displacements(site: _Sites, others: Sequence[_Sites], max_strain: float) -> np.ndarray:
    """Root mean square displacements in Å to the ``others``; infinite where the cell has another shape."""
    result = np.full(len(others), np.inf)
    strains = np.linalg.solve(site.cell, np.stack([other.cell for other in others])) - np.eye(3)
    near = np.flatnonzero(np.abs(strains).max(axis=(1, 2)) < max_strain)
    for chunk in np.array_split(near, max(1, near.size * site.scaled.size // 2_000_000)):
        if not chunk.size:
            continue
        shift = np.stack([others[k].scaled for k in chunk]) - site.scaled
        shift -= np.round(shift)
        # The mean of wrapped shifts is the rigid motion, as long as the atoms keep their sites.
        shift -= shift.mean(axis=1, keepdims=True)
        result[chunk] = np.sqrt(np.mean(np.sum((shift @ site.cell) ** 2, axis=2), axis=1))
    return result


def _duplicate_pairs(frames: Sequence[Atoms], tolerance: float) -> Iterator[tuple[int, int]]:
    """Each structure that came before, as (first of its kind, structure)."""
    from scipy.spatial import KDTree

    for members in _by_formula(frames).values():
        if len(members) < 2:
            continue
        prints = np.array([_fingerprint(frames[index], site) for index, site in members])
        tree, seen = KDTree(prints), set()
        for row, (first, site) in enumerate(members):
            if row in seen:
                continue
            near = (other for other in tree.query_ball_point(prints[row], 20 * tolerance) if other > row)
            for other in near:
                second, other_site = members[other]
                if other not in seen and _are_same(frames[first], site, other_site, tolerance=tolerance):
                    seen.add(other)
                    yield first, second


def _fingerprint(atoms: Atoms, site: _Sites) -> np.ndarray:
    """Cell in Å and averaged waves, which move by some 10 per Å of displacement at most."""
    weights = np.sqrt(np.sort(atoms.numbers))
    waves = (weights / weights.sum()) @ np.exp(2j * np.pi * site.scaled @ _WAVES.T)
    return np.concatenate([site.cell.ravel(), waves.real, waves.imag])


def _are_same(atoms: Atoms, one: _Sites, two: _Sites, *, tolerance: float) -> bool:
    """Whether two structures of one formula (that of ``atoms``) agree up to the order and the images of the atoms."""
    if np.abs(one.cell - two.cell).max() > tolerance:
        return False
    shift = one.scaled[:, None] - two.scaled[None]
    distances = np.linalg.norm((shift - np.round(shift)) @ one.cell, axis=2)
    numbers = np.sort(atoms.numbers)
    distances[numbers[:, None] != numbers[None]] = np.inf
    nearest = distances.argmin(axis=1)
    return bool(distances.min(axis=1).max() < tolerance and len(set(nearest.tolist())) == len(atoms))


def _by_formula(frames: Sequence[Atoms]) -> dict[tuple[int, ...], list[tuple[int, _Sites]]]:
    groups = defaultdict(list)
    for index, atoms in enumerate(frames):
        if is_finite(atoms):
            groups[_formula(atoms)].append((index, _sites(atoms)))
    return dict(groups)


def _formula(atoms: Atoms) -> tuple[int, ...]:
    return tuple(np.sort(atoms.numbers).tolist())


def _cell(atoms: Atoms) -> np.ndarray:
    """The cell, with a long vector for each direction without one, so that fractional coordinates exist."""
    cell = atoms.cell.array
    if abs(np.linalg.det(cell)) > 1e-8:
        return cell
    complete = atoms.cell.complete().array * np.where(cell.any(axis=1), 1.0, 1000.0)[:, None]
    return complete if abs(np.linalg.det(complete)) > 1e-8 else 1000.0 * np.eye(3)
