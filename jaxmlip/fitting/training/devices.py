"""Data parallel training: structures are split over all devices of all processes, sums come back to each of them.

Parameters, optimiser and data are on every device; a device evaluates its rows of a minibatch, and `summed` adds up
what they found. With one device all of this is the plain computation. The sum over devices has another order of
additions than one device has, so numbers agree to rounding.

Several processes (`jax.distributed.initialize`, see ``scripts/train.py``) run the same program on the same files; the
first of them writes.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Int

_AXIS = "structures"


@lru_cache
def _mesh(devices: tuple[Any, ...]) -> Mesh:
    return Mesh(np.asarray(devices), (_AXIS,))


def mesh() -> Mesh:
    """All devices of all processes; the one of `jax.default_device` where that is set."""
    chosen = jax.config.values["jax_default_device"]
    if isinstance(chosen, jax.Device):
        return _mesh((chosen,))
    return _mesh(tuple(jax.devices(chosen)))


def n_devices() -> int:
    """How many devices share the work."""
    return mesh().size


def is_first_process() -> bool:
    """Whether this process is the one that writes files."""
    return jax.process_index() == 0


def replicated(tree: Any) -> Any:
    """Arrays that every device holds whole."""
    if n_devices() == 1:
        return jax.device_put(tree)
    return jax.tree.map(partial(jax.device_put, device=NamedSharding(mesh(), PartitionSpec())), _on_host(tree))


def spread(rows: Int[np.ndarray, "n_devices *rows"]) -> Int[jax.Array, "n_devices *rows"]:
    """Numbers of structures ``[n_devices, ...]`` (see `shares`), each row on its own device."""
    if n_devices() == 1:
        return jax.device_put(rows)
    sharding = NamedSharding(mesh(), PartitionSpec(_AXIS))
    return jax.make_array_from_callback(rows.shape, sharding, lambda index: rows[index])


def shares(rows: Int[np.ndarray, "*rows n"]) -> Int[np.ndarray, "n_devices *rows _"]:
    """``rows [..., n]`` dealt out to all devices, ``[n_devices, ..., ⌈n / n_devices⌉]``, filled up with −1.

    >>> shares(np.array([3, 1, 2])).shape == (n_devices(), -(-3 // n_devices()))
    True
    """
    n, each = rows.shape[-1], -(-rows.shape[-1] // n_devices())
    padded = np.full((*rows.shape[:-1], n_devices() * each), -1)
    padded[..., :n] = rows
    return np.moveaxis(padded.reshape(*rows.shape[:-1], n_devices(), each), -2, 0)


def summed(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function(rows, *replicated)``, a pytree of sums over structures, summed over all devices' rows of `spread`."""

    def on_all(rows: jax.Array, *rest: Any) -> Any:
        if rows.shape[0] == 1:
            return function(rows[0], *rest)

        def on_one(mine: jax.Array, *rest: Any) -> Any:
            return jax.lax.psum(function(mine[0], *rest), _AXIS)

        places = (PartitionSpec(_AXIS), *[PartitionSpec()] * len(rest))
        return jax.shard_map(on_one, mesh=mesh(), in_specs=places, out_specs=PartitionSpec(), check_vma=False)(
            rows, *rest
        )

    return on_all


def any_process(flag: bool) -> bool:
    """Whether ``flag`` is true in any process; all of them must ask."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental.multihost_utils import process_allgather

    return bool(np.any(process_allgather(np.asarray(flag))))


def _on_host(tree: Any) -> Any:
    return jax.tree.map(np.asarray, tree)
