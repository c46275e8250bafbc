"""The settings of a study: what a ``study.toml`` may say, with the shipped example as defaults."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from jaxmlip import pretrained
from jaxmlip.config import Bounds, ConfigError, Count, Settings, Whole, unknown_name
from jaxmlip.data.options import ReadOptions
from jaxmlip.units import LITHIUM_BCC


@dataclasses.dataclass(frozen=True)
class StudyMethod(Settings):
    """One line of the comparison: a family with its settings, and how it is fitted."""

    family: str = ""
    """Name in `jaxmlip.FAMILIES`; empty: the name of the method up to a dash (``snap-8`` is snap)."""
    potential: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Settings of the potential; species default to the elements of the data, the cutoff to 5 Å."""
    fit: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Settings of the fit; ``method`` chooses among `jaxmlip.fitting.FIT_METHODS`."""
    preset: str = ""
    """A name in `jaxmlip.potentials.presets`: its family and settings, which those above complete or replace."""
    sizes: tuple[Count, ...] = ()
    """Training-set sizes of this method alone, such as fewer of a slow one; none: the study's."""


LDR_WEIGHTS = {
    "Li": 0.25, "O": -0.5, "Sc": 0.72, "Ti": 0.76, "V": 0.79, "Cr": 0.83, "Mn": 0.86, "Fe": 0.9, "Co": 0.93,
    "Ni": 0.97, "Cu": 1.0,
}  # fmt: skip
"""Weights of the neighbours' density for the shipped rocksalts: Z/29 of the metals, apart for Li and O. With equal
weights SNAP cannot tell its neighbours' elements (test energies 76 instead of 56 meV/atom over three splits)."""


_LINEAR = {"energy_weight": 30.0, "n_folds": 3}
_MESSAGE_PASSING = {"energy_weight": 30.0, "learning_rate": 0.01, "batch_size": 4, "epochs": 40}
_MESSAGE_PASSING |= {"validation_fraction": 0.0, "n_shapes": 2}
QUICK: Mapping[str, StudyMethod] = {
    "snap": StudyMethod("snap", {"cutoff": 5.0, "twojmax": 6}, _LINEAR),
    "qsnap": StudyMethod("qsnap", {"cutoff": 5.0, "twojmax": 4}, _LINEAR),
    "ace": StudyMethod(preset="ace-rocksalt"),
    "mtp": StudyMethod(preset="mtp-rocksalt"),
    "gap": StudyMethod(preset="gap-rocksalt"),
    "aenet": StudyMethod(preset="aenet-forces", fit={"epochs": 80}),
    "nequip": StudyMethod("nequip", {"cutoff": 4.5, "num_layers": 2}, _MESSAGE_PASSING),
}
"""Settings that take minutes for some hundred structures of the rocksalts.

SNAP as in the published study (twojmax 6, 5 Å) but qSNAP with twojmax 4 (with 6 it has 5,456 coefficients for 11
elements); ACE, MTP, GAP and AENET by their presets for small sets, AENET with fewer epochs; a NequIP of two layers. The
fits' objective weighs energies 20 to 30 times as much as forces (eV/atom, eV/Å).
"""


def default_methods(data: str = "ldr") -> dict[str, StudyMethod]:
    """The families of `QUICK`, with its settings; another one is compared when it is named."""
    from jaxmlip.potentials.registry import FAMILIES

    elements = {"species": list(LDR_WEIGHTS), "weights": list(LDR_WEIGHTS.values())}
    methods = dict(QUICK)
    if data == "ldr":
        for name in methods:
            if "weights" in {field.name for field in dataclasses.fields(FAMILIES[name].config)}:
                given = {**elements, **methods[name].potential}
                methods[name] = dataclasses.replace(methods[name], potential=given)
    return methods


@dataclasses.dataclass(frozen=True)
class StudyConfig(ReadOptions):
    """A comparison of potentials over training-set sizes and seeds.

    >>> StudyConfig(sizes=(30, 60)).methods["snap"].potential["twojmax"]
    6
    """

    data: str = "ldr"
    """Name of a shipped dataset, or a file, folder or pattern of structures."""
    methods: Mapping[str, StudyMethod] = dataclasses.field(default_factory=dict)
    """Name → `StudyMethod`; in TOML ``[methods.NAME]``. None named: all families (`default_methods`)."""
    sizes: tuple[Count, ...] = (30, 60, 120)
    """Training-set sizes of methods that name none; a larger set contains the smaller ones."""
    seeds: tuple[Whole, ...] = (0,)
    """Each draws its own split and order."""
    test_fraction: Annotated[float, Bounds(0, 1, above=True, below=True)] = 0.2
    """Of the structures, kept for testing: the same for every method."""
    note: str = ""
    """What a reader of the report must know of the data, such as where its labels are from."""
    split: str = "random"
    """random, composition, trajectory, or a key of ``atoms.info``: the last three keep near twins on one side."""
    voltages: bool = True
    """Relax layered LiTMO2 and TMO2 with each method at its largest size."""
    metals: tuple[str, ...] = ("Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu")
    """Of the layered cells."""
    lithium_energy: float = LITHIUM_BCC
    """eV per atom of bcc lithium, the reference of the voltage (default: PBE)."""
    pretrained: tuple[str, ...] | None = None
    """Potentials of `jaxmlip.pretrained`, shown apart from the fits; None: all of them with the example's data."""
    out: Path = Path("study")
    """Folder of results; fits already in it are not repeated."""

    def __post_init__(self) -> None:
        """Refuses what cannot be run."""
        super().__post_init__()
        if not self.methods:
            object.__setattr__(self, "methods", default_methods(self.data))
        if self.pretrained is None:
            object.__setattr__(self, "pretrained", tuple(pretrained.available()) if self.data == "ldr" else ())
        for name in self.pretrained or ():
            if name not in pretrained.available():
                raise ConfigError(f"pretrained: {unknown_name('shipped potential', name, pretrained.available())}")
        if not self.sizes:
            raise ConfigError("sizes: give at least one number of training structures")
        if not self.seeds:
            raise ConfigError("seeds: give at least one")

    def sizes_of(self, name: str) -> tuple[int, ...]:
        """Training-set sizes of a method, ascending."""
        return tuple(sorted(self.methods[name].sizes or self.sizes))
