"""Programs are few, compiled as the work ahead deserves, kept when asked for, and forgotten when there are many."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmlip
from jaxmlip.programs import FAIR_EDGES, QUICK_EDGES, REPAID, Program, work
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


def compiled(action):
    """How many programs `action` compiles, or takes from where they are kept."""
    found = []

    def listen(event, duration_secs, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            found.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        action()
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    return len(found)


@pytest.mark.parametrize(("family", "most"), [("snap", 3), ("aenet", 5), ("mtp", 15), ("gap", 8)])
def test_a_first_fit_and_forces_are_few_programs(family, most):
    """Initial parameters, rows or steps, validation, predictions; a hundred small ones took seconds."""
    settings = {"snap": {"twojmax": 2}, "mtp": {"level": 4}, "gap": {"n_max": 2, "l_max": 1}}.get(family, {})
    frames = jaxmlip.datasets.load("mo", split="test")[:6]
    iterates = family in ("mtp", "aenet")
    chosen = jaxmlip.fitting.fit_settings(family, {"epochs": 2, "n_shapes": 1} if iterates else {})
    jax.clear_caches()

    def first_number():
        potential = jaxmlip.build(family, species=("Mo",), cutoff=3.5, **settings)
        model, _ = jaxmlip.fit(potential, frames, settings=chosen)
        atoms = frames[0].copy()
        atoms.calc = jaxmlip.calculator(model)
        assert np.isfinite(atoms.get_forces()).all()

    assert compiled(first_number) <= most


@pytest.mark.parametrize(
    ("ahead", "kind"),
    [(None, "_full"), (QUICK_EDGES / 2, "_quick"), (QUICK_EDGES, "_fair"), (FAIR_EDGES, "_full")],
)
def test_the_work_ahead_chooses_how_to_compile(ahead, kind):
    double = Program(lambda x: 2 * x)
    if ahead is None:
        assert double(3.0) == 6.0
    else:
        with work(ahead), work(1.0):
            assert double(3.0) == 6.0
    assert [name for name in ("_full", "_fair", "_quick") if getattr(double, name)._cache_size()] == [kind]


def test_a_program_that_runs_on_is_compiled_well():
    double = Program(lambda x: 2 * x, lambda x: (x.shape, REPAID // 3))
    for _ in range(4):
        assert double(np.ones(2)).tolist() == [2, 2]
    assert double._quick._cache_size() == 1
    assert double._full._cache_size() == 1
    assert Program(lambda x: 2 * x, lambda x: (0, REPAID))(1.0) == 2  # large at once
    assert double(np.ones(3)).tolist() == [2, 2, 2]
    assert double._quick._cache_size() == 2


def test_a_quick_program_is_part_of_larger_ones():
    double = Program(lambda x: 2 * x, lambda x: (0, 1))
    assert jax.grad(double)(1.0) == 2
    assert jax.jit(lambda x: x + double(1.0))(1.0) == 3
    assert jax.vmap(double)(jnp.ones(2)).tolist() == [2, 2]


def test_an_option_that_xla_does_not_know_costs_nothing_but_time(monkeypatch):
    monkeypatch.setattr("jaxmlip.programs.QUICK", {"xla_no_such_option": True})
    assert Program(lambda x: 2 * x, lambda x: (0, 1))(1.0) == 2


def test_kept_programs_are_found_by_another_process_in_silence(tmp_path):
    code = f"""
import jax, jaxmlip
before = {{k: v for k, v in jax.config.values.items() if "cache" not in k}}
assert jaxmlip.keep_programs({str(tmp_path)!r}) == jaxmlip.keep_programs()
assert before == {{k: v for k, v in jax.config.values.items() if "cache" not in k}}
found = []
jax.monitoring.register_event_listener(lambda event, **_: found.append(event))
print(jax.jit(lambda x: x @ x + 1)(jax.numpy.eye(2)).sum(), "/jax/compilation_cache/cache_hits" in found)
"""
    environment = {"PATH": "", "JAX_PLATFORMS": "cpu"}
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
        for _ in range(2)
    ]
    assert [run.stdout.strip() for run in runs] == ["6.0 False", "6.0 True"]
    assert [run.stderr for run in runs] == ["", ""]
