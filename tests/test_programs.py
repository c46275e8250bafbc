"""Programs are few, compiled as the work ahead deserves, kept when asked for, and forgotten when there are many."""

import pickle
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmlip
from jaxmlip.potentials.model import predict_graph
from jaxmlip.programs import FAIR_EDGES, QUICK_EDGES, Program, forget_programs, memory_maps, work


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


def ways(one):
    """How many programs there are of each way of compilation: quick, fair, with all optimisation."""
    return tuple(way._cache_size() for way in one._ways)


@pytest.mark.parametrize(
    ("ahead", "expected"),
    [(None, (0, 0, 1)), (QUICK_EDGES / 2, (1, 0, 0)), (QUICK_EDGES, (0, 1, 0)), (FAIR_EDGES, (0, 0, 1))],
)
def test_the_work_ahead_chooses_how_to_compile(ahead, expected):
    double = Program(lambda x: 2 * x)
    if ahead is None:
        assert double(3.0) == 6.0
    else:
        with work(ahead), work(1.0):
            assert double(3.0) == 6.0
    assert ways(double) == expected


def test_the_same_fit_has_the_same_program_whatever_was_done_before():
    multiple = Program(lambda n, x: n * x, static_argnums=0)
    for n_edges, expected in [(QUICK_EDGES / 2, (1, 0, 0))] * 3 + [
        (FAIR_EDGES, (1, 0, 1)),
        (QUICK_EDGES / 2, (1, 0, 1)),
    ]:
        with work(n_edges):
            assert multiple(2, 1.0) == multiple(2, 1.0) == 2
        assert ways(multiple) == expected


def test_what_runs_once_is_quick():
    begin = Program(lambda x: 2 * x, weight=0.0)
    with work(np.inf):
        assert begin(1.0) == 2
    assert ways(begin) == (1, 0, 0)


def test_a_program_that_runs_on_is_compiled_well():
    double = Program(lambda x: 2 * x, lambda x: (x.shape, QUICK_EDGES // 3))
    for n_full in (0, 0, 0, 1):
        assert double(np.ones(2)).tolist() == [2, 2]
        assert ways(double) == (1, 0, n_full)
    assert double(np.ones(3)).tolist() == [2, 2, 2]
    assert ways(double) == (2, 0, 1)


def test_a_calculator_in_a_loop_soon_has_all_optimisation():
    frame = jaxmlip.datasets.load("mo", split="test")[0]
    potential = jaxmlip.build("snap", species=("Mo",), cutoff=4.25, twojmax=2)
    frame.calc = jaxmlip.calculator(jaxmlip.Model(potential, potential.init(None, None)))
    before = ways(predict_graph)
    n_edges = len(frame) * 60  # neighbours, about
    for _ in range(2 * QUICK_EDGES // n_edges):
        frame.rattle(0.001, seed=0)
        frame.get_forces()
    assert [now - then for now, then in zip(ways(predict_graph), before)] == [1, 0, 1]


def test_programs_are_pickled_by_name():
    assert pickle.loads(pickle.dumps(predict_graph)) is predict_graph


def test_a_quick_program_is_part_of_larger_ones():
    double = Program(lambda x: 2 * x, lambda x: (0, 1))
    assert jax.grad(double)(1.0) == 2
    assert jax.jit(lambda x: x + double(1.0))(1.0) == 3
    assert jax.vmap(double)(jnp.ones(2)).tolist() == [2, 2]


def test_an_option_that_xla_does_not_know_is_tried_once(monkeypatch):
    monkeypatch.setattr("jaxmlip.programs.QUICK", {"xla_no_such_option": True})
    traced = []
    double = Program(lambda x: traced.append(x) or 2 * x, lambda x: (0, 1))
    assert double(1.0) == double(2.0) / 2 == 2
    assert len(traced) == 1  # JAX keeps what it traced
    assert double.n_programs() == 1


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
