"""Text files, compressed or not (.xz, .gz, .bz2), read and written with errors that name the file."""

import bz2
import gzip
import lzma
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase, TextIOBase
from pathlib import Path
from typing import Any, cast

from jaxmlip.files import atomic_path

EMPTY = "the file is empty; expected at least one structure (did the program that wrote it finish?)"
"""What is wrong with a file of blanks."""

_OPENERS: dict[str, Any] = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}


def format_suffix(path: Path) -> str:
    """The lower-case suffix that tells the format, compression aside.

    >>> format_suffix(Path("run/train.XYZ.xz"))
    '.xyz'
    """
    return Path(uncompressed_name(path)).suffix.lower()


def uncompressed_name(path: Path) -> str:
    """The file name without the suffix of a compression."""
    return path.stem if path.suffix.lower() in _OPENERS else path.name


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    """Broken compression, by whatever error a library reports it, becomes one that names the file."""
    try:
        yield
    except (lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        if isinstance(error, OSError) and (error.errno is not None or path.suffix.lower() not in _OPENERS):
            raise  # bz2 and gzip report damage as a bare OSError; one with a number is the system's
        raise ValueError(f"{path}: damaged {path.suffix} file ({error}); copy or compress it again") from None


def read_text(path: Path) -> str:
    """The whole text of ``path``.

    Raises:
        ValueError: broken compression, not text, or empty.
    """
    opener = _OPENERS.get(path.suffix.lower(), open)
    try:
        with _damage_told(path), opener(path, "rt", encoding="utf-8") as file:
            text = cast(str, file.read())
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file ({error}); expected one of text format {path.suffix}") from None
    if not text.strip():
        raise ValueError(f"{path}: {EMPTY}")
    return text


@contextmanager
def opened(path: Path) -> Iterator[BufferedIOBase]:
    """The bytes of ``path``, uncompressed as they are read.

    Raises:
        ValueError: broken compression.
    """
    opener = _OPENERS.get(path.suffix.lower(), open)
    with _damage_told(path), opener(path, "rb") as file:
        yield cast(BufferedIOBase, file)


def refuse_entities(path: Path) -> None:
    """Refuses XML that declares entities, which could unfold to any size or read other files.

    Raises:
        ValueError: it has a document type declaration.
    """
    with opened(path) as file:
        head = file.read(2**16)
    if b"<!DOCTYPE" in head or b"<!ENTITY" in head:
        raise ValueError(f"{path}: the XML declares a document type or entities, which no such file needs: not read")


def text_lines(file: BufferedIOBase, path: Path) -> Iterator[str]:
    """The lines of an open file, one at a time, each of at most 16 MB.

    Raises:
        ValueError: not text.
    """
    while line := file.readline(2**24):
        try:
            yield line.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: not a text file ({error})") from None


@contextmanager
def writing(path: Path) -> Iterator[TextIOBase]:
    """A text file open for writing, which becomes ``path`` only when the block ends without an error."""
    with atomic_path(path) as temporary:
        opener = _OPENERS.get(path.suffix.lower(), open)
        with opener(temporary, "wt", encoding="utf-8") as file:
            yield file


@contextmanager
def uncompressed(path: Path) -> Iterator[Path]:
    """``path`` itself, or a temporary uncompressed copy under the name that tells its format."""
    opener = _OPENERS.get(path.suffix.lower())
    if opener is None:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / uncompressed_name(path)
        with _damage_told(path), opener(path, "rb") as file:
            copy.write_bytes(file.read())
        yield copy
