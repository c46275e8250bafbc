"""Data that do not fit in memory: packs structures, fits them from the disk, and tells times and memory.

    python scripts/packed_data.py --n-structures 100000

Each part runs in a process of its own, whose peak memory is told together with that of the processes it starts. Labels
are made up: what is measured is the way of the data, not a potential. The fits see all structures unless
--share is less.
"""

import json
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

SPECIES = ("Li", "O")
CUTOFF = 4.0
Part = Literal["pack", "read", "pipeline", "linear", "aenet", "nequip"]


@dataclass(frozen=True)
class Job:
    """What to measure."""

    n_structures: int = 100_000
    """Structures of 20 atoms."""
    folder: Path | None = None
    """Where the packed set is kept, or is already; by default a temporary folder."""
    share: float = 1.0
    """Of the structures, which the linear fit and an epoch of AENET see."""
    n_nequip: int = 200
    """Structures that the epoch of NequIP sees, which tells how much it consumes."""
    workers: int = 0
    """Processes that make graphs; 0: a thread."""
    parts: tuple[Part, ...] = ("pack", "read", "pipeline", "linear", "aenet", "nequip")
    """What to run, in this order."""


def structures(n: int) -> Iterator[Any]:
    """Rattled rock salt of 20 atoms with made-up energies, forces and stresses."""
    from ase.build import bulk

    from jaxmlip.data import Labels, attach

    rng = np.random.default_rng(0)
    base = bulk("LiO", "rocksalt", a=4.2).repeat((5, 2, 1))
    for _ in range(n):
        atoms = base.copy()
        atoms.set_cell(base.cell * rng.uniform(0.97, 1.03), scale_atoms=True)
        moved = rng.normal(scale=0.1, size=(len(atoms), 3))
        atoms.positions += moved
        attach(atoms, Labels(float(-60 + np.sum(moved**2)), -2 * moved, np.diag(rng.normal(scale=0.01, size=3))))
        yield atoms


def pack(job: Job, folder: Path) -> dict[str, Any]:
    """Write the set."""
    from jaxmlip.data import pack

    data = pack(structures(job.n_structures), folder)
    return {"n": len(data), "kilobytes a structure": size(folder) / 1000 / len(data)}


def size(folder: Path) -> int:
    """Of all files, in bytes."""
    return sum(file.stat().st_size for file in folder.iterdir())


def read(job: Job, folder: Path) -> dict[str, Any]:
    """Read all structures in a random order."""
    from jaxmlip.data import PackedData

    data = PackedData(folder)
    n_atoms = sum(len(data[int(k)]) for k in np.random.default_rng(0).permutation(len(data)))
    return {"n": len(data), "atoms": n_atoms}


def pipeline(job: Job, folder: Path) -> dict[str, Any]:
    """Make the minibatches of an epoch, without a potential that waits for them.

    CPU seconds are those of this process: tell them without workers.
    """
    import jax

    from jaxmlip.data import PackedData
    from jaxmlip.fitting import GradientFit
    from jaxmlip.fitting.training.batches import minibatch_chunks, stream
    from jaxmlip.graph.loading import makers

    data = PackedData(folder)[: min(4000, job.n_structures)]
    potential = potential_of("nequip")
    settings = GradientFit(workers=job.workers)
    with makers(job.workers) as pool:
        given = stream(data, None, potential.config, settings, pool)
        chunks = minibatch_chunks(given, potential, seed=[0, 1])
        jax.block_until_ready(next(chunks))  # processes have begun
        started = (time.perf_counter(), time.process_time())
        for chunk in chunks:
            jax.block_until_ready(chunk)
        seconds = time.perf_counter() - started[0], time.process_time() - started[1]
    n = len(data) - settings.batch_size
    return {"n": n, "structures/s": n / seconds[0], "structures/cpu s": n / seconds[1]}


def potential_of(family: str) -> Any:
    """A small potential of each family."""
    import jaxmlip

    settings: dict[str, dict[str, Any]] = {
        "snap": {"twojmax": 4},
        "aenet": {"radial_order": 6, "angular_order": 3, "hidden": ("10:tanh", "10:tanh")},
        "nequip": {},
    }
    return jaxmlip.build(family, species=SPECIES, cutoff=CUTOFF, **settings[family])


def linear(job: Job, folder: Path) -> dict[str, Any]:
    """A linear fit of SNAP to energies and forces."""
    import jaxmlip
    from jaxmlip.data import PackedData

    n = round(job.share * job.n_structures)
    _, history = jaxmlip.fit(potential_of("snap"), PackedData(folder)[:n])
    summary = history.summary
    return {"n": n, "n_columns": summary["n_columns"], "n_rows": summary["n_rows"]}


def aenet(job: Job, folder: Path) -> dict[str, Any]:
    """An epoch of AENET."""
    return epoch("aenet", round(job.share * job.n_structures), job, folder)


def nequip(job: Job, folder: Path) -> dict[str, Any]:
    """An epoch of NequIP, after one that compiles."""
    return epoch("nequip", job.n_nequip, job, folder)


def epoch(family: str, n: int, job: Job, folder: Path) -> dict[str, Any]:
    """Training by gradients on the first structures: the last of its epochs."""
    import jaxmlip
    from jaxmlip.data import PackedData
    from jaxmlip.fitting import GradientFit

    epochs = 2 if family == "nequip" else 1
    settings = GradientFit(epochs=epochs, warmup_epochs=0, validation_fraction=0.0, workers=job.workers)
    with tempfile.TemporaryDirectory() as kept:
        _, history = jaxmlip.fit(potential_of(family), PackedData(folder)[:n], settings=settings, folder=kept)
    row = history.rows[-1]
    found = {"n": n, "epoch seconds": row["seconds"], "structures/s": n / row["seconds"]}
    return {**found, "structures/cpu s": n / row["cpu_seconds"]}


PARTS: dict[str, Callable[[Job, Path], dict[str, Any]]] = {
    "pack": pack,
    "read": read,
    "pipeline": pipeline,
    "linear": linear,
    "aenet": aenet,
    "nequip": nequip,
}


def measured(name: Part, job: Job, folder: Path, out: Path) -> None:
    """Run a part in this process, and leave what it took in a file."""
    started = time.perf_counter()
    found = PARTS[name](job, folder)
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    found["seconds"] = time.perf_counter() - started
    found["cpu seconds"] = sum(one.ru_utime + one.ru_stime for one in usage)
    own, child = (one.ru_maxrss / 1e6 for one in usage)  # of the children the largest
    found["peak GB"] = own + job.workers * child
    out.write_text(json.dumps(found))


def main(job: Job) -> dict[str, dict[str, Any]]:
    """Run all parts and print what they took."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):  # threads of BLAS only get in the way of small matrices
        os.environ.setdefault(name, "1")
    results = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = job.folder or Path(temporary) / "packed"
        for name in job.parts:
            out = Path(temporary) / f"{name}.json"
            process = multiprocessing.get_context("spawn").Process(target=measured, args=(name, job, folder, out))
            process.start()
            process.join()
            if process.exitcode:
                raise SystemExit(f"{name} ended with {process.exitcode}")
            results[name] = json.loads(out.read_text())
            values = ", ".join(f"{key} {value:.4g}" for key, value in results[name].items())
            print(f"{name}: {values}", flush=True)
    return results


if __name__ == "__main__":
    main(tyro.cli(Job))
