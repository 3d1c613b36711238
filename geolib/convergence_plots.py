"""Drawing of how an error falls: means with intervals over seeds, and the slope that theory gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis

from geolib.plotting import COLOURS
from geolib.statistics import student_t_interval

__all__ = ["label_ticks", "plot_means", "plot_slope"]


def plot_means(
    ax: Axes, table: Any, x: str, y: str, *, label: str | None = None, geometric: bool = False, **look: Any
) -> pd.Series[float]:
    """Draw a quantity's mean over seeds with its 95% Student t interval, at each x.

    Parameters
    ----------
    ax
        Where to draw.
    table
        One row for each seed and x, a data frame or records, with columns of these names. Rows without a value are left
        out.
    x, y
        Columns of the abscissa and of the quantity.
    label
        For the legend.
    geometric
        Whether mean and interval are those of the logarithm, for what spans decades.
    look
        Of `Axes.errorbar`, over the book's own.

    Returns
    -------
    pandas.Series
        The means by x, ascending.
    """
    frame = pd.DataFrame(table)[[x, y]].dropna()
    if geometric:
        frame[y] = np.log(frame[y])
    spans = {at: student_t_interval(values.tolist()) for at, values in frame.groupby(x)[y]}
    ends = np.array([[span.low, span.mean, span.high] for span in spans.values()], dtype=float).reshape(-1, 3)
    low, mean, high = (np.exp(ends) if geometric else ends).T
    style: dict[str, Any] = {"marker": "o", "markersize": 4, "capsize": 3, "linewidth": 1.3} | look
    ax.errorbar(np.array(list(spans), dtype=float), mean, yerr=[mean - low, high - mean], label=label, **style)
    return pd.Series(mean, index=pd.Index(list(spans), name=x), name=y)


def plot_slope(ax: Axes, x: Sequence[float], at: tuple[float, float], power: float, *, label: str = "") -> None:
    """Draw the line of a power of x through a point, dashed: the slope that theory gives."""
    abscissa = np.array([min(x), max(x)], dtype=float)
    text = label or f"slope {power:g}".replace("-", "\N{MINUS SIGN}")
    line = at[1] * (abscissa / at[0]) ** power
    ax.plot(abscissa, line, color=COLOURS["null"], linestyle="--", linewidth=1.1, label=text)


def label_ticks(axis: Axis, values: Sequence[float]) -> None:
    """Put ticks at these values alone, in plain numbers, where a logarithmic axis would choose powers of ten."""
    axis.set_ticks(list(values), [f"{value:.6g}".replace("-", "\N{MINUS SIGN}") for value in values])
    axis.set_ticks([], minor=True)
