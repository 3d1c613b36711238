"""The figures' one visual language: an architecture keeps its colour, measured means their intervals, controls none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from geolib.statistics import Interval, student_t_interval

__all__ = [
    "COLOURS",
    "LABELS",
    "gapped_interval",
    "legend_below",
    "mark_missing",
    "plot_control",
    "plot_null",
    "plot_over_weight_decay",
    "plot_published",
    "plot_published_curve",
    "plot_shifts",
    "plot_untrained",
    "set_style",
    "shared_legend",
]

_PALETTE = sns.color_palette("colorblind")
COLOURS = {"resnet": _PALETTE[0], "plain": _PALETTE[1], "null": (0.35, 0.35, 0.35)}
LABELS = {"resnet": "ResNet", "plain": "plain network"}
_SHIFT = {"resnet": -0.08, "plain": 0.08}
#: Decades between zero, which a logarithmic axis does not have, and the smallest weight decay above it.
_BREAK = 0.8


def set_style() -> None:
    """Set fonts, grid and resolution for every figure drawn after the call."""
    sizes = {"figure.dpi": 130, "axes.titlesize": 11, "axes.labelsize": 10, "legend.fontsize": 9}
    sns.set_theme(style="whitegrid", palette="colorblind", rc=sizes)


def plot_over_weight_decay(
    ax: Axes, runs: pd.DataFrame, score: str, *, upper: str | None = None, log: bool = False
) -> None:
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
    log
        Whether the weight decays stand on a logarithmic axis instead, with zero apart, left of a break that no curve
        crosses.
    """
    decays = sorted(runs["weight_decay"].unique())
    places = _places(decays, log)
    for kind, arm in runs.groupby("kind", sort=False):
        groups = [arm.loc[arm["weight_decay"] == decay] for decay in decays]
        intervals = [gapped_interval(group[score], arm["seed"].nunique()) for group in groups]
        x = places + _SHIFT[str(kind)] * (0.5 if log else 1)
        top = [group[upper or score].mean() for group in groups]
        ends = [[getattr(interval, end) for interval in intervals] for end in ("mean", "low", "high")]
        x, mean, low, high, most = (_parted(np.array(curve), decays, log) for curve in (x, *ends, top))
        style = {"color": COLOURS[str(kind)], "marker": "o", "markersize": 4, "capsize": 3, "linewidth": 1.4}
        ax.errorbar(x, mean, yerr=[mean - low, high - mean], label=LABELS[str(kind)], **style)
        if upper is not None:
            ax.fill_between(x, mean, most, color=COLOURS[str(kind)], alpha=0.25)
    (_label_log_weight_decays if log else _label_weight_decays)(ax, decays)


def mark_missing(ax: Axes, runs: pd.DataFrame, score: str) -> None:
    """Mark each weight decay of a logarithmic axis at which networks have no value of a score, with their number.

    Such networks diverged or are dead. The marks stand at the lower edge: a cross, and how many of how many. The axis
    should begin below the score's least value, so that no mark can be taken for a score.
    """
    decays = sorted(runs["weight_decay"].unique())
    places = dict(zip(decays, _places(decays, log=True), strict=True))
    for row, (kind, arm) in enumerate(runs.groupby("kind", sort=False)):
        counts = arm.groupby("weight_decay")[score].agg(lambda values: values.isna().sum())
        counts = counts[counts > 0]
        edge = ax.get_xaxis_transform()
        height = 0.03 + 0.055 * row
        label = f"{LABELS[str(kind)]}, dead or diverged" if len(counts) else None
        x, look = [places[decay] for decay in counts.index], {"color": COLOURS[str(kind)], "transform": edge}
        ax.scatter(x, [height] * len(x), marker="x", s=20, label=label, **look)
        for decay, count in counts.items():
            text = f"{count:.0f}/{(arm['weight_decay'] == decay).sum()}"
            ax.annotate(
                text, (places[decay], height), xycoords=edge, xytext=(-4, 0), textcoords="offset points",
                fontsize=6, ha="right", va="center", color=COLOURS[str(kind)],
            )  # fmt: skip


def gapped_interval(values: pd.Series[float], seeds: int) -> Interval:
    """Return the interval, or a gap (NaN) where one of so many seeds has no value: the others would tell too much."""
    if values.notna().sum() < seeds:
        return Interval(np.nan, np.nan, np.nan, 0)
    return student_t_interval(values.tolist())


def plot_null(ax: Axes, value: float, label: str, *, kind: str = "null", style: str = "--") -> None:
    """Draw a level that a score must be read against: a null, or the untrained networks of one kind."""
    ax.axhline(value, color=COLOURS[kind], linestyle=style, linewidth=1.2, label=label)


def plot_untrained(ax: Axes, untrained: pd.DataFrame, score: str) -> None:
    """Draw, for each kind of network, a score's mean over the untrained networks; nothing where one has no value."""
    for kind, value in untrained.groupby("kind", sort=False)[score].agg(_whole_mean).items():
        plot_null(ax, value, f"{LABELS[str(kind)]}, untrained", kind=str(kind), style=":")


def plot_control(ax: Axes, runs: pd.DataFrame, column: str, label: str, *, style: str) -> None:
    """Draw, for each kind of network and against weight decay, the mean over seeds of what a control scores.

    A weight decay at which a run has no control is left out.
    """
    every = runs.groupby(["kind", "weight_decay"], sort=False)[column].agg(_whole_mean)
    for kind, means in every.groupby("kind", sort=False):
        means = means.sort_index(level="weight_decay")
        look = {"color": COLOURS[str(kind)], "linestyle": style, "linewidth": 1.2, "marker": "."}
        ax.plot(range(len(means)), means, label=f"{LABELS[str(kind)]}, {label}", **look)


def _whole_mean(values: pd.Series[float]) -> float:
    return float(values.mean(skipna=False))


def plot_published(ax: Axes, place: Mapping[str, Any], score: str) -> None:
    """Draw a score as published, with the slide's own error bars where it has some."""
    for kind in ("resnet", "plain"):
        entry = place[kind][score]
        x = np.arange(len(entry["value"])) + _SHIFT[kind]
        style = {"color": COLOURS[kind], "marker": "s", "markersize": 4, "capsize": 3, "linewidth": 1.4}
        ax.errorbar(x, entry["value"], yerr=entry.get("spread"), label=LABELS[kind], **style)
    _label_weight_decays(ax, place["weight_decays"])


def plot_published_curve(ax: Axes, place: Mapping[str, Any], score: str) -> None:
    """Draw a published curve of a network without a name on a logarithmic axis; bars are the reading error."""
    decays = list(place["weight_decays"])
    style = {"color": COLOURS["null"], "marker": "s", "markersize": 4, "capsize": 3, "linewidth": 1.4}
    error = place["reading_error"][score]
    ax.errorbar(
        _places(decays, log=True),
        place["unnamed"][score]["value"],
        yerr=error,
        label="published, network not named",
        **style,
    )
    _label_log_weight_decays(ax, decays)


def plot_shifts(ax: Axes, shifts: pd.DataFrame, order: Sequence[str]) -> None:
    """Draw how far each variation moves a score: mean and interval, one row a variation, the first on top.

    Parameters
    ----------
    ax
        Where to draw; a line marks no shift.
    shifts
        One row a variation and kind, with columns `variation`, `kind`, `mean`, `low` and `high`, as `shifts` in
        `geolib` returns them for one score. Without a mean, because networks have no value, a cross marks the row.
    order
        The variations to draw.
    """
    ax.axvline(0, color=COLOURS["null"], linewidth=1)
    for kind, arm in shifts.groupby("kind", sort=False):
        arm = arm.set_index("variation").reindex([name for name in order if name in set(arm["variation"])])
        y = np.array([order.index(str(name)) for name in arm.index]) + _SHIFT[str(kind)]
        look = {"color": COLOURS[str(kind)], "marker": "o", "markersize": 3.5, "capsize": 2, "linestyle": "none"}
        mean = arm["mean"].to_numpy(dtype=float)
        error = [mean - arm["low"].to_numpy(dtype=float), arm["high"].to_numpy(dtype=float) - mean]
        ax.errorbar(mean, y, xerr=error, label=LABELS[str(kind)], **look)
        gone = y[np.isnan(mean)]
        mark = {"color": COLOURS[str(kind)], "marker": "x", "s": 18, "transform": ax.get_yaxis_transform()}
        ax.scatter([0.02 if kind == "resnet" else 0.06] * len(gone), gone, **mark)
    ax.set_yticks(range(len(order)), order)
    ax.set_ylim(len(order) - 0.5, -0.5)


def shared_legend(ax: Axes, sources: Iterable[Axes]) -> None:
    """Use an empty cell of a grid of panels for one legend of all that `sources` show."""
    entries = _entries(sources)
    ax.set_axis_off()
    ax.legend(entries.values(), entries.keys(), loc="center")


def legend_below(figure: Figure, sources: Iterable[Axes], *, columns: int = 4) -> None:
    """Put one legend of all that `sources` show below the panels of a figure with constrained layout."""
    entries = _entries(sources)
    figure.legend(list(entries.values()), list(entries), loc="outside lower center", ncols=columns)


def _entries(sources: Iterable[Axes]) -> dict[str, Any]:
    """Return what stands in the legends of panels, each label once."""
    entries: dict[str, Any] = {}
    for source in sources:
        handles, labels = source.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    return entries


def _label_weight_decays(ax: Axes, decays: Sequence[float]) -> None:
    ax.set_xticks(range(len(decays)), [f"{decay:g}" for decay in decays])
    ax.set_xlabel(r"weight decay $\gamma$")


def _places(decays: Sequence[float], log: bool) -> np.ndarray:
    """Return where weight decays in rising order stand on the axis: at equal distances, or zero and then decades."""
    if not log:
        return np.arange(len(decays), dtype=float)
    above = np.log10([decay for decay in decays if decay > 0])
    start = above[0] - _BREAK if len(above) else 0.0
    return np.concatenate([[start] * (len(decays) - len(above)), above])


def _parted(curve: np.ndarray, decays: Sequence[float], log: bool) -> np.ndarray:
    """Part a curve after zero on a logarithmic axis."""
    return np.insert(curve, 1, np.nan) if log and decays[0] == 0 else curve


def _label_log_weight_decays(ax: Axes, decays: Sequence[float]) -> None:
    places = _places(decays, log=True)
    above = [decay for decay in decays if decay > 0]
    powers = [10.0**k for k in range(-12, 3) if above and above[0] <= 10.0**k * (1 + 1e-9) <= above[-1] * (1 + 2e-9)]
    shown = powers or above
    ticks = {np.log10(value): f"$10^{{{np.log10(value):.0f}}}$" if powers else f"{value:g}" for value in shown}
    if len(above) < len(decays):
        ticks = {places[0]: "0"} | ticks
        # Two strokes through the axis, where it leaves the logarithmic scale.
        look = {"color": COLOURS["null"], "transform": ax.get_xaxis_transform(), "clip_on": False, "linewidth": 1}
        for shift in (0.45, 0.55):
            middle = places[0] + shift * _BREAK
            ax.plot([middle - 0.03, middle + 0.03], [-0.02, 0.02], **look)
    ax.set_xticks(list(ticks), list(ticks.values()))
    ax.set_xticks(places, minor=True)
    ax.tick_params(axis="x", which="minor", bottom=True, length=3)
    ax.set_xlabel(r"weight decay $\gamma$")
