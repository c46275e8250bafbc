"""``jaxmlip convert``: a model from one file format into another."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from jaxmlip.commands.cache import double_precision
from jaxmlip.commands.evaluation import load_model
from jaxmlip.commands.output import console, need_folder, record_beside
from jaxmlip.commands.parse import parse, take_config
from jaxmlip.config import ConfigError


@dataclass(frozen=True)
class Convert:
    """Read a model and write it in the format that the suffix names.

    example: jaxmlip convert fit/model.npz LiO.snapcoeff   (for LAMMPS pair_style snap; writes LiO.snapparam too)

    example: jaxmlip convert aenet_folder model.npz        (its predict.in, or all its .nn files)

    example: jaxmlip convert model.npz LiO.nn              (for aenet; writes Li.LiO.nn and O.LiO.nn)
    """

    model: tyro.conf.Positional[str] = ""
    """Our model.npz, or another program's: W.snapcoeff (its .snapparam stands beside it), a folder of aenet."""
    target: tyro.conf.Positional[str] = ""
    """File to write: .npz is our format, .snapcoeff for LAMMPS, .mtp for MLIP, .nn (.nn.ascii) for aenet, .yaml for
    nequip or pacemaker, .yace for LAMMPS (ACE), .xml for QUIP."""
    species: tuple[str, ...] = ()
    """Elements of a .mtp file in its order; of a .snapcoeff file, those to keep."""


def main(words: Sequence[str]) -> int:
    """Run the command."""
    mapping, where, rest = take_config(words)
    job = parse(Convert, rest, prog="jaxmlip convert", mapping=mapping, where=where)
    if not job.target:
        raise ConfigError("convert needs two files: jaxmlip convert fit/model.npz LiO.snapcoeff")
    need_folder(Path(job.target))
    import jaxmlip

    with double_precision():
        jaxmlip.save(load_model(job.model, job.species), job.target)
    record_beside(Path(job.target), job, ["convert", *words])
    console().print(f"wrote {job.target}", highlight=False)
    return 0
