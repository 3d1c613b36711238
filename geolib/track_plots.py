"""Figures of tracks in the plane, drawn from a chapter's numbers, whichever run they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import patheffects
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from geolib.player import CLASS_COLOURS, track_player
from geolib.plotting import COLOURS, LABELS, gapped_interval, set_style
from geolib.projection import unpack_tracks
from geolib.statistics import format_interval

__all__ = ["plot_tracks", "tracks_figure", "training_curves", "training_figure", "training_player"]

Numbers = Mapping[str, Any]
_COURSES = {"lss": "LSS", "ots": "OTS", "train_accuracy": "training accuracy", "test_accuracy": "test accuracy"}
_WALKS = ["walk_lss", "walk_ots"]


def plot_tracks(ax: Axes, paths: Any, labels: Sequence[int], *, size: float = 8) -> None:
    """Draw tracks in the plane, coloured by class: a line each, a dot at its end.

    The class is written at the mean of its tracks' ends, so that nothing rests on colour alone.

    Parameters
    ----------
    ax
        Where to draw; both axes get one scale and no ticks: a projection's coordinates mean nothing by themselves.
    paths
        Shape (layers + 1, points, 2).
    labels
        Class of each point.
    size
        Of the classes' names, in points.
    """
    paths, of_class = np.asarray(paths), np.asarray(labels)
    for k, label in enumerate(np.unique(of_class)):
        colour = CLASS_COLOURS[k % len(CLASS_COLOURS)]
        own = paths[:, of_class == label]
        ax.plot(own[..., 0], own[..., 1], color=colour, linewidth=0.7, alpha=0.6)
        ax.scatter(own[-1, :, 0], own[-1, :, 1], color=colour, s=6, linewidths=0, zorder=3)
        x, y = own[-1].mean(0)
        text = ax.text(x, y, str(label), weight="bold", size=size, ha="center", va="center", zorder=4)
        text.set_path_effects([patheffects.withStroke(linewidth=2, foreground="white")])
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_aspect("equal", adjustable="datalim")


def _plot_panel(
    ax: Axes, panel: Mapping[str, Any] | None, labels: Sequence[int], name: str, scores: str, **look: Any
) -> None:
    if panel is None:
        ax.text(0.5, 0.5, "no tracks: this network\ndiverged or is dead", ha="center", transform=ax.transAxes)
        ax.set_title(name, fontsize=9)
        ax.set_xticks([])
        ax.set_yticks([])
        return
    plot_tracks(ax, unpack_tracks(panel["tracks"]), labels, **look)
    ax.set_title(f"{name}\n{scores}\n{panel['variance_explained']:.0%} of variance", fontsize=9)


def tracks_figure(numbers: Numbers) -> Figure:
    """Draw the numbers of the chapter ``figures/tracks``: the chosen network, what it is compared with, every decay."""
    set_style()
    panels = {(panel["state"], panel["kind"], panel["weight_decay"]): panel for panel in numbers["panels"]}
    runs, fresh = pd.DataFrame(numbers["runs"]), pd.DataFrame(numbers["untrained"])
    best, decays = numbers["best"]["resnet"], sorted(runs.loc[runs["kind"] == "resnet", "weight_decay"].unique())
    walks = runs[runs["kind"] == "resnet"].drop(columns=["lss", "ots"], errors="ignore")
    walks = walks.rename(columns={"walk_lss": "lss", "walk_ots": "ots"})

    def draw(ax: Axes, state: str, kind: str, decay: float | None, name: str, **look: Any) -> None:
        table = {"trained": runs, "untrained": fresh, "walk": walks}[state]
        own = table[table["kind"] == kind]
        own = (own if decay is None else own[own["weight_decay"] == decay]).reindex(columns=["lss", "ots"])
        lss, ots = (format_interval(own[score].tolist(), digits=2) for score in ("lss", "ots"))
        _plot_panel(ax, panels.get((state, kind, decay)), numbers["labels"], name, f"LSS {lss}, OTS {ots}", **look)

    fig = plt.figure(figsize=(11, 9.2), layout="constrained")
    top, bottom = np.asarray(fig.subfigures(2, 1, height_ratios=(2.3, 1)))
    ax = top.subplot_mosaic("AABC;AADE")
    draw(ax["A"], "trained", "resnet", best, rf"ResNet, $\gamma$ = {best:g}, best on held-out points", size=14)
    draw(ax["B"], "untrained", "resnet", None, "ResNet, untrained")
    draw(ax["C"], "walk", "resnet", best, "random walk, same starts and steps")
    draw(ax["D"], "trained", "plain", best, rf"plain network, $\gamma$ = {best:g}")
    draw(ax["E"], "untrained", "plain", None, "plain network, untrained")
    for small, decay in zip(bottom.subplots(1, len(decays), squeeze=False)[0], decays, strict=True):
        draw(small, "trained", "resnet", decay, rf"ResNet, $\gamma$ = {decay:g}")
    return fig


def _arm_name(kind: str, decay: float) -> str:
    return rf"{LABELS[kind]}, $\gamma$ = {decay:g}"


def training_figure(numbers: Numbers) -> Figure:
    """Draw the tracks of ``figures/training``: a row an arm, a column a moment, one projection and scale a row."""
    set_style()
    moments, pictures = [0, *numbers["moments"]], numbers["pictures"]
    size = (2 * len(moments) + 0.5, 2.5 * len(pictures) + 0.3)
    fig, axes = plt.subplots(len(pictures), len(moments), figsize=size, squeeze=False, layout="constrained")
    for row, picture in zip(axes, pictures, strict=True):
        panels = _frames(picture)
        for ax, epoch in zip(row, moments, strict=True):
            _plot_panel(ax, panels.get(epoch), numbers["labels"], _moment(epoch), _scores_at(numbers, picture, epoch))
        _share_limits(row, [unpack_tracks(panels[epoch]["tracks"]) for epoch in moments if epoch in panels])
        row[0].set_ylabel(_arm_name(picture["kind"], picture["weight_decay"]))
    return fig


def training_player(numbers: Numbers, picture: Mapping[str, Any]) -> str:
    """Return the animation of one of the pictures of ``figures/training`` as HTML, see `track_player`."""
    panels = _frames(picture)
    return track_player(
        [unpack_tracks(panel["tracks"]) for panel in panels.values()],
        numbers["labels"],
        [_moment(epoch) for epoch in panels],
        notes=[_scores_at(numbers, picture, epoch) for epoch in panels],
        title=f"Tracks of {len(numbers['labels'])} test points during training, coloured by class: "
        f"{LABELS[picture['kind']]} with weight decay {picture['weight_decay']:g}",
    )


def _frames(picture: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """Return a picture's panels by epoch; none if its network died or diverged."""
    columns = [picture.get(name, []) for name in ("epochs", "tracks", "variance_explained")]
    return {
        epoch: {"tracks": tracks, "variance_explained": share} for epoch, tracks, share in zip(*columns, strict=True)
    }


def _moment(epoch: int) -> str:
    return f"epoch {epoch}" if epoch else "untrained"


def _scores_at(numbers: Numbers, picture: Mapping[str, Any], epoch: int) -> str:
    """Return the scores of the network whose tracks are drawn, at an epoch."""
    keys = {"kind": picture["kind"], "weight_decay": picture["weight_decay"], "seed": picture["seed"], "epoch": epoch}
    own: Mapping[str, Any] = next((record for record in numbers["course"] if keys.items() <= record.items()), {})
    return f"LSS {own['lss']:.2f}, OTS {own['ots']:.2f}" if {"lss", "ots"} <= own.keys() else "no scores"


def _share_limits(row: Sequence[Axes], paths: Sequence[np.ndarray]) -> None:
    """Give panels the limits that hold all of their tracks."""
    if not paths:
        return
    low = np.min([path.min((0, 1)) for path in paths], axis=0)
    high = np.max([path.max((0, 1)) for path in paths], axis=0)
    middle, half = (low + high) / 2, 0.55 * (high - low).max()
    for ax in row:
        ax.set_aspect("equal", adjustable="box")
        ax.set_xlim(middle[0] - half, middle[0] + half)
        ax.set_ylim(middle[1] - half, middle[1] + half)


def training_curves(numbers: Numbers) -> Figure:
    """Draw the scores and accuracies of ``figures/training`` against epoch, with 95% Student t intervals over seeds.

    An epoch at which a run of an arm has no value is a gap in the arm's curve.
    """
    set_style()
    keys = ["kind", "weight_decay", "seed", "epoch"]
    course = pd.DataFrame(numbers["course"]).reindex(columns=[*keys, *_COURSES, *_WALKS])
    fig, axes = plt.subplots(2, 2, figsize=(9, 6.5), layout="constrained")
    for ax, (score, title) in zip(axes.flat, _COURSES.items(), strict=True):
        for arm in numbers["pictures"]:
            kind, decay = arm["kind"], arm["weight_decay"]
            own = course[(course["kind"] == kind) & (course["weight_decay"] == decay)]
            style = {"color": COLOURS[kind], "linestyle": "-" if decay else "--", "label": _arm_name(kind, decay)}
            _plot_course(ax, own, score, style)
        ax.set_xscale("symlog", linthresh=1, linscale=0.4)
        ax.set_xlim(left=0)
        ticks = [0, *numbers["moments"]]
        # Where the next tick is near on this axis, its number stands for both.
        crowded = [tick > 0 and 1 < after / tick < 1.4 for tick, after in zip(ticks, [*ticks[1:], 0], strict=True)]
        names = ["" if skip else str(tick) for tick, skip in zip(ticks, crowded, strict=True)]
        ax.set_xticks(ticks, names, fontsize=8)
        ax.minorticks_off()
        ax.set_xlabel("epoch (0: untrained)")
        ax.set_ylabel(title)
    decayed = course[(course["kind"] == "resnet") & (course["weight_decay"] > 0)]
    style = {"color": COLOURS["null"], "linestyle": ":", "label": "random walks like the ResNet's"}
    for ax, score in zip(axes.flat, _WALKS, strict=False):
        _plot_course(ax, decayed, score, style)
    axes[0, 0].set_yscale("log")  # from a straight track's 1 to the plain network's n
    axes[0, 0].set_yticks([1, 1.5, 2, 3, 5, 10], ["1", "1.5", "2", "3", "5", "10"])
    handles, names = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, names, loc="outside lower center", ncols=2)
    return fig


def _plot_course(ax: Axes, arm: pd.DataFrame, score: str, style: Mapping[str, Any]) -> None:
    """Draw a score's mean and interval against epoch, with a gap where a run has no value."""
    epochs = sorted(arm["epoch"].unique().tolist())
    curve = []
    for epoch in epochs:
        interval = gapped_interval(arm.loc[arm["epoch"] == epoch, score], arm["seed"].nunique())
        curve.append((interval.mean, interval.low, interval.high))
    mean, low, high = np.array(curve).T
    ax.plot(epochs, mean, linewidth=1.4, **style)
    ax.fill_between(epochs, low, high, color=style["color"], alpha=0.2, linewidth=0)
