"""Settings by name: the presets of all families, and those of the published study."""

from jaxmlip.config import ConfigError, unknown_name
from jaxmlip.potentials.presets import Preset
from jaxmlip.potentials.registry import FAMILIES
from jaxmlip.study.published import PRESETS


def presets() -> dict[str, Preset]:
    """All presets by name."""
    return {**PRESETS, **{name: one for family in FAMILIES.values() for name, one in family.presets.items()}}


def preset(name: str) -> Preset:
    """The preset of that name.

    >>> preset("study-aenet").potential["angular_cutoff"]
    6.5

    Raises:
        ConfigError: there is none; the message lists them.
    """
    known = presets()
    if name not in known:
        raise ConfigError(unknown_name("preset", name, known))
    return known[name]
