"""The settings of a study: what a ``study.toml`` may say, with the shipped example as defaults."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxmlip.config import ConfigError


@dataclasses.dataclass(frozen=True)
class Method:
    """One line of the comparison: a family with its settings, and how it is fitted."""

    family: str = ""
    """Name in `jaxmlip.FAMILIES`; empty: the name of the method up to a dash (``snap-8`` is snap)."""
    potential: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Settings of the potential; species default to the elements of the data, the cutoff to 5 Å."""
    fit: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Settings of the fit (`jaxmlip.fitting.LinearFit`)."""


def default_methods() -> dict[str, Method]:
    """SNAP and qSNAP as in the published study (twojmax 6, 5 Å); energies weigh 30 per atom against forces 1."""
    fit = {"energy_weight": 30.0, "n_folds": 3}
    potential = {"twojmax": 6, "cutoff": 5.0}
    return {name: Method(name, dict(potential), dict(fit)) for name in ("snap", "qsnap")}


@dataclasses.dataclass(frozen=True)
class StudyConfig:
    """A comparison of potentials over training-set sizes and seeds.

    >>> StudyConfig(sizes=(30, 60)).methods["qsnap"].potential["twojmax"]
    6
    """

    data: str = "ldr"
    """Name of a shipped dataset, or a file, folder or pattern of structures."""
    methods: Mapping[str, Method] = dataclasses.field(default_factory=default_methods)
    """Name → `Method`; in TOML ``[methods.NAME]``."""
    sizes: tuple[int, ...] = (30, 60, 120)
    """Training-set sizes; a larger set contains the smaller ones."""
    seeds: tuple[int, ...] = (0,)
    """Each draws its own split and order."""
    test_fraction: float = 0.2
    """Of the structures, kept for testing: the same for every method."""
    split: str = "random"
    """random, composition, trajectory, or a key of ``atoms.info``: the last three keep near twins on one side."""
    voltages: bool = True
    """Relax layered LiTMO2 and TMO2 with each method at its largest size."""
    metals: tuple[str, ...] = ("Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu")
    """Of the layered cells."""
    lithium_energy: float = -1.9089
    """eV per atom of bcc lithium, the reference of the voltage (default: PBE)."""
    out: Path = Path("study")
    """Folder of results; fits already in it are not repeated."""

    def __post_init__(self) -> None:
        """Refuses what cannot be run."""
        if not self.methods:
            raise ConfigError("methods: name at least one, as [methods.snap] in the file")
        if not self.sizes or min(self.sizes) < 1:
            raise ConfigError(f"sizes must be numbers of structures, at least one and all ≥ 1: got {self.sizes}")
        if not self.seeds:
            raise ConfigError("seeds: give at least one")
        if not 0 < self.test_fraction < 1:
            raise ConfigError(f"test_fraction must lie between 0 and 1, got {self.test_fraction}")
