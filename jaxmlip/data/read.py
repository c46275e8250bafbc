"""Reading and writing structures with reference labels: one function for every format.

Inside are eV, eV/Å and eV/Å³ with ASE's sign; see `jaxmlip.data.keys` for the names of labels and their conventions.
"""

import warnings
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ase import Atoms

from jaxmlip.data.cfg import is_mlip_cfg, read_cfg, write_cfg
from jaxmlip.data.convergence import mark_unconverged
from jaxmlip.data.extxyz import read_extxyz, write_extxyz
from jaxmlip.data.keys import Keys, key_found, missing_key, take_frame, take_labels
from jaxmlip.data.lammps_dump import is_dump, read_dump
from jaxmlip.data.packed import PackedData, is_packed
from jaxmlip.data.records import read_json
from jaxmlip.data.sources import DUMPS, file_kind, find_files
from jaxmlip.data.textfile import (
    format_suffix,
    opened,
    read_text,
    refuse_entities,
    text_lines,
    uncompressed,
    uncompressed_name,
    writing,
)
from jaxmlip.data.vasp import mark_vasprun, read_outcar
from jaxmlip.data.xsf import read_xsf

_WRITERS = (".xyz", ".extxyz", ".cfg")


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

    Formats: extended XYZ, aenet ``.xsf``, MLIP ``.cfg``, LAMMPS dumps, OUTCAR, JSON (pymatgen's
    ``ComputedStructureEntry``, MPtrj, MatPES, mlearn, FitSNAP), and everything ASE reads (vasprun.xml, ``.traj``,
    ``.db``, …); each also as .xz, .gz or .bz2; and packed data sets (`jaxmlip.data.pack`). `iread` gives the structures
    one by one. Files of a folder come in natural
    order (2.xsf before 10.xsf) and are named in ``info["file"]``. Energy (eV), forces (eV/Å) and stress (eV/Å³, ASE's
    sign) end in a ``SinglePointCalculator``; `jaxmlip.data.labels` takes them out. A label that is missing or NaN is
    kept so, for `jaxmlip.data.audit` to report; a calculation whose electronic loop did not converge is marked
    ``info["converged"] = False``. What is read but not used is said as a `DataWarning`.

    Args:
        path: file, folder or pattern.
        energy_key: name of the energy; by default energy, REF_energy, dft_energy and the like. As for the other keys.
        forces_key: name of the forces.
        stress_key: name of the stress.
        virial_key: name of the virial, −stress × volume in eV.
        index: which structures, as ASE writes it: ``":"``, ``"::10"``, ``-1``.
        species: symbols of the types 0, 1, … of an MLIP ``.cfg``, or 1, 2, … of a LAMMPS dump.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "h2.xyz"
    >>> _ = file.write_text("2\nProperties=species:S:1:pos:R:3 dft_energy=-6.7\nH 0 0 0\nH 0 0 0.74\n")
    >>> [atoms.get_potential_energy() for atoms in read(file)]
    [-6.7]

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: the content is not what the format says, with frame and line; or a given key is in no frame.
    """
    files, is_many = find_files(path)
    select = _as_slice(index)
    frames: list[Atoms] = []
    for file in files:
        found = list(_selected(file, slice(None) if is_many else select, species))
        if is_many:
            _name_files(found, file, path)
        frames += found
    if is_many:
        frames = frames[select]
    if not frames:
        raise ValueError(f"{path}: index={index!r} selects none of its structures; they are counted from 0")
    keys = Keys(energy_key, forces_key, stress_key, virial_key)
    if not is_packed(path) or any(keys):  # of packed structures the labels were taken before
        take_labels(frames, keys, str(path))
    return frames


def iread(path: str | Path, *, keys: Keys | None = None, species: Sequence[str] | None = None) -> Iterator[Atoms]:
    r"""The structures of `read` one by one: files of any size in the memory of one structure.

    So read are extended XYZ, MLIP ``.cfg``, LAMMPS dumps, OUTCAR and JSON, compressed or not; formats that ASE reads
    are read whole.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "one.jsonl"
    >>> lattice = {"matrix": [[3, 0, 0], [0, 3, 0], [0, 0, 3]]}
    >>> site = {"species": [{"element": "Po", "occu": 1}], "abc": [0, 0, 0]}
    >>> record = {"structure": {"lattice": lattice, "sites": [site]}, "energy": -1.0}
    >>> _ = file.write_text("\n".join([__import__("json").dumps(record)] * 3))
    >>> [atoms.get_potential_energy() for atoms in iread(file)]
    [-1.0, -1.0, -1.0]

    Args:
        path: file, folder or pattern.
        keys: names of the labels, where they are not the conventional ones.
        species: as for `read`.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: as `read`; a key that is in no frame when the last one was read.
    """
    keys = keys or Keys()
    files, is_many = find_files(path)
    unseen = {kind for kind, key in keys._asdict().items() if key is not None}
    last: Atoms | None = None
    for file in files:
        for number, atoms in enumerate(_selected(file, slice(None), species)):
            if is_many:
                _name_files([atoms], file, path)
            unseen -= {kind for kind in unseen if key_found(atoms, kind, keys)}
            if any(keys) or not is_packed(file):
                take_frame(atoms, keys, f"{file}, frame {number}")
            last = atoms
            yield atoms
    if unseen and last is not None:
        raise ValueError(missing_key(str(path), min(unseen), keys, [last]))


def _name_files(frames: Sequence[Atoms], file: Path, path: str | Path) -> None:
    for atoms in frames:
        atoms.info.setdefault("file", str(file.relative_to(path)) if Path(path).is_dir() else str(file))


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


def _selected(path: Path, select: slice, species: Sequence[str] | None) -> Iterator[Atoms]:
    """The selected frames of a file; those before the end of a slice of whole numbers are not all kept."""
    frames = _read_file(path, species)
    numbers = [number for number in (select.start, select.stop, select.step) if number is not None]
    if all(number >= 0 for number in numbers) and select.step != 0:
        yield from islice(frames, select.start, select.stop, select.step)
    else:
        yield from list(frames)[select]


def _read_file(path: Path, species: Sequence[str] | None) -> Iterator[Atoms]:
    if is_packed(path):
        yield from PackedData(path)
        return
    if not path.stat().st_size:
        raise ValueError(f"{path}: the file is empty; expected at least one structure")
    suffix, name, kind = format_suffix(path), str(path), file_kind(path)
    if suffix == ".xsf":
        yield read_xsf(read_text(path), name)
    elif suffix in (".xyz", ".extxyz"):
        with opened(path) as file:
            yield from read_extxyz(text_lines(file, path), name)
    elif suffix == ".cfg" and is_mlip_cfg(_head(path)):
        with opened(path) as file:
            yield from read_cfg(text_lines(file, path), name, species)
    elif kind == "OUTCAR" or (suffix in DUMPS or is_dump(_head(path, 6))):
        with opened(path) as file:
            lines = text_lines(file, path)
            yield from read_outcar(lines, name) if kind == "OUTCAR" else read_dump(lines, name, species)
    elif suffix in (".json", ".jsonl"):
        yield from _read_json(path)
    else:
        yield from _read_plain(path)


def _read_json(path: Path) -> Iterator[Atoms]:
    with opened(path) as file:
        frames = read_json(file, str(path))
        if frames is not None:
            yield from frames
            return
        file.seek(0)
        if b'"numbers"' not in file.read(2**20):  # every row of an ASE database has them
            raise ValueError(
                f"{path}: no record with a structure of pymatgen in it; expected ComputedStructureEntry, MPtrj, "
                "MatPES, mlearn or FitSNAP. A ComputedEntry has no structure: fetch the entries with structures"
            )
    yield from _read_plain(path)


def _read_plain(path: Path) -> Iterator[Atoms]:
    with uncompressed(path) as plain:
        if format_suffix(plain) == ".xml":
            refuse_entities(plain)
        yield from _read_with_ase(plain, str(path))


def _head(path: Path, n_bytes: int = 2**16) -> str:
    with opened(path) as file:
        return file.read(n_bytes).decode("latin-1")


def _read_with_ase(path: Path, name: str) -> list[Atoms]:
    import ase.io
    from ase.io.formats import UnknownFileTypeError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ASE's readers warn about what they leave out; the audit reports it
            is_database = format_suffix(path) in (".db", ".json", ".jsonl")
            frames = _read_database(path) if is_database else ase.io.read(path, index=":")
    except UnknownFileTypeError:
        raise ValueError(
            f"{name}: unknown kind of file {uncompressed_name(path)!r}; expected extended XYZ (.xyz), .xsf, .cfg, "
            ".json, .jsonl, a LAMMPS dump, OUTCAR, or a file that ASE recognises (vasprun.xml, .traj, .db)"
        ) from None
    except Exception as error:  # the readers of ASE raise whatever they meet
        raise ValueError(f"{name}: ASE could not read it ({type(error).__name__}: {error}); is it complete?") from error
    frames = [frames] if isinstance(frames, Atoms) else list(frames)
    if not frames:
        raise ValueError(f"{name}: no structures in it; did the calculation finish a step?")
    if format_suffix(path) == ".xml":
        mark_vasprun(frames, path)
    mark_unconverged(frames, path, name)
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
