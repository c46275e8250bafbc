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
from jaxmlip.units import LITHIUM_BCC


@dataclass(frozen=True)
class Disorder(Settings):
    """Which cation sits where in a rocksalt at a temperature: Monte Carlo of swaps with a potential.

    Writes the order it finds (Warren-Cowley parameters, tetrahedra, 0-TM percolation) with standard errors, structures,
    figures and a page. The same command goes on with a run that was stopped; a larger --n-samples prolongs it.
    Energies are those of unrelaxed sites unless --relaxed. Unrelaxed ones serve cells of thousands of sites and
    exaggerate the order: in LiMnO2 their differences are about twice those of relaxed cells, as if it were colder.

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
    """Decide by relaxed energies: each sample costs a relaxation of the cell, so take a --cell of 2 or 3.
    A run that was stopped goes on as the others do."""
    heat: Positive = 2.0
    """With --relaxed: the temperature of the unrelaxed swaps that make a candidate, in units of --temperature."""
    trials: Count = 20
    """With --relaxed: such swaps from one candidate to the next; fewer where too few candidates are taken."""
    voltages: bool = False
    """Also lithium content over voltage at 300 K of the last structure, beside one with its cations at random, and the
    voltage of each lithium site."""
    lithium_energy: float = LITHIUM_BCC
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
        _check_formula(model, job.formula)
        sites, lattice = _sites(job, model)
        job.out.mkdir(exist_ok=True)
        n_moving = len(sites.sublattices[0].sites)
        console().print(f"{len(sites.frame)} sites, a = {lattice:.3f} Å, {n_moving} of cations", highlight=False)
        samples, structures = _sample(job, model, sites)
        _finish(job, words, model, sites, samples, structures)
    console().print(f"wrote report.html, order.csv and structures.xyz to {job.out}", highlight=False)
    return 0


def _check_formula(model: Any, formula: str) -> None:
    from jaxmlip.cathodes.disorder import parse_formula, rocksalt

    symbols, amounts = model.potential.config.symbols, parse_formula(formula)
    missing = [symbol for symbol in amounts if symbol not in symbols]
    if missing:
        raise ConfigError(f"the model knows {', '.join(symbols)}, not {', '.join(missing)} of {formula}")
    if all(len(part.symbols) < 2 for part in rocksalt(formula, repeat=(1, 1, 1)).sublattices):
        raise ConfigError(f"{formula} has one kind of cation and one of anion: nothing that could change places")


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
    run: Any = {"checkpoint": job.out / "checkpoint.npz", "show_progress": console().is_terminal}
    if job.relaxed:
        names = ("n_samples", "equilibration", "heat", "seed")
        options = {name: getattr(job, name) for name in names}
        relaxed = disorder.RelaxedSampling(n_trials=job.trials, **options)
        found = disorder.sample_relaxed(model, sites, chains, settings=relaxed, **run)
        return disorder.Samples(*found[:3], float("nan")), found.structures
    names = ("n_samples", "equilibration", "sweeps", "seed", "precision")
    settings = disorder.Sampling(**{name: getattr(job, name) for name in names})
    samples = disorder.sample(model, sites, chains, settings=settings, **run)
    return samples, [disorder.occupied(sites, one) for one in samples.numbers[-1]]


def _finish(job: Disorder, words: Sequence[str], model: Any, sites: Any, samples: Any, structures: list) -> None:
    """Analysis, table, files."""
    from jaxmlip.cathodes.disorder import report
    from jaxmlip.data import write
    from jaxmlip.evaluate.provenance import provenance, write_rows
    from jaxmlip.evaluate.report import write_report
    from jaxmlip.evaluate.style import save_figure

    analysis = report.analyse(sites, samples)
    rows = report.rows_of(analysis)
    _show(job, rows)
    write_rows(job.out, "order", rows)
    save_figure(report.order_figure(analysis), job.out / "order.png")
    write(job.out / "structures.xyz", structures)
    further = _voltages(job, model, sites, samples) if job.voltages else []
    n_sites = len(sites.frame)
    chapters = report.sections(analysis, samples, n_sites, about=_about(job, sites), further=further)
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


def _about(job: Disorder, sites: Any) -> str:
    """What was sampled, in words."""
    energies = "relaxed cells: each candidate is relaxed with its cell" if job.relaxed else "ions on their ideal sites"
    lattice = sites.frame.cell.lengths()[0] / job.cell
    return (
        f"{job.chains} chains of {job.n_samples} samples of {job.formula} at {job.temperature:g} K, {len(sites.frame)} "
        f"sites of a rocksalt with a lattice constant of {lattice:.3f} Å; energies of {energies}."
    )


def _voltages(job: Disorder, model: Any, sites: Any, samples: Any) -> list:
    """Content over voltage of the last structure and of a random one, around the voltages of their sites."""
    from jaxmlip.cathodes import disorder
    from jaxmlip.cathodes.disorder.report import Lithium, voltage_figure
    from jaxmlip.evaluate.provenance import write_rows
    from jaxmlip.evaluate.report import Picture, Section
    from jaxmlip.evaluate.style import save_figure

    random = disorder.random_numbers(sites, disorder.parse_formula(job.formula), job.seed)
    kinds = {"sampled": samples.numbers[-1, 0], "random": random}
    hosts = {name: disorder.occupied(sites, numbers) for name, numbers in kinds.items()}
    settings = disorder.Sampling(n_samples=30, equilibration=20, precision=job.precision, seed=job.seed)
    found, rows = {}, []
    for name, atoms in hosts.items():
        single = disorder.site_voltages(model, atoms, lithium_energy=job.lithium_energy)
        grid = disorder.voltage_range(model, atoms, lithium_energy=job.lithium_energy)
        options: Any = {"voltages": grid.tolist(), "lithium_energy": job.lithium_energy, "settings": settings}
        curve = disorder.voltage_curve(model, atoms, **options)
        found[name] = Lithium(curve, single)
        columns = zip(curve.voltages, curve.content.mean, curve.content.error, curve.slope, strict=True)
        names = ("voltage", "content", "error", "slope")
        rows += [{"cations": name, **dict(zip(names, map(float, row), strict=True))} for row in columns]
    write_rows(job.out, "voltage_curve", rows)
    figure = voltage_figure(found)
    save_figure(figure, job.out / "voltage_curve.png")
    text = "Metals stay, lithium comes and goes at 300 K on unrelaxed sites: the voltages are those of a rigid host."
    caption = "Lithium content over voltage, and the voltage at which each lithium would leave alone."
    return [Section("Lithium", [text], pictures=[Picture(figure, caption)])]
