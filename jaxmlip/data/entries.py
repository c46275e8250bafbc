"""pymatgen's ``ComputedStructureEntry`` as JSON: one, a list, or a dictionary with a list under ``entries``."""

import json
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from jaxmlip.data.labels import Labels, as_energy, attach


def holds_entries(text: str) -> bool:
    """Whether the JSON ``text`` looks like pymatgen's entries rather than an ASE database."""
    return '"structure"' in text and '"energy"' in text


def read_entries(text: str, name: str, select: slice = slice(None)) -> list[Atoms]:
    """The structures with their uncorrected energy (eV); ``info`` keeps entry_id, composition, correction and run type.

    Raises:
        ValueError: not JSON, no entries, or an entry without an ordered structure.
    """
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{name}: not valid JSON: {error}; it may have been cut off") from None
    if isinstance(content, dict):
        content = content.get("entries", [content])
    return [_read_entry(item, f"{name}, entry {i}") for i, item in list(enumerate(content))[select]]


def _read_entry(item: Any, where: str) -> Atoms:
    # The dictionary is read directly: entries of old pymatgen versions need no class of this one, and a correction
    # (which may be of a scheme this pymatgen does not know) is left alone. `energy` in the file is uncorrected.
    try:
        lattice, sites = item["structure"]["lattice"], item["structure"]["sites"]
        cell = np.array(lattice["matrix"], dtype=float).reshape(3, 3)
        fractional = np.array([site["abc"] for site in sites], dtype=float).reshape(-1, 3)
        energy = as_energy(item["energy"])
        symbols = [_symbol(site) for site in sites]
        pbc = np.broadcast_to(lattice.get("pbc", True), 3).astype(bool)
    except (KeyError, TypeError, IndexError, AttributeError):
        kind = item.get("@class", "no @class") if isinstance(item, dict) else type(item).__name__
        raise ValueError(
            f"{where}: expected a ComputedStructureEntry with structure and energy, got {kind}; a ComputedEntry has no "
            "structure: fetch the entries with structures"
        ) from None
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if not (np.isfinite(cell).all() and np.isfinite(fractional).all() and symbols):
        raise ValueError(f"{where}: the lattice or the coordinates are empty or not finite numbers; remove this entry")
    atoms = Atoms(symbols, scaled_positions=fractional, cell=cell, pbc=pbc)
    atoms.info["composition"] = atoms.get_chemical_formula(mode="metal")
    if item.get("entry_id") is not None:
        atoms.info["entry_id"] = str(item["entry_id"])
    parameters = item.get("parameters")
    if isinstance(parameters, dict) and parameters.get("run_type"):
        atoms.info["run_type"] = str(parameters["run_type"])
    if isinstance(item.get("correction"), (int, float)):
        atoms.info["correction"] = float(item["correction"])
    properties = [site.get("properties") for site in sites]
    magmoms = [each.get("magmom") if isinstance(each, dict) else None for each in properties]
    if all(isinstance(magmom, (int, float)) for magmom in magmoms):
        atoms.set_initial_magnetic_moments(magmoms)
    attach(atoms, Labels(energy, None, None))
    return atoms


def _symbol(site: dict[str, Any]) -> str:
    species = site["species"]
    if len(species) != 1 or abs(species[0].get("occu", 1) - 1) > 1e-8:
        raise ValueError(f"site {site.get('label', '?')} is partly occupied; only ordered structures have one energy")
    symbol = str(species[0]["element"])
    if atomic_numbers.get(symbol, 0) == 0:
        raise ValueError(f"unknown element {symbol!r}")
    return symbol
