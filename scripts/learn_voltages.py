"""How many calculations do the eight layered voltages take? Active learning that explores their cells.

The start are labelled disordered rocksalts, from which alone a moment tensor potential loses some of the layered cells.
A teacher stands in place of DFT. The loop relaxes, strains and rattles the sixteen layered cells, LiTMO2 and TMO2 of
eight metals with three or four atoms each, until a round stays inside of its data or the budget is spent.

    python scripts/learn_voltages.py --out learning-voltages

Voltages after each round, beside those of the teacher. A run that was stopped goes on.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase
import jax
import numpy as np

import jaxmlip
from jaxmlip.cathodes import voltages
from jaxmlip.cathodes.voltage import Voltage
from jaxmlip.evaluate.grade import active_set
from jaxmlip.evaluate.provenance import provenance, write_json
from jaxmlip.fitting import fit_settings
from jaxmlip.learning import Place, Student
from jaxmlip.learning.active import Explorer, Labelling, Learning, learn
from jaxmlip.learning.exploration import labelled
from jaxmlip.learning.structures import bare
from jaxmlip.potentials import suggested
from jaxmlip.potentials.presets import PRESETS

PRESET = PRESETS["mtp-rocksalt"]
FIT = PRESET.fit | {"prior": 1e-3, "epochs": 40, "stress_weight": 20.0}
"""As in `learn_with_dft.py`: under a prior as strong as the preset's, minima stay 0.1 eV too high or low; stresses tell
at once where a cell wants to go."""
EXPLORE = (
    Explorer("relaxed", 2.0, {"max_steps": 15}),
    Explorer("layers", 1.0, {"copies": 2}),
    Explorer("strained", 1.0, {"copies": 2}),
    Explorer("rattled", 1.0, {"copies": 2}),
)


def main(words: Sequence[str] | None = None) -> None:
    """Learn, then print the voltages after each round."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--teacher", default="rocksalt-ace")
    parser.add_argument("--start", type=int, default=60, help="labelled rocksalts at the start")
    parser.add_argument("--per-round", type=int, default=16)
    parser.add_argument("--budget", type=int, default=64, help="labels after those at the start")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("learning-voltages"))
    options = parser.parse_args(words)
    options.out.mkdir(parents=True, exist_ok=True)
    with jax.enable_x64(True):
        teacher = jaxmlip.load(options.teacher)
        wanted = {row.metal: row for row in voltages(teacher)}
        run(teacher, options)
        rows = by_round(options.out / "run", wanted)
    write_json(options.out / "summary.json", {"rows": rows, "record": provenance(vars(options))})
    print(table(rows, wanted))


def run(teacher: Any, options: argparse.Namespace) -> None:
    """The learning, in a folder of its own."""
    rocksalts = [cell for cell in jaxmlip.datasets.load("ldr") if len(cell) <= 36]
    order = np.random.default_rng(options.seed).permutation(len(rocksalts))[: options.start]
    start = labelled(teacher, [rocksalts[int(k)] for k in order], dtype="float64")
    cells: list[ase.Atoms] = [bare(cell) for cell in jaxmlip.datasets.load("layered")]
    species = teacher.potential.config.symbols
    potential = jaxmlip.build("mtp", **suggested("mtp", {"species": species, **PRESET.potential}, start))
    settings = Learning(
        budget=options.budget,
        per_round=options.per_round,
        rounds=100,
        starts=64,
        inside=0.05,
        max_atoms=4,  # the layered cells alone, which are cheap
        explore=EXPLORE,
        label=Labelling(model=options.teacher, largest_force=10.0),  # what ran away teaches nothing
        seed=options.seed,
    )
    place = Place(options.out / "run", None, lambda text: print(text, flush=True))
    learn(Student(potential, fit_settings("mtp", FIT)), [*start, *cells], settings, place)


def by_round(folder: Path, wanted: dict[str, Voltage]) -> list[dict[str, Any]]:
    """Voltages of the potential of each round, with grades and their differences from the teacher's."""
    rows: list[dict[str, Any]] = []
    train = jaxmlip.read(folder / "train.extxyz")
    for line in (folder / "rounds.jsonl").read_text(encoding="utf-8").splitlines():
        kept = json.loads(line)
        n_train = int(kept["n_train"])
        model = jaxmlip.load(folder / f"round-{kept['round']:03d}" / "model.npz")
        found = voltages(model, active=active_set(model, train[:n_train]))
        for one in found:
            told = wanted[one.metal].voltage
            error = None if one.voltage is None or told is None else one.voltage - told
            rows.append({"round": kept["round"], "n_train": n_train, **one._asdict(), "error": error})
    return rows


def table(rows: Sequence[dict[str, Any]], wanted: dict[str, Voltage]) -> str:
    """How many voltages stand after each round and how wrong they are; then those of the last round, as Markdown."""
    lines = ["| labels | voltages that stand | mean absolute error, V | largest grade |", "|---|---|---|---|"]
    own: list[dict[str, Any]] = []
    for number in sorted({row["round"] for row in rows}):
        own = [row for row in rows if row["round"] == number]
        errors = [abs(row["error"]) for row in own if row["error"] is not None]
        grades = [row["grade"] for row in own if row["grade"] is not None]
        mean = f"{np.mean(errors):.3f}" if errors else "—"
        largest = f"{max(grades):.2f}" if grades else "—"
        lines.append(f"| {own[0]['n_train']} | {len(errors)} of {len(own)} | {mean} | {largest} |")
    lines += ["", "| metal | teacher, V | learned, V | grade | |", "|---|---|---|---|---|"]
    for row in own:
        teacher = wanted[row["metal"]].voltage
        volts = ["—" if value is None else f"{value:.2f}" for value in (teacher, row["voltage"])]
        grade = "—" if row["grade"] is None else f"{row['grade']:.2f}"
        lines.append(f"| {row['metal']} | {volts[0]} | {volts[1]} | {grade} | {row['status']} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
