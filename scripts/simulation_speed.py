"""Dynamics and relaxations of this checkout beside those of another one, in turns on one core.

    taskset -c 0 uv run python scripts/simulation_speed.py /path/of/the/other/checkout

Both run with this environment. Dynamics are the cases of `scripts/benchmark.py` (Nosé-Hoover, random parameters,
masses so heavy that atoms fly as at 300 K); relaxations are 500 rocksalts of 8 to 40 atoms side by side, positions and
cells, with a moment tensor potential of level 8 (`mtp-rocksalt`) fitted here.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
_SIZES = {"snap": (64, 1000, 10000), "mtp": (64, 1000, 10000), "aenet": (64, 1000, 10000)}
_SIZES |= {"qsnap": (64, 1000), "gap": (64, 1000), "nequip": (64, 1000, 10000)}
_N_RELAXED = 500


def main() -> None:
    """Prints a line for each measurement: both times and their ratio."""
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        checkouts = {"other": options.checkout.resolve(), "this": HERE}
        if "relax" in options.only:
            _relaxations(checkouts, Path(folder))
        for family in (name for name in _SIZES if name in options.only):
            for n_atoms in _SIZES[family]:
                _dynamics(checkouts, folder, family, n_atoms, options.rounds)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path, help="the other checkout")
    parser.add_argument("--only", nargs="+", default=["relax", *_SIZES], help="families, or relax")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each measurement")
    parser.add_argument("--relax", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.relax:
        print(json.dumps(_relaxed(options.relax)))
        raise SystemExit(0)
    return options


def _dynamics(checkouts: dict[str, Path], folder: str, family: str, n_atoms: int, rounds: int) -> None:
    """Turns of one case of the benchmark, each in a process of its own."""
    from benchmarking.cases import PREDICTIONS, Job

    found: dict[str, list[dict[str, Any]]] = {name: [] for name in checkouts}
    for _ in range(rounds):
        for name, path in checkouts.items():
            where = Path(folder, name)
            where.mkdir(exist_ok=True)
            job = Job("md", family, PREDICTIONS[family][0], n_atoms, str(where), repeats=5 if n_atoms < 10000 else 2)
            found[name].append(_worker(path, [str(path / "scripts/benchmark.py"), "--worker", job.to_json()]))
    best = {name: min(one["steady"]["cpu"] for one in runs) * 1e6 / n_atoms for name, runs in found.items()}
    print(
        f"md {family} {n_atoms}: other {best['other']:.2f}, this {best['this']:.2f} CPU µs/atom/step, "
        f"ratio {best['this'] / best['other']:.3f}",
        flush=True,
    )


def _relaxations(checkouts: dict[str, Path], folder: Path) -> None:
    """The same cells with the same potential, the first time and again."""
    import jaxmlip
    import jaxmlip.datasets
    from jaxmlip.fitting import fit_settings
    from jaxmlip.potentials import suggested
    from jaxmlip.potentials.presets import PRESETS
    from jaxmlip.study.tasks import elements

    frames = jaxmlip.datasets.load("ldr")
    preset = PRESETS["mtp-rocksalt"]
    potential = jaxmlip.build("mtp", **suggested("mtp", {"species": elements(frames), **preset.potential}, frames))
    model, _ = jaxmlip.fit(potential, frames, settings=fit_settings("mtp", preset.fit))
    jaxmlip.save(model, folder / "model.mtp")
    for name, path in checkouts.items():
        row = _worker(path, [__file__, str(path), "--relax", str(folder / "model.mtp")])
        print(f"relax {name}: {json.dumps(row)}", flush=True)


def _relaxed(model_file: Path) -> dict[str, float]:
    """CPU seconds of relaxing the cells, first with compilation and then without."""
    import jaxmlip
    import jaxmlip.datasets
    from jaxmlip.simulate import relax
    from jaxmlip.study.tasks import elements

    cells = [one for one in jaxmlip.datasets.load("ldr-surrogate") if 8 <= len(one) <= 40][:_N_RELAXED]
    model = jaxmlip.load(model_file, species=elements(jaxmlip.datasets.load("ldr")))
    times = []
    for _ in range(3):
        start = time.process_time()
        results = relax(model, cells, fmax=0.05, max_steps=200)
        times.append(time.process_time() - start)
    return {
        "first": times[0],
        "again": statistics.median(times[1:]),
        "converged": float(sum(one.converged for one in results)),
        "steps": float(sum(one.n_steps for one in results)),
    }


def _worker(checkout: Path, command: list[str]) -> dict[str, Any]:
    """What a process with ``checkout`` first on its path printed last."""
    environment = os.environ | {
        "PYTHONPATH": f"{checkout}:{checkout / 'scripts'}",
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    }
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{checkout}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
