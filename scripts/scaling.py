"""How gradient training of NequIP scales over devices: forced CPU devices of one process, and two processes.

    python scripts/scaling.py                (1 and 2 devices, 2 processes; --devices 1 2 4 on more cores)

Strong scaling: one minibatch of 32 cells of 16 atoms, dealt out to the devices. Weak scaling: 16 cells a device. Wall
time of an epoch of 4 minibatches after the first; each device has one thread. On a cluster the same fit is

    srun python scripts/train.py train.toml

with one process a node, or more with --coordinator HOST:PORT --processes N --process K (see there).
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

_STEPS, _EPOCHS = 4, 5
_SETTINGS: dict[str, Any] = {"cutoff": 5.0, "num_layers": 3, "num_features": 8}


class Layout(NamedTuple):
    """So many processes with so many devices each."""

    processes: int
    devices: int

    @property
    def total(self) -> int:
        """Devices of all processes."""
        return self.processes * self.devices


def main() -> None:
    """Print a table of both kinds of scaling."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--processes", type=int, nargs="+", default=[2])
    parser.add_argument("--worker", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(_epoch(*options.worker)))
        return
    layouts = [Layout(1, n) for n in options.devices] + [Layout(n, 1) for n in options.processes]
    print("| | strong: structures/s | weak: structures/s |\n|---|---|---|")
    alone: dict[str, float] = {}
    for layout in layouts:
        cells = []
        for kind, size in (("strong", 32), ("weak", 16 * layout.total)):
            rate = size * _STEPS / _seconds(layout, size)
            alone.setdefault(kind, rate)
            cells.append(f"{rate:.0f} ({rate / alone[kind]:.2f})")
        print(f"| {layout.processes} × {layout.devices} | {' | '.join(cells)} |", flush=True)


def _seconds(layout: Layout, batch_size: int) -> float:
    """Wall seconds of an epoch: the slowest process counts."""
    flags = f"--xla_force_host_platform_device_count={layout.devices} --xla_cpu_multi_thread_eigen=false"
    environment = os.environ | {"XLA_FLAGS": f"{flags} intra_op_parallelism_threads=1", "JAX_PLATFORMS": "cpu"}
    with socket.socket() as found, tempfile.TemporaryDirectory() as folder:
        found.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{found.getsockname()[1]}"
        found.close()
        command = [sys.executable, str(Path(__file__).resolve()), "--worker", folder, str(batch_size), address]
        running = [
            subprocess.Popen(
                [*command, str(layout.processes), str(k)], env=environment, stdout=subprocess.PIPE, text=True
            )
            for k in range(layout.processes)
        ]
        ends = [one.communicate()[0] for one in running]
    if any(one.returncode for one in running):
        raise SystemExit("a process failed, see above")
    return max(json.loads(text.splitlines()[-1]) for text in ends)


def _epoch(folder: str, batch_size: str, address: str, n_processes: str, process: str) -> float:
    """Median seconds of an epoch in this process."""
    import jax

    if int(n_processes) > 1:
        jax.distributed.initialize(address, int(n_processes), int(process))
    from benchmarking.cases import cells_of_one_size, elements

    import jaxmlip

    frames = cells_of_one_size(_STEPS * int(batch_size))
    potential = jaxmlip.build("nequip", species=elements(frames), **_SETTINGS)
    settings = jaxmlip.fitting.GradientFit(
        epochs=_EPOCHS, batch_size=int(batch_size), n_shapes=1, validation_fraction=0.0, checkpoint_every=_EPOCHS
    )
    _, history = jaxmlip.fit(potential, frames, settings=settings, folder=Path(folder) / "fit")
    return statistics.median(row["seconds"] for row in history.rows[1:])


if __name__ == "__main__":
    main()
