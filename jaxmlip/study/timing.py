"""Wall, processor and compilation time and memory of a block, and the time a potential needs per atom."""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import ase
import jax

from jaxmlip.graph.batch import batches
from jaxmlip.potentials.base import cast_params
from jaxmlip.potentials.model import Model, predict

_COMPILE_EVENT = "/jax/core/compile/backend_compile_duration"


@dataclasses.dataclass
class Times:
    """Seconds; ``compile`` is the part of ``wall`` in XLA (little of it when the cache already has the program)."""

    wall: float = 0.0
    cpu: float = 0.0
    compile: float = 0.0
    peak: float | None = None
    """MB: the largest memory within the block beyond that at its start; None where the system does not tell."""


@contextmanager
def stopwatch() -> Iterator[Times]:
    """The times of the block, filled in when it ends.

    >>> with stopwatch() as times:
    ...     _ = sum(range(1000))
    >>> times.wall > 0
    True
    """
    total = _compile_seconds()
    times = Times()
    before = _forget_peak()
    wall, cpu, compiled = time.perf_counter(), time.process_time(), total[0]
    try:
        yield times
    finally:
        times.wall = time.perf_counter() - wall
        times.cpu = time.process_time() - cpu
        times.compile = total[0] - compiled
        peak = _memory("VmHWM")
        times.peak = None if peak is None or before is None else max(peak - before, 0.0)


def _forget_peak() -> float | None:
    """Linux starts the record of the largest memory anew; the memory now, MB."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _memory("VmRSS")


def _memory(name: str) -> float | None:
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) / 1024
    return None


@lru_cache
def _compile_seconds() -> list[float]:
    """A running total, fed by JAX; JAX has no way to remove a listener, so there is one for the process."""
    total = [0.0]

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if event == _COMPILE_EVENT:
            total[0] += duration_secs

    jax.monitoring.register_event_duration_secs_listener(listen)
    return total


class InferenceTime(NamedTuple):
    """Processor seconds per atom for energy, forces and stress once compiled, and seconds to compile."""

    per_atom: float
    compilation: float


def inference_time(model: Model, atoms: Sequence[ase.Atoms], *, repeats: int = 3) -> InferenceTime:
    """What energy, forces and stress cost in float64.

    The fastest of ``repeats`` on one batch of each shape; neighbour lists are not counted, padding is.
    """
    with jax.enable_x64(True):
        model = Model(model.potential, cast_params(model.params, "float64"))
        found = [one.graph for one in batches(atoms, model.potential.config, dtype="float64")]
        graphs = list({(graph.neighbors.shape, graph.cell.shape): graph for graph in found}.values())
        with stopwatch() as first:
            jax.block_until_ready([predict(model, graph) for graph in graphs])
        fastest = float("inf")
        for _ in range(repeats):
            with stopwatch() as times:
                jax.block_until_ready([predict(model, graph) for graph in graphs])
            fastest = min(fastest, times.cpu)
    return InferenceTime(fastest / sum(int(graph.atom_mask.sum()) for graph in graphs), first.compile)
