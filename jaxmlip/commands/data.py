"""``jaxmlip data``: data sets on disk that are larger than the memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import ase
import tyro

from jaxmlip.commands.output import console
from jaxmlip.commands.parse import parse, take_config
from jaxmlip.config import ConfigError
from jaxmlip.data.options import ReadOptions


@dataclass(frozen=True)
class Pack(ReadOptions):
    """Write structures as a packed data set, a folder from which fits read them while they run.

    Every command takes the folder as data. Linear fits and training by gradients (--fit.method gradient) leave it on
    disk; all else reads it into memory. Files are read one structure at a time, so they may be of any size.

    example: jaxmlip data pack MPtrj.json packed
    """

    data: tyro.conf.Positional[tuple[str, ...]] = ()
    """Files, folders, patterns or shipped data sets; the last is the folder to write."""
    skip_corrupt: bool = False
    """Of packed data sets among them: leave out the records that are not what was written, and name them."""


def main(words: Sequence[str]) -> int:
    """Run the command."""
    if not words or words[0] not in ("pack", "-h", "--help"):
        named = f", got {words[0]!r}" if words else ""
        raise ConfigError(f"what to do with data: expected `jaxmlip data pack FILES FOLDER`{named}")
    mapping, where, rest = take_config(words[words[0] == "pack" :])
    job = parse(Pack, rest, prog="jaxmlip data pack", mapping=mapping, where=where)
    if len(job.data) < 2:
        raise ConfigError("jaxmlip data pack FILES FOLDER: name the data, then the folder to write")
    from jaxmlip.data import pack
    from jaxmlip.progress import track

    *sources, folder = job.data
    out = console()
    data = pack(track(_structures(sources, job), "packing", show=out.is_terminal), folder)
    size = sum(file.stat().st_size for file in Path(folder).iterdir()) / 1e6
    out.print(f"wrote {len(data)} structures to {folder}, {size:.1f} MB", highlight=False)
    return 0


def _structures(sources: Sequence[str], job: Pack) -> Iterator[ase.Atoms]:
    """The structures of all sources, one by one."""
    from jaxmlip.data import Keys, PackedData, iread
    from jaxmlip.data.packed import is_packed
    from jaxmlip.datasets import available
    from jaxmlip.study.sources import load_structures

    keys = Keys(job.energy_key, job.forces_key, job.stress_key, job.virial_key)
    for source in sources:
        if is_packed(source) and job.skip_corrupt:
            yield from PackedData(source, skip_corrupt=True)
        elif Path(source).exists() or source.partition(":")[0] not in available():
            yield from iread(source, keys=keys, species=job.species or None)
        else:
            yield from load_structures(source)
