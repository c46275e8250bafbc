"""Whether a GPU gives the right numbers, and how fast: one command on the machine that has it.

    pip install ".[cuda]"
    python scripts/gpu_check.py --out gpu_check

Every family passes the conformance checks on the device in float64, and energies and forces there are compared with
those of the CPU in float64. Then predictions, a training step (energies and forces) and dynamics are timed with 100,
1,000, 10,000 and 100,000 atoms, each family and precision in a process of its own: wall time after the first call,
that of the first call, which compiles, and the largest device memory. In "float32" JAX may multiply matrices in TF32;
"float32, no TF32" forbids it. OUT/gpu.json holds everything, OUT/gpu.md the tables under the name of the card; what a
process could not do, such as a size that does not fit into memory, stands there with its reason. Without a GPU all of
it runs on the CPU, and says so.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from benchmarking.cases import (
    COMPILE_QUICKLY,
    PREDICTIONS,
    ROCKSALT_FAMILIES,
    Job,
    disordered_rocksalt,
    molybdenum,
    tiny,
)

CELLS = {
    "Mo": {100: (5, 5, 2), 1000: (10, 10, 5), 10000: (25, 20, 10), 100000: (50, 50, 20)},
    "rocksalt": {100: (3, 2, 2), 1000: (5, 5, 5), 10000: (10, 5, 25), 100000: (25, 25, 20)},
}
"""Cubic cells along each axis of so many atoms, or nearly."""
PRECISIONS = ("float64", "float32", "float32, no TF32")
AGREEMENT = {"float64": 1e-10, "float32": 1e-3, "float32, no TF32": 1e-4}
"""Largest difference of a force from the CPU's in float64, relative to the largest force. Rounding is 1e-16 and 6e-8,
TF32 has 10 bits (5e-4 a product); sums of some hundred terms that cancel lose two digits more."""
REPEATS, MD_STEPS = 5, 20
_TIMES = {"predict": "energies and forces", "train": "training step", "md": "dynamics, a step"}


def main() -> None:
    """Checks and times all families, one process each, and writes what came out after each of them."""
    options = _options()
    if options.worker:
        print(json.dumps(_work(json.loads(options.worker))))
        return
    options.out.mkdir(exist_ok=True)
    rows: list[dict[str, Any]] = []
    for family in options.families:
        for precision in options.precisions:
            rows.append(_alone(family, precision, options))
            print(_line(rows[-1]), flush=True)
            _write(rows, options.out)
    print(f"written: {options.out / 'gpu.json'}, {options.out / 'gpu.md'}")
    raise SystemExit(1 if any(row.get("wrong") for row in rows) else 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu_check"), help="folder that is written")
    parser.add_argument("--families", nargs="+", default=list(PREDICTIONS), choices=list(PREDICTIONS))
    parser.add_argument("--precisions", nargs="+", default=list(PRECISIONS), choices=PRECISIONS)
    parser.add_argument("--sizes", nargs="+", type=int, default=list(CELLS["Mo"]), choices=list(CELLS["Mo"]))
    parser.add_argument("--smoke", action="store_true", help="tiny models and 100 atoms: whether everything runs")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.sizes = [100] if options.smoke else options.sizes
    return options


def _alone(family: str, precision: str, options: argparse.Namespace) -> dict[str, Any]:
    """What a process of its own found, or why it did not."""
    about = {"family": family, "precision": precision}
    work = json.dumps(about | {"sizes": options.sizes, "smoke": options.smoke})
    command = [sys.executable, str(Path(__file__).resolve()), "--worker", work]
    environment = os.environ | ({"XLA_FLAGS": COMPILE_QUICKLY} if options.smoke else {})
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        return about | {"wrong": [f"the process ended with {done.returncode}: {done.stderr.strip()[-500:]}"]}
    return about | json.loads(done.stdout.splitlines()[-1])


def _work(asked: dict[str, Any]) -> dict[str, Any]:
    """Checks and times of one family in one precision."""
    import jax
    from jax import config

    dtype = asked["precision"].split(",")[0]
    config.update("jax_enable_x64", dtype == "float64")
    if "no TF32" in asked["precision"]:
        config.update("jax_default_matmul_precision", "highest")
    device = jax.devices()[0]
    found: dict[str, Any] = {"device": device.device_kind, "platform": device.platform, "jax": jax.__version__}
    settings = PREDICTIONS[asked["family"]][0]
    settings = settings | (tiny(settings) if asked["smoke"] else {})
    with tempfile.TemporaryDirectory() as folder:
        job = Job("predict", asked["family"], settings, 0, folder, precision=dtype)
        found["sizes"] = {str(n): _times(job, n) for n in asked["sizes"]}  # first: nothing is compiled yet
        found["wrong"] = _conformance(job, smoke=asked["smoke"]) if dtype == "float64" else []
        found["error"] = _error(job)
        if not found["error"] < AGREEMENT[asked["precision"]]:
            found["wrong"].append(f"forces differ from the CPU's by {found['error']:.1e} of the largest one")
    return found


def _conformance(job: Job, *, smoke: bool) -> list[str]:
    """What `jaxmlip.testing.check_all` finds wrong with the family's default settings, on the device."""
    import jaxmlip
    from jaxmlip.testing import ELEMENTS, check_all

    settings = {"cutoff": 4.0} | {k: v for k, v in (tiny(job.settings) if smoke else {}).items() if k != "n_sparse"}
    try:
        check_all(jaxmlip.build(job.family, species=ELEMENTS, **settings))
    except AssertionError as error:
        return [f"conformance: {error}"]
    return []


def _error(job: Job) -> float:
    """The largest difference of forces on the device from the CPU's in float64, relative to the largest force."""
    import jax

    atoms = _structure(job.family, 100)
    model = _model(job)
    with jax.default_device(jax.devices("cpu")[0]), jax.enable_x64(True):
        exact = np.asarray(_predicted(model, atoms, "float64"))
    ours = np.asarray(_predicted(model, atoms, job.precision))
    return float(np.abs(ours - exact).max() / np.abs(exact).max())


def _predicted(model: Any, atoms: Any, dtype: str) -> Any:
    import jax

    import jaxmlip

    cast = jax.tree.map(lambda x: jax.numpy.asarray(x, dtype), model)
    return jaxmlip.predict(cast, jaxmlip.batch(atoms, model.potential.config, dtype=dtype)).forces


def _times(job: Job, n_atoms: int) -> dict[str, Any]:
    """Seconds and memory of each kind of work on one cell; a reason where there is none."""
    times: dict[str, Any] = {}
    for kind, prepared in {"predict": _predict, "train": _train, "md": _dynamics}.items():
        try:
            times[kind] = _timed(*prepared(job, n_atoms))
        except Exception as error:  # out of memory has no type of its own
            times[kind] = {"failed": " ".join(str(error).split())[:200]}
    return times


def _predict(job: Job, n_atoms: int) -> tuple[Callable[[], Any], int]:
    import jax

    import jaxmlip

    atoms, model = _structure(job.family, n_atoms), _model(job)
    model = jax.tree.map(lambda x: jax.numpy.asarray(x, job.precision), model)
    graph = jaxmlip.batch(atoms, model.potential.config, dtype=job.precision)
    return partial(jaxmlip.predict, model, jax.device_put(graph)), 1


def _train(job: Job, n_atoms: int) -> tuple[Callable[[], Any], int]:
    """A gradient of the loss of one cell by all parameters."""
    import jax

    import jaxmlip
    from jaxmlip.data.labels import Labels, attach

    atoms, model = _structure(job.family, n_atoms), _model(job)
    attach(atoms, Labels(energy=0.0, forces=np.zeros((len(atoms), 3)), stress=None))
    model = jax.tree.map(lambda x: jax.numpy.asarray(x, job.precision), model)
    (batch,) = jaxmlip.batches([atoms], model.potential.config, dtype=job.precision)
    weights = jaxmlip.fitting.Weights()
    gradient = jax.jit(jax.grad(lambda model, batch: jaxmlip.loss(model, batch, weights)[0], allow_int=True))
    return partial(gradient, model, jax.device_put(batch)), 1


def _dynamics(job: Job, n_atoms: int) -> tuple[Callable[[], Any], int]:
    from benchmarking.dynamics import Run

    run = Run(_model(job), _structure(job.family, n_atoms), job.precision)

    def steps() -> Any:
        return run.start(MD_STEPS) if not run.moments else run.steps("nvt", MD_STEPS)

    return steps, MD_STEPS


def _timed(action: Callable[[], Any], n_steps: int) -> dict[str, Any]:
    """Wall seconds of a step after the first call, of the first call, and the largest memory so far in GB."""
    import jax

    def seconds() -> float:
        start = time.perf_counter()
        jax.block_until_ready(action())
        return time.perf_counter() - start

    first = seconds()
    return {"first": first, "seconds": median(seconds() for _ in range(REPEATS)) / n_steps, "memory_gb": _memory()}


def _memory() -> float:
    """Of the device, or of the process where the device does not count it."""
    import jax

    stats = jax.devices()[0].memory_stats() or {}
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return stats.get("peak_bytes_in_use", own) / 1e9


def _model(job: Job) -> Any:
    from benchmarking.ours import random_model

    return random_model(job, _structure(job.family, 100))


def _structure(family: str, n_atoms: int) -> Any:
    kind, make = ("rocksalt", disordered_rocksalt) if family in ROCKSALT_FAMILIES else ("Mo", molybdenum)
    return make(CELLS[kind][n_atoms])


def _line(row: dict[str, Any]) -> str:
    """For the terminal."""
    wrong = "; ".join(row["wrong"]) or f"right (forces within {row['error']:.1e} of the CPU's)"
    return f"{row['family']}, {row['precision']}: {wrong}"


def _write(rows: list[dict[str, Any]], folder: Path) -> None:
    """The file of numbers, and the tables."""
    from jaxmlip.files import atomic_path

    for name, text in {"gpu.json": json.dumps(rows, indent=1) + "\n", "gpu.md": _tables(rows)}.items():
        with atomic_path(folder / name) as path:
            path.write_text(text, encoding="utf-8")


def _tables(rows: list[dict[str, Any]]) -> str:
    one = next((row for row in rows if "device" in row), {"device": "unknown", "platform": "", "jax": ""})
    lines = [f"# {one['device']} ({one['platform']}), JAX {one['jax']}", ""]
    lines += [f"On {time.strftime('%Y-%m-%d')} with `python scripts/gpu_check.py`, {os.cpu_count()} CPU cores.", ""]
    lines += ["## Right or wrong", "", "| | precision | conformance and agreement with the CPU |", "|---|---|---|"]
    lines += ["| {} | {} |".format(row["family"], _line(row).split(", ", 1)[1].replace(": ", " | ", 1)) for row in rows]
    sizes = list(dict.fromkeys(n for row in rows for n in row.get("sizes", {})))
    head = "| family | precision | " + " | ".join(f"{int(n):,} atoms" for n in sizes) + " |"
    for kind, title in _TIMES.items():
        lines += ["", f"## {title[0].upper()}{title[1:]}", "", "µs/atom (first call, s; memory, GB)", ""]
        lines += [head, "|---|---|" + "---|" * len(sizes)]
        lines += [
            f"| {row['family']} | {row['precision']} | "
            + " | ".join(_cell(row["sizes"][n][kind], int(n)) for n in sizes)
            + " |"
            for row in rows
            if "sizes" in row
        ]
    return "\n".join(lines) + "\n"


def _cell(one: dict[str, Any], n_atoms: int) -> str:
    if "failed" in one:
        return "out of memory" if "RESOURCE_EXHAUSTED" in one["failed"] else "failed, see gpu.json"
    return f"{one['seconds'] / n_atoms * 1e6:.3g} ({one['first']:.1f}; {one['memory_gb']:.2f})"


if __name__ == "__main__":
    main()
