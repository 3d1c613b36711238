"""Intervals over seeds: the seed is the unit of every statement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

__all__ = ["Interval", "format_interval", "student_t_interval"]


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval.

    Attributes
    ----------
    mean, low, high
        Mean and interval ends, in the unit of the values.
    count
        Number of values behind it.
    """

    mean: float
    low: float
    high: float
    count: int


def student_t_interval(values: Sequence[float], *, level: float = 0.95) -> Interval:
    r"""Return Student's t interval for the mean of independent values.

    .. math:: \bar v \pm t_{n-1,\,(1+\mathrm{level})/2} \; s / \sqrt n

    with the sample standard deviation s :cite:`student1908probable`. A comparison of two arms that share their seeds
    passes the differences, one a seed.

    Raises
    ------
    ValueError
        For fewer than two values (they have no spread), values that are not finite, or a level outside (0, 1).
    """
    v = np.asarray(values, dtype=np.float64)
    if v.ndim != 1 or len(v) < 2:
        raise ValueError(f"an interval needs a list of at least two values, one a seed; got shape {v.shape}")
    if not np.isfinite(v).all():
        raise ValueError(f"an interval needs finite values; got {values}")
    if not 0 < level < 1:
        raise ValueError(f"level is a probability in (0, 1); got {level}")
    mean, half = v.mean(), stats.t.ppf((1 + level) / 2, len(v) - 1) * v.std(ddof=1) / np.sqrt(len(v))
    return Interval(float(mean), float(mean - half), float(mean + half), len(v))


def format_interval(values: Sequence[float], *, digits: int = 3) -> str:
    """Write a mean over seeds and half its 95% Student t interval as ``0.957 ± 0.012``.

    ``no scores`` if a value is missing (NaN).
    """
    v = np.asarray(values, dtype=np.float64)
    if np.isnan(v).any():
        return "no scores"
    interval = student_t_interval(v.tolist())
    return f"{interval.mean:.{digits}f} ± {interval.high - interval.mean:.{digits}f}"
