"""Where a chapter's notebook and numbers lie, and what was recorded at paper scale."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geolib.chapters import Chapter, book_root, find_chapter, resolve_parameters
from geolib.files import replacing

__all__ = ["Recorded", "notebook_path", "numbers_path", "recorded", "recorded_paths", "variant_name", "write_json"]


def variant_name(chapter: Chapter, scale: str, parameters: Mapping[str, Any]) -> str:
    """Name a run by how its parameters differ from the scale's own; the scale's own run has no name.

    ``@dataset``, ``@dataset-points`` or ``@-points`` for the scale's run on another data set, or on a random part of
    the training points (the parameter `limit_train`); anything else gets a name that is readable and no other's.
    """
    own = resolve_parameters(chapter, scale, {})
    if parameters == own:
        return ""
    dataset, limit = ({key: parameters[key]} if key in parameters else {} for key in ("dataset", "limit_train"))
    if parameters == resolve_parameters(chapter, scale, dataset | limit):
        other = str(dataset["dataset"]) if dataset and dataset["dataset"] != own["dataset"] else ""
        return f"@{other}" + (f"-{limit['limit_train']}" if limit and limit["limit_train"] else "")
    changed = {name: value for name, value in sorted(parameters.items()) if value != own[name]}
    text = ",".join(f"{name}={json.dumps(value)}" for name, value in changed.items())
    readable = re.sub(r"[^A-Za-z0-9.=,-]+", "", text)[:60]
    return f"{readable}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def notebook_path(chapter: Chapter, scale: str, variant: str = "") -> Path:
    """Return where the executed notebook of a run lies; `variant` is its `variant_name`."""
    build = chapter.root / "_build" / scale
    if variant and not variant.startswith("@"):
        return build / "variants" / variant / f"{chapter.name}.ipynb"
    return build / "notebooks" / f"{chapter.name}{variant}.ipynb"


def numbers_path(chapter: Chapter, scale: str, variant: str = "") -> Path:
    """Return where the numbers of a run lie: below ``results/`` if its parameters are the scale's."""
    if variant and not variant.startswith("@"):
        return notebook_path(chapter, scale, variant).with_suffix(".json")
    # Smoke runs support no claim, so their numbers are not results.
    folder = chapter.root / "_build" / "smoke" / "results" if scale == "smoke" else chapter.root / "results" / scale
    return folder / f"{chapter.name}{variant}.json"


def write_json(path: Path, content: Any) -> None:
    """Write JSON to a file, whole or not at all; NaN and infinity, which JSON lacks, are refused."""
    text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False)
    with replacing(path) as part:
        part.write_text(text + "\n", "utf-8")


@dataclass(frozen=True)
class Recorded:
    """The numbers of a committed run.

    Attributes
    ----------
    numbers
        What the chapter published.
    label
        Scale, data, seeds, commit, and whether chapter, geolib or its dependencies have changed since.
    stale
        Whether they have.
    """

    numbers: Mapping[str, Any]
    label: str
    stale: bool


def recorded_paths(chapter: Chapter) -> list[Path]:
    """Return the files that hold the chapter's results at paper scale, its own data set first."""
    own = numbers_path(chapter, "paper")
    return [*([own] if own.exists() else []), *sorted(own.parent.glob(f"{own.stem}@*.json"))]


def recorded(name: str, *, but: str = "") -> list[Recorded]:
    """Return what a chapter found at paper scale, to be drawn beside what it finds now.

    Parameters
    ----------
    name
        Of the chapter, in the book at or above the current folder.
    but
        A data set whose results are left out: that of the page itself.

    Returns
    -------
    list of Recorded
        Without results of a chapter that had other parameters then: it knows nothing of how they are drawn.
    """
    chapter = find_chapter(book_root(Path.cwd()), name)
    contents = [json.loads(path.read_text("utf-8")) for path in recorded_paths(chapter)]
    return [
        _recorded(chapter, content)
        for content in contents
        for parameters in [content["numbers"]["parameters"]]
        if parameters.keys() == chapter.schemas.keys() and parameters["dataset"] != but
    ]


def _recorded(chapter: Chapter, content: Mapping[str, Any]) -> Recorded:
    from geolib.provenance import source_digest

    numbers, made = content["numbers"], content["provenance"]
    parameters = numbers["parameters"]
    stale = made["source_sha256"] != source_digest(chapter, parameters)
    limit = parameters.get("limit_train", 0)
    parts = [
        f"scale {numbers['scale']}",
        parameters["dataset"] + (f", reduced to {limit:,} training images" if limit else ""),
        f"{len(parameters['seeds'])} seeds",
        f"commit {made['commit'].rstrip('+')[:12]}",
        *(["with uncommitted changes"] if made["commit"].endswith("+") else []),
        *(["computed with an earlier version"] if stale else []),
    ]
    return Recorded(numbers, "; ".join(parts), stale)
