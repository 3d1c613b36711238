"""What is drawn is what was given: means, interval ends, colours, gaps."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.collections import PathCollection

from geolib import plotting, published, shifts, student_t_interval

mpl.use("agg")


@pytest.fixture
def ax():
    plotting.set_style()
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


@pytest.fixture
def runs() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        {"kind": kind, "weight_decay": decay, "seed": seed, "ots": rng.random(), "ots_upper": 1.5}
        for kind in ("resnet", "plain")
        for decay in (0.01, 0)
        for seed in range(5)
    ]
    return pd.DataFrame(rows)


def test_means_and_student_intervals_are_drawn_in_order_of_weight_decay(ax, runs):
    plotting.plot_over_weight_decay(ax, runs, "ots", upper="ots_upper")
    assert [text.get_text() for text in ax.get_xticklabels()] == ["0", "0.01"]
    for container, kind in zip(ax.containers, ("resnet", "plain"), strict=True):
        line, _, (bars,) = container.lines
        assert line.get_color() == plotting.COLOURS[kind]
        for position, decay in enumerate((0, 0.01)):
            arm = runs[(runs["kind"] == kind) & (runs["weight_decay"] == decay)]
            interval = student_t_interval(arm["ots"].tolist())
            assert line.get_ydata()[position] == pytest.approx(interval.mean)
            assert bars.get_segments()[position][:, 1] == pytest.approx([interval.low, interval.high])
    assert len(ax.collections) == 4  # two sets of bars, two shaded ranges up to ots_upper
    assert ax.collections[1].get_paths()[0].vertices[:, 1].max() == 1.5


def test_a_weight_decay_with_a_missing_run_is_a_gap(ax, runs):
    runs.loc[0, "ots"] = np.nan
    plotting.plot_over_weight_decay(ax, runs, "ots")
    y = ax.containers[0].lines[0].get_ydata()
    assert np.isnan(y[1])
    assert np.isfinite(y[0])


def test_on_a_logarithmic_axis_zero_stands_apart_and_no_curve_crosses_the_break(ax, runs):
    more = runs[runs["weight_decay"] > 0].assign(weight_decay=1.0)
    plotting.plot_over_weight_decay(ax, pd.concat([more, runs]), "ots", upper="ots_upper", log=True)
    for container, kind in zip(ax.containers, ("resnet", "plain"), strict=True):
        x, y = container.lines[0].get_data()
        assert x[3] - x[2] == pytest.approx(2)  # decades from 0.01 to 1
        assert x[2] - x[0] >= 0.5  # far enough for the break
        assert np.isnan([x[1], y[1]]).all()  # between zero and 0.01
        arm = runs[(runs["kind"] == kind) & (runs["weight_decay"] == 0)]
        assert y[0] == pytest.approx(arm["ots"].mean())
    ticks = dict(zip((text.get_text() for text in ax.get_xticklabels()), ax.get_xticks(), strict=True))
    assert ticks == {"0": pytest.approx(x[0], abs=0.1), "$10^{-2}$": -2, "$10^{-1}$": -1, "$10^{0}$": 0}
    strokes = [line for line in ax.lines if line.get_transform() == ax.get_xaxis_transform()]
    assert len(strokes) == 2
    assert all(ticks["0"] < min(line.get_xdata()) and max(line.get_xdata()) < -2 for line in strokes)


def test_a_logarithmic_axis_without_zero_has_no_break(ax, runs):
    runs = runs[runs["weight_decay"] > 0]
    plotting.plot_over_weight_decay(ax, runs.assign(weight_decay=0.005), "ots", log=True)
    assert [text.get_text() for text in ax.get_xticklabels()] == ["0.005"]  # no power of ten in reach
    assert np.isfinite(ax.containers[0].lines[0].get_ydata()).all()
    assert not [line for line in ax.lines if line.get_transform() == ax.get_xaxis_transform()]


def test_networks_without_a_score_are_marked_with_their_number_and_get_no_point(ax, runs):
    lost = (runs["kind"] == "plain") & (runs["weight_decay"] == 0.01)
    runs.loc[lost & (runs["seed"] < 3), "ots"] = np.nan
    plotting.plot_over_weight_decay(ax, runs, "ots", log=True)
    drawn = ax.containers[1].lines[0].get_ydata()
    assert np.isfinite(drawn[0])
    assert np.isnan(drawn[2])
    before = len(ax.collections)
    plotting.mark_missing(ax, runs, "ots")
    resnet, plain = ax.collections[before:]
    assert len(resnet.get_offsets()) == 0
    (mark,) = plain.get_offsets()
    assert mark[0] == -2
    assert 0 < mark[1] < 0.1  # of the panel's height, whatever the score's scale
    assert [text.get_text() for text in ax.texts] == ["3/5"]
    labels = ax.get_legend_handles_labels()[1]
    assert "plain network, dead or diverged" in labels
    assert "ResNet, dead or diverged" not in labels


def test_a_published_curve_has_its_reading_error_and_stands_where_ours_does(ax):
    curve = {"lss": {"value": [3.0, 2.0]}}
    place = {"weight_decays": [1e-3, 1e-1], "unnamed": curve, "reading_error": {"lss": 0.25}}
    plotting.plot_published_curve(ax, place, "lss")
    (container,) = ax.containers
    line, _, (bars,) = container.lines
    assert line.get_xdata().tolist() == [-3, -1]
    assert line.get_ydata().tolist() == [3, 2]
    assert bars.get_segments()[0][:, 1].tolist() == [2.75, 3.25]


def test_shifts_are_drawn_with_their_intervals_and_a_cross_where_there_is_none(ax):
    values = {"baseline": (1, 1, 1), "a": (2, 3, 4), "b": (1, 1, np.nan)}
    found = [
        {"variation": name, "kind": kind, "seed": seed, "lss": value}
        for kind in ("resnet", "plain")
        for name, each in values.items()
        for seed, value in enumerate(each)
    ]
    table = pd.DataFrame(shifts(found, ["lss"], baseline="baseline"))
    plotting.plot_shifts(ax, table, ["b", "a"])
    assert [text.get_text() for text in ax.get_yticklabels()] == ["b", "a"]
    assert ax.yaxis_inverted()  # the first on top
    interval = student_t_interval([1, 2, 3])
    for container, kind in zip(ax.containers, ("resnet", "plain"), strict=True):
        line, _, (bars,) = container.lines
        assert line.get_color() == plotting.COLOURS[kind]
        place = dict(zip(np.round(line.get_ydata()), line.get_xdata(), strict=True))
        assert place[1] == 2
        assert np.isnan(place[0])
        assert next(list(part[:, 0]) for part in bars.get_segments() if len(part)) == [interval.low, interval.high]
    crosses = [mark.get_offsets()[0] for mark in ax.collections if isinstance(mark, PathCollection)]
    assert [round(y) for _, y in crosses] == [0, 0]


def test_nulls_and_untrained_levels(ax, runs):
    plotting.plot_untrained(ax, runs, "ots")
    plotting.plot_null(ax, 0.25, "null: shuffled")
    means = runs.groupby("kind")["ots"].mean()
    drawn = {line.get_label(): (line.get_ydata()[0], line.get_color()) for line in ax.lines}
    assert drawn["ResNet, untrained"] == (pytest.approx(means["resnet"]), plotting.COLOURS["resnet"])
    assert drawn["plain network, untrained"] == (pytest.approx(means["plain"]), plotting.COLOURS["plain"])
    assert drawn["null: shuffled"] == (0.25, plotting.COLOURS["null"])


def test_a_control_has_a_line_for_each_kind(ax, runs):
    plotting.plot_control(ax, runs, "ots", "pairing shuffled", style="--")
    for line, kind in zip(ax.lines, ("resnet", "plain"), strict=True):
        arm = runs[runs["kind"] == kind]
        means = [arm.loc[arm["weight_decay"] == decay, "ots"].mean() for decay in (0, 0.01)]
        assert line.get_ydata().tolist() == pytest.approx(means)
        assert line.get_linestyle() == "--"
        assert line.get_label().endswith("pairing shuffled")


@pytest.mark.parametrize("score", ["lss", "ots", "test_accuracy"])
def test_published_values_with_their_spread(ax, score):
    slide = published("slide_34")
    plotting.plot_published(ax, slide, score)
    for container, kind in zip(ax.containers, ("resnet", "plain"), strict=True):
        assert container.lines[0].get_ydata().tolist() == slide[kind][score]["value"]
        bars = container.lines[2]
        assert len(bars) == ("spread" in slide[kind][score])
        if bars:
            low, high = bars[0].get_segments()[-1][:, 1]
            assert (high - low) / 2 == pytest.approx(slide[kind][score]["spread"][-1])


def test_a_legend_below_lists_each_entry_once():
    figure, axes = plt.subplots(1, 2, layout="constrained")
    for panel in axes:
        plotting.plot_null(panel, 0, "a")
    plotting.legend_below(figure, axes)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a"]
    plt.close(figure)


def test_a_shared_legend_lists_each_entry_once(ax):
    figure, (left, right) = plt.subplots(1, 2)
    plotting.plot_null(left, 0, "a")
    plotting.plot_null(right, 1, "a")
    plotting.plot_null(right, 2, "b", style=":")
    plotting.shared_legend(ax, (left, right))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]
    assert not ax.axison
    plt.close(figure)
