"""Reading and writing structures with reference labels: one function for every format.

Inside are eV, eV/Å and eV/Å³ with ASE's sign; see `jaxmlip.data.keys` for the names of labels and their conventions.
"""

import difflib
import glob
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ase import Atoms

from jaxmlip.data.cfg import is_mlip_cfg, read_cfg, write_cfg
from jaxmlip.data.entries import holds_entries, read_entries
from jaxmlip.data.extxyz import read_extxyz, write_extxyz
from jaxmlip.data.keys import Keys, take_labels
from jaxmlip.data.textfile import format_suffix, read_text, uncompressed, uncompressed_name, writing
from jaxmlip.data.xsf import read_xsf

_WRITERS = (".xyz", ".extxyz", ".cfg")
_IN_FOLDERS = frozenset([".xsf", ".xyz", ".extxyz", ".cfg", ".json", ".traj", ".db", ".xml", "OUTCAR"])


def read(  # noqa: PLR0913 - four names of labels, and what two formats need
    path: str | Path,
    *,
    energy_key: str | None = None,
    forces_key: str | None = None,
    stress_key: str | None = None,
    virial_key: str | None = None,
    index: str | int | slice = ":",
    species: Sequence[str] | None = None,
) -> list[Atoms]:
    r"""The structures of a file, a folder, or all files that match a pattern such as ``"runs/*/OUTCAR"``.

    Formats: extended XYZ, aenet ``.xsf``, MLIP ``.cfg``, pymatgen ``ComputedStructureEntry`` JSON, and everything ASE
    reads (vasprun.xml, OUTCAR, ``.traj``, ``.db``, …); each also as .xz, .gz or .bz2. Files of a folder come in natural
    order (2.xsf before 10.xsf) and are named in ``info["file"]``. Energy (eV), forces (eV/Å) and stress (eV/Å³, ASE's
    sign) end in a ``SinglePointCalculator``; `jaxmlip.data.labels` takes them out. A label that is missing or NaN is
    kept so, for `jaxmlip.data.audit` to report.

    Args:
        path: file, folder or pattern.
        energy_key: name of the energy; by default energy, REF_energy, dft_energy and the like. As for the other keys.
        forces_key: name of the forces.
        stress_key: name of the stress.
        virial_key: name of the virial, −stress × volume in eV.
        index: which structures, as ASE writes it: ``":"``, ``"::10"``, ``-1``.
        species: symbols of the types 0, 1, … of an MLIP ``.cfg``.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "h2.xyz"
    >>> _ = file.write_text("2\nProperties=species:S:1:pos:R:3 dft_energy=-6.7\nH 0 0 0\nH 0 0 0.74\n")
    >>> [atoms.get_potential_energy() for atoms in read(file)]
    [-6.7]

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: the content is not what the format says, with frame and line; or a given key is in no frame.
    """
    files, is_many = _files(path)
    select = _as_slice(index)
    frames: list[Atoms] = []
    for file in files:
        found = _read_file(file, slice(None) if is_many else select, species)
        if is_many:
            for atoms in found:
                atoms.info.setdefault("file", str(file.relative_to(path)) if Path(path).is_dir() else str(file))
        frames += found
    if is_many:
        frames = frames[select]
    if not frames:
        raise ValueError(f"{path}: index={index!r} selects none of its structures; they are counted from 0")
    take_labels(frames, Keys(energy_key, forces_key, stress_key, virial_key), str(path))
    return frames


def write(path: str | Path, atoms: Atoms | Sequence[Atoms], *, species: Sequence[str] | None = None) -> None:
    """Write structures with their labels and ``info`` as extended XYZ or MLIP ``.cfg``, compressed by suffix.

    Numbers are written so that they read back exactly. A kill leaves the old file or the new one.

    Args:
        path: ends in .xyz, .extxyz or .cfg, and then perhaps .xz, .gz or .bz2.
        atoms: one structure or several.
        species: order of the elements in a ``.cfg``; by default those present, by atomic number.

    >>> import tempfile
    >>> from ase.build import bulk
    >>> file = Path(tempfile.mkdtemp()) / "mo.xyz.xz"
    >>> write(file, bulk("Mo"))
    >>> len(read(file))
    1

    Raises:
        ValueError: a suffix that cannot be written, no structures, or an element that ``species`` lacks.
        FileNotFoundError: the folder does not exist.
    """
    target = Path(path)
    frames = [atoms] if isinstance(atoms, Atoms) else list(atoms)
    suffix = format_suffix(target)
    if suffix not in _WRITERS:
        raise ValueError(f"cannot write {target}: expected a name ending in {', '.join(_WRITERS)} (+ .xz, .gz, .bz2)")
    if not frames:
        raise ValueError(f"cannot write {target}: no structures were given")
    with writing(target) as file:
        if suffix == ".cfg":
            write_cfg(file, frames, species)
        else:
            write_extxyz(file, frames)


def _files(path: str | Path) -> tuple[list[Path], bool]:
    """The files to read, and whether the path stood for several."""
    target = Path(path)
    if target.is_dir():
        return _folder_files(target), True
    if target.exists():
        return [target], False
    if glob.has_magic(str(path)):
        found = sorted(map(Path, glob.glob(str(path), recursive=True)), key=_natural)  # noqa: PTH207 - absolute patterns
        if found:
            return found, True
        raise FileNotFoundError(f"no file matches {path}")
    parent = target.parent
    names = [item.name for item in parent.iterdir()] if parent.is_dir() else []
    near = difflib.get_close_matches(target.name, names, n=1)
    hint = f"; did you mean {parent / near[0]}?" if near else "; check the path"
    raise FileNotFoundError(f"there is no file or folder {target}{hint}")


def _folder_files(folder: Path) -> list[Path]:
    files = [item for item in folder.rglob("*") if item.is_file() and _kind(item) in _IN_FOLDERS]
    files = [item for item in files if not any(part.startswith(".") for part in item.relative_to(folder).parts)]
    kinds = sorted({_kind(item) for item in files})
    if not files:
        raise ValueError(f"{folder}: no structure files in this folder; expected {', '.join(sorted(_IN_FOLDERS))}")
    if len(kinds) > 1:
        raise ValueError(
            f"{folder}: the folder holds several kinds of file ({', '.join(kinds)}), perhaps the same data twice; name "
            f"one with a pattern such as {str(folder / '**' / '*') + kinds[0]!r}"
        )
    return sorted(files, key=_natural)


def _kind(path: Path) -> str:
    return "OUTCAR" if "OUTCAR" in path.name else format_suffix(path)


def _natural(path: Path) -> list[tuple[int, str]]:
    """A key that sorts numbers within names by their value."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(path)) if part]


def _as_slice(index: str | int | slice) -> slice:
    if isinstance(index, str):
        from ase.utils import string2index

        try:
            index = string2index(index)
        except ValueError:
            index = "?" + str(index)
    if isinstance(index, str):
        raise ValueError(f"index: expected a slice such as ':', '::10' or '-1', got {index[1:]!r}")
    return index if isinstance(index, slice) else slice(index, index + 1 or None)


def _read_file(path: Path, select: slice, species: Sequence[str] | None) -> list[Atoms]:
    if not path.stat().st_size:
        raise ValueError(f"{path}: the file is empty; expected at least one structure")
    suffix, name = format_suffix(path), str(path)
    if suffix in (".xyz", ".extxyz"):
        return read_extxyz(read_text(path), name, select)
    if suffix == ".xsf":
        return [read_xsf(read_text(path), name)][select]
    if suffix == ".cfg" and is_mlip_cfg(text := read_text(path)):
        return read_cfg(text, name, species, select)
    if suffix == ".json" and holds_entries(text := read_text(path)):
        return read_entries(text, name, select)
    with uncompressed(path) as plain:
        return _read_with_ase(plain, name)[select]


def _read_with_ase(path: Path, name: str) -> list[Atoms]:
    import ase.io
    from ase.io.formats import UnknownFileTypeError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ASE's readers warn about what they leave out; the audit reports it
            frames = _read_database(path) if format_suffix(path) in (".db", ".json") else ase.io.read(path, index=":")
    except UnknownFileTypeError:
        raise ValueError(
            f"{name}: unknown kind of file {uncompressed_name(path)!r}; expected extended XYZ (.xyz), .xsf, .cfg, "
            ".json or a file that ASE recognises (vasprun.xml, OUTCAR, .traj, .db)"
        ) from None
    except Exception as error:  # the readers of ASE raise whatever they meet
        raise ValueError(f"{name}: ASE could not read it ({type(error).__name__}: {error}); is it complete?") from error
    frames = [frames] if isinstance(frames, Atoms) else list(frames)
    if not frames:
        raise ValueError(f"{name}: no structures in it; did the calculation finish a step?")
    return frames


def _read_database(path: Path) -> list[Any]:
    """An ASE database with its key-value pairs in ``info`` (``ase.io.read`` drops them)."""
    import ase.db

    frames = []
    for row in ase.db.connect(path).select():
        atoms = row.toatoms()
        atoms.info.update(row.key_value_pairs)
        frames.append(atoms)
    return frames
