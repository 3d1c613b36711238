"""What makes the committed ledger untrue: each fault in one line."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geolib.chapters import UsageError, find_chapter, resolve_parameters, scale_values
from geolib.claims import rules_digest
from geolib.evidence import Result, read_result, result_paths
from geolib.ledger import committed_part, ledger_path, ledger_rows
from geolib.provenance import grid_digest
from geolib.scores import line_shape_null
from geolib.sensitivity import shift_ranges
from geolib.tables import best_settings

__all__ = ["Check", "check_ledger"]

#: Relative difference allowed between a committed number and the one computed here from the same results.
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Check:
    """What a check of the ledger found.

    Attributes
    ----------
    faults
        One line for each verdict, number, results file, grid or rule that is not what it was.
    earlier
        Results files computed with an earlier version of chapter or library: no fault, but never kept silent.
    uncommitted
        One line for each results file whose computation no commit holds: likewise no fault.
    """

    faults: tuple[str, ...]
    earlier: tuple[str, ...]
    uncommitted: tuple[str, ...] = ()


def check_ledger(root: Path) -> Check:
    """Compare the committed ledger with what follows from results, rules and grids now; write nothing."""
    faults: list[str] = []
    results: list[Result] = []
    for path in result_paths(root):
        try:
            results.append(read_result(root, path))
        except UsageError as error:
            faults.append(str(error))
    complete = not faults
    for result in results:
        try:
            faults += [*_result_faults(root, result), *_derived_faults(result)]
        except UsageError as error:
            faults.append(f"{result.path}: {error}")
    if complete:  # a row that lacks its results would only repeat that they cannot be read
        faults += _row_faults(root)
    earlier = tuple(result.path for result in results if result.earlier)
    uncommitted = tuple(
        f"{result.path}: no commit holds what it was computed with (commit {result.provenance.get('commit', '')!r})"
        for result in results
        if result.uncommitted
    )
    return Check(tuple(faults), earlier, uncommitted)


def _result_faults(root: Path, result: Result) -> list[str]:
    chapter, faults = find_chapter(root, result.chapter), []
    if result.numbers.get("scale_sha256") != grid_digest(chapter, result.scale, result.numbers["parameters"]):
        faults.append(
            f"{result.path}: its entry in book/scales/{result.scale}.yml changed after the run; run the chapter again"
        )
    if "rules_sha256" not in result.numbers:
        faults.append(f"{result.path}: it does not say under which rules it ran; run the chapter again")
    elif result.numbers["rules_sha256"] != rules_digest(root, result.chapter):
        faults.append(
            f"{result.path}: a rule for {result.chapter} in book/claims.yml changed after the run; "
            "say what and why under 'changed' and run the chapter again"
        )
    given = result.numbers["parameters"]
    overrides = {name: given[name] for name in ("dataset", "limit_train") if name in given}
    for name, value in resolve_parameters(chapter, result.scale, overrides).items():
        if name in given and given[name] != value:  # a parameter that came later shows as an earlier version
            faults.append(f"{result.path}: it ran with {name} = {given[name]}, the scale {result.scale} says {value}")
    lacking = scale_values(chapter, result.scale, given.get("dataset")).keys() - given.keys()
    return faults + [
        f"{result.path}: it does not say its {name}, which the scale {result.scale} sets" for name in sorted(lacking)
    ]


def _derived_faults(result: Result) -> list[str]:
    """Return a line for each of a file's `best`, `ranges` and `lss_nulls` that its records and parameters contradict.

    The nulls are computed again only for dense networks of one depth, which is quick.
    """
    numbers = result.numbers
    found: list[tuple[str, Any, Any, bool]] = []
    try:
        if "best" in numbers and "validation" in numbers:
            chosen = best_settings(numbers["validation"], ["weight_decay"])
            best = {choice["kind"]: choice["weight_decay"] for choice in chosen}
            found.append(("best", numbers["best"], best, numbers["best"] == best))
        if "ranges" in numbers and "shifts" in numbers:
            ranges = shift_ranges(numbers["shifts"])
            found.append(("ranges", numbers["ranges"], ranges, _same(numbers["ranges"], ranges)))
        for kind, size in _null_sizes(numbers).items():
            given, null = numbers["lss_nulls"][kind], float(line_shape_null(*size, kind=kind).mean())
            found.append((f"the null {kind!r} of LSS", given, null, _same(given, null)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return [f"{result.path}: what it derives cannot be computed again: {type(error).__name__}: {error}"]
    return [
        f"{result.path}: {name} is {given!r}, but its records and parameters give {due!r}"
        for name, given, due, same in found
        if not same
    ]


def _null_sizes(numbers: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Return the steps and the dimension of each null that is one number, of dense networks."""
    given = numbers["parameters"]
    measured = {record["dimension"] for record in numbers.get("untrained", ()) if "dimension" in record}
    dimension = measured.pop() if len(measured) == 1 else given.get("width")
    if given.get("form", "dense") != "dense" or measured or not (given.get("blocks") and dimension):
        return {}
    nulls = numbers.get("lss_nulls", {})
    size = (int(given["blocks"]), int(dimension))
    return {kind: size for kind, null in nulls.items() if isinstance(null, (int, float))}


def _row_faults(root: Path) -> list[str]:
    path = ledger_path(root)
    short = path.relative_to(root).as_posix()
    if not path.is_file():
        return [f"{short} is missing: run geolib ledger"]
    try:
        content = json.loads(path.read_text("utf-8"))
        committed = {_key(row): row for row in content["rows"]}
        order = [_key(row) for row in content["rows"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [f"{short} cannot be read: {type(error).__name__}: {error}"]
    try:
        rows = ledger_rows(root)
    except UsageError as error:
        return [str(error)]
    current = {_key(row): committed_part(row) for row in rows}
    faults = [f"{short}: holds {name!r} beside its rows" for name in content.keys() - {"rows"}]
    faults += [f"{short}: {_named(key)} stands there {n} times" for key, n in Counter(order).items() if n > 1]
    if order != list(current) and sorted(order) == sorted(current):
        faults.append(f"{short}: its rows are not in the ledger's order")
    faults += [f"{short}: {_named(key)} is no row of the ledger" for key in committed.keys() - current.keys()]
    faults += [f"{short}: {_named(key)} is missing" for key in current.keys() - committed.keys()]
    for key in current.keys() & committed.keys():
        faults += _differences(f"{short}: {_named(key)}", committed[key], current[key])
    return sorted(faults)


def _key(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return str(row["id"]), str(row["chapter"]), str(row["setting"])


def _named(key: Sequence[str]) -> str:
    name, chapter, setting = key
    return f"{name} ({chapter}: {setting})"


def _differences(place: str, committed: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """Return a line on a row that does not follow: the part that differs, the verdict first, and the others by name."""
    names = sorted({*committed, *current}, key=lambda name: (name != "verdict", name != "mean", name))
    differ = [name for name in names if not _same(committed.get(name), current.get(name))]
    if not differ:
        return []
    first, *others = differ
    line = f"{place}: {first} is {committed.get(first)!r}, but the results and rules give {current.get(first)!r}"
    return [line + (f"; so do not follow {', '.join(others)}" if others else "")]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(one == other)
