"""``jaxmlip properties``: equation of state, elasticity and phonons of a crystal from a model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from jaxmlip.commands.cache import double_precision
from jaxmlip.commands.evaluation import load_model
from jaxmlip.commands.output import console, need_folder, one_structure, record_beside
from jaxmlip.commands.parse import parse, take_config
from jaxmlip.data.options import ReadOptions


@dataclass(frozen=True)
class Properties(ReadOptions):
    """Relax a crystal, then its equation of state, elastic tensor and phonons; exits with 1 when one of them fails.

    The folder holds relaxed.xyz, properties.json, figures, and for phonopy (phonopy -c POSCAR --dim … --readfc) the
    primitive cell as POSCAR with FORCE_CONSTANTS; the numbers for --dim stand in properties.json as supercell.

    example: jaxmlip properties fit/model.npz crystal.cif --out properties
    """

    model: tyro.conf.Positional[str] = ""
    """Our model.npz, or a file of another program."""
    data: tyro.conf.Positional[str] = ""
    """A file or a shipped data set; its first structure unless --index says which."""
    index: int = 0
    """Which structure of the data."""
    out: Path = Path("properties")
    """Folder for the results."""
    only: tuple[Literal["equation-of-state", "elastic", "phonons"], ...] = ("equation-of-state", "elastic", "phonons")
    """These alone."""
    relax: bool = True
    """Relax positions and cell first, keeping the symmetry."""
    strain: float = 0.06
    """Largest change of lengths in the equation of state, relative."""
    path: str | None = None
    """Of the dispersion, as GXWKGL; default: the standard path of the lattice."""
    supercell: tuple[int, int, int] | None = None
    """Of the force constants, in primitive cells; default: twice the cutoff along each vector."""


def main(words: Sequence[str]) -> int:
    """Run the command; 1 when a property could not be computed."""
    mapping, where, rest = take_config(words)
    job = parse(Properties, rest, prog="jaxmlip properties", mapping=mapping, where=where)
    need_folder(job.out)
    with double_precision():
        model, start = load_model(job.model), one_structure(job.data, job.index, job)
        job.out.mkdir(exist_ok=True)
        atoms, problem = _relaxed(job, model, start)
        found, problems = ({}, [problem]) if problem else _each(job, model, atoms)
    from jaxmlip.evaluate.provenance import write_json

    write_json(job.out / "properties.json", found)
    record_beside(job.out, job, ["properties", *words], problems=problems)
    for text in problems:
        console().print(f"jaxmlip properties: {text}", markup=False, highlight=False)
    console().print(f"wrote {job.out}", highlight=False)
    return 1 if problems else 0


def _relaxed(job: Properties, model, start) -> tuple[Any, str]:
    """The minimum, and why there is none."""
    from jaxmlip.data import write
    from jaxmlip.simulate import relax

    if not job.relax:
        return start, ""
    found = relax(model, start, fixed_symmetry=True, fmax=1e-4, smax=1e-6)
    write(job.out / "relaxed.xyz", [found.atoms])
    return found.atoms, "" if found.converged else f"the relaxation failed: {found.problem}"


def _each(job: Properties, model, atoms) -> tuple[dict[str, Any], list[str]]:
    """All that can be computed, and what went wrong with the others."""
    from rich.table import Table

    table = Table("property", "value", "unit", title=f"{atoms.get_chemical_formula()}, {atoms.get_volume():.2f} Å³")
    steps: dict[str, Callable] = {"equation-of-state": _equation, "elastic": _elastic, "phonons": _phonons}
    found, problems = {}, []
    for name in job.only:
        try:
            found[name], rows = steps[name](job, model, atoms)
        except ValueError as error:
            problems.append(f"{name}: {error}")
            continue
        for row in rows:
            table.add_row(*row)
        table.add_section()
    if found:
        console().print(table)
    return found, problems


def _equation(job: Properties, model, atoms) -> tuple[dict, list]:
    from jaxmlip.evaluate import save_figure
    from jaxmlip.properties import equation_of_state, equation_of_state_figure
    from jaxmlip.units import GPA, MEV

    found = equation_of_state(model, atoms, strain=job.strain)
    save_figure(equation_of_state_figure(found, len(atoms)), job.out / "equation_of_state.png")
    rows = [
        ("equilibrium volume", f"{found.volume:.3f}", "Å³"),
        ("bulk modulus (Birch-Murnaghan)", f"{found.bulk_modulus * GPA:.1f}", "GPa"),
        ("its derivative by pressure", f"{found.derivative:.2f}", ""),
        ("largest distance from the fit", f"{found.residual / len(atoms) * MEV:.2g}", "meV/atom"),
    ]
    return found._asdict() | {"bulk_modulus_GPa": found.bulk_modulus * GPA}, rows


def _elastic(job: Properties, model, atoms) -> tuple[dict, list]:
    from jaxmlip.properties import elastic_tensor
    from jaxmlip.units import GPA

    found = elastic_tensor(model, atoms)
    C = found.tensor * GPA
    rows = [(f"C{i + 1}{j + 1}", f"{C[i, j]:.1f}", "GPa") for i in range(6) for j in range(i, 6) if abs(C[i, j]) > 0.05]
    rows += [("bulk modulus (Hill)", f"{found.bulk_modulus * GPA:.1f}", "GPa")]
    rows += [("shear modulus (Hill)", f"{found.shear_modulus * GPA:.1f}", "GPa")]
    rows += [] if found.stable else [("unstable", "the tensor is not positive definite", "")]
    return {"tensor_GPa": C, "clamped_GPa": found.clamped * GPA, "stable": found.stable}, rows


def _phonons(job: Properties, model, atoms) -> tuple[dict, list]:
    import ase.io

    from jaxmlip.evaluate import save_figure
    from jaxmlip.files import atomic_path
    from jaxmlip.properties import bands_figure, default_supercell, phonon_bands, write_force_constants
    from jaxmlip.simulate.symmetry import primitive

    cell = primitive(atoms)
    supercell = job.supercell or default_supercell(cell, model.potential.config.cutoff)
    bands = phonon_bands(model, cell, path=job.path)
    save_figure(bands_figure(bands), job.out / "phonons.png")
    with atomic_path(job.out / "POSCAR") as temporary:
        ase.io.write(temporary, cell, format="vasp", direct=True)
    write_force_constants(job.out / "FORCE_CONSTANTS", model, cell, supercell)
    lowest, highest = float(bands.frequencies.min()), float(bands.frequencies.max())
    rows = [("lowest frequency" + (" (imaginary)" if lowest < -0.05 else ""), f"{lowest:.3f}", "THz")]
    rows += [("highest frequency", f"{highest:.3f}", "THz")]
    return bands._asdict() | {"supercell": supercell}, rows
