"""Potentials of tests/reference/ace: python-ace 0.4.0rc1 in float64, B basis for .yaml and products for .yace."""

from pathlib import Path

import ase
import numpy as np

FOLDER = Path(__file__).parent / "reference" / "ace"
FILES = ("mo_linear.yaml", "cu_fs.yace", "cu_zbl.yaml", "limntio.yaml")


def content(name):
    return dict(np.load(FOLDER / f"{name}.npz"))


def frames(z):
    ends = np.cumsum(z["n_atoms"])
    parts = [slice(end - n, end) for end, n in zip(ends, z["n_atoms"])]
    return [
        ase.Atoms(list(z["symbols"][part]), z["positions"][part], cell=cell, pbc=pbc)
        for part, cell, pbc in zip(parts, z["cell"], z["pbc"])
    ]
