"""``jaxmlip audit``: what ruins fits, as a table."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from jaxmlip.commands.output import console, need_folder, record_beside, structures
from jaxmlip.commands.parse import parse, take_config
from jaxmlip.config import ConfigError
from jaxmlip.data.findings import AuditSettings
from jaxmlip.data.options import ReadOptions


@dataclass(frozen=True)
class Audit(ReadOptions):
    """Find what ruins fits: overlapping atoms, impossible volumes, outliers, missing labels, duplicates.

    Exits with 1 when something is broken, so that a script stops there.

    example: jaxmlip audit train.xyz --write clean.xyz
    """

    data: tyro.conf.Positional[tuple[str, ...]] = ()
    """Files, folders, patterns or shipped data sets."""
    train: tuple[str, ...] = ()
    """Training data, if DATA is the test data: near twins on both sides are reported."""
    write: Path | None = None
    """Write the structures that are not broken here (.xyz or .cfg)."""
    drop: Literal["broken", "suspicious"] = "broken"
    """What --write leaves out: the broken, or the suspicious as well."""
    max_per_check: int = 10
    """Lines shown of each kind of finding; 0 for all."""
    settings: AuditSettings = field(default_factory=AuditSettings)
    """Thresholds."""


def main(words: Sequence[str]) -> int:
    """Run the command; 1 when something is broken."""
    mapping, where, rest = take_config(words)
    job = parse(Audit, rest, prog="jaxmlip audit", mapping=mapping, where=where)
    from jaxmlip.data.audit import audit, clean

    if job.write is not None:
        need_folder(job.write)
    frames = structures(job.data, "structures", job)
    other = structures(job.train, "training data", job) if job.train else None
    findings = audit(frames, settings=job.settings, other=other)
    _show(job, len(frames), findings)
    n_broken = len({item.index for item in findings if item.severity == "broken"})
    if job.write is not None:
        _write(job, frames, clean(frames, findings, drop=job.drop), findings, ["audit", *words])
    return 1 if n_broken else 0


def _show(job: Audit, n_frames: int, findings) -> None:
    from rich.table import Table

    from jaxmlip.data.audit import findings_rows

    out = console()
    if findings:
        table = Table("structure", "what", "why", "how bad")
        for row in findings_rows(findings, max_per_check=job.max_per_check or None):
            style = "red" if row[3] == "broken" else None
            table.add_row(*row, style=style)
        out.print(table, markup=False)
    counts = Counter({item.index: item.severity for item in reversed(findings)}.values())
    words = ", ".join(f"{counts[severity]} {severity}" for severity in ("broken", "suspicious"))
    out.print(f"{n_frames} structures: {words}", highlight=False)


def _write(job: Audit, frames: list, kept: list, findings, words: list[str]) -> None:
    from jaxmlip.data import write

    assert job.write is not None  # the caller checked
    if not kept:
        raise ConfigError(f"nothing written to {job.write}: every structure is {job.drop}")
    severities = {item.index: item.severity for item in reversed(findings)}
    n_suspicious = sum(severity == "suspicious" for severity in severities.values())
    write(job.write, kept)
    record_beside(job.write, job, words, n_kept=len(kept))
    text = f"wrote {len(kept)} structures to {job.write}; {len(frames) - len(kept)} {job.drop} ones are left out"
    if n_suspicious and job.drop == "broken":
        text += f", {n_suspicious} suspicious ones are among those written (--drop suspicious leaves them out too)"
    console().print(text, highlight=False)
