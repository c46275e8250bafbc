"""The families of potentials, each a factory from its settings to pure functions."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxmlip.config import ConfigError, from_mapping, unknown_name
from jaxmlip.potentials.base import Config, Model, Params, Potential, Prediction, predict
from jaxmlip.potentials.mtp import MTPConfig, mtp
from jaxmlip.potentials.snap import QSNAPConfig, SNAPConfig, snap


class Family(NamedTuple):
    """A kind of potential: its settings and the factory that takes them."""

    config: type[Config]
    build: Callable[[Any], Potential]


FAMILIES: dict[str, Family] = {
    "mtp": Family(MTPConfig, mtp),
    "snap": Family(SNAPConfig, snap),
    "qsnap": Family(QSNAPConfig, snap),
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


def family_of(config: Config) -> str:
    """The name in `FAMILIES` of the family that ``config`` belongs to."""
    return next(name for name, family in FAMILIES.items() if family.config is type(config))


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
]
