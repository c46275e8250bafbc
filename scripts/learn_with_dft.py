"""Active learning with real DFT: GPAW labels, in a Python of its own.

    apt-get install gpaw gpaw-data            # Debian; its Python is /usr/bin/python3
    python scripts/learn_with_dft.py --out dft-run

Lithium hydride at a low cutoff: a calculation takes about a second. The settings are no more than enough to show the
way; for results take the cutoff and k-points that your material needs. A run that was stopped goes on.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

GPAW_PYTHON = "/usr/bin/python3"


def main(words: Sequence[str]) -> None:
    """Run the learning, or, as GPAW's Python calls it, one calculation."""
    if words and words[0] == "label":
        label(words[1], words[2])
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--python", default=GPAW_PYTHON, help="a Python that has GPAW")
    parser.add_argument("--budget", type=int, default=24, help="calculations")
    parser.add_argument("--out", type=Path, default=Path("dft-run"))
    learned(parser.parse_args(words))


def label(source: str, target: str) -> None:
    """Energy, forces and stress of PBE in plane waves; imports nothing of jaxmlip."""
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import read, write
    from gpaw import GPAW, PW  # type: ignore[import-not-found]

    atoms: Any = read(source)
    atoms.calc = GPAW(mode=PW(250), xc="PBE", kpts={"density": 2.0}, symmetry="off", txt="gpaw.txt")
    energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces, stress=stress)
    write(target, atoms, format="extxyz")


def learned(options: argparse.Namespace) -> None:
    """Learn, and tell the errors of each round."""
    import jax
    from ase.build import bulk

    import jaxmlip
    from jaxmlip.learning import Place, Student
    from jaxmlip.learning.active import Explorer, Labelling, Learning, learn

    starts = []
    for k, repeat in enumerate([(1, 1, 1), (2, 1, 1), (1, 1, 1), (2, 1, 1)]):
        cell = bulk("LiH", "rocksalt", a=4.0 + 0.05 * k).repeat(repeat)
        cell.rattle(0.05, seed=k)
        starts.append(cell)
    potential = jaxmlip.build("snap", species=("Li", "H"), cutoff=4.0, twojmax=4, weights=(1.0, 0.5))
    settings = Learning(
        budget=options.budget,
        per_round=8,
        starts=8,
        explore=(
            Explorer("dynamics", 2.0, {"temperatures": [300.0, 600.0], "pressures": [0.0], "n_steps": 60}),
            Explorer("strained"),
        ),
        label=Labelling(
            command=f"{options.python} {Path(__file__).resolve()} label {{input}} {{output}}", time_limit=300.0
        ),
    )
    place = Place(options.out, None, lambda text: print(text, flush=True))
    with jax.enable_x64(True):
        fit = jaxmlip.fitting.LinearFit(energy_weight=30.0, ridge=1e-3)
        learn(Student(potential, fit), starts, settings, place)


if __name__ == "__main__":
    main(sys.argv[1:])
