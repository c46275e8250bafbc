"""Compiled programs are forgotten when there are many."""

import sys

import jax
import jax.numpy as jnp
import pytest

from jaxmlip.study.programs import forget_programs, memory_maps


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the number of maps")
def test_clearing_frees_the_maps_of_programs():
    before = memory_maps()
    assert before > 0
    for k in range(20):
        jax.jit(lambda x, k=k: jnp.sort(jnp.sin(x @ x.T) * k).sum())(jnp.ones((3 + k, 2)))
    full = memory_maps()
    assert full > before + 20
    assert not forget_programs(full)
    assert forget_programs(before)
    assert memory_maps() < full - 20
