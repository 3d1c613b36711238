"""The ledger's rules, and the values published in the paper's public material."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geolib.chapters import UsageError, book_root

__all__ = ["JUDGED_SCALES", "published", "read_claims", "rules_digest"]

#: The scales whose results may judge. Smoke runs only show that everything runs.
JUDGED_SCALES = ("laptop", "paper")

#: Parts of a row that are words: changing them changes no verdict.
_WORDS = {"statement", "place", "data", "note", "command", "changed"}
_SETTING = {"chapter", "scale", "dataset", "seeds", "gamma", "network", "command"}

_COMMON = {"rule", "metric", "network", "gamma", "beside"}
_BOUNDS = {"above", "below", "at_most", "refuted_above"}
#: Kind of rule -> what a condition of it may say.
CONDITIONS = {
    "mean": _COMMON | _BOUNDS | {"over"},
    "paired": _COMMON | _BOUNDS | {"against", "heading"},
    "slope": _COMMON | _BOUNDS | {"entry"},
    "rank_correlation": _COMMON | _BOUNDS | {"with", "entry", "ceiling"},
    "share": _COMMON | {"from", "to", "within", "matched"},
}
#: Part of a condition -> what it may say.
_PARTS = {
    "entry": {"metric", "of", "within", "above", "alive"},
    "ceiling": {"metric", "below"},
    "matched": {"metric", "within"},
}


def read_claims(root: Path) -> dict[str, Any]:
    """Return the checked content of ``book/claims.yml``: `statements`, `published`, and what holds for all rows.

    Raises
    ------
    UsageError
        If the file is absent or no YAML, a row has no conditions or no settings, a condition says what its rule does
        not know, or a setting lacks a part or names a weight decay or a scale that cannot judge.
    """
    import yaml

    path = root / "book" / "claims.yml"
    try:
        claims = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"book/claims.yml cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(claims, dict) or not all(
        isinstance(claims.get(key), dict) for key in ("statements", "published")
    ):
        raise UsageError("book/claims.yml must hold 'statements' and 'published', each name -> row")
    for group, parts in (("statements", ("conditions", "settings")), ("published", ("settings",))):
        for name, row in claims[group].items():
            for part in parts:
                items = row.get(part) if isinstance(row, dict) else None
                if not (isinstance(items, list) and items and all(isinstance(item, dict) for item in items)):
                    raise UsageError(f"book/claims.yml: {name} has no {part}")
            for condition in row["conditions"] if "conditions" in parts else ():
                _check_condition(name, condition)
            for setting in row["settings"]:
                _check_setting(name, setting, {"statements": "all", "published": "same"}[group])
    return claims


def _check_condition(name: str, condition: Mapping[str, Any]) -> None:
    rule = condition.get("rule")
    if rule not in CONDITIONS:
        raise UsageError(
            f"book/claims.yml: a condition of {name} has the rule {rule!r}; choose one of {', '.join(CONDITIONS)}"
        )
    said = [("", condition, CONDITIONS[rule])]
    said += [(f" in {part}", condition[part], known) for part, known in _PARTS.items() if part in condition]
    for place, words, known in said:
        if unknown := sorted(set(words) - known):
            raise UsageError(
                f"book/claims.yml: a condition of {name} says {', '.join(unknown)}{place}, which the rule {rule} "
                f"does not know; it knows {', '.join(sorted(known))}"
            )
    _check_gamma(name, condition.get("gamma", "all"), "all")


def _check_setting(name: str, setting: Mapping[str, Any], own: str) -> None:
    if missing := sorted(_SETTING - setting.keys()):
        raise UsageError(f"book/claims.yml: a setting of {name} lacks {', '.join(missing)}")
    if setting["scale"] not in JUDGED_SCALES:
        raise UsageError(
            f"book/claims.yml: a setting of {name} is to be judged at scale {setting['scale']!r}; "
            f"only {' and '.join(JUDGED_SCALES)} may judge"
        )
    _check_gamma(name, setting["gamma"], own)


def _check_gamma(name: str, gamma: Any, own: str) -> None:
    """Refuse a weight decay that is no number and no word; `own` is the word of only statements or only numbers."""
    if not isinstance(gamma, (int, float)) and gamma not in ("best", "any", own):
        raise UsageError(
            f"book/claims.yml: {name} is to be judged at gamma {gamma!r}; give best, any, {own} or a number "
            "(with a dot: YAML reads 1e-3 as a word)"
        )


def published(place: str) -> dict[str, Any]:
    """Return what was read off a place in the paper's public material, for example ``slide_34``.

    A dictionary with the figure's data set, weight decays where given, reading errors, and per network (``unnamed``
    where the slide names none) and score the list of values, one a weight decay, with the half length of the error bars
    as `spread`. Accuracies are shares in [0, 1]. Read from ``book/claims.yml`` of the book at or above the current
    folder.
    """
    places = read_claims(book_root(Path.cwd()))["published"]
    if place not in places:
        raise ValueError(f"nothing published was read at {place!r}; choose one of {', '.join(places)}")
    return dict(places[place])


def rules_digest(root: Path, chapter: str) -> str:
    """Return the SHA-256 of all that ``book/claims.yml`` rules about a chapter's results.

    Conditions, settings and published values of the rows that name the chapter; neither their wording, nor notes on
    changes, nor the order of keys, nor other rows change it.
    """
    claims = read_claims(root) if (root / "book" / "claims.yml").is_file() else {"statements": {}, "published": {}}
    rows: dict[str, Any] = {}
    for name, row in [*claims["statements"].items(), *claims["published"].items()]:
        settings = [setting for setting in row["settings"] if setting["chapter"] == chapter]
        if settings:
            rows[name] = _machine_part({**row, "settings": settings})
    common = _machine_part({key: claims.get(key) for key in ("defaults", "first_seed")}) if rows else {}
    return hashlib.sha256(json.dumps([rows, common], sort_keys=True).encode()).hexdigest()


def _machine_part(value: Any) -> Any:
    """Return a value without its wording, with every number as a float: 0 and 0.0 are one number."""
    if isinstance(value, Mapping):
        return {str(key): _machine_part(item) for key, item in value.items() if key not in _WORDS}
    if isinstance(value, list):
        return [_machine_part(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
