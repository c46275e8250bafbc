"""Splits lose nothing, keep groups whole, and are the same everywhere."""

import numpy as np
import pytest
from ase.build import bulk
from hypothesis import given
from hypothesis import strategies as st

from jaxmlip import datasets
from jaxmlip.data import Split, group_split, groups, random_split, split


def assert_partition(found: Split, n: int) -> None:
    assert len(found.train)
    assert len(found.test)
    np.testing.assert_array_equal(np.sort(np.concatenate(found)), np.arange(n))
    for side in found:
        assert side.dtype == np.int64
        np.testing.assert_array_equal(side, np.sort(side))


@given(n=st.integers(2, 300), fraction=st.floats(0.01, 0.99), seed=st.integers(0, 2**63))
def test_random_split_is_a_partition(n, fraction, seed):
    found = random_split(n, test=fraction, seed=seed)
    assert_partition(found, n)
    assert abs(len(found.test) - fraction * n) <= 1
    np.testing.assert_array_equal(found.test, random_split(n, test=fraction, seed=seed).test)


@given(
    names=st.lists(st.integers(0, 6), min_size=2, max_size=80), fraction=st.floats(0.05, 0.95), seed=st.integers(0, 9)
)
def test_group_split_keeps_groups_whole(names, fraction, seed):
    if len(set(names)) < 2:
        with pytest.raises(ValueError, match="in one group"):
            group_split(names, test=fraction, seed=seed)
        return
    found = group_split(names, test=fraction, seed=seed)
    assert_partition(found, len(names))
    assert not {names[i] for i in found.train} & {names[i] for i in found.test}


def test_the_split_of_a_seed_never_changes():
    # Published learning curves name a seed: these numbers are part of the interface.
    np.testing.assert_array_equal(random_split(20, test=5, seed=7).test, [3, 4, 6, 11, 12])
    np.testing.assert_array_equal(random_split(20, test=5, seed=8).test, [8, 10, 12, 13, 16])
    assert len(split(datasets.load("ldr"), test=30).train) == 120


def test_group_split_comes_near_the_size():
    found = group_split(np.repeat(np.arange(100), 5), test=0.2, seed=3)
    assert len(found.test) == 100
    # The smallest group stands in where each is too large.
    assert len(group_split([0] * 50 + [1] * 30, test=0.05).test) == 30


def test_by_composition_and_info_and_trajectory():
    frames = datasets.load("mo")[::10]
    by_group = split(frames, by="group")
    assert not {frames[i].info["group"] for i in by_group.train} & {frames[i].info["group"] for i in by_group.test}
    by_trajectory = split(frames, by="trajectory", seed=1)
    assert_partition(by_trajectory, len(frames))
    ldr = datasets.load("ldr")
    by_composition = split(ldr, by="composition", test=0.2)
    formulas = groups(ldr, "composition")
    assert not {formulas[i] for i in by_composition.train} & {formulas[i] for i in by_composition.test}
    assert 25 <= len(by_composition.test) <= 35
    with pytest.raises(ValueError, match="in one group"):
        split(frames, by="composition")


@pytest.mark.parametrize(
    ("n", "arguments", "message"),
    [
        (5, {"test": 0}, "expected between 1 and 4"),
        (5, {"test": 5}, "expected between 1 and 4"),
        (5, {"test": 1.5}, "expected a fraction between 0 and 1"),
        (5, {"test": -0.1}, "expected a fraction"),
        (1, {}, "cannot split 1 structure into two sets"),
        (0, {}, "cannot split 0 structures"),
        (5, {"by": "compositon"}, "did you mean 'composition'"),
        (5, {"by": "group"}, "4 of 5 structures lack it in info, the first is number 1"),
    ],
)
def test_errors_teach(n, arguments, message):
    frames = [bulk("Mo") for _ in range(n)]
    if frames:
        frames[0].info["group"] = "a"
    with pytest.raises(ValueError, match=message):
        split(frames, **arguments)
