"""``jaxmlip evaluate``: errors of a model against labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from jaxmlip.commands.cache import double_precision
from jaxmlip.commands.evaluation import load_model, report_errors
from jaxmlip.commands.output import record_beside, structures
from jaxmlip.commands.parse import parse, take_config
from jaxmlip.data.elsewhere import warn_elsewhere
from jaxmlip.data.options import ReadOptions


@dataclass(frozen=True)
class Evaluate(ReadOptions):
    """Errors of a model: energy per atom, force components and stress components.

    Printed in meV/atom, eV/Å and GPa; in the files of --out in eV/atom, eV/Å and eV/Å³.

    example: jaxmlip evaluate fit/model.npz test.xyz --out errors
    """

    model: tyro.conf.Positional[str] = ""
    """Our model.npz, or a file of another program."""
    data: tyro.conf.Positional[tuple[str, ...]] = ()
    """Files, folders, patterns or shipped data sets, with labels."""
    group_key: str | None = None
    """Key of info whose values get errors of their own."""
    out: Path | None = None
    """Folder for errors.csv (also per element), errors.jsonl, parity figures and run.json; none: print only."""


def main(words: Sequence[str]) -> int:
    """Run the command."""
    mapping, where, rest = take_config(words)
    job = parse(Evaluate, rest, prog="jaxmlip evaluate", mapping=mapping, where=where)
    with double_precision():
        model = load_model(job.model)
        frames = structures(job.data, "structures", job)
        warn_elsewhere(frames)
        if job.out is not None:
            job.out.mkdir(parents=True, exist_ok=True)
        report_errors(model, {"data": frames}, out=job.out, group_key=job.group_key)
    if job.out is not None:
        record_beside(job.out, job, ["evaluate", *words], n_structures=len(frames))
    return 0
