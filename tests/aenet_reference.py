"""The networks of aenet's reference numbers (tests/reference/aenet), as our parameters and as aenet's files."""

from pathlib import Path

import ase
import numpy as np

from jaxmlip.formats.aenet_network import NetworkFile

FOLDER = Path(__file__).parent / "reference" / "aenet"
NAMES = ("lto4_twist", "mo_tanh")


def reference(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"aenet_ref_{name}.npz") as content:
        return dict(content)


def frames(arrays: dict[str, np.ndarray]) -> list[ase.Atoms]:
    return [
        ase.Atoms(list(arrays[f"f{k}_symbols"]), arrays[f"f{k}_positions"], cell=arrays[f"f{k}_cell"], pbc=True)
        for k in range(arrays["n_frames"])
    ]


def network_file(arrays: dict[str, np.ndarray], symbol: str) -> NetworkFile:
    """What aenet's own file of this element says."""
    species = tuple(map(str, arrays["species"]))
    layers = [np.column_stack([arrays[f"{symbol}_W{k}"], arrays[f"{symbol}_b{k}"]]) for k in range(3)]
    return NetworkFile(
        atom=symbol,
        nodes=tuple(map(int, arrays[f"{symbol}_nodes"])),
        activations=tuple(map(int, arrays[f"{symbol}_act"])),
        weights=np.concatenate([layer.ravel(order="F") for layer in layers]),
        environment=species,
        rmin=0.55,
        parameters=tuple(float(arrays[k]) for k in ("rc_radial", "n_radial", "rc_angular", "n_angular")),
        average=arrays[f"{symbol}_avg"],
        square=arrays[f"{symbol}_cov"],
        energy_scale=float(arrays[f"{symbol}_scale"]),
        energy_shift=float(arrays[f"{symbol}_shift"]),
        atomic_energies=dict(zip(species, map(float, arrays["e0"]))),
    )
