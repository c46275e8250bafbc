"""What a notebook user waits for: a fit of 20 molybdenum structures, and forces from the calculator.

    uv run python scripts/first_number.py                       (all families: cold, and again with the programs kept)
    uv run python scripts/first_number.py --families snap mtp   (these alone)

Each measurement is a process of its own. ``cold`` finds no compiled program; ``first`` keeps its
programs (`jaxmlip.keep_programs`), and ``kept`` finds them. Counted are CPU seconds of the process beside imports, the
programs compiled or read, and the wall time of tracing, lowering, compiling and reading them.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SETTINGS: dict[str, dict[str, Any]] = {
    "snap": {"twojmax": 8},
    "qsnap": {"twojmax": 8},
    "mtp": {},
    "gap": {},
    "aenet": {},
    "nequip": {},
}
N_STRUCTURES, CUTOFF, EPOCHS = 20, 5.0, 2
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # waiting threads count as CPU seconds
EVENTS = {
    "/jax/core/compile/jaxpr_trace_duration": "trace",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lower",
    "/jax/core/compile/backend_compile_duration": "compile",
    "/jax/compilation_cache/cache_retrieval_time_sec": "read",
}
HEADINGS = ("family", "run", "CPU s", "wall s", "programs", "trace s", "lower s", "compile s", "read s")


def main() -> None:
    """Parse, measure, print."""
    options = _options()
    if options.worker:
        print(json.dumps(measure(options.worker, options.programs, verbose=options.verbose)))
        return
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # children inherit it
    print("| " + " | ".join(HEADINGS) + " |\n|" + "---|" * len(HEADINGS))
    for family in options.families:
        with tempfile.TemporaryDirectory() as folder:
            for run in ("cold", "first", "kept")[: 1 if options.cold else 3]:
                found = _alone(family, "" if run == "cold" else folder)
                numbers = [f"{value:.1f}" if isinstance(value, float) else str(value) for value in found.values()]
                print("| " + " | ".join((family, run, *numbers)) + " |", flush=True)


def measure(family: str, programs: str, *, verbose: bool = False) -> dict[str, float]:
    """The fit and the forces, in this process."""
    import jax

    import jaxmlip

    frames = jaxmlip.datasets.load("mo", split="train")[:N_STRUCTURES]
    potential_settings, settings = SETTINGS[family], _fit_settings(family)
    import jaxmlip.fitting
    import jaxmlip.simulate.calculator

    if programs:
        jaxmlip.keep_programs(programs)

    spent = dict.fromkeys(EVENTS.values(), 0.0)
    number: list[float] = []

    def listen(event: str, duration_secs: float, **more: Any) -> None:
        if event in EVENTS:
            spent[EVENTS[event]] += duration_secs
            if verbose and duration_secs > 0.05:
                print(f"{EVENTS[event]:8} {duration_secs:6.2f} {more}", file=sys.stderr)
        if event == "/jax/core/compile/backend_compile_duration":
            number.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    cpu, wall = time.process_time(), time.perf_counter()
    potential = jaxmlip.build(family, species=("Mo",), cutoff=CUTOFF, **potential_settings)
    model, _ = jaxmlip.fit(potential, frames, settings=settings)
    atoms = frames[0].copy()
    atoms.calc = jaxmlip.calculator(model)
    atoms.get_forces()
    times = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
    return {**times, "programs": len(number), **spent}


def _fit_settings(family: str) -> Any:
    from jaxmlip.fitting import FIT_METHODS, fit_settings, method_of

    iterates = "epochs" in FIT_METHODS[method_of(family)].settings.__dataclass_fields__
    return fit_settings(family, {"epochs": EPOCHS} if iterates else {})


def _alone(family: str, programs: str) -> dict[str, float]:
    """`measure` in a process of its own; an empty name of a folder: nothing is kept."""
    command = [sys.executable, str(Path(__file__).resolve()), "--worker", family, "--programs", programs]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")} | ONE_THREAD
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.strip().splitlines()[-1])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--cold", action="store_true", help="without programs kept by another process")
    parser.add_argument("--verbose", action="store_true", help="with --worker: each long step on standard error")
    parser.add_argument("--worker", choices=list(SETTINGS), help="measure this family in this process")
    parser.add_argument("--programs", default="", help="with --worker: the folder of kept programs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
