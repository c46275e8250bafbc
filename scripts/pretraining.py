"""Pre-train on surrogate labels, fine-tune on few DFT structures: test errors of three splits.

    python scripts/pretraining.py nequip nequip.npz     (20 CPU minutes to pre-train, 5 a split)
    python scripts/pretraining.py mtp mtp.npz           (23 CPU minutes, one or two a split)

The surrogate labels are those of a universal potential (CHGNet), not DFT. FILE keeps the pre-trained model; if it is
there already it is used. Then, for each seed, 120 of the shipped DFT rocksalts, in the order
``numpy.random.default_rng(seed).permutation(150)``, fine-tune that model, and the other 30 test it. The energies per
element are fitted anew. MTP's fit pulls each parameter towards its pre-trained value (`GaussNewtonFit.prior`), so that
pairs of elements which the 120 hardly show keep what the surrogate says of them. With --scratch also what the 120 alone
give with the family's preset.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import jaxmlip
from jaxmlip.data.split import split
from jaxmlip.evaluate import errors
from jaxmlip.fitting import fit_settings
from jaxmlip.study.presets import preset
from jaxmlip.units import MEV

MTP_LEVEL = 12
MTP_STAGES = (
    (150, 6, 1e-3),
    (600, 5, 1e-3),
    (1200, 4, 5e-3),
    (2798, 4, 1e-3),
)
"""Structures, steps and first damping: few structures find the valley cheaply, many keep it general."""

MTP_DENSE = 4000
"""Parameters up to which JᵀJ is held; level 12 has 2,904."""

SCRATCH = {"mtp": "mtp-rocksalt", "nequip": "nequip-rocksalt"}
"""Presets for the 120 alone."""

FINE_TUNING = {
    "mtp": {**preset("mtp-rocksalt").fit, "epochs": 3, "dense_limit": MTP_DENSE},
    "nequip": preset("nequip-fine-tuning").fit,
}


def pretrained_mtp() -> jaxmlip.Model:
    """In stages; the last 100 of the cells in random order are held out."""
    frames = shuffled("ldr-surrogate", 0)
    chosen = preset("mtp-rocksalt")
    potential = {**chosen.potential, "level": MTP_LEVEL, "min_dist": 1.6}
    start: Any = jaxmlip.build("mtp", species=elements(frames), **potential)
    values = {**chosen.fit, "dtype": "float32", "prior": 0.0, "tolerance": 3e-3, "dense_limit": MTP_DENSE}
    for n, steps, damping in MTP_STAGES:
        values |= {"epochs": steps, "damping": damping}
        start, _ = jaxmlip.fit(start, frames[:n], settings=fit_settings("mtp", values), show_progress=True)
        show(f"surrogate, {n} cells; 100 held out", start, frames[-100:])
    return start


def pretrained_nequip() -> jaxmlip.Model:
    """At once; all cells of one twentieth of the parent cells are held out."""
    frames = jaxmlip.datasets.load("ldr-surrogate")
    parts, chosen = split(frames, test=0.05, by="composition_id", seed=0), preset("nequip-pretraining")
    train, held_out = ([frames[k] for k in part] for part in (parts.train, parts.test))
    potential = jaxmlip.build("nequip", species=elements(frames), **chosen.potential)
    model, _ = jaxmlip.fit(potential, train, settings=fit_settings("nequip", chosen.fit), show_progress=True)
    show(f"surrogate, {len(train)} cells; {len(held_out)} held out", model, held_out)
    return model


PRETRAINED: dict[str, Callable[[], jaxmlip.Model]] = {"mtp": pretrained_mtp, "nequip": pretrained_nequip}


def shuffled(name: str, seed: int) -> list:
    """A shipped data set in random order."""
    frames = jaxmlip.datasets.load(name)
    return [frames[k] for k in np.random.default_rng(seed).permutation(len(frames))]


def elements(frames: list) -> tuple[int, ...]:
    """Their atomic numbers."""
    return tuple(sorted({int(z) for frame in frames for z in frame.numbers}))


def show(words: str, model: jaxmlip.Model, frames: list) -> None:
    """Print root mean square errors."""
    table = errors(model, frames)
    print(f"{words}: {MEV * table['energy'].rmse:.1f} meV/atom, {table['forces'].rmse:.3f} eV/Å", flush=True)


def main() -> None:
    """Pre-train unless the file is there; fine-tune, split by split."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=sorted(PRETRAINED))
    parser.add_argument("file", type=Path, help="of the pre-trained model")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="splits (default 0 1 2)")
    parser.add_argument("--scratch", action="store_true", help="also without pre-training")
    options = parser.parse_args()
    family = options.family
    if not options.file.exists():
        jaxmlip.save(PRETRAINED[family](), options.file)
    start = jaxmlip.load(options.file)
    runs: list[tuple[str, Any, dict[str, Any]]] = [("fine-tuned", start, FINE_TUNING[family])]
    if options.scratch:
        chosen = preset(SCRATCH[family])
        potential = jaxmlip.build(family, species=start.potential.config.species, **chosen.potential)
        runs += [("alone", potential, chosen.fit)]
    for seed in options.seeds:
        frames = shuffled("ldr", seed)
        for words, begin, values in runs:
            model, history = jaxmlip.fit(begin, frames[:120], settings=fit_settings(family, values))
            seconds = history.summary["cpu_seconds"]
            show(f"DFT, split {seed}, 120 {words}, {seconds:.0f} CPU s; 30 others", model, frames[120:])


if __name__ == "__main__":
    main()
