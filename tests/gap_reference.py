"""Numbers of quippy-ase 0.10.3 and gap_fit (tests/reference/gap), as structures and arrays."""

from pathlib import Path

import ase
import ase.io
import numpy as np

from jaxmlip.data.labels import Labels, attach

REFERENCE = Path(__file__).parent / "reference" / "gap"
MODELS = ("li_ni_ti_o", "li_ni_ti_o_virial", "si", "distance_2b")


def predictions(name: str) -> tuple[list[ase.Atoms], dict[str, np.ndarray]]:
    """Structures, and what quippy predicts for them with the model of that folder."""
    found = dict(np.load(REFERENCE / name / "predictions.npz"))
    starts = np.cumsum([0, *found["n_atoms"]])
    frames = [
        ase.Atoms(found["numbers"][a:b], positions=found["positions"][a:b], cell=cell, pbc=True)
        for a, b, cell in zip(starts, starts[1:], found["cell"])
    ]
    return frames, found


def training_set(name: str) -> list[ase.Atoms]:
    """What gap_fit was given; `dft_virial` is −V stress."""
    frames = []
    for read in ase.io.read(REFERENCE / name / "train.xyz", ":"):
        frame = ase.Atoms(read.numbers, positions=read.positions, cell=read.cell, pbc=True)
        virial = read.info.get("dft_virial")
        stress = None if virial is None else -np.array(virial, float).reshape(3, 3) / frame.get_volume()
        attach(frame, Labels(read.info["dft_energy"], read.arrays["dft_force"], stress))
        frames.append(frame)
    return frames


def described(name: str) -> tuple[ase.Atoms, np.ndarray, np.ndarray]:
    """A structure, some of its atoms, and quippy's SOAP vectors of these."""
    found = np.load(REFERENCE / "descriptors.npz")
    positions, cell = found[f"{name}_positions"], found[f"{name}_cell"]
    atoms = ase.Atoms(found[f"{name}_numbers"], positions=positions, cell=cell, pbc=True)
    return atoms, found[f"{name}_atoms"], found[f"{name}_soap"]
