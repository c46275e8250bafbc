"""Text files, compressed or not (.xz, .gz, .bz2), read and written with errors that name the file."""

import bz2
import gzip
import lzma
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOBase
from pathlib import Path
from typing import Any, cast

from jaxmlip.files import atomic_path

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


def read_text(path: Path) -> str:
    """The whole text of ``path``.

    Raises:
        ValueError: broken compression, not text, or empty.
    """
    try:
        opener = _OPENERS.get(path.suffix.lower(), open)
        with opener(path, "rt", encoding="utf-8") as file:
            text = cast(str, file.read())
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file ({error}); expected one of text format {path.suffix}") from None
    except (lzma.LZMAError, gzip.BadGzipFile, EOFError) as error:
        raise ValueError(f"{path}: damaged {path.suffix} file ({error}); copy or compress it again") from None
    except OSError as error:
        if path.suffix.lower() in _OPENERS and error.errno is None:  # bz2 reports damage as a bare OSError
            raise ValueError(f"{path}: damaged {path.suffix} file ({error}); copy or compress it again") from None
        raise
    if not text.strip():
        raise ValueError(
            f"{path}: the file is empty; expected at least one structure (did the program that wrote it finish?)"
        )
    return text


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
        try:
            with opener(path, "rb") as file:
                copy.write_bytes(file.read())
        except (lzma.LZMAError, EOFError, OSError) as error:
            raise ValueError(f"{path}: damaged {path.suffix} file ({error}); copy or compress it again") from None
        yield copy
