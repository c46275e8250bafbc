"""The program ``jaxmlip``: finds the subcommand, runs it, and turns a user's mistake into one line.

Each subcommand is a module of `jaxmlip.commands`, imported when it is called, so that ``--help`` needs no JAX.
"""

import difflib
import os
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import Any

from jaxmlip.progress import Terminated

COMMANDS = {
    "audit": ("find what ruins fits: broken cells, overlaps, outliers, duplicates", "jaxmlip audit train.xyz"),
    "data": ("pack structures into a data set on disk, larger than the memory", "jaxmlip data pack train.xyz packed"),
    "fit": ("train a potential", "jaxmlip fit snap train.xyz --out snap"),
    "distil": (
        "a fast potential learns from a slow one",
        "jaxmlip distil tuned/model.npz --student mtp --data train.xyz",
    ),
    "learn": ("active learning: the potential asks for the calculations that it needs", "jaxmlip learn learn.toml"),
    "evaluate": ("errors and parity plots of a potential", "jaxmlip evaluate snap/model.npz test.xyz"),
    "predict": (
        "energies, forces and stresses into a file",
        "jaxmlip predict snap/model.npz new.xyz --out new-snap.xyz",
    ),
    "relax": ("relax positions and cells", "jaxmlip relax snap/model.npz start.xyz --out relaxed.xyz"),
    "md": ("molecular dynamics", "jaxmlip md snap/model.npz start.xyz --ensemble npt --temperature 600 --out run"),
    "lammps": ("run a LAMMPS input, on any number of ranks", "mpiexec -n 4 jaxmlip lammps mtp/model.npz in.file"),
    "properties": (
        "equation of state, elastic tensor, phonons",
        "jaxmlip properties snap/model.npz crystal.cif --out properties",
    ),
    "voltage": ("voltages of layered LiTMO2 cathodes", "jaxmlip voltage rocksalt-mtp"),
    "disorder": (
        "which cation sits where: Monte Carlo, short-range order, percolation",
        "jaxmlip disorder mtp/model.npz LiMnO2 --temperature 1300 --cell 6 --out disorder",
    ),
    "grade": (
        "how far structures lie outside of the training data",
        "jaxmlip grade mtp/model.npz new.xyz --train train.xyz",
    ),
    "card": ("the shipped potentials: elements, errors, limits, what to cite", "jaxmlip card rocksalt-mtp"),
    "study": ("compare potentials over training-set sizes, with a report", "jaxmlip study"),
    "tune": ("search for a family's hyper-parameters", "jaxmlip tune mtp train.xyz --trials 40 --out tuned"),
    "convert": ("between our files and those of other programs", "jaxmlip convert snap/model.npz LiO.snapcoeff"),
}

_HELP = """\
jaxmlip: machine-learned interatomic potentials, from DFT data to a cathode voltage.

usage: jaxmlip COMMAND [arguments]     (jaxmlip COMMAND --help explains each argument)

{commands}

Data is a file, a folder or a pattern ("runs/*/OUTCAR"): extended XYZ, .xsf, .cfg, LAMMPS dumps, vasprun.xml, OUTCAR,
JSON (Materials Project, MPtrj, MatPES, mlearn, FitSNAP) and all that ASE reads, also as .xz or .gz; a folder that
`jaxmlip data pack` wrote; or the name of a shipped data set: ldr, ldr-surrogate, mo, si, layered. Every command takes
--species, --energy-key, --forces-key, --stress-key and --virial-key for files that number their elements or name their
labels otherwise.
Models are our model.npz, a file of another program, such as W.snapcoeff, or a name: rocksalt-mtp (jaxmlip card).

Settings can stand in a TOML file given with --config FILE; a flag wins over the file:
    [potential]             jaxmlip fit snap train.xyz --config fit.toml --potential.twojmax 8
    twojmax = 6
Every run leaves a .json beside its result with settings, versions, seed, date and command.

units: eV, Å, eV/Å, eV/Å³ in files (stress with ASE's sign); meV/atom, GPa and V in tables.
JAX keeps compiled programs in {cache}, so second runs start faster;
JAX_COMPILATION_CACHE_DIR moves it. --debug shows where an error arose. --version shows the version.

First steps: jaxmlip study   compares all families on shipped data and writes study/report.html in some minutes.
"""

_USER_ERRORS = (
    ValueError,
    TypeError,
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 something is wrong with the data, 2 a mistake in the call.

    >>> main(["--version"])
    jaxmlip 0.1.0
    0
    """
    try:
        code = _command(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has gone, as `head` does: write no more, at the end neither
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return code


def _command(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(help_text())
        return 0
    if words[0] == "--version":
        from jaxmlip import __version__

        print(f"jaxmlip {__version__}")
        return 0
    if words[0] not in COMMANDS:
        near = difflib.get_close_matches(words[0], COMMANDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(COMMANDS)}."
        return _complain(f"jaxmlip: error: no command {words[0]!r}; {hint} `jaxmlip --help` explains them")
    return _run(words[0], words[1:])


def help_text() -> str:
    """What ``jaxmlip --help`` prints."""
    from jaxmlip.files import program_folder

    lines = [f"  {name:<9} {summary}\n            {example}" for name, (summary, example) in COMMANDS.items()]
    return _HELP.format(commands="\n".join(lines), cache=program_folder())


def _run(name: str, words: list[str]) -> int:
    debug = "--debug" in words
    # XLA calls its own scheduling hints "machine features" and prints 4 kB of alarm for each program that it takes
    # from the cache of compiled programs. It reads this variable when JAX is imported.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if debug else "3")
    try:
        module = import_module(f"jaxmlip.commands.{name}")
        with warnings.catch_warnings():
            warnings.showwarning = partial(_show_warning, name)
            return module.main([word for word in words if word != "--debug"])
    except SystemExit as stop:  # tyro has printed help, or what is wrong with a flag
        return stop.code if isinstance(stop.code, int) else 0
    except Terminated as stop:
        return _complain(f"jaxmlip {name}: {stop}", code=stop.exit_code)
    except KeyboardInterrupt:
        return _complain(f"jaxmlip {name}: stopped", code=130)
    except _USER_ERRORS as error:
        if debug:
            raise
        return _complain(f"jaxmlip {name}: error: {error}")


def _show_warning(command: str, message: Warning | str, *where: Any) -> None:
    print(f"jaxmlip {command}: warning: {message}", file=sys.stderr)


def _complain(message: str, *, code: int = 2) -> int:
    print(message, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
