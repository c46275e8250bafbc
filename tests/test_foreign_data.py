"""Files as users of other codes have them: each label is right, absent, or refused with the reason."""

import gzip
import importlib.util
import json
import sys
import tracemalloc
import warnings
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms, FixBondLength, FixCartesian

from jaxmlip.data import DataWarning, Keys, Labels, attach, iread, labels, read, write
from jaxmlip.data.elsewhere import elsewhere, refuse_elsewhere
from jaxmlip.data.labels import VOIGT, is_converged
from jaxmlip.units import BAR, GPA

CASES = Path(__file__).parent / "data" / "cases"
FORCES = np.array([[0, 0, 0.1], [0, 0, -0.1]])
VOLUME = 35.937  # Å³ of the cells of json/


def header(tmp_path, text, *, columns="forces:R:3", rows=("Li 0 0 0 0 0 0.1", "O 0 0 1.9 0 0 -0.1")) -> Path:
    path = tmp_path / "frame.xyz"
    lattice = 'Lattice="4 0 0 0 4 0 0 0 6"'
    path.write_text(
        f"{len(rows)}\n{lattice} Properties=species:S:1:pos:R:3:{columns} {text}\n" + "\n".join(rows) + "\n"
    )
    return path


# --- extended XYZ ---


@pytest.mark.parametrize(
    ("frame", "reason"), [(0, "the stress is zero"), (1, "the stress has the other sign"), (2, None)]
)
def test_a_stress_and_a_virial_that_disagree_are_refused(frame, reason):
    with pytest.raises(ValueError, match=r"'stress' and 'virial' disagree.*stress_key= or virial_key="):
        read(CASES / "virial_conflict.xyz", index=frame)
    if reason:
        with pytest.raises(ValueError, match=reason):
            read(CASES / "virial_conflict.xyz", index=frame)
    (atoms,) = read(CASES / "virial_conflict.xyz", index=frame, virial_key="virial")
    np.testing.assert_allclose(labels(atoms).stress, -0.1 * np.eye(3), rtol=1e-14, atol=1e-16)


@pytest.mark.parametrize(("factor", "reason"), [(GPA, "in GPa"), (-10 * GPA, "in kbar, with the other sign")])
def test_the_unit_of_a_stress_beside_a_virial_is_suspected(tmp_path, factor, reason):
    nine = " ".join(str(x) for x in (np.eye(3) * -0.1 * factor).ravel())
    with pytest.raises(ValueError, match=reason):
        read(header(tmp_path, f'energy=-1 stress="{nine}" virial="9.6 0 0 0 9.6 0 0 0 9.6"'))


def test_a_stress_and_a_virial_that_agree_are_one(tmp_path):
    text = 'energy=-1 stress="-0.1 0 0 0 -0.1 0 0 0 -0.1" virial="9.6 0 0 0 9.6 0 0 0 9.6"'
    (atoms,) = read(header(tmp_path, text))
    np.testing.assert_allclose(labels(atoms).stress, -0.1 * np.eye(3), rtol=1e-12, atol=1e-15)
    assert not {"stress", "virial"} & set(atoms.info)


def test_six_numbers_are_a_stress_and_equal_nine_of_another_name(tmp_path):
    (atoms,) = read(CASES / "stress_of_six.xyz")
    expected = [[0.1, 0.03, 0.02], [0.03, 0.2, 0.01], [0.02, 0.01, 0.3]]
    np.testing.assert_array_equal(labels(atoms).stress, expected)
    nine = " ".join(str(x) for x in np.ravel(expected))
    (both,) = read(header(tmp_path, f'energy=-1 stress="0.1 0.2 0.3 0.01 0.02 0.03" REF_stress="{nine}"'))
    np.testing.assert_array_equal(labels(both).stress, expected)
    with pytest.raises(ValueError, match="'stress' and 'REF_stress' and they differ"):
        read(header(tmp_path, f'energy=-1 stress="0.1 0.2 0.3 0.01 0.03 0.02" REF_stress="{nine}"'))


def test_fixed_atoms_stay_fixed_through_files(tmp_path):
    (atoms,) = read(CASES / "move_mask.xyz")
    assert "move_mask" not in atoms.arrays
    for name in ("a.xyz", "a.cfg"):
        write(tmp_path / name, atoms)
        (back,) = read(tmp_path / name)
        (constraint,) = back.constraints
        assert constraint.get_indices().tolist() == [0, 1]
        np.testing.assert_array_equal(labels(back).forces, labels(atoms).forces)  # as calculated, not zeroed
    (theirs,) = ase.io.read(tmp_path / "a.xyz", ":")
    assert theirs.constraints[0].get_indices().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("column", "first", "second"),
    [("move_mask:S:1", "F", "T"), ("Move_Mask:I:1", "0", "1"), ("move_mask:L:3", "F F F", "T T T"),
     ("selective_dynamics:L:3", "F F F", "T T T"), ("fixed:L:1", "true", "false"), ("frozen_atoms:R:1", "1.0", "0.0")],
)  # fmt: skip
def test_columns_that_say_which_atoms_are_fixed(tmp_path, column, first, second):
    rows = (f"Li 0 0 0 0 0 0.1 {first}", f"O 0 0 1.9 0 0 -0.1 {second}")
    (atoms,) = read(header(tmp_path, "energy=-1", columns=f"forces:R:3:{column}", rows=rows))
    (constraint,) = atoms.constraints
    assert constraint.get_indices().tolist() == [0]
    assert set(atoms.arrays) == {"numbers", "positions"}


def test_forces_in_columns_of_their_own_and_gradients(tmp_path):
    (atoms,) = read(header(tmp_path, "energy=-1", columns="fx:R:1:fy:R:1:fz:R:1"))
    np.testing.assert_array_equal(labels(atoms).forces, FORCES)
    (atoms,) = read(header(tmp_path, "energy=-1", columns="gradient:R:3"))
    with pytest.raises(ValueError, match=r"'gradient' is perhaps .* the negative of the forces"):
        refuse_elsewhere([atoms], ["forces"])


def test_a_cell_under_another_name_is_refused_and_a_byte_order_mark_passed_over(tmp_path):
    path = header(tmp_path, "energy=-1")
    text = path.read_text()
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("species", "Species").encode())
    assert labels(read(path)[0]).energy == -1
    path.write_text(text.replace("Lattice", "lattice_vectors"))
    with pytest.raises(ValueError, match="frame 0, line 2: no Lattice, but 'lattice_vectors'; write the cell as"):
        read(path)


def test_constraints_on_single_directions_and_others(tmp_path):
    atoms = Atoms("H3", positions=np.eye(3))
    atoms.set_constraint([FixAtoms([2]), FixCartesian(0, [True, False, False])])
    write(tmp_path / "a.xyz", atoms)
    (back,) = read(tmp_path / "a.xyz")
    assert {type(c).__name__ for c in back.constraints} == {"FixAtoms", "FixCartesian"}
    (part,) = (c for c in back.constraints if isinstance(c, FixCartesian))
    assert part.mask.tolist() == [True, False, False]
    atoms.set_constraint(FixBondLength(0, 1))
    with pytest.warns(DataWarning, match="FixBondLengths has no form"):
        write(tmp_path / "b.xyz", atoms)


def test_an_energy_under_another_name_is_named():
    frames = read(CASES / "energy_elsewhere.xyz")
    assert labels(frames[0]).energy is None
    with pytest.raises(ValueError, match=r"'pbe_energy'.*energy_key='pbe_energy' \(--energy-key pbe_energy"):
        refuse_elsewhere(frames, ["energy"])
    named = read(CASES / "energy_elsewhere.xyz", energy_key="pbe_energy")
    assert [labels(atoms).energy for atoms in named] == [-7.0, -7.1, -7.2, -7.3]
    refuse_elsewhere(named, ["energy", "forces", "stress"])


def test_weights_and_facts_are_no_labels():
    info = {"energy_weight": 2.0, "energy_sigma": 0.1, "energy_above_hull": 0.1, "energy-unit": "eV", "stress": None}
    assert elsewhere(Atoms("H", info=info), "energy") == []


@pytest.mark.parametrize(
    ("text", "energy", "force"),
    [
        ("energy=-0.5 energy-unit=hartree forces_unit=hartree/bohr", -13.605693122994, 0.1 * 51.422067476325886),
        ("energy=-0.5 energy_units=Ry force-unit=eV/Angstrom", -6.802846561497, 0.1),
        ("energy=-0.5 energyunit=eV units=eV/Angstrom", -0.5, 0.1),
        ("energy=-500 energy-unit=meV forces_unit=meV/ang", -0.5, 1e-4),
        ("energy=-0.5 unit_energy=Ha units:forces=Ha/bohr", -13.605693122994, 0.1 * 51.422067476325886),
    ],
)
def test_units_of_the_header_are_converted(tmp_path, text, energy, force):
    (atoms,) = read(header(tmp_path, text))
    assert labels(atoms).energy == pytest.approx(energy, rel=1e-12)  # CODATA 2018
    assert labels(atoms).forces[0, 2] == pytest.approx(force, rel=1e-12)


def test_lengths_of_the_header_are_converted(tmp_path):
    text = "energy=-1 energy-unit=hartree length-unit=bohr forces-unit=hartree/bohr stress-unit=GPa " + (
        'stress="1 0 0 0 1 0 0 0 1"'
    )
    (atoms,) = read(header(tmp_path, text))
    np.testing.assert_allclose(atoms.cell.lengths(), np.array([4, 4, 6]) * 0.529177210903, rtol=1e-14)
    assert atoms.positions[1, 2] == pytest.approx(1.9 * 0.529177210903, rel=1e-14)
    np.testing.assert_allclose(labels(atoms).stress, np.eye(3) / GPA, rtol=1e-12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("energy=-0.5 energy-unit=hartree", "none for its forces.*forces-unit="),
        ("energy=-0.5 energy-unit=furlong", "energy-unit='furlong', a unit that is not known"),
        ("energy=-0.5 units=atomic", "energy-unit=, forces-unit="),
        ("energy=-0.5 length-unit=bohr", "unknown; add energy-unit="),
    ],
)
def test_units_that_leave_a_label_open_are_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read(header(tmp_path, text))
    if "hartree" in text:
        with pytest.raises(ValueError, match=r"frame 0.*forces"):
            read(CASES / "units_in_header.xyz")


@pytest.mark.parametrize(
    ("word", "pbc"), [("TTF", "TTF"), ("T T F", "TTF"), ("110", "TTF"), ("F", "FFF"), ("1 0 1", "TFT")]
)
def test_words_for_periodic_directions(tmp_path, word, pbc):
    (atoms,) = read(header(tmp_path, f'energy=-1 pbc="{word}"'))
    assert ["FT"[int(flag)] for flag in atoms.pbc] == list(pbc)


def test_names_of_the_format_in_any_case(tmp_path):
    path = header(tmp_path, 'energy=-1 PBC="T T F"')
    path.write_text(path.read_text().replace("Lattice", "lattice").replace("Properties", "properties"))
    (atoms,) = read(path)
    np.testing.assert_array_equal(atoms.cell.array, np.diag([4.0, 4, 6]))
    assert atoms.pbc.tolist() == [True, True, False]
    np.testing.assert_array_equal(labels(atoms).forces, FORCES)
    assert not atoms.info
    path.write_text(path.read_text().replace('"4 0 0 0 4 0 0 0 6"', '"4 4 6"'))
    with pytest.raises(ValueError, match="frame 0, line 2: Lattice: expected nine numbers"):
        read(path)


@pytest.mark.parametrize(
    "nine",
    ["'[[9.6, 0, 1], [0, 19.2, 2], [1, 2, 28.8]]'", '"_JSON [[9.6, 0, 1], [0, 19.2, 2], [1, 2, 28.8]]"',
     "[[9.6, 0, 1], [0, 19.2, 2], [1, 2, 28.8]]", '"9.6, 0, 1, 0, 19.2, 2, 1, 2, 28.8"', "{9.6 0 1 0 19.2 2 1 2 28.8}"],
)  # fmt: skip
@pytest.mark.parametrize("key", ["virial", "REF_virials", "Virial"])
def test_nine_numbers_in_any_brackets(tmp_path, key, nine):
    (atoms,) = read(header(tmp_path, f"energy=-1 {key}={nine}"))
    np.testing.assert_allclose(labels(atoms).stress, -np.array([[9.6, 0, 1], [0, 19.2, 2], [1, 2, 28.8]]) / 96)


def test_a_number_of_stresses_that_is_none(tmp_path):
    with pytest.raises(ValueError, match=r"frame 0, line 2: stress: expected six numbers .* or nine, got 3"):
        read(header(tmp_path, 'energy=-1 stress="0.1 0.2 0.3"'))


def test_energies_that_only_look_like_results_are_named(tmp_path):
    (atoms,) = read(header(tmp_path, "free_energy=-1.1 energy_per_atom=-0.5"))
    assert elsewhere(atoms, "energy") == ["free_energy", "energy_per_atom"]
    (atoms,) = read(header(tmp_path, "energy_per_atom=-0.5"))
    with pytest.raises(ValueError, match="'energy_per_atom' is of one atom: multiply it"):
        refuse_elsewhere([atoms], ["energy"])


def test_other_words_for_periodic_directions_are_refused(tmp_path):
    assert read(CASES / "pbc_word.xyz")[0].pbc.tolist() == [True, True, False]
    with pytest.raises(ValueError, match="frame 0, line 2: pbc: expected three of T and F"):
        read(header(tmp_path, 'energy=-1 pbc="xyz"'))


# --- MLIP cfg ---


def test_plus_stress_of_a_molecule_is_no_stress():
    (atoms,) = read(CASES / "molecule_plusstress.cfg", species=["Li", "O"])
    found = labels(atoms)
    assert (found.energy, found.stress) == (-7.5, None)
    np.testing.assert_array_equal(found.forces, [[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3]])
    np.testing.assert_array_equal(atoms.info["PlusStress"], [0.8, 1.6, 2.4, 0.08, 0.16, 0.24])


@pytest.mark.parametrize(("name", "sign"), [("virial_section.cfg", -1), ("stress_section.cfg", 1)])
def test_virial_and_stress_sections_have_opposite_signs(name, sign):
    (atoms,) = read(CASES / name, species=["Li", "O"])
    expected = np.array([[0.8, 0.24, 0.16], [0.24, 1.6, 0.08], [0.16, 0.08, 2.4]]) / 80
    np.testing.assert_allclose(labels(atoms).stress, sign * expected, rtol=1e-14)


def test_cfg_sections_that_disagree_or_are_not_known(tmp_path):
    text = (CASES / "virial_section.cfg").read_text()
    path = tmp_path / "a.cfg"
    path.write_text(text.replace(" Feature", " Stress: xx yy zz yz xz xy\n 0.8 1.6 2.4 0.08 0.16 0.24\n Feature", 1))
    with pytest.raises(ValueError, match=r"frame 0.*virial and stress disagree"):
        read(path, species=["Li", "O"])
    path.write_text(text.replace(" Feature", " Charges: a b\n 1 2\n Feature", 1))
    with pytest.warns(DataWarning, match="frame 0: the section 'charges' is not known"):
        (atoms,) = read(path, species=["Li", "O"])
    assert atoms.info["charges"] == "a b 1 2"


# --- LAMMPS dumps ---


@pytest.mark.parametrize(("name", "species"), [("dump_types", ["Li", "O"]), ("dump_elements", None)])
def test_dumps_have_forces_and_no_energy(name, species):
    (atoms,) = read(CASES / f"{name}.lammpstrj", species=species)
    assert atoms.get_chemical_formula() == "LiO"
    assert labels(atoms).energy is None
    np.testing.assert_array_equal(labels(atoms).forces, [[0.1, 0, 0], [-0.1, 0, 0]])


def test_a_dump_with_types_needs_species():
    with pytest.raises(ValueError, match=r"frame 0.*types \(1, 2\) and no elements.*species=\['Li', 'O'\]"):
        read(CASES / "dump_types.lammpstrj")
    with pytest.raises(ValueError, match="type 2 has no symbol"):
        read(CASES / "dump_types.lammpstrj", species=["Li"])


DUMP = """ITEM: UNITS
{units}
ITEM: TIMESTEP
{step}
ITEM: NUMBER OF ATOMS
2
ITEM: BOX BOUNDS {box}
ITEM: ATOMS id element {columns} fx fy fz c_pe
{rows}
"""


def test_dumps_of_tilted_boxes_sorted_by_id(tmp_path):
    """Fractional positions times the cell that ASE's reader finds too."""
    box = "xy xz yz pp pp ff\n-1.0 6.0 1.0\n0.0 4.5 0.5\n0.0 5.0 0.5"
    rows = "2 O 0.5 0.5 0.5 -1 0 0 -3\n1 Li 0 0 0 1 0 0 -2"
    text = DUMP.format(units="real", step=7, box=box, columns="xs ys zs", rows=rows)
    path = tmp_path / "dump.custom"  # known by its first line
    path.write_text(
        text.replace("ITEM: UNITS\nreal\n", "") + text.replace("\n7\n", "\n8\n").replace("ITEM: UNITS\nreal\n", "")
    )
    first, second = read(path)
    assert (first.info["timestep"], second.info["timestep"]) == (7, 8)
    np.testing.assert_allclose(first.cell.array, [[5.5, 0, 0], [1, 4, 0], [0.5, 0.5, 5]])
    assert first.get_chemical_symbols() == ["Li", "O"]
    np.testing.assert_allclose(first.positions[1], [3.5, 2.25, 2.5])
    np.testing.assert_array_equal(labels(first).forces, [[1, 0, 0], [-1, 0, 0]])
    np.testing.assert_array_equal(first.arrays["c_pe"], [-2, -3])
    assert first.pbc.tolist() == [True, True, False]
    path.write_text(text)
    assert labels(read(path)[0]).forces[0, 0] == pytest.approx(0.0433641, rel=1e-5)  # kcal/mol/Å in eV/Å
    path.write_text(text.replace("real", "lj"))
    with pytest.raises(ValueError, match="UNITS is 'lj'"):
        read(path)


# --- JSON ---


@pytest.mark.parametrize(
    ("name", "stress"),
    [
        ("fitsnap", -np.array([[1000.0, 0, 0], [0, 1100, 20], [0, 20, 1200]]) / BAR),
        ("fitsnap_nocomment", -np.array([[1000.0, 0, 0], [0, 1100, 20], [0, 20, 1200]]) / BAR),
        ("mlearn", -np.array([[1.0, 0.1, 0.3], [0.1, 2, 0.2], [0.3, 0.2, 3]]) / VOLUME),
        ("mptrj", -0.1 * np.diag([10.0, 11, 12]) / GPA),
        ("matpes", -0.1 * np.array([[-5.7, 6.2, 23.6], [6.2, -9.3, 22.8], [23.6, 22.8, 13.6]]) / GPA),
    ],
)
def test_records_in_their_own_units_and_signs(name, stress, tmp_path):
    path = tmp_path / f"{name}.json.gz"
    path.write_bytes(gzip.compress((CASES / "json" / f"{name}.json").read_bytes()))
    for source in (CASES / "json" / f"{name}.json", path):
        (atoms,) = read(source)
        found = labels(atoms)
        assert atoms.get_chemical_formula() == "Ta2"
        assert found.energy == -23.6
        np.testing.assert_array_equal(found.forces, FORCES)
        np.testing.assert_allclose(found.stress, stress, rtol=1e-12, atol=1e-16)


def test_records_one_a_line_and_a_key_that_is_in_none(tmp_path):
    (record,) = json.loads((CASES / "json" / "matpes.json").read_text())
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join([json.dumps(record)] * 3))
    assert [labels(atoms).energy for atoms in iread(path)] == [-23.6] * 3
    with pytest.raises(ValueError, match="no frame has energy_key='dft'"):
        list(iread(path, keys=Keys(energy="dft")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.pop("energy"), "record 1.*expected a structure of pymatgen with an energy"),
        (lambda r: r["forces"].pop(), r"record 1: forces: expected shape \(2, 3\)"),
        (lambda r: [r.pop(k) for k in ("matpes_id", "functional")], "record 1: a stress in a record that is neither"),
        (lambda r: r["structure"]["sites"][0]["species"][0].update(occu=0.5), "record 1: site Ta is partly occupied"),
    ],
)
def test_a_record_that_is_not_whole_is_named(tmp_path, change, message):
    (record,) = json.loads((CASES / "json" / "matpes.json").read_text())
    wrong = json.loads(json.dumps(record))
    change(wrong)
    (tmp_path / "a.json").write_text(json.dumps([record, wrong]))
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "a.json")


def test_json_that_was_cut_off_and_json_with_nan(tmp_path):
    (record,) = json.loads((CASES / "json" / "matpes.json").read_text())
    path = tmp_path / "a.json"
    path.write_text(json.dumps([record] * 3)[:-40])
    with pytest.raises(ValueError, match=r"not valid JSON after 2 whole records.*cut off"):
        read(path)
    record["energy"] = float("nan")
    path.write_text(json.dumps([record]))
    assert np.isnan(labels(read(path)[0]).energy)


@pytest.mark.parametrize("kind", ["mptrj", "matpes", "xyz", "cfg"])
def test_files_stream_in_the_memory_of_one_frame(tmp_path, kind, usual_collection):
    """Half a megabyte a hundred frames; five times the frames, no more than 0.5 MB more of Python's memory, not 2 MB.

    How much it is depends on when garbage is collected: once it was 0.2 MB.
    """
    script = import_script("reading")
    peaks = []
    for n_frames in (100, 500):
        job = script.Job(kind=kind, n_frames=n_frames)
        path = tmp_path / f"{n_frames}.{'json' if kind in ('mptrj', 'matpes') else kind}"
        with path.open("w", encoding="utf-8") as file:
            script._write(file, job, n_frames)
        for _ in iread(path, species=["Li", "O"]):
            break
        tracemalloc.start()
        assert sum(labels(atoms).energy == -3.0 for atoms in iread(path, species=["Li", "O"])) == n_frames
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 5e5


def import_script(name):
    path = Path(__file__).parents[1] / "scripts" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def matpes(**changes) -> dict:
    (record,) = json.loads((CASES / "json" / "matpes.json").read_text())
    return record | changes


def records_of(tmp_path, *items):
    (tmp_path / "a.json").write_text(json.dumps(items))
    return read(tmp_path / "a.json")


def test_labels_of_records_under_other_names_are_kept_and_named(tmp_path):
    record = matpes(atomic_forces=FORCES.tolist(), data={"stress": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]})
    del record["forces"], record["stress"]
    (atoms,) = records_of(tmp_path, record)
    assert labels(atoms)[1:] == (None, None)
    assert elsewhere(atoms, "forces") == ["atomic_forces"]
    assert elsewhere(atoms, "stress") == ["data.stress"]
    (named,) = read(tmp_path / "a.json", forces_key="atomic_forces")
    np.testing.assert_array_equal(labels(named).forces, FORCES)
    record["total_energy"] = record.pop("energy")
    (atoms,) = records_of(tmp_path, record)
    assert (labels(atoms).energy, elsewhere(atoms, "energy")[0]) == (None, "total_energy")


def test_what_sites_of_records_say(tmp_path):
    record = matpes()
    del record["forces"]
    for site, force, moves in zip(record["structure"]["sites"], FORCES, ([False] * 3, [True, False, True])):
        site["properties"] = {"forces": force.tolist(), "selective_dynamics": moves}
    (atoms,) = records_of(tmp_path, record)
    np.testing.assert_array_equal(labels(atoms).forces, FORCES)
    first, second = atoms.constraints
    assert first.get_indices().tolist() == [0]
    assert second.mask.tolist() == [False, True, False]


def test_fitsnap_keeps_columns_and_counts_atoms(tmp_path):
    content = json.loads((CASES / "json" / "fitsnap_nocomment.json").read_text())
    content["Dataset"]["Data"][0] |= {"weight": 3.0, "Velocities": FORCES.tolist()}
    (tmp_path / "a.json").write_text(json.dumps(content))
    (atoms,) = read(tmp_path / "a.json")
    assert atoms.info["weight"] == 3.0
    np.testing.assert_array_equal(atoms.arrays["Velocities"], FORCES)
    content["Dataset"]["Data"][0]["NumAtoms"] = 3
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="frame 0: NumAtoms is 3, but 2 atoms"):
        read(tmp_path / "a.json")


# --- Convergence ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("converged=F", False), ("scf_converged=False", False), ("SCF_Converged=no", False), ("is_converged=0", False),
        ("converged_electronic=F", False), ("unconverged=T", False), ("scf_not_converged=T", False),
        ("converged=T", True), ("unconverged=F", True), ("relaxed=F", True), ("converged_ionic=F", True),
        ("convergence=1e-6", True),
    ],
)  # fmt: skip
def test_what_says_that_a_loop_did_not_converge(tmp_path, text, expected):
    (atoms,) = read(header(tmp_path, f"energy=-1 {text}"))
    assert is_converged(atoms) is expected
    key, value = text.split("=")
    cfg = (CASES / "virial_section.cfg").read_text().replace("END_CFG", f" Feature {key} {value}\nEND_CFG")
    (tmp_path / "a.cfg").write_text(cfg)
    assert is_converged(read(tmp_path / "a.cfg", species=["Li", "O"])[0]) is expected
    (atoms,) = records_of(tmp_path, matpes(**{key: value}))
    assert is_converged(atoms) is expected


PW_HEAD = """     Program PWSCF v.7.2 starts on  1Jan2024 at 10: 0: 0
     lattice parameter (alat)  =       7.5589  a.u.
     number of atoms/cell      =            2
     number of atomic types    =            1
     celldm(1)=   7.558905  celldm(2)=   0.000000  celldm(3)=   0.000000
     crystal axes: (cart. coord. in units of alat)
               a(1) = (   1.000000   0.000000   0.000000 )
               a(2) = (   0.000000   1.000000   0.000000 )
               a(3) = (   0.000000   0.000000   1.000000 )
     atomic species   valence    mass     pseudopotential
        Si             4.00    28.08550     Si( 1.00)
     site n.     atom                  positions (alat units)
         1           Si  tau(   1) = (   0.0000000   0.0000000   0.0000000  )
         2           Si  tau(   2) = (   0.5000000   0.5000000   0.5000000  )
"""
PW_FORCES = """     Forces acting on atoms (cartesian axes, Ry/au):

     atom    1 type  1   force =     0.00000000    0.00000000    0.01000000
     atom    2 type  1   force =     0.00000000    0.00000000   -0.01000000
"""
PW_GOOD = "!    total energy              =     -15.84000000 Ry\n" + PW_FORCES
PW_BAD = "     convergence NOT achieved after  10 iterations: stopping\n" + PW_FORCES
PW_NEXT = """ATOMIC_POSITIONS (angstrom)
Si            0.0000000000        0.0000000000        0.0000000000
Si            2.0000000000        2.0000000000        2.1000000000

"""


def test_steps_of_pw_x_that_did_not_converge(tmp_path):
    """Its words are those of Quantum ESPRESSO's source; such a step has forces and no line '!    total energy'."""
    path = tmp_path / "pw.out"
    path.write_text(PW_HEAD + PW_GOOD + PW_NEXT + PW_BAD)
    assert [is_converged(atoms) for atoms in read(path)] == [True, False]
    path.write_text(PW_HEAD + PW_BAD + PW_NEXT + PW_GOOD)
    assert [is_converged(atoms) for atoms in read(path)] == [False, True]
    path.write_text(PW_HEAD + PW_GOOD + PW_NEXT + PW_GOOD + "SCF run NOT converged\n")
    with pytest.warns(DataWarning, match="1 calculations .* all are marked"):
        assert not any(is_converged(atoms) for atoms in read(path))


# --- VASP ---


def test_a_loop_that_used_all_iterations_marks_its_frame():
    frames = read(CASES / "nelm_vasprun.xml")
    assert [atoms.info.get("converged") for atoms in frames] == [None, False, None]


def test_xml_with_entities_is_not_read(tmp_path):
    text = (CASES / "nelm_vasprun.xml").read_text()
    path = tmp_path / "vasprun.xml"
    path.write_text(text.replace("<modeling>", '<!DOCTYPE a [<!ENTITY x "y">]><modeling>', 1))
    with pytest.raises(ValueError, match="entities"):
        read(path)


HEAD = """ vasp.6.4.2 19Jul23
   NELM   =     {nelm};   NELMIN=  2; NELMDL= -5     # of ELM steps
{elements}
   ions per type =  {counts}
"""
ITERATION = (
    "--------------------------------------- Iteration {step:6d}({k:4d})  ---------------------------------------\n"
)
STEP = """{loop}
  FORCE on cell =-STRESS in cart. coord.  units (eV):
  Total      -0.16576    -0.16480    -0.16412    -0.00035     0.00000    -0.00019
  in kB      10.00000    11.00000    12.00000    1.00000     2.00000    -3.00000
  VOLUME and BASIS-vectors are now :
      direct lattice vectors                 reciprocal lattice vectors
     4.000000000  0.000000000  0.000000000     0.250000000  0.000000000  0.000000000
     0.000000000  4.000000000-10.000000000     0.000000000  0.250000000  0.000000000
     0.000000000  0.000000000  4.000000000     0.000000000  0.000000000  0.250000000

 POSITION                                       TOTAL-FORCE (eV/Angst)
 -----------------------------------------------------------------------------------
{rows}
 -----------------------------------------------------------------------------------
  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)
  free  energy   TOTEN  =       -10.02000000 eV

  energy  without entropy=       -9.98000000  energy(sigma->0) =      {energy}
"""
MODEL = """  ML FORCE on cell =-STRESS in cart. coord. units (eV/cell)
  in kB       0.00000     0.00000     0.00000     0.00000     0.00000     0.00000
  POSITION                                       TOTAL-FORCE (eV/Angst) (ML)
 -----------------------------------------------------------------------------------
      0.00000      0.00000      0.00000         9.000000      0.000000      0.000000
      1.90000      0.00000      0.00000        -9.000000      0.000000      0.000000
  ML energy  without entropy=        0.00000000  ML energy(sigma->0) =        0.00000000
"""
ROWS = "\n".join(
    f"      {x:.5f}      0.00000      0.00000        {f:9.6f}      0.000000      0.000000"
    for x, f in ((0, 0.1), (1.9, -0.1))
)
REACHED = "------------------------ aborting loop because EDIFF is reached ----------------------------------------"
ABORTED = "------------------------ aborting loop EDIFF was not reached (unconverged)  -----------------------------"


def outcar_step(number, n_iterations, *, loop=REACHED, energy="-10.00000000", rows=ROWS) -> str:
    iterations = "".join(ITERATION.format(step=number, k=k + 1) for k in range(n_iterations))
    return iterations + STEP.format(loop=loop, energy=energy, rows=rows)


def outcar(tmp_path, *steps, elements=("Li", "O"), counts="1   1") -> Path:
    path = tmp_path / "OUTCAR"
    names = "\n".join(f"   VRHFIN ={name}: s2p4" for name in elements)
    path.write_text(HEAD.format(nelm=5, elements=names, counts=counts) + "".join(steps))
    return path


def test_outcar_labels_with_touching_numbers(tmp_path):
    (atoms,) = read(outcar(tmp_path, outcar_step(1, 3)))
    found = labels(atoms)
    assert found.energy == -10.0
    np.testing.assert_array_equal(found.forces, [[0.1, 0, 0], [-0.1, 0, 0]])
    expected = -0.1 * np.array([[10.0, 1, -3], [1, 11, 2], [-3, 2, 12]]) / GPA  # kbar; printed xx yy zz xy yz zx
    np.testing.assert_allclose(found.stress, expected, rtol=1e-12)
    assert atoms.cell.array[1].tolist() == [0, 4, -10]


def test_outcar_steps_that_did_not_converge(tmp_path):
    """By the message of VASP 6, by NELM where there is none; NELM iterations that reached EDIFF are converged."""
    steps = (outcar_step(1, 5, loop=ABORTED), outcar_step(2, 5, loop=""), outcar_step(3, 5), outcar_step(4, 3, loop=""))
    found = [atoms.info.get("converged") for atoms in read(outcar(tmp_path, *steps))]
    assert found == [False, False, None, None]


def test_outcar_of_a_machine_learned_force_field_and_without_positions(tmp_path):
    short = "  energy  without entropy=       -9.98000000  energy(sigma->0) =      -9.0\n"
    path = outcar(tmp_path, outcar_step(1, 3), MODEL, short, outcar_step(2, 3, energy="-11.0"), MODEL)
    with pytest.warns(DataWarning, match="2 steps of the machine-learned force field .* and 1 steps without positions"):
        frames = read(path)
    assert [labels(atoms).energy for atoms in frames] == [-10.0, -11.0]
    assert np.abs(labels(frames[1]).forces).max() == 0.1


def test_outcar_without_vrhfin(tmp_path):
    """The elements of TITEL, or of POTCAR, which is told twice: as VASP 5.3 wrote it on some machines."""
    path = outcar(tmp_path, outcar_step(1, 3))
    text = "\n".join(line for line in path.read_text().split("\n") if "VRHFIN" not in line)
    potcar = " POTCAR:    PAW_PBE Li_sv 10Sep2004\n POTCAR:    PAW_PBE O 08Apr2002\n"
    titel = "   TITEL  = PAW_PBE Li_sv 10Sep2004\n   TITEL  = PAW_PBE O 08Apr2002\n"
    for head in (potcar * 2, potcar, titel, potcar * 2 + titel):
        path.write_text(head + text)
        assert read(path)[0].get_chemical_symbols() == ["Li", "O"]
    path.write_text(potcar.split("\n")[0] + "\n" + text)
    with pytest.raises(ValueError, match=r"0 elements .* 2 counts"):
        read(path)


def test_a_real_outcar_as_ase_reads_it(tmp_path):
    """18 atoms of nickel by VASP 5.3.3, among the files of ASE's own tests."""
    source = Path(ase.__file__).parent / "test" / "testdata" / "vasp" / "OUTCAR_example_1"
    (theirs,) = ase.io.read(source, ":", format="vasp-out")
    (tmp_path / "OUTCAR").write_bytes(source.read_bytes())
    (atoms,) = read(tmp_path / "OUTCAR")
    found = labels(atoms)
    assert atoms.get_chemical_formula() == "Ni18"
    assert found.energy == theirs.get_potential_energy()
    np.testing.assert_array_equal(found.forces, theirs.get_forces())
    np.testing.assert_allclose(found.stress[VOIGT], theirs.get_stress(), rtol=1e-12)


def test_dispersion_is_in_the_energy(tmp_path):
    """VASP leaves it out of the energies of the loop (one blank) and has it in that of the step (two)."""
    loop = "  energy without entropy =       -9.98000000  energy(sigma->0) =       -9.50000000\n"
    path = outcar(tmp_path, loop, "  Edisp (eV)   -0.50000\n", outcar_step(1, 3))
    assert [labels(atoms).energy for atoms in read(path)] == [-10.0]


def test_outcar_of_sixteen_elements(tmp_path):
    elements = ["Li", "Na", "K", "Mg", "Ca", "Sc", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "O"]
    rows = "\n".join(f"  {k:.5f}  0.00000  0.00000   0.100000  0.000000  0.000000" for k in range(16))
    counts = "   1" * 10 + "\n   " + "   1" * 6
    (atoms,) = read(outcar(tmp_path, outcar_step(1, 2, rows=rows), elements=elements, counts=counts))
    assert atoms.get_chemical_symbols() == elements


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("-10.00000000", "**************", "step 1.*could not print"),
        ("   VRHFIN =O: s2p4", "", "1 elements .*2 counts.*vasprun.xml"),
        ("energy  without", "energy", "no whole ionic step"),
        ("VRHFIN =Li", "VRHFIN =Xx", "no element"),
    ],
)
def test_outcar_that_cannot_be_read_names_the_cause(tmp_path, old, new, message):
    path = outcar(tmp_path, outcar_step(1, 3))
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=message):
        read(path)


def test_cut_outcars_give_whole_steps_or_an_error(tmp_path):
    """Wherever a run was killed: the steps before, never half of one."""
    path = outcar(tmp_path, outcar_step(1, 3), outcar_step(2, 3, energy="-11.00000000"))
    whole = path.read_text()
    for end in range(200, len(whole), 97):
        path.write_text(whole[:end])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DataWarning)
                frames = read(path)
        except ValueError as error:
            if "OUTCAR" not in str(error):
                raise
            frames = []
        assert [labels(atoms).energy for atoms in frames] in ([], [-10.0], [-10.0, -11.0])


def test_stresses_in_files_of_ours_survive(tmp_path):
    atoms = Atoms("Mo", cell=[3, 3, 3], pbc=True)
    attach(atoms, Labels(-1.0, np.zeros((1, 3)), np.diag([0.1, 0.2, 0.3])))
    write(tmp_path / "a.xyz", atoms)
    np.testing.assert_array_equal(labels(read(tmp_path / "a.xyz")[0]).stress, np.diag([0.1, 0.2, 0.3]))
