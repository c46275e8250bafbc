"""A data set on disk that is larger than the memory: written once, read structure by structure in any order.

A packed set is a folder: ``structures-00000.bin`` and so on hold the records (`jaxmlip.data.record`) one after another,
``table.bin`` where each of them lies, its checksum, its number of atoms and whether its calculation converged, and
``packed.index``, a text, what belongs together. A record is read by its number with one call of the system; what the
system keeps of files in its cache is given back when memory is short. The folder gets its name when all is written.

Why no library: this is an array of offsets and a few files. grain and ArrayRecord would bring readers, workers and
shuffling of their own, and need this module's encoding, checksums by record and atomic writing nevertheless; shuffling
by seed makes a step a function of its number, so there is no state of an iterator to keep.
"""

import hashlib
import json
import operator
import os
import warnings
import zlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from ase import Atoms
from jaxtyping import Bool, Int, Shaped

from jaxmlip.data.labels import DataWarning
from jaxmlip.data.record import decoded

INDEX = "packed.index"
TABLE = "table.bin"
FORMAT = 1
ROW = np.dtype([("offset", "<u8"), ("shard", "<u4"), ("size", "<u4"), ("checksum", "<u4"), ("n_atoms", "<u4")])
UNCONVERGED = 2**31
"""Added to the number of atoms of a structure whose electronic loop did not converge."""


class CorruptRecordError(ValueError):
    """A record of a packed data set is not what was written."""


class _Folder(NamedTuple):
    """An open data set."""

    path: Path
    table: np.ndarray
    every: Int[np.ndarray, " n_structures"]  # numbers
    sizes: list[int]  # of the files of records
    species: list[int]
    fingerprint: str


class PackedData(Sequence[Atoms]):
    """The structures of a folder that `jaxmlip.data.pack` wrote, each read when it is asked for.

    It is a sequence of `ase.Atoms`: ``data[k]`` is a structure with its labels, ``data[10:20]`` and ``data.select``
    are parts, which read nothing. `jaxmlip.fit` streams it where the method can.

    >>> import tempfile
    >>> from ase.build import bulk
    >>> from jaxmlip.data import pack
    >>> folder = Path(tempfile.mkdtemp()) / "packed"
    >>> data = pack([bulk("Mo"), bulk("W")], folder)
    >>> len(data), data[1].symbols[0], PackedData(folder).sizes.tolist()
    (2, 'W', [1, 1])

    Args:
        path: the folder.
        skip_corrupt: leave records out that are corrupt, with a `DataWarning`: reads the whole set once.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it is no packed data set, or its table or a file is damaged.
        CorruptRecordError: a structure is read whose record is not what was written.
    """

    def __init__(self, path: str | os.PathLike, *, skip_corrupt: bool = False):
        self._folder = _opened(Path(path).resolve(), _stamp(Path(path)))
        self.records: Int[np.ndarray, " n_structures"] = self._folder.every
        """Numbers of the structures in the folder."""
        if skip_corrupt:
            bad = [k for k in range(len(self)) if not _is_intact(self._folder, k)]
            if bad:
                text = f"{self.path}: {len(bad)} corrupt records are left out: {', '.join(map(str, bad[:20]))}"
                warnings.warn(text, DataWarning, stacklevel=2)
            self.records = np.delete(self.records, bad)

    def __len__(self) -> int:
        return len(self.records)

    @overload
    def __getitem__(self, index: int) -> Atoms: ...

    @overload
    def __getitem__(self, index: slice) -> "PackedData": ...

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.select(np.arange(len(self))[index])
        try:
            number = operator.index(index)
        except TypeError:
            raise TypeError(
                f"a structure has a whole number, got {index!r}; several are data.select(positions or mask)"
            ) from None
        return _structure(self._folder, int(self.records[number]))

    def __repr__(self) -> str:
        return f"PackedData({str(self.path)!r}): {len(self)} structures"

    def __reduce__(self) -> tuple:
        is_whole = self.records is self._folder.every  # the numbers of millions are not sent
        return _reopened, (self.path, self._folder.fingerprint, None if is_whole else self.records)

    @property
    def path(self) -> Path:
        """The folder."""
        return self._folder.path

    @property
    def sizes(self) -> Int[np.ndarray, " n_structures"]:
        """Numbers of atoms; no structure is read."""
        return (self._folder.table["n_atoms"][self.records] % UNCONVERGED).astype(np.int64)

    @property
    def converged(self) -> Bool[np.ndarray, " n_structures"]:
        """Whether the calculations converged, as their ``info`` says; no structure is read."""
        return self._folder.table["n_atoms"][self.records] < UNCONVERGED

    @property
    def species(self) -> tuple[int, ...]:
        """Atomic numbers that occur in the folder."""
        return tuple(self._folder.species)

    @property
    def fingerprint(self) -> str:
        """Equal for equal structures in equal order."""
        chosen = zlib.crc32(np.ascontiguousarray(self.records, "<i8").tobytes())
        return f"{self._folder.fingerprint}-{len(self)}-{chosen:08x}"

    def whole(self) -> "PackedData":
        """All structures of the folder, of which these are a part."""
        return _part(self._folder, self._folder.every)

    def select(self, which: Shaped[np.ndarray, " n"] | Sequence[int]) -> "PackedData":
        """The structures of these positions, in this order; or those where a mask is true.

        >>> import tempfile
        >>> from jaxmlip.data import pack
        >>> data = pack([Atoms("Li"), Atoms("LiO"), Atoms("O")], Path(tempfile.mkdtemp()) / "packed")
        >>> data.select(data.sizes == 1).records.tolist(), data.select([2, 0]).records.tolist()
        ([0, 2], [2, 0])

        Raises:
            TypeError: neither whole numbers nor truth values.
            IndexError: there is no such structure; or a mask of another length.
        """
        chosen = np.asarray(which)
        if chosen.size and chosen.dtype.kind not in "biu":
            raise TypeError(f"positions are whole numbers, a mask is of truth values; got {chosen.dtype}")
        return _part(self._folder, self.records[chosen if chosen.size else chosen.astype(int)])


def is_packed(path: str | os.PathLike) -> bool:
    """Whether this is the folder of a packed data set."""
    return (Path(path) / INDEX).is_file()


def check_complete(path: Path) -> None:
    """Refuses a folder that is what a copy left of a packed data set.

    Raises:
        ValueError: the index is missing.
    """
    if (path / shard_name(0)).exists() and not is_packed(path):
        raise ValueError(f"{path} has no {INDEX}; copy the set again, all of its files")


def shard_name(number: int) -> str:
    """Of a file of records."""
    return f"structures-{number:05d}.bin"


def _stamp(path: Path) -> int:
    """When the set was written: another one in the same place is another set.

    Raises:
        FileNotFoundError: there is none.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no folder {path}")
    if not is_packed(path):
        check_complete(path)
        raise ValueError(
            f"{path} is no packed data set: it has no {INDEX}; `jaxmlip data pack FILES FOLDER` writes one"
        )
    return (path / INDEX).stat().st_mtime_ns


@lru_cache(maxsize=64)
def _opened(path: Path, stamp: int) -> _Folder:
    """The table of a set; each process opens a set once."""
    try:
        index = json.loads((path / INDEX).read_text(encoding="utf-8"))
        found = index["format"]
        if found == FORMAT:
            n_structures, sizes = int(index["n_structures"]), [int(size) for size in index["files"]]
            species, fingerprint = [int(z) for z in index["species"]], str(index["fingerprint"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path / INDEX} is damaged ({type(error).__name__}: {error}): pack the data again") from None
    if found != FORMAT:
        raise ValueError(f"{path} has the format {found}, this version reads {FORMAT}: pack the data again")
    for number, size in enumerate(sizes):
        shard = path / shard_name(number)
        if not shard.is_file() or shard.stat().st_size != size:
            raise ValueError(f"{shard} is not there or has not its {size} bytes: copy the set again, or pack it again")
    table = path / TABLE
    if not table.is_file() or table.stat().st_size != n_structures * ROW.itemsize:
        raise ValueError(f"{table} is not there or incomplete: copy the set again, or pack it again")
    with table.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != fingerprint:
            raise ValueError(f"{table} is not what was written: copy the set again, or pack it again")
    every = np.arange(n_structures)
    every.flags.writeable = False
    return _Folder(path, np.memmap(table, ROW, mode="r"), every, sizes, species, fingerprint)


def _part(folder: _Folder, records: Int[np.ndarray, " n"]) -> PackedData:
    data = object.__new__(PackedData)
    data._folder, data.records = folder, records
    return data


def _reopened(path: Path, fingerprint: str, records: Int[np.ndarray, " n"] | None) -> PackedData:
    """What was pickled.

    Raises:
        ValueError: another data set lies there now.
    """
    folder = PackedData(path)._folder
    if folder.fingerprint != fingerprint:
        raise ValueError(f"{path} was written again since this part of it was taken: take the part anew")
    return _part(folder, folder.every if records is None else records)


def _record(folder: _Folder, number: int) -> bytes:
    """The bytes of a record, right or wrong; none where there are none."""
    shard, offset, size = (int(folder.table[number][name]) for name in ("shard", "offset", "size"))
    if shard >= len(folder.sizes) or offset + size > folder.sizes[shard]:
        return b""
    with (folder.path / shard_name(shard)).open("rb", buffering=0) as file:
        return os.pread(file.fileno(), size, offset)


def _is_intact(folder: _Folder, number: int) -> bool:
    try:
        _structure(folder, number)
    except CorruptRecordError:
        return False
    return True


def _structure(folder: _Folder, number: int) -> Atoms:
    record, row = _record(folder, number), folder.table[number]
    problem = "its checksum is wrong"
    if zlib.crc32(record) == row["checksum"]:
        try:
            atoms = decoded(record)
            if len(atoms) == row["n_atoms"] % UNCONVERGED:
                return atoms
            problem = f"it has {len(atoms)} atoms, not {row['n_atoms'] % UNCONVERGED}"
        except ValueError as error:
            problem = str(error)
    where = f"byte {row['offset']} of {shard_name(int(row['shard']))}"
    raise CorruptRecordError(
        f"record {number} of {folder.path} ({where}) is corrupt: {problem}. Copy the set again; or write one "
        f"without its corrupt records: jaxmlip data pack {folder.path} NEW --skip-corrupt"
    )
