"""Error against time of the ways to train a moment tensor potential, and of motep on the same data and objective.

    uv run --group peers python scripts/optimizers.py mo --level 16 --steps 16 --epochs 300
    uv run --group peers python scripts/optimizers.py ldr --level 8 --prior 0.01 --steps 15

Each competitor is a process of its own with one thread; they run one after another and start from the same parameters,
those of `Potential.init` with seed 0 (motep reads them from the .mtp file that jaxmlip wrote). CPU seconds count from
the call of the fit, compilation included. Writes OUT.json and OUT.png.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from benchmark import ONE_THREAD

ENERGY_WEIGHT = {"mo": 73.0, "ldr": 30.0}
"""Of energies in eV/atom, forces weighing 1. Of molybdenum: MLIP's 1 and 0.01 for cells of 54 atoms."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """One competitor, a number of steps, and settings."""

    name: str
    steps: int
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)


def main() -> None:
    """Run all competitors on one data set."""
    options = _options()
    os.environ.update(ONE_THREAD)
    if options.worker:
        print(json.dumps(work(Trial(**json.loads(options.worker)), options)))
        return
    trials = [
        Trial("gauss-newton", options.steps, {"prior": options.prior, "cg_steps": 30}),
        Trial("quasi-newton", 25 * options.steps),
        Trial("gradient", options.epochs or 50 * options.steps, {"learning_rate": 0.003, "batch_size": 8}),
        Trial("motep BFGS", 10 * options.steps),
    ]
    found = {}
    for trial in trials:
        words = [sys.executable, __file__, options.data, "--level", str(options.level)]
        words += ["--seconds", str(options.seconds), "--worker", json.dumps(dataclasses.asdict(trial))]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            print(f"{trial.name}: {done.stderr.strip().splitlines()[-1]}")
            continue
        found[trial.name] = json.loads(done.stdout.splitlines()[-1])
        print(trial.name, {k: round(v, 4) for k, v in found[trial.name][-1].items()}, flush=True)
        options.out.with_suffix(".json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    draw(found, options.out.with_suffix(".png"), f"{options.data}, level {options.level}")


def work(trial: Trial, options: argparse.Namespace) -> list[dict[str, float]]:
    """Rows of CPU seconds and test errors (eV/atom, eV/Å)."""
    import jaxmlip
    from jaxmlip.fitting import fit_settings

    train, test = data(options.data)
    species = sorted({int(z) for frame in [*train, *test] for z in frame.numbers})
    potential = jaxmlip.build("mtp", species=tuple(species), level=options.level, cutoff=5.0, min_dist=options.min_dist)
    weights = {"energy_weight": ENERGY_WEIGHT[options.data]}
    if trial.name.startswith("motep"):
        return motep(trial, (train, test), potential, options)
    settings = fit_settings("mtp", {"method": trial.name, "epochs": trial.steps, **weights, **trial.settings})
    start, rows = time.process_time(), []

    def keep(row: dict[str, Any]) -> None:
        errors = {name: row[f"validation_{name}"] for name in ("energy", "forces")}
        rows.append({"cpu": time.process_time() - start, **errors})
        if rows[-1]["cpu"] > options.seconds:
            raise TimeoutError

    with contextlib.suppress(TimeoutError):
        jaxmlip.fit(potential, train, settings=settings, validation=test, show_progress=keep)
    return rows


def motep(trial: Trial, sets: tuple, potential: Any, options: argparse.Namespace) -> list[dict[str, float]]:
    """Its Trainer with the same objective; parameters are kept on the way and judged by jaxmlip afterwards."""
    import jax
    from motep.io.mlip.mtp import read_mtp, write_mtp  # pyright: ignore[reportMissingImports]
    from motep.optimizers import scipy as optimizers  # pyright: ignore[reportMissingImports]
    from motep.train import Trainer  # pyright: ignore[reportMissingImports]

    import jaxmlip
    from jaxmlip.evaluate import errors
    from jaxmlip.potentials.model import Model
    from jaxmlip.potentials.offsets import fit_offsets

    train, test = sets
    offsets = fit_offsets(train, potential.config.species)
    with jax.enable_x64(True):
        params = {**potential.init(jax.random.key(0)), "offsets": np.asarray(offsets)}
    weights = {"energy_weight": ENERGY_WEIGHT[options.data] ** 2, "forces_weight": 1.0, "stress_weight": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "start.mtp"
        jaxmlip.save(Model(potential, params), path)
        fitted: Any = read_mtp(path)
        fitted.species = list(potential.config.species)
        kept: list[tuple[float, Path]] = []
        start = time.process_time()

        class Callback:
            def __init__(self, loss: Any) -> None:
                self.loss = loss

            def __call__(self, intermediate_result: Any) -> None:
                kept.append((time.process_time() - start, Path(folder) / f"{len(kept)}.mtp"))
                write_mtp(kept[-1][1], fitted)
                if kept[-1][0] > options.seconds:
                    raise StopIteration

        optimizers.Callback = Callback
        step = {"method": "minimize", "kwargs": {"method": "BFGS", "options": {"maxiter": trial.steps}}}
        trainer = Trainer(fitted, seed=0, loss={**weights, "forces_per_atom": False}, steps=[step])
        os.chdir(folder)
        trainer.train([frame.copy() if frame.calc is None else frame for frame in train])
        rows = []
        for cpu, snapshot in kept[:: max(1, len(kept) // 12)] + kept[-1:]:
            table = errors(jaxmlip.load(snapshot, species=list(potential.config.species)), test)
            rows.append({"cpu": cpu, "energy": table["energy"].rmse, "forces": table["forces"].rmse})
    return rows


def data(name: str) -> tuple[list, list]:
    """Training and test structures: the published split of molybdenum; 120 and 30 rocksalts at random."""
    import jaxmlip

    if name == "mo":
        return jaxmlip.datasets.load("mo", split="train"), jaxmlip.datasets.load("mo", split="test")
    frames = jaxmlip.datasets.load(name)
    order = np.random.default_rng(0).permutation(len(frames))
    return [frames[k] for k in order[:120]], [frames[k] for k in order[120:]]


def draw(found: dict[str, list], path: Path, title: str) -> None:
    """Energy and force errors against CPU time."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    from jaxmlip.evaluate.style import save_figure, styled
    from jaxmlip.units import SHOWN

    @styled
    def figure() -> Any:
        made, panels = plt.subplots(1, 2, figsize=(7, 3), layout="constrained")
        for panel, name in zip(panels, ("energy", "forces"), strict=True):
            unit, factor = SHOWN[name]
            for trial, rows in found.items():
                errors = [factor * row[name] for row in rows]
                panel.loglog([row["cpu"] for row in rows], errors, ".-", ms=3, lw=1, label=trial)
            panel.set(xlabel="CPU time (s)", ylabel=f"test {name} RMSE ({unit})", title=title)
            for axis in (panel.xaxis, panel.yaxis):
                axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axis.set_major_formatter(StrMethodFormatter("{x:g}"))
                axis.set_minor_formatter(NullFormatter())
        panels[0].legend()
        return made

    save_figure(figure(), path)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=sorted(ENERGY_WEIGHT))
    parser.add_argument("--level", type=int, default=16)
    parser.add_argument("--prior", type=float, default=0.0, help="of Gauss-Newton")
    parser.add_argument("--steps", type=int, default=20, help="of Gauss-Newton; the others take more in proportion")
    parser.add_argument("--epochs", type=int, help="of minibatches (default 50 a step of Gauss-Newton)")
    parser.add_argument("--seconds", type=float, default=300.0, help="CPU seconds for each competitor")
    parser.add_argument("--out", type=Path, default=Path("optimizers"))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.min_dist = {"mo": 2.0, "ldr": 1.6}[options.data]
    return options


if __name__ == "__main__":
    main()
