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
import os
import shutil
import tempfile
import warnings
import zlib
from collections.abc import Iterable, Sequence
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from ase import Atoms
from jaxtyping import Bool, Int, Integer

from jaxmlip.data.labels import DataWarning, is_converged
from jaxmlip.data.record import decoded, encoded
from jaxmlip.data.structures import frames_of

INDEX = "packed.index"
_TABLE = "table.bin"
_FORMAT = 1
_SHARD_BYTES = 2**28
_ROW = np.dtype([("offset", "<u8"), ("shard", "<u4"), ("size", "<u4"), ("checksum", "<u4"), ("n_atoms", "<u4")])
_UNCONVERGED = 2**31
"""Added to the number of atoms of a structure whose electronic loop did not converge."""


class CorruptRecordError(ValueError):
    """A record of a packed data set is not what was written."""


class _Folder(NamedTuple):
    """An open data set."""

    path: Path
    table: np.ndarray
    species: list[int]
    fingerprint: str


class PackedData(Sequence[Atoms]):
    """The structures of a folder that `pack` wrote, each read when it is asked for.

    It is a sequence of `ase.Atoms`: ``data[k]`` is a structure with its labels, ``data[10:20]`` and ``data.select``
    are parts, which read nothing. `jaxmlip.fit` streams it where the method can.

    >>> from ase.build import bulk
    >>> folder = Path(tempfile.mkdtemp()) / "packed"
    >>> data = pack([bulk("Mo"), bulk("W")], folder)
    >>> len(data), data[1].symbols[0], PackedData(folder).sizes.tolist()
    (2, 'W', [1, 1])

    Args:
        path: the folder.
        skip_corrupt: leave records out whose checksum is wrong, with a `DataWarning`: reads the whole set once.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it is no packed data set, or its table or a file is damaged.
        CorruptRecordError: a structure is read whose record is not what was written.
    """

    def __init__(self, path: str | os.PathLike, *, skip_corrupt: bool = False):
        self._folder = _opened(Path(path).resolve(), _stamp(Path(path)))
        self.records: Int[np.ndarray, " n_structures"] = np.arange(len(self._folder.table))
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
        return _structure(self._folder, int(self.records[index]))

    def __repr__(self) -> str:
        return f"PackedData({str(self.path)!r}): {len(self)} structures"

    def __reduce__(self) -> tuple:
        return _part, (self.path, None if len(self) == len(self._folder.table) else self.records)

    @property
    def path(self) -> Path:
        """The folder."""
        return self._folder.path

    @property
    def sizes(self) -> Int[np.ndarray, " n_structures"]:
        """Numbers of atoms; no structure is read."""
        return (self._folder.table["n_atoms"][self.records] % _UNCONVERGED).astype(np.int64)

    @property
    def converged(self) -> Bool[np.ndarray, " n_structures"]:
        """Whether the calculations converged, as their ``info`` says; no structure is read."""
        return self._folder.table["n_atoms"][self.records] < _UNCONVERGED

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
        return _part(self.path, None)

    def select(self, which: Integer[np.ndarray, " n"] | Sequence[int]) -> "PackedData":
        """The structures of these positions, in this order."""
        return _part(self.path, self.records[np.asarray(which, np.int64)])


def is_packed(path: str | os.PathLike) -> bool:
    """Whether this is the folder of a packed data set."""
    return (Path(path) / INDEX).is_file()


def pack(structures: Iterable[Any], folder: str | os.PathLike) -> PackedData:
    """Write structures, one after another, as a packed data set; each stays what it is, bit for bit.

    One structure is in memory. A writer that is killed leaves no ``folder``, but perhaps a hidden one beside it whose
    name ends in ``.unfinished``; it can be deleted.

    >>> from ase.build import bulk
    >>> folder = Path(tempfile.mkdtemp()) / "packed"
    >>> pack((bulk("Mo", a=a) for a in (3.1, 3.2)), folder)[0].cell.array[0].tolist()
    [-1.55, 1.55, 1.55]

    Args:
        structures: an iterable, such as ``jaxmlip.data.iread("mptrj.json")``; of ASE or pymatgen.
        folder: where to; does not exist yet.

    Raises:
        FileExistsError: something is there already.
        FileNotFoundError: the folder of ``folder`` does not exist.
        ValueError: no structures, or one that has no form on disk.
    """
    target = Path(folder)
    if target.exists():
        raise FileExistsError(f"{target} exists already: give another name, or remove it first")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot write {target}: its folder {target.parent} does not exist; create it first")
    unfinished = Path(tempfile.mkdtemp(prefix=f".{target.name}-", suffix=".unfinished", dir=target.parent))
    try:
        _write(structures, unfinished)
        umask = os.umask(0)
        os.umask(umask)
        unfinished.chmod(0o777 & ~umask)
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
            self._file = (self._folder / _shard(len(self.sizes))).open("wb")
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
    with closing(_Shards(folder)) as shards, (folder / _TABLE).open("wb") as table:
        for atoms in structures:
            (atoms,) = frames_of(atoms)
            try:
                record = encoded(atoms)
            except ValueError as error:
                raise ValueError(f"structure {n_structures} cannot be packed: {error}") from None
            n_atoms = len(atoms) + (0 if is_converged(atoms) else _UNCONVERGED)
            row = np.array((*shards.append(record), len(record), zlib.crc32(record), n_atoms), _ROW).tobytes()
            table.write(row)
            digest.update(row)
            species |= set(atoms.numbers.tolist())
            n_structures += 1
        table.flush()
        os.fsync(table.fileno())
    if not n_structures:
        raise ValueError("no structures to pack")
    index = {"format": _FORMAT, "n_structures": n_structures, "files": shards.sizes, "species": sorted(species)}
    with (folder / INDEX).open("w", encoding="utf-8") as file:
        json.dump({**index, "fingerprint": digest.hexdigest()}, file)
        file.flush()
        os.fsync(file.fileno())


def _shard(number: int) -> str:
    return f"structures-{number:05d}.bin"


def _stamp(path: Path) -> int:
    """When the set was written: another one in the same place is another set.

    Raises:
        FileNotFoundError: there is none.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no folder {path}")
    if not is_packed(path):
        raise ValueError(
            f"{path} is no packed data set: it has no {INDEX}; `jaxmlip data pack FILES {path}` writes one"
        )
    return (path / INDEX).stat().st_mtime_ns


@lru_cache(maxsize=64)
def _opened(path: Path, stamp: int) -> _Folder:
    """The table of a set; each process opens a set once."""
    try:
        index = json.loads((path / INDEX).read_text(encoding="utf-8"))
        found, n_structures, sizes = index["format"], int(index["n_structures"]), [int(size) for size in index["files"]]
        species, fingerprint = [int(z) for z in index["species"]], str(index["fingerprint"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path / INDEX} is damaged ({type(error).__name__}: {error}): pack the data again") from None
    if found != _FORMAT:
        raise ValueError(f"{path} has the format {found}, this version reads {_FORMAT}: pack the data again")
    for number, size in enumerate(sizes):
        shard = path / _shard(number)
        if not shard.is_file() or shard.stat().st_size != size:
            raise ValueError(f"{shard} is not there or has not its {size} bytes: copy the set again, or pack it again")
    table = path / _TABLE
    if not table.is_file() or table.stat().st_size != n_structures * _ROW.itemsize:
        raise ValueError(f"{table} is not there or incomplete: copy the set again, or pack it again")
    with table.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != fingerprint:
            raise ValueError(f"{table} is not what was written: copy the set again, or pack it again")
    return _Folder(path, np.memmap(table, _ROW, mode="r"), species, fingerprint)


def _part(path: Path, records: Int[np.ndarray, " n"] | None) -> PackedData:
    data = PackedData(path)
    if records is not None:
        data.records = records
    return data


def _record(folder: _Folder, number: int) -> bytes:
    """The bytes of a record, right or wrong."""
    row = folder.table[number]
    with (folder.path / _shard(int(row["shard"]))).open("rb", buffering=0) as file:
        return os.pread(file.fileno(), int(row["size"]), int(row["offset"]))


def _is_intact(folder: _Folder, number: int) -> bool:
    return zlib.crc32(_record(folder, number)) == int(folder.table["checksum"][number])


def _structure(folder: _Folder, number: int) -> Atoms:
    record, row = _record(folder, number), folder.table[number]
    problem = "its checksum is wrong"
    if zlib.crc32(record) == row["checksum"]:
        try:
            return decoded(record)
        except ValueError as error:
            problem = str(error)
    where = f"byte {row['offset']} of {_shard(int(row['shard']))}"
    raise CorruptRecordError(
        f"record {number} of {folder.path} ({where}) is corrupt: {problem}. Copy the set again; or write one "
        f"without its corrupt records: jaxmlip data pack {folder.path} NEW --skip-corrupt"
    )
