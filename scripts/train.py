"""Train any family of potentials on all devices of one node or of several: settings in one TOML file.

    python scripts/train.py train.toml [flags of `jaxmlip fit`]

The file is that of ``jaxmlip fit --config`` (``jaxmlip fit nequip --help`` shows one); results go to its ``out``. A
minibatch is dealt out to all devices that JAX sees. Under SLURM, or with --coordinator HOST:PORT --processes N
--process K, several processes work on one fit; they need ``out`` on a common file system. For example

    #SBATCH --nodes=2 --ntasks-per-node=1 --gres=gpu:4 --requeue --signal=TERM@300
    srun python scripts/train.py train.toml

SIGTERM, five minutes before the time is up, ends the fit after its epoch with a checkpoint (exit code 143), and on data
that `jaxmlip data pack` wrote after its step; the same command goes on from there. Progress: lines on standard error,
``out``/log.jsonl, and --tensorboard FOLDER.
"""

import os
import sys

import tyro

from jaxmlip.cli import main as jaxmlip


def connect(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Join the other processes, if there are any."""
    if coordinator is None and int(os.environ.get("SLURM_NTASKS", "1")) == 1:
        return
    import jax

    jax.distributed.initialize(coordinator, processes, process)  # finds SLURM's by itself


def main(
    config: tyro.conf.Positional[str],
    /,
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
) -> tuple[str, ...]:
    """Read the arguments that are not those of ``jaxmlip fit``."""
    connect(coordinator, processes, process)
    return ("fit", "--config", config)


if __name__ == "__main__":
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(__doc__)
        raise SystemExit(0)
    words, rest = tyro.cli(main, return_unknown_args=True)
    raise SystemExit(jaxmlip([*words, *rest]))
