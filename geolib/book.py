"""Build the book: run what changed, stage a fresh tree of executed chapters, render it."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from geolib.chapters import Chapter, chapter_names, find_chapter, resolve_parameters
from geolib.claims import JUDGED_SCALES
from geolib.ledger import ledger_rows, write_ledger
from geolib.reproduce import find_outcome, run_chapter

__all__ = ["SiteError", "build_site"]


class SiteError(RuntimeError):
    """The pages could not be rendered without a warning."""


def build_site(root: Path, scale: str, report: Callable[[str], None] = print) -> Path:
    """Bring every chapter and the site up to date at a scale; return the site's index page.

    Chapters run only if what their pages show changed, and train only if what their numbers depend on did. The ledger
    is judged anew between the chapters and the pages that read their results. Rendering starts from a fresh tree each
    time, since Jupyter Book hides a failure the second time it sees it, and treats warnings as errors.
    """
    chapters = {name: find_chapter(root, name) for name in chapter_names(root)}
    settings = {name: resolve_parameters(chapter, scale, {}) for name, chapter in chapters.items()}
    readers = [name for name, chapter in chapters.items() if "results" in chapter.inputs]
    results = []
    for name in [*(name for name in chapters if name not in readers), *readers]:
        if readers and name == readers[0] and scale in JUDGED_SCALES:
            write_ledger(root, ledger_rows(root))
        chapter = chapters[name]
        outcome = find_outcome(chapter, scale, settings[name])
        state = "unchanged" if outcome else "ran"
        outcome = outcome or run_chapter(chapter, scale, settings[name], reuse=True)
        results.append(f"{name} ({state}, {outcome.seconds:.0f} s)  {outcome.summary}".rstrip())
    stage = _stage(root, scale, settings)
    index = _render(root, scale, stage)
    for line in results:
        report(line)
    report(f"The book is at {index}")
    return index


def _stage(root: Path, scale: str, settings: dict[str, dict[str, Any]]) -> Path:
    """Lay out a copy of the book in which each chapter is its executed, stamped notebook."""
    import nbformat
    import yaml

    stage = root / "_build" / scale / "stage"
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True)
    config = yaml.safe_load((root / "_config.yml").read_text("utf-8"))
    config["execute"]["execute_notebooks"] = "off"
    (stage / "_config.yml").write_text(yaml.safe_dump(config), "utf-8")
    shutil.copy(root / "_toc.yml", stage)
    shutil.copytree(root / "book", stage / "book", ignore=shutil.ignore_patterns("scales", ".ipynb_checkpoints"))
    for name, parameters in settings.items():
        chapter = find_chapter(root, name)  # read anew: it may have changed since it ran
        outcome = find_outcome(chapter, scale, parameters)
        if outcome is None:
            raise SiteError(f"{name} changed while the book was being built; run the command again")
        notebook = _with_outputs(chapter, nbformat.read(outcome.notebook, as_version=4))
        _stamp(notebook, scale)
        (stage / "book" / f"{name}.md").unlink()
        nbformat.write(notebook, stage / "book" / f"{name}.ipynb")
    return stage


def _with_outputs(chapter: Chapter, executed: Any) -> Any:
    """Return the chapter as it is written now, with the outputs of its execution: its text may be newer than they."""
    import jupytext

    notebook = jupytext.read(chapter.path)
    injected = [cell for cell in executed.cells if "injected-parameters" in cell.metadata.get("tags", [])]
    ran = iter([cell for cell in executed.cells if cell.cell_type == "code" and cell not in injected])
    cells = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            done = next(ran)
            cell |= {"outputs": done.outputs, "execution_count": done.execution_count}
        cells += [cell, *(injected if "parameters" in cell.metadata.get("tags", []) else [])]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"  # an id of its own choice would be random
    notebook.cells = cells
    notebook.metadata = executed.metadata
    return notebook


def _stamp(notebook: Any, scale: str) -> None:
    """Add to a page how it was made, and at smoke scale that it proves nothing."""
    from nbformat.v4 import new_markdown_cell

    run = notebook.metadata["geolib_run"]
    made = run["provenance"]
    commit = made["commit"]
    code = f"commit `{commit.rstrip('+')[:12]}`" if commit else "an unversioned copy"
    rows = {
        "Command": f"`{made['command']}`",
        "Code": code + (" with uncommitted changes" if commit.endswith("+") else ""),
        "Date and wall time": f"{made['date']}, {made['wall_seconds']:.0f} s"
        + (", resumed" if made.get("resumed") else ""),
        "Hardware": f"{made['hardware']}, {made['threads']} thread a process",
        "Versions": ", ".join(f"{name} {version}" for name, version in made["versions"].items()),
    }
    if run["parameters"]:
        rows["Parameters"] = ", ".join(f"`{name} = {json.dumps(value)}`" for name, value in run["parameters"].items())
    listing = "\n".join(f"{key}\n: {value}\n" for key, value in rows.items())
    note = f":::{{admonition}} How this page was made: scale `{scale}`\n:class: note dropdown\n\n{listing}:::"
    notebook.cells.append(new_markdown_cell(note, id="how-made"))  # an id of its own choice would be random
    if scale == "smoke":
        warning = (
            "\n:::{warning}\nThis copy was built at smoke scale: few seeds and short training, to show that everything "
            "runs. It supports no claim.\n:::\n"
        )
        title, _, text = notebook.cells[0].source.partition("\n")
        notebook.cells[0].source = f"{title}\n{warning}{text}"


def _render(root: Path, scale: str, stage: Path) -> Path:
    """Render the staged tree unless the site already shows exactly it."""
    build = root / "_build" / scale
    html, seal = build / "html", build / "html.sha256"
    digest = hashlib.sha256()
    for path in sorted(path for path in stage.rglob("*") if path.is_file()):
        digest.update(str(path.relative_to(stage)).encode() + b"\0" + path.read_bytes() + b"\0")
    index = html / "index.html"
    if index.is_file() and seal.is_file() and seal.read_text("utf-8") == digest.hexdigest():
        return index
    output = build / "render"
    shutil.rmtree(output, ignore_errors=True)
    program = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    command = [*program, "build", str(stage), "--path-output", str(output)]
    done = subprocess.run([*command, "-W", "-n", "--keep-going"], capture_output=True, text=True)
    log = build / "render.log"
    log.write_text(done.stdout + done.stderr, "utf-8")
    rendered = output / "_build" / "html"
    if done.returncode or not (rendered / "index.html").is_file():
        problems = [line for line in log.read_text("utf-8").splitlines() if "WARNING" in line or "ERROR" in line]
        raise SiteError("\n".join(["the book could not be rendered:", *problems, f"the whole log is {log}"]))
    seal.unlink(missing_ok=True)
    shutil.rmtree(html, ignore_errors=True)
    rendered.replace(html)
    shutil.rmtree(output)
    seal.write_text(digest.hexdigest(), "utf-8")
    return index
