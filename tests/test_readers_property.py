"""Readers, property by property: any way of writing a frame reads back to its labels; damage is refused politely."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmlip.data import DataWarning, Labels, iread, labels, read
from jaxmlip.units import BAR, BOHR, GPA, HARTREE

CASES = Path(__file__).parent / "data" / "cases"
SIX = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
numbers = st.floats(-50, 50, allow_nan=False).map(lambda x: round(x, 6))


@st.composite
def frames(draw) -> Atoms:
    """Two atoms in a tilted cell of some volume, with all labels in ``info`` and ``arrays`` of this test's own."""
    a, b, c = (draw(st.floats(3, 6)) for _ in range(3))
    tilt = [draw(st.floats(-1, 1)) for _ in range(3)]
    atoms = Atoms("LiO", cell=[[a, 0, 0], [tilt[0], b, 0], [tilt[1], tilt[2], c]], pbc=True)
    atoms.set_scaled_positions([[0.0, 0.0, 0.0], [draw(st.floats(0.1, 0.9)) for _ in range(3)]])
    atoms.arrays["truth"] = np.array([[draw(numbers) for _ in range(3)] for _ in range(2)])
    half = [draw(numbers) / 100 for _ in range(6)]
    stress = np.zeros((3, 3))
    for value, (i, j) in zip(half, SIX, strict=True):
        stress[i, j] = stress[j, i] = value
    atoms.info |= {"energy": draw(numbers), "stress": stress}
    return atoms


def words(array) -> str:
    return " ".join(repr(float(x)) for x in np.ravel(array))


def six(tensor) -> list[float]:
    return [float(tensor[i, j]) for i, j in SIX]


def as_xyz(atoms: Atoms, draw) -> str:
    unit = draw(st.sampled_from([("eV", 1.0), ("hartree", HARTREE), ("Ry", HARTREE / 2), ("meV", 1e-3)]))
    force = draw(st.sampled_from([("eV/Angstrom", 1.0), ("hartree/bohr", HARTREE / BOHR)]))
    prefix = draw(st.sampled_from(["", "REF_", "dft_"]))
    case = draw(st.sampled_from([str, str.lower, str.upper]))
    stress, volume = atoms.info["stress"], atoms.get_volume()
    name, factor = draw(
        st.sampled_from([("stress", 1.0), ("virial", -volume / unit[1]), ("virials", -volume / unit[1])])
    )
    numbers = words(draw(st.sampled_from([six, np.ravel]))(factor * stress)).split()
    text = draw(st.sampled_from(['"{}"', "'{}'", "{{{}}}", '"[{}]"', "[{}]", '"_JSON [{}]"']))
    between = ", " if "[" in text else draw(st.sampled_from([" ", ", "]))
    text = f"{prefix}{name}={text.format(between.join(numbers))}"
    columns = {
        "species:S:1": [["Li"], ["O"]],
        "pos:R:3": [[repr(float(x)) for x in row] for row in atoms.positions],
        f"{prefix}forces:R:3": [[repr(float(x / force[1])) for x in row] for row in atoms.arrays["truth"]],
        "tags:I:1": [["1"], ["2"]],
    }
    order = draw(st.permutations(list(columns)))
    head = [
        f'{case("Lattice")}="{words(atoms.cell.array)}"', f"{case('Properties')}={':'.join(order)}",
        f"{prefix}energy={atoms.info['energy'] / unit[1]!r}", text,
        case("pbc") + draw(st.sampled_from(['="T T T"', "=TTT", '="1 1 1"', "=T", '="True True True"', "=[T,T,T]"])),
        f"energy-unit={unit[0]}", draw(st.sampled_from(["forces_unit", "unit-forces"])) + f"={force[0]}",
        'stress-unit="eV/Angstrom^3"', "virial_unit=" + unit[0],
    ]  # fmt: skip
    rows = [" ".join(word for name in order for word in columns[name][k]) for k in range(2)]
    return "2\n" + " ".join(draw(st.permutations(head))) + "\n" + "\n".join(rows) + "\n"


def as_cfg(atoms: Atoms, draw) -> str:
    section, sign = draw(st.sampled_from([("PlusStress", -1), ("Virial", -1), ("Stress", 1)]))
    scaled = draw(st.booleans())
    positions = atoms.get_scaled_positions(wrap=False) if scaled else atoms.positions
    table = {"id": [1, 2], "type": [0, 1]}
    table |= {("direct_" if scaled else "cartes_") + axis: positions[:, k] for k, axis in enumerate("xyz")}
    table |= {"f" + axis: atoms.arrays["truth"][:, k] for k, axis in enumerate("xyz")}
    order = draw(st.permutations(list(table)))
    names = dict(zip(("xx", "yy", "zz", "yz", "xz", "xy"), six(sign * atoms.info["stress"] * atoms.get_volume())))
    shuffled = draw(st.permutations(list(names)))
    rows = [" ".join(str(table[name][k]) for name in order) for k in range(2)]
    parts = [
        "Supercell\n" + "\n".join(words(row) for row in atoms.cell.array),
        "AtomData:  " + " ".join(order) + "\n" + "\n".join(rows),
        f"Energy\n{atoms.info['energy']!r}",
        f"{section}:  " + " ".join(shuffled) + "\n" + words([names[name] for name in shuffled]),
    ]
    return "BEGIN_CFG\nSize\n2\n" + "\n".join(draw(st.permutations(parts))) + "\nEND_CFG\n"


def as_dump(atoms: Atoms, draw) -> str:
    (a, _, _), (xy, b, _), (xz, yz, c) = atoms.cell.array
    x_bounds = min(0, xy, xz, xy + xz), a + max(0, xy, xz, xy + xz)
    y_bounds = min(0, yz), b + max(0, yz)
    bounds = [words(row) for row in ((*x_bounds, xy), (*y_bounds, xz), (0.0, c, yz))]
    kind = draw(st.sampled_from(["{}", "{}u", "{}s", "{}su"]))
    positions = atoms.get_scaled_positions(wrap=False) if "s" in kind else atoms.positions
    table = {"id": [1, 2], "type": [1, 2], "mass": [6.9, 16.0]}
    table |= {kind.format(axis): positions[:, k] for k, axis in enumerate("xyz")}
    table |= {"f" + axis: atoms.arrays["truth"][:, k] for k, axis in enumerate("xyz")}
    order = draw(st.permutations(list(table)))
    rows = draw(st.permutations([" ".join(f"{table[name][k]!s}" for name in order) for k in range(2)]))
    head = "ITEM: TIMESTEP\n5\nITEM: NUMBER OF ATOMS\n2\nITEM: BOX BOUNDS xy xz yz pp pp pp\n"
    return head + "\n".join(bounds) + ("\nITEM: ATOMS " + " ".join(order) + "\n" + "\n".join(rows) + "\n")


def structure(atoms: Atoms) -> dict:
    sites = [
        {"species": [{"element": symbol, "occu": 1}], "abc": abc, "properties": {}}
        for symbol, abc in zip(
            atoms.get_chemical_symbols(), atoms.get_scaled_positions(wrap=False).tolist(), strict=True
        )
    ]
    return {"lattice": {"matrix": atoms.cell.array.tolist(), "pbc": [True] * 3}, "sites": sites}


def as_json(atoms: Atoms, draw) -> str:
    energy, forces, stress = atoms.info["energy"], atoms.arrays["truth"].tolist(), atoms.info["stress"]
    kbar = -10 * GPA * stress
    virial = -stress * atoms.get_volume()
    vasp = [float(virial[i, j]) for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (0, 2))]
    whole = structure(atoms)
    fitsnap = {
        "AtomTypes": ["Li", "O"], "Energy": energy, "Forces": forces, "Lattice": atoms.cell.array.tolist(),
        "Positions": atoms.positions.tolist(), "Stress": (-stress * BAR).tolist(), "NumAtoms": 2,
    }  # fmt: skip
    kinds = {
        "mptrj": {"mp-1": {"mp-1-0-0": {"structure": whole, "uncorrected_total_energy": energy, "force": forces,
                                        "stress": kbar.tolist(), "corrected_total_energy": energy - 1}}},
        "matpes": [{"structure": whole, "energy": energy, "forces": forces, "stress": six(kbar), "matpes_id": "m"}],
        "mlearn": [{"group": "AIMD", "structure": whole, "num_atoms": 2,
                    "outputs": {"energy": energy, "forces": forces, "virial_stress": vasp}}],
        "fitsnap": {"Dataset": {"Data": [fitsnap], "StressStyle": "bar", "EnergyStyle": "electronvolt"}},
    }  # fmt: skip
    kind = draw(st.sampled_from(list(kinds)))
    comment = "# made up\n" if draw(st.booleans()) else ""
    return comment + json.dumps(kinds[kind], indent=draw(st.sampled_from([None, 1])))


@settings(max_examples=60, deadline=None)
@given(atoms=frames(), kind=st.sampled_from(["xyz", "cfg", "lammpstrj", "json"]), data=st.data())
def test_any_way_of_writing_reads_back_to_the_same_labels(tmp_path_factory, atoms, kind, data):
    """Rounding through volumes and units: 1e-9 relative, and 1e-9 of a label's size absolutely."""
    write = {"xyz": as_xyz, "cfg": as_cfg, "lammpstrj": as_dump, "json": as_json}[kind]
    path = tmp_path_factory.getbasetemp() / f"written.{kind}"
    path.write_text(write(atoms, data.draw))
    for (back,) in (read(path, species=["Li", "O"]), list(iread(path, species=["Li", "O"]))):
        found = labels(back)
        assert back.get_chemical_symbols() == ["Li", "O"]
        np.testing.assert_allclose(back.cell.array, atoms.cell.array, atol=1e-9)
        np.testing.assert_allclose(back.positions, atoms.positions, atol=1e-9)
        np.testing.assert_allclose(found.forces, atoms.arrays["truth"], rtol=1e-9, atol=1e-9)
        if kind == "lammpstrj":
            assert found.energy is None
            assert found.stress is None
        else:
            assert found.energy == pytest.approx(atoms.info["energy"], rel=1e-9, abs=1e-9)
            np.testing.assert_allclose(found.stress, atoms.info["stress"], rtol=1e-9, atol=1e-9)


SOURCES = {
    "a.xyz": "virial_conflict.xyz", "b.xyz": "move_mask.xyz", "a.cfg": "virial_section.cfg",
    "a.lammpstrj": "dump_elements.lammpstrj", "a.json": "json/mptrj.json", "a.jsonl": "json/matpes.json",
    "b.json": "json/fitsnap.json", "vasprun.xml": "nelm_vasprun.xml",
}  # fmt: skip


def politely(path: Path) -> None:
    """Reads, or raises a ValueError that names the file; nothing else."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        try:
            found = read(path, species=["Li", "O"])
        except ValueError as error:
            assert path.name in str(error) or "species" in str(error), error  # noqa: PT017 - either is right
        else:
            assert all(isinstance(labels(atoms), Labels) for atoms in found)


@settings(max_examples=80, deadline=None)
@given(name=st.sampled_from([*SOURCES, "OUTCAR"]), content=st.binary(max_size=200))
def test_random_bytes_are_refused(tmp_path_factory, name, content):
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(content)
    politely(path)


@settings(max_examples=120, deadline=None)
@given(name=st.sampled_from(list(SOURCES)), data=st.data())
def test_cut_and_damaged_files_are_read_or_refused(tmp_path_factory, name, data):
    content = (CASES / SOURCES[name]).read_bytes()
    start = data.draw(st.integers(0, len(content) - 1))
    end = data.draw(st.sampled_from([len(content), start + 1, start + 4, start + 40]))
    piece = data.draw(st.sampled_from([b"", b" ", b"\x00", b"\xff", b"nan", b"-1", b"1e999", b"\n", b'"', b"[", b"{"]))
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(content[:start] + piece + content[end:])
    politely(path)
