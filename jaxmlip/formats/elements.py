"""Cutting a model of many elements down to some of them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from ase.data import chemical_symbols

from jaxmlip.config import ConfigError, unknown_name
from jaxmlip.potentials.base import Config


def chosen_species(config: Config, species: Sequence[int | str], **changes: Any) -> tuple[Any, list[int]]:
    """The settings for ``species`` in this order (with other ``changes``), and which of the old elements those are.

    Raises:
        ConfigError: an element that the model does not have.
    """
    chosen = dataclasses.replace(config, species=tuple(species), **changes)
    missing = [z for z in chosen.species if z not in config.species]
    if missing:
        raise ConfigError(unknown_name("element", chemical_symbols[int(missing[0])], config.symbols))
    return chosen, [config.species.index(z) for z in chosen.species]
