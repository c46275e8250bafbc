"""A study's figures, models and report from its outcomes."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jaxmlip import __version__
from jaxmlip.config import to_mapping
from jaxmlip.evaluate.parity import Parity, parity, parity_figure
from jaxmlip.evaluate.report import Picture, Section, Table, write_report
from jaxmlip.evaluate.style import label, save_figure
from jaxmlip.files import atomic_path
from jaxmlip.study.config import StudyConfig
from jaxmlip.study.figures import error_time_figure, heat_map_figure, overfitting_figure, voltage_figure
from jaxmlip.study.fits import Outcome, model_path
from jaxmlip.study.learning_curve import learning_curve_figure, times_figure
from jaxmlip.study.projection import projection_table
from jaxmlip.study.ready_made import ready_made_section
from jaxmlip.study.report_points import study_charts
from jaxmlip.study.tasks import Parts, Task
from jaxmlip.study.voltages import voltage_table
from jaxmlip.units import SHOWN

Results = Sequence[tuple[Task, Outcome]]
CITATION = (
    "Choyal, Sagar, Sai Gautam, Constructing and evaluating machine-learned interatomic potentials for Li-based "
    "disordered rocksalts, J. Chem. Theory Comput. (2024), arXiv:2304.01650, tables S3 and S6"
)


@contextmanager
def drawn_once(config: StudyConfig, rows: Sequence[Any], voltages: Sequence[Any]) -> Iterator[bool]:
    """Whether ``config.out`` shows these results already; after the block it is taken to do so."""
    mark = config.out / "fits" / "drawn.txt"
    facts = json.dumps([__version__, to_mapping(config), rows, voltages], sort_keys=True, default=str)
    key = hashlib.sha256(facts.encode()).hexdigest()
    is_drawn = mark.exists() and mark.read_text(encoding="utf-8") == key and (config.out / "report.html").exists()
    yield is_drawn
    with atomic_path(mark) as temporary:
        temporary.write_text(key, encoding="utf-8")


def write_results(config: StudyConfig, results: Results, extra: Mapping[str, Any]) -> None:
    """Write ``figures/``, ``models/`` and ``report.html`` into ``config.out``.

    Args:
        config: of the study.
        results: every task with its outcome.
        extra: ``atoms``, ``parts`` (seed → `Parts`), ``voltages`` (rows), ``compared`` (rows of `ready_made`) and
            ``record`` (see ``provenance``).
    """
    figures = _figures(results, extra["parts"], extra["voltages"])
    folder = config.out / "figures"
    folder.mkdir(exist_ok=True)
    drawn = {name: picture.figure for name, picture in figures.items()} | family_parity(results, extra["parts"])
    for name, figure in drawn.items():
        for suffix in ("png", "svg"):
            save_figure(figure, folder / f"{name}.{suffix}")
    _copy_models(results, config.out)
    charts = study_charts(results, extra["parts"], extra["atoms"])
    sections = [
        s._replace(charts=charts.get(s.title, ())) for s in _sections(config, results, figures, extra["voltages"])
    ]
    if extra["compared"]:
        sections.insert(1, ready_made_section(extra["compared"]))
    write_report(config.out / "report.html", "Potentials compared", sections=sections, record=extra["record"])


def largest_fits(results: Results) -> dict[str, tuple[Task, Outcome]]:
    """The largest fit of each method, first seed."""
    best: dict[str, tuple[Task, Outcome]] = {}
    for task, found in results:
        if task.name not in best or task.size > best[task.name][0].size:
            best[task.name] = (task, found)
    return best


def _figures(results: Results, by_seed: Mapping[int, Parts], voltages: Sequence[dict[str, Any]]) -> dict[str, Picture]:
    rows = [found.row for _, found in results]
    figures = {}
    for quantity in SHOWN:
        figure = _parity(results, by_seed, quantity)
        if figure is not None:
            caption = f"Predicted against reference {quantity} of each method at its largest training set, all seeds: "
            caption += "training structures above test structures; colour: density."
            figures[f"parity_{quantity}"] = Picture(figure, caption, has_chart=True)
    caption = "Root-mean-square error against the number of training structures: test solid, training dashed."
    figures["learning_curve"] = Picture(learning_curve_figure(rows), caption, has_chart=True)
    caption = (
        "Left: processor time of a fit, without (solid) and with (dashed) compilation. Right: energy, forces and "
        "stress in float64 once compiled, without neighbour lists."
    )
    figures["times"] = Picture(times_figure(rows), caption)
    figures |= _comparisons(rows)
    if voltages:
        caption = "Average voltages of layered LiTMO2 to TMO2; a method has a point where both cells relaxed to minima."
        figures["voltages"] = Picture(voltage_figure(voltages), caption)
    return figures


def _comparisons(rows: Sequence[Mapping[str, Any]]) -> dict[str, Picture]:
    if all(row.get("test_energy_rmse") is None or row.get("test_forces_rmse") is None for row in rows):
        return {}
    heat = "RMSE of each method and size: training structures lower left, test structures upper right of a cell."
    time = "Test error against processor time of training without compilation; larger points are larger training sets."
    ratio = "Overfitting: test over training error."
    return {
        "heat_map": Picture(heat_map_figure(rows), heat),
        "error_time": Picture(error_time_figure(rows), time),
        "overfitting": Picture(overfitting_figure(rows), ratio),
    }


def family_parity(results: Results, by_seed: Mapping[int, Parts]) -> dict[str, Figure]:
    """Parity plots of each method over the training-set sizes, all seeds, as figures S4 to S11 of the study."""
    found = {}
    for name in dict.fromkeys(task.name for task, _ in results):
        ours = [(task, outcome) for task, outcome in results if task.name == name]
        for quantity in ("energy", "forces"):
            panels = {}
            for size in dict.fromkeys(task.size for task, _ in ours):
                chosen = [(task, outcome) for task, outcome in ours if task.size == size]
                panels[f"{size}"] = _all_seeds(chosen, by_seed, quantity)
            if _has_points(panels):
                title = f"{label(name)}, by number of training structures"
                found[f"parity_{quantity}_{name}"] = parity_figure(panels, title=title)
    return found


def _parity(results: Results, by_seed: Mapping[int, Parts], quantity: str) -> Figure | None:
    panels = {}
    for name, (best, _) in largest_fits(results).items():
        chosen = [(task, found) for task, found in results if (task.name, task.size) == (name, best.size)]
        panels[name] = _all_seeds(chosen, by_seed, quantity)
    return parity_figure(panels, n_columns=4) if _has_points(panels) else None


def _all_seeds(results: Results, by_seed: Mapping[int, Parts], quantity: str) -> dict[str, Parity]:
    """The points of fits that differ in their seed alone, training and test; structures are numbered a seed."""
    parts = {"train": [], "test": []}
    for task, found in results:
        pieces = by_seed[task.seed]
        parts["train"].append(parity(found.train, pieces.train[: task.size], quantity=quantity))
        parts["test"].append(parity(found.test, pieces.test, quantity=quantity))
    return {
        part: Parity(quantity, *(np.concatenate(column) for column in zip(*(p[1:] for p in points), strict=True)))
        for part, points in parts.items()
    }


def _has_points(panels: Mapping[str, Mapping[str, Parity]]) -> bool:
    return any(points.reference.size for column in panels.values() for points in column.values())


def _copy_models(results: Results, out: Path) -> None:
    (out / "models").mkdir(exist_ok=True)
    for name, (task, _) in largest_fits(results).items():
        with atomic_path(out / "models" / f"{name}.npz") as temporary:
            shutil.copyfile(model_path(task, out / "fits"), temporary)


def _sections(
    config: StudyConfig, results: Results, figures: Mapping[str, Picture], voltages: Sequence[dict[str, Any]]
) -> list[Section]:
    rows = [found.row for _, found in results]
    pictures = [picture for name, picture in figures.items() if name.startswith("parity")]
    largest = max(row["size"] for row in rows)
    text = [
        f"Fits on {largest} structures and fewer, tested on {rows[0]['n_test']} others ({config.split} split). "
        "Energy errors are differences of total energies divided by the number of atoms; force errors are over "
        "components.",
        *([config.note] if config.note else []),
    ]
    projected = [table] if (table := projection_table(rows)) else []
    sections = [
        Section("Errors", text, error_tables(rows)),
        Section("Parity", (), (), pictures),
        Section("Learning curve", (), (), _present(figures, "learning_curve", "heat_map", "overfitting")),
        Section("Time", (), [time_table(rows), *projected], _present(figures, "times", "error_time")),
    ]
    if voltages:
        sections.append(_voltage_section(config, voltages, figures["voltages"]))
    return [*sections, _data_section(config, rows)]


def _present(figures: Mapping[str, Picture], *names: str) -> list[Picture]:
    return [figures[name] for name in names if name in figures]


def error_tables(rows: Sequence[Mapping[str, Any]]) -> list[Table]:
    """Training and test RMSE and MAE of each fit, one table a quantity; seeds are named if there are several."""
    several = len({row["seed"] for row in rows}) > 1
    names = {"structures": "size", "seed": "seed"} if several else {"structures": "size"}
    kinds = [(part, measure) for part in ("train", "test") for measure in ("rmse", "mae")]
    tables = []
    for quantity, (unit, factor) in SHOWN.items():
        if all(row.get(f"test_{quantity}_rmse") is None for row in rows):
            continue
        columns = ["method", *names, *(f"{part} {measure.upper()}" for part, measure in kinds)]
        keys = [f"{part}_{quantity}_{measure}" for part, measure in kinds]
        lines = [
            [
                label(row["method"]),
                *(row[key] for key in names.values()),
                *(_times(row.get(key), factor) for key in keys),
            ]
            for row in rows
        ]
        tables.append(Table(columns, lines, f"{quantity.capitalize()} ({unit})"))
    return tables


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else factor * value


def time_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Training time (wall, processor, compilation) and inference time of each fit."""
    keys = ("fit_wall_s", "fit_cpu_s", "fit_compile_s", "fit_peak_mb", "inference_us_per_atom", "inference_compile_s")
    columns = ["method", "structures", "fit, wall (s)", "fit, processor (s)", "fit, compiling (s)"]
    columns += ["fit, added memory (MB)", "prediction (µs/atom)", "prediction, compiling (s)", "parameters"]
    note = (
        "Prediction: energy, forces and stress, without compiling. The fit's wall time includes compiling, short "
        "where JAX's cache already had the program."
    )
    return Table(
        columns, [[label(r["method"]), r["size"], *(r.get(k) for k in (*keys, "n_parameters"))] for r in rows], "", note
    )


def _voltage_section(config: StudyConfig, voltages: Sequence[dict[str, Any]], picture: Picture) -> Section:
    columns, lines = voltage_table(voltages)
    columns = [label(column) for column in columns]
    text = [
        "Average voltage of LiTMO2 to TMO2 in V against lithium, from cells relaxed with each method at its largest "
        f"training set; lithium reference {config.lithium_energy} eV per atom. Layered cells are not in the training "
        "data: this is a test of transfer.",
        "Words stand where a relaxation gave no answer; such cells count for no mean.",
    ]
    return Section("Voltages", text, [Table(columns, lines, "", f"Published values: {CITATION}.", 1)], [picture])


def _data_section(config: StudyConfig, rows: Sequence[Mapping[str, Any]]) -> Section:
    from jaxmlip import datasets

    name = config.data.partition(":")[0]
    text = datasets.describe(name).splitlines() if name in datasets.available() else [f"Data: {config.data}"]
    unique = {row["method"]: row for row in rows}
    tables = []
    for part, caption in (("potential", "Settings of the potentials"), ("fit", "Settings of the fits")):
        settings = sorted({key for row in unique.values() for key in row[part]})
        lines = [[key, *(_shown(row[part].get(key)) for row in unique.values())] for key in settings]
        tables.append(Table(["setting", *map(label, unique)], lines, caption))
    return Section("Data and settings", text, tables)


def _shown(value: Any) -> str:
    if value is None:
        return "—"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
