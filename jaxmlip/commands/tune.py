"""``jaxmlip tune``: search for the hyper-parameters of a family."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro

from jaxmlip.commands.cache import double_precision
from jaxmlip.commands.output import console, structures
from jaxmlip.commands.parse import parse, take_config
from jaxmlip.config import ConfigError, unknown_name
from jaxmlip.data.options import ReadOptions


@dataclasses.dataclass(frozen=True)
class Tune(ReadOptions):
    """Search for the settings of a family that do best on a fifth of the data, and write them as a preset.

    A search that was stopped goes on. The file with the result serves as jaxmlip fit DATA --config OUT/preset.toml.
    What is searched is marked in the family's settings; what --config gives is not searched.

    example: jaxmlip tune mtp train.xyz --trials 40 --out tuned
    """

    family: tyro.conf.Positional[str] = ""
    """Whose settings: a name that jaxmlip fit takes."""
    data: tyro.conf.Positional[tuple[str, ...]] = ()
    """Structures with labels: files, folders, patterns or shipped data sets."""
    trials: int = 30
    """Fits in all, those of an earlier run of the same search included."""
    split: str = "random"
    """How validation structures are chosen: random, composition, trajectory, or a key of info."""
    out: Path = Path("tuned")
    """Folder for trials.log and preset.toml."""


def main(words: Sequence[str]) -> int:
    """Run the command."""
    from jaxmlip.potentials import trainable
    from jaxmlip.study.config import StudyMethod
    from jaxmlip.study.tune import PRESET, tune
    from jaxmlip.units import SHOWN

    mapping, where, rest = take_config(words)
    given = {part: mapping.pop(part, {}) for part in ("potential", "fit")}
    job = parse(Tune, rest, prog="jaxmlip tune", mapping=mapping, where=where)
    if job.family not in trainable():
        raise ConfigError(f"{unknown_name('family', job.family, trainable())}. Use: jaxmlip tune FAMILY DATA")
    atoms = structures(job.data, "data to tune on", job)
    out = console()

    def report(row: dict[str, Any]) -> None:
        errors = {name: row[name] for name in SHOWN if row.get(name) is not None}
        row |= {name: f"{SHOWN[name].factor * value:.4g} {SHOWN[name].name}" for name, value in errors.items()}
        numbers = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items() if k != "trial"}
        out.print(f"trial {row['trial']}: " + ", ".join(f"{k} {v}" for k, v in numbers.items()), highlight=False)

    method = StudyMethod(job.family, given["potential"], given["fit"])
    with double_precision():
        found = tune(method, atoms, n_trials=job.trials, folder=job.out, split_by=job.split, report=report)
    out.print(f"best score {found.score:.4g} eV/Å: {job.out / PRESET}", highlight=False)
    return 0
