"""Reference data shipped with the package: small, real, and enough to run everything.

Sources, licences and what was changed: the README.md in this folder.
"""

from pathlib import Path
from typing import NamedTuple

from ase import Atoms

from jaxmlip.config import unknown_name
from jaxmlip.data.read import read


class _Dataset(NamedTuple):
    summary: str  # what it holds
    source: str  # where it is from, and its licence
    citation: str  # of what to cite


_ZUO = "Zuo et al., J. Phys. Chem. A 124, 731 (2020), arXiv:1906.08888"
_MLEARN = "GitHub materialsvirtuallab/mlearn (BSD-3-Clause)"
_ROCKSALTS = "GitHub sai-mat-group/mlip-disordered-rocksalts (no licence file; the numbers are cited as facts)"
_CHGNET = "made for jaxmlip with CHGNet 0.3.0 (Modified BSD), MP2020 corrections taken off"

_DATASETS = {
    "ldr": _Dataset(
        "150 disordered-rocksalt LiTMO2 and TMO2 cells of 11 elements, 8–93 atoms; GGA/GGA+U energies and forces; a "
        "random sample of a published 10,842, with info id (number there) and split_in_paper",
        _ROCKSALTS,
        "Choyal, Sagar and Sai Gautam, J. Chem. Theory Comput. (2024), arXiv:2304.01650",
    ),
    "ldr-surrogate": _Dataset(
        "2,898 disordered-rocksalt LiTMO2 and TMO2 cells of the elements of ldr, 6–36 atoms, partly relaxed, metals "
        "swapped, strained and rattled: SURROGATE, energies, forces and stresses are those of a universal potential on "
        "the energy scale of ldr, not DFT; for pre-training and large learning curves; info kind and composition_id "
        "(of cells from one parent: split by it)",
        _CHGNET,
        "Deng et al., Nat. Mach. Intell. 5, 1031 (2023)",
    ),
    "mo": _Dataset(
        "molybdenum, 194 train and 23 test structures: ground state, strained, surfaces, vacancies, AIMD; PBE "
        "energies, forces and stresses; info split and group",
        _MLEARN,
        _ZUO,
    ),
    "si": _Dataset(
        "silicon, 214 train and 25 test structures: ground state, strained, surfaces, vacancies, AIMD; PBE "
        "energies, forces and stresses; info split and group",
        _MLEARN,
        _ZUO,
    ),
    "layered": _Dataset(
        "16 layered O3 (R-3m) primitive cells, LiTMO2 and TMO2 for TM = Ti V Cr Mn Fe Co Ni Cu, relaxed by a universal "
        "potential: SURROGATE starting geometries, their energies and forces are not DFT; info kind and metal",
        _CHGNET,
        "Deng et al., Nat. Mach. Intell. 5, 1031 (2023)",
    ),
}


def load(name: str, *, split: str | None = None) -> list[Atoms]:
    """The structures of a shipped data set, with energy (eV), forces (eV/Å) and, except ldr, stress (eV/Å³).

    Args:
        name: one of `available`.
        split: "train" or "test" for one side of the published split of mo and si.

    >>> len(load("mo", split="test"))
    23

    Raises:
        ValueError: an unknown name or split, or a data set without a published split.
    """
    _known(name)
    frames = read(Path(__file__).parent / f"{name}.xyz.xz")
    if split is None:
        return frames
    sides = list(dict.fromkeys(str(atoms.info["split"]) for atoms in frames if "split" in atoms.info))
    if not sides:
        raise ValueError(
            f"{name!r} has no published split; load all of it and use jaxmlip.data.split(frames, test=0.2)"
        )
    if split not in sides:
        raise ValueError(unknown_name(f"split of {name!r}", split, sides))
    return [atoms for atoms in frames if atoms.info["split"] == split]


def available() -> list[str]:
    """The names that `load` knows.

    >>> available()
    ['ldr', 'ldr-surrogate', 'mo', 'si', 'layered']
    """
    return list(_DATASETS)


def describe(name: str) -> str:
    """What a data set holds, where it comes from, and what to cite.

    >>> print(describe("si").splitlines()[1])
    source: GitHub materialsvirtuallab/mlearn (BSD-3-Clause)

    Raises:
        ValueError: an unknown name.
    """
    summary, source, citation = _known(name)
    return f"{name}: {summary}\nsource: {source}\ncite: {citation}"


def _known(name: str) -> _Dataset:
    if name not in _DATASETS:
        raise ValueError(unknown_name("data set", name, _DATASETS))
    return _DATASETS[name]
