"""The audit of reference data: finds what ruins fits before it does.

Three of 222 structures drawn from a published set of disordered rocksalts had a corrupt cell; a fit sees them as
outliers that it must bend to. Thresholds and their reasons: `jaxmlip.data.findings.AuditSettings`.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

from ase import Atoms

from jaxmlip.data import checks, suspicions
from jaxmlip.data.duplicates import check_duplicates, leakage
from jaxmlip.data.findings import AuditSettings, Finding
from jaxmlip.data.labels import labels

_CHECKS: tuple[checks.Check, ...] = (
    checks.check_labels,
    checks.check_volumes,
    checks.check_overlaps,
    checks.check_energies,
    checks.check_forces,
    checks.check_stresses,
    suspicions.check_convergence,
    suspicions.check_levels,
    suspicions.check_energy_scale,
    suspicions.check_force_scale,
    suspicions.check_stress_scale,
    check_duplicates,
)


def audit(
    frames: Sequence[Atoms], *, settings: AuditSettings | None = None, other: Sequence[Atoms] | None = None
) -> list[Finding]:
    """What is wrong with ``frames``, the broken first, then by structure.

    Checks: labels that are missing or NaN, volume per atom, overlapping atoms (all periodic images), energies far
    from a robust fit of one energy per element, large forces, net forces, stresses in another unit or of the other
    sign, energies per atom, loops that did not converge, several functionals in one list, duplicates; and
    with ``other``, the training set of a test set ``frames``, near twins on both sides (`leakage`).

    >>> from ase.build import bulk
    >>> from jaxmlip.data.labels import Labels, attach
    >>> atoms = bulk("MgO", "rocksalt", a=4.2)
    >>> attach(atoms, Labels(-12.0, None, None))
    >>> audit([atoms])
    []
    >>> broken = bulk("MgO", "rocksalt", a=1.2)
    >>> for finding in audit([atoms, broken]):
    ...     print(finding.index, finding.severity, finding.check)
    1 broken missing label
    1 broken volume
    1 broken overlap

    Raises:
        ValueError: no structures, or a label of the wrong shape.
    """
    frames = list(frames)
    if not frames:
        raise ValueError("audit: got no structures; read some first, e.g. audit(read('train.xyz'))")
    settings = settings or AuditSettings()
    stored = [labels(atoms) for atoms in frames]
    findings = [item for check in _CHECKS for item in check(frames, stored, settings)]
    if other is not None:
        findings += leakage(other, frames, settings=settings)
    return sorted(findings, key=lambda item: (item.severity, item.index))


def clean(
    frames: Sequence[Atoms], findings: Sequence[Finding], *, drop: Literal["broken", "suspicious"] = "broken"
) -> list[Atoms]:
    """``frames`` without those that have a broken finding; suspicious ones stay unless they are to be dropped too.

    >>> from ase.build import bulk
    >>> frames = [bulk("Mo"), bulk("W")]
    >>> [atoms.symbols[0] for atoms in clean(frames, [Finding(0, "Mo", "overlap", "", "broken", 0.1)])]
    ['W']
    """
    broken = {item.index for item in findings if drop == "suspicious" or item.severity == "broken"}
    return [atoms for index, atoms in enumerate(frames) if index not in broken]


def findings_rows(findings: Sequence[Finding], *, max_per_check: int | None = None) -> list[tuple[str, str, str, str]]:
    """A table of ``findings`` as rows of text: structure, what, why, how bad.

    With ``max_per_check``, the first of each check and severity, and a row that counts the rest of them.

    >>> findings_rows([Finding(3, "Li2O id=7", "overlap", "Li0–O2 at 0.300 Å", "broken", 0.15)])
    [('3 Li2O id=7', 'overlap', 'Li0–O2 at 0.300 Å', 'broken')]
    """
    groups: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for item in findings:
        groups[item.severity, item.check].append(item)
    rows = []
    for (severity, check), items in groups.items():
        shown = items if max_per_check is None else items[:max_per_check]
        rows += [(f"{item.index} {item.name}", item.check, item.message, item.severity) for item in shown]
        if len(items) > len(shown):
            rows.append((f"{len(items) - len(shown)} more", check, "", severity))
    return rows
