"""From SevenNet-0 to a fast potential of the shipped rocksalts: fine-tuned, distilled, voltages; three splits.

    python scripts/universal_start.py OUT finetune            (SevenNet-0 on 120 of the 150 DFT structures)
    python scripts/universal_start.py OUT finetune --sizes 15 30 60 120 --splits 0
    python scripts/universal_start.py OUT label               (what SevenNet-0 says of the surrogate's cells)
    python scripts/universal_start.py OUT label --name mean --teachers sevennet-0 sevennet-l3i5 --parts 7
    python scripts/universal_start.py OUT distil              (MTP: the teacher's labels and those of DFT)
    python scripts/universal_start.py OUT distil --student ace --name mean        (linear ACE, from both teachers' mean)
    python scripts/universal_start.py OUT voltages MODEL …    (the eight layered pairs)
    python scripts/universal_start.py OUT dynamics MODEL      (NPT, then 20 ps NVE at 1,000 K, 216 atoms; grades, drift)
    python scripts/universal_start.py OUT ship MODEL          (model, domain and card for jaxmlip/pretrained)

Split ``seed`` takes 120 structures in the order ``numpy.random.default_rng(seed).permutation(150)``; the other 30 test.
Rows go to OUT/results.jsonl with CPU seconds; a row, a label or a model that is there is not made again.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase
import numpy as np

import jaxmlip
from jaxmlip.cathodes import layered, voltages
from jaxmlip.cathodes.disorder import occupied, random_numbers, rocksalt
from jaxmlip.data.labels import Labels, attach, labels
from jaxmlip.evaluate.errors import errors
from jaxmlip.evaluate.grade import ActiveSet, active_set, grades, save_active_set
from jaxmlip.fitting import fit_settings
from jaxmlip.learning.exploration import labelled
from jaxmlip.potentials import Predicted, family_of
from jaxmlip.simulate import Dynamics, molecular_dynamics, relax
from jaxmlip.study.presets import preset
from jaxmlip.study.voltages import mean_absolute_error, voltage_row

METALS = ("Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Sc")
FINE_TUNING = {"method": "gradient", **preset("universal-fine-tuning").fit}
MTP = {"cutoff": 5.0, "level": 16, "radial_basis_size": 8, "min_dist": 1.2}
LARGEST_FORCE = 15.0  # eV/Å; structures on which the teacher finds larger ones are left out
MTP_SURROGATE = {
    "method": "gradient",
    "learning_rate": 0.0015,
    "batch_size": 4,
    "epochs": 25,
    "energy_weight": 20.0,
    "validation_fraction": 0.0,
    "n_shapes": 2,
    "clip_norm": 20.0,
}
CITATIONS = [
    "SevenNet-0: Park, Kim, Hwang, Han, J. Chem. Theory Comput. 20, 4857 (2024)",
    "MPtrj: Deng et al., Nat. Mach. Intell. 5, 1031 (2023)",
    "DFT data: Choyal, Sagar, Sai Gautam, J. Chem. Theory Comput. (2024), arXiv:2304.01650",
]
PAPERS = {
    "mtp": "MTP: Shapeev, Multiscale Model. Simul. 14, 1153 (2016)",
    "ace": "ACE: Drautz, Phys. Rev. B 99, 014104 (2019)",
}
TEACHERS = {
    "mtp": "labels of SevenNet-0, fine-tuned on the same 120",
    "ace": "labels, the mean of SevenNet-0 and SevenNet-l3i5",
}
LIMITS = {
    "mtp": "Li-Ti-O of other compositions than LiTiO2 and TiO2 is up to 0.2 eV/atom off; at constant pressure it falls "
    "apart from about 700 K on (rocksalt-ace does not); look at the grades of hot dynamics ({})",
    "ace": "no active set for grades comes with it; tried for {}",
}
MTP_STUDENT = {**MTP_SURROGATE, "learning_rate": 0.002, "epochs": 60}
ACE = preset("ace-rocksalt").potential
ACE_STUDENT = {"method": "linear", "energy_weight": 30.0, "ridge": 0.0025}
WEIGHTS = {"mtp": {"dft": 3.0, "layered": 1.0}, "ace": {"dft": 6.0, "layered": 5.0}}  # of others: 1


def shuffled(seed: int) -> list[ase.Atoms]:
    """The 150 DFT structures in the order of a split."""
    frames = jaxmlip.datasets.load("ldr")
    return [frames[k] for k in np.random.default_rng(seed).permutation(len(frames))]


def elements() -> tuple[int, ...]:
    """Atomic numbers of the DFT structures."""
    return tuple(sorted({int(z) for frame in jaxmlip.datasets.load("ldr") for z in frame.numbers}))


def rmse(model: jaxmlip.Model, frames: Sequence[ase.Atoms]) -> dict[str, float]:
    """Of energies in eV/atom and forces in eV/Å, of evaluations in float32."""
    told = [labels(frame) for frame in labelled(model, frames)]
    energy = np.array([one.energy for one in told])
    predicted = Predicted(energy, [np.asarray(one.forces) for one in told], np.zeros((len(told), 3, 3)))
    table = errors(predicted, [without_stress(frame) for frame in frames])
    return {"energy": table["energy"].rmse, "forces": table["forces"].rmse}


def without_stress(frame: ase.Atoms) -> ase.Atoms:
    """A copy with energy and forces alone."""
    copy = frame.copy()
    attach(copy, labels(frame)._replace(stress=None))
    return copy


def keep(out: Path, row: dict[str, Any]) -> None:
    """Append a row of results, and print it."""
    with (out / "results.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    print(row, flush=True)


def finetune(out: Path, options: argparse.Namespace) -> None:
    """SevenNet-0 on some of the 120 of each split."""
    for split in options.splits:
        for size in options.sizes:
            target = out / f"fine-tuned-{split}-{size}.npz"
            if target.exists():
                continue
            clock, frames = time.process_time(), shuffled(split)
            start = jaxmlip.load("sevennet-0", species=elements())
            settings = fit_settings("sevennet", FINE_TUNING)
            folder = out / target.stem
            model, history = jaxmlip.fit(start, frames[:size], settings=settings, folder=folder, show_progress=show)
            seconds = time.process_time() - clock
            jaxmlip.save(model, target)
            row = {"what": "fine-tuned", "split": split, "size": size, "fit_cpu_s": seconds}
            keep(out, row | {"epochs": history.summary["epochs"], "test": rmse(model, frames[120:])})


def show(row: dict[str, Any]) -> None:
    """Print an epoch, or a stage."""
    print(
        {name: value if isinstance(value, str) else round(float(value), 4) for name, value in row.items()}, flush=True
    )


def surroundings() -> dict[str, list[ase.Atoms]]:
    """What the teacher is asked about, in parts.

    The DFT structures (for its energies per element, and its errors), layered cells
    strained and rattled, and cells of the surrogate set.
    """
    rng = np.random.default_rng(0)
    near: list[ase.Atoms] = []
    for metal in METALS:
        for lithium in (True, False):
            near += variants(layered(metal, lithium=lithium), rng)
    cells = jaxmlip.datasets.load("ldr-surrogate")
    order = np.random.default_rng(0).permutation(len(cells))
    parts = {f"cells-{k}": [cells[i] for i in order[100 * k : 100 * (k + 1)]] for k in range(28)}
    hot = [shaken(cells[i], rng) for i in order[:400]]
    return {"dft": jaxmlip.datasets.load("ldr"), "layered": near, "hot": hot, **parts}


def shaken(atoms: ase.Atoms, rng: np.random.Generator) -> ase.Atoms:
    """A cell of another volume with its atoms far from their sites: what keeps atoms apart in hot dynamics."""
    one = atoms.copy()
    one.set_cell(one.cell.array * rng.uniform(0.85, 1.2) ** (1 / 3), scale_atoms=True)
    one.rattle(rng.uniform(0.1, 0.4), rng=rng)
    return one


def variants(atoms: ase.Atoms, rng: np.random.Generator) -> list[ase.Atoms]:
    """A cell, six of its kind strained and rattled, and layers farther apart or nearer."""
    found = [atoms]
    for _ in range(6):
        one = atoms.copy()
        strain = rng.uniform(-0.06, 0.06, (3, 3)) / 2
        strain = strain + strain.T + np.eye(3) * rng.uniform(-0.03, 0.03)
        one.set_cell(one.cell.array @ (np.eye(3) + strain), scale_atoms=True)
        one.rattle(rng.uniform(0.01, 0.12), rng=rng)
        found.append(one)
    axis = atoms.cell.array.sum(axis=0)
    axis /= np.linalg.norm(axis)
    for factor in (0.9, 0.95, 1.05, 1.1):
        one = atoms.copy()
        one.set_cell(one.cell.array + (factor - 1) * np.outer(one.cell.array @ axis, axis), scale_atoms=True)
        found.append(one)
    return found


def label(out: Path, options: argparse.Namespace) -> None:
    """The mean of the teachers' labels, part by part."""
    models = [jaxmlip.load(one, species=None if Path(one).exists() else elements()) for one in options.teachers]
    for name, frames in list(surroundings().items())[: 3 + options.parts]:
        target = out / f"{options.name}-{name}.extxyz"
        if not target.exists():
            clock = time.process_time()
            told = averaged([labelled(model, frames) for model in models])
            told = [one for one in told if np.abs(np.asarray(labels(one).forces)).max() < LARGEST_FORCE]
            jaxmlip.data.write(target, told)
            keep(out, {"what": "labels", "part": name, "n": len(frames), "cpu_s": time.process_time() - clock})


def averaged(answers: Sequence[Sequence[ase.Atoms]]) -> list[ase.Atoms]:
    """The mean of what several teachers say of the same structures: energies and forces."""
    found = []
    for same in zip(*answers, strict=True):
        one, told = same[0].copy(), [labels(frame) for frame in same]
        energy, forces = (
            np.mean([float(t.energy or 0.0) for t in told]),
            np.mean([np.asarray(t.forces) for t in told], axis=0),
        )
        attach(one, Labels(float(energy), forces, None))
        found.append(one)
    return found


def distil(out: Path, options: argparse.Namespace) -> None:
    """A student, on the teacher's labels and those of DFT, split by split."""
    family, weights = options.student, WEIGHTS[options.student]
    start = jaxmlip.build(family, species=elements(), **{"mtp": MTP, "ace": ACE}[family])
    told = []
    for path in sorted(out.glob(f"{options.name}-*.extxyz")):
        part = path.stem.removeprefix(f"{options.name}-")
        told += [] if part == "dft" else weighted(jaxmlip.read(path), weights.get(part, 1.0))
    said = np.array([labels(frame).energy for frame in jaxmlip.read(out / f"{options.name}-dft.extxyz")])
    for split in options.splits:
        name = f"{family}-{options.name}-{split}"
        frames = weighted(shuffled(split), weights["dft"])
        order, n_train = np.random.default_rng(split).permutation(len(frames)), len(frames) if options.all else 120
        moved = on_scale_of(told, frames[:n_train], said[order][:n_train])
        student(out, (frames[:n_train], frames[n_train:]), (start, moved), name + ("-all" if options.all else ""))


def weighted(frames: Sequence[ase.Atoms], weight: float) -> list[ase.Atoms]:
    """Copies without stress that count so much in a fit."""
    copies = [without_stress(frame) for frame in frames]
    for copy in copies:
        copy.info["weight"] = weight
    return copies


def student(out: Path, dft: tuple[list, list], taught: tuple[jaxmlip.Potential, list[ase.Atoms]], name: str) -> None:
    """One fit to the teacher's labels and those of the DFT structures."""
    target, family = out / f"{name}.npz", name.split("-")[0]
    if target.exists():
        return
    clock, (train, test), (start, told) = time.process_time(), dft, taught
    settings, folder = fit_settings(family, {"mtp": MTP_STUDENT, "ace": ACE_STUDENT}[family]), out / target.stem
    model, _ = jaxmlip.fit(start, [*train, *told], settings=settings, folder=folder, show_progress=show)
    jaxmlip.save(model, target)
    row: dict[str, Any] = {"what": name, "n_teacher": len(told), "fit_cpu_s": time.process_time() - clock}
    keep(out, row | {"train": rmse(model, train)} | ({"test": rmse(model, test)} if test else {}))


def on_scale_of(told: list[ase.Atoms], train: list[ase.Atoms], said: np.ndarray) -> list[ase.Atoms]:
    """Teacher's labels with energies per element added: those that its energies ``said`` of ``train`` lack."""
    kinds = np.array(elements())
    counts = np.array([(frame.numbers[:, None] == kinds).sum(axis=0) for frame in train])
    n_atoms = counts.sum(axis=1)
    missing = np.array([labels(frame).energy for frame in train]) - said
    change = np.linalg.lstsq(counts / n_atoms[:, None], missing / n_atoms, rcond=None)[0]
    moved = []
    for frame in told:
        copy, given = frame.copy(), labels(frame)
        energy = float(given.energy or 0.0) + float((frame.numbers[:, None] == kinds).sum(axis=0) @ change)
        attach(copy, Labels(energy, given.forces, given.stress))
        moved.append(copy)
    return moved


def print_voltages(out: Path, options: argparse.Namespace) -> None:
    """The eight layered pairs with each model."""
    for path in options.models:
        clock = time.process_time()
        rows = [voltage_row(one) for one in voltages(jaxmlip.load(path))]
        mean, _, n = mean_absolute_error(rows)
        found = {row["metal"]: row["status"] if row["voltage"] is None else row["voltage"] for row in rows}
        row = {"what": "voltages", "model": str(path), "mean_error_V": mean, "n": n, "voltages": found}
        keep(out, row | {"cpu_s": time.process_time() - clock})


def hot_cell() -> ase.Atoms:
    """A lithiated disordered rocksalt of 216 atoms, LiMnO2 with a third of the manganese as titanium and nickel."""
    sites = rocksalt("Li6Mn4TiNiO12", repeat=(3, 3, 3))
    return occupied(sites, random_numbers(sites, {"Li": 6, "Mn": 4, "Ti": 1, "Ni": 1, "O": 12}))


def dynamics(out: Path, options: argparse.Namespace) -> None:
    """NVE from 1,000 K (--picoseconds), after 2 ps of a bath: drift, and grades of a snapshot each 2 ps; NPT before."""
    for path in options.models:
        clock, model = time.process_time(), jaxmlip.load(path)
        start = relax(model, hot_cell()).atoms
        warm = {"temperature": 1000.0, "timestep": 1.0, "precision": "float32", "log_every": 100}
        swollen = molecular_dynamics(
            model, start, Dynamics(ensemble="npt", n_steps=5000, frame_every=1000, **warm)
        ).atoms
        bath = Dynamics(ensemble="langevin", n_steps=2000, frame_every=2000, **warm)
        heated, n_steps = molecular_dynamics(model, swollen, bath).atoms, 1000 * options.picoseconds
        free = Dynamics(ensemble="nve", n_steps=n_steps, frame_every=2000, keep_velocities=True, **warm)
        run = molecular_dynamics(model, heated, free)
        row = {"what": "dynamics", "model": str(path), "n_atoms": len(start), "drift_meV_per_atom_ps": run.drift}
        row |= {"mean_K": float(np.mean(run.temperature)), "picoseconds": options.picoseconds}
        row |= {
            "npt_volume": float(swollen.get_volume() / start.get_volume()),
            "farthest_A": farthest(swollen, run.frames),
        }
        if family_of(model.potential.config).name == "mtp":
            active = domain(model, out, options.name, int(path.stem.split("-")[-1]))
            row["largest_grade"] = float(grades(model, active, run.frames).structures.max())
        keep(out, row | {"cpu_s": time.process_time() - clock})


def farthest(start: ase.Atoms, frames: Sequence[ase.Atoms]) -> float:
    """Å from its first place, of the oxygen atom that went farthest: those of a crystal stay near their sites."""
    moved = frames[-1].get_scaled_positions(wrap=False) - start.get_scaled_positions(wrap=False)
    moved = moved[start.symbols == "O"]
    moved -= np.angle(np.exp(2j * np.pi * moved).mean(axis=0)) / (2 * np.pi)  # the crystal as a whole drifts
    return float(np.linalg.norm((moved - np.rint(moved)) @ start.cell.array, axis=1).max())


def domain(model: jaxmlip.Model, out: Path, name: str, split: int) -> ActiveSet:
    """The active set of atoms of all that a student learned from, by its linear coefficients."""
    told = [frame for path in sorted(out.glob(f"{name}-*.extxyz")) for frame in jaxmlip.read(path)]
    return active_set(model, [*shuffled(split)[:120], *told], mode="atoms", frozen=["radial"])


def ship(out: Path, options: argparse.Namespace) -> None:
    """Model, domain and card, in OUT; the card tells what the rows of results say."""
    (path,) = options.models
    family, split, rows = path.stem.split("-")[0], int(path.stem.split("-")[-1]), results(out)
    name, model = f"rocksalt-{family}", jaxmlip.load(path)
    fitted = next(row for row in rows if row["what"] == path.stem)
    volts = next(row for row in rows if row["what"] == "voltages" and row["model"] == str(path))
    hot = next(row for row in rows if row["what"] == "dynamics" and row["model"] == str(path))
    lasts = f"{hot['picoseconds']} ps at {hot['mean_K']:.0f} K"
    jaxmlip.save(model, out / f"{name}.npz")
    if family == "mtp":
        lasts = f"largest of {lasts}: {hot['largest_grade']:.1f}"
        save_active_set(domain(model, out, options.name, split), out / f"{name}-active.npz")
    card = {
        "name": name,
        "family": family,
        "summary": "disordered and layered rocksalt LiTMO2 to TMO2 of nine metals, distilled from universal ones",
        "citations": [*CITATIONS, PAPERS[family]],
        "elements": model.potential.config.symbols,
        "trained_on": f"120 of the 150 DFT structures `ldr` (GGA/GGA+U; split {split}) and {fitted['n_teacher']:,} "
        + TEACHERS[family],
        "made_by": "scripts/universal_start.py OUT label, distil, voltages, dynamics, ship",
        "made_on": time.strftime("%Y-%m-%d"),
        "errors": {
            "meV/atom of DFT": round(1e3 * fitted["test"]["energy"], 1),
            "eV/Å of DFT": round(fitted["test"]["forces"], 3),
            "meV/atom of the 120 it learned from": round(1e3 * fitted["train"]["energy"], 1),
            "eV/Å of the 120 it learned from": round(fitted["train"]["forces"], 3),
        },
        "voltages": f"{volts['n']} of 8 layered pairs; mean error {volts['mean_error_V']:.2f} V against DFT",
        "temperatures": [0, 1000],
        "limits": "no surfaces, molecules or lithium metal; " + LIMITS[family].format(lasts),
        "learned": sorted(int(frame.info["id"]) for frame in shuffled(split)[:120]),
    }
    (out / f"{name}.json").write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def results(out: Path) -> list[dict[str, Any]]:
    """All rows so far, the last one first."""
    return [json.loads(line) for line in reversed((out / "results.jsonl").read_text(encoding="utf-8").splitlines())]


STAGES = {
    "finetune": finetune,
    "label": label,
    "distil": distil,
    "voltages": print_voltages,
    "dynamics": dynamics,
    "ship": ship,
}


def main() -> None:
    """One stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of results")
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("models", type=Path, nargs="*", help="of `voltages`")
    parser.add_argument("--splits", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sizes", type=int, nargs="+", default=[120], help="DFT structures to fine-tune on")
    parser.add_argument(
        "--teachers", nargs="+", default=["sevennet-0"], help="universal or fine-tuned models: their mean"
    )
    parser.add_argument("--student", choices=("mtp", "ace"), default="mtp", help="family of the student")
    parser.add_argument("--name", default="sevennet-0", help="of the teacher's labels")
    parser.add_argument("--parts", type=int, default=4, help="hundreds of cells that the teacher labels, beside others")
    parser.add_argument("--picoseconds", type=int, default=20, help="of `dynamics`")
    parser.add_argument("--all", action="store_true", help="distil with all 150 structures")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    STAGES[options.stage](options.out, options)


if __name__ == "__main__":
    main()
