"""Model files: jaxmlip's own, and those of the original codes."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from jaxmlip.config import unknown_name
from jaxmlip.formats.aenet import NETWORK_SUFFIXES, read_aenet, write_aenet
from jaxmlip.formats.gap import read_gap, write_gap
from jaxmlip.formats.mtp import read_mtp, write_mtp
from jaxmlip.formats.native import read_model, write_model
from jaxmlip.formats.nequip import read_nequip, write_nequip
from jaxmlip.formats.sevennet import PRETRAINED, pretrained_path, read_sevennet
from jaxmlip.formats.snap import read_snap, write_snap
from jaxmlip.potentials.base import Model
from jaxmlip.potentials.hyperparameters import params_as_settings

_READERS = {".mtp": read_mtp, ".almtp": read_mtp, ".snapcoeff": read_snap, ".snapparam": read_snap}
_READERS |= {".yaml": read_nequip, ".xml": read_gap, ".pth": read_sevennet}
_WRITERS = {".npz": write_model, ".mtp": write_mtp, ".snapcoeff": write_snap, ".snapparam": write_snap}
_WRITERS |= {".yaml": write_nequip, ".xml": write_gap}
_WRITERS |= dict.fromkeys(NETWORK_SUFFIXES, write_aenet)
SUFFIXES = (".npz", *_READERS, *NETWORK_SUFFIXES, ".in")


def load(path: str | Path | Sequence[str | Path], *, species: Sequence[int | str] | None = None) -> Model:
    """A model from our own file (``.npz``) or from one of LAMMPS, MLIP, aenet, nequip, sevenn or QUIP.

    LAMMPS: ``.snapcoeff`` with ``.snapparam`` beside it; aenet: ``.nn``, one an element, or their folder. MLIP:
    ``.mtp`` and ``.almtp``, which name no elements: give ``species`` in the file's order. nequip: ``NAME.yaml`` with
    ``NAME_state_dict.npz`` beside it. QUIP: ``.xml`` of a GAP with its sparse points beside it. sevenn: a checkpoint
    ``.pth``, or the name of one that an installed sevenn has: ``sevennet-0``, ``sevennet-l3i5``.

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
    if str(path) in PRETRAINED:
        return read_sevennet(pretrained_path(str(path)), species=species)
    path = Path(path)  # pyright: ignore[reportArgumentType]
    suffix = _checked(path, SUFFIXES)
    if suffix in (*NETWORK_SUFFIXES, ".in"):
        return read_aenet(path, species=species)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if suffix == ".npz":
        if species is not None:
            raise ValueError(f"{path} knows its own species: leave `species` out")
        return read_model(path)
    return _READERS[suffix](path, species=species)


def save(model: Model, path: str | Path) -> None:
    """Write ``model``: ``.npz`` is ours, ``.snapcoeff`` LAMMPS's, ``.mtp`` MLIP's, ``.nn`` aenet's, ``.yaml`` nequip's.

    ``.xml`` is QUIP's (GAP).

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: an unknown suffix, or a format that cannot hold this model.
    """
    _WRITERS[_checked(Path(path), _WRITERS)](params_as_settings(model), path)


def _checked(path: Path, known: Iterable[str]) -> str:
    suffix = path.suffix.split("-")[0]  # aenet's networks of an iteration end in .nn-01000
    if suffix not in known:
        raise ValueError(f"{path}: {unknown_name('suffix of a model file', suffix, known)}")
    return suffix


__all__ = ["load", "save"]
