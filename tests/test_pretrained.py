"""The potentials of the package: small files that load by name, and whose cards tell the truth."""

import pytest

import jaxmlip
from jaxmlip import pretrained
from jaxmlip.evaluate import errors

MEGABYTE = 2**20


@pytest.mark.parametrize("name", pretrained.available())
def test_a_potential_of_the_package(name):
    model, card = jaxmlip.load(name), pretrained.card(name)
    assert model.potential.config.symbols == card.elements
    assert pretrained.path_of(name).stat().st_size < MEGABYTE
    assert any("SevenNet" in paper or "Park" in paper for paper in card.cite)


def test_its_errors_are_of_the_size_that_its_card_says():
    """On DFT structures that it was fitted to; the card's errors of others are larger, so these bound it from below."""
    frames = jaxmlip.datasets.load("ldr")[:12]
    table = errors(jaxmlip.load("rocksalt-mtp"), frames)
    assert table["energy"].rmse < 25  # meV/atom
    assert table["forces"].rmse < 0.25  # eV/Å


def test_an_unknown_name_is_answered():
    with pytest.raises(ValueError, match="did you mean 'rocksalt-mtp'"):
        pretrained.path_of("rocksalt_mtp")
