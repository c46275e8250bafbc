import numpy as np
import pytest

from jaxmlip.study.learning_curve import training_cpu
from jaxmlip.study.projection import PUBLISHED_SIZES, power_law, projection_table


def rows_of(method, sizes, seconds, *, compiling=0.0, load=1.0):
    """Fits that take ``seconds(n)`` of the processor, and ``compiling``, on a machine that ``load`` processes share."""
    return [
        {
            "method": method,
            "size": n,
            "fit_cpu_s": seconds(n) + compiling,
            "fit_wall_s": load * (seconds(n) + compiling),
            "fit_compile_s": load * compiling,
        }
        for n in sizes
    ]


def test_a_power_law_is_found_whatever_compiling_and_load_add():
    rows = rows_of("snap", (250, 1000, 2500), lambda n: 3e-3 * n**1.4, compiling=50.0, load=3.0)
    law = power_law(rows, "snap")
    assert law is not None
    assert law.exponent == pytest.approx(1.4, rel=1e-9)
    assert law.at(9758) == pytest.approx(3e-3 * 9758**1.4, rel=1e-9)
    assert training_cpu(rows[0]) == pytest.approx(3e-3 * 250**1.4, rel=1e-9)


def test_small_sizes_do_not_count_where_larger_ones_tell():
    """A fixed cost of 20 s hides the growth at 100 structures."""
    rows = rows_of("gap", (100, 1000, 2000), lambda n: n / 10 + (20 if n == 100 else 0))
    law = power_law(rows, "gap")
    assert law is not None
    assert law.exponent == pytest.approx(1.0)


def test_what_was_measured_once_is_not_extrapolated():
    assert power_law(rows_of("mtp", (1000,), float), "mtp") is None
    assert power_law(rows_of("mtp", (100, 1000), float), "mtp") is None
    assert power_law([], "mtp") is None
    assert projection_table(rows_of("mtp", (1000,), float)) is None


def test_the_table_sums_the_published_sizes():
    assert PUBLISHED_SIZES == (2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000, 9758)
    rows = [*rows_of("snap", (500, 1000), lambda n: 3.6 * n), *rows_of("mtp", (500, 1000), lambda n: 36.0 * n)]
    table = projection_table(rows)
    assert table is not None
    hours = np.array([line[4:] for line in table.rows], float)
    assert hours[0] == pytest.approx([2.0, 9.8, 54.0])  # two digits, of 53.758
    assert hours[2] == pytest.approx([22.0, 110.0, 590.0])
    assert [line[0] for line in table.rows] == ["SNAP", "MTP", "sum"]
    assert table.n_summary == 1
