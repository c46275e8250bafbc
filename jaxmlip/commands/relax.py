"""``jaxmlip relax``: relaxed structures from a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from jaxmlip.commands.cache import double_precision
from jaxmlip.commands.evaluation import load_model
from jaxmlip.commands.output import console, need_folder, record_beside, structures
from jaxmlip.commands.parse import flags_class, parse, settings_of, take_config
from jaxmlip.data.options import ReadOptions


@dataclass(frozen=True)
class Relax(ReadOptions):
    """Relax positions and cells, all structures side by side; exits with 1 when one did not converge.

    example: jaxmlip relax fit/model.npz start.xyz --out relaxed.xyz --no-cell
    """

    model: tyro.conf.Positional[str] = ""
    """Our model.npz, or a file of another program."""
    data: tyro.conf.Positional[tuple[str, ...]] = ()
    """Files, folders, patterns or shipped data sets."""
    out: Path = Path("relaxed.xyz")
    """Relaxed structures with their energy, forces and stress; info says whether each converged."""
    pressure: float = 0.0
    """GPa; of the surroundings, positive compresses."""


def main(words: Sequence[str]) -> int:
    """Run the command; 1 when a structure did not converge."""
    mapping, where, rest = take_config(words)
    from jaxmlip.simulate import Relaxation

    flags: Any = flags_class(Relaxation, name="Relax", base=Relax, without=("pressure",))
    job = parse(flags, rest, prog="jaxmlip relax", mapping=mapping, where=where)
    need_folder(job.out)
    with double_precision():
        model = load_model(job.model)
        frames = structures(job.data, "structures", job)
        found = _relax(job, model, frames)
        _show(frames, found)
        _write(job, model, found)
    record_beside(job.out, job, ["relax", *words], converged=[one.converged for one in found])
    console().print(f"wrote {len(found)} structures to {job.out}", highlight=False)
    return 0 if all(one.converged for one in found) else 1


def _relax(job: Any, model, frames) -> list:
    from jaxmlip.simulate import Relaxation, relax
    from jaxmlip.units import GPA

    return relax(model, frames, settings_of(Relaxation, job, pressure=job.pressure / GPA))


def _show(frames, found) -> None:
    from rich.table import Table

    from jaxmlip.units import GPA

    names = ("structure", "energy (eV)", "steps", "max force (eV/Å)", "max stress (GPa)", "volume", "")
    table = Table(*names)
    for frame, one in zip(frames, found, strict=True):
        change = f"{one.atoms.get_volume() / frame.get_volume() - 1:+.1%}" if frame.cell.rank == 3 else ""
        numbers = (f"{one.energy:.6f}", str(one.n_steps), f"{one.max_force:.2g}", f"{one.max_stress * GPA:.2g}")
        state = "converged" if one.converged else one.problem
        table.add_row(frame.get_chemical_formula(), *numbers, change, state)
    console().print(table, markup=False)


def _write(job: Relax, model, found) -> None:
    """The last geometries, labelled by the model where it can; one that ran away keeps no label."""
    from jaxmlip.commands.predict import predict_labels
    from jaxmlip.data import write

    frames = []
    for one in found:
        frame = one.atoms.copy()
        frame.info |= {"relaxed": one.converged, "relaxation_steps": one.n_steps}
        frames.append(frame)
    good = [frame for frame, one in zip(frames, found, strict=True) if one.converged]
    if good:
        predict_labels(model, good)
    write(job.out, frames)
