"""Model files: jaxmlip's own, and those of the original codes."""

from collections.abc import Sequence
from pathlib import Path

from jaxmlip.config import unknown_name
from jaxmlip.formats.native import read_model, write_model
from jaxmlip.formats.snap import read_snap, write_snap
from jaxmlip.potentials.base import Model

SUFFIXES = (".npz", ".snapcoeff", ".snapparam")


def load(path: str | Path, *, species: Sequence[int | str] | None = None) -> Model:
    """A model from our own file (``.npz``) or from LAMMPS's (``.snapcoeff``, with ``.snapparam`` beside it).

    >>> import jaxmlip, tempfile
    >>> potential = jaxmlip.build("snap", species=("Mo",), cutoff=4.0, twojmax=2)
    >>> path = tempfile.mkdtemp() + "/model.npz"
    >>> jaxmlip.save(jaxmlip.Model(potential, potential.init(None, None)), path)
    >>> jaxmlip.load(path).potential.config.symbols
    ('Mo',)

    Args:
        path: the file; the suffix tells the format.
        species: for foreign files, the elements to use, in this order.

    Raises:
        FileNotFoundError: the file, or its partner, is missing.
        ValueError: an unknown suffix, a damaged file, one of a newer version, or ``species`` for our own format.
    """
    path = Path(path)
    suffix = _checked_suffix(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if suffix == ".npz":
        if species is not None:
            raise ValueError(f"{path} knows its own species: leave `species` out")
        return read_model(path)
    return read_snap(path, species=species)


def save(model: Model, path: str | Path) -> None:
    """Write ``model``: ``.npz`` is our own format, ``.snapcoeff`` writes LAMMPS's pair of files.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: an unknown suffix, or a format that cannot hold this model.
    """
    write = write_model if _checked_suffix(Path(path)) == ".npz" else write_snap
    write(model, path)


def _checked_suffix(path: Path) -> str:
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: {unknown_name('suffix of a model file', path.suffix, SUFFIXES)}")
    return path.suffix


__all__ = ["load", "save"]
