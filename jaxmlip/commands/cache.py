"""Where compiled programs are kept, and the precision in which commands run."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_folder() -> Path:
    """``JAX_COMPILATION_CACHE_DIR``, else ``jaxmlip/jax`` in the user's cache folder."""
    given = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxmlip" / "jax"


@contextmanager
def double_precision() -> Iterator[None]:
    """64-bit numbers, and JAX's persistent compilation cache unless the caller has set one."""
    import jax

    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    with jax.enable_x64(True):
        yield
