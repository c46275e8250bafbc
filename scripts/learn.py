"""Does active learning save labels? The loop against random selection, with a teacher in place of DFT.

All arms start from the same rocksalts without any label, and pay for the same number of labels a round. Two look at
these, and at what they explore in the same ways with the potential that they have: one takes the most informative
structures ("chosen"), the other any ("random"). The third has no loop: any of the rocksalts and of their cells rattled,
strained, delithiated and swapped "by hand", which needs no potential. Tested on structures that none made: the
teacher's own dynamics, strained, delithiated and swapped cells of other rocksalts.

    python scripts/learn.py --family mtp --seeds 0 --out learning-runs

A run that was stopped goes on. The table is printed, and written as ``summary.json``.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import ase
import jax
import numpy as np

import jaxmlip
from jaxmlip.evaluate.provenance import provenance, write_json
from jaxmlip.fitting import fit_settings
from jaxmlip.learning import Exploration, Place, Student
from jaxmlip.learning.active import Explorer, Labelling, Learning, learn
from jaxmlip.learning.exploration import dynamics, labelled
from jaxmlip.learning.structures import bare, delithiated, is_sound, metals_of, strained, swapped
from jaxmlip.potentials import suggested
from jaxmlip.potentials.presets import PRESETS

TEACHER = "rocksalt-mtp"
ELEMENTS = ("Li", "O", "Sc", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu")
FAMILIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "mtp": (  # weights and prior by seeds 0 and 1; a prior of 0.01 leaves half as much error again
        {"cutoff": 5.0, "level": 12, "radial_basis_size": 5},
        {"energy_weight": 30.0, "stress_weight": 10.0, "prior": 1e-3, "epochs": 20, "validation_fraction": 0.0},
    ),
    "ace": (PRESETS["ace-rocksalt"].potential, {**PRESETS["ace-rocksalt"].fit, "stress_weight": 20.0}),
}
MEASURES = {"rmse": "root mean square errors", "mae": "mean absolute errors"}
"""Columns of the tables; one outlier may make the first, not the second."""
ERRORS = {"test_energy": 1000.0, "test_forces": 1.0}
"""In meV/atom and eV/Å."""
LARGEST_FORCE = 10.0
"""eV/Å; structures with larger ones teach nothing and are no test."""
DEEPEST = 0.3
"""eV/atom; the teacher's own dynamics of some Li-Ti-O fall that far below where they start, into holes: no test."""
_MADE = (
    Explorer("strained", 1.0, {"copies": 8}),
    Explorer("delithiated", 1.0, {"copies": 8}),
    Explorer("swapped", 1.0, {"copies": 8}),
)
_HOT = Explorer("dynamics", 2.0, {"temperatures": [300.0, 600.0, 1000.0], "n_steps": 100, "snapshots": 10})


class Arm(NamedTuple):
    """How structures are found, and which of them are labelled."""

    choice: Literal["informative", "random"]
    explore: tuple[Explorer, ...]


ARMS = {
    "chosen": Arm("informative", (_HOT, *_MADE)),
    "random": Arm("random", (_HOT, *_MADE)),
    "by hand": Arm("random", (Explorer("rattled", 2.0, {"copies": 8}), *_MADE)),
}


def main(words: Sequence[str] | None = None) -> None:
    """Run all arms and write the summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--family", nargs="+", choices=list(FAMILIES), default=["mtp"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--elements", nargs="+", default=list(ELEMENTS), help="rocksalts of these alone")
    parser.add_argument("--per-round", type=int, default=16)
    parser.add_argument("--budget", type=int, default=96, help="labels, failed ones included")
    parser.add_argument("--n-test", type=int, default=20, help="rocksalts of which test structures are made")
    parser.add_argument("--out", type=Path, default=Path("learning-runs"))
    options = parser.parse_args(words)
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    with jax.enable_x64(True):
        for seed in options.seeds:
            start, test = structures(seed, options)
            for family in options.family:
                for name in options.arms:
                    rows += run((family, name, seed), start, test, options)
                    write_json(options.out / "summary.json", {"rows": rows, "record": provenance(vars(options))})
    for family in options.family:
        for measure in MEASURES:
            print(table([row for row in rows if row["family"] == family], measure))


def structures(seed: int, options: argparse.Namespace) -> tuple[list[ase.Atoms], list[ase.Atoms]]:
    """Where to start, without labels, and labelled structures of other rocksalts to test on."""
    teacher = jaxmlip.load(TEACHER)
    cells = [
        cell for cell in jaxmlip.datasets.load("ldr") if set(cell.symbols) <= set(options.elements) and len(cell) <= 36
    ]
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(cells))
    others, start = ([cells[int(k)] for k in part] for part in np.split(order, [options.n_test]))
    path = options.out / f"test-{seed}.extxyz"
    if not path.exists():
        metals = metals_of(cells)
        made = [strained(cell, rng) for cell in others] + [delithiated(cell, rng) for cell in others]
        made += [swapped(cell, rng, metals=metals) for cell in others]
        hot = Exploration(temperatures=(300.0, 600.0, 1000.0), n_steps=100, snapshots=2, seed=seed)
        told = labelled(teacher, [one for one in made if is_sound(one)], dtype="float64")
        jaxmlip.write(path, [*told, *stayed(teacher, others, dynamics(teacher, others, hot))])
    test = [frame for frame in jaxmlip.read(path) if np.abs(frame.get_forces()).max() < LARGEST_FORCE]
    return [bare(cell) for cell in start], test


def stayed(teacher: jaxmlip.Model, starts: list[ase.Atoms], moved: list[ase.Atoms]) -> list[ase.Atoms]:
    """Snapshots, with labels, of the dynamics that did not run away."""
    before, after = (labelled(teacher, frames, dtype="float64") for frames in (starts, moved))
    energies = [frame.get_potential_energy() / len(frame) for frame in before]
    away = {
        frame.info["replica"]
        for frame in after
        if frame.get_potential_energy() / len(frame) < energies[frame.info["replica"]] - DEEPEST
        or np.abs(frame.get_forces()).max() > LARGEST_FORCE
    }
    return [frame for frame in after if frame.info["replica"] not in away]


def run(
    which: tuple[str, str, int], start: list[ase.Atoms], test: list[ase.Atoms], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """The rounds of one family, arm and seed."""
    family, name, seed = which
    potential, fit = FAMILIES[family]
    made = jaxmlip.build(family, **suggested(family, {"species": options.elements, **potential}, start))
    settings = Learning(
        budget=options.budget,
        per_round=options.per_round,
        rounds=100,
        choice=ARMS[name].choice,
        starts=40,
        explore=ARMS[name].explore,
        label=Labelling(model=TEACHER, largest_force=LARGEST_FORCE),
        seed=seed,
    )
    folder = options.out / f"{family}-{name.replace(' ', '-')}-{seed}"
    place = Place(folder, None, lambda text: print(f"{family} {name}: {text}", flush=True))
    found = learn(Student(made, fit_settings(family, fit)), start, settings, place, test=test)
    return [{"family": family, "arm": name, "seed": seed, "paid": _paid(row), **row} for row in found.rows]


def _paid(row: dict[str, Any]) -> int:
    """Labels that a round's fit had cost, failed ones included."""
    return row["spent"] - row.get("n_labelled", 0) - row.get("n_failed", 0)


def table(rows: Sequence[dict[str, Any]], measure: str) -> str:
    """Test errors of the arms by number of labels, means over seeds, as Markdown."""
    arms = [name for name in ARMS if any(row["arm"] == name for row in rows)]
    head = " | ".join(f"{name}: meV/atom | eV/Å" for name in arms)
    lines = [f"| labels | {head} |", "|---" * (2 * len(arms) + 1) + "|"]
    for size in sorted({row["paid"] for row in rows}):
        cells = [str(size)]
        for name in arms:
            for key, factor in ERRORS.items():
                found = _means(rows, name, f"{key}_{measure}")
                cells.append(f"{factor * found[size]:.3g}" if size in found else "—")
        lines.append(f"| {' | '.join(cells)} |")
    others = [needed(rows, name, measure) for name in arms if name != "chosen" and "chosen" in arms]
    title = f"{rows[0]['family']}, {len({row['seed'] for row in rows})} seeds, {MEASURES[measure]}"
    return "\n".join([title, "", *lines, "", *others, ""])


def needed(rows: Sequence[dict[str, Any]], other: str, measure: str) -> str:
    """How many labels the loop took to the lowest error of another arm."""
    parts = []
    for key, name in zip(ERRORS, ("energies", "forces"), strict=True):
        chosen, anyhow = (_means(rows, arm, f"{key}_{measure}") for arm in ("chosen", other))
        size = min(anyhow, key=lambda n: anyhow[n])
        reached = [n for n, error in chosen.items() if error <= anyhow[size]]
        parts.append(f"{name}: {reached[0] if reached else 'not reached'}, {other} {size}")
    return f"labels for the lowest error of {other}: {'; '.join(parts)}"


def _means(rows: Sequence[dict[str, Any]], arm: str, key: str) -> dict[int, float]:
    """Number of labels → mean error over the seeds."""
    sizes = sorted({row["paid"] for row in rows if row["arm"] == arm})
    return {n: float(np.mean([r[key] for r in rows if (r["arm"], r["paid"]) == (arm, n)])) for n in sizes}


if __name__ == "__main__":
    main()
