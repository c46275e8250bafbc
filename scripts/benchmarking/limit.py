"""The least time that a program's arithmetic and its arguments' bytes take on this core."""

import math
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np

_MOVING = {
    "broadcast_in_dim",
    "reshape",
    "transpose",
    "slice",
    "squeeze",
    "gather",
    "concatenate",
    "pad",
    "copy",
    "rev",
}
_MOVING |= {"convert_element_type", "iota", "select_n", "dynamic_slice", "dynamic_update_slice", "stop_gradient"}
_MOVING |= {"split", "rev", "device_put", "name", "optimization_barrier", "scatter", "bitcast_convert_type"}
"""Steps of a program that calculate nothing."""


class Cost(NamedTuple):
    """What a call cannot do without."""

    operations: float
    """Additions, multiplications and single calls of functions such as exp, each one operation; of products of
    matrices 2 m n k."""
    in_matrices: float
    """Those of them that are products of matrices."""
    bytes: float
    """Arguments read once and results written once."""


def cost(function: Callable, *arguments: Any) -> Cost:
    """Counted from the program as it is written, before any compiler changes it; loops as often as they run."""
    traced = jax.make_jaxpr(function)(*arguments)
    moved = sum(x.size * x.dtype.itemsize for x in [*traced.in_avals, *traced.out_avals])
    return Cost(*_counted(traced.jaxpr), float(moved))


def _counted(jaxpr: Any) -> tuple[float, float]:
    """Operations, and those in products of matrices."""
    total = matrices = 0.0
    for step in jaxpr.eqns:
        for inner, times in _inner(step):
            found = _counted(inner)
            total, matrices = total + times * found[0], matrices + times * found[1]
        if step.primitive.name == "dot_general":
            (contracted, _), _ = step.params["dimension_numbers"]
            depth = math.prod(step.invars[0].aval.shape[axis] for axis in contracted)
            found = 2.0 * step.outvars[0].aval.size * depth
            total, matrices = total + found, matrices + found
        elif not _inner(step) and step.primitive.name not in _MOVING:
            total += max(x.aval.size for x in [*step.invars, *step.outvars] if hasattr(x.aval, "size"))
    return total, matrices


def _inner(step: Any) -> list[tuple[Any, int]]:
    """Programs inside of a step, and how often they run; of several branches the first is taken."""
    times = step.params.get("length", 1) if step.primitive.name == "scan" else 1
    names = ("jaxpr", "call_jaxpr", "fun_jaxpr", "body_jaxpr")
    found = [step.params[name] for name in names if name in step.params] or list(step.params.get("branches", ()))[:1]
    return [(getattr(one, "jaxpr", one), times) for one in found[:1]]


class Rates(NamedTuple):
    """Of one core."""

    operations: float
    """A second, in products of large matrices."""
    bytes: float
    """A second, read and written, of arrays that no cache holds."""


@lru_cache
def rates(dtype: str) -> Rates:
    """Measured here and now, the best of a few tries."""
    a = np.random.default_rng(0).normal(size=(1024, 1024)).astype(dtype)
    multiply = jax.jit(lambda a: a @ a)
    long = np.ones(2**25, dtype)
    out = np.empty_like(long)
    return Rates(2 * 1024**3 / _best(lambda: multiply(a)), 2 * long.nbytes / _best(lambda: np.negative(long, out=out)))


def _best(action: Callable[[], Any], repeats: int = 5) -> float:
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        jax.block_until_ready(action())
        times.append(time.perf_counter() - start)
    return min(times[1:])


def floor(found: Cost, dtype: str) -> float:
    """Seconds."""
    here = rates(dtype)
    return max(found.operations / here.operations, found.bytes / here.bytes)
