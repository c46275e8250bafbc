"""Settings as frozen dataclasses: the TOML file, the CLI flags, the record beside a result and the jit key in one."""

import copy
import dataclasses
import difflib
import json
import math
import tomllib
import types
import typing
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

T = TypeVar("T")


class ConfigError(ValueError):
    """A setting that does not exist, is missing, or has a value of the wrong kind."""


class Range(NamedTuple):
    """Where a hyper-parameter is looked for: ``tunable`` of a settings class names those worth tuning."""

    low: float
    high: float
    log: bool = False
    step: int | None = None
    """Whole numbers in steps of this size; None: real numbers."""


class Bounds(NamedTuple):
    """Which numbers a setting may be, as part of its type: ``Annotated[float, Bounds(0, 1)]``; both ends may be met."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    """``low`` itself is refused."""
    below: bool = False
    """``high`` itself is refused."""

    def __contains__(self, value: Any) -> bool:
        """Whether a number is within; a NaN never is."""
        return (self.low < value or (value == self.low and not self.above)) and (
            value < self.high or (value == self.high and not self.below)
        )

    def __str__(self) -> str:
        """As in messages: ``> 0, ≤ 1``."""
        low = f"{'>' if self.above else '≥'} {self.low:g}" if self.low > -math.inf else ""
        high = f"{'<' if self.below else '≤'} {self.high:g}" if self.high < math.inf else ""
        return ", ".join(filter(None, (low, high)))


Count = Annotated[int, Bounds(1)]
"""A whole number from 1 on."""
Whole = Annotated[int, Bounds(0)]
"""A whole number from 0 on."""
Positive = Annotated[float, Bounds(0, above=True)]
NotNegative = Annotated[float, Bounds(0)]
Share = Annotated[float, Bounds(0, 1, below=True)]
"""A part of something that is not all of it."""


class Settings:
    """Base of dataclasses of settings: values are checked and converted when one is made, as those of a TOML file are.

    NumPy's numbers become Python's, lists become tuples. A `__post_init__` of one's own calls this one first.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Fit(Settings):
    ...     epochs: Count = 200
    ...     schedule: typing.Literal["cosine", "constant"] = "cosine"
    >>> Fit(schedule="Cosine")
    Traceback (most recent call last):
    ...
    jaxmlip.config.ConfigError: schedule: expected one of 'cosine', 'constant', got 'Cosine'; did you mean 'cosine'?
    >>> Fit(epochs=0)
    Traceback (most recent call last):
    ...
    jaxmlip.config.ConfigError: epochs: expected int ≥ 1, got 0
    """

    def __post_init__(self) -> None:
        """Makes each value one of the type of its field.

        Raises:
            ConfigError: a value of the wrong kind, or out of bounds.
        """
        for name, hint in _hints(type(self)).items():
            object.__setattr__(self, name, _convert(hint, getattr(self, name), name))


@lru_cache
def _hints(cls: type) -> dict[str, Any]:
    """The types of the fields of a dataclass, bounds included."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]


def read_toml(path: str | Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        FileNotFoundError: there is no such file.
        ConfigError: it is not valid TOML; the message has the line.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {path}; check the path") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None


def from_mapping(cls: type[T], mapping: Mapping[str, Any], *, where: str = "") -> T:
    """The dataclass ``cls`` built from ``mapping``, nested dataclasses included.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Fit:
    ...     ridge: float = 0.0
    >>> from_mapping(Fit, {"ridge": 1})
    Fit(ridge=1.0)
    >>> from_mapping(Fit, {"rigde": 1}, where="fit.toml")
    Traceback (most recent call last):
    ...
    jaxmlip.config.ConfigError: fit.toml: unknown setting 'rigde'; did you mean 'ridge'? Known: ridge

    Raises:
        ConfigError: an unknown or missing key, or a value of the wrong kind.
    """
    prefix = f"{where}: " if where else ""
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    for key in mapping:
        if key not in fields:
            raise ConfigError(prefix + unknown_name("setting", key, fields))
    values = {key: _convert(_hints(cls)[key], value, f"{prefix}{key}") for key, value in mapping.items()}
    no_default = dataclasses.MISSING
    required = [n for n, f in fields.items() if f.default is no_default and f.default_factory is no_default]
    missing = [name for name in required if name not in values]
    if missing:
        raise ConfigError(f"{prefix}missing setting {', '.join(map(repr, missing))}")
    try:
        return cls(**values)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{prefix}{error}") from error


def to_mapping(config: Any) -> dict[str, Any]:
    """The inverse of `from_mapping`: plain dicts, lists, strings and numbers, ready for JSON (None is kept)."""
    return _plain(dataclasses.asdict(config))


def replaced(config: T, values: Mapping[str, Any]) -> T:
    """A copy of settings with other ``values``, unchecked: for numbers that JAX traces, which no check can compare."""
    new = copy.copy(config)
    vars(new).update(values)
    return new


def toml_text(mapping: Mapping[str, Any]) -> str:
    """Settings as a TOML file: plain values first, then one table each for those that are mappings; no None.

    >>> print(toml_text({"family": "mtp", "fit": {"epochs": 3, "prior": None, "offsets": {"Li": -0.3}}}), end="")
    family = "mtp"
    <BLANKLINE>
    [fit]
    epochs = 3
    offsets = {"Li" = -0.3}
    """
    plain = {key: value for key, value in mapping.items() if not isinstance(value, Mapping)}
    lines = [f"{key} = {_toml_value(value)}" for key, value in plain.items() if value is not None]
    for key, table in mapping.items():
        if isinstance(table, Mapping):
            lines += ["", f"[{key}]"]
            lines += [f"{name} = {_toml_value(value)}" for name, value in table.items() if value is not None]
    return "\n".join(lines) + "\n"


def _toml_value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(key))} = {_toml_value(item)}" for key, item in value.items()) + "}"
    return json.dumps(_plain(value))


def unknown_name(kind: str, name: str, known: typing.Iterable[str]) -> str:
    """A message for a name that does not exist, with the nearest one that does."""
    known = list(known)
    return f"unknown {kind} {name!r}{_hint(name, known) or '.'} Known: {', '.join(known)}"


def _hint(name: Any, known: typing.Iterable[Any]) -> str:
    """The question whether the nearest of the ``known`` names is meant; empty where none is near."""
    folded = {str(one).casefold(): one for one in known}
    near = difflib.get_close_matches(str(name).casefold(), folded, n=1)
    return f"; did you mean {folded[near[0]]!r}?" if near else ""


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value.item() if hasattr(value, "item") else value


def _convert(hint: Any, value: Any, where: str) -> Any:
    """``value`` as the type ``hint``; refuses what would change its meaning."""
    if hasattr(value, "tolist"):  # a number or an array of NumPy
        value = value.tolist()
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _convert_bounded(args, value, where)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(args, value, where)
    if origin is typing.Literal:
        same = [one for one in args if one == value and isinstance(one, bool) == isinstance(value, bool)]
        if same:
            return same[0]
        raise ConfigError(f"{where}: expected one of {', '.join(map(repr, args))}, got {value!r}{_hint(value, args)}")
    if origin is tuple:
        return _convert_tuple(args, value, where)
    if origin in (dict, Mapping) and isinstance(value, Mapping):
        return {key: _convert(args[1], item, f"{where}.{key}") for key, item in value.items()}
    return _convert_plain(hint, value, where)


def _convert_bounded(args: tuple[Any, ...], value: Any, where: str) -> Any:
    converted = _convert(args[0], value, where)
    for bounds in args[1:]:
        if isinstance(bounds, Bounds) and converted not in bounds:
            raise ConfigError(f"{where}: expected {args[0].__name__} {bounds}, got {value!r}")
    return converted


def _convert_tuple(args: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f"{where}: expected a list, such as [{value!r}], got {value!r} ({type(value).__name__})")
    hints = [args[0]] * len(value) if len(args) == 2 and args[1] is Ellipsis else args
    if len(hints) != len(value):
        raise ConfigError(f"{where}: expected {len(hints)} values, got {len(value)}")
    return tuple(_convert(h, v, f"{where}[{i}]") for i, (h, v) in enumerate(zip(hints, value, strict=True)))


def _convert_union(options: tuple[Any, ...], value: Any, where: str) -> Any:
    failures = []
    for option in options:
        try:
            return _convert(option, value, where)
        except ConfigError as error:
            failures.append(str(error).removeprefix(f"{where}: "))
    if value is not None and options[-1] is type(None):  # that None would do helps nobody who gave something
        failures.pop()
    raise ConfigError(f"{where}: " + (failures[0] if value is None else "; or ".join(failures)))


def _convert_plain(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, hint):
            return value
        if isinstance(value, Mapping):
            return from_mapping(hint, value, where=where)
    if hint is Any or (hint is type(None) and value is None):
        return value
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        if math.isfinite(value):
            return float(value)
        raise ConfigError(f"{where}: expected a finite number, got {value!r}")
    if hint is Path and isinstance(value, (str, Path)):
        return Path(value)
    if isinstance(hint, type) and isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    name = getattr(hint, "__name__", str(hint))
    raise ConfigError(f"{where}: expected {name}, got {value!r} ({type(value).__name__})")
