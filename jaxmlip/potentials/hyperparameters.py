"""Continuous settings of a potential among its params: derivatives by a cutoff, a width, the weights of elements.

`jax.grad` by the params, and all that is built on it, then gives derivatives by these settings too: of energies and
errors (`jaxmlip.predict`), of voltages and of properties of relaxed structures (`jaxmlip.cathodes.sensitivity`).
"""

import dataclasses
from functools import lru_cache
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxmlip.config import ConfigError, replaced, unknown_name
from jaxmlip.graph.batch import Graph
from jaxmlip.potentials.base import Config, Params, Potential
from jaxmlip.potentials.model import Model
from jaxmlip.potentials.registry import potential_of

KEY = "settings"
"""Where the settings stand among the params: ``params["settings"]["cutoff"]``."""


def settings_as_params(model: Model, *names: str) -> Model:
    """The same model with the settings ``names`` in ``params["settings"]``: a number each, or one an element.

    Derivatives are at fixed other params: of a trained potential as it is. Since a fit's objective is a minimum of
    the trained params, that is also the derivative of its least value after a new fit. Training leaves the settings
    alone. Atoms see no neighbours beyond the cutoff that the potential was built for: a larger one gives NaN.

    Not covered: whole numbers (``twojmax``), settings that are None (give a number when building), sums of potentials,
    NequIP beyond 512 atoms; GAP's radial basis needs float64, and its sparse points stay what they are.

    >>> import ase, jax, jaxmlip
    >>> potential = jaxmlip.build("aenet", species=("Li", "O"), cutoff=5.0)
    >>> model = settings_as_params(Model(potential, potential.init(jax.random.key(0), None)), "cutoff")
    >>> graph = jaxmlip.batch(ase.Atoms("LiO", [[0, 0, 0], [0, 0, 1.9]]), potential.config)
    >>> slope = jax.grad(lambda model: jaxmlip.predict(model, graph).energy[0])(model)
    >>> slope.params["settings"]["cutoff"].shape  # dE/d(cutoff) in eV/Å
    ()

    Raises:
        ConfigError: no such setting, or one without a continuous value.
    """
    values = {name: jnp.asarray(_continuous(model.potential.config, name)) for name in names}
    return Model(_opened(model.potential, names), {**model.params, KEY: values})


def params_as_settings(model: Model) -> Model:
    """The inverse: a potential built for the settings that its params hold. `jaxmlip.save` does this by itself.

    Raises:
        ConfigError: values that the family refuses.
    """
    if KEY not in model.params:
        return model
    params = {name: value for name, value in model.params.items() if name != KEY}
    values = {name: np.asarray(value, float).tolist() for name, value in model.params[KEY].items()}
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return Model(potential_of(dataclasses.replace(model.potential.config, **values)), params)


def with_settings(model: Model) -> Model:
    """The model with the potential that the settings among its params need, if there are any."""
    names = tuple(model.params.get(KEY, ()))
    return Model(_opened(model.potential, names), model.params) if names else model


@lru_cache
def _opened(potential: Potential, names: tuple[str, ...]) -> Potential:
    config = potential.config

    def init(key: Array | None, graph: Graph | None = None) -> Params:
        values = {name: jnp.asarray(_continuous(config, name)) for name in names}
        return {**potential.init(key, graph), KEY: values}

    def atomic_energies(params: Params, graph: Graph, vectors: Array) -> Array:
        values = {name: jnp.asarray(params[KEY][name], vectors.dtype) for name in names}
        rest = {name: value for name, value in params.items() if name != KEY}
        energies = potential_of(replaced(config, values)).atomic_energies(rest, graph, vectors)
        cutoffs = [values[name] for name in names if name in config.cutoffs]
        seen = jnp.max(jnp.stack([jnp.zeros_like(energies[0]), *cutoffs])) <= config.cutoff
        return jnp.where(seen, energies, jnp.nan)

    fixed = (*potential.fixed, KEY)
    return Potential(config, init, atomic_energies, local=potential.local, fixed=fixed)


def _continuous(config: Config, name: str) -> Any:
    """The value of a setting that is a number, or numbers of elements."""
    known = [field for field, kind in get_type_hints(type(config)).items() if _holds_float(kind)]
    if name not in known:
        raise ConfigError(unknown_name("continuous setting", name, known))
    value = getattr(config, name)
    if value is None:
        raise ConfigError(f"{name} is None, which has no derivative: build the potential with a number for it")
    return np.asarray(value, float)


def _holds_float(hint: Any) -> bool:
    """Whether a field of this type is a number, or has numbers."""
    return hint is float or (get_origin(hint) is not ClassVar and any(map(_holds_float, get_args(hint))))
