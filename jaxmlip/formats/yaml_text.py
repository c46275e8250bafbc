"""YAML of other programs, as plain data: no objects are made of it, and nothing in it can refer to itself."""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

_Safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # of C where there is libyaml
LARGEST = 300_000_000  # bytes


class _Loader(_Safe):
    """Mappings may have lists as keys, which become tuples; numbers such as 1e-05 are numbers."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in some if not (tag.endswith("bool") and first in "yYnNoO")]
        for first, some in _Safe.yaml_implicit_resolvers.items()
    }  # nobelium is no "no"


def _mapping(loader: Any, node: yaml.MappingNode) -> dict[Hashable, Any]:
    found: dict[Hashable, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        key = tuple(key) if isinstance(key, list) and all(isinstance(k, int) for k in key) else key
        if isinstance(key, (list, dict)) or key in found:
            raise yaml.YAMLError(f"the key {key!r}{key_node.start_mark} stands twice, or is no name or list of numbers")
        found[key] = loader.construct_object(value_node, deep=True)
    return found


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBER, list("-+0123456789."))


def read_yaml(path: str | Path) -> dict[Hashable, Any]:
    """The mapping that a file is.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no valid YAML, one that refers to parts of itself or to objects, no mapping, or too large a file.
    """
    path = Path(path)
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path} has more than {LARGEST / 1e6:.0f} MB: not a potential")
    try:
        text = path.read_text(encoding="utf-8")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=_Safe)):
            raise ValueError(
                f"{path} has aliases (*name), which potentials do not have: it may be made to fill the memory"
            )
        content = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{path} is not valid YAML of plain data: {error}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} must be a mapping of names to values, got {type(content).__name__}")
    return content
