"""A moment tensor potential of the rocksalts: pre-trained on surrogate labels, then fitted to 120 DFT cells.

    python scripts/pretraining.py pretrained.npz

About 12 CPU minutes to pre-train, half a minute a split. The surrogate labels are those of a universal potential
(CHGNet), not DFT. The fit to DFT pulls each parameter towards its pre-trained value (`GaussNewtonFit.prior`), so that
pairs of elements which the 120 cells hardly show keep what the surrogate says of them. Errors are those of the 30 other
DFT cells, in three random splits. An existing file is used.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import jaxmlip
from jaxmlip.evaluate import errors
from jaxmlip.fitting import fit_settings
from jaxmlip.potentials.presets import preset

STAGES = ((150, 7, "float64", 1e-3), (600, 5, "float64", 1e-3), (1000, 6, "float32", 5e-3), (2200, 4, "float32", 1e-3))
"""Structures, steps, precision and first damping: few structures find the valley cheaply, many keep it general."""


def pretrain() -> jaxmlip.Model:
    """A model of the surrogate; the last 100 of its cells in random order are held out."""
    frames = shuffled("ldr-surrogate", 0)
    chosen = preset("mtp-rocksalt")
    species = sorted({int(z) for frame in frames for z in frame.numbers})
    start: Any = jaxmlip.build(chosen.family, species=tuple(species), min_dist=1.6, **chosen.potential)
    for n, steps, dtype, damping in STAGES:
        values = {**chosen.fit, "epochs": steps, "dtype": dtype, "damping": damping, "prior": 0.0, "tolerance": 3e-3}
        start, _ = jaxmlip.fit(start, frames[:n], settings=fit_settings("mtp", values), show_progress=True)
        show(f"surrogate, {n} cells; 100 held out", start, frames[-100:])
    return start


def shuffled(name: str, seed: int) -> list:
    """A shipped data set in random order."""
    frames = jaxmlip.datasets.load(name)
    return [frames[k] for k in np.random.default_rng(seed).permutation(len(frames))]


def show(words: str, model: jaxmlip.Model, frames: list) -> None:
    """Print root mean square errors."""
    table = errors(model, frames)
    print(f"{words}: {table['energy'].rmse:.1f} meV/atom, {table['forces'].rmse:.3f} eV/Å", flush=True)


def main() -> None:
    """Pre-train unless the file is there; fit three splits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="of the pre-trained model")
    path = parser.parse_args().file
    if not path.exists():
        jaxmlip.save(pretrain(), path)
    start = jaxmlip.load(path)
    settings = fit_settings("mtp", {**preset("mtp-rocksalt").fit, "epochs": 3})
    for seed in range(3):
        frames = shuffled("ldr", seed)
        model, _ = jaxmlip.fit(start, frames[:120], settings=settings)
        show(f"DFT, split {seed}", model, frames[120:])


if __name__ == "__main__":
    main()
