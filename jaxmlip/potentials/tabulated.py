"""Message passing from tables: the radial networks of NequIP or SevenNet as splines of the distance.

What a radial network gives depends on the distance alone. Here it is tabulated once, and energies, forces and stress
follow from the table: forces are the exact derivatives of the tabulated energy.

Params: those of the network, with ``layers/k/radial/table`` [n_intervals + 1, 2, n_radial] in place of the weights of
its radial networks.
"""

import dataclasses
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmlip.config import ConfigError, Count
from jaxmlip.graph.batch import Graph
from jaxmlip.potentials.base import Config, Params, Potential, cast_params, factory
from jaxmlip.potentials.message_passing.convolution import TABLE, EdgeBasis, radial_network
from jaxmlip.potentials.message_passing.irreps import Layer
from jaxmlip.potentials.model import Model, as_model
from jaxmlip.potentials.registry import Family, label_of, potential_of

_NEAREST = 1e-4  # Å; the first knot, as the Bessel functions divide by the distance

_FEWEST = 100  # intervals; their errors of forces are a thousand times those of 1,000


class MessagePassing(Protocol):
    """Settings of a family whose radial networks can be tabulated."""

    @property
    def edge_basis(self) -> EdgeBasis:
        """What pairs are described by."""
        ...

    @property
    def layers(self) -> tuple[Layer, ...]:
        """One radial network each, of the weights ``params["layers"][k]["radial"]``."""
        ...

    def wave_numbers(self, params: Params) -> Float[Array, " n_bessel"] | None:
        """Of the Bessel functions in multiples of π/r_c; None: 1, 2, …."""
        ...


@dataclasses.dataclass(frozen=True)
class TabulatedConfig(Config):
    """A network of message passing and its tables."""

    species: tuple[int | str, ...] = dataclasses.field(init=False)
    """Those of the network."""
    cutoff: float = dataclasses.field(init=False)
    """Å; that of the network."""
    network: Config
    """Settings of the network."""
    n_intervals: Count = 1000
    """Intervals of the tables between 0 and the cutoff; errors of forces fall with their third power."""

    def __post_init__(self) -> None:
        """Refuses a family without radial networks, and tables that are too coarse."""
        network: Any = self.network
        if isinstance(network, TabulatedConfig):
            raise ConfigError("the radial networks of this model are tables already: tabulate the network itself")
        if not hasattr(network, "edge_basis") or not hasattr(network, "wave_numbers"):
            raise ConfigError(
                f"only radial networks of message passing (NequIP, SevenNet) are tabulated, not {label_of(network)}: "
                "use the model as it is"
            )
        object.__setattr__(self, "species", network.species)
        object.__setattr__(self, "cutoff", network.cutoff)
        super().__post_init__()
        if self.n_intervals < _FEWEST:
            raise ConfigError(
                f"n_intervals: at least {_FEWEST}, got {self.n_intervals}: with fewer the tables give wrong forces"
            )

    @property
    def n_hops(self) -> int:
        """Those of the network."""
        return self.network.n_hops


@factory
def tabulated_of(config: TabulatedConfig) -> Potential:
    """The potential of ``config``: that of the network, which finds tables among its params."""
    network = potential_of(config.network)

    def init(key: Array | None, graph: Graph | None = None) -> Params:
        return _with_tables(config, network.init(key, graph))

    every = tuple(jax.eval_shape(lambda: network.init(None, None)))
    return network._replace(config=config, init=init, fixed=every)


def tabulated(model: Any, *, n_intervals: int | None = None) -> Model:
    """The model with its radial networks as tables: faster energies, forces and stress, in dynamics above all.

    It predicts, relaxes, moves and is saved like any other model, but is not trained: fit the network and tabulate
    again. Of SevenNet-0 tables are 60 MB as a file: save the network, and tabulate what is loaded. On rocksalts they
    change its energies by 4e-11 eV/atom and its forces by 1.3e-7 eV/Å, where float32 rounds 4e-7 and 8e-6; float64
    shows the difference, so nothing is tabulated unless asked for.

    >>> import jaxmlip
    >>> potential = jaxmlip.build("nequip", species=("Li", "O"), cutoff=3.0, num_layers=1, num_features=2)
    >>> fast = tabulated(Model(potential, potential.init(None, None)))
    >>> fast.potential.config.n_intervals
    1000

    Args:
        model: of NequIP or SevenNet, or its file.
        n_intervals: of the tables between 0 and the cutoff; by default 1,000, or a few more where the envelope of
            SevenNet begins to fall within an interval of those, as it has a kink there.

    Raises:
        ConfigError: a family without radial networks, or too few intervals.
    """
    network = as_model(model)
    config = TabulatedConfig(network.potential.config)
    n = _n_intervals(config) if n_intervals is None else n_intervals
    config = dataclasses.replace(config, n_intervals=n)
    with jax.enable_x64(True):
        params = _with_tables(config, cast_params(network.params, "float64"))
    return Model(potential_of(config), jax.tree.map(np.asarray, params))


def _n_intervals(config: TabulatedConfig) -> int:
    """From 1,000 the first number that puts the begin of the envelope on a knot, as nearly as any below 1,100 does."""
    basis = config.network.edge_basis  # pyright: ignore[reportAttributeAccessIssue]
    if basis.cutoff_on is None:
        return config.n_intervals
    begin = basis.cutoff_on / basis.cutoff
    candidates = range(config.n_intervals, config.n_intervals + 100)
    return min(candidates, key=lambda n: round(abs(n * begin - round(n * begin)), 6))


def _with_tables(config: TabulatedConfig, params: Params) -> Params:
    """The params of the network with tables."""
    network: Any = config.network
    basis, wave_numbers, n = network.edge_basis, network.wave_numbers(params), config.n_intervals
    layers = dict(params["layers"])
    for name, weights in layers.items():

        def radial(r: Array, weights: Any = weights["radial"]) -> Array:
            return radial_network(basis, weights, wave_numbers, r)

        r = jnp.linspace(0, basis.cutoff, n + 1).at[0].set(_NEAREST)
        values, slopes = jax.jvp(radial, (r,), (jnp.full_like(r, basis.cutoff / n),))
        table = jnp.stack([values, slopes], axis=1).at[-1].set(0)  # zero but for rounding
        layers[name] = {**weights, "radial": {TABLE: table}}
    return {**params, "layers": layers}


_EXAMPLE = {"family": "nequip", "species": ("Li", "Mn", "O"), "cutoff": 3.2, "num_layers": 1, "num_features": 2}
TABULATED = Family(
    "tabulated", TabulatedConfig, tabulated_of, label="tabulated", method=None, example={"network": _EXAMPLE}
)
