"""Labelled structures in JSON: pymatgen's entries, MPtrj, MatPES, mlearn/maml and FitSNAP, each with its own units.

- ``ComputedStructureEntry`` (Materials Project): the uncorrected energy, eV.
- MPtrj (Deng et al., Nat. Mach. Intell. 5, 1031 (2023)): ``uncorrected_total_energy``, ``force`` in eV/Å, ``stress`` in
  kbar with VASP's sign (CHGNet multiplies by −0.1 for GPa).
- MatPES (Kaplan et al. 2025): ``energy``, ``forces``, ``stress`` as xx yy zz yz xz xy in kbar with VASP's sign.
- mlearn and maml (Zuo et al., J. Phys. Chem. A 124, 731 (2020)): ``outputs`` with ``virial_stress`` as
  xx yy zz xy yz xz in eV, −stress × volume (checked on its extended XYZ files, which carry both).
- FitSNAP (Thompson et al., J. Comput. Phys. 285, 316 (2015)): ``Dataset`` with units in ``…Style``; its stress is
  LAMMPS's pressure tensor, positive under compression.
"""

import re
from collections.abc import Iterator
from io import BufferedIOBase
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from jaxmlip.config import unknown_name
from jaxmlip.data.constraints import take_move_mask
from jaxmlip.data.json_stream import Record, layout, load_all, records
from jaxmlip.data.labels import Labels, as_energy, as_forces, as_stress, attach
from jaxmlip.units import BAR, BOHR, GPA, HARTREE

_KBAR = 0.1 / GPA
_VASP_ORDER = [0, 1, 2, 4, 5, 3]  # xx yy zz xy yz xz as xx yy zz yz xz xy
_STYLES = {
    "Energy": {"electronvolt": 1.0, "ev": 1.0, "hartree": HARTREE},
    "Forces": {"electronvoltperangstrom": 1.0, "ev/angstrom": 1.0, "hartreeperbohr": HARTREE / BOHR},
    "Lattice": {"angstrom": 1.0, "bohr": BOHR},
    "Positions": {"angstrom": 1.0, "bohr": BOHR},
    "Stress": {"bar": 1 / BAR, "kb": _KBAR, "kbar": _KBAR, "kilobar": _KBAR, "gpa": 1 / GPA},
}

_NAMED = re.compile("energ|force|stress|virial|converged", re.I)
_DERIVED = re.compile("per_atom|formation|cohesive|hull|correct|gap", re.I)
# What is read as a label, or is no label whatever its name.
_USED = frozenset(
    ["energy", "forces", "force", "stress", "uncorrected_total_energy", "virial_stress", "magmom", "num_atoms"]
)

_FITSNAP = frozenset(["NumAtoms", "AtomTypes", *_STYLES])


def read_json(file: BufferedIOBase, name: str) -> Iterator[Atoms] | None:
    """The structures of a JSON file one by one, or None where it holds no records (perhaps an ASE database).

    Raises:
        ValueError: not JSON, or a record that is not what its format says; with its number.
    """
    where = layout(file, name)
    if where is None:
        return None
    if where.is_fitsnap:
        return _fitsnap(load_all(file, name), name)
    return (_atoms(record, f"{name}, record {k}") for k, record in enumerate(records(file, name, where)))


def _atoms(record: Record, where: str) -> Atoms:
    item = record.value
    try:
        atoms = _structure(item["structure"])
        found, further = _labels(item, atoms)
    except (KeyError, TypeError, IndexError, AttributeError):
        kind = item.get("@class", "no @class")
        raise ValueError(
            f"{where}: expected a structure of pymatgen with an energy (ComputedStructureEntry, MPtrj, MatPES, "
            f"mlearn), got {kind} with the keys {', '.join(map(str, item)) or 'none'}; a ComputedEntry has no "
            "structure: fetch the entries with structures"
        ) from None
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{where}: {error}") from None
    atoms.info["composition"] = atoms.get_chemical_formula(mode="metal")
    atoms.info.update(_facts(item))
    _keep_tables(atoms, item, "", _USED)
    _keep_tables(atoms, item.get("outputs"), "outputs.", frozenset(["energy", "forces", "virial_stress", "num_atoms"]))
    _keep_tables(atoms, item.get("data"), "data.", frozenset())
    if all(isinstance(key, str) for key in record.path):  # no list: the keys are names, two of them in MPtrj
        atoms.info.update(zip(("mp_id", "frame_id") if len(record.path) == 2 else ("id",), record.path))
    attach(atoms, found, **further)
    return atoms


def _structure(structure: dict[str, Any]) -> Atoms:
    # The dictionary is read directly: structures of old pymatgen versions need no class of this one.
    lattice, sites = structure["lattice"], structure["sites"]
    cell = np.array(lattice["matrix"], dtype=float).reshape(3, 3)
    fractional = np.array([site["abc"] for site in sites], dtype=float).reshape(-1, 3)
    symbols = [_symbol(site) for site in sites]
    if not (np.isfinite(cell).all() and np.isfinite(fractional).all() and symbols):
        raise ValueError("the lattice or the coordinates are empty or not finite numbers; remove this entry")
    pbc = np.broadcast_to(lattice.get("pbc", True), 3).astype(bool)
    atoms = Atoms(symbols, positions=fractional @ cell, cell=cell, pbc=pbc)
    _take_properties(atoms, [each if isinstance(each := site.get("properties"), dict) else {} for site in sites])
    return atoms


def _take_properties(atoms: Atoms, properties: list[dict[str, Any]]) -> None:
    """What the sites say: moments, directions that are fixed, and vectors such as forces under their names."""
    for key in properties[0]:
        values = [each.get(key) for each in properties]
        if key == "magmom" and all(isinstance(value, (int, float)) for value in values):
            atoms.set_initial_magnetic_moments(values)
        elif (table := _table(values)) is not None and table.shape == (len(atoms), 3):
            if key == "selective_dynamics":
                take_move_mask(atoms, table)
            else:
                atoms.set_array(key, table.astype(float))


def _keep_tables(atoms: Atoms, part: Any, prefix: str, used: frozenset[str]) -> None:
    """Tables of atoms, and labels of the cell under names that are not conventional, kept as they stand there."""
    for key, value in part.items() if isinstance(part, dict) else ():
        table = None if key in used else _table(value)
        if table is None or f"{prefix}{key}" in (*atoms.info, *atoms.arrays):
            continue
        if table.shape == (len(atoms), 3):
            atoms.set_array(f"{prefix}{key}", table.astype(float))
        elif table.size in (1, 6, 9) and _NAMED.search(key):
            atoms.info[f"{prefix}{key}"] = table.item() if table.size == 1 else table


def _table(value: Any) -> np.ndarray | None:
    """Numbers, or None where these are none."""
    try:
        table = np.asarray(value)
    except ValueError:
        return None
    return table if table.dtype.kind in "fib" else None


def _labels(item: dict[str, Any], atoms: Atoms) -> tuple[Labels, dict[str, Any]]:
    """Energy, forces and stress as the format of the record has them, and further results."""
    n_atoms = len(atoms)
    if isinstance(item.get("outputs"), dict):
        outputs = item["outputs"]
        virial = outputs.get("virial_stress")
        stress = None if virial is None else -_of_vasp_order(virial) / atoms.get_volume()
        return _made(outputs["energy"], outputs.get("forces"), stress, n_atoms), {}
    if "uncorrected_total_energy" in item:
        magmoms = item.get("magmom")
        stress = _of_kbar(item.get("stress"))
        further = {"magmoms": None if magmoms is None else np.array(magmoms, float)}
        return _made(item["uncorrected_total_energy"], item.get("force"), stress, n_atoms), further
    stress = item.get("stress")
    if stress is not None and not ({"matpes_id", "functional", "provenance"} & set(item)):
        raise ValueError(
            "a stress in a record that is neither of MatPES nor of MPtrj: its unit is unknown; remove it, or write the "
            "structures as extended XYZ in eV/Å³"
        )
    energy = item.get("energy")
    if energy is None and not any("energ" in key.lower() and not _DERIVED.search(key) for key in item):
        raise KeyError("energy")
    return _made(energy, item.get("forces"), _of_kbar(stress), n_atoms), {}


def _made(energy: Any, forces: Any, stress: Any, n_atoms: int) -> Labels:
    return Labels(
        None if energy is None else as_energy(energy),
        None if forces is None else as_forces(forces, n_atoms),
        None if stress is None else as_stress(stress),
    )


def _of_vasp_order(virial: Any) -> np.ndarray:
    found = np.array(virial, float)
    if found.shape not in ((6,), (3, 3)):
        raise ValueError(f"virial_stress: expected six numbers (xx yy zz xy yz xz) or 3 x 3, got shape {found.shape}")
    return as_stress(found[_VASP_ORDER] if found.shape == (6,) else found)


def _of_kbar(stress: Any) -> np.ndarray | None:
    """VASP's stress in kbar, positive under compression, as ASE's in eV/Å³."""
    return None if stress is None else -_KBAR * as_stress(stress)


def _facts(item: dict[str, Any]) -> dict[str, Any]:
    """What a record says in single words and numbers, under its own names."""
    facts = {k: v for k, v in item.items() if isinstance(v, (str, int, float)) and not str(k).startswith("@")}
    for key in ("energy", "uncorrected_total_energy", "num_atoms", "composition"):
        facts.pop(key, None)
    parameters = item.get("parameters")
    if isinstance(parameters, dict) and parameters.get("run_type"):
        facts["run_type"] = str(parameters["run_type"])
    if "entry_id" in facts:
        facts["entry_id"] = str(facts["entry_id"])
    return facts


def _symbol(site: dict[str, Any]) -> str:
    species = site["species"]
    if len(species) != 1 or abs(species[0].get("occu", 1) - 1) > 1e-8:
        raise ValueError(f"site {site.get('label', '?')} is partly occupied; only ordered structures have one energy")
    symbol = str(species[0]["element"])
    if atomic_numbers.get(symbol, 0) == 0:
        raise ValueError(f"unknown element {symbol!r}")
    return symbol


def _fitsnap(content: Any, name: str) -> Iterator[Atoms]:
    dataset = content["Dataset"]
    if not isinstance(dataset, dict) or not isinstance(dataset.get("Data"), list):
        raise ValueError(f"{name}: expected a FitSNAP file with a list Data in Dataset")
    factors = {kind: _style(dataset, kind, name) for kind in _STYLES}
    if str(dataset.get("AtomTypeStyle", "chemicalsymbol")).lower() != "chemicalsymbol":
        raise ValueError(f"{name}: AtomTypeStyle {dataset['AtomTypeStyle']!r} is not supported, only chemicalsymbol")
    facts = {k: v for k, v in dataset.items() if isinstance(v, (str, int, float)) and not k.endswith("Style")}
    for number, item in enumerate(dataset["Data"]):
        try:
            yield _fitsnap_frame(item, factors, facts)
        except KeyError as error:
            raise ValueError(f"{name}, frame {number}: {error.args[0]} is missing") from None
        except (ValueError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"{name}, frame {number}: {error}") from None


def _fitsnap_frame(item: dict[str, Any], factors: dict[str, float], facts: dict[str, Any]) -> Atoms:
    unknown = [symbol for symbol in item["AtomTypes"] if atomic_numbers.get(symbol, 0) == 0]
    if unknown:
        raise ValueError(f"unknown element {unknown[0]!r} in AtomTypes; expected symbols such as Ta")
    cell = np.array(item["Lattice"], float).reshape(3, 3) * factors["Lattice"]
    positions = np.array(item["Positions"], float) * factors["Positions"]
    atoms = Atoms(item["AtomTypes"], positions=positions, cell=cell, pbc=True)
    if item.get("NumAtoms", len(atoms)) != len(atoms):
        raise ValueError(f"NumAtoms is {item['NumAtoms']}, but {len(atoms)} atoms are listed")
    atoms.info.update(facts)
    atoms.info.update({k: v for k, v in item.items() if isinstance(v, (str, int, float)) and k not in _FITSNAP})
    _keep_tables(atoms, item, "", _FITSNAP)
    energy, forces, stress = (item.get(kind) for kind in ("Energy", "Forces", "Stress"))
    found = _made(
        None if energy is None else as_energy(energy) * factors["Energy"],
        None if forces is None else np.array(forces, float) * factors["Forces"],
        None if stress is None else -as_stress(stress) * factors["Stress"],
        len(atoms),
    )
    attach(atoms, found)
    return atoms


def _style(dataset: dict[str, Any], kind: str, name: str) -> float:
    known = _STYLES[kind]
    word = str(dataset.get(f"{kind}Style", next(iter(known)))).lower().replace(" ", "")
    if word not in known:
        raise ValueError(f"{name}: {unknown_name(f'{kind}Style', word, known)}")
    return known[word]
