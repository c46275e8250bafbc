"""Parameter groups: a model some of whose parameters keep their values while the others are trained.

Fine-tuning a large network on few structures rarely needs all of its weights. Names are those of the model's file, as
``layers/3/radial/W0``; patterns are those of a shell, as ``layers/*/radial/*``.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

from jaxtyping import Array

from jaxmlip.config import ConfigError
from jaxmlip.graph.batch import Graph
from jaxmlip.potentials.base import Params, Potential
from jaxmlip.potentials.model import Model

_SEPARATOR = "/"


def frozen(model: Model, patterns: Sequence[str]) -> Model:
    """``model`` with the same energies and its parameters in two groups: ``trained``, and ``frozen``, which stay.

    >>> import jaxmlip
    >>> potential = jaxmlip.build("mtp", species=("Mo",), cutoff=4.0, level=4)
    >>> parts = frozen(Model(potential, potential.init(None, None)), ["radial*"])
    >>> sorted(parts.params["frozen"]), parts.potential.fixed
    (['radial'], ('frozen',))

    Raises:
        ConfigError: a pattern that no parameter matches, or nothing is left to train.
    """
    flat = flattened(model.params)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in flat):
            raise ConfigError(f"frozen: no parameter is called {pattern!r}; there are {', '.join(_short(flat))}")
    kept = {name for name in flat if any(fnmatchcase(name, pattern) for pattern in patterns)}
    kept |= {name for name in flat if name.split(_SEPARATOR)[0] in model.potential.fixed}
    if set(flat) == kept:
        raise ConfigError(f"frozen: {', '.join(patterns)} leave nothing to train")
    groups = {
        "offsets": model.params["offsets"],
        "trained": {name: flat[name] for name in flat if name not in kept and name != "offsets"},
        "frozen": {name: flat[name] for name in flat if name in kept and name != "offsets"},
    }
    return Model(_in_groups(model.potential, "offsets" in kept), groups)


def thawed(potential: Potential, params: Params) -> Model:
    """The inverse of `frozen`: a model of ``potential`` from params in groups."""
    return Model(potential, _nested(params))


def flattened(params: Params, prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one, the keys joined by slashes."""
    if not isinstance(params, Mapping):
        return {prefix: params}
    parts = [flattened(part, f"{prefix}{_SEPARATOR}{name}".strip(_SEPARATOR)) for name, part in params.items()]
    return {name: leaf for part in parts for name, leaf in part.items()}


@lru_cache
def _in_groups(potential: Potential, with_offsets: bool) -> Potential:
    def init(key: Array | None, graph: Graph | None = None) -> Params:
        raise TypeError("a potential in groups has no initial parameters of its own: it comes from a model")

    def atomic_energies(params: Params, graph: Graph, vectors: Array) -> Array:
        return potential.atomic_energies(_nested(params), graph, vectors)

    fixed = ("frozen", "offsets") if with_offsets else ("frozen",)
    return Potential(potential.config, init, atomic_energies, fixed=fixed, local=potential.local)


def _nested(params: Params) -> Params:
    found: dict[str, Any] = {"offsets": params["offsets"]}
    for name, leaf in {**params["trained"], **params["frozen"]}.items():
        *path, last = name.split(_SEPARATOR)
        place = found
        for part in path:
            place = place.setdefault(part, {})
        place[last] = leaf
    return found


def _short(names: Mapping[str, Any]) -> list[str]:
    """The first parts of names, and how many there are of each."""
    first = [name.split(_SEPARATOR)[0] for name in names]
    return [f"{name}/… ({first.count(name)})" if first.count(name) > 1 else name for name in dict.fromkeys(first)]
