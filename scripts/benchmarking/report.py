"""Rows, ratios and targets from the raw times, as JSON and as tables."""

import statistics
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarking.cases import LIMITS, PEERS, RATIO_LIMITS, Job

UNITS = {
    "predict": "µs/atom",
    "elements": "µs/atom",
    "md": "µs/atom",
    "trials": "µs/trial",
    "fit": "s",
    "train": "µs/atom",
    "graphs": "s",
    "soap": "µs/atom",
    "soap gradients": "µs/atom",
}
TITLES = {"predict": "energy + forces", "fit": "whole fit", "train": "an epoch", "graphs": "graph building"}
TITLES["elements"] = "energy + forces, elements mixed"
TITLES |= {
    "md": "a step of NVT",
    "trials": "a Monte Carlo swap",
    "soap": "SOAP vectors",
    "soap gradients": "SOAP, derivatives",
}
ENERGY_LIMIT, FORCE_LIMIT, RESIDUAL_LIMIT = 1e-8, 1e-7, 1e-6  # eV/atom, eV/Å, relative


def empty_row(job: Job, status: str) -> dict[str, Any]:
    """A row that says why nothing was measured."""
    row = {"benchmark": job.kind, "case": case_name(job), "name": job.name, "family": job.family, "code": job.code}
    return row | {"precision": job.precision, "status": status, "unit": UNITS[job.kind]}


def case_name(job: Job) -> str:
    """The case in words."""
    settings = " ".join(
        {"twojmax": "2J=", "cutoff": "R=", "min_dist": "R_min="}.get(k, k + "=") + str(v)
        for k, v in job.settings.items()
    )
    size = f", {job.size} atoms" if job.kind == "md" else ""
    size = f", {8 * job.size**3} sites" if job.kind == "trials" else size
    return f"{job.family} {settings}{size}" if job.family else f"{job.size} structures"


def measured_row(job: Job, rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the rounds; the first round of ours starts with an empty compilation cache and is the cold one."""
    cold, warm = rounds[0], rounds[1:] or rounds
    scale = {"µs/atom": 1e6 / cold["n_atoms"], "µs/trial": 1e6}.get(UNITS[job.kind], 1.0)
    row = empty_row(job, "ok") | {"n_atoms": cold["n_atoms"], "n_rounds": len(warm), "version": cold["version"]}
    for clock in ("cpu", "wall"):
        row[clock] = scale * statistics.median(one["steady"][clock] for one in warm)
        if job.kind == "md":
            row[f"atom_steps_per_second_{clock}"] = 1e6 / row[clock]
        if job.code == "jaxmlip":
            row[f"cold_first_{clock}"] = cold["first"][clock]
            row[f"warm_first_{clock}"] = statistics.median(one["first"][clock] for one in warm)
        if "forces_only" in cold:
            row[f"forces_only_{clock}"] = scale * statistics.median(one["forces_only"][clock] for one in warm)
    if "floor" in cold:
        row["floor"] = scale * statistics.median(one["floor"] for one in warm)
    if job.code == "jaxmlip":
        row |= {"compile": cold["first"]["compile"], "peak_gb": max(one["peak_gb"] for one in rounds)}
    used = {"first", "steady", "forces_only", "floor", "peak_gb", "n_atoms", "version"}
    details = {key: value for key, value in warm[-1].items() if key not in used}
    return row | {"details": details, "raw": rounds}


def compare(rows: list[dict[str, Any]], folder: Path) -> None:
    """Add to each row of ours the ratios to the peer of the same case, and whether the numbers agree."""
    for mine in rows:
        if mine["code"] != "jaxmlip" or mine["status"] != "ok":
            continue
        peers = [r for r in rows if r["name"] == mine["name"] and r["code"] != "jaxmlip" and r["status"] == "ok"]
        for peer in [peer for peer in peers if peer["precision"] == mine["precision"]] or peers:
            mine["ratio_cpu"] = mine["cpu"] / peer["cpu"]
            mine["ratio_wall"] = mine["wall"] / peer["wall"]
            if "forces_only_cpu" in peer:
                mine["ratio_cpu_forces_only"] = mine["cpu"] / peer["forces_only_cpu"]
            if mine["benchmark"] != "train":
                mine["agreement"] = _agreement(mine, peer, folder)


def _agreement(mine: dict[str, Any], peer: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Largest differences of the numbers of two codes; float32 is not held to the limits."""
    if mine["benchmark"] == "fit":
        ours, theirs = (row["details"]["residual_norm"] for row in (mine, peer))
        return {"residual": abs(ours / theirs - 1), "ok": abs(ours / theirs - 1) < RESIDUAL_LIMIT}
    ours, theirs = (np.load(folder / f"{row['name']}_{row['code']}_{row['precision']}.npz") for row in (mine, peer))
    energy = float(abs(ours["energy"] - theirs["energy"])) / mine["n_atoms"]
    forces = float(np.abs(ours["forces"] - theirs["forces"]).max())
    exact = energy < ENERGY_LIMIT and forces < FORCE_LIMIT
    return {"energy": energy, "forces": forces, "ok": exact or mine["precision"] != "float64"}


def targets(rows: list[dict[str, Any]], *, judge: bool = True) -> list[dict[str, Any]]:
    """The yardsticks (float64) and what was measured; None where it was not, or with ``judge`` off.

    In every case no slower than the peer, although only energy + forces and the quadratic fit are promised so. Where
    the peer cannot be run, `LIMITS` says what is wanted of float32.
    """
    wanted = []
    for row in rows:
        if row["code"] != "jaxmlip":
            continue
        if row["name"] in LIMITS and (row["precision"] == "float32") == (row["benchmark"] != "fit"):
            wanted.append((row, "cpu", LIMITS[row["name"]], f"{row['unit']}, {row['precision']}"))
        if row["precision"] != "float64":
            continue
        if row["benchmark"] == "graphs":
            wanted += [(row, "wall", 60.0, "s"), (row, "peak_gb", 4.0, "GB")]
        elif (row["benchmark"], row["family"]) in PEERS:
            wanted.append((row, "ratio_cpu", RATIO_LIMITS.get(row["name"], 1.0), "× peer, CPU"))
        if row["name"].startswith("md") and row.get("n_atoms") == 1000:
            wanted.append((row | row.get("details", {}), "outside", 0.1, "of it neither potential nor neighbours"))
    return [
        {
            "target": f"{TITLES[row['benchmark']]}, {row['case']}",
            "unit": unit,
            "limit": limit,
            "measured": row.get(key),
            "met": bool(row[key] <= limit) if judge and key in row else None,
        }
        for row, key, limit, unit in wanted
    ]


def show(result: dict[str, Any], console: Console) -> None:
    """Print all rows and the targets."""
    table = Table(
        title="one thread each, medians; floor: arithmetic or memory at this core's measured rates; compile and first "
        "call: seconds, first call with a cold | warm cache"
    )
    for heading in ("benchmark", "case", "code", "precision"):
        table.add_column(heading)
    numbers = ("CPU", "wall", "floor", "unit", "compile", "first call", "peak GB", "ratio CPU", "ratio wall")
    for heading in (*numbers, "difference"):
        table.add_column(heading, justify="right")
    for row in result["rows"]:
        table.add_row(TITLES[row["benchmark"]], row["case"], row["code"], row["precision"], *_cells(row))
    console.print(table)
    goals = Table("target", "limit", "measured", "met", title="targets, float64")
    for goal in result["targets"]:
        met = {True: "yes", False: "NO", None: "not judged"}[goal["met"]]
        goals.add_row(goal["target"], f"{goal['limit']:g} {goal['unit']}", _number(goal["measured"]), met)
    console.print(goals)


def _cells(row: dict[str, Any]) -> list[str]:
    if row["status"] != "ok":
        return [row["status"]]
    first = f"{row['cold_first_wall']:.1f} | {row['warm_first_wall']:.1f}" if "cold_first_wall" in row else ""
    numbers = [_number(row.get(key)) for key in ("peak_gb", "ratio_cpu", "ratio_wall")]
    rate = row.get("atom_steps_per_second_cpu")
    unit = row["unit"] + ("" if rate is None else f" ({rate:,.0f} atom·steps/s)")
    return [
        *(_number(row.get(key)) for key in ("cpu", "wall", "floor")), unit, _number(row.get("compile")), first,
        *numbers, _difference(row.get("agreement")),
    ]  # fmt: skip


def _difference(agreement: dict[str, Any] | None) -> str:
    if agreement is None:
        return ""
    units = {"energy": "eV/atom", "forces": "eV/Å", "residual": "of residual"}
    words = [f"{value:.0e} {units[key]}" for key, value in agreement.items() if key in units]
    return ", ".join(words) + ("" if agreement["ok"] else " DISAGREES")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"
