"""Model files: jaxmlip's own, and those of the original codes."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from pkgutil import resolve_name

from jaxmlip import pretrained
from jaxmlip.config import unknown_name
from jaxmlip.formats.native import read_model, write_model
from jaxmlip.formats.program import export
from jaxmlip.potentials.hyperparameters import params_as_settings
from jaxmlip.potentials.model import Model
from jaxmlip.potentials.registry import FAMILIES, Format

FOLDER = "/"
"""Stands for the suffix of a folder, or of a list of files."""


def formats() -> dict[str, list[Format]]:
    """What a family can be read from or written to beside our own file: suffixes, and names of pre-trained models.

    >>> formats()[".almtp"][0].write
    ''
    """
    found: dict[str, list[Format]] = {}
    for family in FAMILIES.values():
        for suffix, one in family.formats.items():
            found.setdefault(suffix, []).append(one)
    return found


def load(path: str | Path | Sequence[str | Path], *, species: Sequence[int | str] | None = None) -> Model:
    """A model from our own file (``.npz``) or from one of LAMMPS, MLIP, aenet, nequip, sevenn or QUIP.

    LAMMPS: ``.snapcoeff`` with ``.snapparam`` beside it; aenet: ``.nn``, one an element, or their folder. MLIP:
    ``.mtp`` and ``.almtp``, which name no elements: give ``species`` in the file's order. nequip: ``NAME.yaml`` with
    ``NAME_state_dict.npz`` beside it. QUIP: ``.xml`` of a GAP with its sparse points beside it. pacemaker: ``.yaml``
    and ``.yace`` of an ACE. sevenn: a checkpoint ``.pth``, or the name of one that an installed sevenn has:
    ``sevennet-0``, ``sevennet-l3i5``. Small potentials come with jaxmlip and have names too (`jaxmlip.pretrained`).

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
    if not isinstance(path, (str, Path)) or Path(path).is_dir():
        return resolve_name(formats()[FOLDER][0].read)(path, species=species)
    readers = {suffix: some for suffix, some in formats().items() if suffix != FOLDER and any(one.read for one in some)}
    if str(path) in readers:  # the name of a pre-trained model
        return resolve_name(readers[str(path)][0].read)(path, species=species)
    if str(path) in pretrained.available():
        path = pretrained.files(str(path)).model
    path = Path(path)
    if not path.suffix and not path.exists():
        names = [*pretrained.available(), *(name for name in readers if not name.startswith("."))]
        raise FileNotFoundError(f"there is no file {path}, and it is an {unknown_name('model', str(path), names)}")
    suffix = _checked(path, [".npz", *readers])
    if not (path.exists() or any(file.name.endswith(path.name) for file in path.parent.glob("*"))):
        raise FileNotFoundError(f"{path} does not exist")  # NAME.nn of aenet stands for El.NAME.nn
    if suffix != ".npz":
        return resolve_name(_of_file(readers[suffix], path).read)(path, species=species)
    if species is not None:
        raise ValueError(f"{path} knows its own species: leave `species` out")
    return read_model(path)


def save(model: Model, path: str | Path) -> None:
    """Write ``model``: ``.npz`` is ours, ``.snapcoeff`` LAMMPS's, ``.mtp`` MLIP's, ``.nn`` aenet's, ``.yaml`` nequip's.

    ``.xml`` is QUIP's (GAP), ``.pth`` sevenn's, ``.yace`` LAMMPS's (ACE); ``.yaml`` of an ACE is pacemaker's;
    ``.lammps-jax.json`` is a program for LAMMPS's ``pair_style jax/kk``, whose settings
    `jaxmlip.formats.lammps_jax.write_bundle` has.

    >>> import jaxmlip, tempfile
    >>> potential = jaxmlip.build("snap", species=("Mo",), cutoff=4.0, twojmax=2)
    >>> path = Path(tempfile.mkdtemp()) / "mo.npz"
    >>> save(Model(potential, potential.init(None, None)), path)
    >>> load(path)
    Model(SNAP of Mo; cutoff 4 Å; 6 parameters)

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: an unknown suffix, or a format that cannot hold this model.
    """
    writers = {suffix: one.write for suffix, some in formats().items() for one in some if one.write}
    writers[".lammps-jax.json"] = "jaxmlip.formats.lammps_jax:write_lammps_jax"
    suffix = _checked(Path(path), [".npz", *writers])
    holders = [one for one in FAMILIES.values() if suffix in one.formats and one.formats[suffix].write]
    own = [one.formats[suffix].write for one in holders if one.config is type(model.potential.config)]
    if len(holders) > 1 and not own:
        known, found = " and ".join(one.label or one.name for one in holders), type(model.potential.config).__name__
        raise ValueError(f"only {known} models can be written as {suffix}, this is {found}; save it as .npz")
    write = write_model if suffix == ".npz" else resolve_name([*own, writers[suffix]][0])
    write(params_as_settings(model), path)


def _of_file(some: list[Format], path: Path) -> Format:
    """The format of a suffix that a file has."""
    readable = sorted((one for one in some if one.read), key=lambda one: not one.accepts)
    return next((one for one in readable if not one.accepts or resolve_name(one.accepts)(path)), readable[-1])


def _checked(path: Path, known: Iterable[str]) -> str:
    whole = "".join(path.suffixes[-2:])
    suffix = whole if whole in known else path.suffix.split("-")[0]  # aenet's of an iteration end in .nn-01000
    if suffix not in known:
        raise ValueError(f"{path}: {unknown_name('suffix of a model file', suffix, known)}")
    return suffix


__all__ = ["export", "load", "save"]
