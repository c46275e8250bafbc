"""Tests run in float64, with JAX's compilation cache on: compilation is most of their time."""

import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # XLA prints pages about each cached program it loads on a CPU

import jax
import matplotlib
import pytest

matplotlib.use("Agg")
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
cache = Path(os.environ.get("JAXMLIP_TEST_CACHE", Path(tempfile.gettempdir()) / "jaxmlip-test-cache"))
jax.config.update("jax_compilation_cache_dir", str(cache))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


@pytest.fixture(scope="module")
def compile_quickly():
    """Compilation without optimisation, for tests that run many programs for a moment each."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module", autouse=True)
def _few_programs():
    """One process runs some thirty modules, and their programs together are more than the system can hold."""
    from jaxmlip.study.programs import forget_programs  # here, for jaxtyping's checks must be on before jaxmlip loads

    yield
    forget_programs()
