"""All conditions of a statement judged together, for the ledger's rows and for a page's own networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geolib.chapters import book_root
from geolib.claims import read_claims
from geolib.evidence import Evidence
from geolib.rules import Finding, combine, condition_words, judge
from geolib.statistics import Interval

__all__ = ["Judgement", "interval_fields", "judge_all", "judge_statement"]


@dataclass(frozen=True)
class Judgement(Finding):
    """What all conditions of a statement came to together.

    Attributes
    ----------
    conditions
        Each condition's own finding: `what` it judges and by which bound, `rule`, `verdict`, `why`, and `mean`, `low`,
        `high` and `count` of its interval, None where there is none.
    """

    conditions: Sequence[Mapping[str, Any]] = ()


def judge_statement(name: str, numbers: Mapping[str, Any], network: Mapping[str, Any]) -> Judgement:
    """Judge a page's own networks by the conditions of a statement, on whatever data and at whatever scale they ran.

    As in the ledger the statement is supported if all conditions are, and refuted if any is; `interval` is that of the
    first, and the conditions' `why` stand one after the other.

    Parameters
    ----------
    name
        Of a statement of ``book/claims.yml`` whose settings all look at the same weight decays.
    numbers
        What the page published.
    network
        Field -> value that the records of the networks meant have.

    Raises
    ------
    ValueError
        If the statement's settings look at different weight decays, so that it does not say which ones a page means.
    """
    claims = read_claims(book_root(Path.cwd()))
    row = claims["statements"][name]
    gammas = {setting["gamma"] for setting in row["settings"]}
    if len(gammas) > 1:
        raise ValueError(f"{name} is judged at one choice of weight decays only if all its settings are; got {gammas}")
    return judge_all(row["conditions"], Evidence(numbers, network, gammas.pop(), defaults=claims.get("defaults")))


def judge_all(conditions: Sequence[Mapping[str, Any]], evidence: Evidence) -> Judgement:
    """Judge networks by several conditions together: supported if all are, refuted if any is."""
    findings = [judge(condition, evidence) for condition in conditions]
    parts = [
        {"rule": condition["rule"], "what": condition_words(condition), "verdict": finding.verdict, "why": finding.why,
         **interval_fields(finding.interval)}
        for condition, finding in zip(conditions, findings, strict=True)
    ]  # fmt: skip
    return Judgement(
        combine(findings), findings[0].interval, " | ".join(finding.why for finding in findings),
        "; ".join(filter(None, (finding.heading for finding in findings))), parts,
    )  # fmt: skip


def interval_fields(interval: Interval | None) -> dict[str, float | int | None]:
    """Return an interval as a row's fields, None for what there is not."""
    if interval is None:
        return {"mean": None, "low": None, "high": None, "count": None}
    return {"mean": interval.mean, "low": interval.low, "high": interval.high, "count": interval.count}
