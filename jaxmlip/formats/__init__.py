"""Model files: jaxmlip's own, and those of the original codes."""

from collections.abc import Sequence
from pathlib import Path

from jaxmlip.config import unknown_name
from jaxmlip.formats.aenet import NETWORK_SUFFIXES, read_aenet, write_aenet
from jaxmlip.formats.gap import read_gap, write_gap
from jaxmlip.formats.native import read_model, write_model
from jaxmlip.formats.snap import read_snap, write_snap
from jaxmlip.potentials.base import Model

SUFFIXES = (".npz", ".snapcoeff", ".snapparam", *NETWORK_SUFFIXES, ".in", ".xml")


def load(path: str | Path | Sequence[str | Path], *, species: Sequence[int | str] | None = None) -> Model:
    """A model from our own file (``.npz``), or one of LAMMPS, aenet or QUIP.

    LAMMPS's ``.snapcoeff`` needs ``.snapparam`` beside it, QUIP's ``.xml`` its sparse points; aenet's are ``.nn``.

    >>> import jaxmlip, tempfile
    >>> potential = jaxmlip.build("snap", species=("Mo",), cutoff=4.0, twojmax=2)
    >>> path = tempfile.mkdtemp() + "/model.npz"
    >>> jaxmlip.save(jaxmlip.Model(potential, potential.init(None, None)), path)
    >>> jaxmlip.load(path).potential.config.symbols
    ('Mo',)

    Args:
        path: the file; the suffix tells the format. For aenet, a folder, ``predict.in``, or all ``.nn`` files.
        species: for foreign files, the elements to use, in this order.

    Raises:
        FileNotFoundError: the file, or its partner, is missing.
        ValueError: an unknown suffix, a damaged file, one of a newer version, or ``species`` for our own format.
    """
    if isinstance(path, (list, tuple)) or Path(path).is_dir():  # pyright: ignore[reportArgumentType]
        return read_aenet(path, species=species)
    path = Path(path)  # pyright: ignore[reportArgumentType]
    suffix = _checked_suffix(path)
    if suffix in (*NETWORK_SUFFIXES, ".in"):
        return read_aenet(path, species=species)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if suffix == ".npz":
        if species is not None:
            raise ValueError(f"{path} knows its own species: leave `species` out")
        return read_model(path)
    return (read_gap if suffix == ".xml" else read_snap)(path, species=species)


def save(model: Model, path: str | Path) -> None:
    """Write ``model``: ``.npz`` is our own format, ``.snapcoeff`` LAMMPS's pair, ``.nn`` aenet's, ``.xml`` QUIP's.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: an unknown suffix, or a format that cannot hold this model.
    """
    suffix = _checked_suffix(Path(path))
    writers = {".npz": write_model, ".xml": write_gap, **dict.fromkeys(NETWORK_SUFFIXES, write_aenet)}
    writers.get(suffix, write_snap)(model, path)


def _checked_suffix(path: Path) -> str:
    suffix = path.suffix.split("-")[0]  # aenet's networks of an iteration end in .nn-01000
    if suffix not in SUFFIXES:
        raise ValueError(f"{path}: {unknown_name('suffix of a model file', suffix, SUFFIXES)}")
    return suffix


__all__ = ["load", "save"]
