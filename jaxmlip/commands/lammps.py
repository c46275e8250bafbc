"""``jaxmlip lammps``: LAMMPS with a model, on as many ranks as ``mpiexec`` starts."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from jaxmlip.commands.cache import double_precision
from jaxmlip.commands.evaluation import load_model
from jaxmlip.commands.output import record_beside
from jaxmlip.commands.parse import parse, take_config
from jaxmlip.config import ConfigError


@dataclass(frozen=True)
class Lammps:
    """Run an ordinary LAMMPS input in which `pair_style jaxmlip` and `pair_coeff * * Li Mn O` stand.

    One element for each atom type, in metal or real units. Arguments of LAMMPS itself (-var, -log, -screen, …) come
    last.

    example: jaxmlip lammps fit/model.npz in.diffusion

    example: mpiexec -n 8 -bind-to core jaxmlip lammps fit/model.npz in.diffusion --dtype float32 -var T 900
    """

    model: tyro.conf.Positional[str] = ""
    """Our model.npz, or a file of another program."""
    input: tyro.conf.Positional[str] = ""
    """LAMMPS's input file."""
    skin: float | None = None
    """Å; the default is that of the input's `neighbor` command, else 1."""
    dtype: str = "float64"
    """float64, or float32 for speed."""


def main(words: Sequence[str]) -> int:
    """Run the command."""
    mapping, where, rest = take_config(words)
    own, theirs = split_words(rest)
    job = parse(Lammps, own, prog="jaxmlip lammps", mapping=mapping, where=where)
    if not job.input:
        raise ConfigError("lammps needs a model and an input: jaxmlip lammps fit/model.npz in.diffusion")
    if not Path(job.input).is_file():
        raise FileNotFoundError(f"{job.input} does not exist")
    with double_precision():
        from jaxmlip.simulate.lammps import run_input, start

        model, lmp = load_model(job.model), start(theirs)
        try:
            run_input(lmp, model, job.input, skin=job.skin, dtype=job.dtype)
        except Exception as error:
            if type(error) is not Exception:
                raise
            raise ConfigError(str(error)) from None  # LAMMPS's own, which has no type
        if lmp.extract_setting("world_rank") == 0:
            record_beside(Path(job.input), job, ["lammps", *words], n_ranks=lmp.extract_setting("world_size"))
        lmp.close()
    return 0


def split_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Our words, and those of LAMMPS, which begin with the first flag of one dash.

    >>> split_words(["model.npz", "in.file", "--skin", "2", "-var", "T", "900"])
    (['model.npz', 'in.file', '--skin', '2'], ['-var', 'T', '900'])
    """
    first = next((k for k, word in enumerate(words) if re.fullmatch("-[a-z]{2,}|-[a-gi-z]", word)), len(words))
    return list(words[:first]), list(words[first:])
