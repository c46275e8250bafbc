"""``jaxmlip disorder``: Monte Carlo of cations in a rocksalt, with its short-range order, percolation and voltages."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from jaxmlip.commands.cache import double_precision
from jaxmlip.commands.evaluation import load_model
from jaxmlip.commands.output import console, need_folder, record_beside
from jaxmlip.commands.parse import parse, take_config
from jaxmlip.config import ConfigError, Count, Positive, Settings, Whole


@dataclass(frozen=True)
class Disorder(Settings):
    """Which cation sits where in a rocksalt at a temperature: Monte Carlo of swaps with a potential.

    Writes the order it finds (Warren-Cowley parameters, tetrahedra, 0-TM percolation) with standard errors, structures,
    figures and a page. The same command goes on with a run that was stopped; a larger --n-samples prolongs it.
    Energies are those of unrelaxed sites unless --relaxed: good for trends where ions differ little in size, and for
    cells of thousands of sites.

    example: jaxmlip disorder fit/model.npz LiMnO2 --temperature 1300 --cell 6 --out disorder
    """

    model: tyro.conf.Positional[str] = ""
    """Our model.npz, or a file of another program; it must know all elements of the formula."""
    formula: tyro.conf.Positional[str] = ""
    """Such as LiMnO2 or Li1.2Mn0.4Ti0.4O2; anions O, F, S, Cl, N; vacancies fill up cations that are too few."""
    temperature: Positive = 1300.0
    """K; 1300 is about that of synthesis, whose arrangement stays at room temperature."""
    cell: Count = 6
    """Conventional cells of 8 sites along each axis: 6 are 1,728 sites."""
    lattice: float | None = None
    """Constant of the conventional cell in Å; None: from a small random cell relaxed with the model."""
    out: Path = Path("disorder")
    """Folder: report.html, order.csv, structures.xyz, figures, a checkpoint, run.json."""
    chains: Count = 2
    """Independent chains; their spread tells whether they are long enough."""
    n_samples: Count = 100
    """Samples kept of each chain."""
    equilibration: Whole = 50
    """Samples thrown away first."""
    sweeps: Positive = 1.0
    """Trials per cation site from one sample to the next."""
    relaxed: bool = False
    """Decide by relaxed energies: each sample costs a relaxation of the cell, so take a --cell of 2 or 3."""
    voltages: bool = False
    """Also lithium content over voltage of the last structure at 300 K, and the voltage of each lithium site."""
    lithium_energy: float = -1.9089
    """Energy of bcc lithium in eV per atom, of the same kind of calculation as the training data (default: PBE)."""
    precision: Literal["float64", "float32"] = "float32"
    """Of the energies of trials; float32 is faster and far more exact than any potential."""
    seed: Whole = 0
    """Of the first arrangement and of all trials."""


def main(words: Sequence[str]) -> int:
    """Run the command."""
    mapping, where, rest = take_config(words)
    job = parse(Disorder, rest, prog="jaxmlip disorder", mapping=mapping, where=where)
    need_folder(job.out)
    if job.chains * job.n_samples < 2:
        raise ConfigError("standard errors need two samples in all: raise --n-samples")
    if not job.formula:
        raise ConfigError("no formula: name the rocksalt after the model, such as LiMnO2")
    with double_precision():
        model = load_model(job.model)
        _check_elements(model, job.formula)
        sites, lattice = _sites(job, model)
        job.out.mkdir(exist_ok=True)
        n_moving = len(sites.sublattices[0].sites)
        console().print(f"{len(sites.frame)} sites, a = {lattice:.3f} Å, {n_moving} of cations", highlight=False)
        samples, structures = _sample(job, model, sites)
        _finish(job, words, model, (sites, samples, structures))
    console().print(f"wrote report.html, order.csv and structures.xyz to {job.out}", highlight=False)
    return 0


def _check_elements(model: Any, formula: str) -> None:
    from jaxmlip.cathodes.disorder import parse_formula

    symbols = model.potential.config.symbols
    missing = [symbol for symbol in parse_formula(formula) if symbol not in symbols]
    if missing:
        raise ConfigError(f"the model knows {', '.join(symbols)}, not {', '.join(missing)} of {formula}")


def _sites(job: Disorder, model: Any) -> tuple[Any, float]:
    from jaxmlip.cathodes.disorder import rocksalt
    from jaxmlip.cathodes.disorder.voltage import relaxed_lattice

    lattice = relaxed_lattice(model, job.formula) if job.lattice is None else job.lattice
    return rocksalt(job.formula, repeat=(job.cell, job.cell, job.cell), lattice=lattice), lattice


def _sample(job: Disorder, model: Any, sites: Any) -> tuple[Any, list]:
    """Samples, and the last structure of each chain."""
    import numpy as np

    from jaxmlip.cathodes import disorder

    amounts = disorder.parse_formula(job.formula)
    starts = np.array([disorder.random_numbers(sites, amounts, job.seed + k) for k in range(job.chains)])
    chains = disorder.Chains(starts, [job.temperature] * job.chains)
    if job.relaxed:
        n = job.n_samples + job.equilibration
        relaxed = disorder.RelaxedSampling(n_samples=n, seed=job.seed)
        found = disorder.sample_relaxed(model, sites, chains, settings=relaxed)
        kept = slice(job.equilibration, None)
        samples = disorder.Samples(found.numbers[kept], found.energies[kept], found.acceptance, float("nan"))
        return samples, found.structures
    names = ("n_samples", "equilibration", "sweeps", "seed", "precision")
    settings = disorder.Sampling(**{name: getattr(job, name) for name in names})
    samples = disorder.sample(
        model, sites, chains, settings=settings, checkpoint=job.out / "checkpoint.npz",
        show_progress=console().is_terminal,
    )  # fmt: skip
    return samples, [disorder.occupied(sites, one) for one in samples.numbers[-1]]


def _finish(job: Disorder, words: Sequence[str], model: Any, found: tuple) -> None:
    """Analysis, table, files."""
    from jaxmlip.cathodes.disorder import report
    from jaxmlip.data import write
    from jaxmlip.evaluate.provenance import provenance, write_rows
    from jaxmlip.evaluate.report import write_report
    from jaxmlip.evaluate.style import save_figure

    sites, samples, structures = found
    analysis = report.analyse(sites, samples)
    rows = report.rows_of(analysis)
    _show(job, rows)
    write_rows(job.out, "order", rows)
    save_figure(report.order_figure(analysis), job.out / "order.png")
    write(job.out / "structures.xyz", structures)
    further = _voltages(job, model, sites, samples) if job.voltages else []
    chapters = report.sections(analysis, samples, len(sites.frame), further)
    title = f"Cation disorder of {job.formula} at {job.temperature:g} K"
    write_report(
        job.out / "report.html",
        title,
        sections=chapters,
        record=provenance(job, command=["jaxmlip", "disorder", *words]),
    )
    record_beside(job.out, job, ["disorder", *words], acceptance=samples.acceptance.tolist())


def _show(job: Disorder, rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    from jaxmlip.evaluate.report import cell_text

    table = Table("quantity", "mean", "error", "random", title=f"{job.formula} at {job.temperature:g} K")
    for row in rows:
        table.add_row(row["quantity"], *(cell_text(row[name]) for name in ("mean", "error", "random")))
    console().print(table)


def _voltages(job: Disorder, model: Any, sites: Any, samples: Any) -> list:
    """Content over voltage of the last structure, around the voltages of its sites."""
    import numpy as np

    from jaxmlip.cathodes import disorder
    from jaxmlip.cathodes.disorder.report import voltage_figure
    from jaxmlip.evaluate.provenance import write_rows
    from jaxmlip.evaluate.report import Picture, Section
    from jaxmlip.evaluate.style import save_figure

    atoms = disorder.occupied(sites, samples.numbers[-1, 0])
    single = disorder.site_voltages(model, atoms, lithium_energy=job.lithium_energy)
    grid = np.linspace(single.min() - 0.5, single.max() + 1.5, 12).tolist()
    settings = disorder.Sampling(n_samples=30, equilibration=20, precision=job.precision, seed=job.seed)
    curve = disorder.voltage_curve(model, atoms, voltages=grid, lithium_energy=job.lithium_energy, settings=settings)
    columns = zip(curve.voltages, curve.content.mean, curve.content.error, curve.slope, strict=True)
    names = ("voltage", "content", "error", "slope")
    write_rows(job.out, "voltage_curve", [dict(zip(names, map(float, row), strict=True)) for row in columns])
    figure = voltage_figure(curve, single)
    save_figure(figure, job.out / "voltage_curve.png")
    text = "Metals stay, lithium comes and goes at 300 K on unrelaxed sites: the voltages are those of a rigid host."
    caption = "Lithium content over voltage, and the voltage at which each lithium would leave alone."
    return [Section("Lithium", [text], pictures=[Picture(figure, caption)])]
