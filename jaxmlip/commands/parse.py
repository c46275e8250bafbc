"""From words and a TOML file to a frozen dataclass; flags win over the file."""

import ast
import dataclasses
import inspect
import textwrap
import typing
from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Annotated, Any, TypeVar

import tyro

from jaxmlip.config import ConfigError, from_mapping, read_toml

T = TypeVar("T")


def take_config(words: Sequence[str], *, positional: bool = False) -> tuple[dict[str, Any], str, list[str]]:
    """The TOML file named by ``--config`` as a dict, its name, and the other words.

    With ``positional`` a first word that ends in ``.toml`` is such a file as well.

    >>> take_config(["train.xyz", "--seed", "1"])
    ({}, '', ['train.xyz', '--seed', '1'])

    Raises:
        ConfigError: ``--config`` without a file, twice, or the file is not TOML.
        FileNotFoundError: no such file.
    """
    rest, files = [], []
    remaining = iter(words)
    for position, word in enumerate(remaining):
        name, equals, value = word.partition("=")
        if name == "--config":
            files.append(value if equals else next(remaining, ""))
        elif positional and position == 0 and word.endswith(".toml"):
            files.append(word)
        else:
            rest.append(word)
    if not files:
        return {}, "", rest
    if len(files) > 1 or not files[0]:
        raise ConfigError(f"--config takes one TOML file, got {', '.join(filter(None, files)) or 'none'}")
    return read_toml(files[0]), files[0], rest


def take_word(words: Sequence[str], flag: str, default: str | None = None) -> tuple[str | None, list[str]]:
    """The value of a flag that decides which other flags there are, and the other words.

    >>> take_word(["fit", "--preset", "x", "data"], "--preset")
    ('x', ['fit', 'data'])
    """
    rest, remaining = [], iter(words)
    for word in remaining:
        name, equals, value = word.partition("=")
        if name == flag:
            default = value if equals else next(remaining, "")
        else:
            rest.append(word)
    return default, rest


def parse(
    cls: type[T], words: Sequence[str], *, prog: str, mapping: Mapping[str, Any] | None = None, where: str = ""
) -> T:
    """``cls`` from a TOML file's ``mapping`` (named ``where`` in messages), then from flags.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Job:
    ...     seed: int = 0
    >>> parse(Job, ["--seed", "2"], prog="job", mapping={"seed": 1})
    Job(seed=2)

    Raises:
        ConfigError: a setting of the file that does not exist or has the wrong kind.
        SystemExit: help was asked for, or a flag is wrong; tyro has printed why.
    """
    default = from_mapping(cls, mapping or {}, where=where)
    return tyro.cli(cls, args=list(words), prog=prog, default=default, description=inspect.getdoc(cls))


def flags_class(
    config: type,
    *,
    name: str,
    defaults: Mapping[str, Any] = MappingProxyType({}),
    base: type | None = None,
    without: Sequence[str] = (),
) -> type:
    """A frozen dataclass with the fields of ``config`` and nothing of its checks, all with a default.

    They come after those of ``base``, which also tells what the command does; ``without`` leaves some out.

    The program needs to show and parse settings before the data tells what is missing (the species), so the real
    settings are built from these later. A default of ``config`` itself wins over one in ``defaults``.
    """
    hints, texts = typing.get_type_hints(config), field_texts(config)
    fields = []
    for field in (field for field in dataclasses.fields(config) if field.name not in without):
        value = defaults.get(field.name, field.default) if field.default is dataclasses.MISSING else field.default
        if value is dataclasses.MISSING:
            raise TypeError(f"{config.__name__}.{field.name} has no default; name one in defaults=")
        hint = Annotated[hints[field.name], tyro.conf.arg(help=texts.get(field.name, ""))]
        fields.append((field.name, hint, dataclasses.field(default=value)))
    made = dataclasses.make_dataclass(name, fields, bases=() if base is None else (base,), frozen=True)
    text = (inspect.getdoc(config) or name).split("\n\n")[0].replace("``", "")
    made.__doc__ = text if base is None else inspect.getdoc(base)
    return made


def settings_of(config: type[T], job: Any, **changes: Any) -> T:
    """The settings among the flags of ``job``, whose class `flags_class` made.

    >>> from jaxmlip.data.options import ReadOptions
    >>> flags = flags_class(ReadOptions, name="Flags")
    >>> settings_of(ReadOptions, flags(), species=("Li", "O")).species
    ('Li', 'O')
    """
    return config(**{field.name: getattr(job, field.name) for field in dataclasses.fields(config)} | changes)  # type: ignore[arg-type]


def field_texts(config: type) -> dict[str, str]:
    """The string under each field of a dataclass and its bases: what the help says of it."""
    texts: dict[str, str] = {}
    for cls in reversed(config.__mro__):
        if not dataclasses.is_dataclass(cls):
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
        for item, following in pairwise(getattr(definition, "body", [])):
            match item, following:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    texts[name] = inspect.cleandoc(text).replace("``", "")
    return texts
