"""VASP's OUTCAR, step by step, and which steps of an OUTCAR or vasprun.xml have a converged electronic loop.

Read are the steps of density-functional theory; those of a machine-learned force field (ML_FF) and steps without
positions (NWRITE=0) are left out with a warning. The energy is that for σ → 0. A step whose electronic loop used all
NELM iterations without reaching EDIFF is marked ``info["converged"] = False``: fits leave it out, the audit names it.
"""

import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from jaxmlip.data.labels import DataWarning, Labels, as_stress, attach
from jaxmlip.units import GPA

_NUMBER = re.compile(r"[-+]?\d*\.\d+(?:[EeDd][-+]?\d+)?|\*{3,}|NaN")
_ITERATION = re.compile(r"-+ Iteration\s+(\d+|\*+)\(\s*(\d+|\*+)\)")
_NELM, _EDIFF = re.compile(r"\bNELM\s*=\s*(\d+)"), re.compile(r"\bEDIFF\s*=\s*(\S+)")


@dataclass
class _Step:
    """What was read since the last step ended."""

    positions: np.ndarray | None = None  # Å
    forces: np.ndarray | None = None  # eV/Å
    stress: np.ndarray | None = None  # eV/Å³, ASE's sign
    magmoms: np.ndarray | None = None
    free_energy: float | None = None  # eV
    iterations: int = 0  # of the electronic loop
    reached: bool | None = None  # its accuracy, where the file says so
    from_model: bool = False  # a force field of VASP, not DFT


@dataclass
class _Run:
    """What holds for all steps, and how many were left out."""

    name: str
    lines: Iterator[str]
    symbols: list[str] = field(default_factory=list)  # of VRHFIN, which not every OUTCAR has
    titles: list[str] = field(default_factory=list)  # of TITEL
    potentials: list[str] = field(default_factory=list)  # of POTCAR, often told twice
    counts: list[int] = field(default_factory=list)  # atoms of each kind
    nelm: int | None = None  # electronic iterations at most
    cell: np.ndarray | None = None  # Å, of the last step read
    step: _Step = field(default_factory=_Step)
    n_model: int = 0  # steps of a force field
    n_without: int = 0  # steps without positions
    n_read: int = 0

    @property
    def elements(self) -> list[str]:
        """The element of each count, from the first of the three places that tells as many."""
        half = len(self.potentials) // 2
        once = self.potentials[:half] if self.potentials[:half] == self.potentials[half:] else []
        told = (self.symbols, self.titles, self.potentials, once)
        return next((names for names in told if names and len(names) == len(self.counts)), [])

    @property
    def numbers(self) -> list[int]:
        """Atomic numbers of all ions."""
        if not self.elements:
            raise ValueError(
                f"{self.name}: {len(self.symbols)} elements (VRHFIN: {' '.join(self.symbols) or 'none'}) and "
                f"{len(self.counts)} counts (ions per type): the head of the file is not whole; read vasprun.xml "
                "instead"
            )
        return [atomic_numbers[s] for s, n in zip(self.elements, self.counts, strict=True) for _ in range(n)]


def read_outcar(lines: Iterable[str], name: str) -> Iterator[Atoms]:
    """The ionic steps of an OUTCAR one by one, with energy, forces, stress and magnetic moments where they are printed.

    Raises:
        ValueError: no whole step, elements that are not told, or numbers that VASP could not print (***).
    """
    run = _Run(name, iter(lines))
    for line in run.lines:
        atoms = _take_line(run, line)
        if atoms is not None:
            yield atoms
    if not run.n_read:
        raise ValueError(
            f"{name}: no whole ionic step of density-functional theory in it{_left_out(run)}; did it finish?"
        )
    if run.n_model or run.n_without:
        warnings.warn(f"{name}: {run.n_read} steps are read{_left_out(run)}", DataWarning, stacklevel=2)


def _left_out(run: _Run) -> str:
    parts = []
    if run.n_model:
        parts.append(f"{run.n_model} steps of the machine-learned force field (ML_FF)")
    if run.n_without:
        parts.append(f"{run.n_without} steps without positions (NWRITE=0?)")
    return f"; {' and '.join(parts)} are left out" if parts else ""


def _take_line(run: _Run, line: str) -> Atoms | None:
    if "energy(sigma->0)" in line and "energy  without" in line:
        return _ended(run, line)
    if "VRHFIN" in line:
        _take_element(run, line)
    elif "TITEL" in line or line.startswith(" POTCAR:"):
        _take_potential(run, line)
    elif "ions per type" in line:
        _take_counts(run, line)
    elif "Iteration" in line and (match := _ITERATION.search(line)):
        run.step.iterations = int(match[2]) if match[2].isdigit() else 10**6
        run.step.from_model = False
    elif "NELM" in line and run.nelm is None and (match := _NELM.search(line)):
        run.nelm = int(match[1])
    else:
        _take_block(run, line)
    return None


def _take_block(run: _Run, line: str) -> None:
    step = run.step
    if "aborting loop" in line:
        step.reached = "because EDIFF is reached" in line or "because hardstop" in line
    elif "direct lattice vectors" in line:
        run.cell = np.array([_floats(next(run.lines, ""), run, 3) for _ in range(3)])
    elif line.lstrip().startswith("ML FORCE on cell") or "TOTAL-FORCE (eV/Angst) (ML)" in line:
        step.from_model = True
    elif line.split()[:2] == ["in", "kB"] and not step.from_model:
        xx, yy, zz, xy, yz, zx = _floats(line, run, 6)
        step.stress = as_stress([-value * 0.1 / GPA for value in (xx, yy, zz, yz, zx, xy)])
    elif "TOTAL-FORCE" in line and "POSITION" in line:
        next(run.lines, "")
        table = np.array([_floats(next(run.lines, ""), run, 6) for _ in run.numbers])
        step.positions, step.forces = table[:, :3], table[:, 3:]
    elif line.startswith(" magnetization (x)"):
        step.magmoms = _moments(run)
    elif "free  energy   TOTEN" in line:
        step.free_energy = _floats(line, run, 1)[0]


def _take_counts(run: _Run, line: str) -> None:
    """The numbers of ions of each type, on as many lines as there are elements for."""
    run.counts = [int(word) for word in line.split("=")[-1].split()]
    while len(run.counts) < max(len(run.symbols), len(run.titles)):
        words = next(run.lines, "").split()
        if not words or not all(word.isdigit() for word in words):
            break
        run.counts += map(int, words)


def _take_potential(run: _Run, line: str) -> None:
    """The element of a pseudopotential: ``PAW_PBE Li_sv 10Sep2004``."""
    in_title = "TITEL" in line
    words = line.split("=", 1)[-1].split() if in_title else line.split()[1:]
    symbol = re.split(r"[_.\d]", words[1])[0] if len(words) > 1 else ""
    if atomic_numbers.get(symbol, 0):
        (run.titles if in_title else run.potentials).append(symbol)


def _take_element(run: _Run, line: str) -> None:
    word = line.split("=", 1)[-1].split(":")[0].strip()
    if atomic_numbers.get(word, 0) == 0:
        raise ValueError(f"{run.name}: VRHFIN names {word!r}, which is no element; read vasprun.xml instead")
    run.symbols.append(word)


def _ended(run: _Run, line: str) -> Atoms | None:
    """The structure of the step that this line, its energy, ends; None where it is not one to be read."""
    step, run.step = run.step, _Step()
    if line.lstrip().startswith("ML ") or step.from_model:
        run.n_model += 1
        return None
    if step.positions is None or run.cell is None:
        run.n_without += 1
        return None
    energy = _floats(line.split("energy(sigma->0)")[1], run, 1)[0]
    atoms = Atoms(run.numbers, positions=step.positions, cell=run.cell, pbc=True)
    converged = step.reached is not False
    if step.reached is None and run.nelm is not None:
        converged = step.iterations < run.nelm
    if not converged:
        atoms.info["converged"] = False
    run.n_read += 1
    further = {"magmoms": step.magmoms, "free_energy": step.free_energy}
    attach(atoms, Labels(energy, step.forces, step.stress), **further)
    return atoms


def _moments(run: _Run) -> np.ndarray | None:
    """The last column of the table of magnetic moments."""
    found: list[float] = []
    for line in run.lines:
        words = line.split()
        if words and words[0].isdigit():
            found.append(_floats(line, run, None)[-1])
        elif found:
            break
        elif "Iteration" in line or "TOTAL-FORCE" in line:
            return None
    return np.array(found) if len(found) == len(run.numbers) else None


def _floats(line: str, run: _Run, count: int | None) -> list[float]:
    """Numbers of fixed width, which may touch each other."""
    words = _NUMBER.findall(line)
    wrong = [word for word in words if "*" in word]
    if wrong or not words or (count is not None and len(words) < count):
        expected = "numbers" if count is None else f"{count} numbers"
        reason = "VASP could not print one" if wrong else "the file was cut off or damaged"
        raise ValueError(f"{run.name}: step {run.n_read + 1}: expected {expected}, got {line.strip()[:80]!r}: {reason}")
    return [float(word.replace("D", "E").replace("d", "e")) for word in words[:count]]


def vasprun_converged(path: Path) -> list[bool]:
    """For each calculation of a vasprun.xml whether its electronic loop reached EDIFF before NELM iterations.

    The difference of the last two energies decides where all iterations were used: the last may have been enough.
    """
    nelm, ediff, found = None, 0.0, []
    energies: list[float] = []
    try:
        for _, element in ElementTree.iterparse(path):
            name = element.get("name")
            if element.tag == "i" and name == "NELM" and nelm is None:
                nelm = int(element.text or 0)
            elif element.tag == "i" and name == "EDIFF":
                ediff = _number(element.text)
            elif element.tag == "scstep":
                energies.append(_number(element.findtext("energy/i[@name='e_fr_energy']")))
                element.clear()
            elif element.tag == "calculation":
                used_all = nelm is not None and len(energies) >= nelm
                close = len(energies) > 1 and abs(energies[-1] - energies[-2]) < ediff
                found.append(not used_all or close)
                energies = []
                element.clear()
    except ElementTree.ParseError:
        pass  # a run that was killed: its whole steps count
    return found


def mark_vasprun(frames: list[Any], path: Path) -> None:
    """Mark the frames of a vasprun.xml whose electronic loop did not converge.

    Raises:
        ValueError: the steps that ASE read are not those of the file, or it is damaged.
    """
    try:
        flags = vasprun_converged(path)
    except (LookupError, ValueError) as error:  # an encoding that nobody knows, a word where a number stands
        raise ValueError(f"{path}: damaged ({error}); copy it again or remove it") from error
    if len(flags) < len(frames) and not all(flags):
        raise ValueError(
            f"{path}: {len(frames)} structures but {len(flags)} whole calculations; remove the incomplete one"
        )
    for atoms, converged in zip(frames, flags, strict=False):
        if not converged:
            atoms.info["converged"] = False


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")
