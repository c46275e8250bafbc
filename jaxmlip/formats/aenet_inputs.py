"""aenet's text inputs: set-up files ``.stp``, ``generate.in``, ``train.in`` and ``predict.in``.

Keywords may be written in any case; blank lines and lines that start with ``!``, ``#`` or ``%`` count for nothing.

References:
    aenet documentation, "input files" (http://ann.atomistic.net/documentation).
"""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from jaxmlip.potentials.aenet import AENETConfig


@dataclasses.dataclass(frozen=True)
class Setup:
    """A fingerprint set-up file; lengths in Å."""

    atom: str
    """Symbol of the central atom."""
    environment: tuple[str, ...]
    """Symbols of its neighbours."""
    rmin: float
    """Å; no neighbour may be nearer."""
    radial_cutoff: float
    """Å."""
    radial_order: int
    """Highest degree of the radial Chebyshev polynomials."""
    angular_cutoff: float
    """Å."""
    angular_order: int
    """Highest degree of the angular Chebyshev polynomials."""
    description: str = ""
    """Free text."""


@dataclasses.dataclass(frozen=True)
class Input:
    """What an input file names; paths as they are written there, relative to its folder."""

    types: dict[str, float | None] = dataclasses.field(default_factory=dict)
    """Element: atomic energy in eV."""
    networks: dict[str, str] = dataclasses.field(default_factory=dict)
    """Element: network file."""
    hidden: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """Element: ("15:tanh", ...)."""
    setups: dict[str, str] = dataclasses.field(default_factory=dict)
    """Element: .stp file."""
    files: tuple[str, ...] = ()
    """Structures, .xsf."""
    keywords: dict[str, str] = dataclasses.field(default_factory=dict)
    """Method, iterations, testpercent, ..."""


@dataclasses.dataclass(frozen=True)
class Folder:
    """What an aenet folder says of a model before it is trained."""

    config: AENETConfig
    """Settings of the potential."""
    offsets: np.ndarray | None
    """E_atom [n_species] in eV, if generate.in is there."""
    files: tuple[Path, ...]
    """Structures to train on."""
    keywords: dict[str, str]
    """Of train.in: method, iterations, testpercent, maxenergy, ..."""


def read_setup(path: str | Path) -> Setup:
    """The set-up in a ``.stp`` file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a missing keyword, or fingerprints that are not of the Chebyshev type.
    """
    path = Path(path)
    text = path.read_text(encoding="utf-8", errors="replace")
    description = re.search(r"^\s*descr\b[^\n]*\n(.*?)^\s*end\s+descr", text, re.I | re.M | re.S)
    lines = _lines(text.replace(description[0], "") if description else text)
    found: dict[str, str] = {}
    environment: list[str] = []
    for k, line in enumerate(lines):
        keyword, _, rest = line.partition(" ")
        keyword = keyword.lower()
        if keyword in ("functions", "symmfunc"):
            raise ValueError(f"{path}: {line}: only BASIS type=Chebyshev is supported, not single symmetry functions")
        if keyword == "env":
            environment = [name.split()[0] for name in lines[k + 1 : k + 1 + int(rest.split()[0])]]
        elif keyword in ("atom", "rmin"):
            found[keyword] = rest.split()[0]
        elif keyword == "basis":
            found |= _assignments(f"{rest} {lines[k + 1] if k + 1 < len(lines) else ''}")
    needed = ("atom", "type", "radial_rc", "radial_n", "angular_rc", "angular_n")
    missing = [name for name in needed if name not in found] + ([] if environment else ["env"])
    if missing or found["type"].lower() != "chebyshev":
        problem = f"{', '.join(missing)} missing" if missing else f"basis type {found['type']}"
        raise ValueError(
            f"{path}: {problem}; expected ATOM, ENV, RMIN and BASIS type=Chebyshev with its line of numbers"
        )
    return Setup(
        atom=found["atom"],
        environment=tuple(environment),
        rmin=_number(found.get("rmin", "1.0")),  # aenet's own value where it is not given
        radial_cutoff=_number(found["radial_rc"]),
        radial_order=int(found["radial_n"]),
        angular_cutoff=_number(found["angular_rc"]),
        angular_order=int(found["angular_n"]),
        description=re.sub(r"\s*\n\s*", "\n", description[1]).strip() if description else "",
    )


def read_input(path: str | Path) -> Input:
    """The content of ``generate.in``, ``train.in`` or ``predict.in``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a list that ends early.
    """
    path = Path(path)
    lines = _lines(path.read_text(encoding="utf-8", errors="replace"))
    result = Input()
    files: Sequence[str] = ()
    k = 0
    while k < len(lines):
        keyword, _, rest = lines[k].partition(" ")
        keyword, k = keyword.lower(), k + 1
        if keyword in ("types", "files"):
            section, k = _counted(lines, k, path)
            if keyword == "files":
                files = section
            else:
                result.types.update({words[0]: _energy(words) for words in map(str.split, section)})
        elif keyword in ("networks", "setups"):
            while k < len(lines) and (words := lines[k].split())[0] in atomic_numbers and len(words) > 1:
                getattr(result, keyword)[words[0]] = words[1]
                if len(words) > 2:
                    result.hidden[words[0]] = tuple(words[3:])
                k += 1
        elif keyword in ("method", "relax") and k < len(lines):
            result.keywords[keyword] = lines[k]
            k += 1
        else:
            result.keywords[keyword] = rest.strip()
    return dataclasses.replace(result, files=tuple(files))


def read_folder(path: str | Path) -> Folder:
    """Settings, atomic energies and structures of an aenet folder: ``generate.in`` and, if it is there, ``train.in``.

    Args:
        path: the folder, or its ``generate.in``.

    Raises:
        FileNotFoundError: ``generate.in`` or a set-up file is missing.
        ValueError: set-ups or networks of different elements that one model cannot hold.
    """
    path = Path(path)
    generate = path / "generate.in" if path.is_dir() else path
    if not generate.exists():
        raise FileNotFoundError(f"{generate} does not exist: an aenet folder names its set-up files there")
    given = read_input(generate)
    setups = {atom: read_setup(generate.parent / file) for atom, file in given.setups.items()}
    if not setups:
        raise ValueError(f"{generate} has no SETUPS")
    shared = [dataclasses.astuple(dataclasses.replace(s, atom="", rmin=0.0, description="")) for s in setups.values()]
    if len(set(shared)) > 1:
        raise ValueError(f"{generate}: ENV and BASIS of {', '.join(setups)} differ, which one model cannot hold")
    train = generate.parent / "train.in"
    training = read_input(train) if train.exists() else Input()
    if len(set(training.hidden.values())) > 1:
        raise ValueError(f"{train}: the networks differ in their layers, which one model cannot hold")
    first = next(iter(setups.values()))
    species = tuple(symbol for symbol in first.environment if symbol in setups)
    config = AENETConfig(
        species=species,
        cutoff=first.radial_cutoff,
        radial_order=first.radial_order,
        angular_cutoff=first.angular_cutoff,
        angular_order=first.angular_order,
        environment=first.environment,
        rmin=min(setup.rmin for setup in setups.values()),
        hidden=next(iter(training.hidden.values()), AENETConfig.hidden),
    )
    energies = [given.types.get(symbol) for symbol in species]
    offsets = None if any(e is None for e in energies) else np.array(energies, float)
    return Folder(config, offsets, tuple(generate.parent / file for file in given.files), training.keywords)


def _lines(text: str) -> list[str]:
    """Lines that count, blanks at their ends taken off, tabs as blanks."""
    stripped = (line.replace("\t", " ").strip() for line in text.splitlines())
    return [line for line in stripped if line and line[0] not in "!#%"]


def _counted(lines: list[str], k: int, path: Path) -> tuple[list[str], int]:
    """The lines of a list that starts with their number, and where the next keyword stands."""
    try:
        end = k + 1 + int(lines[k].split()[0])
    except (IndexError, ValueError):
        raise ValueError(f"{path}: after {lines[k - 1]} expected the number of lines that follow") from None
    if end > len(lines):
        raise ValueError(f"{path}: {lines[k - 1]} announces {end - k - 1} lines, but the file ends before")
    return lines[k + 1 : end], end


def _energy(words: list[str]) -> float | None:
    """The atomic energy in eV of ``Ti -1604.6 ! eV``, if there is one."""
    return _number(words[1]) if len(words) > 1 and re.match(r"[-+.\d]", words[1]) else None


def _assignments(text: str) -> dict[str, str]:
    return {name.lower(): value for name, value in re.findall(r"(\w+)\s*=\s*(\S+)", text)}


def _number(word: str) -> float:
    return float(word.lower().replace("d", "e"))
