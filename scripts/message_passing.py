"""Where the time of message passing goes: SevenNet-0 and a small NequIP in float32, in CPU time, one thread.

    uv run python scripts/message_passing.py                       (both; a few minutes, most of it compilation)
    uv run python scripts/message_passing.py sevennet --only train
    uv run python scripts/message_passing.py sevennet --freeze "layers/*/radial/*"
    taskset -c 0 uv run python scripts/message_passing.py --only predict md --sevenn PYTHON

Printed are ms/atom, the least of some repetitions: energies, forces and stress of rocksalts, by the network and by
tables (`jaxmlip.tabulated`), and by sevenn with torch if PYTHON is an interpreter that has both; steps of dynamics of
64 atoms, by NequIP alone; a training step on energies and forces; and of one inner layer the convolution, with its
first derivatives, and its radial network alone.
"""

import argparse
import math
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import jax
import jax.numpy as jnp
from benchmarking import dynamics
from benchmarking.cases import MD_CELLS, disordered_rocksalt

import jaxmlip
from jaxmlip.fitting import GradientFit
from jaxmlip.fitting.training.frozen import frozen
from jaxmlip.graph.batch import edge_vectors
from jaxmlip.potentials.base import cast_params, safe_vectors
from jaxmlip.potentials.message_passing.convolution import convolution, edge_embedding
from jaxmlip.potentials.message_passing.linear import perceptron
from jaxmlip.programs import work

N_STRUCTURES, N_ATOMS, N_STEPS = 4, 64, 50
PEER = Path(__file__).parent / "benchmarking" / "sevennet_peer.py"


def structures() -> list:
    """Disordered rocksalts of 36 atoms."""
    return [frame for frame in jaxmlip.datasets.load("ldr") if len(frame) == 36][:N_STRUCTURES]


def model_of(family: str) -> jaxmlip.Model:
    """SevenNet-0, or random weights of the NequIP of the published study."""
    if family == "sevennet":
        species = sorted({int(z) for frame in structures() for z in frame.numbers})
        return jaxmlip.load("sevennet-0", species=species)
    potential = jaxmlip.build("nequip", species=(3, 8, *range(21, 30)))
    return jaxmlip.Model(potential, potential.init(jax.random.key(0), None))


def spent(action: Callable[[], Any], repeats: int = 5) -> float:
    """Least CPU seconds of some calls; the first, which compiles, is left out."""
    jax.block_until_ready(action())
    times = []
    for _ in range(repeats):
        start = time.process_time()
        jax.block_until_ready(action())
        times.append(time.process_time() - start)
    return min(times)


def predictions(model: jaxmlip.Model, sevenn: str | None) -> dict[str, float]:
    """Seconds an atom of energies, forces and stresses."""
    graph = jaxmlip.batch(structures(), model.potential.config)
    found = {}
    for name, one in {"network": model, "tables": jaxmlip.tabulated(model)}.items():
        cast = jaxmlip.Model(one.potential, cast_params(one.params, "float32"))
        with work(math.inf):  # compiled with all optimisation
            seconds = spent(lambda cast=cast: jaxmlip.predict(cast, graph))
        found[f"energy, forces, stress, {name}"] = seconds / graph.n_atoms
    if sevenn:
        with tempfile.TemporaryDirectory() as folder:
            jaxmlip.write(Path(folder) / "structures.xyz", structures())
            done = subprocess.run(
                [sevenn, str(PEER), f"{folder}/structures.xyz"], capture_output=True, text=True, check=True
            )
        found["the same, sevenn with torch"] = float(done.stdout.split()[-1])
    return found


def moving(model: jaxmlip.Model) -> dict[str, float]:
    """Seconds an atom of steps of dynamics."""
    found = {}
    for name, one in {"network": model, "tables": jaxmlip.tabulated(model)}.items():
        with work(math.inf):
            run = dynamics.Run(one, disordered_rocksalt(MD_CELLS["rocksalt"][N_ATOMS]), "float32")
            run.start(N_STEPS)
            seconds = spent(lambda run=run: run.steps("nvt", N_STEPS))
        found[f"step of dynamics, {name}"] = seconds / N_STEPS / N_ATOMS
    return found


def training(model: jaxmlip.Model, freeze: list[str]) -> float:
    """Seconds an atom of training steps of one structure each."""
    settings = GradientFit(batch_size=1, epochs=5, validation_fraction=0.0, dtype="float32", learning_rate=1e-5)
    start = frozen(model, freeze) if freeze else model
    _, history = jaxmlip.fit(start, structures(), settings=settings)
    return min(row["cpu_seconds"] for row in history.rows[1:]) / sum(map(len, structures()))


def parts(model: jaxmlip.Model) -> dict[str, float]:
    """Seconds an atom of pieces of the second layer."""
    config: Any = model.potential.config
    params = cast_params(model.params, "float32")
    graph = jaxmlip.batch(structures(), config)
    vectors = safe_vectors(edge_vectors(graph), graph, config.cutoff)
    layer, weights = config.layers[1], params["layers"]["1"]["radial"]
    x = jax.random.normal(jax.random.key(0), (graph.n_atoms, sum(block.size for block in layer.sent)))

    @jax.jit
    def forward(weights: Any, x: jax.Array, vectors: jax.Array) -> jax.Array:
        return convolution(config.edge_basis, None, graph, vectors)(layer, weights, x)

    @jax.jit
    def network(weights: Any, vectors: jax.Array) -> jax.Array:
        return perceptron(weights, edge_embedding(config.edge_basis, None, vectors, graph.mask)[0], 1.0)

    def energy(*given: Any) -> jax.Array:
        return jnp.sum(forward(*given) ** 2)

    by_places = jax.jit(jax.grad(energy, (1, 2)))
    found = {
        "radial network": spent(lambda: network(weights, vectors)),
        "convolution": spent(lambda: forward(weights, x, vectors)),
        "convolution and first derivatives": spent(lambda: by_places(weights, x, vectors)),
    }
    return {name: seconds / graph.n_atoms for name, seconds in found.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", default=["sevennet", "nequip"], help="sevennet, nequip (default both)")
    parser.add_argument(
        "--only", nargs="+", choices=("predict", "md", "train", "parts"), help="these measurements alone"
    )
    parser.add_argument("--freeze", nargs="+", default=[], help="parameters that training leaves alone")
    parser.add_argument("--sevenn", metavar="PYTHON", help="an interpreter with sevenn and torch, to time them too")
    options = parser.parse_args()
    for family in options.families:
        model = model_of(family)
        measured: dict[str, Callable[[], Any]] = {
            "predict": lambda model=model, sevenn=options.sevenn if family == "sevennet" else None: predictions(
                model, sevenn
            ),
            "md": lambda model=model, family=family: moving(model) if family == "nequip" else {},
            "train": lambda model=model: {"training step": training(model, options.freeze)},
            "parts": lambda model=model: parts(model),
        }
        for name in options.only or measured:
            for what, seconds in measured[name]().items():
                print(f"{family:9s} {what:34s} {1e3 * seconds:8.3f} ms/atom", flush=True)


if __name__ == "__main__":
    main()
