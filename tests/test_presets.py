"""Presets hold the published numbers, and every one can be built and fitted."""

from itertools import pairwise

import pytest

import jaxmlip
from jaxmlip.config import ConfigError
from jaxmlip.fitting import fit_settings
from jaxmlip.study.presets import preset, presets
from jaxmlip.study.published import ATOMIC_ENERGIES

ELEVEN = ("Li", "O", "Sc", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu")


@pytest.mark.parametrize("name", presets())
def test_each_builds(name):
    chosen = preset(name)
    config = jaxmlip.build(chosen.family, species=ELEVEN, **chosen.potential).config
    assert config.symbols == ELEVEN
    fit_settings(chosen.family, chosen.fit)
    assert chosen.source


def test_aenet_of_the_study():
    """44 inputs and 931 weights an element, as the published input files say."""
    config = jaxmlip.build("aenet", species=ELEVEN, **preset("study-aenet").potential).config
    assert (config.cutoff, config.angular_cutoff, config.n_features) == (8.0, 6.5, 44)
    sizes = [config.n_features, *(nodes for nodes, _ in config.layers)]
    assert sum((n_in + 1) * n_out for n_in, n_out in pairwise(sizes)) == 931
    settings = fit_settings("aenet", preset("study-aenet").fit)
    assert (settings.force_weight, settings.epochs, settings.memory) == (0.0, 3300, 20)


def test_mtp_of_the_study():
    """MLIP's weights 1, 0.01, 0.001 for a cell of 20 atoms and 200 Å³, ours squared."""
    chosen = preset("study-mtp")
    squares = [chosen.fit[f"{name}_weight"] ** 2 for name in ("energy", "force", "stress")]
    assert squares[0] / squares[1] == pytest.approx(1 * 20 / 0.01, rel=0.02)
    assert squares[2] / squares[1] == pytest.approx(0.001 * 200**2 / 20 / 0.01, rel=0.03)


def test_gap_of_the_study():
    chosen = preset("study-gap")
    config = jaxmlip.build("gap", species=ELEVEN, **chosen.potential).config
    assert config.soap.n_features == 4951
    assert fit_settings("gap", chosen.fit).offsets == ATOMIC_ENERGIES


def test_unknown():
    with pytest.raises(ConfigError, match="did you mean 'study-snap'"):
        preset("study-snp")
