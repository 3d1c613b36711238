"""What is drawn is what was given: means, interval ends, colours, gaps."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from geolib import plotting, published, student_t_interval

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


def test_nulls_and_untrained_levels(ax, runs):
    plotting.plot_untrained(ax, runs, "ots")
    plotting.plot_null(ax, 0.25, "null: shuffled")
    means = runs.groupby("kind")["ots"].mean()
    drawn = {line.get_label(): (line.get_ydata()[0], line.get_color()) for line in ax.lines}
    assert drawn["ResNet, untrained"] == (means["resnet"], plotting.COLOURS["resnet"])
    assert drawn["plain network, untrained"] == (means["plain"], plotting.COLOURS["plain"])
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


def test_a_shared_legend_lists_each_entry_once(ax):
    figure, (left, right) = plt.subplots(1, 2)
    plotting.plot_null(left, 0, "a")
    plotting.plot_null(right, 1, "a")
    plotting.plot_null(right, 2, "b", style=":")
    plotting.shared_legend(ax, (left, right))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]
    assert not ax.axison
    plt.close(figure)
