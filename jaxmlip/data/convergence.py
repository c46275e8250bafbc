"""Which calculations in the text output of other programs did not converge, for those that ASE's readers do not tell.

Programs say so in words, and go on where they are told to: pw.x prints forces without a total energy, others both.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

from ase import Atoms

from jaxmlip.data.labels import DataWarning, labels
from jaxmlip.data.textfile import format_suffix

_NO_TEXT = (".traj", ".db", ".json", ".jsonl", ".xml", ".nc", ".h5")
_WORDS = (
    b"convergence NOT achieved",  # Quantum ESPRESSO
    b"SCF run NOT converged",  # CP2K
    b"Wavefunction not fully converged",  # ORCA
    b"SCF NOT CONVERGED",  # ORCA
    b"system has not reached the groundstate",  # CASTEP
    b"was not enough scf cycles to converge",  # ABINIT
    b"Did not converge!",  # GPAW
    b"SCF_NOT_CONV",  # SIESTA
    b"Calculation failed to converge",  # NWChem
    b"Convergence failure -- run terminated",  # Gaussian
)


def mark_unconverged(frames: Sequence[Atoms], path: Path, name: str) -> None:
    """Mark frames of calculations that did not converge ``info["converged"] = False``.

    Which of several frames they are is told by energies that are missing, as many as there are such messages; else all
    are marked, with a warning.
    """
    if format_suffix(path) in _NO_TEXT:
        return
    with path.open("rb") as file:
        count = sum(any(words in line for words in _WORDS) for line in file)
    if not count:
        return
    lost = [atoms for atoms in frames if labels(atoms).energy is None]
    marked = lost if len(lost) == count else list(frames)
    if len(marked) > count:
        text = f"{name}: {count} calculations in it did not converge; which of the {len(frames)} structures they "
        warnings.warn(f"{text} belong to is not told, so all are marked as not converged", DataWarning, stacklevel=4)
    for atoms in marked:
        atoms.info["converged"] = False
