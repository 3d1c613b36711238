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
from geolib.results import notebook_path, numbers_path, variant_name, write_json

__all__ = ["Outcome", "find_outcome", "run_chapter"]

#: Names of the files beside the sweeps' own: how many seconds the run took, once it is finished, and the digest of the
#: ledger's rules under which it began.
_FINISHED, _RULES = "finished", "rules"


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
    # A smoke run's sweeps take less time than worker processes take to start and to end.
    cores = _environment(LOKY_MAX_CPU_COUNT="1") if scale == "smoke" else contextlib.nullcontext()
    scratch = _scratch(goal)
    with cores, scratch as (source, part), _checkpoints(goal, made["source_sha256"], rules, reuse) as earlier:
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
                "scale_sha256": grid, "rules_sha256": earlier.rules,
            }  # fmt: skip
            path = numbers_path(chapter, scale, variant)
            made = _write_numbers(path, published["numbers"] | head, made)
        summary = published["summary"] if published else ""
        if parameters.get("limit_train"):
            summary += f"; reduced to {parameters['limit_train']:,} training images"
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
    write_json(path, {"numbers": numbers, "provenance": made})
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
    """What the sweeps were started under, and what an earlier run left of them.

    Attributes
    ----------
    rules
        Digest of the ledger's rules for the chapter when its first sweep began.
    interrupted
        Whether an earlier run was stopped.
    seconds
        Wall time of an earlier run that finished, else 0.
    """

    rules: str
    interrupted: bool = False
    seconds: float = 0.0


@contextlib.contextmanager
def _checkpoints(goal: Path, digest: str, rules: str, reuse: bool) -> Iterator[_Earlier]:
    """Let the chapter's sweeps take up what an earlier run of the same sources finished; yield what that was.

    They keep their parts in a folder beside the goal. It stays when the chapter succeeds, marked as finished, but only
    `reuse` takes from a finished run: who asks for a run gets one. What is taken up keeps the rules under which it
    began, or a changed rule would seem to be older than the networks that it judges.
    """
    folder = goal.with_suffix(".checkpoints")
    own = folder / digest
    for stale in folder.glob("*"):
        if stale != own or (_read(own / _FINISHED) and not reuse):
            shutil.rmtree(stale)
    finished, interrupted = float(_read(own / _FINISHED) or 0), own.exists()
    rules = _read(own / _RULES) or rules
    started = time.perf_counter()
    _write(own / _RULES, rules)
    try:
        with _environment(GEOLIB_CHECKPOINTS=str(own)):
            yield _Earlier(rules, interrupted and not finished, finished)
    finally:
        if {path.name for path in own.iterdir()} == {_RULES}:  # no sweep kept anything
            shutil.rmtree(folder)
    if own.exists() and not finished:
        _write(own / _FINISHED, f"{time.perf_counter() - started}")


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Set environment variables, which the kernel inherits, and put them back afterwards."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _read(path: Path) -> str:
    return path.read_text("utf-8") if path.exists() else ""


def _write(path: Path, text: str) -> None:
    with replacing(path) as part:
        part.write_text(text, "utf-8")


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
