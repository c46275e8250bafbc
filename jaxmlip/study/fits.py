"""One fit of a study: train, predict, time, and keep the result so that a killed study goes on where it stopped."""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import jaxmlip
from jaxmlip.config import to_mapping
from jaxmlip.evaluate.errors import ErrorTable, errors
from jaxmlip.evaluate.provenance import write_json
from jaxmlip.files import atomic_path
from jaxmlip.fitting import fit_settings
from jaxmlip.potentials import Model, Predicted, predict_atoms
from jaxmlip.programs import forget_programs, work
from jaxmlip.study.tasks import Parts, Task, elements, method_potential
from jaxmlip.study.timing import inference_time, stopwatch

Row = dict[str, Any]


class Outcome(NamedTuple):
    """A finished fit: its tidy row and its predictions for the training and test structures."""

    row: Row
    train: Predicted
    test: Predicted


def outcome(task: Task, parts: Parts, folder: Path) -> Outcome:
    """The outcome of ``task``: read from ``folder`` if it was finished before, else computed and kept there."""
    kept = read_outcome(task, parts, folder)
    if kept is not None:
        return kept
    forget_programs()
    frames = [*parts.train[: task.size], *parts.test]  # together, so that fewer shapes are compiled
    with work(math.inf):  # others follow with the same programs; and times are those of a long run
        model, row = _fit(task, parts)
        times = inference_time(model, frames)  # first, so that it sees the compilation
        train, test = _divided(predict_atoms(model, frames), task.size)
    row |= {"inference_us_per_atom": times.per_atom * 1e6, "inference_compile_s": times.compilation}
    row |= _error_columns("train", errors(train, parts.train[: task.size]))
    row |= _error_columns("test", errors(test, parts.test))
    result = Outcome(row, train, test)
    _keep(task, model, result, folder)
    return result


def model_path(task: Task, folder: Path) -> Path:
    """Where the fitted model of ``task`` is."""
    return folder / f"{_stem(task)}.model.npz"


def read_outcome(task: Task, parts: Parts, folder: Path) -> Outcome | None:
    """What an earlier run left, None if it did not get so far; the row is written last, so it vouches for the rest."""
    record = folder / f"{_stem(task)}.json"
    if not record.exists():
        return None
    with np.load(folder / f"{_stem(task)}.predictions.npz", allow_pickle=False) as arrays:
        train = _unpack(arrays, "train", [len(frame) for frame in parts.train[: task.size]])
        test = _unpack(arrays, "test", [len(frame) for frame in parts.test])
    return Outcome(json.loads(record.read_text(encoding="utf-8")), train, test)


def _fit(task: Task, parts: Parts) -> tuple[Model, Row]:
    potential = method_potential(task.method, elements([*parts.train, *parts.test]), parts.train[: task.size])
    settings = fit_settings(task.method.family, task.method.fit)
    with stopwatch() as times:
        model, history = jaxmlip.fit(potential, parts.train[: task.size], settings=settings)
    n_parameters = int(sum(np.size(leaf) for leaf in jax.tree.leaves(model.params)))
    row: Row = {"method": task.name, "family": task.method.family, "size": task.size, "seed": task.seed}
    row |= {"n_train": task.size, "n_test": len(parts.test), "n_parameters": n_parameters}
    row |= {"fit_wall_s": times.wall, "fit_cpu_s": times.cpu, "fit_compile_s": times.compile}
    row |= {"fit_peak_mb": times.peak, "key": task.key, "fit": to_mapping(settings)}
    row["history"] = {name: value for name, value in history.summary.items() if np.ndim(value) == 0}
    row["potential"] = to_mapping(potential.config)
    return model, row


def _divided(predicted: Predicted, size: int) -> tuple[Predicted, Predicted]:
    """Of the first ``size`` structures, and of the others."""
    parts: Any = ([part[:size] for part in predicted], [part[size:] for part in predicted])
    return Predicted(*parts[0]), Predicted(*parts[1])


def _error_columns(part: str, table: ErrorTable) -> Row:
    """Columns such as ``test_energy_rmse``, in eV/atom, eV/Å and eV/Å³."""
    whole = [row for row in table.rows if row.scope == "all"]
    return {f"{part}_{row.quantity}_{m}": getattr(row, m) for row in whole for m in ("rmse", "mae", "max")}


def _keep(task: Task, model: Model, result: Outcome, folder: Path) -> None:
    jaxmlip.save(model, model_path(task, folder))
    arrays = {**_pack("train", result.train), **_pack("test", result.test)}
    with atomic_path(folder / f"{_stem(task)}.predictions.npz") as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)
    write_json(folder / f"{_stem(task)}.json", result.row)


def _stem(task: Task) -> str:
    return f"{task.name}-n{task.size}-seed{task.seed}-{task.key}"


def _pack(part: str, predicted: Predicted) -> dict[str, np.ndarray]:
    values = {name: np.concatenate(x) if isinstance(x, list) else x for name, x in predicted._asdict().items()}
    return {f"{part}_{name}": value for name, value in values.items()}


def _unpack(arrays: Any, part: str, sizes: list[int]) -> Predicted:
    energy, forces, stress, atomic = (arrays[f"{part}_{name}"] for name in Predicted._fields)
    ends = np.cumsum(sizes)[:-1]
    return Predicted(energy, np.split(forces, ends), stress, np.split(atomic, ends))
