"""Execute a notebook, say how far it is, and put a failure into one sentence."""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from geolib.chapters import Chapter

__all__ = ["ChapterError", "execute"]


class ChapterError(RuntimeError):
    """A chapter stopped with an error; the message names the chapter, the cell and the error."""


def execute(
    chapter: Chapter, source: Path, executed: Path, parameters: Mapping[str, Any], report: Callable[[str], None]
) -> None:
    """Execute a converted chapter with papermill.

    Parameters
    ----------
    chapter
        Names the run and the folder it works in.
    source, executed
        Notebook to run, and where papermill keeps it cell by cell.
    parameters
        Values injected after the cell tagged ``parameters``.
    report
        Called with chapter, cell, elapsed time and the cell's first line as each cell starts; what the cells write to
        standard error, as progress bars, goes there as it comes.

    Raises
    ------
    ChapterError
        If a cell fails or the kernel dies.
    """
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
                source, executed, parameters=dict(parameters), engine_name="geolib", progress_bar=False,
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
