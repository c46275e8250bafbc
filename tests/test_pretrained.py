"""The shipped potentials: each loads by its name, is small, is what its card says, and knows where it ends."""

import jax
import numpy as np
import pytest

import jaxmlip
from jaxmlip import pretrained
from jaxmlip.cli import main
from jaxmlip.evaluate.errors import errors
from jaxmlip.evaluate.grade import grades, load_active_set
from jaxmlip.potentials import family_of, predict_atoms

NAMES = pretrained.available()


def test_there_are_some():
    assert "rocksalt-mtp" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_potential_is_what_its_card_says(name):
    card, model = pretrained.card(name), jaxmlip.load(name)
    assert (card.name, card.family) == (name, family_of(model.potential.config).name)
    assert card.elements == model.potential.config.symbols
    size = pretrained.path(name).stat().st_size + pretrained.active_set_path(name).stat().st_size
    assert size < 1e6
    assert all(line in str(card) for line in card.citations)
    told = jaxmlip.load(pretrained.path(name))
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(model), jax.tree.leaves(told), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_errors_on_the_structures_of_dft(name):
    """Twenty of the 150 of which the card tells the errors: within twice its figures, as any sample should be."""
    frames = jaxmlip.datasets.load("ldr")[::8]
    with jax.enable_x64(True):
        table = errors(predict_atoms(jaxmlip.load(name), frames), frames)
    said = pretrained.card(name).errors
    assert table["energy"].rmse < 2 * said["meV/atom of DFT"] * 1e-3
    assert table["forces"].rmse < 2 * said["eV/Å of DFT"]


@pytest.mark.parametrize("name", NAMES)
def test_grades_tell_what_lies_outside(name):
    """A training structure is inside; the same squeezed by a quarter is not."""
    inside = jaxmlip.datasets.load("ldr")[4]
    outside = inside.copy()
    outside.set_cell(0.75 * inside.cell.array, scale_atoms=True)
    found = grades(jaxmlip.load(name), load_active_set(name), [inside, outside]).structures
    assert found[0] < 2 < 10 < found[1]


def test_cards_on_the_command_line(capsys):
    assert main(["card", "rocksalt-mtp"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("rocksalt-mtp: ")
    assert "meV/atom" in shown
    assert main(["card", "rocksalt-mpt"]) == 2
    assert "did you mean 'rocksalt-mtp'?" in capsys.readouterr().err
    with pytest.raises(ValueError, match="knows its own species"):
        jaxmlip.load("rocksalt-mtp", species=["Li", "O"])
