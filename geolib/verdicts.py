"""How an interval judges a statement: the seed is the unit, and too few of them judge nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from geolib.statistics import Interval, student_t_interval

__all__ = ["MINIMUM_SEEDS", "direction", "paired_verdict", "verdict"]

#: Fewer seeds than this judge nothing.
MINIMUM_SEEDS = 5


def verdict(interval: Interval, *, above: float | None = None, below: float | None = None) -> str:
    """Judge the statement that a mean lies above, or below, a bound.

    ``supported`` if the whole interval satisfies it, ``refuted`` if the whole interval lies on the other side,
    ``undetermined`` if the interval holds the bound, ``too few seeds`` under five.
    """
    if (above is None) == (below is None):
        raise ValueError(f"a statement has one bound; got above={above}, below={below}")
    if interval.count < MINIMUM_SEEDS:
        return "too few seeds"
    low, high = interval.low, interval.high
    if above is None:
        assert below is not None
        low, high, above = -high, -low, -below
    return "supported" if low > above else "refuted" if high < above else "undetermined"


def paired_verdict(higher: Sequence[float], lower: Sequence[float]) -> str:
    """Judge the statement that one mean lies above another, from values paired by seed.

    The verdict on the mean difference being above zero; ``no verdict`` if a run has no value (NaN): leaving its seed
    out would judge only the runs that went well.
    """
    difference = np.asarray(higher, dtype=np.float64) - np.asarray(lower, dtype=np.float64)
    if not np.isfinite(difference).all():
        return "no verdict"
    return verdict(student_t_interval(difference.tolist()), above=0)


def direction(difference: float, error: float) -> str:
    """Say whether a published difference is above zero, given how exactly it could be read.

    ``supported`` above `error`, ``refuted`` below ``-error``, else ``undetermined``.
    """
    return "supported" if difference > error else "refuted" if difference < -error else "undetermined"
