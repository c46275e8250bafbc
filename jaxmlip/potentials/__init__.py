"""The families of potentials, each a factory from its settings to pure functions."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import ase

from jaxmlip.config import ConfigError, from_mapping, unknown_name
from jaxmlip.potentials.aenet import AENETConfig, aenet
from jaxmlip.potentials.base import Config, Model, Params, Potential, Prediction, predict
from jaxmlip.potentials.gap import GAPConfig, gap
from jaxmlip.potentials.mtp import MTPConfig, mtp, suggest
from jaxmlip.potentials.nequip import NequIPConfig, nequip
from jaxmlip.potentials.offsets import SumConfig, ZBLConfig
from jaxmlip.potentials.sevennet import SevenNetConfig, sevennet
from jaxmlip.potentials.snap import QSNAPConfig, SNAPConfig, snap


class Family(NamedTuple):
    """A kind of potential: its settings, the factory that takes them, and how it is fitted unless told otherwise."""

    config: type[Config]
    build: Callable[[Any], Potential]
    method: str = "gradient"  # a name in `jaxmlip.fitting.METHODS`
    suggest: Callable[[Sequence[ase.Atoms]], dict[str, Any]] | None = None  # settings that depend on the data


FAMILIES: dict[str, Family] = {
    "mtp": Family(MTPConfig, mtp, "gauss-newton", suggest),
    "snap": Family(SNAPConfig, snap, "linear"),
    "qsnap": Family(QSNAPConfig, snap, "linear"),
    "aenet": Family(AENETConfig, aenet),
    "nequip": Family(NequIPConfig, nequip),
    "sevennet": Family(SevenNetConfig, sevennet),
    "gap": Family(GAPConfig, gap, "gaussian-process"),
}


def build(family: str, **settings: Any) -> Potential:
    """The potential of a family's name with its settings.

    >>> build("snap", species=("Li", "O"), cutoff=5.0, twojmax=6).config.symbols
    ('Li', 'O')

    Raises:
        ConfigError: no such family or setting, or a setting of the wrong kind.
    """
    if family not in FAMILIES:
        raise ConfigError(unknown_name("family", family, FAMILIES))
    kind = FAMILIES[family]
    return kind.build(from_mapping(kind.config, settings, where=family))


def suggested(family: str, settings: Mapping[str, Any], atoms: Sequence[ase.Atoms]) -> dict[str, Any]:
    """``settings`` completed from training data where they leave something open: R_min of MTP.

    >>> suggested("mtp", {"level": 8}, [ase.Atoms("LiO", [[0, 0, 0], [0, 0, 1.9]])])
    {'level': 8, 'min_dist': 1.9}
    """
    suggest = FAMILIES[family].suggest
    found = {} if suggest is None else suggest(atoms)
    return {**settings, **{name: value for name, value in found.items() if settings.get(name) is None}}


def family_of(config: Config) -> str:
    """The name in `FAMILIES` of the family that ``config`` belongs to; of a sum both names.

    >>> from jaxmlip.potentials.offsets import add, zbl
    >>> family_of(add(build("snap", species=("Mo",), cutoff=4.0), zbl(ZBLConfig(("Mo",), 2.0))).config)
    'snap+zbl'
    """
    if isinstance(config, SumConfig):
        return f"{family_of(config.first)}+{family_of(config.second)}"
    return {ZBLConfig: "zbl", **{family.config: name for name, family in FAMILIES.items()}}[type(config)]


__all__ = [
    "FAMILIES",
    "Config",
    "Family",
    "Model",
    "Params",
    "Potential",
    "Prediction",
    "build",
    "family_of",
    "predict",
    "suggested",
]
