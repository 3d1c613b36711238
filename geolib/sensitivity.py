"""How far a score moves when one setting is changed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from geolib.statistics import student_t_interval

__all__ = ["shift_ranges", "shifts"]


def shifts(runs: Sequence[Mapping[str, Any]], metrics: Sequence[str], *, baseline: str) -> list[dict[str, Any]]:
    """Compare each variation with the baseline, seed by seed.

    Parameters
    ----------
    runs
        Records of networks with ``variation``, ``kind``, ``seed`` and those of the metrics that the network has.
    metrics
        What to compare.
    baseline
        The variation that the others are compared with, for each kind.

    Returns
    -------
    list of dict
        For each variation, kind and metric, in the order of the runs: these three, ``seeds``, ``missing`` (seeds at
        which the variation or the baseline has no value), and the ``mean`` difference, variation minus baseline, with
        the ends ``low`` and ``high`` of its 95% Student t interval over seeds. With a value missing these three are
        absent: leaving the seed out would tell only of the runs that went well.

    Raises
    ------
    ValueError
        If a kind's baseline was not run with the seeds of a variation.
    """
    arms: dict[tuple[str, str], dict[int, Mapping[str, Any]]] = {}
    for run in runs:
        arms.setdefault((run["variation"], run["kind"]), {})[run["seed"]] = run
    found = []
    for (variation, kind), arm in arms.items():
        if variation == baseline:
            continue
        base = arms.get((baseline, kind), {})
        if base.keys() != arm.keys():
            raise ValueError(
                f"{variation}, {kind}: seeds {sorted(arm)} cannot be paired with the baseline's {sorted(base)}"
            )
        for metric in metrics:
            pairs = [(arm[seed].get(metric, math.nan), base[seed].get(metric, math.nan)) for seed in arm]
            differences = [changed - unchanged for changed, unchanged in pairs]
            missing = sum(not math.isfinite(difference) for difference in differences)
            row = {"variation": variation, "kind": kind, "metric": metric, "seeds": len(arm), "missing": missing}
            if not missing:
                interval = student_t_interval(differences)
                row |= {"mean": interval.mean, "low": interval.low, "high": interval.high}
            found.append(row)
    return found


def shift_ranges(shifts: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Return for each kind and metric the lowest and the highest mean shift over all variations.

    The baseline counts as a shift of zero, so that the range always holds it; a variation without a mean does not
    count.
    """
    ranges: dict[str, dict[str, list[float]]] = {}
    for row in shifts:
        ends = ranges.setdefault(row["kind"], {}).setdefault(row["metric"], [0.0, 0.0])
        if "mean" in row:
            ends[:] = [min(ends[0], row["mean"]), max(ends[1], row["mean"])]
    return ranges
