"""What pre-training on surrogate labels brings NequIP on few DFT structures: errors with and without, for some splits.

    python scripts/fine_tuning.py [--seeds 0 1 2] [--start pretrained/model.npz] [--scratch] [--out fine_tuning]

First, once (about 20 minutes of CPU time): the shipped surrogate rocksalts (CHGNet's labels, not DFT),

    jaxmlip fit --preset nequip-pretraining ldr-surrogate --split composition_id --test-fraction 0.05 --out pretrained

Then, for each seed: 120 of the shipped DFT rocksalts, in the order ``numpy.random.default_rng(seed).permutation(150)``,
fine-tune that model (preset nequip-fine-tuning), and the other 30 test it. With --scratch also what the 120 alone give
(preset nequip-rocksalt).
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import jaxmlip
from jaxmlip.evaluate import errors
from jaxmlip.fitting import fit_settings
from jaxmlip.potentials.presets import preset


def main() -> None:
    """Fine-tune and print, split by split."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", type=Path, default=Path("pretrained/model.npz"), help="the pre-trained model")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="splits (default 0 1 2)")
    parser.add_argument("--scratch", action="store_true", help="also without pre-training")
    parser.add_argument("--out", type=Path, default=Path("fine_tuning"), help="folder for logs and models")
    options = parser.parse_args()
    frames, start = jaxmlip.datasets.load("ldr"), jaxmlip.load(options.start)
    runs: list[tuple[str, Any]] = [("nequip-fine-tuning", start)]
    runs += [("nequip-rocksalt", start.potential)] if options.scratch else []
    for seed in options.seeds:
        order = np.random.default_rng(seed).permutation(len(frames))
        train, test = ([frames[k] for k in part] for part in (order[:120], order[120:]))
        for name, begin in runs:
            folder = options.out / f"{name}_{seed}"
            settings = fit_settings("nequip", preset(name).fit)
            model, history = jaxmlip.fit(begin, train, settings=settings, folder=folder)
            jaxmlip.save(model, folder / "model.npz")
            found = errors(model, test)
            numbers = f"{found['energy'].rmse:.1f} meV/atom, {found['forces'].rmse:.3f} eV/Å"
            print(f"split {seed}, {name}: test {numbers}; {history.summary['cpu_seconds']:.0f} CPU s", flush=True)


if __name__ == "__main__":
    main()
