"""Tests run in float64, with programs compiled quickly and kept: compilation is most of their time.

Neither changes results beyond rounding (test_conformance compares with programs as users get them). To run all tests
as users do: XLA_FLAGS=--xla_cpu_use_fusion_emitters=true JAX_DISABLE_MOST_OPTIMIZATIONS=0 uv run pytest
"""

import gc
import os
import tempfile
from pathlib import Path

CACHE = Path(os.environ.get("JAXMLIP_TEST_CACHE", Path(tempfile.gettempdir()) / "jaxmlip-test-cache"))
FLAGS = {
    "xla_cpu_use_fusion_emitters": "false",  # without them XLA compiles in half of the time
    "xla_cpu_parallel_codegen_split_count": "1",  # all processors are busy: parts of a program cost a tenth more
}
for name, value in FLAGS.items():
    if name not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --{name}={value}".strip()
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # in the environment: for other processes too
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(CACHE)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # XLA prints pages about each cached program it loads on a CPU

gc.set_threshold(100_000, 50, 50)  # tracing makes many objects and hardly any garbage: a tenth of the time was this

import jax
import matplotlib
import pytest
from hypothesis import settings

# What lands must not depend on luck; new examples are looked for with --hypothesis-profile=search.
settings.register_profile("repeatable", derandomize=True)
settings.register_profile("search", max_examples=3000)
settings.load_profile("repeatable")

matplotlib.use("Agg")
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
QUICK = os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] != "0"
jax.config.update("jax_disable_most_optimizations", QUICK)  # a plugin may have imported jax already
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """A thousand steps with a GAP take longer than their compilation: they are compiled with optimisation."""
    with pytest.MonkeyPatch.context() as patch:
        if item.path.name == "dynamics.ipynb":
            patch.delenv("JAX_DISABLE_MOST_OPTIMIZATIONS")
        return (yield)


@pytest.fixture
def compile_well():
    """Compilation with optimisation, for a test whose programs run for long."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", QUICK)


@pytest.fixture
def usual_collection():
    """Garbage is collected as often as Python does, for a test that measures memory."""
    seldom = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield
    gc.set_threshold(*seldom)


@pytest.fixture(scope="module", autouse=True)
def _few_programs():
    """One process runs some thirty modules, and their programs together are more than the system can hold."""
    from jaxmlip.programs import forget_programs  # here, for jaxtyping's checks must be on before jaxmlip loads

    yield
    forget_programs()
