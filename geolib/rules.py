"""The few kinds of rule by which the ledger judges a statement from the records of trained networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from geolib.evidence import Evidence, Silence
from geolib.statistics import Interval, student_t_interval
from geolib.verdicts import verdict

__all__ = ["RULES", "Finding", "combine", "condition_words", "interval_words", "judge"]

#: Fewer weight decays than this give no slope and no correlation.
MINIMUM_GAMMAS = 3


@dataclass(frozen=True)
class Finding:
    """What one condition came to.

    Attributes
    ----------
    verdict
        ``supported``, ``refuted``, ``undetermined``, or why there is none: ``too few seeds``, ``no verdict``,
        ``not run at this scale``.
    interval
        What was judged, mean and 95% interval over seeds; None if there was nothing to judge.
    why
        What stands beside it: the weight decays that entered, or what is missing.
    heading
        A qualification printed before the verdict, possibly empty.
    """

    verdict: str
    interval: Interval | None = None
    why: str = ""
    heading: str = ""


def judge(condition: Mapping[str, Any], evidence: Evidence) -> Finding:
    """Judge one condition of ``claims.yml``; its own `network` and `gamma` go over the setting's."""
    setting = evidence
    evidence = replace(
        evidence,
        network={**evidence.network, **condition.get("network", {})},
        gamma=condition.get("gamma", evidence.gamma),
    )
    try:
        finding = RULES[condition["rule"]](condition, evidence)
        return replace(finding, why="; ".join(filter(None, [finding.why, _beside(condition, evidence)])))
    except Silence as silence:
        # Where the setting's own networks ran, what is missing is a control, not the run.
        missing = silence.verdict == "not run at this scale" and setting.records()
        return Finding("no verdict" if missing else silence.verdict, why=str(silence))


def combine(findings: Sequence[Finding]) -> str:
    """Return the verdict on a list of conditions: supported if all are, refuted if any is, else the first other."""
    verdicts = [finding.verdict for finding in findings]
    if "refuted" in verdicts:
        return "refuted"
    return next((answer for answer in verdicts if answer != "supported"), "supported")


def condition_words(condition: Mapping[str, Any]) -> str:
    """Say in a few words what a condition judges and by which bound."""
    metric, against = condition["metric"], dict(condition.get("against", {}))
    other = ["untrained"] if against.pop("trained", True) is False else []
    other += [str(value) for value in against.values()]
    what = {
        "mean": f"{metric} / {condition['over']} null" if "over" in condition else metric,
        "paired": f"{metric} less {', '.join(other)}",
        "slope": f"slope of {metric}",
        "rank_correlation": f"rank correlation of {metric} and {condition.get('with')}",
        "share": f"share of the gap in {metric}",
    }[condition["rule"]]
    network = "".join(f", {name} {value}" for name, value in condition.get("network", {}).items())
    keys = ("above", "below", "at_most", "within")
    bounds = " and ".join(f"{key.replace('_', ' ')} {condition[key]:g}" for key in keys if key in condition)
    return f"{what}{network} {bounds}"


def _judged(values: Iterable[float], condition: Mapping[str, Any], why: str = "") -> Finding:
    """Judge the mean of one value a seed by the condition's `above`, `below` or `at_most`."""
    interval = student_t_interval(list(values))
    above, below = condition.get("above"), condition.get("below", condition.get("at_most"))
    answer = verdict(interval, above=above, below=below)
    if answer == "undetermined" and interval.high == condition.get("at_most"):
        answer = "supported"
    beyond = condition.get("refuted_above")
    if answer == "refuted" and beyond is not None and not interval.low > beyond:
        answer = "undetermined"
    return Finding(answer, interval, why)


def _mean(condition: Mapping[str, Any], evidence: Evidence) -> Finding:
    values = evidence.values(condition["metric"])
    if "over" not in condition:
        return _judged(values, condition)
    null = evidence.numbers.get("lss_nulls", {}).get(condition["over"])
    if not null:
        raise Silence("no verdict", f"no null {condition['over']!r} in the results")
    return _judged(values / null, condition, f"mean {values.mean():.3g}, null {null:.3g}")


def _paired(condition: Mapping[str, Any], evidence: Evidence) -> Finding:
    metric, other = condition["metric"], dict(condition["against"])
    trained, against = other.pop("trained", True), other.pop("metric", metric)
    gamma = other.pop("gamma", None)
    opposite = replace(evidence, network={**evidence.network, **other})
    ours, theirs = evidence.values(metric), opposite.values(against, trained=trained, gamma=gamma)
    finding = _judged(ours - theirs, condition, f"{ours.mean():.3g} against {theirs.mean():.3g}")
    if "heading" not in condition or finding.verdict != "supported":
        return finding
    before = evidence.values(metric, trained=False) - opposite.values(against, trained=False)
    more = student_t_interval((ours - theirs - before).tolist())
    why = f"{finding.why}; trained less untrained difference {_written(more)}"
    return replace(finding, why=why, heading="" if verdict(more, above=0) == "supported" else condition["heading"])


def _slope(condition: Mapping[str, Any], evidence: Evidence) -> Finding:
    nonzero = [gamma for gamma in evidence.gammas() if gamma > 0]
    entered = _entering(condition, evidence, nonzero)
    _enough(entered, "enter")
    slopes = _slopes(condition["metric"], evidence, entered)
    alive = [gamma for gamma in nonzero if _alive(evidence, gamma)]
    try:
        every = _written(student_t_interval(_slopes(condition["metric"], evidence, alive)))
    except Silence:  # it only stands beside the judged one
        every = "none"
    return _judged(slopes, condition, f"{_listed(entered)}; over all of {_listed(alive)} {every}")


def _slopes(metric: str, evidence: Evidence, gammas: Sequence[float]) -> list[float]:
    """Return the Theil-Sen slope on log10 gamma, one a seed."""
    table = np.array([evidence.values(metric, gamma=gamma) for gamma in gammas])  # (gammas, seeds)
    return [float(stats.theilslopes(column, np.log10(gammas)).slope) for column in table.T]


def _rank_correlation(condition: Mapping[str, Any], evidence: Evidence) -> Finding:
    gammas = _entering(condition, evidence, evidence.gammas())
    _enough(gammas, "enter")
    if "ceiling" in condition:
        ceiling = condition["ceiling"]
        means = [evidence.values(ceiling["metric"], gamma=gamma).mean() for gamma in gammas]
        _enough([mean for mean in means if mean < ceiling["below"]], f"are below the ceiling of {ceiling['below']:g}")
    one, two = (
        np.array([evidence.values(condition[side], gamma=gamma) for gamma in gammas]) for side in ("metric", "with")
    )
    if (np.ptp(one, axis=0) == 0).any() or (np.ptp(two, axis=0) == 0).any():
        raise Silence("no verdict", f"a score that is constant has no ranks; {_listed(gammas)}")
    ranks = [float(stats.spearmanr(a, b).statistic) for a, b in zip(one.T, two.T, strict=True)]
    return _judged(ranks, condition, _listed(gammas))


def _share(condition: Mapping[str, Any], evidence: Evidence) -> Finding:
    metric, within, matched = condition["metric"], condition["within"], condition["matched"]
    start, goal = (replace(evidence, network={**evidence.network, **condition[side]}) for side in ("from", "to"))
    loss = [arm.values(matched["metric"]).mean() for arm in (evidence, start, goal)]
    if max(loss) > (1 + matched["within"]) * min(loss) + 1e-12:
        raise Silence("undetermined", f"{matched['metric']} is not matched: {min(loss):.3g} to {max(loss):.3g}")
    ours, high, low = (arm.values(metric) for arm in (evidence, start, goal))
    gap = high - low
    if not ((gap > 0).all() or (gap < 0).all()):
        raise Silence("undetermined", f"the gap in {metric} has no one sign over the seeds")
    interval = student_t_interval(((ours - low) / gap).tolist())
    sides = [verdict(interval, above=-within), verdict(interval, below=within)]
    return Finding(combine([Finding(side) for side in sides]), interval, f"mean gap {gap.mean():.3g}")


def _entering(condition: Mapping[str, Any], evidence: Evidence, gammas: Sequence[float]) -> list[float]:
    """Return the weight decays whose networks trained well enough; those that diverged count with 0.

    With ``alive``, a weight decay at which a network died or diverged does not enter; else it gives no verdict, as does
    one at gamma 0 with which the others are compared.
    """
    entry = condition.get("entry")
    if entry is None:
        return list(gammas)
    if entry.get("alive"):
        gammas = [gamma for gamma in gammas if _alive(evidence, gamma)]
    kept = 0 if entry.get("of") == "zero" else None
    mean = {
        gamma: evidence.values(entry["metric"], gamma=gamma, lost=None if gamma == kept else 0).mean()
        for gamma in {*gammas, *evidence.gammas()}
    }
    if "above" in entry:
        return [gamma for gamma in gammas if mean[gamma] > entry["above"]]
    if entry["of"] == "zero" and 0 not in mean:
        raise Silence("no verdict", "no network with gamma 0")
    goal = mean[0] if entry["of"] == "zero" else max(mean.values())
    return [gamma for gamma in gammas if abs(mean[gamma] - goal) <= entry["within"] + 1e-9]


def _alive(evidence: Evidence, gamma: float) -> bool:
    here = [record for record in evidence.records() if record["weight_decay"] == gamma]
    return not any(record.get("dead") or record.get("diverged") for record in here)


def _enough(gammas: Sequence[float], what: str) -> None:
    if len(gammas) < MINIMUM_GAMMAS:
        raise Silence("undetermined", f"{len(gammas)} weight decays {what}, {MINIMUM_GAMMAS} needed")


def _listed(gammas: Sequence[float]) -> str:
    return "gamma " + ", ".join(f"{gamma:g}" for gamma in gammas)


def interval_words(mean: float | None, low: float | None, high: float | None) -> str:
    """Write an interval as ``0.5 [0.4, 0.6]``; nothing where there is none."""
    return "" if mean is None else f"{mean:.3g} [{low:.3g}, {high:.3g}]"


def _written(interval: Interval) -> str:
    return interval_words(interval.mean, interval.low, interval.high)


def _beside(condition: Mapping[str, Any], evidence: Evidence) -> str:
    """Return the means of the metrics that must stand beside the judged one, with their range over gamma."""
    parts = []
    for metric in condition.get("beside", ()):
        gammas = evidence.gammas() if evidence.gamma == "all" else [evidence.gamma]
        means = [evidence.values(metric, gamma=gamma).mean() for gamma in gammas]
        parts.append(f"{metric} {min(means):.3g}" + (f" to {max(means):.3g}" if len(means) > 1 else ""))
    return ", ".join(parts)


#: Kind of rule -> what judges it.
RULES: dict[str, Callable[[Mapping[str, Any], Evidence], Finding]] = {
    "mean": _mean, "paired": _paired, "slope": _slope, "rank_correlation": _rank_correlation, "share": _share,
}  # fmt: skip
