"""Writing files so that a kill leaves the old file or the new one, never half of one."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary path beside ``path``, renamed onto it when the block ends without an error.

    The temporary name keeps the suffix of ``path``, because writers choose formats by it.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "result.txt"
    >>> with atomic_path(target) as temporary:
    ...     _ = temporary.write_text("done")
    >>> target.read_text()
    'done'

    Raises:
        FileNotFoundError: the folder of ``path`` does not exist.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot write {target}: its folder {target.parent} does not exist; create it first")
    handle, name = tempfile.mkstemp(prefix=f".{target.stem}-", suffix=target.suffix, dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        allow(temporary, 0o666)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_lines(path: str | os.PathLike, lines: Iterable[str]) -> None:
    """A text file of these lines."""
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def allow(path: Path, mode: int) -> None:
    """What a temporary file or folder keeps to its owner: ``mode``, as far as the user's umask lets it.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> allow(folder, 0o700)
    """
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(mode & ~umask)


def program_folder() -> Path:
    """``JAX_COMPILATION_CACHE_DIR``, else ``jaxmlip/jax`` in the user's cache folder."""
    given = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxmlip" / "jax"
