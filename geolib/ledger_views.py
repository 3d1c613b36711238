"""The ledger as a terminal and as a page show it."""

from __future__ import annotations

import html
import textwrap
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geolib.chapters import book_root, chapter_names
from geolib.rules import interval_words

if TYPE_CHECKING:
    import pandas as pd
    from IPython.display import HTML, Markdown

__all__ = ["ledger_text", "show_ledger", "show_ledger_summary"]

_HEADINGS = ("id", "setting", "published", "ours", "verdict", "chapter")
#: Share of a terminal's width that each column gets.
_SHARES = (0.18, 0.22, 0.13, 0.17, 0.14, 0.16)

#: One row below the other on a wide screen; on a narrow one each row a card, its cells named.
_STYLE = """<style>
table.ledger {width: 100%; table-layout: fixed; border-collapse: collapse; font-size: 85%}
table.ledger th, table.ledger td {text-align: left; vertical-align: top; padding: .3em .5em; overflow-wrap: anywhere}
table.ledger code {white-space: normal; color: inherit; background: none}
table.ledger tbody tr {border-top: 1px solid #8886}
table.ledger tr.statement td {font-weight: bold; padding-top: .8em}
table.ledger tr.statement small {font-weight: normal}
@media (max-width: 900px) {
  table.ledger thead {display: none}
  table.ledger, table.ledger tbody, table.ledger tr, table.ledger td {display: block; width: auto}
  table.ledger td:empty {display: none}
  table.ledger td[data-label]::before {content: attr(data-label) ": "; font-weight: bold}
}
</style>"""


def number_words(row: Mapping[str, Any]) -> tuple[str, str]:
    """Return the published number with its reading error, and ours with its interval, as words."""
    published = ""
    if row["published"] is not None:
        published = f"{row['published']:g}" + (f" ± {row['reading_error']:g}" if row["reading_error"] else "")
    return published, interval_words(row["mean"], row["low"], row["high"])


def _verdict_words(row: Mapping[Any, Any]) -> list[str]:
    """Return the verdict and what qualifies it: its heading, and that its run is of an earlier version."""
    earlier = "computed with an earlier version" if row["earlier"] else ""
    return [words for words in (row["verdict"], row["heading"], earlier) if words]


def ledger_text(rows: Sequence[Mapping[str, Any]], width: int) -> str:
    """Return the ledger as a table of lines no longer than `width`, with a title for each statement or slide."""
    width = max(width, 60)
    widths = [max(4, int(share * (width - len(_SHARES) + 1))) for share in _SHARES]
    lines, last = [*_wrapped(_HEADINGS, widths), "-" * width], ""
    for row in rows:
        own = row["group"] == "statements"
        title = f"{row['id']}: {row['statement']} ({row['place']})" if own else f"Numbers of {row['place']}"
        if title != last:
            lines += ["", *textwrap.wrap(title, width)]
            last = title
        verdict = ", ".join(_verdict_words(row))
        lines += _wrapped((row["id"], row["setting"], *number_words(row), verdict, row["chapter"]), widths)
    counts = ", ".join(f"{count} {verdict}" for verdict, count in Counter(row["verdict"] for row in rows).items())
    return "\n".join([*lines, "", *textwrap.wrap(f"{len(rows)} rows: {counts}", width)])


def _wrapped(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    columns = [
        textwrap.wrap(cell.replace("/", "/ ").replace("_", "_ "), width) or [""]
        for cell, width in zip(cells, widths, strict=True)
    ]
    columns = [[line.replace("/ ", "/").replace("_ ", "_") for line in column] for column in columns]
    return [
        " ".join(
            (column[k] if k < len(column) else "").ljust(width) for column, width in zip(columns, widths, strict=True)
        ).rstrip()
        for k in range(max(map(len, columns)))
    ]


def show_ledger(table: pd.DataFrame, group: str) -> HTML:
    """Return one group of the ledger's rows as a table for a page, each with a link to its chapter if there is one."""
    from IPython.display import HTML

    pages = set(chapter_names(book_root(Path.cwd())))
    shown = table[table["group"] == group]
    heads = ["setting", "published", "ours", "verdict", "figure", "command"]
    if group == "statements":
        heads.remove("published")
    body: list[str] = []
    for name, rows in shown.groupby("id", sort=False):
        first = rows.iloc[0]
        title = html.escape(f"{name}: {first['statement']} ({first['place']})")
        changes = "".join(f"<br><small>Rule changed {html.escape(change)}</small>" for change in first["changed"])
        body.append(f"<tr class='statement'><td colspan='{len(heads)}'>{title}{changes}</td></tr>")
        for row in rows.to_dict("records"):
            cells = _page_cells({str(key): value for key, value in row.items()}, pages)
            body.append("<tr>" + "".join(f"<td data-label='{head}'>{cells[head]}</td>" for head in heads) + "</tr>")
    head = "".join(f"<th>{name}</th>" for name in heads)
    return HTML(f"{_STYLE}<table class='ledger'><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>")


def _page_cells(row: Mapping[str, Any], pages: Container[str]) -> dict[str, str]:
    published, ours = number_words(row)
    conditions = [
        f"{one['what']}: {interval_words(one['mean'], one['low'], one['high']) or 'none'}, {one['verdict']}"
        for one in row["conditions"]
    ]
    first, *beside = _verdict_words(row)
    verdict = f"<strong>{html.escape(first)}</strong>"
    verdict += "".join(f"<br>{html.escape(words)}" for words in (*beside, row["why"]) if words)
    chapter = html.escape(row["chapter"])
    link = f"<a class='reference internal' href='{chapter}.html'>{chapter}</a>" if row["chapter"] in pages else chapter
    return {
        "setting": html.escape(row["setting"]), "published": published,
        "ours": "<br>".join(map(html.escape, conditions or [ours])), "verdict": verdict, "figure": link,
        "command": f"<code>{html.escape(row['command'])}</code>",
    }  # fmt: skip


def show_ledger_summary(table: pd.DataFrame) -> Markdown:
    """Return the ledger at a glance: one line a statement with its verdicts, one a slide with its counts."""
    from IPython.display import Markdown

    lines = []
    for name, rows in table[table["group"] == "statements"].groupby("id", sort=False):
        where: dict[str, list[str]] = {}
        for _, chapter in rows.groupby("chapter", sort=False):
            for row, words in zip(chapter.to_dict("records"), _differences(chapter), strict=True):
                verdict = ", ".join(_verdict_words(row))
                place = ", ".join([row["chapter"].rpartition("/")[2].replace("_", " "), *words])
                where.setdefault(verdict, []).append(place)
        parts = [v if v == "not run" else f"{v} ({'; '.join(places)})" for v, places in where.items()]
        lines.append(f"- **{name}**, {rows.iloc[0]['statement']}: {'; '.join(parts)}")
    for _, rows in table[table["group"] != "statements"].groupby("group", sort=False):
        counts = Counter(
            (", ".join(_verdict_words(row)), row["scale"], row["dataset"]) for row in rows.to_dict("records")
        )
        said = [f"{count} {verdict} ({scale}, {dataset})" for (verdict, scale, dataset), count in counts.items()]
        lines.append(f"- **Numbers of {rows.iloc[0]['place']}**: {'; '.join(said)}")
    return Markdown("\n".join(lines))


def _differences(rows: pd.DataFrame) -> list[list[str]]:
    """Return scale and data of each row of one chapter, and what else its setting does not share."""
    parts = [words.split(", ") for words in rows["setting"]]
    shared = set.intersection(*map(set, parts))
    return [[*words[:2], *(word for word in words[2:] if word not in shared)] for words in parts]
