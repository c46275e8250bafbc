"""How programs are compiled: quickly for small jobs, well for large ones; and where compiled ones are kept.

A program is a function as XLA compiles it, for one shape of its arguments. On a CPU compilation with all optimisation
takes some five times longer than without, and gives a program that runs three to eight times faster: for 50 atoms 2 s
against 20 ms a call. What is worth it depends on the work ahead. Its measure is the edge, an atom with one of its
neighbours, whose energy and force are evaluated once: in edges the ways break even at about the same place in all
families.
"""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import update_wrapper
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.core import Tracer

from jaxmlip.files import program_folder

QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
}
"""Options of XLA on a CPU: compiled fastest."""
FAIR = QUICK | {"xla_backend_optimization_level": 1}
"""Half of the time of all optimisation; programs are little slower."""
QUICK_EDGES, FAIR_EDGES = 100_000, 1_500_000
"""Work up to which each of these is worth it. Work that comes bit by bit is not known to end: a quick program gives way
to one with all optimisation after so much, when the time spent is no more than one and a half of the least possible."""
MOST_MAPS = 20_000
"""Memory maps of a process, some ten a program: programs of about 3 GB. Linux allows 65,530 (``vm.max_map_count``); on
the first beyond JAX crashes, and a study, a search or a learning of a hundred fits gets there."""
_TRACED = "can only be passed to top-level"
_UNKNOWN = "No such compile option"


@dataclass(frozen=True, eq=False)
class _Work:
    """Of one `work`, which a program counts once."""

    n_edges: int | float
    """Atoms with one of their neighbours."""


_ahead: ContextVar[_Work | None] = ContextVar("work ahead", default=None)


@contextmanager
def work(n_edges: int | float) -> Iterator[None]:
    """Programs inside are to evaluate so many edges, padding and repetitions included: more count if nested.

    >>> import math
    >>> double = program()(lambda x: 2 * x)
    >>> with work(math.inf):  # compiled with all optimisation
    ...     float(double(1.0))
    2.0
    """
    outer = _ahead.get()
    token = _ahead.set(_Work(n_edges if outer is None else max(n_edges, outer.n_edges)))
    try:
        yield
    finally:
        _ahead.reset(token)


class _Spent(NamedTuple):
    """What one key of a program has been used for: edges, the way of compilation, and the work counted last."""

    n_edges: float = 0.0
    level: int = -1
    work: _Work | None = None


class Program:
    """A function as `jax.jit` compiles it, but quickly where little work is ahead.

    Work is ahead as `work` says. A program without ``size`` is compiled for that alone, so that the same fit gives the
    same numbers whatever was done before; outside of `work` it has all optimisation. A program with ``size``, which
    gives a key and the edges of a call, adds up what it is used for. Each edge is ``weight`` times as dear as in a
    prediction; 0: the program runs once.

    Values of the ways of compilation differ by rounding. Inside of `jax.jit`, `jax.grad` or `jax.vmap` of a caller, and
    on other devices than CPUs, it is `jax.jit`.
    """

    def __init__(
        self,
        function: Callable,
        size: Callable[..., tuple[Any, int]] | None = None,
        *,
        weight: float = 1.0,
        **options: Any,
    ) -> None:
        update_wrapper(self, function)
        self._size, self._weight = size, weight
        self._spent: dict[int, _Spent] = {}
        ways: tuple = ({"compiler_options": QUICK}, {"compiler_options": FAIR}, {})
        self._ways: list[Any] = [jax.jit(function, **way, **options) for way in ways]

    def __call__(self, *args: Any) -> Any:
        """The function's value."""
        *_, full = self._ways
        traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(args))  # into a larger program
        if traced or jax.default_backend() != "cpu":
            return full(*args)
        level = self._level(args)
        try:
            return self._ways[level](*args)
        except (ValueError, jax.errors.JaxRuntimeError) as error:
            if _UNKNOWN in str(error):  # of another release of XLA
                self._ways = [full] * len(self._ways)
            elif _TRACED not in str(error):
                raise
            return full(*args)

    def __reduce__(self) -> str:
        """Pickled by its name, as functions are."""
        return self.__qualname__  # pyright: ignore[reportAttributeAccessIssue]

    def _level(self, args: tuple) -> int:
        """The way of compilation that costs least, with what was done and what is ahead."""
        ahead, last = _ahead.get(), len(self._ways) - 1
        if not self._weight:
            return 0
        if self._size is None:
            edges = math.inf if ahead is None else self._weight * ahead.n_edges
            return 0 if edges < QUICK_EDGES else 1 if edges < FAIR_EDGES else last
        key, n_edges = self._size(*args)
        key = hash(key)  # not the key itself, which would keep potentials alive
        spent = self._spent.get(key, _Spent())
        if spent.level == last or (ahead is not None and ahead is spent.work):
            return spent.level
        total = spent.n_edges + self._weight * max(n_edges, ahead.n_edges if ahead else 0)
        fair = total < FAIR_EDGES and spent.level != 0  # never after a quick one: three programs cost too much
        level = 0 if total < QUICK_EDGES else 1 if fair else last
        self._spent[key] = _Spent(total, level, ahead)
        return level

    def lower(self, *args: Any) -> Any:
        """As of `jax.jit`, with all optimisation."""
        return self._ways[-1].lower(*args)

    def clear_cache(self) -> None:
        """Forgets all programs."""
        self._spent.clear()
        for way in self._ways:
            way.clear_cache()

    def n_programs(self) -> int:
        """Compiled so far, of all kinds."""
        return sum(way._cache_size() for way in set(self._ways))


def program(size: Callable[..., tuple[Any, int]] | None = None, **options: Any) -> Callable[[Callable], Program]:
    """A decorator that makes a `Program`; ``options`` are its weight and those of `jax.jit`."""
    return lambda function: Program(function, size, **options)


def keep_programs(folder: str | Path | None = None) -> Path:
    """Keeps compiled programs in a folder, where other processes and later sessions find them; returns the folder.

    Call it once, at the start of a notebook. It sets JAX's persistent compilation cache for this process, unless one is
    set already, and silences what XLA writes whenever it reads a program for a CPU (a page about the processor's
    features, of no consequence); errors still arrive as exceptions.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     _ = keep_programs(name)  # doctest: +SKIP

    Args:
        folder: by default ``JAX_COMPILATION_CACHE_DIR`` of the environment, else ``jaxmlip/jax`` in the user's cache
            folder. It may be deleted at any time.
    """
    given = jax.config.values["jax_compilation_cache_dir"]
    chosen = Path(folder or given or program_folder())
    if folder is not None or given is None:
        jax.config.update("jax_compilation_cache_dir", str(chosen))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # a hundred small ones count together
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") != "0":
        level = jax.config.values["jax_logging_level"]
        jax.config.update("jax_logging_level", "CRITICAL")
        jax.config.update("jax_logging_level", level)  # of Python's loggers; that of XLA stays
    return chosen


def forget_programs(most: int = MOST_MAPS) -> bool:
    """Clear JAX's caches if this process has more than ``most`` memory maps; say whether they were cleared.

    Programs still wanted are compiled again, or read from the persistent cache. Nothing happens where the system does
    not tell (not Linux).

    >>> forget_programs(10**9)
    False
    """
    if memory_maps() <= most:
        return False
    jax.clear_caches()
    return True


def memory_maps() -> int:
    """Of this process; 0 where the system does not tell."""
    with suppress(OSError), Path("/proc/self/maps").open("rb") as file:
        return sum(1 for _ in file)
    return 0
