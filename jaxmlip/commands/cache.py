"""How commands run: in double precision, with compiled programs kept."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def double_precision() -> Iterator[None]:
    """64-bit numbers, and kept programs."""
    import jax

    from jaxmlip.programs import keep_programs

    keep_programs()
    with jax.enable_x64(True):
        yield
