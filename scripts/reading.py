"""How much memory and time reading a large file takes: makes one of any size and reads it frame by frame.

    uv run python scripts/reading.py --kind mptrj --n-frames 100000

Peak memory is that of the process that reads, less what it holds after its imports and one frame; it should not grow
with the number of frames.
"""

import json
import multiprocessing
import resource
import tempfile
import time
from dataclasses import dataclass
from io import TextIOBase
from pathlib import Path
from typing import Literal

import numpy as np
import tyro

N_SEEDS = 20  # different frames, repeated


@dataclass(frozen=True)
class Job:
    """What to write and read."""

    kind: Literal["mptrj", "matpes", "xyz", "cfg"] = "mptrj"
    """Format of the file."""
    n_frames: int = 1000
    """Frames, or records."""
    n_atoms: int = 30
    """Of each frame; MPtrj has 31 on average."""


@dataclass(frozen=True)
class Cost:
    """What reading took."""

    n_frames: int
    megabytes: float  # of the file
    peak_mb: float  # beyond the imports and one frame
    seconds: float


def main(job: Job) -> Cost:
    """Write the file, read it in a process of its own, and print the cost."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"many.{'json' if job.kind in ('mptrj', 'matpes') else job.kind}"
        one = Path(folder) / f"one{path.suffix}"
        for target, n_frames in ((path, job.n_frames), (one, 1)):
            with target.open("w", encoding="utf-8") as file:
                _write(file, job, n_frames)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            cost = pool.apply(_read, (one, path))
    print(f"{job.kind}: {cost.n_frames} frames of {job.n_atoms} atoms, {cost.megabytes:.1f} MB: ", end="")
    print(f"{cost.seconds:.1f} s, peak memory {cost.peak_mb:.1f} MB more than for one frame")
    return cost


def _read(one: Path, path: Path) -> Cost:
    from jaxmlip.data import iread, labels

    list(iread(one, species=["Li", "O"]))
    before, start = _peak_mb(), time.perf_counter()
    n_frames = sum(labels(atoms).energy is not None for atoms in iread(path, species=["Li", "O"]))
    seconds = time.perf_counter() - start
    return Cost(n_frames, path.stat().st_size / 1e6, _peak_mb() - before, seconds)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts in kB


def _write(file: TextIOBase, job: Job, n_frames: int) -> None:
    texts = [_frame(job, np.random.default_rng(seed)) for seed in range(min(N_SEEDS, n_frames))]
    frames = (texts[k % len(texts)] for k in range(n_frames))
    if job.kind == "mptrj":
        file.writelines(_between("{", (f'"mp-{k}": {{"mp-{k}-0-0": {text}}}' for k, text in enumerate(frames)), "}"))
    elif job.kind == "matpes":
        file.writelines(_between("[", frames, "]"))
    else:
        file.writelines(frames)


def _between(begin: str, texts, end: str):
    for k, text in enumerate(texts):
        yield (begin if k == 0 else ",\n") + text
    yield end


def _frame(job: Job, random: np.random.Generator) -> str:
    """One frame or record with all labels."""
    abc, forces = random.random((job.n_atoms, 3)), random.normal(size=(job.n_atoms, 3))
    symbols = [("Li", "O")[k % 2] for k in range(job.n_atoms)]
    if job.kind in ("mptrj", "matpes"):
        return json.dumps(_record(job, symbols, abc.tolist(), forces.tolist()))
    table = np.hstack([7 * abc, forces]).tolist()
    if job.kind == "xyz":
        rows = "\n".join(f"{symbol} {' '.join(map(str, row))}" for symbol, row in zip(symbols, table, strict=True))
        head = 'Lattice="7 0 0 0 7 0 0 0 7" Properties=species:S:1:pos:R:3:forces:R:3 energy=-3.0'
        return f'{job.n_atoms}\n{head} stress="0.1 0 0 0 0.1 0 0 0 0.1"\n{rows}\n'
    rows = "\n".join(f"{k + 1} {k % 2} {' '.join(map(str, row))}" for k, row in enumerate(table))
    columns = "id type cartes_x cartes_y cartes_z fx fy fz"
    cell = "Supercell\n7 0 0\n0 7 0\n0 0 7"
    return f"BEGIN_CFG\nSize\n{job.n_atoms}\n{cell}\nAtomData: {columns}\n{rows}\nEnergy\n-3.0\nEND_CFG\n"


def _record(job: Job, symbols: list[str], abc: list, forces: list) -> dict:
    sites = [
        {"species": [{"element": symbol, "occu": 1}], "abc": row, "properties": {"magmom": 0.1}, "label": symbol}
        for symbol, row in zip(symbols, abc, strict=True)
    ]
    matrix = np.diag([7.0, 7.0, 7.0]).tolist()
    structure = {"@class": "Structure", "lattice": {"matrix": matrix, "pbc": [True] * 3}, "sites": sites}
    if job.kind == "matpes":
        return {"structure": structure, "energy": -3.0, "forces": forces, "stress": [1.0] * 6, "matpes_id": "x"}
    stress = np.diag([1.0, 2.0, 3.0]).tolist()
    return {"structure": structure, "uncorrected_total_energy": -3.0, "force": forces, "stress": stress}


if __name__ == "__main__":
    main(tyro.cli(Job))
