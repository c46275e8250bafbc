"""``jaxmlip voltage``: average voltages of layered cathodes from a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from jaxmlip.commands.cache import double_precision
from jaxmlip.commands.evaluation import domain, load_model
from jaxmlip.commands.output import console, need_folder, record_beside
from jaxmlip.commands.parse import parse, take_config
from jaxmlip.config import ConfigError
from jaxmlip.data.options import ReadOptions
from jaxmlip.units import LITHIUM_BCC


@dataclass(frozen=True)
class Voltage(ReadOptions):
    """Average voltages of layered LiTMO2 to TMO2 against lithium, beside the published DFT values.

    V = -[E(LiTMO2) - E(TMO2) - E(Li)] per lithium, from cells relaxed with the model.

    example: jaxmlip voltage rocksalt-mtp
    example: jaxmlip voltage fit/model.npz --metals Co Ni --lithium-energy -1.9089
    """

    model: tyro.conf.Positional[str] = ""
    """Our model.npz, a file of another program, or the name of a shipped potential (jaxmlip card)."""
    metals: tuple[str, ...] = ("Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu")
    """Transition metals; a row says so where the model does not know one."""
    lithium_energy: float = LITHIUM_BCC
    """Energy of bcc lithium in eV per atom, of the same kind of calculation as the training data (default: PBE)."""
    train: tuple[str, ...] = ()
    """The model's training data: each voltage is then shown with the extrapolation grade of its cells (up to 1 inside
    the data, unreliable from about 10). A shipped potential brings its own."""
    disordered: bool = False
    """Also of rocksalts of the same composition, with cations at random and as Monte Carlo finds them at --temperature:
    means over snapshots with standard errors. Unrelaxed energies decide, which exaggerates the order; see --relaxed."""
    relaxed: bool = False
    """With --disordered: energies of relaxed cells decide. Each metal then takes minutes, so name few --metals."""
    temperature: float = 1300.0
    """K, of the synthesis of the disordered cells."""
    cell: int = 2
    """Conventional cells of 8 sites along each axis of the disordered cells."""
    snapshots: int = 4
    """Disordered cells of each kind."""
    out: Path | None = None
    """Write the table here as JSON."""


def main(words: Sequence[str]) -> int:
    """Run the command; 1 when a relaxation gave no answer."""
    mapping, where, rest = take_config(words)
    job = parse(Voltage, rest, prog="jaxmlip voltage", mapping=mapping, where=where)
    if job.out is not None:
        need_folder(job.out)
    if job.relaxed and not job.disordered:
        raise ConfigError("--relaxed says how disordered cells are sampled: give --disordered too, or leave it out")
    from jaxmlip.cathodes import voltages
    from jaxmlip.study.voltages import can_have_voltages, voltage_row

    with double_precision():
        model = load_model(job.model)
        symbols = model.potential.config.symbols
        if not can_have_voltages(symbols, job.metals):
            raise ConfigError(
                f"the model knows {', '.join(symbols)}; a voltage of LiMO2 needs Li, O and one of the metals "
                f"{', '.join(job.metals)}: fit a model on such data, or name other --metals"
            )
        active = domain(job, model)
        found = voltages(model, metals=job.metals, lithium_energy=job.lithium_energy, active=active)
    rows = [{"method": "model"} | voltage_row(one) for one in found]
    _show(rows)
    if job.disordered:
        rows += _disordered(job, model, symbols)
    if job.out is not None:
        from jaxmlip.evaluate.provenance import write_json

        write_json(job.out, rows)
        record_beside(job.out, job, ["voltage", *words])
    return 0 if all(row["status"] == "converged" for row in rows) else 1


def _disordered(job: Voltage, model: Any, symbols: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of disordered rocksalts, shown as a table of their own."""
    from rich.table import Table

    from jaxmlip.cathodes.disorder import Cells, compared_voltages

    cells = Cells(cell=job.cell, temperature=job.temperature, n=job.snapshots, relaxed=job.relaxed)
    table = Table("composition", "cations", "V", "standard error", "cells", title="Disordered rocksalts")
    rows = []
    for metal in [metal for metal in job.metals if {metal, "Li", "O"} <= set(symbols)]:
        with double_precision():
            found = compared_voltages(model, f"Li{metal}O2", cells=cells, lithium_energy=job.lithium_energy)
        for order, one in found.items():
            status = "converged" if not one.problems else "; ".join(dict.fromkeys(one.problems))
            value = one.mean if len(one.voltages) else None
            rows.append({"method": "model", "metal": metal, "cations": order, "voltage": value, "error": one.error})
            rows[-1]["status"] = status
            known = f"{len(one.voltages)} of {job.snapshots}"
            table.add_row(f"Li{metal}O2", order, f"{one.mean:.2f}", f"{one.error:.2f}", known)
    console().print(table)
    return rows


def _show(found: Sequence[dict[str, Any]]) -> None:
    """The table of the study: composition, DFT, model, differences in V and %, published models; means below."""
    from rich.table import Table

    from jaxmlip.evaluate.report import cell_text
    from jaxmlip.study.published import VOLTAGE_ERRORS
    from jaxmlip.study.voltages import mean_absolute_error

    graded = any(row["grade"] is not None for row in found)
    columns = ["composition", "DFT", "model", "|Δ| (V)", "|Δ| (%)", *(["grade"] if graded else []), "AENET", "MTP"]
    table = Table(*columns, title="Average voltages (V against lithium); DFT, AENET, MTP: published")
    for row in found:
        model = row["status"] if row["voltage"] is None else f"{row['voltage']:.2f}"
        differences = [None if row[x] is None else abs(row[x]) for x in ("error", "error_percent")]
        grade = [row["grade"]] if graded else []
        cells = (row["dft"], model, *differences, *grade, row["aenet"], row["mtp"])
        table.add_row(f"Li{row['metal']}O2 - {row['metal']}O2", *map(cell_text, cells))
    mean, percent, n = mean_absolute_error(found)
    published = [f"{volt:.2f} V, {part:.2f} %" for volt, part in VOLTAGE_ERRORS.values()]
    summary = ["mean", "", f"{n} of {len(found)}", cell_text(mean), cell_text(percent), *([""] if graded else [])]
    table.add_section()
    table.add_row(*summary, *published)
    console().print(table)
