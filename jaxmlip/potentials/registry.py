"""The one table of families: what the rest of the package knows of them, open to families of other packages.

A package adds a family by an entry point in its ``pyproject.toml``, which names a `Family` of one of its modules,

    [project.entry-points."jaxmlip.families"]
    pairs = "my_package.pairs:PAIRS"

or by `register` while a program runs. Then `jaxmlip.build`, `fit`, `save` and `load`, the command line, studies, tuning
and the conformance checks know it.
"""

import dataclasses
import pkgutil
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any, NamedTuple

import ase

from jaxmlip.config import ConfigError, from_mapping, to_mapping, unknown_name
from jaxmlip.potentials.base import Config, Potential, factory
from jaxmlip.potentials.presets import Preset

GROUP = "jaxmlip.families"
_BUILT_IN = {
    "mtp": "jaxmlip.potentials.mtp:MTP",
    "snap": "jaxmlip.potentials.snap:SNAP",
    "qsnap": "jaxmlip.potentials.snap:QSNAP",
    "aenet": "jaxmlip.potentials.aenet:AENET",
    "nequip": "jaxmlip.potentials.nequip:NEQUIP",
    "sevennet": "jaxmlip.potentials.sevennet:SEVENNET",
    "gap": "jaxmlip.potentials.gap:GAP",
    "ace": "jaxmlip.potentials.ace:ACE",
    "zbl": "jaxmlip.potentials.zbl:ZBL",
    "sum": "jaxmlip.potentials.sums:SUM",
    "tabulated": "jaxmlip.potentials.tabulated:TABULATED",
}
_NONE: Mapping[str, Any] = MappingProxyType({})


class Format(NamedTuple):
    """A model file of another program: functions as ``module:name``, which are imported when they are needed."""

    read: str = ""  # (path, species=None) -> Model; empty: cannot be read
    write: str = ""  # (model, path); empty: cannot be written
    accepts: str = ""  # (path) -> whether it is such a file, where families share a suffix; empty: all others are


class Family(NamedTuple):
    """A kind of potential; name, config and build are required.

    >>> FAMILIES["snap"].label, FAMILIES["snap"].method
    ('SNAP', 'linear')
    """

    name: str
    config: type[Config]
    build: Callable[[Any], Potential]  # settings -> potential
    label: str = ""  # as it is written in figures and tables; empty: the name
    color: str = ""  # of figures
    method: str | None = ""  # of fitting, in `FIT_METHODS`; empty: by its stages; None: has nothing to fit
    suggest: Callable[[Sequence[ase.Atoms]], dict[str, Any]] | None = None  # settings that depend on the data
    presets: Mapping[str, Preset] = _NONE
    example: Mapping[str, Any] = _NONE  # settings of a small potential of Li, Mn and O, for tests and benchmarks
    formats: Mapping[str, Format] = _NONE  # by suffix of the file, or name of a model; "/" is a folder
    # Settings -> names of parameters in which the energy is linear, as those of a network's last layer: derivatives by
    # them are the features of extrapolation grades. None: all that are trained.
    features: Callable[[Any], tuple[str, ...]] | None = None


class _Table(Mapping[str, Family]):
    """Families by name. One is imported when it is asked for; installed packages are asked for names unknown."""

    def __init__(self) -> None:
        self._found: dict[str, Family | str] = dict(_BUILT_IN)

    def __getitem__(self, name: str) -> Family:
        if name not in self._found:
            self._scan()
        found = self._found[name]
        if isinstance(found, str):
            found = self.add(pkgutil.resolve_name(found), name)
        return found

    def __iter__(self) -> Iterator[str]:
        self._scan()
        return iter(tuple(self._found))

    def __len__(self) -> int:
        return len(tuple(iter(self)))

    def add(self, family: Family, name: str) -> Family:
        if not isinstance(family, Family) or family.name != name:
            raise ConfigError(f"the family {name!r} must be a jaxmlip.potentials.Family of that name, got {family!r}")
        self._found[name] = cached = family._replace(build=factory(family.build))
        return cached

    def _scan(self) -> None:
        for entry in entry_points(group=GROUP):
            self._found.setdefault(entry.name, entry.value)


FAMILIES = _Table()
"""All families by name: those of this package and those of others."""


def register(family: Family) -> None:
    """Make a family known while the program runs; an installed package uses an entry point.

    Not run here, it would stay for the whole session:

    >>> register(Family("pairs", PairsConfig, pairs))  # doctest: +SKIP

    Raises:
        ConfigError: there is another family of that name.
    """
    if family.name in FAMILIES and FAMILIES[family.name].config is not family.config:
        raise ConfigError(f"there is a family {family.name!r} already: give another name")
    FAMILIES.add(family, family.name)


def trainable() -> list[str]:
    """Names of the families that a fit can be asked for.

    >>> "snap" in trainable(), "zbl" in trainable()
    (True, False)
    """
    return [name for name, family in FAMILIES.items() if family.method is not None]


def named(family: str) -> Family:
    """The family of a name.

    Raises:
        ConfigError: there is none.
    """
    if not isinstance(family, str) or family not in FAMILIES:
        raise ConfigError(f"{unknown_name('family', str(family), FAMILIES)}; as in jaxmlip.build('snap', species=…)")
    return FAMILIES[family]


def family_of(config: Config) -> Family:
    """The family that settings belong to.

    >>> family_of(build("snap", species=("Mo",), cutoff=4.0).config).label
    'SNAP'

    Raises:
        ConfigError: none.
    """
    for family in FAMILIES.values():
        if family.config is type(config):
            return family
    raise ConfigError(
        f"{type(config).__name__} belongs to no family: give it a name with jaxmlip.potentials.register(Family(…))"
    )


def label_of(config: Config) -> str:
    """How the family of ``config`` is written; of a sum all its parts, of what another is made of both.

    >>> label_of(build("snap", species=("Mo",), cutoff=4.0).config)
    'SNAP'
    """
    parts = [label_of(part) for part in vars(config).values() if isinstance(part, Config)]
    known = [family for family in FAMILIES.values() if family.config is type(config)]
    own = (known[0].label or known[0].name) if known else type(config).__name__
    return " + ".join(parts) if len(parts) > 1 else " ".join([own, *parts])


def potential_of(config: Config) -> Potential:
    """The potential of any settings; equal settings give the same object.

    Raises:
        ConfigError: the settings belong to no family.
    """
    return family_of(config).build(config)


def build(family: str | None = None, **settings: Any) -> Potential:
    """The potential of a family's name with its settings.

    >>> build("snap", species=("Li", "O"), cutoff=5.0, twojmax=6).config.symbols
    ('Li', 'O')

    Raises:
        ConfigError: no such family or setting, or a setting of the wrong kind.
    """
    if family is None:
        raise ConfigError(f"build needs a family ({', '.join(FAMILIES)}), as in jaxmlip.build('snap', species=…)")
    kind = named(family)
    if isinstance(settings.get("species"), str):
        settings["species"] = (settings["species"],)
    return kind.build(from_mapping(kind.config, settings, where=kind.name))


def suggested(family: str, settings: Mapping[str, Any], atoms: Sequence[ase.Atoms]) -> dict[str, Any]:
    """``settings`` completed from training data where they leave something open: R_min of MTP.

    >>> suggested("mtp", {"level": 8}, [ase.Atoms("LiO", [[0, 0, 0], [0, 0, 1.9]])])
    {'level': 8, 'min_dist': 1.9}
    """
    suggest = FAMILIES[family].suggest
    found = {} if suggest is None else suggest(atoms)
    return {**settings, **{name: value for name, value in found.items() if settings.get(name) is None}}


def config_to_mapping(config: Config) -> dict[str, Any]:
    """Family and settings of any potential, sums included, as plain values for JSON."""
    given = {field.name for field in dataclasses.fields(config) if field.init}
    plain = {name: value for name, value in to_mapping(config).items() if name in given}
    parts = {name: config_to_mapping(value) for name, value in vars(config).items() if isinstance(value, Config)}
    return {"family": family_of(config).name, **plain, **parts}


def config_from_mapping(mapping: Mapping[str, Any]) -> Config:
    """The inverse of `config_to_mapping`.

    Raises:
        ConfigError: an unknown family or setting.
    """
    settings = dict(mapping)
    kind = named(settings.pop("family", ""))
    for name, hint in typing.get_type_hints(kind.config).items():
        if hint is Config and isinstance(settings.get(name), Mapping):
            settings[name] = config_from_mapping(settings[name])
    return from_mapping(kind.config, settings, where=kind.name)
