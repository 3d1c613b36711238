"""Intervals keep what they promise at the numbers of seeds the book uses."""

import math

import numpy as np
import pytest

import geolib
from geolib.statistics import Interval, format_interval, student_t_interval
from geolib.verdicts import direction, paired_verdict, verdict


def test_interval_by_table():
    # t_{4, .975} = 2.776445; the values 1..5 have mean 3 and standard deviation sqrt(2.5).
    interval = student_t_interval([1, 2, 3, 4, 5])
    half = 2.7764451 * math.sqrt(2.5) / math.sqrt(5)
    assert interval == Interval(3, pytest.approx(3 - half, rel=1e-7), pytest.approx(3 + half, rel=1e-7), 5)


@pytest.mark.parametrize("count", [5, 10])
def test_interval_covers_the_mean_of_normal_data(count):
    rng = np.random.default_rng(0)
    covered = 0
    for values in rng.normal(2, 3, size=(4000, count)):
        interval = student_t_interval(values)
        covered += interval.low <= 2 <= interval.high
    assert 0.93 <= covered / 4000 <= 0.97


def test_wider_level_wider_interval():
    assert student_t_interval([1, 2, 3], level=0.99).high > student_t_interval([1, 2, 3], level=0.9).high


@pytest.mark.parametrize("values", [[], [1.0], [[1.0, 2.0]], [1.0, math.nan], [1.0, math.inf]])
def test_interval_refuses(values):
    with pytest.raises(ValueError, match="an interval needs"):
        student_t_interval(values)


@pytest.mark.parametrize("level", [0, 1, 95])
def test_interval_refuses_a_level_that_is_no_probability(level):
    with pytest.raises(ValueError, match="probability"):
        student_t_interval([1, 2], level=level)


def test_format_interval():
    assert format_interval([1, 2, 3, 4, 5]) == "3.000 ± 1.963"
    assert format_interval([1, 2, 3, 4, 5], digits=1) == "3.0 ± 2.0"
    assert format_interval([1, math.nan]) == "no scores"


@pytest.mark.parametrize(
    ("low", "high", "above", "below"),
    [(1, 2, "supported", "refuted"), (-2, -1, "refuted", "supported"), (-1, 1, "undetermined", "undetermined")],
)
def test_verdict_by_the_whole_interval(low, high, above, below):
    interval = Interval((low + high) / 2, low, high, 5)
    assert verdict(interval, above=0) == above
    assert verdict(interval, below=0) == below
    assert verdict(Interval(0, low, high, 4), above=0) == "too few seeds"


def test_verdict_on_the_bound_itself_is_open():
    assert verdict(Interval(1, 0, 2, 5), above=0) == "undetermined"
    assert verdict(Interval(-1, -2, 0, 5), above=0) == "undetermined"


@pytest.mark.parametrize("bounds", [{}, {"above": 0, "below": 1}])
def test_verdict_needs_one_bound(bounds):
    with pytest.raises(ValueError, match="a statement has one bound"):
        verdict(Interval(1, 0, 2, 5), **bounds)


def test_paired_verdict_uses_the_differences_by_seed():
    base = [0.0, 10, 20, 30, 40]
    above = [1.0, 11.1, 20.9, 31, 41]  # far smaller than the spread between seeds, yet always above
    assert paired_verdict(above, base) == "supported"
    assert paired_verdict(base, above) == "refuted"
    assert paired_verdict(base, base[::-1]) == "undetermined"
    assert paired_verdict(above[:4], base[:4]) == "too few seeds"
    assert paired_verdict([math.nan, *above[1:]], base) == "no verdict"


def test_direction():
    assert [direction(d, 0.02) for d in (0.03, -0.03, 0.02, -0.02, 0)] == [
        "supported", "refuted", "undetermined", "undetermined", "undetermined",
    ]  # fmt: skip


def test_intervals_are_public():
    assert geolib.student_t_interval is student_t_interval
