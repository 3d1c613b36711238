"""Run a chapter at a scale: source to executed notebook, with its numbers beside it."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import importlib.metadata
import json
import logging
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geolib.chapters import Chapter, scale_entry

__all__ = ["ChapterError", "Outcome", "notebook_path", "publish_numbers", "run_chapter", "source_digest"]

#: Key of an output's metadata under which a notebook carries its numbers.
_KEY = "geolib_numbers"
_PACKAGES = ("geolib", "numpy", "scipy", "POT", "scikit-learn", "torch")


class ChapterError(RuntimeError):
    """A chapter stopped with an error; the message names the chapter, the cell, the error and the kept notebook."""


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


def source_digest(chapter: Chapter, parameters: Mapping[str, Any]) -> str:
    """Return the SHA-256 of all that decides a chapter's result: chapter, parameters, geolib, lock file."""
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode())
    library = sorted(path for path in Path(__file__).parent.iterdir() if path.is_file())
    for path in (chapter.path, chapter.root / "requirements.lock", *library):
        digest.update(path.name.encode() + b"\0" + (path.read_bytes() if path.exists() else b"") + b"\0")
    return digest.hexdigest()


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
    """
    import jupytext
    import nbformat

    goal = notebook_path(chapter, scale, variant)
    goal.parent.mkdir(parents=True, exist_ok=True)
    failed = goal.with_suffix(".failed.ipynb")
    failed.unlink(missing_ok=True)
    started, commit = time.perf_counter(), _commit(chapter.root)
    with _scratch(goal) as (source, part):
        nbformat.write(jupytext.read(chapter.path), source)
        try:
            _execute(chapter, source, part, parameters, report)
            notebook = nbformat.read(part, as_version=4)
            published = _published(chapter, notebook)
        except ChapterError as error:
            part.replace(failed)
            raise ChapterError(f"{error}; the notebook up to there is {failed}") from error
        seconds = time.perf_counter() - started
        provenance = _provenance(chapter, scale, parameters, variant, commit, seconds)
        path = None
        if published is not None:
            grid = json.dumps(scale_entry(chapter, scale), sort_keys=True).encode()
            head = {
                "chapter": chapter.name, "scale": scale, "parameters": dict(parameters),
                "scale_sha256": hashlib.sha256(grid).hexdigest(),
            }  # fmt: skip
            path = _numbers_path(chapter, scale, variant)
            _write_json(path, {"numbers": published["numbers"] | head, "provenance": provenance})
        summary = published["summary"] if published else ""
        notebook.metadata["geolib_run"] = {
            "provenance": provenance, "publishes": published is not None, "summary": summary,
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


def _execute(
    chapter: Chapter, source: Path, part: Path, parameters: Mapping[str, Any], report: Callable[[str], None]
) -> None:
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import Engine, papermill_engines
    from papermill.exceptions import PapermillExecutionError

    started = time.perf_counter()

    class ReportingEngine(Engine):  # type: ignore[misc]
        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **_: Any) -> Any:
            start_cell, total = nb_man.cell_start, len(nb_man.nb.cells)

            def cell_start(cell: Any, cell_index: int, **rest: Any) -> None:
                if cell.cell_type == "code":
                    elapsed = datetime.timedelta(seconds=round(time.perf_counter() - started))
                    report(f"{chapter.name}  cell {cell_index + 1}/{total}  {elapsed}  {_first_line(cell.source)}")
                start_cell(cell, cell_index, **rest)

            nb_man.cell_start = cell_start
            client = PapermillNotebookClient(nb_man, kernel_name=kernel_name, stderr_file=sys.stderr)
            # What cells write arrives as messages; the kernel's own stream only has its dying words after Ctrl-C.
            return client.execute(stderr=subprocess.DEVNULL)

    papermill_engines.register("geolib", ReportingEngine)
    # One thread for the kernel's own arithmetic: results depend on the order of floating-point sums. Its worker
    # processes set their own.
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        with _quiet_papermill():
            papermill.execute_notebook(
                source, part, parameters=dict(parameters), engine_name="geolib", progress_bar=False,
                cwd=chapter.path.parent,
            )  # fmt: skip
    except PapermillExecutionError as error:
        if error.ename == "KeyboardInterrupt":
            raise KeyboardInterrupt from error
        raise ChapterError(
            f"{chapter.name} failed in cell {error.cell_index + 1} ({_first_line(error.source)}) "
            f"with {error.ename}: {error.evalue}"
        ) from error
    except DeadKernelError as error:
        raise ChapterError(f"{chapter.name} failed: its kernel died ({error}), often for want of memory") from error
    except KeyboardInterrupt:
        # When the interpreter ends, asyncio would log the interrupted cell's traceback over the one line that matters.
        logging.getLogger("asyncio").disabled = True
        raise


def _first_line(source: str) -> str:
    return next((line.strip()[:60] for line in source.splitlines() if line.strip()), "")


@contextlib.contextmanager
def _quiet_papermill() -> Iterator[None]:
    """Silence papermill's log of what `report` says in fewer words."""
    logger = logging.getLogger("papermill")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


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


def _provenance(
    chapter: Chapter, scale: str, parameters: Mapping[str, Any], variant: str, commit: str, seconds: float
) -> dict[str, Any]:
    import psutil

    command = ["geolib", "run", chapter.name, "--scale", scale]
    given = _differing(chapter, scale, parameters) if variant else {}
    command += [f"-p '{name}={_argument(value)}'" for name, value in given.items()]
    return {
        "command": " ".join(command),
        "commit": commit,
        "source_sha256": source_digest(chapter, parameters),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "wall_seconds": round(seconds, 1),
        "hardware": f"{_processor()}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB",
        "threads": 1,
        "versions": {"python": platform.python_version()}
        | {package: importlib.metadata.version(package) for package in _PACKAGES},
    }


def _differing(chapter: Chapter, scale: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    from geolib.chapters import resolve_parameters

    overrides = {"dataset": parameters["dataset"]} if "dataset" in parameters else {}
    usual = resolve_parameters(chapter, scale, overrides)
    own = resolve_parameters(chapter, scale, {})
    return {
        name: value
        for name, value in parameters.items()
        if value != usual[name] or (name == "dataset" and value != own[name])
    }


def _argument(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _commit(root: Path) -> str:
    """Return the commit of the working tree, with a '+' if it has changes outside results/, or '' without git."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", ".", ":!results")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
