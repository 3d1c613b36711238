"""Run a chapter at a scale: source to executed notebook, with its numbers beside it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geolib.chapters import Chapter
from geolib.claims import rules_digest
from geolib.execution import ChapterError, execute
from geolib.files import replacing
from geolib.provenance import grid_digest, page_digest, provenance
from geolib.publishing import NUMBERS_KEY
from geolib.results import notebook_path, numbers_path, variant_name

__all__ = ["Outcome", "find_outcome", "run_chapter"]

#: Name of the file that says that the sweeps of a run are all finished, and how long the run took, in seconds.
_FINISHED = "finished"


@dataclass(frozen=True)
class Outcome:
    """What running a chapter left behind.

    Attributes
    ----------
    notebook
        The executed notebook.
    numbers
        The file of its numbers, or None if the chapter publishes none.
    summary
        The chapter's result in one line, possibly empty.
    seconds
        Wall time of the run.
    """

    notebook: Path
    numbers: Path | None
    summary: str
    seconds: float


def find_outcome(chapter: Chapter, scale: str, parameters: Mapping[str, Any]) -> Outcome | None:
    """Return what an earlier run left if nothing that its notebook shows has changed since, else None."""
    notebook = notebook_path(chapter, scale)
    try:
        stamp = json.loads(notebook.read_text("utf-8"))["metadata"]["geolib_run"]
        numbers = numbers_path(chapter, scale) if stamp["publishes"] else None
        same_numbers = numbers is None or json.loads(numbers.read_text("utf-8"))["provenance"] == stamp["provenance"]
        same_page = stamp["page_sha256"] == page_digest(chapter, scale, parameters)
    except (OSError, ValueError, KeyError):
        return None
    if not (same_numbers and same_page):
        return None
    return Outcome(notebook, numbers, stamp["summary"], stamp["provenance"]["wall_seconds"])


def run_chapter(
    chapter: Chapter,
    scale: str,
    parameters: Mapping[str, Any],
    *,
    reuse: bool = False,
    report: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
) -> Outcome:
    """Execute a chapter and write its notebook and numbers, each whole or not at all.

    Parameters
    ----------
    chapter, scale, parameters
        What to run, checked by `resolve_parameters`.
    reuse
        Whether to draw again from what the sweeps of a finished run of the same sources found, instead of repeating
        them: for a page of which only what it draws has changed.
    report
        Called with a line of text at each cell.

    Raises
    ------
    ChapterError
        If a cell fails; the notebook up to there is kept beside the goal as ``<name>.failed.ipynb``.

    Notes
    -----
    What the chapter's sweeps finished before a failure or an interruption is not computed again by the next run, unless
    what the numbers depend on changed. Where a run finds the numbers that an earlier run of the same sources had
    written, the file stays as it is, with the earlier run's provenance.
    """
    import jupytext
    import nbformat

    variant = variant_name(chapter, scale, parameters)
    goal = notebook_path(chapter, scale, variant)
    goal.parent.mkdir(parents=True, exist_ok=True)
    failed = goal.with_suffix(".failed.ipynb")
    failed.unlink(missing_ok=True)
    # Taken before the run: what changes on disk while it computes is not what it computed.
    made, started = provenance(chapter, scale, parameters), time.perf_counter()
    page, grid = page_digest(chapter, scale, parameters), grid_digest(chapter, scale, parameters)
    rules = rules_digest(chapter.root, chapter.name)
    with _scratch(goal) as (source, part), _checkpoints(goal, made["source_sha256"], reuse) as earlier:
        nbformat.write(jupytext.read(chapter.path), source)
        try:
            execute(chapter, source, part, parameters, report)
            notebook = nbformat.read(part, as_version=4)
            published = _published(chapter, notebook)
        except ChapterError as error:
            part.replace(failed)
            raise ChapterError(f"{error}; the notebook up to there is {failed}") from error
        seconds = time.perf_counter() - started
        made |= {"wall_seconds": round(earlier.seconds or seconds, 1), "resumed": earlier.interrupted}
        path = None
        if published is not None:
            head = {
                "chapter": chapter.name, "scale": scale, "parameters": dict(parameters),
                "scale_sha256": grid, "rules_sha256": rules,
            }  # fmt: skip
            path = numbers_path(chapter, scale, variant)
            made = _write_numbers(path, published["numbers"] | head, made)
        summary = published["summary"] if published else ""
        notebook.metadata["geolib_run"] = {
            "provenance": made, "publishes": published is not None, "summary": summary, "page_sha256": page,
            "scale": scale, "parameters": dict(parameters),
        }  # fmt: skip
        nbformat.write(notebook, part)
        part.replace(goal)
    return Outcome(goal, path, summary, seconds)


def _write_numbers(path: Path, numbers: Mapping[str, Any], made: dict[str, Any]) -> dict[str, Any]:
    """Write a results file unless it holds these numbers from these sources; return the provenance that it has then."""
    try:
        content = json.loads(path.read_text("utf-8"))
        earlier = content["provenance"]
        same = content["numbers"] == numbers and earlier["source_sha256"] == made["source_sha256"]
    except (OSError, ValueError, KeyError):
        same = False
    if same:
        return dict(earlier)
    _write_json(path, {"numbers": numbers, "provenance": made})
    return made


@contextlib.contextmanager
def _scratch(goal: Path) -> Iterator[tuple[Path, Path]]:
    """Yield two paths beside the goal that are gone afterwards, also after Ctrl-C."""
    paths = tuple(goal.with_suffix(f".{os.getpid()}.{kind}.ipynb") for kind in ("source", "part"))
    try:
        yield paths[0], paths[1]
    finally:
        for path in paths:
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Earlier:
    """What an earlier run of the same sources left: an interrupted one, or a finished one that took some seconds."""

    interrupted: bool = False
    seconds: float = 0.0


@contextlib.contextmanager
def _checkpoints(goal: Path, digest: str, reuse: bool) -> Iterator[_Earlier]:
    """Let the chapter's sweeps take up what an earlier run of the same sources finished; yield what that was.

    They keep their parts in a folder beside the goal. It stays when the chapter succeeds, marked as finished, but only
    `reuse` takes from a finished run: who asks for a run gets one.
    """
    folder = goal.with_suffix(".checkpoints")
    marker = folder / digest / _FINISHED
    for stale in folder.glob("*"):
        if stale.name != digest or (marker.exists() and not reuse):
            shutil.rmtree(stale)
    finished = float(marker.read_text("utf-8")) if marker.exists() else 0.0
    before, started = os.environ.get("GEOLIB_CHECKPOINTS"), time.perf_counter()
    os.environ["GEOLIB_CHECKPOINTS"] = str(folder / digest)
    try:
        yield _Earlier(interrupted=(folder / digest).exists() and not finished, seconds=finished)
    finally:
        os.environ.pop("GEOLIB_CHECKPOINTS")
        if before is not None:
            os.environ["GEOLIB_CHECKPOINTS"] = before
    if marker.parent.exists() and not finished:
        marker.write_text(f"{time.perf_counter() - started}", "utf-8")


def _published(chapter: Chapter, notebook: Any) -> dict[str, Any] | None:
    found = [
        output.metadata[NUMBERS_KEY]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if NUMBERS_KEY in output.get("metadata", {})
    ]
    if len(found) > 1:
        raise ChapterError(f"{chapter.name} failed: a chapter publishes its numbers once, not {len(found)} times")
    return dict(found[0]) if found else None


def _write_json(path: Path, content: Any) -> None:
    with replacing(path) as part:
        part.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")
