"""Errors and parity plots of a model, on the terminal and in a folder: what ``fit`` and ``evaluate`` end with."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import ase

from jaxmlip.commands.output import console, structures
from jaxmlip.config import ConfigError


def report_errors(
    model, sets: Mapping[str, Sequence[ase.Atoms]], *, out: Path | None, group_key: str | None = None
) -> None:
    """Print the errors of ``model`` on each named set; with ``out`` also write tables and figures into that folder."""
    from jaxmlip.evaluate.errors import errors, rich_table
    from jaxmlip.potentials import predict_atoms

    predicted = {name: predict_atoms(model, frames) for name, frames in sets.items()}
    tables = {name: errors(predicted[name], frames, group_key=group_key) for name, frames in sets.items()}
    scopes = ("all", "group") if group_key else ("all",)
    console().print(rich_table(tables, scopes=scopes))
    if out is not None:
        _write(model, sets, predicted, tables, out)


def _write(model, sets: Mapping, predicted: Mapping, tables: Mapping, out: Path) -> None:
    from jaxmlip.evaluate.parity import AXES, parity, parity_figure
    from jaxmlip.evaluate.provenance import write_rows
    from jaxmlip.evaluate.style import save_figure
    from jaxmlip.potentials import family_of

    write_rows(out, "errors", [{"data": name, **row} for name, table in tables.items() for row in table.records()])
    family = family_of(model.potential.config).name
    for quantity in AXES:
        column = {name: parity(predicted[name], frames, quantity=quantity) for name, frames in sets.items()}
        if any(points.reference.size for points in column.values()):
            save_figure(parity_figure({family: column}), out / f"parity_{quantity}.png")


def load_model(path: str, species: Sequence[str] = ()):
    """The model at ``path``; ``species`` for files of other programs (`jaxmlip.load`).

    Raises:
        ConfigError: no path was given.
    """
    import jaxmlip

    if not path:
        raise ConfigError("no model: name a model file first, such as fit/model.npz, or rocksalt-mtp (jaxmlip card)")
    return jaxmlip.load(path, species=species or None)


def domain(job: Any, model, mode: Literal["structures", "atoms"] = "structures"):
    """The active set of the training data that ``job.train`` names, else of a shipped potential; None without either.

    ``job``: what the command was told, with ``model`` and ``train``.
    """
    from jaxmlip import pretrained
    from jaxmlip.evaluate.grade import active_set, load_active_set

    if job.train:
        return active_set(model, structures(job.train, "training data (--train)", job), mode=mode)
    shipped = job.model in pretrained.available() and pretrained.files(job.model).active_set
    return load_active_set(job.model) if shipped else None
