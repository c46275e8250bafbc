"""A program for test_devices: fits by some METHODS (a,b,c) as process NUMBER of COUNT; the parameters to a file.

python tests/fits_on_devices.py FOLDER METHODS [ADDRESS COUNT NUMBER]
"""

import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

FAMILIES = {
    "gradient": ("nequip", {"num_layers": 1, "num_features": 2, "radial_mlp_depth": 0}),
    "packed": ("snap", {"twojmax": 2}),
    "quasi-newton": ("aenet", {"radial_order": 2, "angular_order": 1, "hidden": ("2:tanh",)}),
    "gauss-newton": ("mtp", {"level": 4, "min_dist": 2.0, "radial_basis_size": 3}),
}


def fits(methods, folder=None):
    """The fitted parameters by each method, as flat vectors."""
    import jaxmlip
    from jaxmlip.fitting import fit_settings

    frames = sorted(jaxmlip.datasets.load("mo", split="train"), key=len)
    frames = [frame for frame in frames if len(frame) > 1][:7]  # a number that devices do not divide
    common = {"epochs": 3, "batch_size": 5, "n_shapes": 1, "dtype": "float64", "checkpoint_every": 2}
    found = {}
    for method in methods:
        family, settings = FAMILIES[method]
        potential = jaxmlip.build(family, species=("Mo",), cutoff=3.5, **settings)
        streamed = method == "packed"
        chosen = {**common, "method": "gradient" if streamed else method, "stress_weight": 1.0}
        data = jaxmlip.data.pack(frames, Path(tempfile.mkdtemp()) / "data") if streamed else frames
        where = None if folder is None else folder / method
        model, history = jaxmlip.fit(potential, data, settings=fit_settings(family, chosen), folder=where)
        leaves = [np.ravel(x) for x in jax.tree.leaves(model.params)]
        found[method] = np.concatenate([*leaves, [history.summary["best_loss"]]])
    return found


if __name__ == "__main__":
    out, methods, *distributed = sys.argv[1:]
    if distributed:
        address, count, number = distributed
        jax.distributed.initialize(address, int(count), int(number))
    result = fits(methods.split(","), Path(out))
    with (Path(out) / f"result{jax.process_index()}.npz").open("wb") as file:
        np.savez(file, n_devices=jax.device_count(), **result)
