"""The console command ``geolib``. Heavy modules are imported only by the subcommand that needs them."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from geolib.chapters import UsageError, book_root, find_chapter, parse_assignment, resolve_parameters

__all__ = ["main"]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say in one sentence what was wrong, without the usage lines."""
        raise UsageError(f"{message}; see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="geolib", description="Run the chapters of the book and build its pages.")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    run = commands.add_parser("run", help="run one chapter", description="Run one chapter; write notebook and numbers.")
    run.add_argument("chapter", help="path below book/ without suffix, for example figures/resnet_vs_plain")
    run.add_argument("-p", dest="parameters", metavar="NAME=VALUE", action="append", default=[],
                     help="set a parameter; lists as JSON, for example -p 'seeds=[100, 101]'")  # fmt: skip
    run.add_argument("--limit-train", metavar="N", type=int,
                     help="train on N random training points only; the result is labelled as reduced")  # fmt: skip
    book = commands.add_parser("book", help="run what changed and build the site", description="Build the book.")
    for command in (run, book):
        command.add_argument("--scale", default="laptop", help="smoke, laptop (default) or paper")
    ledger = commands.add_parser("ledger", help="judge every claim from the results", description="Judge every claim.")
    ledger.add_argument("--check", action="store_true",
                        help="write nothing; exit 1 if a committed row, grid or rule does not follow")  # fmt: skip
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0, 1 for a failed run, 2 for bad input, 130 for Ctrl-C."""
    signal.signal(signal.SIGTERM, _interrupt)  # ends a run as cleanly as Ctrl-C
    try:
        options = _parser().parse_args(arguments)
        return {"run": _run, "book": _book, "ledger": _ledger}[options.command](options)
    except UsageError as error:
        print(f"geolib: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("geolib: interrupted; earlier results are as they were", file=sys.stderr)
        return 130


def _interrupt(*_: Any) -> NoReturn:
    raise KeyboardInterrupt


def _run(options: argparse.Namespace) -> int:
    chapter = find_chapter(book_root(Path.cwd()), options.chapter)
    given = list(options.parameters)
    if options.limit_train is not None:
        given.append(f"limit_train={options.limit_train}")
    overrides = dict(parse_assignment(chapter, text) for text in given)
    parameters = resolve_parameters(chapter, options.scale, overrides)

    from geolib.execution import ChapterError
    from geolib.reproduce import run_chapter

    try:
        outcome = run_chapter(chapter, options.scale, parameters)
    except ChapterError as error:
        print(f"geolib: {error}", file=sys.stderr)
        return 1
    print(f"{chapter.name} ({outcome.seconds:.0f} s)  {outcome.summary}".rstrip())
    print(f"notebook {outcome.notebook}")
    if outcome.numbers:
        print(f"numbers  {outcome.numbers}")
    return 0


def _book(options: argparse.Namespace) -> int:
    root = book_root(Path.cwd())

    from geolib.book import SiteError, build_site
    from geolib.execution import ChapterError

    try:
        build_site(root, options.scale)
    except (ChapterError, SiteError) as error:
        print(f"geolib: {error}", file=sys.stderr)
        return 1
    return 0


def _ledger(options: argparse.Namespace) -> int:
    root = book_root(Path.cwd())
    if options.check:
        from geolib.ledger_check import check_ledger

        found = check_ledger(root)
        for path in found.earlier:
            print(f"{path}: computed with an earlier version")
        for line in found.uncommitted:
            print(line)
        for fault in found.faults:
            print(f"geolib: {fault}", file=sys.stderr)
        if not found.faults:
            print("every row of the ledger follows from the results")
        return 1 if found.faults else 0

    from geolib.ledger import ledger_rows, write_ledger
    from geolib.ledger_views import ledger_text

    rows = ledger_rows(root)
    print(ledger_text(rows, shutil.get_terminal_size().columns))
    print(f"written to {write_ledger(root, rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
