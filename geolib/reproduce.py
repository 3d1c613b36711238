"""Run a chapter at a scale: source to executed notebook, with its numbers beside it."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geolib.chapters import Chapter, scale_digest
from geolib.execution import ChapterError, execute
from geolib.provenance import provenance, source_digest

__all__ = ["Outcome", "find_outcome", "notebook_path", "publish_numbers", "run_chapter"]

#: Key of an output's metadata under which a notebook carries its numbers.
_KEY = "geolib_numbers"


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


def publish_numbers(numbers: Mapping[str, Any], summary: str) -> dict[str, Any]:
    """Publish a chapter's numbers and return them as they will be read from the file, to draw the figures from.

    To be called once in a chapter. The numbers travel as an output of the cell, so that any program that executes
    the notebook carries them; `geolib run` writes them to the chapter's JSON file.

    Parameters
    ----------
    numbers
        Nested dictionaries and lists of strings, numbers and None; NaN and infinity become None, no number.
    summary
        The chapter's result in one line.
    """
    from IPython.display import display

    plain: dict[str, Any] = _plain(numbers)
    display({"text/plain": summary}, raw=True, metadata={_KEY: {"numbers": plain, "summary": summary}})
    return plain


def _plain(value: Any) -> Any:
    """Turn numpy's scalars into Python's, NaN and infinity into None, as JSON needs."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    value = getattr(value, "item", lambda: value)()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def notebook_path(chapter: Chapter, scale: str, variant: str = "") -> Path:
    """Return where the executed notebook lies; `variant` names a run with other parameters than the scale's."""
    folder = f"variants/{variant}" if variant else "notebooks"
    return chapter.root / "_build" / scale / folder / f"{chapter.name}.ipynb"


def _numbers_path(chapter: Chapter, scale: str, variant: str) -> Path:
    if variant:
        return notebook_path(chapter, scale, variant).with_suffix(".json")
    # Smoke runs support no claim, so their numbers are not results.
    folder = chapter.root / "_build" / "smoke" / "results" if scale == "smoke" else chapter.root / "results" / scale
    return folder / f"{chapter.name}.json"


def find_outcome(chapter: Chapter, scale: str, parameters: Mapping[str, Any]) -> Outcome | None:
    """Return what an earlier run left if nothing that decides the result has changed since, else None."""
    notebook = notebook_path(chapter, scale)
    try:
        stamp = json.loads(notebook.read_text("utf-8"))["metadata"]["geolib_run"]
        numbers = _numbers_path(chapter, scale, "") if stamp["publishes"] else None
        same_numbers = numbers is None or json.loads(numbers.read_text("utf-8"))["provenance"] == stamp["provenance"]
    except (OSError, ValueError, KeyError):
        return None
    if stamp["provenance"]["source_sha256"] != source_digest(chapter, parameters) or not same_numbers:
        return None
    return Outcome(notebook, numbers, stamp["summary"], stamp["provenance"]["wall_seconds"])


def run_chapter(
    chapter: Chapter,
    scale: str,
    parameters: Mapping[str, Any],
    *,
    variant: str = "",
    report: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
) -> Outcome:
    """Execute a chapter and write its notebook and numbers, each whole or not at all.

    Parameters
    ----------
    chapter, scale, parameters
        What to run, checked by `resolve_parameters`.
    variant
        Name of a run whose parameters are not the scale's own; its files are kept apart from the scale's results.
    report
        Called with a line of text at each cell.

    Raises
    ------
    ChapterError
        If a cell fails; the notebook up to there is kept beside the goal as ``<name>.failed.ipynb``.

    Notes
    -----
    What the chapter's sweeps finished before a failure or an interruption is not computed again by the next run, unless
    the chapter, its parameters, geolib or the lock file changed.
    """
    import jupytext
    import nbformat

    goal = notebook_path(chapter, scale, variant)
    goal.parent.mkdir(parents=True, exist_ok=True)
    failed = goal.with_suffix(".failed.ipynb")
    failed.unlink(missing_ok=True)
    # Taken before the run: what changes on disk while it computes is not what it computed.
    made, started = provenance(chapter, scale, parameters), time.perf_counter()
    with _scratch(goal) as (source, part), _checkpoints(goal, made["source_sha256"]) as resumed:
        nbformat.write(jupytext.read(chapter.path), source)
        try:
            execute(chapter, source, part, parameters, report)
            notebook = nbformat.read(part, as_version=4)
            published = _published(chapter, notebook)
        except ChapterError as error:
            part.replace(failed)
            raise ChapterError(f"{error}; the notebook up to there is {failed}") from error
        seconds = time.perf_counter() - started
        made |= {"wall_seconds": round(seconds, 1), "resumed": resumed}
        path = None
        if published is not None:
            head = {
                "chapter": chapter.name, "scale": scale, "parameters": dict(parameters),
                "scale_sha256": scale_digest(chapter, scale),
            }  # fmt: skip
            path = _numbers_path(chapter, scale, variant)
            _write_json(path, {"numbers": published["numbers"] | head, "provenance": made})
        summary = published["summary"] if published else ""
        notebook.metadata["geolib_run"] = {
            "provenance": made, "publishes": published is not None, "summary": summary,
            "scale": scale, "parameters": dict(parameters),
        }  # fmt: skip
        nbformat.write(notebook, part)
        part.replace(goal)
    return Outcome(goal, path, summary, seconds)


@contextlib.contextmanager
def _scratch(goal: Path) -> Iterator[tuple[Path, Path]]:
    """Yield two paths beside the goal that are gone afterwards, also after Ctrl-C."""
    paths = tuple(goal.with_suffix(f".{os.getpid()}.{kind}.ipynb") for kind in ("source", "part"))
    try:
        yield paths[0], paths[1]
    finally:
        for path in paths:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _checkpoints(goal: Path, digest: str) -> Iterator[bool]:
    """Let the chapter's sweeps take up what an interrupted run of the same sources finished; yield whether one did.

    They keep their parts in a folder beside the goal, which goes when the chapter succeeds.
    """
    folder = goal.with_suffix(".checkpoints")
    for stale in folder.glob("*"):
        if stale.name != digest:
            shutil.rmtree(stale)
    before = os.environ.get("GEOLIB_CHECKPOINTS")
    os.environ["GEOLIB_CHECKPOINTS"] = str(folder / digest)
    try:
        yield (folder / digest).exists()
    finally:
        os.environ.pop("GEOLIB_CHECKPOINTS")
        if before is not None:
            os.environ["GEOLIB_CHECKPOINTS"] = before
    shutil.rmtree(folder, ignore_errors=True)


def _published(chapter: Chapter, notebook: Any) -> dict[str, Any] | None:
    found = [
        output.metadata[_KEY]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if _KEY in output.get("metadata", {})
    ]
    if len(found) > 1:
        raise ChapterError(f"{chapter.name} failed: a chapter publishes its numbers once, not {len(found)} times")
    return dict(found[0]) if found else None


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        part.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
