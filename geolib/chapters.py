"""A chapter's source, its parameters, and what they may be: everything checked before anything runs."""

from __future__ import annotations

import ast
import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = [
    "Chapter",
    "UsageError",
    "book_root",
    "chapter_names",
    "find_chapter",
    "pages",
    "parse_assignment",
    "resolve_parameters",
    "scale_values",
]

_TYPES: dict[str, dict[str, Any]] = {
    "bool": {"type": "boolean"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "str": {"type": "string"},
    "list[int]": {"type": "array", "items": {"type": "integer"}},
    "list[float]": {"type": "array", "items": {"type": "number"}},
    "list[str]": {"type": "array", "items": {"type": "string"}},
}
_WORDS = {"boolean": "true or false", "integer": "an integer", "number": "a number", "string": "a string"}
#: What `describe` can put into words; a range with another keyword is refused, or its message would be silent on it.
_KEYWORDS = {"type", "enum", "items", "uniqueItems", "minItems", "contains", "minimum", "maximum"}
_KEYWORDS |= {"exclusiveMinimum", "exclusiveMaximum", "const"}
_PLURALS = {"boolean": "truth values", "integer": "integers", "number": "numbers", "string": "strings"}


class UsageError(ValueError):
    """What was asked for does not exist or is not allowed; the message is one sentence for the reader."""


@dataclass(frozen=True)
class Chapter:
    """A page of the book that computes.

    Attributes
    ----------
    root
        The book's root, the folder of `_toc.yml`.
    name
        Path below ``book/`` without its suffix, for example ``figures/resnet_vs_plain``.
    defaults
        Parameter -> value in the cell tagged ``parameters``.
    schemas
        Parameter -> JSON schema: its type from the annotation in that cell, its range from the front matter.
    inputs
        Files and folders that the chapter reads, from the front matter, as paths below the root: when one changes, it
        runs again.
    code
        The sources of its code cells, in order.
    """

    root: Path
    name: str
    defaults: Mapping[str, Any]
    schemas: Mapping[str, Mapping[str, Any]]
    inputs: tuple[str, ...] = ()
    code: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The chapter's source."""
        return self.root / "book" / f"{self.name}.md"

    @property
    def computing(self) -> tuple[str, ...]:
        """The cells that decide its numbers: up to the one that publishes them; all if it publishes none."""
        last = next((k for k, cell in enumerate(self.code) if "publish_numbers(" in cell), len(self.code))
        return self.code[: last + 1]


def book_root(start: Path) -> Path:
    """Return the nearest folder at or above `start` that holds `_toc.yml` and ``book/``."""
    for folder in (start, *start.parents):
        if (folder / "_toc.yml").is_file() and (folder / "book").is_dir():
            return folder
    raise UsageError(f"no book at or above {start}: run this inside a copy of the book, the folder that has _toc.yml")


def pages(root: Path) -> list[str]:
    """Return the pages of the table of contents in order, as paths below ``book/`` without suffix."""
    import yaml

    found: list[str] = []

    def visit(node: Any) -> None:
        if isinstance(node, Mapping):
            found.extend(str(node[key]) for key in ("root", "file") if key in node)
            for key in ("parts", "chapters", "sections"):
                visit(node.get(key))
        elif isinstance(node, list):
            for child in node:
                visit(child)

    visit(yaml.safe_load((root / "_toc.yml").read_text("utf-8")))
    return [page.removeprefix("book/") for page in found]


def find_chapter(root: Path, name: str) -> Chapter:
    """Read a chapter by name; raise `UsageError` if it is not one."""
    if name not in chapter_names(root):
        raise UsageError(f"unknown chapter {name!r}{_suggest(name, chapter_names(root))}")
    return _read_chapter(root, name)


def chapter_names(root: Path) -> list[str]:
    """Return those pages of the table of contents that compute, in order."""
    sources = {page: root / "book" / f"{page}.md" for page in pages(root)}
    return [page for page, path in sources.items() if path.is_file() and "{code-cell}" in path.read_text("utf-8")]


def _read_chapter(root: Path, name: str) -> Chapter:
    import jupytext

    notebook = jupytext.read(root / "book" / f"{name}.md")
    front = notebook.metadata.get("geolib", {})
    ranges, inputs = front.get("parameters", {}), tuple(front.get("inputs", ()))
    sources = [cell.source for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    defaults: dict[str, Any] = {}
    schemas: dict[str, Mapping[str, Any]] = {}
    for statement in ast.parse(sources[0]).body if sources else []:
        if not (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value):
            raise UsageError(f"{name}: its parameters cell may only hold lines 'name: type = value'")
        parameter, annotation = statement.target.id, ast.unparse(statement.annotation)
        if annotation not in _TYPES:
            raise UsageError(f"{name}: parameter {parameter!r} has type {annotation}; allowed are {', '.join(_TYPES)}")
        defaults[parameter] = ast.literal_eval(statement.value)
        schemas[parameter] = _merge(_TYPES[annotation], ranges.get(parameter, {}))
    code = tuple(cell.source for cell in notebook.cells if cell.cell_type == "code")
    chapter = Chapter(root, name, defaults, schemas, inputs, code)
    for parameter, schema in ranges.items():
        _check_known(chapter, parameter, "its front matter")
        unknown = {*schema, *schema.get("items", {}), *schema.get("contains", {})} - _KEYWORDS
        if unknown:
            known = ", ".join(sorted(_KEYWORDS))
            raise UsageError(f"{name}: the range of {parameter!r} uses {', '.join(unknown)}; known are {known}")
    for parameter, value in defaults.items():
        _check_value(chapter, parameter, value, "its parameters cell")
    return chapter


def _merge(base: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**base, **extra}
    if "items" in base and "items" in extra:
        merged["items"] = {**base["items"], **extra["items"]}
    return merged


def parse_assignment(chapter: Chapter, text: str) -> tuple[str, Any]:
    """Read ``name=value`` from the command line. The value is data (JSON, or a bare string), never code."""
    name, equals, raw = text.partition("=")
    if not equals:
        raise UsageError(f"-p takes name=value, for example -p epochs=20; got {text!r}")
    _check_known(chapter, name, "-p")
    if chapter.schemas[name]["type"] == "string":
        return name, raw
    try:
        return name, json.loads(raw, parse_constant=_refuse_constant)
    except ValueError:
        return name, raw  # left as the string it is; the type check says what it should have been


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON number")


def resolve_parameters(chapter: Chapter, scale: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return every parameter's value: the chapter's defaults, under the scale's, under `overrides`, all checked.

    A scale file has for each chapter ``parameters``, and ``by_dataset`` with values that replace them when the
    parameter `dataset` has that value, for what depends on the data, as the number of epochs.
    """
    place, dataset = f"book/scales/{scale}.yml", overrides.get("dataset")
    # Every data set's values are checked, also those not used now: a mistake in a scale file shows at once.
    branches = scale_entry(chapter, scale).get("by_dataset", {})
    values = scale_values(chapter, scale, dataset)
    for source, given in (*((place, branch) for branch in branches.values()), (place, values), ("-p", overrides)):
        for parameter, value in given.items():
            _check_known(chapter, parameter, source)
            _check_value(chapter, parameter, value, source)
    return {**chapter.defaults, **values, **overrides}


def scale_values(chapter: Chapter, scale: str, dataset: str | None = None) -> dict[str, Any]:
    """Return the parameters that a scale file sets for a chapter on a data set, by default on the scale's own."""
    entry = scale_entry(chapter, scale)
    values: dict[str, Any] = dict(entry.get("parameters", {}))
    dataset = dataset or values.get("dataset", chapter.defaults.get("dataset"))
    return values | dict(entry.get("by_dataset", {}).get(dataset, {}))


def scale_entry(chapter: Chapter, scale: str) -> dict[str, Any]:
    """Return what the scale file says about a chapter; raise `UsageError` for an unknown scale."""
    import yaml

    folder = chapter.root / "book" / "scales"
    known = sorted(path.stem for path in folder.glob("*.yml"))
    if scale not in known:
        raise UsageError(f"unknown scale {scale!r}{_suggest(scale, known)}")
    return dict((yaml.safe_load((folder / f"{scale}.yml").read_text("utf-8")) or {}).get(chapter.name, {}))


def _check_known(chapter: Chapter, parameter: str, place: str) -> None:
    if parameter not in chapter.schemas:
        raise UsageError(
            f"{chapter.name} has no parameter {parameter!r} (given in {place}){_suggest(parameter, chapter.schemas)}"
        )


def _check_value(chapter: Chapter, parameter: str, value: Any, place: str) -> None:
    from jsonschema import Draft202012Validator, validators

    # JSON Schema counts 2.0 as an integer; a chapter that says int means int.
    integers = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, v: type(v) is int)
    strict = validators.extend(Draft202012Validator, type_checker=integers)
    if next(strict(chapter.schemas[parameter]).iter_errors(value), None) is not None:
        raise UsageError(
            f"{chapter.name}: parameter {parameter!r} is {json.dumps(value)} (given in {place}), "
            f"but must be {describe(chapter.schemas[parameter])}"
        )


def describe(schema: Mapping[str, Any]) -> str:
    """Say in words what a schema allows."""
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    if schema["type"] != "array":
        return _WORDS[schema["type"]] + _bounds(schema)
    items = schema["items"]
    what = (
        "values out of " + ", ".join(map(str, items["enum"]))
        if "enum" in items
        else _PLURALS[items["type"]] + _bounds(items)
    )
    distinct = "distinct " if schema.get("uniqueItems") else ""
    least = f"at least {schema['minItems']} " if "minItems" in schema else ""
    among = f", {schema['contains']['const']} among them" if "contains" in schema else ""
    return f"a list of {least}{distinct}{what}{among}"


def _bounds(schema: Mapping[str, Any]) -> str:
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {schema[key]}" for key, sign in signs.items() if key in schema]
    return f" {' and '.join(bounds)}" if bounds else ""


def _suggest(given: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(given, list(known), n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"{hint}; allowed: {', '.join(known) or 'none'}"
