"""Who calculates: a calculator of ASE, a program, or a model; here, in several processes, or on an executor.

A label is a file, written the moment it exists; a calculation that failed is a file of another folder, with its reason,
and is never fitted. Neither is calculated again: delete a failure's files to have it tried once more.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import ase
import numpy as np

from jaxmlip.config import ConfigError, to_mapping
from jaxmlip.data.labels import attach, is_converged, labels
from jaxmlip.data.read import read, write
from jaxmlip.evaluate.provenance import write_json
from jaxmlip.formats import load
from jaxmlip.learning.active import worker
from jaxmlip.learning.active.keeping import read_json
from jaxmlip.learning.active.settings import Labelling
from jaxmlip.learning.exploration import labelled
from jaxmlip.learning.structures import bare

_LINE_EVERY = 10.0  # seconds
Labeller = Callable[[ase.Atoms], ase.Atoms]
"""Gives a structure with its labels, or fails with an error that says why."""


class LabelError(RuntimeError):
    """A calculation that ended without labels that can be fitted."""


class Failure(NamedTuple):
    """A calculation that gave nothing."""

    atoms: ase.Atoms
    reason: str


class Told(NamedTuple):
    """What became of structures that were to be labelled, each group in their order."""

    good: list[ase.Atoms]
    """With labels; ``info["label_seconds"]`` is what each cost."""
    failed: list[Failure]


def label_all(
    atoms: Sequence[ase.Atoms],
    settings: Labelling,
    folder: Path,
    *,
    executor: Executor | None = None,
    report: Callable[[str], None] = lambda text: None,
) -> Told:
    """Label structures, each kept in ``folder`` as soon as it is done; those that are there already are not paid for.

    >>> import tempfile
    >>> cells = [ase.Atoms("Cu", cell=[a, a, a], pbc=True) for a in (2.2, 2.3)]
    >>> told = label_all(cells, Labelling(calculator="ase.calculators.emt.EMT"), Path(tempfile.mkdtemp()))
    >>> len(told.good), labels(told.good[0]).energy > labels(told.good[1]).energy
    (2, True)

    Raises:
        ConfigError: no labeller, or one that cannot be imported.
    """
    check_labeller(settings)
    for part in ("labels", "failed"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    todo = [k for k in range(len(atoms)) if not (_good(folder, k).exists() or _bad(folder, k).exists())]
    pool = ThreadPoolExecutor(settings.processes) if settings.processes and executor is None else nullcontext(executor)
    with pool as workers:
        last = perf_counter()
        for count, k in enumerate(_done(atoms, todo, settings, folder, workers), 1):
            failed = f" failed: {read_json(_bad(folder, k))['reason']}" if _bad(folder, k).exists() else ""
            if failed or perf_counter() - last > _LINE_EVERY:
                last = perf_counter()
                report(f"  calculation {count} of {len(todo)}{failed}")
    good = [read(_good(folder, k))[0] for k in range(len(atoms)) if _good(folder, k).exists()]
    bad = [k for k in range(len(atoms)) if _bad(folder, k).exists()]
    return Told(good, [Failure(atoms[k], read_json(_bad(folder, k))["reason"]) for k in bad])


def _done(
    atoms: Sequence[ase.Atoms], todo: list[int], settings: Labelling, folder: Path, workers: Executor | None
) -> Iterator[int]:
    """The numbers of structures as each is finished."""
    if workers is None:
        for k in todo:
            label_one(atoms[k], k, settings, folder)
            yield k
        return
    futures = {workers.submit(label_one, atoms[k], k, settings, folder): k for k in todo}
    try:
        for future in as_completed(futures):
            future.result()
            yield futures[future]
    except BaseException:
        for future in futures:
            future.cancel()
        raise


def label_one(atoms: ase.Atoms, number: int, settings: Labelling, folder: Path) -> None:
    """Calculate one structure and write what came of it."""
    label, reason = labeller(settings), ""
    for _ in range(settings.retries + 1):
        started = perf_counter()
        try:
            found = checked(label(atoms), atoms, settings)
        except Exception as error:  # calculators raise whatever they meet; it is told, and the others go on
            reason = f"{type(error).__name__}: {error}" if not isinstance(error, LabelError) else str(error)
            continue
        found.info["label_seconds"] = perf_counter() - started
        write(_good(folder, number), found)
        return
    write(folder / "failed" / f"{number:04d}.extxyz", atoms)
    write_json(_bad(folder, number), {"reason": reason, "formula": atoms.get_chemical_formula()})


def checked(found: ase.Atoms, asked: ase.Atoms, settings: Labelling) -> ase.Atoms:
    """The structure that was asked for with the labels found, its ``info`` kept.

    Raises:
        LabelError: labels that are missing, no numbers, not converged, or of another structure.
    """
    same = len(found) == len(asked) and np.array_equal(found.numbers, asked.numbers)
    if not same or not np.allclose(found.positions, asked.positions, atol=1e-4):
        raise LabelError("the labels belong to another structure: the labeller moved, changed or reordered the atoms")
    if not is_converged(found):
        raise LabelError("the calculation did not converge")
    told = labels(found)
    if told.energy is None or told.forces is None:
        raise LabelError("the labeller gave no energy" if told.energy is None else "the labeller gave no forces")
    if not np.isfinite(told.energy) or not np.isfinite(told.forces).all():
        raise LabelError("an energy or a force is not a finite number")
    largest = float(np.linalg.norm(told.forces, axis=1).max())
    if largest > settings.largest_force:
        raise LabelError(f"a force of {largest:.3g} eV/Å, above largest_force = {settings.largest_force:g}")
    result = bare(asked)
    result.info = dict(asked.info)
    attach(result, told)
    return result


def labeller(settings: Labelling) -> Labeller:
    """The function that labels a structure.

    Raises:
        ConfigError: none was named, or it cannot be imported.
    """
    if settings.command:
        return lambda atoms: run_command(settings.command, atoms, settings.time_limit)
    if settings.processes and settings.calculator:
        told = {name: to_mapping(settings)[name] for name in ("calculator", "arguments")}
        words = [sys.executable, "-P", worker.__file__, json.dumps(told)]
        return lambda atoms: run_command(f"{shlex.join(words)} {{input}} {{output}}", atoms, settings.time_limit)
    if settings.calculator:
        return worker.calculating(settings.calculator, settings.arguments)
    if settings.model:
        return lambda atoms: labelled(_teacher(settings.model), [atoms], dtype="float64")[0]
    raise ConfigError("label: say who calculates: calculator, command or model")


def run_command(command: str, atoms: ase.Atoms, time_limit: float = 0.0) -> ase.Atoms:
    """What a program makes of a structure: it reads one extended XYZ file and writes another.

    Raises:
        LabelError: it ran too long, ended with an error, or wrote no structure.
    """
    with tempfile.TemporaryDirectory(prefix="jaxmlip-label-") as name:
        source, target = Path(name) / "input.extxyz", Path(name) / "output.extxyz"
        asked = bare(atoms)
        write(source, asked)
        line = command
        for word, path in (("{input}", source), ("{output}", target), ("{here}", Path.cwd())):
            line = line.replace(word, shlex.quote(str(path)))
        with (Path(name) / "log").open("w+b") as log:
            process = subprocess.Popen(
                line, shell=True, cwd=name, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
            try:
                code = process.wait(time_limit or None)
            except subprocess.TimeoutExpired:
                raise LabelError(f"took longer than {time_limit:g} s") from None
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)  # our own session: the program and what it started
                    process.wait()
            log.seek(0)
            words = log.read().decode("utf-8", "replace").strip()[-500:]
        if code:
            raise LabelError(f"the command ended with exit code {code}: {words}")
        if not target.exists():
            raise LabelError(f"the command wrote no {{output}}: {words}")
        return read(target)[-1]


def check_labeller(settings: Labelling) -> None:
    """Refuse what cannot be run before anything is spent on it.

    Raises:
        ConfigError: no labeller, one that cannot be imported, or an unknown model.
    """
    if settings.model:
        _teacher(settings.model)
    elif settings.calculator:
        worker.imported(settings.calculator, "calculator")
    else:
        labeller(settings)


@lru_cache(maxsize=2)
def _teacher(name: str) -> Any:
    return load(name)


def _good(folder: Path, number: int) -> Path:
    return folder / "labels" / f"{number:04d}.extxyz"


def _bad(folder: Path, number: int) -> Path:
    return folder / "failed" / f"{number:04d}.json"
