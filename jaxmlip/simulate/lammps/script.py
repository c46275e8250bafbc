"""Ordinary LAMMPS inputs in which ``pair_style jaxmlip`` stands."""

import re
import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxmlip.config import ConfigError
from jaxmlip.potentials.model import Model, as_model
from jaxmlip.simulate.lammps.coupling import attach
from jaxmlip.simulate.lammps.library import communicator

STYLE = "jaxmlip"
_EXAMPLE = "a line `pair_style jaxmlip` and one `pair_coeff * * Li Mn O` with an element for each atom type"


class Piece(NamedTuple):
    """Lines up to a ``pair_coeff`` of ours, and what it says; None at the end of the input."""

    text: str
    elements: str | None


def run_input(
    lmp: Any, model: Model | str | Path, path: str | Path, *, skin: float | None = None, dtype: str = "float64"
) -> None:
    r"""Let LAMMPS run an input file, on all ranks; ``pair_style jaxmlip`` in it is ``model``.

    Everything else is LAMMPS's own, with two exceptions: a loop (``jump``) must not reach back over ``pair_coeff``,
    and both lines stand in the file itself, not in one that it includes.

    >>> import jaxmlip
    >>> from jaxmlip.simulate.lammps import start
    >>> potential = jaxmlip.build("zbl", species=("Li", "O"), cutoff=2.0)
    >>> file = Path(tempfile.mkdtemp()) / "in.pair"
    >>> box = "units metal\nregion all block 0 9 0 9 0 9\ncreate_box 2 all\ncreate_atoms 1 single 1 1 1\nmass * 10\n"
    >>> _ = file.write_text(box + "pair_style jaxmlip\npair_coeff * * Li O\nrun 0")
    >>> lmp = start(["-log", "none", "-screen", "none"])
    >>> run_input(lmp, Model(potential, potential.init(None, None)), file)
    >>> lmp.get_thermo("pe")
    0.0

    Args:
        lmp: a new ``lammps.lammps`` object.
        model: a potential with its parameters, or its file.
        path: the input.
        skin: Å; that of the input's ``neighbor`` command unless given, else 1.
        dtype: as of `attach`.

    Raises:
        ConfigError: the input has no such lines, or what `attach` refuses.
        FileNotFoundError: there is no such file.
    """
    model, text = as_model(model), Path(path).read_text(encoding="utf-8")
    parts = pieces(text, model.potential.config.cutoff)
    skin = skin_of(text) if skin is None else skin
    comm = communicator(lmp)
    with tempfile.TemporaryDirectory() as folder:
        for number, piece in enumerate(parts):
            file = Path(folder) / f"{number}-{Path(path).name}"
            file.write_text(piece.text, encoding="utf-8")
            lmp.file(str(file))  # the first rank reads it
            if piece.elements is not None:
                elements = lmp.expand(piece.elements) if "$" in piece.elements else piece.elements
                attach(lmp, model, elements.split(), skin=skin, dtype=dtype)
    if comm is not None:
        comm.barrier()


def pieces(text: str, cutoff: float) -> list[Piece]:
    r"""An input cut after each ``pair_coeff`` of ``pair_style jaxmlip``, which becomes ``zero``.

    >>> pieces("pair_style jaxmlip\npair_coeff * * Li O\nrun 1", 4.0)[0]
    Piece(text='pair_style zero 4.0\n', elements='Li O')

    Raises:
        ConfigError: the lines are missing, or ``pair_coeff`` is another one.
    """
    found: list[Piece] = []
    lines: list[str] = []
    ours = False
    for line in _logical_lines(text):
        words = _words(line)
        if words[:1] == ["pair_style"]:
            ours = words[1:2] == [STYLE]
            if len(words) > 2 and STYLE in words:
                raise ConfigError(f"`{line.strip()}`: jaxmlip is a pair style without arguments and not part of hybrid")
        if ours and words[:1] == ["pair_style"]:
            lines.append(f"pair_style zero {cutoff!r}")
        elif ours and words[:1] == ["pair_coeff"]:
            if words[1:3] != ["*", "*"] or len(words) < 4:
                raise ConfigError(f"`{line.strip()}`: jaxmlip needs `pair_coeff * *` and an element for each atom type")
            found.append(Piece(_joined(lines), " ".join(words[3:])))
            lines = []
        else:
            lines.append(line)
    if not found:
        raise ConfigError(f"the input does not use the potential: write {_EXAMPLE}")
    return [*found, Piece(_joined(lines), None)]


def skin_of(text: str) -> float:
    """The skin that an input's last ``neighbor`` command gives, in Å; 1 without one.

    >>> skin_of("neighbor 1.5 bin # Å")
    1.5
    """
    given = [words[1] for words in map(_words, _logical_lines(text)) if words[:1] == ["neighbor"] and len(words) > 1]
    try:
        return float(given[-1]) if given else 1.0
    except ValueError:
        raise ConfigError(f"`neighbor {given[-1]}`: write the skin as a number, or give it with --skin") from None


def _logical_lines(text: str) -> list[str]:
    """Lines with those that ``&`` continues."""
    return re.sub(r"&[ \t]*\n", " ", text).split("\n")


def _words(line: str) -> list[str]:
    bare = line.split("#")[0]
    try:
        return shlex.split(bare)
    except ValueError:  # a quote that ends on another line
        return bare.split()


def _joined(lines: Sequence[str]) -> str:
    return "\n".join(lines).rstrip() + "\n"
