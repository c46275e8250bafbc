"""Writing packed data sets (`jaxmlip.data.packed`): whole or not at all."""

import hashlib
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from jaxmlip.data.labels import is_converged
from jaxmlip.data.packed import FORMAT, INDEX, ROW, TABLE, UNCONVERGED, PackedData, shard_name
from jaxmlip.data.record import encoded
from jaxmlip.data.structures import frames_of, is_structure
from jaxmlip.files import allow

_SHARD_BYTES = 2**28


def pack(structures: Any, folder: str | os.PathLike) -> PackedData:
    """Write structures, one after another, as a packed data set; each stays what it is, bit for bit.

    One structure is in memory. A writer that is killed leaves no ``folder``, but perhaps a hidden one beside it whose
    name ends in ``.unfinished``; it can be deleted.

    >>> from ase.build import bulk
    >>> folder = Path(tempfile.mkdtemp()) / "packed"
    >>> pack((bulk("Mo", a=a) for a in (3.1, 3.2)), folder)[0].cell.array[0].tolist()
    [-1.55, 1.55, 1.55]

    Args:
        structures: one, or an iterable, such as ``jaxmlip.data.iread("mptrj.json")``; of ASE or pymatgen.
        folder: where to; does not exist yet.

    Raises:
        FileExistsError: something is there already.
        FileNotFoundError: the folder of ``folder`` does not exist.
        ValueError: no structures, or one that has no form on disk.
    """
    target = Path(folder)
    if os.path.lexists(target):
        raise FileExistsError(f"{target} exists already: give another name, or remove it first")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot write {target}: its folder {target.parent} does not exist; create it first")
    unfinished = Path(tempfile.mkdtemp(prefix=f".{target.name}-", suffix=".unfinished", dir=target.parent))
    try:
        _write([structures] if is_structure(structures) else structures, unfinished)
        allow(unfinished, 0o777)
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return PackedData(target)


class _Shards:
    """Files of records, a new one when the last is full."""

    def __init__(self, folder: Path):
        self._folder, self._file, self.sizes = folder, None, []

    def append(self, record: bytes) -> tuple[int, int]:
        """Where the record begins, and in which file."""
        if self._file is None or self.sizes[-1] >= _SHARD_BYTES:
            self.close()
            self._file = (self._folder / shard_name(len(self.sizes))).open("wb")
            self.sizes.append(0)
        place = (self.sizes[-1], len(self.sizes) - 1)
        self._file.write(record)
        self.sizes[-1] += len(record)
        return place

    def close(self) -> None:
        """Everything on disk."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None


def _write(structures: Iterable[Any], folder: Path) -> None:
    """All files of a data set; the index comes last."""
    digest, species, n_structures = hashlib.sha256(), set(), 0
    with closing(_Shards(folder)) as shards, (folder / TABLE).open("wb") as table:
        for atoms in structures:
            (atoms,) = frames_of([atoms])  # refuses lists in the list
            try:
                record = encoded(atoms)
            except ValueError as error:
                raise ValueError(f"structure {n_structures} cannot be packed: {error}") from None
            n_atoms = len(atoms) + (0 if is_converged(atoms) else UNCONVERGED)
            row = np.array((*shards.append(record), len(record), zlib.crc32(record), n_atoms), ROW).tobytes()
            table.write(row)
            digest.update(row)
            species |= set(atoms.numbers.tolist())
            n_structures += 1
        table.flush()
        os.fsync(table.fileno())
    if not n_structures:
        raise ValueError("no structures to pack")
    index = {"format": FORMAT, "n_structures": n_structures, "files": shards.sizes, "species": sorted(species)}
    with (folder / INDEX).open("w", encoding="utf-8") as file:
        json.dump({**index, "fingerprint": digest.hexdigest()}, file)
        file.flush()
        os.fsync(file.fileno())
