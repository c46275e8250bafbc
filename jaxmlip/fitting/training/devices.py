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


def own_shares() -> Int[np.ndarray, " n_local_devices"]:
    """Which of the rows of `shares` belong to devices of this process."""
    devices = mesh().devices.ravel()
    return np.flatnonzero([device.process_index == jax.process_index() for device in devices])


def assembled(tree: Any) -> Any:
    """Arrays ``[n_devices, …]``, each row on its own device, of which this process gives those of `own_shares`."""
    if n_devices() == 1:
        return jax.device_put(tree)
    sharding = NamedSharding(mesh(), PartitionSpec(_AXIS))
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), tree)


def largest(number: int) -> int:
    """The largest ``number`` of all processes; all of them must ask."""
    if jax.process_count() == 1:
        return number
    from jax.experimental.multihost_utils import process_allgather

    return int(np.max(process_allgather(np.asarray(number))))


def summed(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function(rows, *replicated)``, a pytree of sums over structures, summed over all devices' rows of `spread`.

    ``rows`` may be any pytree of arrays ``[n_devices, …]``, as `assembled` gives them.
    """

    def on_all(rows: Any, *rest: Any) -> Any:
        if jax.tree.leaves(rows)[0].shape[0] == 1:
            return function(jax.tree.map(lambda x: x[0], rows), *rest)

        def on_one(mine: Any, *rest: Any) -> Any:
            return jax.lax.psum(function(jax.tree.map(lambda x: x[0], mine), *rest), _AXIS)

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
