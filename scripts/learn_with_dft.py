"""Active learning with real DFT: GPAW labels, in a Python of its own.

    apt-get install gpaw gpaw-data            # Debian; its Python is /usr/bin/python3
    python scripts/learn_with_dft.py LiH --out dft-lih
    python scripts/learn_with_dft.py LiCoO2 --budget 72 --per-round 12 --starts 24 --processes 2 --out dft-licoo2

Lithium hydride takes about a second a calculation and shows the way. LiCoO2 and its delithiated cells of 3 to 16 atoms
(PBE+U, without spin) take one to eight minutes; afterwards the potential has to keep 10 ps at 600 K, and its voltage is
compared with that of the same DFT, which relaxes both ends itself. ``--known notebooks/licoo2_gpaw.extxyz`` starts from
the 92 labels that are there already; ``--teacher rocksalt-ace`` rehearses without DFT. The k-points of both are coarse:
for results take those that your material needs. The cutoff of LiCoO2 must not be lower: at 400 eV energies are 4 eV a
cell too high and jump by 0.05 eV under strains of 1 %, and stresses are wrong by 10 GPa.

A run that was stopped goes on.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

GPAW_PYTHON = "/usr/bin/python3"
DFT: dict[str, dict[str, Any]] = {
    "LiH": {"cutoff": 250, "kpts": {"density": 2.0}},
    "LiCoO2": {"cutoff": 700, "kpts": {"density": 1.2, "gamma": True}, "setups": {"Co": ":d,3.32"}},
}
"""Plane waves up to so many eV, k-points per 1/Å, and U of cobalt's d electrons in eV."""
_FMAX = 0.05  # eV/Å, of the ends that DFT relaxes
_DRAWS = 5  # of velocities


def main(words: Sequence[str]) -> None:
    """Run the learning, or, as GPAW's Python calls it, one calculation."""
    if words and words[0] in _WORKERS:
        _WORKERS[words[0]](*words[1:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", choices=list(DFT))
    parser.add_argument("--python", default=GPAW_PYTHON, help="a Python that has GPAW")
    parser.add_argument("--budget", type=int, default=24, help="calculations")
    parser.add_argument("--per-round", type=int, default=8, help="calculations of a round")
    parser.add_argument("--starts", type=int, default=0, help="replicas of a round; 0: as many as calculations")
    parser.add_argument("--known", type=Path, nargs="*", default=(), help="files with labels of the same DFT")
    parser.add_argument("--teacher", default="", help="a potential in place of DFT, to rehearse: rocksalt-ace")
    parser.add_argument("--processes", type=int, default=1, help="calculations at once")
    parser.add_argument("--out", type=Path, default=Path("dft-run"))
    options = parser.parse_args(words)
    if options.known and options.teacher:
        parser.error("--known gives labels of DFT; a teacher's energies are others: give one of --known and --teacher")
    if options.teacher:
        options.out /= "rehearsal"  # never among the labels of DFT
    {"LiH": lithium_hydride, "LiCoO2": cobaltate}[options.system](options)


def _calculator(system: str) -> Any:
    """PBE in plane waves; imports nothing of jaxmlip."""
    from gpaw import GPAW, PW, FermiDirac  # type: ignore[import-not-found]

    settings = dict(DFT[system])
    waves = PW(settings.pop("cutoff"), dedecut="estimate")
    symmetry = {"point_group": False}
    return GPAW(mode=waves, xc="PBE", symmetry=symmetry, occupations=FermiDirac(0.1), txt="gpaw.txt", **settings)


def label(system: str, source: str, target: str) -> None:
    """Energy, forces and stress of one structure."""
    from ase.io import read, write

    atoms: Any = read(source)
    atoms.calc = _calculator(system)
    write(target, labelled_copy(atoms), format="extxyz")


def labelled_copy(atoms: Any) -> Any:
    """The structure with what its calculator says now."""
    from ase.calculators.singlepoint import SinglePointCalculator

    found = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
    copy = atoms.copy()
    copy.calc = SinglePointCalculator(copy, **found)
    return copy


def relax(system: str, source: str, target: str) -> None:
    """The minimum of one structure, positions and cell: of all steps that with the least energy.

    In a basis of plane waves stresses are not quite the derivatives of energies, so the last step may lie higher.
    """
    from importlib import import_module

    from ase.io import read, write
    from ase.optimize import BFGS

    atoms: Any = read(source)
    atoms.calc = _calculator(system)
    filters: Any = import_module("ase.constraints")  # of ASE 3.22, which Debian has
    if not hasattr(filters, "ExpCellFilter"):
        filters = import_module("ase.filters")
    steps: list[Any] = []
    search = BFGS(filters.ExpCellFilter(atoms))
    search.attach(lambda: steps.append(labelled_copy(atoms)))
    search.run(fmax=_FMAX, steps=40)
    write(target, min(steps, key=lambda step: step.get_potential_energy()), format="extxyz")


_WORKERS = {"label": label, "relax": relax}


def _learned(options: argparse.Namespace, student: Any, starts: list, explore: tuple) -> Any:
    """What the loop ends with; it tells the errors of each round."""
    import jax

    import jaxmlip
    from jaxmlip.learning import Place
    from jaxmlip.learning.active import Labelling, Learning, learn

    command = f"{options.python} {Path(__file__).resolve()} label {options.system} {{input}} {{output}}"
    who: dict[str, Any] = {"command": command, "time_limit": 3600.0, "processes": options.processes}
    if options.teacher:
        who = {"model": options.teacher}
    settings = Learning(
        budget=options.budget,
        per_round=options.per_round,
        starts=options.starts or options.per_round,
        explore=explore,
        label=Labelling(**who, largest_force=10.0),
    )
    known = [frame for path in options.known for frame in jaxmlip.read(path)]
    place = Place(options.out, None, lambda text: print(text, flush=True))
    with jax.enable_x64(True):
        return learn(student, [*known, *starts], settings, place)


def lithium_hydride(options: argparse.Namespace) -> None:
    """SNAP of two- and four-atom cells."""
    from ase.build import bulk

    import jaxmlip
    from jaxmlip.learning import Student
    from jaxmlip.learning.active import Explorer

    starts = []
    for k, repeat in enumerate([(1, 1, 1), (2, 1, 1), (1, 1, 1), (2, 1, 1)]):
        cell = bulk("LiH", "rocksalt", a=4.0 + 0.05 * k).repeat(repeat)
        cell.rattle(0.05, seed=k)
        starts.append(cell)
    potential = jaxmlip.build("snap", species=("Li", "H"), cutoff=4.0, twojmax=4, weights=(1.0, 0.5))
    dynamics = Explorer("dynamics", 2.0, {"temperatures": [300.0, 600.0], "pressures": [0.0], "n_steps": 60})
    fit = jaxmlip.fitting.LinearFit(energy_weight=30.0, ridge=1e-3)
    _learned(options, Student(potential, fit), starts, (dynamics, Explorer("strained")))


def cobaltate(options: argparse.Namespace) -> None:
    """MTP of LiCoO2, CoO2 and what lies between, with its voltage and its dynamics."""
    import jaxmlip
    from jaxmlip.cathodes import layered
    from jaxmlip.learning import Student
    from jaxmlip.learning.active import Explorer

    full = layered("Co")
    half = full.repeat((2, 1, 1))
    del half[int(next(k for k, atom in enumerate(half) if atom.symbol == "Li"))]
    starts = []
    large = full.repeat((2, 2, 1))  # in smaller cells neighbours are images and move as one: dynamics need more
    for k, cell in enumerate([full, half, _delithiated(full), large, half, _delithiated(full)]):
        start = cell.copy()
        start.set_cell(start.cell.array * (1 + 0.01 * (k % 3 - 1)), scale_atoms=True)
        start.rattle(0.05, seed=k)
        starts.append(start)
    settings: dict[str, Any] = {"cutoff": 5.0, "level": 14, "radial_basis_size": 8, "min_dist": 1.4}
    potential = jaxmlip.build("mtp", species=("Li", "O", "Co"), **settings)
    # Stresses tell at once where a cell wants to go; a prior of 0.01 leaves minima 0.1 eV too high or low.
    weights: dict[str, Any] = {"energy_weight": 5.0, "stress_weight": 3.0}
    fit = jaxmlip.fitting.GaussNewtonFit(prior=1e-3, epochs=60, validation_fraction=0.0, **weights)
    hot = {"temperatures": [300.0, 600.0, 900.0], "pressures": [0.0], "n_steps": 600, "snapshots": 10}
    ends = {"max_steps": 30}  # where a voltage is read off; a potential's own minima are where it may be most wrong
    explore = (
        Explorer("dynamics", 2.0, hot),
        Explorer("relaxed", 2.0, ends),
        Explorer("layers"),
        Explorer("strained"),
        Explorer("delithiated"),
    )
    began = time.time()
    found = _learned(options, Student(potential, fit), starts, explore)
    print(f"ended: {found.ended}; {(time.time() - began) / 3600:.2f} h of this process")
    _judge(found.model, full, options)


def _delithiated(cell: Any) -> Any:
    left = cell.copy()
    del left[[atom.index for atom in left if atom.symbol == "Li"]]
    return left


def _judge(model: Any, full: Any, options: argparse.Namespace) -> None:
    """The voltage beside that of the same DFT, and 10 ps at 600 K."""
    import jax

    from jaxmlip.simulate import relax

    ends = [full, _delithiated(full)]
    with jax.enable_x64(True):
        own = relax(model, ends)
        result = _voltage(own, ends, options) if all(end.converged for end in own) else {"voltage_error": None}
        result |= _kept(model, own[0].atoms.repeat((4, 4, 2)), options)
    told = json.dumps(result, indent=1)
    (options.out / "judged.json").write_text(told + "\n", encoding="utf-8")
    print(told)


def _voltage(own: list[Any], ends: list[Any], options: argparse.Namespace) -> dict[str, Any]:
    """Its error in V, against the least energies that DFT knows; volumes and energies (eV) against DFT's minima."""
    theirs = [_by_dft("relax", end, options, f"relaxed-{k}") for k, end in enumerate(ends)]
    there = [_by_dft("label", end.atoms, options, f"end-{k}") for k, end in enumerate(own)]
    least = [min(_energy(a), _energy(b)) for a, b in zip(theirs, there, strict=True)]
    return {
        "voltage_error": own[1].energy - own[0].energy - (least[1] - least[0]),
        "voltage_error_at_its_own_ends": own[1].energy - own[0].energy - (_energy(there[1]) - _energy(there[0])),
        "volumes": [float(end.atoms.get_volume() / one.get_volume()) for end, one in zip(own, theirs, strict=True)],
        "its_ends_lie_higher_by": [_energy(a) - _energy(b) for a, b in zip(there, theirs, strict=True)],
    }


def _kept(model: Any, large: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Whether 10 ps at 600 K are kept, with several draws of velocities."""
    from jaxmlip.evaluate import load_active_set

    active = load_active_set(options.out / "active.npz")
    return {"n_atoms": len(large), "dynamics": [_one_kept(model, large, active, seed) for seed in range(_DRAWS)]}


def _one_kept(model: Any, large: Any, active: Any, seed: int) -> dict[str, Any]:
    """One draw: largest displacement (Å), drift (eV/atom/ps), grade of the last frame."""
    import numpy as np

    from jaxmlip.evaluate import grades
    from jaxmlip.simulate import molecular_dynamics

    settings: dict[str, Any] = {"ensemble": "nvt", "temperature": 600.0, "n_steps": 10_000, "log_every": 100}
    try:
        run = molecular_dynamics(model, large, **settings, seed=seed)
    except RuntimeError as error:
        return {"kept": False, "why": str(error)}
    moved = np.sqrt(((run.atoms.positions - large.positions) ** 2).sum(axis=1).max())
    grade = grades(model, active, [run.atoms]).structures.max()
    return {"kept": True, "largest_displacement": float(moved), "drift": run.drift, "grade": float(grade)}


def _by_dft(what: str, start: Any, options: argparse.Namespace, name: str) -> Any:
    """A structure labelled or relaxed by DFT; kept, since that takes a minute or half an hour."""
    from ase.io import read, write

    source, target = (options.out / f"{name}-{part}.extxyz" for part in ("start", what))
    if options.teacher and not target.exists():
        write(target, _taught(what, start, options.teacher))
    elif not target.exists():
        write(source, start)
        words = [options.python, str(Path(__file__).resolve()), what, options.system]
        words += [str(source.resolve()), str(target.resolve())]
        subprocess.run(words, check=True, capture_output=True, cwd=options.out)
    return read(target)


def _taught(what: str, start: Any, teacher: str) -> Any:
    """The same by a potential in place of DFT."""
    import jaxmlip
    from jaxmlip.learning.exploration import labelled
    from jaxmlip.simulate import relax

    model = jaxmlip.load(teacher)
    return labelled(model, [relax(model, start).atoms if what == "relax" else start], dtype="float64")[0]


def _energy(atoms: Any) -> float:
    return float(atoms.get_potential_energy())


if __name__ == "__main__":
    main(sys.argv[1:])
