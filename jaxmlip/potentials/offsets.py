"""Energies of single atoms: fitted to the compositions of data, or given."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import ase
import numpy as np
from jaxtyping import Float

from jaxmlip.config import ConfigError
from jaxmlip.data.labels import labels
from jaxmlip.graph.batch import species_index
from jaxmlip.potentials.base import Config


class Energies(dict):
    """Energies by element as a setting: a dict that nobody changes, so that JAX can tell settings apart by it."""

    def __hash__(self) -> int:  # type: ignore[override]
        """Of all items."""
        return hash(tuple(sorted(self.items())))


Offsets = Literal["fit", "zero", "keep", "isolated"] | dict[str, float]


def fit_offsets(atoms: Sequence[ase.Atoms], species: Sequence[int | str]) -> Float[np.ndarray, " n_species"]:
    """Energy per atom of each species in eV: least squares of total energies on the composition.

    min_ε Σ_k (E_k − Σ_s n_ks ε_s)²; of all minima (compositions that do not tell species apart, species that
    do not occur) the one with the smallest Σ ε_s². Structures without an energy are left out.

    >>> from jaxmlip.data.labels import Labels, attach
    >>> cells = [ase.Atoms("LiO"), ase.Atoms("LiO2")]
    >>> for cell, energy in zip(cells, (-5.0, -9.0)):
    ...     attach(cell, Labels(energy, None, None))
    >>> fit_offsets(cells, ("Li", "O")).round(6).tolist()
    [-1.0, -4.0]

    Raises:
        ValueError: no structure has an energy, an energy is not finite, or an element is not in ``species``.
    """
    numbers = [int(z) for z in Config(species=tuple(species), cutoff=1.0).species]
    known = [(k, frame, labels(frame).energy) for k, frame in enumerate(atoms)]
    known = [(k, frame, energy) for k, frame, energy in known if energy is not None]
    if not known:
        raise ValueError(
            f"none of the {len(atoms)} structures has an energy, so no offsets can be fitted: read data with labels "
            "(jaxmlip.read(path, energy_key=...)), or give the offsets"
        )
    energies = np.array([energy for _, _, energy in known])
    if not np.isfinite(energies).all():
        first = known[int(np.argmin(np.isfinite(energies)))][0]
        raise ValueError(
            f"the energy of structure {first} is not a finite number: remove it (`jaxmlip audit` finds such)"
        )
    counts = [np.bincount(species_index(frame.numbers, numbers), minlength=len(numbers)) for _, frame, _ in known]
    return np.linalg.lstsq(np.array(counts, float), energies, rcond=None)[0]


def is_isolated(atoms: ase.Atoms, name: str = "isolated_atom") -> bool:
    """Whether a structure is one atom whose ``config_type`` is ``name``, in any case, with or without underscores.

    >>> is_isolated(ase.Atoms("Li", info={"config_type": "IsolatedAtom"}))
    True
    """
    kind = str(atoms.info.get("config_type", "")).replace("_", "").lower()
    return len(atoms) == 1 and kind == name.replace("_", "").lower()


def isolated_energies(atoms: Sequence[ase.Atoms], name: str = "isolated_atom") -> dict[str, float]:
    """Energies of the isolated atoms among ``atoms`` (`is_isolated`) by element, in eV.

    >>> from jaxmlip.data.labels import Labels, attach
    >>> atom = ase.Atoms("Li", info={"config_type": "isolated_atom"})
    >>> attach(atom, Labels(-0.3, None, None))
    >>> isolated_energies([atom, ase.Atoms("O2")])
    {'Li': -0.3}

    Raises:
        ValueError: none is there, one has no energy, or two of an element differ.
    """
    found: dict[str, float] = {}
    for frame in atoms:
        if not is_isolated(frame, name):
            continue
        symbol, energy = str(frame.symbols[0]), labels(frame).energy
        if energy is None or not np.isfinite(energy):
            raise ValueError(f"the isolated {symbol} atom has no energy; give it, or the offsets")
        if symbol in found and abs(found[symbol] - energy) > 1e-6:
            raise ValueError(f"two isolated {symbol} atoms have different energies, {found[symbol]} and {energy} eV")
        found[symbol] = energy
    if not found:
        raise ValueError(
            f"offsets='isolated' needs structures of one atom with config_type={name}, and there is "
            "none: name them with isolated_name, or give the energies of the elements"
        )
    return found


def given_offsets(config: Config, offsets: Any, start: Any = None) -> Float[np.ndarray, " n_species"]:
    """Energies per atom that are not fitted, eV, in the order of the species of ``config``.

    >>> given_offsets(Config(("O", "Li"), 1.0), {"Li": -0.3, "O": -1.7}).tolist()
    [-1.7, -0.3]

    Args:
        config: has the species.
        offsets: "fit" or "zero" (nothing is given), "keep" (those of ``start``), or element → eV.
        start: params of a model to go on from.

    Raises:
        ConfigError: an element without an energy, or "keep" without a model.
    """
    if isinstance(offsets, Mapping):
        missing = [symbol for symbol in config.symbols if symbol not in offsets]
        if missing:
            raise ConfigError(f"offsets give no energy for {', '.join(missing)}: add it, or use offsets='fit'")
        return np.array([offsets[symbol] for symbol in config.symbols], float)
    if offsets == "keep":
        if start is None:
            raise ConfigError("offsets='keep' needs a model to keep them of, not a potential")
        return np.asarray(start["offsets"], float)
    if offsets == "isolated":
        raise ConfigError("offsets='isolated' is for jaxmlip.fit, which takes the energies out of the data")
    return np.zeros(len(config.species))
