import numpy as np
import pytest
from ase.build import bulk
from morse import alloy, model

from jaxmlip.data.labels import Labels, attach
from jaxmlip.evaluate.errors import errors, rich_table
from jaxmlip.potentials.model import predict
from jaxmlip.potentials.predictions import Predicted, predict_atoms
from jaxmlip.units import GPA


def frames():
    """Three sizes, so that batching must put them back in order."""
    return [alloy() * (2, 1, 1), alloy(), alloy() * (3, 1, 1), alloy()]


def test_predictions_come_in_the_order_of_the_structures():
    import jax

    from jaxmlip.graph import batch

    found = predict_atoms(model(), frames(), max_atoms=8)
    for k, frame in enumerate(frames()):
        with jax.enable_x64(True):
            alone = predict(model(), batch(frame, model().potential.config))
        # float64; only the order of sums differs between a batch and one structure
        assert found.energy[k] == pytest.approx(float(alone.energy[0]), abs=1e-10)
        np.testing.assert_allclose(found.forces[k], alone.forces, atol=1e-10)
        np.testing.assert_allclose(found.stress[k], alone.stress[0], atol=1e-10)


def test_float32_agrees_to_its_digits_and_other_dtypes_are_refused():
    double, single = (predict_atoms(model(), frames(), dtype=dtype) for dtype in ("float64", "float32"))
    np.testing.assert_allclose(single.energy, double.energy, rtol=1e-5)  # seven digits, a few lost in sums
    with pytest.raises(ValueError, match="'float64' or 'float32', got 'half'"):
        predict_atoms(model(), frames(), dtype="half")


def labelled(energy_error=0.0, force_error=0.0, stress_error=0.0):
    atoms = frames()
    exact = predict_atoms(model(), atoms)
    for frame, energy, forces, stress in zip(atoms, *exact[:3], strict=True):
        attach(frame, Labels(energy - energy_error * len(frame), forces - force_error, stress - stress_error))
    return atoms, exact


def test_known_errors_come_back_in_the_stated_units():
    atoms, exact = labelled(0.02, 0.3, 0.01)
    table = errors(exact, atoms)
    for quantity, expected in (("energy", 0.02), ("forces", 0.3), ("stress", 0.01)):
        row = table[quantity]
        # a constant error: RMSE, MAE and max are it; float64 differences of numbers of the order of 100
        assert [row.rmse, row.mae, row.max] == pytest.approx([expected] * 3, rel=1e-9)
    assert (table["energy"].n, table["forces"].n, table["stress"].n) == (4, 3 * 28, 4 * 9)
    assert [table[name].unit for name in ("energy", "forces", "stress")] == ["eV/atom", "eV/Å", "eV/Å³"]


def test_a_model_is_evaluated_like_its_predictions():
    atoms, exact = labelled(force_error=0.1)
    assert errors(model(), atoms).records() == errors(exact, atoms).records()


def test_elements_and_groups_are_separated():
    atoms, exact = labelled()
    wrong = [forces.copy() for forces in exact.forces]
    wrong[1][atoms[1].symbols == "Ni"] += 1.0
    for k, frame in enumerate(atoms):
        frame.info["kind"] = "big" if k != 1 else "small"
    table = errors(exact._replace(forces=wrong), atoms, group_key="kind")
    by_name = {(row.scope, row.name): row for row in table.rows if row.quantity == "forces"}
    assert by_name["element", "Cu"].max == 0
    assert by_name["element", "Ni"].max == pytest.approx(1, rel=1e-12)
    assert by_name["group", "big"].max == 0
    assert by_name["group", "small"].n == 12


def test_missing_labels_are_left_out_and_none_at_all_is_an_error():
    atoms, exact = labelled()
    attach(atoms[0], Labels(None, None, None))
    attach(atoms[1], Labels(-1.0, None, None))
    table = errors(exact, atoms)
    assert (table["energy"].n, table["forces"].n) == (3, 3 * 16)
    with pytest.raises(ValueError, match="none of the 4 structures has an energy"):
        errors(exact, frames())
    with pytest.raises(KeyError, match="no such label"):
        errors(exact, [attach_energy(frame) for frame in frames()])["stress"]


def attach_energy(frame):
    attach(frame, Labels(0.0, None, None))
    return frame


def test_nan_labels_and_wrong_numbers_are_refused():
    atoms, exact = labelled()
    with pytest.raises(ValueError, match="4 predictions for 3 structures"):
        errors(exact, atoms[:3])
    attach(atoms[2], Labels(float("nan"), None, None))
    with pytest.raises(ValueError, match=r"structure 2 .*not a finite number .*jaxmlip audit"):
        errors(exact, atoms)


def test_terminal_table_has_the_rows():
    from rich.console import Console

    atoms, exact = labelled(0.02, 0.3, 1 / GPA)
    console = Console(record=True, width=100, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    with console.file:
        console.print(rich_table({"test": errors(exact, atoms)}))
    rows = [line.split("│") for line in console.export_text().splitlines() if "test" in line]
    shown = {cells[2].strip(): (cells[5].strip(), cells[8].strip()) for cells in rows}
    assert shown == {"energy": ("20", "meV/atom"), "forces": ("0.3", "eV/Å"), "stress": ("1", "GPa")}


def test_structures_without_a_cell_have_zero_stress():
    molecule = bulk("Cu", cubic=True)
    molecule.cell[:] = 0
    molecule.pbc = False
    assert isinstance(found := predict_atoms(model(), [molecule]), Predicted)
    assert not found.stress.any()
