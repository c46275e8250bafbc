"""The sum of two potentials as one, such as a fitted one and a repulsion of nuclei."""

import dataclasses
from functools import lru_cache

import jax.numpy as jnp
from jaxtyping import Array

from jaxmlip.config import ConfigError
from jaxmlip.graph.batch import Graph
from jaxmlip.potentials.base import Config, Params, Potential
from jaxmlip.potentials.model import Model
from jaxmlip.potentials.registry import Family, potential_of


@dataclasses.dataclass(frozen=True)
class SumConfig(Config):
    """Two potentials for the same species."""

    species: tuple[int | str, ...] = dataclasses.field(init=False)
    """Those of both."""
    cutoff: float = dataclasses.field(init=False)
    """Å; the larger one."""
    first: Config
    """Settings of one."""
    second: Config
    """Settings of the other."""

    def __post_init__(self) -> None:
        """Refuses potentials of different species."""
        first, second = self.first, self.second
        if first.species != second.species:
            raise ConfigError(
                f"a sum needs the same species in the same order: got {first.symbols} and {second.symbols}; build the "
                "second potential for the species of the first"
            )
        object.__setattr__(self, "species", first.species)
        object.__setattr__(self, "cutoff", max(first.cutoff, second.cutoff))

    @property
    def n_hops(self) -> int:
        """Those of the part that sees farther."""
        return max(self.first.n_hops, self.second.n_hops)


@lru_cache
def add(potential: Potential, other: Potential) -> Potential:
    """The sum of two potentials as one: E_i = offsets + E_i(first) + E_i(second).

    Params: ``{"offsets": [n_species], "first": ..., "second": ...}``, the inner ones without offsets of their own;
    `add_models` makes them from two models. A linear potential plus a fixed repulsion: fit the linear one to the
    labels minus the prediction of the fixed one (that keeps its stages), then `add_models`.

    >>> import jaxmlip
    >>> potentials = [jaxmlip.build(name, species=("Li", "O"), cutoff=4.0) for name in ("snap", "zbl")]
    >>> add(*potentials).config.cutoff
    4.0

    Raises:
        ConfigError: the species differ, or stand in another order.
    """
    config = SumConfig(potential.config, other.config)

    def init(key: Array | None, graph: Graph | None = None) -> Params:
        return join_params(potential.init(key, graph), other.init(key, graph))

    def atomic_energies(params: Params, graph: Graph, vectors: Array) -> Array:
        zero = jnp.zeros_like(params["offsets"])
        parts = [
            part.atomic_energies({**params[name], "offsets": zero}, graph, vectors)
            for name, part in (("first", potential), ("second", other))
        ]
        return params["offsets"][graph.species] + parts[0] + parts[1]

    return Potential(config, init, atomic_energies, local=potential.local and other.local)


def add_models(model: Model, other: Model) -> Model:
    """The sum of two models; see `add`. Their offsets add up."""
    return Model(add(model.potential, other.potential), join_params(model.params, other.params))


def join_params(first: Params, second: Params) -> Params:
    """Params of `add` from the params of its two parts."""
    inner = [{name: value for name, value in params.items() if name != "offsets"} for params in (first, second)]
    return {"offsets": first["offsets"] + second["offsets"], "first": inner[0], "second": inner[1]}


def sum_of(config: SumConfig) -> Potential:
    """The potential of ``config``, built from the settings of its parts."""
    return add(potential_of(config.first), potential_of(config.second))


_EXAMPLE = {"family": "zbl", "species": ("Li", "Mn", "O")}
SUM = Family(
    "sum",
    SumConfig,
    sum_of,
    label="sum",
    method=None,
    example={"first": {**_EXAMPLE, "cutoff": 3.2}, "second": {**_EXAMPLE, "cutoff": 2.5}},
)
