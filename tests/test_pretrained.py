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
    assert {"rocksalt-ace", "rocksalt-mtp"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_potential_is_what_its_card_says(name):
    card, model = pretrained.card(name), jaxmlip.load(name)
    assert (card.name, card.family) == (name, family_of(model.potential.config).name)
    assert card.elements == model.potential.config.symbols
    assert sum(file.stat().st_size for file in pretrained.files(name) if file) < 1e6
    assert all(line in str(card) for line in card.citations)
    told = jaxmlip.load(pretrained.files(name).model)
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(model), jax.tree.leaves(told), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_errors_on_the_structures_of_dft(name):
    """The 30 of split 0 that it was not trained on: the card's figures, rounded to 0.1 meV/atom and 0.001 eV/Å.

    They were computed in float32: 1 % beside the rounding.
    """
    frames = jaxmlip.datasets.load("ldr")
    frames = [frames[k] for k in np.random.default_rng(0).permutation(len(frames))[120:]]
    table = errors(predict_atoms(jaxmlip.load(name), frames), frames)
    said = pretrained.card(name).errors
    assert 1e3 * table["energy"].rmse == pytest.approx(said["meV/atom of DFT"], abs=0.06, rel=0.01)
    assert table["forces"].rmse == pytest.approx(said["eV/Å of DFT"], abs=6e-4, rel=0.01)


@pytest.mark.parametrize("name", [name for name in NAMES if pretrained.files(name).active_set])
def test_grades_tell_what_lies_outside(name):
    """A training structure is inside; the same squeezed by a quarter is not."""
    inside = jaxmlip.datasets.load("ldr")[4]
    outside = inside.copy()
    outside.set_cell(0.75 * inside.cell.array, scale_atoms=True)
    found = grades(jaxmlip.load(name), load_active_set(name), [inside, outside]).structures
    assert found[0] < 2 < 10 < found[1]


def test_a_potential_without_a_domain_says_so():
    with pytest.raises(ValueError, match="no active set comes with rocksalt-ace"):
        load_active_set("rocksalt-ace")


def test_cards_on_the_command_line(capsys):
    assert main(["card", "rocksalt-mtp"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("rocksalt-mtp: ")
    assert "meV/atom" in shown
    assert main(["card", "rocksalt-mpt"]) == 2
    assert "did you mean 'rocksalt-mtp'?" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match=r"no file rocksalt-mpt, and it is an unknown model .*'rocksalt-mtp'"):
        jaxmlip.load("rocksalt-mpt")
    with pytest.raises(ValueError, match="knows its own species"):
        jaxmlip.load("rocksalt-mtp", species=["Li", "O"])
