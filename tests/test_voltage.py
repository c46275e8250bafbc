import numpy as np
import pytest
from morse import MorseConfig, morse

from jaxmlip.cathodes import (
    LITHIUM_BCC,
    METALS,
    average_voltage,
    default_lattice,
    disordered_rocksalt,
    layered,
    voltages,
)
from jaxmlip.cathodes import voltage as voltage_module
from jaxmlip.graph.neighbors import neighbor_pairs
from jaxmlip.potentials.model import Model
from jaxmlip.simulate.relax import Relaxed
from jaxmlip.study.published import VOLTAGES
from jaxmlip.study.voltages import mean_absolute_error, voltage_row


@pytest.mark.parametrize("metal", [*METALS, "Sc", "Al"])
def test_layered_cells_are_octahedral(metal):
    atoms = layered(metal)
    assert atoms.get_chemical_symbols() == [metal, "O", "O", "Li"]
    pairs = neighbor_pairs(atoms, 2.45)
    from_oxygen = np.isin(pairs.neighbors, (1, 2))
    for center, low, high in ((0, 1.8, 2.15), (3, 1.95, 2.4)):  # Å: TM-O and Li-O of such oxides
        distances = pairs.distances[(pairs.centers == center) & from_oxygen]
        assert len(distances) == 6
        assert np.ptp(distances) < 1e-10
        assert low < distances[0] < high
    a, c, _ = default_lattice(metal)
    assert atoms.get_volume() == pytest.approx(np.sqrt(3) / 6 * a**2 * c)
    bare = layered(metal, lithium=False)
    assert bare.get_chemical_symbols() == [metal, "O", "O"]
    np.testing.assert_array_equal(bare.cell.array, atoms.cell.array)


def test_layered_takes_a_given_lattice_and_refuses_unknown_metals():
    atoms = layered("Co", lattice=(2.816, 14.05, 0.26))
    # R-3m: the threefold axis along z and the inversion at the metal map the crystal onto itself
    turn = np.array([[-0.5, np.sqrt(3) / 2, 0], [-np.sqrt(3) / 2, -0.5, 0], [0, 0, 1]])
    for operation in (turn, -np.eye(3)):
        image = atoms.copy()
        image.positions = atoms.positions @ operation
        fractional = np.linalg.solve(atoms.cell.array.T, image.positions.T).T
        distance = fractional[:, None] - atoms.get_scaled_positions()[None]
        matches = (np.abs(distance - np.round(distance)) < 1e-9).all(axis=2)
        same = atoms.numbers[:, None] == atoms.numbers[None]
        assert ((matches & same).sum(axis=1) == 1).all()
    with pytest.raises(ValueError, match="unknown element 'Xx'"):
        layered("Xx")
    with pytest.raises(ValueError, match="lattice="):
        layered("Mo")


def test_disordered_rocksalt():
    atoms = disordered_rocksalt({"Li": 1.2, "Mn": 0.4, "Ti": 0.4}, repeat=(2, 2, 2), seed=1)
    counts = {s: int((atoms.symbols == s).sum()) for s in ("Li", "Mn", "Ti", "O")}
    assert counts == {"Li": 19, "Mn": 6, "Ti": 7, "O": 32} or counts == {"Li": 19, "Mn": 7, "Ti": 6, "O": 32}
    again = disordered_rocksalt({"Li": 1.2, "Mn": 0.4, "Ti": 0.4}, repeat=(2, 2, 2), seed=1)
    other = disordered_rocksalt({"Li": 1.2, "Mn": 0.4, "Ti": 0.4}, repeat=(2, 2, 2), seed=2)
    np.testing.assert_array_equal(atoms.numbers, again.numbers)
    assert (atoms.numbers != other.numbers).any()
    with pytest.raises(ValueError, match="unknown cation 'Mm'"):
        disordered_rocksalt({"Mm": 1.0})
    with pytest.raises(ValueError, match="positive"):
        disordered_rocksalt({"Li": 0.0})


def test_average_voltage_is_the_nernst_formula():
    # LiFeO2 and FeO2 R-3m, PBE+U, eV per atom (Materials Project, see the data's README): 4.03 V
    assert average_voltage(4 * -6.031254, 3 * -6.060641) == pytest.approx(4.034, abs=1e-3)
    assert average_voltage(-20.0, -10.0, n_lithium=2, lithium_energy=-2.0) == 3.0
    with pytest.raises(ValueError, match="at least 1"):
        average_voltage(-1.0, -1.0, n_lithium=0)


def pair_model(metals):
    """Cations attract oxygen at their bond lengths; like charges stay apart."""
    species = ("Li", "O", *metals)
    potential = morse(MorseConfig(species=species, cutoff=4.5))
    depth, radius = np.full((2, len(species), len(species)), [[[0.05]], [[3.1]]])
    depth[1, :] = depth[:, 1] = 0.8
    radius[1, :] = radius[:, 1] = 1.95
    depth[0, 1] = depth[1, 0] = 0.4
    radius[0, 1] = radius[1, 0] = 2.1
    depth[1, 1], radius[1, 1] = 0.1, 2.9
    offsets = np.zeros(len(species))
    offsets[0] = -4.0  # eV: lithium likes the oxide better than the metal, by the voltage
    return Model(potential, {"offsets": offsets, "depth": depth, "radius": radius})


def test_rows_hold_a_voltage_or_a_reason():
    rows = voltages(pair_model(("Co", "Sc")), metals=("Co", "Ni", "Sc"), relaxed=False)
    cobalt, nickel, scandium = rows
    assert cobalt.status == "not relaxed"
    assert cobalt.voltage == pytest.approx(
        -(cobalt.energy_lithiated - cobalt.energy_delithiated - LITHIUM_BCC), abs=1e-12
    )
    assert (nickel.voltage, nickel.status) == (None, "the model does not know Ni")
    assert scandium.voltage is not None
    compared = [voltage_row(row) for row in rows]
    error, percent = compared[0]["error"], compared[0]["error_percent"]
    assert (error, percent) == pytest.approx((cobalt.voltage - 3.81, 100 * error / 3.81))
    assert [compared[0][name] for name in ("dft", "aenet", "mtp")] == [3.81, 4.27, 3.45]
    assert (compared[1]["dft"], compared[1]["error"]) == (4.64, None)
    assert (compared[2]["dft"], compared[2]["error"]) == (None, None)
    assert mean_absolute_error(compared) == pytest.approx((abs(error), abs(percent), 1))
    assert np.isnan(mean_absolute_error(compared[1:])[0])


def test_relaxed_rows():
    model = pair_model(("Co",))
    (row,) = voltages(model, metals=("Co",), max_steps=2)
    assert row.voltage is None
    assert row.status.startswith("CoLiO2: not converged in 2 steps")
    shifted = Model(model.potential, {**model.params, "offsets": np.array([-5.0, 0.0, 0.0])})
    (first,) = voltages(model, metals=("Co",))
    (second,) = voltages(shifted, metals=("Co",), lithium_energy=LITHIUM_BCC - 1.0)
    assert first.status == second.status == "converged"
    assert second.voltage == pytest.approx(first.voltage, abs=1e-9)  # the scale is shifted on both sides


def test_an_implausible_voltage_is_refused():
    model = pair_model(("Co",))
    wild = Model(model.potential, {**model.params, "offsets": np.array([-20.0, 0.0, 0.0])})
    (row,) = voltages(wild, metals=("Co",), relaxed=False)
    assert row.voltage is None
    assert row.status == "19.4 V is no voltage of an oxide: the model extrapolates"


def test_a_metal_outside_its_octahedron_is_no_layered_oxide(monkeypatch):
    def sheared(model, atoms, max_steps):
        ends = [frame.copy() for frame in atoms]
        for end in ends:
            end.positions[end.symbols == "Co"] += [1.2, 0.0, 0.5]
        return [Relaxed(end, -1.0, True, 1, 0.0, 0.0, "") for end in ends]

    monkeypatch.setattr(voltage_module, "relax", sheared)
    (row,) = voltages(pair_model(("Co",)), metals=("Co",))
    assert row.voltage is None
    assert row.status == "CoLiO2: no layered oxide any more, Co has 4 oxygens around it instead of 6"


def test_published_errors_are_those_of_the_paper():
    for method, expected in (("aenet", 0.34), ("mtp", 0.39)):
        errors = [abs(getattr(row, method) - row.dft) for row in VOLTAGES.values()]
        assert np.mean(errors) == pytest.approx(expected, abs=0.011)  # the paper's come from unrounded voltages
