"""The figures' one visual language: an architecture keeps its colour, every mean shows its interval."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from geolib.statistics import Interval, student_t_interval

__all__ = [
    "COLOURS",
    "LABELS",
    "plot_control",
    "plot_null",
    "plot_over_weight_decay",
    "plot_published",
    "plot_untrained",
    "set_style",
    "shared_legend",
]

_PALETTE = sns.color_palette("colorblind")
COLOURS = {"resnet": _PALETTE[0], "plain": _PALETTE[1], "null": (0.35, 0.35, 0.35)}
LABELS = {"resnet": "ResNet", "plain": "plain network"}
_SHIFT = {"resnet": -0.08, "plain": 0.08}


def set_style() -> None:
    """Set fonts, grid and resolution for every figure drawn after the call."""
    sizes = {"figure.dpi": 130, "axes.titlesize": 11, "axes.labelsize": 10, "legend.fontsize": 9}
    sns.set_theme(style="whitegrid", palette="colorblind", rc=sizes)


def plot_over_weight_decay(ax: Axes, runs: pd.DataFrame, score: str, *, upper: str | None = None) -> None:
    """Draw a score's mean over seeds with its 95% Student t interval, against weight decay.

    Parameters
    ----------
    ax
        Where to draw. The weight decays stand at equal distances, zero first.
    runs
        One row a run, with columns `kind` (a key of `COLOURS`), `weight_decay`, `seed` and the score.
    score
        Column to draw; a weight decay at which a run has no value is left out.
    upper
        Column of the largest value that ties allow; the range from `score` to it is shaded.
    """
    decays = sorted(runs["weight_decay"].unique())
    for kind, arm in runs.groupby("kind", sort=False):
        groups = [arm.loc[arm["weight_decay"] == decay] for decay in decays]
        intervals = [_interval(group[score]) for group in groups]
        x = np.arange(len(decays)) + _SHIFT[str(kind)]
        mean = np.array([interval.mean for interval in intervals])
        error = [mean - [i.low for i in intervals], [i.high for i in intervals] - mean]
        style = {"color": COLOURS[str(kind)], "marker": "o", "markersize": 4, "capsize": 3, "linewidth": 1.4}
        ax.errorbar(x, mean, yerr=error, label=LABELS[str(kind)], **style)
        if upper is not None:
            ax.fill_between(x, mean, [group[upper].mean() for group in groups], color=COLOURS[str(kind)], alpha=0.25)
    _label_weight_decays(ax, decays)


def _interval(values: pd.Series[float]) -> Interval:
    """Return the interval, or a gap in the curve where a run has no value."""
    if values.isna().any():
        return Interval(np.nan, np.nan, np.nan, 0)
    return student_t_interval(values.tolist())


def plot_null(ax: Axes, value: float, label: str, *, kind: str = "null", style: str = "--") -> None:
    """Draw a level that a score must be read against: a null, or the untrained networks of one kind."""
    ax.axhline(value, color=COLOURS[kind], linestyle=style, linewidth=1.2, label=label)


def plot_untrained(ax: Axes, untrained: pd.DataFrame, score: str) -> None:
    """Draw, for each kind of network, a score's mean over the seeds of the untrained networks."""
    for kind, value in untrained.groupby("kind", sort=False)[score].mean().items():
        plot_null(ax, value, f"{LABELS[str(kind)]}, untrained", kind=str(kind), style=":")


def plot_control(ax: Axes, runs: pd.DataFrame, column: str, label: str, *, style: str) -> None:
    """Draw, for each kind of network and against weight decay, the mean over seeds of what a control scores."""
    for kind, means in runs.groupby(["kind", "weight_decay"], sort=False)[column].mean().groupby("kind", sort=False):
        means = means.sort_index(level="weight_decay")
        look = {"color": COLOURS[str(kind)], "linestyle": style, "linewidth": 1.2, "marker": "."}
        ax.plot(range(len(means)), means, label=f"{LABELS[str(kind)]}, {label}", **look)


def plot_published(ax: Axes, place: Mapping[str, Any], score: str) -> None:
    """Draw a score as published, with the slide's own error bars where it has some."""
    for kind in ("resnet", "plain"):
        entry = place[kind][score]
        x = np.arange(len(entry["value"])) + _SHIFT[kind]
        style = {"color": COLOURS[kind], "marker": "s", "markersize": 4, "capsize": 3, "linewidth": 1.4}
        ax.errorbar(x, entry["value"], yerr=entry.get("spread"), label=LABELS[kind], **style)
    _label_weight_decays(ax, place["weight_decays"])


def shared_legend(ax: Axes, sources: Iterable[Axes]) -> None:
    """Use an empty cell of a grid of panels for one legend of all that `sources` show."""
    entries: dict[str, Any] = {}
    for source in sources:
        handles, labels = source.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    ax.set_axis_off()
    ax.legend(entries.values(), entries.keys(), loc="center")


def _label_weight_decays(ax: Axes, decays: Sequence[float]) -> None:
    ax.set_xticks(range(len(decays)), [f"{decay:g}" for decay in decays])
    ax.set_xlabel(r"weight decay $\gamma$")
