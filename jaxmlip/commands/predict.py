"""``jaxmlip predict``: predicted energies, forces and stresses as labels in a file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from jaxmlip.commands.cache import double_precision
from jaxmlip.commands.evaluation import load_model
from jaxmlip.commands.output import console, need_folder, record_beside, structures
from jaxmlip.commands.parse import parse, take_config
from jaxmlip.data.options import ReadOptions


@dataclass(frozen=True)
class Predict(ReadOptions):
    """Write structures with predicted energy (eV), forces (eV/Å) and stress (eV/Å³, ASE's sign).

    example: jaxmlip predict fit/model.npz new.xyz --out predicted.xyz
    """

    model: tyro.conf.Positional[str] = ""
    """Our model.npz, or a file of another program."""
    data: tyro.conf.Positional[tuple[str, ...]] = ()
    """Files, folders, patterns or shipped data sets; labels are not needed and are replaced."""
    out: Path = Path("predicted.xyz")
    """Extended XYZ (.xyz, .extxyz) or MLIP .cfg, also with .xz or .gz."""


def main(words: Sequence[str]) -> int:
    """Run the command."""
    mapping, where, rest = take_config(words)
    job = parse(Predict, rest, prog="jaxmlip predict", mapping=mapping, where=where)
    need_folder(job.out)
    with double_precision():
        model = load_model(job.model)
        frames = structures(job.data, "structures", job)
        predict_labels(model, frames)
    from jaxmlip.data import write

    write(job.out, frames)
    record_beside(job.out, job, ["predict", *words], n_structures=len(frames))
    console().print(f"wrote {len(frames)} structures to {job.out}", highlight=False)
    return 0


def predict_labels(model, frames) -> None:
    """Replace the labels of ``frames``; a structure without a cell gets no stress."""
    from jaxmlip.data.labels import Labels, attach
    from jaxmlip.potentials.predictions import predict_atoms

    predicted = predict_atoms(model, frames, show_progress=console().is_terminal)
    for frame, energy, forces, stress, _ in zip(frames, *predicted, strict=True):
        attach(frame, Labels(float(energy), forces, stress if frame.cell.rank == 3 else None))
