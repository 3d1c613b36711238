"""Orders of convergence, and how they are drawn."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import geolib
from geolib.statistics import student_t_interval


@pytest.mark.parametrize("power", [-2, -0.5, 1, 3])
def test_the_order_of_a_power_is_its_exponent(power):
    x = np.array([3.0, 1.0, 10.0, 40.0])
    assert geolib.convergence_order(x, 7 * x**power) == pytest.approx(power)


def test_the_order_is_the_least_squares_slope_of_the_logarithms():
    x, error = np.array([1.0, 2, 4, 8]), np.array([1.0, 0.3, 0.2, 0.04])
    expected = np.polyfit(np.log(x), np.log(error), 1)[0]
    assert geolib.convergence_order(x.tolist(), error.tolist()) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        ([1.0, 1.0], [1.0, 2.0], "two or more different resolutions"),
        ([1.0, 2.0], [1.0], r"got \(2,\) resolutions, \(1,\) errors"),
        ([1.0, 2.0], [1.0, 0.0], r"errors must be finite and > 0 .* \[1.0, 0.0\]"),
        ([-1.0, 2.0], [1.0, 1.0], "resolutions must be finite and > 0"),
        ([1.0, 2.0], [1.0, np.nan], "errors must be finite"),
    ],
)
def test_an_order_that_does_not_exist_is_refused(x, error, words):
    with pytest.raises(ValueError, match=words):
        geolib.convergence_order(x, error)


@pytest.fixture
def ax():
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


@pytest.mark.parametrize("geometric", [False, True])
def test_means_and_intervals_are_those_over_seeds(ax, geometric):
    rows = [{"n": n, "seed": seed, "error": (1 + seed) / n} for n in (4, 2) for seed in range(5)]
    rows.append({"n": 4, "seed": 9, "error": np.nan})
    means = geolib.convergence_plots.plot_means(ax, rows, "n", "error", label="ours", geometric=geometric)
    values = np.arange(1, 6) / 4
    span = student_t_interval(np.log(values) if geometric else values)
    low, mean, high = (np.exp(end) if geometric else end for end in (span.low, span.mean, span.high))
    assert means.index.tolist() == [2, 4]
    assert means[4] == pytest.approx(mean)
    (container,) = ax.containers
    assert container.get_label() == "ours"
    (bars,) = container.lines[2]
    np.testing.assert_allclose(bars.get_segments()[1], [[4, low], [4, high]])


def test_the_line_of_theory_has_its_slope_and_goes_through_its_point(ax):
    geolib.convergence_plots.plot_slope(ax, [1, 100, 10], (10, 5), -1)
    (line,) = ax.lines
    np.testing.assert_allclose(line.get_xydata(), [[1, 50], [100, 0.5]])
    assert line.get_label() == "slope \N{MINUS SIGN}1"


def test_ticks_are_plain_numbers_and_no_others(ax):
    ax.set_xscale("log")
    geolib.convergence_plots.label_ticks(ax.xaxis, [2, 30])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["2", "30"]
    assert len(ax.xaxis.get_minorticklocs()) == 0


def test_a_table_without_rows_draws_nothing(ax):
    empty = pd.DataFrame({"n": [], "error": []})
    assert len(geolib.convergence_plots.plot_means(ax, empty, "n", "error")) == 0
