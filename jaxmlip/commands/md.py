"""``jaxmlip md``: molecular dynamics with a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from jaxmlip.commands.cache import double_precision
from jaxmlip.commands.evaluation import load_model
from jaxmlip.commands.output import console, need_folder, one_structure, record_beside
from jaxmlip.commands.parse import flags_class, parse, settings_of, take_config
from jaxmlip.data.options import ReadOptions


@dataclass(frozen=True)
class MD(ReadOptions):
    """Molecular dynamics of one structure; the same command goes on with a run that was stopped.

    example: jaxmlip md fit/model.npz start.xyz --ensemble npt --temperature 600 --n-steps 20000 --out npt600
    """

    model: tyro.conf.Positional[str] = ""
    """Our model.npz, or a file of another program."""
    data: tyro.conf.Positional[str] = ""
    """A file or a shipped data set; the run starts with its first structure unless --index says which."""
    index: int = 0
    """Which structure of the data."""
    repeat: tuple[int, int, int] = (1, 1, 1)
    """Cells along each vector."""
    out: Path = Path("md")
    """Folder: log.csv, the trajectory, a checkpoint, run.json."""
    pressure: float = 0.0
    """GPa, of npt and npt-isotropic."""


def main(words: Sequence[str]) -> int:
    """Run the command."""
    mapping, where, rest = take_config(words)
    from jaxmlip.simulate import Dynamics

    flags: Any = flags_class(Dynamics, name="MD", base=MD, without=("pressure",))
    job = parse(flags, rest, prog="jaxmlip md", mapping=mapping, where=where)
    need_folder(job.out)
    with double_precision():
        from jaxmlip.simulate import molecular_dynamics

        model, start = load_model(job.model), one_structure(job.data, job.index, job) * job.repeat
        settings = _settings(job)
        console().print(
            f"{job.ensemble}, {len(start)} atoms, {job.n_steps} steps of {job.timestep} fs", highlight=False
        )
        try:
            run = molecular_dynamics(model, start, settings, folder=job.out, show_progress=True)
        except RuntimeError as error:  # the potential's failure, not the caller's
            console().print(f"jaxmlip md: {error}", markup=False)
            return 1
    _show(run)
    record_beside(job.out, job, ["md", *words], drift_meV_per_atom_ps=run.drift)
    console().print(f"wrote log.csv and trajectory.{job.trajectory} to {job.out}", highlight=False)
    return 0


def _settings(job: Any) -> Any:
    from jaxmlip.simulate import Dynamics
    from jaxmlip.units import GPA

    return settings_of(Dynamics, job, pressure=job.pressure / GPA)


def _show(run) -> None:
    """Means over the second half, with the spread of the values around them."""
    from rich.table import Table

    from jaxmlip.units import GPA, MEV

    half = slice(len(run.time) // 2, None)
    table = Table("second half of the run", "mean", "fluctuation", "unit")
    rows = (
        ("temperature", run.temperature, 1.0, "K"),
        ("pressure", run.pressure, GPA, "GPa"),
        ("volume", run.volume, 1.0, "Å³"),
        ("potential energy", run.potential_energy / len(run.atoms), 1.0, "eV/atom"),
    )
    for name, values, scale, unit in rows:
        table.add_row(name, f"{values[half].mean() * scale:.5g}", f"{values[half].std() * scale:.2g}", unit)
    total = run.conserved_energy / len(run.atoms) * MEV
    table.add_row("conserved energy", f"drift {run.drift:.2g}", f"{total[half].std():.2g}", "meV/atom/ps, meV/atom")
    console().print(table)
