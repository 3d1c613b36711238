"""The ledger of claims: every row of ``claims.yml`` judged from the committed results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geolib.chapters import book_root, chapter_names
from geolib.claims import read_claims
from geolib.evidence import Evidence, Result, Silence, read_result, result_paths
from geolib.judgements import interval_fields, judge_all
from geolib.results import write_json
from geolib.rules import Finding
from geolib.statistics import student_t_interval

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["committed_part", "ledger_path", "ledger_rows", "ledger_table", "write_ledger"]

_KINDS = ("resnet", "plain", "unnamed")


def ledger_path(root: Path) -> Path:
    """Return the file of the ledger's rows."""
    return root / "results" / "ledger.json"


def ledger_table() -> pd.DataFrame:
    """Return the ledger of the book at or above the current folder, computed from its results.

    One row for each statement or published number in each setting, with the columns `id`, `group` (``statements``,
    ``slide_31``, ...), `statement`, `place`, `metric`, `setting`, `published`, `reading_error`, `mean`, `low`, `high`,
    `count` (ours: mean and 95% Student t interval over `count` seeds), `verdict`, `heading`, `why`, `scale`, `chapter`,
    `dataset`, `command`, `commit` (of the run), `earlier` (whether what the run was computed with has changed since)
    and the lists `changed` (dated words on a rule that did) and `conditions` (each condition's own finding).
    """
    import pandas as pd

    return pd.DataFrame(ledger_rows(book_root(Path.cwd())), dtype=object)  # None stays None, no NaN


def write_ledger(root: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write the rows to ``results/ledger.json``, whole or not at all; return the path."""
    path = ledger_path(root)
    write_json(path, {"rows": [committed_part(row) for row in rows]})
    return path


def committed_part(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is written of a row: all but `earlier`, which turns with any change of the library."""
    return {name: value for name, value in row.items() if name != "earlier"}


def ledger_rows(root: Path) -> list[dict[str, Any]]:
    """Return every row of the ledger, judged from ``results/laptop`` and ``results/paper``; smoke results have no part.

    Raises
    ------
    UsageError
        If ``claims.yml`` or a results file cannot be read.
    """
    claims, results = read_claims(root), [read_result(root, path) for path in result_paths(root)]
    chapters = set(chapter_names(root))
    rows: list[dict[str, Any]] = []
    for name, row in claims["statements"].items():
        for setting in row["settings"]:
            rows += _statement_rows(name, row, setting, claims, results, chapters)
    for name, place in claims["published"].items():
        for setting in place["settings"]:
            rows += _published_rows(name, place, setting, claims, results, chapters)
    return rows


def _statement_rows(
    name: str, row: Mapping[str, Any], setting: Mapping[str, Any], claims: Mapping[str, Any],
    results: Sequence[Result], chapters: set[str],
) -> Iterator[dict[str, Any]]:  # fmt: skip
    result = _result(setting, results, reduced=setting.get("reduced", False))
    defaults = claims.get("defaults", {})
    head = {"id": name, "group": "statements", "statement": row["statement"], "place": row["place"]}
    head["changed"] = [f"{change['date']}: {change['what'].strip()}" for change in row.get("changed", ())]
    if result is None:
        finding = _not_run(setting, results, chapters)
        yield _row(head, row["metric"], setting, defaults, finding, None)
        return
    evidence = _evidence(result, setting, claims)
    for extra in _split(evidence, setting.get("per")):
        here = _evidence(result, {**setting, "network": {**setting["network"], **extra}}, claims)
        summary = judge_all(row["conditions"], here)
        yield _row(
            head, row["metric"], {**setting, "network": here.network}, defaults, summary, result, summary.conditions
        )


def _split(evidence: Evidence, field: str | None) -> list[dict[str, Any]]:
    """Return what to add to a setting's network for each of its rows: one a value of the field it is split by."""
    if field is None:
        return [{}]
    found = {evidence.field(record, field) for record in evidence.records()}
    return [{field: value} for value in sorted(found)] or [{}]


def _published_rows(
    name: str, place: Mapping[str, Any], setting: Mapping[str, Any], claims: Mapping[str, Any],
    results: Sequence[Result], chapters: set[str],
) -> Iterator[dict[str, Any]]:  # fmt: skip
    result, defaults = _result(setting, results, reduced=True), claims.get("defaults", {})
    for kind in (kind for kind in _KINDS if kind in place):
        for metric, entry in place[kind].items():
            for index, value in enumerate(entry["value"]):
                decays = place.get("weight_decays")
                gamma = f"{decays[index]:g}" if decays else ""
                words = "network not named" if kind == "unnamed" else kind
                head = {
                    "id": "-".join(filter(None, [name.replace("slide_", "S"), kind, metric, gamma])),
                    "group": name, "place": place["place"], "changed": [],
                    "statement": f"{metric} on {place['data']}, {words}" + (f", gamma {gamma}" if gamma else ""),
                }  # fmt: skip
                network = setting["network"] if kind == "unnamed" else {"kind": kind, **setting["network"]}
                here = {**setting, "network": network}
                if decays and setting["gamma"] == "same":
                    here["gamma"] = float(decays[index])
                number = {"published": value, "reading_error": place["reading_error"][metric]}
                finding = (
                    _compare(number, metric, here, place, claims, result, results)
                    if result
                    else _not_run(here, results, chapters)
                )
                widening = _deviations(metric, here, results) if finding.verdict in ("within", "outside") else None
                earlier = {"earlier": True} if widening and widening.earlier else {}
                yield _row(head, metric, here, defaults, finding, result) | number | earlier


def _compare(
    number: Mapping[str, float], metric: str, setting: Mapping[str, Any], place: Mapping[str, Any],
    claims: Mapping[str, Any], result: Result, results: Sequence[Result],
) -> Finding:  # fmt: skip
    """Say whether a published number lies within our interval, widened by reading error and deviations."""
    try:
        interval = student_t_interval(_evidence(result, setting, claims).values(metric).tolist())
    except Silence as silence:
        return Finding(silence.verdict, why=str(silence))
    if setting["dataset"] != place["dataset"]:
        return Finding("not comparable", interval, f"other data: ours {setting['dataset']}, published {place['data']}")
    if result.limit:
        return Finding("not comparable", interval, f"a reduced run: {result.limit} training points")
    low, high, why = _widening(metric, setting, results)
    error = number["reading_error"]
    inside = interval.low + low - error <= number["published"] <= interval.high + high + error
    return Finding("within" if inside else "outside", interval, why)


def _widening(metric: str, setting: Mapping[str, Any], results: Sequence[Result]) -> tuple[float, float, str]:
    """Return by how much the settings that the sources leave open lower and raise a metric on this data."""
    result, kind = _deviations(metric, setting, results), setting["network"].get("kind")
    if result is None:
        return 0.0, 0.0, f"not widened: no deviations of {metric} were measured on {setting['dataset']}"
    ends, given = result.numbers["ranges"][kind][metric], result.numbers["parameters"]
    low, high = min(ends[0], 0.0), max(ends[1], 0.0)
    at = [f"scale {result.scale}", f"{given['epochs']} epochs" if "epochs" in given else ""]
    at += [f"gamma {given['weight_decay']:g}" if "weight_decay" in given else ""]
    shifts = [row for row in result.numbers.get("shifts", ()) if (row["kind"], row["metric"]) == (kind, metric)]
    died = sum("mean" not in row for row in shifts)
    lost = f"; {died} of {len(shifts)} shifts have no mean: networks died or diverged" if died else ""
    return low, high, f"widened by the deviations at {', '.join(filter(None, at))}: {low:+.3g} to {high:+.3g}{lost}"


def _deviations(metric: str, setting: Mapping[str, Any], results: Sequence[Result]) -> Result | None:
    """Return the run that says how far a metric of the setting's network moves on this data, of its scale first."""
    measured = [
        result for result in results
        if result.chapter == "deviations" and result.dataset == setting["dataset"] and not result.limit
        and result.numbers.get("ranges", {}).get(setting["network"].get("kind"), {}).get(metric)
    ]  # fmt: skip
    return min(measured, key=lambda result: result.scale != setting["scale"], default=None)


def _result(setting: Mapping[str, Any], results: Sequence[Result], *, reduced: bool) -> Result | None:
    """Return the setting's run: on all training points, else, if allowed, on the most."""
    found = [
        result for result in results
        if (result.scale, result.chapter, result.dataset)
        == (setting["scale"], setting["chapter"], setting["dataset"]) and (reduced or not result.limit)
    ]  # fmt: skip
    return max(found, key=lambda result: result.limit or float("inf"), default=None)


def _not_run(setting: Mapping[str, Any], results: Sequence[Result], chapters: set[str]) -> Finding:
    if setting["chapter"] not in chapters:
        return Finding("not run", why=f"the chapter {setting['chapter']} is yet to come")
    only = _result(setting, results, reduced=True)
    why = f"only a reduced run of {only.limit} training points" if only else f"no results on {setting['dataset']}"
    return Finding("not run at this scale", why=why)


def _evidence(result: Result, setting: Mapping[str, Any], claims: Mapping[str, Any]) -> Evidence:
    return Evidence(
        result.numbers, setting["network"], setting["gamma"], setting["seeds"], claims.get("first_seed", 0),
        claims.get("defaults"),
    )  # fmt: skip


def _row(
    head: Mapping[str, Any], metric: str, setting: Mapping[str, Any], defaults: Mapping[str, Any], finding: Finding,
    result: Result | None, conditions: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:  # fmt: skip
    return {
        **head, "metric": metric, "setting": _words(setting, defaults, result),
        "published": None, "reading_error": None,
        **interval_fields(finding.interval), "verdict": finding.verdict, "heading": finding.heading, "why": finding.why,
        "scale": setting["scale"], "chapter": setting["chapter"], "dataset": setting["dataset"],
        "command": result.provenance.get("command", setting["command"]) if result else setting["command"],
        "commit": result.provenance.get("commit", "") if result else "", "conditions": list(conditions),
        "earlier": bool(result and result.earlier),
    }  # fmt: skip


def _words(setting: Mapping[str, Any], defaults: Mapping[str, Any], result: Result | None) -> str:
    """Say a setting in words: scale, data, network where it is not the default one, weight decay."""
    network, gamma = setting["network"], setting["gamma"]
    limit = f" reduced to {result.limit} training points" if result and result.limit else ""
    fields = [
        str(value) if name == "kind" else f"{name.replace('_', ' ')} {value}"
        for name, value in network.items() if name not in defaults or defaults[name] != value
    ]  # fmt: skip
    at = {"all": "all gammas", "best": "best gamma", "any": "", "same": "gamma not given"}
    parts = [setting["scale"], f"{setting['dataset']}{limit}", *fields]
    return ", ".join([*parts, *filter(None, [at[gamma] if isinstance(gamma, str) else f"gamma {gamma:g}"])])
