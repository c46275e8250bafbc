"""Every format in, every label out; bad files are refused with the place and the remedy."""

import bz2
import contextlib
import gzip
import json
import lzma
import re
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmlip.data import Labels, attach, labels, read, write

DATA = Path(__file__).parent / "data"
STRESS = np.array([[0.01, 0.002, -0.003], [0.002, -0.04, 0.005], [-0.003, 0.005, 0.06]])


def labelled(*, stress=STRESS) -> Atoms:
    atoms = bulk("MgO", "rocksalt", a=4.2)
    atoms.rattle(0.1, seed=1)
    atoms.info.update(group="AIMD 300 K", id=17, composition_id="0042x", kind="LiTMO2", weights=[1.5, 2.0])
    attach(atoms, Labels(-11.123456789012345, np.array([[0.1, -0.2, 1 / 3], [-0.1, 0.2, -1 / 3]]), stress))
    return atoms


def assert_same(one: Atoms, two: Atoms) -> None:
    assert one.get_chemical_symbols() == two.get_chemical_symbols()
    np.testing.assert_array_equal(one.positions, two.positions)
    np.testing.assert_array_equal(one.cell.array, two.cell.array)
    np.testing.assert_array_equal(one.pbc, two.pbc)
    for first, second in zip(labels(one), labels(two), strict=True):
        assert (first is None) == (second is None)
        if first is not None:
            # A stress goes through the volume in .cfg: 1e-14 is rounding.
            np.testing.assert_allclose(first, second, rtol=1e-14, atol=1e-16)


@pytest.mark.parametrize("suffix", [".xyz", ".extxyz", ".cfg", ".xyz.xz", ".xyz.gz", ".cfg.bz2"])
def test_written_files_read_back(tmp_path, suffix):
    frames = [labelled(), labelled(stress=None), bulk("Mo") * 2]
    write(tmp_path / f"set{suffix}", frames, species=["O", "Mg", "Mo"])
    back = read(tmp_path / f"set{suffix}")
    for one, two in zip(frames, back, strict=True):
        assert_same(one, two)
    assert {key: back[0].info[key] for key in ("group", "id", "composition_id", "kind")} == {
        "group": "AIMD 300 K",
        "id": 17,
        "composition_id": "0042x",
        "kind": "LiTMO2",
    }
    np.testing.assert_array_equal(back[0].info["weights"], [1.5, 2.0])


finite = st.floats(-1e4, 1e4, allow_nan=False)


@pytest.mark.parametrize(
    "value", ["0042", "T", "1 2", "", "a=b", 'a"b', "a\nb", [1, "a"], {"a": [1.5]}, None, True, 3, 1e-30]
)
def test_info_keeps_its_type(tmp_path, value):
    atoms = bulk("Mo")
    atoms.info["key"] = value
    write(tmp_path / "a.xyz", atoms)
    for back in (read(tmp_path / "a.xyz")[0], ase.io.read(tmp_path / "a.xyz")):
        assert back.info["key"] == value
        assert type(back.info["key"]) is type(value) or isinstance(back.info["key"], np.generic)


@settings(max_examples=30, deadline=None)
@given(
    positions=st.lists(st.tuples(finite, finite, finite), min_size=1, max_size=4),
    energy=st.floats(allow_nan=True, allow_infinity=True),
    word=st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Z", "Cc")), max_size=12),
    pbc=st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_extended_xyz_is_exact(tmp_path_factory, positions, energy, word, pbc):
    atoms = Atoms("O" * len(positions), positions=positions, cell=np.diag([3.0, 4.0, 5.0]), pbc=pbc)
    atoms.info["word"] = word
    attach(atoms, Labels(energy, np.array(positions) / 7, None))
    path = tmp_path_factory.mktemp("xyz") / "one.xyz"
    write(path, atoms)
    (back,) = read(path)
    np.testing.assert_array_equal(back.positions, atoms.positions)
    np.testing.assert_array_equal(labels(back).energy, energy)
    np.testing.assert_array_equal(labels(back).forces, np.array(positions) / 7)
    assert back.info["word"] == atoms.info["word"]
    assert tuple(back.pbc) == pbc


def test_ase_reads_what_we_write(tmp_path):
    write(tmp_path / "a.xyz", labelled())
    theirs = ase.io.read(tmp_path / "a.xyz")
    assert_same(labelled(), theirs)
    assert theirs.info["group"] == "AIMD 300 K"


def test_we_read_what_ase_writes(tmp_path):
    atoms = labelled()
    atoms.calc.results["magmoms"] = np.array([0.5, -0.5])
    for name in ("a.traj", "a.db", "a.json", "a.xyz"):
        ase.io.write(tmp_path / name, atoms)
        (back,) = read(tmp_path / name)
        np.testing.assert_allclose(labels(back).stress, STRESS, atol=1e-12)
        assert labels(back).energy == pytest.approx(labels(atoms).energy, abs=1e-8)
        np.testing.assert_allclose(back.calc.results["magmoms"], [0.5, -0.5])


def test_database_keeps_its_key_value_pairs(tmp_path):
    with ase.db.connect(tmp_path / "a.db") as database:
        database.write(labelled(), group="train")
    assert read(tmp_path / "a.db")[0].info["group"] == "train"


def test_vasprun():
    (atoms,) = read(DATA / "vasprun.xml")
    energy, forces, stress = labels(atoms)
    assert energy == -9.05  # VASP's energy(sigma->0)
    np.testing.assert_allclose(forces, [[0.1, 0, 0], [-0.1, 0, 0]])
    # VASP prints kbar with the opposite sign: 16.02 kbar of pressure = -0.01 eV/Å³.
    np.testing.assert_allclose(stress, -0.01 * np.eye(3), rtol=1e-6)


XYZ = """2
Lattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3:{forces}:R:3 {info}
Li 0 0 0 0.1 0 0
O 2 2 2 -0.1 0 0
"""


def xyz(tmp_path, info="energy=-1.0", forces="forces") -> Path:
    path = tmp_path / "a.xyz"
    path.write_text(XYZ.format(info=info, forces=forces))
    return path


@pytest.mark.parametrize("names", [("energy", "forces"), ("REF_energy", "REF_forces"), ("dft_energy", "dft_force")])
def test_conventional_keys(tmp_path, names):
    (atoms,) = read(xyz(tmp_path, info=f"{names[0]}=-1.0", forces=names[1]))
    assert labels(atoms).energy == -1.0
    np.testing.assert_array_equal(labels(atoms).forces, [[0.1, 0, 0], [-0.1, 0, 0]])
    assert set(atoms.info) == set()
    assert set(atoms.arrays) == {"numbers", "positions"}


def test_explicit_keys(tmp_path):
    path = xyz(tmp_path, info="energy=-1.0 e_tot=-2.0", forces="grad")
    assert labels(read(path)[0]) == Labels(-1.0, None, None)
    (atoms,) = read(path, energy_key="e_tot", forces_key="grad")
    assert labels(atoms).energy == -2.0
    np.testing.assert_array_equal(labels(atoms).forces, [[0.1, 0, 0], [-0.1, 0, 0]])


def test_virial_is_minus_stress_times_volume(tmp_path):
    virial = 'dft_virial="_JSON [[6.4, 0, 0], [0, 12.8, 0.64], [0, 0.64, 0]]"'
    expected = -np.array([[0.1, 0, 0], [0, 0.2, 0.01], [0, 0.01, 0]])
    (atoms,) = read(xyz(tmp_path, info=virial))
    np.testing.assert_allclose(labels(atoms).stress, expected, rtol=1e-15)
    (atoms,) = read(xyz(tmp_path, info=virial + ' stress="1 0 0 0 1 0 0 0 1"'), virial_key="dft_virial")
    np.testing.assert_allclose(labels(atoms).stress, expected, rtol=1e-15)


def test_a_missing_key_lists_those_that_exist(tmp_path):
    with pytest.raises(ValueError, match=r"energy_key='E0'.*the keys that exist are: energy, group"):
        read(xyz(tmp_path, info="energy=1 group=a"), energy_key="E0")
    with pytest.raises(ValueError, match=r"forces_key='f'.*the keys that exist are: forces"):
        read(xyz(tmp_path), forces_key="f")
    with pytest.raises(ValueError, match="give one of the two"):
        read(xyz(tmp_path), stress_key="a", virial_key="b")


def test_two_energies_that_differ_are_not_guessed(tmp_path):
    with pytest.raises(ValueError, match=r"frame 0: the frame has both 'energy' and 'dft_energy'.*energy_key="):
        read(xyz(tmp_path, info="energy=-1 dft_energy=-2"))
    assert labels(read(xyz(tmp_path, info="energy=-1 dft_energy=-1"))[0]).energy == -1


def test_nan_labels_are_read(tmp_path):
    path = xyz(tmp_path, info="energy=nan")
    path.write_text(path.read_text().replace("0.1 0 0", "nan 0 0", 1))
    energy, forces, _ = labels(read(path)[0])
    assert np.isnan(energy)
    assert np.isnan(forces[0, 0])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("O 2 2 2", "O 2 2,0 2", r"frame 0, line 4: pos: expected real numbers, got '2 2,0 2'"),
        ("O 2 2 2", "O 2 2", r"frame 0, line 4: expected 7 columns, got 6"),
        ("O 2 2 2", "Xx 2 2 2", r"line 4: unknown element 'Xx'"),
        ("2\n", "3\n", r"line 1: the frame should have 3 atoms but the file ends after 2"),
        ("2\n", "1\n", r"frame 1, line 4: expected the number of atoms, got 'O 2"),
        ("2\n", "0\n", r"expected at least one atom, got 0"),
        ("pos:R:3", "pos:R:2", r"line 2: expected Properties="),
        ("Properties=species", "Properties species", r"line 2: expected Properties="),
        ('"4 0 0', '"4 0', r"line 2: cannot read the comment line"),
        ("energy=-1.0", "energy=low", r"frame 0: energy: expected numbers, got 'low'"),
        ("energy=-1.0", 'energy="1 2"', r"energy: expected one number per structure"),
        ("forces:R:3", "forces:R:2:x:R:1", r"forces: expected shape \(2, 3\)"),
    ],
)
def test_corrupt_xyz_is_refused_with_the_place(tmp_path, old, new, message):
    path = xyz(tmp_path)
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_missing_and_empty_files(tmp_path):
    xyz(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"did you mean .*a\.xyz"):
        read(tmp_path / "aa.xyz")
    with pytest.raises(FileNotFoundError, match="no file matches"):
        read(tmp_path / "*.traj")
    for name in ("empty.xyz", "empty.xsf", "OUTCAR"):
        (tmp_path / name).write_text("")
        with pytest.raises(ValueError, match=f"{name}: the file is empty"):
            read(tmp_path / name)
    (tmp_path / "blank.xyz").write_text("\n \n")
    with pytest.raises(ValueError, match="the file is empty"):
        read(tmp_path / "blank.xyz")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="no structure files"):
        read(tmp_path / "folder")


def test_damaged_compression_and_foreign_files(tmp_path):
    (tmp_path / "a.xyz.xz").write_bytes(lzma.compress(XYZ.encode() * 50)[:-20])
    (tmp_path / "a.xyz.gz").write_bytes(b"no gzip")
    (tmp_path / "a.xyz.bz2").write_bytes(b"no bzip")
    for suffix in ("xz", "gz", "bz2"):
        with pytest.raises(ValueError, match=f"damaged .{suffix} file"):
            read(tmp_path / f"a.xyz.{suffix}")
    (tmp_path / "a.xyz").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not a text file"):
        read(tmp_path / "a.xyz")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ValueError, match=r"unknown kind of file|ASE could not read"):
        read(tmp_path / "notes.txt")


def test_index_selects(tmp_path):
    frames = [labelled() for _ in range(5)]
    for number, atoms in enumerate(frames):
        atoms.info["id"] = number
    write(tmp_path / "a.xyz", frames)
    assert [atoms.info["id"] for atoms in read(tmp_path / "a.xyz", index="::2")] == [0, 2, 4]
    assert [atoms.info["id"] for atoms in read(tmp_path / "a.xyz", index=-1)] == [4]
    with pytest.raises(ValueError, match="selects none"):
        read(tmp_path / "a.xyz", index=9)
    with pytest.raises(ValueError, match="expected a slice"):
        read(tmp_path / "a.xyz", index="first")


def test_folder_of_xsf_in_natural_order():
    frames = read(DATA / "xsf")
    assert [atoms.info["file"] for atoms in frames] == ["765.xsf", "1930.xsf", "6597.xsf"]
    assert [labels(atoms).energy for atoms in frames] == [-92.45045966, -104.75350103, -221.90441195]
    np.testing.assert_array_equal(labels(frames[0]).forces[0], [0.042819, 0.132555, -0.588697])
    assert all(atoms.pbc.all() for atoms in frames)
    assert len(read(str(DATA / "xsf" / "*0.xsf"))) == 1


def test_folder_of_several_kinds_is_refused(tmp_path):
    xyz(tmp_path)
    (tmp_path / "b.xsf").write_text("x")
    with pytest.raises(ValueError, match="several kinds of file"):
        read(tmp_path)


MOLECULE = "# total energy = -437.5 eV\nATOMS\n8 0.0 0.0 0.0 0.1 0.0 0.0\nH 0.0 0.0 0.97 -0.1 0.0 0.0\n"


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".xz"])
def test_molecule_xsf(tmp_path, suffix):
    compress = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}[suffix]
    (tmp_path / f"m.xsf{suffix}").write_bytes(compress(MOLECULE.encode()))
    (atoms,) = read(tmp_path / f"m.xsf{suffix}")
    assert atoms.get_chemical_symbols() == ["O", "H"]
    assert not atoms.pbc.any()
    assert labels(atoms).energy == -437.5


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("# total energy = -437.5 eV", "#", "their unit is unknown"),
        ("-437.5 eV", "-437.5 Ry", "line 1: expected the energy in eV, got 'Ry'"),
        ("-437.5 eV", "low eV", "line 1: expected a number in eV"),
        ("H 0.0", "Q 0.0", "line 4: unknown element 'Q'"),
        ("0.97", "x", "line 4: expected numbers"),
        ("ATOMS", "ANIMSTEPS 2", "animated"),
        ("ATOMS", "CRYSTAL", "PRIMCOORD or ATOMS"),
        ("ATOMS", "PRIMCOORD\n5 1", "expected 5 atoms, the file ends after 2"),
    ],
)
def test_bad_xsf_is_refused(tmp_path, old, new, message):
    (tmp_path / "m.xsf").write_text(MOLECULE.replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "m.xsf")


CFG = """BEGIN_CFG
 Size
    2
 Supercell
    4.0 0.0 0.0
    0.0 4.0 0.0
    0.0 0.0 4.0
 AtomData:  id type       cartes_x      cartes_y      cartes_z           fx          fy          fz
    1    0       0.000000      0.000000      0.000000    0.1 0.0 0.0
    2    1       2.000000      2.000000      2.000000   -0.1 0.0 0.0
 Energy
        -9.05
 PlusStress:  xx          yy          zz          yz          xz          xy
     6.4 0.0 0.0 0.64 0.0 0.0
 Feature   EFS_by       VASP
END_CFG
"""


def test_mlip_cfg(tmp_path):
    path = tmp_path / "a.cfg"
    path.write_text(CFG)
    (atoms,) = read(path, species=["Li", "O"])
    assert atoms.get_chemical_symbols() == ["Li", "O"]
    energy, _, stress = labels(atoms)
    assert energy == -9.05
    np.testing.assert_allclose(stress, [[-0.1, 0, 0], [0, 0, -0.01], [0, -0.01, 0]], rtol=1e-15)
    assert atoms.info == {"EFS_by": "VASP"}


@pytest.mark.parametrize(
    ("old", "new", "species", "message"),
    [
        ("", "", None, r"types \[0, 1\].*species=\['Li', 'Mn', 'O'\]"),
        ("", "", ["Li"], "type 1 has no symbol"),
        ("", "", ["Li", "Ox"], "unknown element 'Ox'"),
        ("END_CFG", "", ["Li", "O"], "END_CFG is missing"),
        ("-9.05", "low", ["Li", "O"], "frame 0, line 12: expected numbers"),
        ("2.000000      2.000000", "2.000000", ["Li", "O"], "line 10: expected 8 numbers, got 7"),
        (" Size\n    2\n", "", ["Li", "O"], "Size and AtomData"),
    ],
)
def test_bad_cfg_is_refused(tmp_path, old, new, species, message):
    path = tmp_path / "a.cfg"
    path.write_text(CFG.replace(old, new, 1) if old else CFG)
    with pytest.raises(ValueError, match=message):
        read(path, species=species)


@pytest.mark.filterwarnings("ignore::jaxmlip.data.DataWarning")
@settings(max_examples=100, deadline=None)
@given(data=st.data(), kind=st.sampled_from(["xyz", "xsf", "cfg", "json"]))
def test_a_damaged_file_is_read_or_refused_politely(tmp_path_factory, data, kind):
    entry = '{"structure": {"lattice": {"matrix": [[4, 0, 0], [0, 4, 0], [0, 0, 4]]}, "sites": [{"species": [{"element": "Li"}], "abc": [0, 0, 0]}]}, "energy": 1}'  # noqa: E501
    text = {"xyz": XYZ.format(info="energy=-1", forces="forces"), "xsf": MOLECULE, "cfg": CFG, "json": entry}[kind]
    start = data.draw(st.integers(0, len(text) - 1))
    stop = data.draw(st.integers(start, min(start + 12, len(text))))
    text = (
        text[:start]
        + data.draw(st.sampled_from(["", " ", "x", "-1", "nan", "\n", '"', "{", "1e999", "Ω"]))
        + text[stop:]
    )
    path = tmp_path_factory.getbasetemp() / f"damaged.{kind}"
    path.write_text(text)
    with contextlib.suppress(ValueError):
        frames = read(path, species=["Li", "O"])
        assert all(isinstance(labels(atoms), Labels) for atoms in frames)


def test_a_cell_that_is_not_finite_is_refused(tmp_path):
    atoms = Atoms("CO", [[0, 0, 0], [0, 0, 1.13]], cell=[5, 5, 5], pbc=True)
    write(tmp_path / "a.cfg", atoms)
    path = tmp_path / "b.cfg"
    path.write_text(re.sub(r"(Supercell\s+)\S+", r"\g<1>1e999", (tmp_path / "a.cfg").read_text()))
    with pytest.raises(ValueError, match="Supercell: the cell must be finite"):
        read(path, species=["C", "O"])


@pytest.mark.parametrize("pbc", [(False, False, False), (True, True, False)])
def test_cfg_of_molecules_and_slabs(tmp_path, pbc):
    atoms = Atoms("CO", [[0, 0, 0], [0, 0, 1.13]], cell=[5, 5, 5] * np.array(pbc), pbc=pbc)
    attach(atoms, Labels(-14.0, np.zeros((2, 3)), None))
    write(tmp_path / "a.cfg", atoms)
    assert_same(atoms, read(tmp_path / "a.cfg")[0])


def test_cfg_writes_only_listed_species(tmp_path):
    with pytest.raises(ValueError, match=r"Mg.*species=\['O'\]"):
        write(tmp_path / "a.cfg", labelled(), species=["O"])
    assert not list(tmp_path.iterdir())


def test_write_refuses_what_it_cannot(tmp_path):
    with pytest.raises(ValueError, match=r"ending in \.xyz"):
        write(tmp_path / "a.traj", labelled())
    with pytest.raises(ValueError, match="no structures"):
        write(tmp_path / "a.xyz", [])
    with pytest.raises(FileNotFoundError, match="create it first"):
        write(tmp_path / "none" / "a.xyz", labelled())


def test_pymatgen_entries(tmp_path):
    from pymatgen.core import Lattice, Structure
    from pymatgen.entries.computed_entries import ComputedStructureEntry

    structure = Structure(Lattice.cubic(4.0), ["Li+", "O2-"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    entry = ComputedStructureEntry(structure, -5.0, correction=-0.7, entry_id="mp-1", parameters={"run_type": "GGA"})
    for content in (entry.as_dict(), [entry.as_dict()], {"entries": [entry.as_dict()]}):
        (tmp_path / "e.json.gz").write_bytes(gzip.compress(json.dumps(content).encode()))
        (atoms,) = read(tmp_path / "e.json.gz")
        assert labels(atoms).energy == entry.uncorrected_energy == -5.0
        assert atoms.info == {"composition": "LiO", "entry_id": "mp-1", "run_type": "GGA", "correction": -0.7}
        np.testing.assert_allclose(atoms.positions[1], [2, 2, 2])
    (tmp_path / "e.json").write_text('[{"energy": 1, "structure": null}]')
    with pytest.raises(ValueError, match=r"no record with a structure of pymatgen.*fetch the entries"):
        read(tmp_path / "e.json")
    (tmp_path / "e.json").write_text('[{"energy": 1, "structure": ')
    with pytest.raises(ValueError, match="not valid JSON"):
        read(tmp_path / "e.json")


def test_labels_of_moved_atoms_are_refused():
    atoms = labelled()
    atoms.positions[0, 0] += 0.1
    with pytest.raises(ValueError, match="changed after the labels were stored"):
        labels(atoms)


def test_labels_never_compute():
    from ase.calculators.emt import EMT

    atoms = bulk("Cu")
    atoms.calc = EMT()
    assert labels(atoms) == Labels(None, None, None)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (Labels(None, np.zeros((3, 3)), None), r"forces: expected shape \(2, 3\)"),
        (Labels(None, None, np.zeros(5)), r"stress: expected shape \(3, 3\)"),
        (Labels(None, None, np.arange(9.0).reshape(3, 3)), "symmetric"),
        (Labels(np.zeros(2), None, None), "energy: expected one number"),  # type: ignore[arg-type]
    ],
)
def test_labels_of_the_wrong_shape(wrong, message):
    with pytest.raises(ValueError, match=message):
        attach(bulk("MgO", "rocksalt", a=4.2), wrong)
