"""How programs are compiled: quickly for small jobs, well for large ones; and where compiled ones are kept.

A program is a function as XLA compiles it, for one shape of its arguments. On a CPU compilation with all optimisation
takes some five times longer than without, and gives a program that runs three to eight times faster: for 50 atoms 2 s
against 20 ms a call. What is worth it depends on the work ahead. Its measure is the edge, an atom with one of its
neighbours, whose energy and force are evaluated once: in edges the ways break even at about the same place in all
families.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import update_wrapper
from pathlib import Path
from typing import Any

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
"""Work up to which each of these is worth it, where it is known before the first program is compiled."""
REPAID = 250_000
"""Edges that a quick program evaluates before it is compiled again, with all optimisation."""
_NOT_QUICK = ("can only be passed to top-level", "No such compile option")
"""Of messages: inside of a larger program that is traced, or with another release of XLA."""
_ahead: ContextVar[int | float | None] = ContextVar("edges ahead", default=None)


@contextmanager
def work(n_edges: int | float) -> Iterator[None]:
    """Programs inside are to evaluate so many edges, padding and repetitions included: more count if nested.

    >>> with work(1e9):
    ...     print(_ahead.get())
    1000000000.0
    """
    outer = _ahead.get()
    token = _ahead.set(n_edges if outer is None else max(n_edges, outer))
    try:
        yield
    finally:
        _ahead.reset(token)


class Program:
    """A function as `jax.jit` compiles it, but quickly where little work is ahead.

    Work is ahead as `work` says. A program with ``size``, which gives a key and the edges of a call, begins quick and
    counts what it does for each key; one without has all optimisation unless `work` says that it is not worth it, with
    each edge ``weight`` times as dear as in a prediction.
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
        self._size, self._weight, self._done = size, weight, {}
        self._full: Any = jax.jit(function, **options)
        self._fair: Any = jax.jit(function, compiler_options=FAIR, **options)
        self._quick: Any = jax.jit(function, compiler_options=QUICK, **options)

    def __call__(self, *args: Any) -> Any:
        """The function's value."""
        traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(args))  # into a larger program
        chosen = self._full if traced or jax.default_backend() != "cpu" else self._chosen(args)
        if chosen is self._full:
            return chosen(*args)
        try:
            return chosen(*args)
        except (ValueError, jax.errors.JaxRuntimeError) as error:
            if not any(cause in str(error) for cause in _NOT_QUICK):
                raise
            return self._full(*args)

    def _chosen(self, args: tuple) -> Any:
        """The way of compilation that costs least, with what is to be run."""
        ahead = _ahead.get()
        if self._size is not None:
            key, n_edges = self._size(*args)
            done = self._done.get(key, 0)
            if done < REPAID:
                self._done[key] = done + n_edges
            return self._quick if done + max(n_edges, ahead or 0) < REPAID else self._full
        if ahead is None or ahead * self._weight >= FAIR_EDGES:
            return self._full
        return self._fair if ahead * self._weight >= QUICK_EDGES else self._quick

    def lower(self, *args: Any) -> Any:
        """As of `jax.jit`, with all optimisation."""
        return self._full.lower(*args)

    def clear_cache(self) -> None:
        """Forgets all programs."""
        self._done.clear()
        for kind in (self._full, self._fair, self._quick):
            kind.clear_cache()

    def n_programs(self) -> int:
        """Compiled so far, of all kinds."""
        return sum(kind._cache_size() for kind in (self._full, self._fair, self._quick))


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
