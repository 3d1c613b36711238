"""Every way to ask for the wrong thing is refused in one sentence before anything runs."""

import ast
import json
import subprocess
import sys

import pytest
import yaml

from geolib import chapters
from geolib.__main__ import main
from geolib.chapters import (
    UsageError,
    chapter_names,
    describe,
    find_chapter,
    pages,
    parse_assignment,
    resolve_parameters,
)
from geolib.sources import names_used


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["part/smal"], "unknown chapter 'part/smal' (did you mean 'part/small'?); allowed: part/small"),
        (["index"], "unknown chapter 'index'; allowed: part/small"),
        (["../../etc/passwd"], "unknown chapter '../../etc/passwd'; allowed: part/small"),
        (["part/small", "--scale", "lap"], "unknown scale 'lap' (did you mean 'laptop'?); allowed: laptop, smoke"),
        (["part/small", "-p", "cuont=4"],
         "part/small has no parameter 'cuont' (given in -p) (did you mean 'count'?); allowed: "
         "seeds, rate, dataset, names, count, loud, title"),
        (["part/small", "-p", "count"], "-p takes name=value, for example -p epochs=20; got 'count'"),
        (["part/small", "-p", "count=many"],
         "parameter 'count' is \"many\" (given in -p), but must be an integer >= 1"),
        (["part/small", "-p", "count=2.5"], "parameter 'count' is 2.5 (given in -p), but must be an integer >= 1"),
        (["part/small", "-p", "count=true"], "parameter 'count' is true (given in -p), but must be an integer >= 1"),
        (["part/small", "-p", "count=0"], "parameter 'count' is 0 (given in -p), but must be an integer >= 1"),
        (["part/small", "-p", "count=2.0"], "parameter 'count' is 2.0 (given in -p), but must be an integer >= 1"),
        (["part/small", "-p", "seeds=[1.0, 2]"], "must be a list of at least 2 distinct integers >= 0, 1 among them"),
        (["part/small", "-p", "seeds=[4, 5]"],
         "is [4, 5] (given in -p), but must be a list of at least 2 distinct integers >= 0, 1 among them"),
        (["part/small", "-p", "rate=0"], "parameter 'rate' is 0 (given in -p), but must be a number > 0 and <= 1"),
        (["part/small", "-p", "rate=NaN"],
         "parameter 'rate' is \"NaN\" (given in -p), but must be a number > 0 and <= 1"),
        (["part/small", "-p", "rate=Infinity"], 'is "Infinity" (given in -p), but must be a number'),
        (["part/small", "-p", "seeds=3"],
         "parameter 'seeds' is 3 (given in -p), but must be a list of at least 2 distinct integers >= 0, 1 among them"),
        (["part/small", "-p", "seeds=[3, 3]"], "must be a list of at least 2 distinct integers >= 0, 1 among them"),
        (["part/small", "-p", "seeds=[3, -1]"], "must be a list of at least 2 distinct integers >= 0, 1 among them"),
        (["part/small", "-p", "names=[\"c\"]"], "but must be a list of values out of a, b"),
        (["part/small", "-p", "dataset=svhn"],
         "parameter 'dataset' is \"svhn\" (given in -p), but must be one of digits, mnist"),
        (["part/small", "-p", "loud=1"], "parameter 'loud' is 1 (given in -p), but must be true or false"),
        (["part/small", "-p", "loud=__import__('os').abort()"], "but must be true or false"),
        (["part/small", "--speed", "9"], "unrecognized arguments: --speed 9; see geolib --help"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence_and_exit_2_before_anything_runs(book, capsys, arguments, message):
    assert main(["run", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("geolib: ")
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert not (book / "_build").exists()


def test_no_command_and_an_unknown_command_are_usage_errors(book, capsys):
    assert main([]) == 2
    assert main(["rnu"]) == 2
    assert "invalid choice: 'rnu'" in capsys.readouterr().err


def test_outside_a_book(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["run", "index"]) == 2
    assert "no book at or above" in capsys.readouterr().err


def test_a_book_is_found_from_below(book, monkeypatch):
    monkeypatch.chdir(book / "book" / "part")
    assert chapters.book_root(book / "book" / "part") == book


def test_defaults_under_scale_under_data_set_under_command_line(book):
    chapter = find_chapter(book, "part/small")
    assert resolve_parameters(chapter, "laptop", {})["count"] == 5
    assert resolve_parameters(chapter, "laptop", {})["rate"] == 0.5
    mnist = resolve_parameters(chapter, "laptop", {"dataset": "mnist"})
    assert (mnist["count"], mnist["rate"], mnist["dataset"]) == (50, 0.25, "mnist")
    assert resolve_parameters(chapter, "laptop", {"dataset": "mnist", "count": 7})["count"] == 7


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("rate=1e-3", 1e-3),
        ("rate=1", 1),
        ("seeds=[1, 5]", [1, 5]),
        ("loud=true", True),
        ("title=a=b", "a=b"),
        ("title=12", "12"),
        ("title=", ""),
        ("title=\"quoted\"", "\"quoted\""),
    ],
)  # fmt: skip
def test_values_are_data(book, text, value):
    chapter = find_chapter(book, "part/small")
    name, parsed = parse_assignment(chapter, text)
    assert name == text.split("=")[0]
    assert parsed == value
    assert resolve_parameters(chapter, "laptop", {name: parsed})[name] == value


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        ("part/small: {parameters: {cuont: 1}}", "no parameter 'cuont' (given in book/scales/laptop.yml)"),
        ("part/small: {parameters: {count: 0}}", "parameter 'count' is 0 (given in book/scales/laptop.yml)"),
        ("part/small: {by_dataset: {mnist: {count: 0}}}", "parameter 'count' is 0 (given in book/scales/laptop.yml)"),
        ("part/small: {by_dataset: {mnist: {cuont: 1}}}", "no parameter 'cuont' (given in book/scales/laptop.yml)"),
    ],
)
def test_mistakes_in_a_scale_file_are_refused_too(book, capsys, scale, message):
    (book / "book/scales/laptop.yml").write_text(scale, "utf-8")
    assert main(["run", "part/small"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("count: int = 3", "count: int = 0", "parameter 'count' is 0 (given in its parameters cell)"),
        ("count: int = 3", "count: complex = 3", "parameter 'count' has type complex; allowed are bool, int"),
        ("count: int = 3", "count = 3", "its parameters cell may only hold lines 'name: type = value'"),
        ("    count: {minimum: 1}", "    count: {multipleOf: 2}", "the range of 'count' uses multipleOf; known are"),
        ("    count: {minimum: 1}", "    cuont: {minimum: 1}", "no parameter 'cuont' (given in its front matter)"),
    ],
)
def test_mistakes_in_a_chapter_are_refused_too(book, capsys, old, new, message):
    path = book / "book/part/small.md"
    path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")
    assert main(["run", "part/small"]) == 2
    assert message in capsys.readouterr().err


def test_describe_says_what_is_allowed():
    assert describe({"type": "array", "items": {"type": "number"}}) == "a list of numbers"
    assert describe({"type": "number", "exclusiveMaximum": 1, "minimum": 0}) == "a number >= 0 and < 1"


def test_every_page_of_the_real_book_exists_and_every_scale_resolves(root):
    names = pages(root)
    assert names[0] == "index"
    for name in names:
        assert (root / "book" / f"{name}.md").is_file()
    for path in (root / "book/scales").glob("*.yml"):
        for name in yaml.safe_load(path.read_text("utf-8")):
            parameters = resolve_parameters(find_chapter(root, name), path.stem, {})
            assert set(parameters) == set(find_chapter(root, name).defaults)


def test_laptop_scale_is_the_chapters_defaults(root):
    assert {"index", "figures/resnet_vs_plain"} <= set(chapter_names(root))
    for name in chapter_names(root):
        chapter = find_chapter(root, name)
        assert resolve_parameters(chapter, "laptop", {}) == dict(chapter.defaults)


@pytest.mark.parametrize("scale", ["laptop", "paper"])
@pytest.mark.parametrize("name", ["figures/tracks", "figures/training"])
def test_tracks_are_trained_as_the_comparison_chose_by_validation(root, scale, name):
    source = root / "results" / scale / "figures/resnet_vs_plain.json"
    comparison = json.loads(source.read_text("utf-8"))["numbers"]
    parameters = resolve_parameters(find_chapter(root, name), scale, {})
    for kind, chosen in comparison["chosen"].items():
        for setting in ("learning_rate", "gain"):
            assert parameters[f"{kind}_{setting}"] == chosen[setting]
    for shared in ("dataset", "width", "blocks", "batch_size"):
        assert parameters[shared] == comparison["parameters"][shared]


def test_chapters_use_public_names_only(root):
    import geolib

    for name in chapter_names(root):
        for node in ast.walk(ast.parse("\n".join(find_chapter(root, name).code))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "geolib":
                assert node.attr in geolib.__all__, f"{name} uses geolib.{node.attr}"
            assert not (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("geolib"))


def unfollowed(code):
    """Imports of geolib that `geolib.sources` does not follow: an edit of what they reach would go unnoticed."""
    return [
        ast.unparse(node)
        for node in ast.walk(ast.parse(code))
        if (isinstance(node, ast.ImportFrom) and (node.level or (node.module, node.names[0].name) == ("geolib", "*")))
        or (isinstance(node, ast.Import) and any(each.name == "geolib" and each.asname for each in node.names))
    ]


@pytest.mark.parametrize(
    "code",
    ["import math, geolib as g", "from geolib import *", "from . import scores", "from .scores import is_dead",
     "def score():\n    import geolib as g"],
)  # fmt: skip
def test_imports_that_hide_what_they_reach(code):
    assert len(unfollowed(code)) == 1
    assert names_used([code]) <= {"*"}


def test_every_import_of_geolib_is_one_that_sources_follows(root):
    assert unfollowed("import geolib, math as m\nimport geolib.scores\nfrom geolib import train as fit") == []
    for name in chapter_names(root):
        assert unfollowed("\n".join(find_chapter(root, name).code)) == [], name
    for path in (root / "geolib").glob("*.py"):
        assert unfollowed(path.read_text("utf-8")) == [], path.name


def test_help_loads_neither_torch_nor_pot(root):
    program = (
        "import sys\nfrom geolib.__main__ import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "assert not {'torch', 'ot', 'scipy', 'matplotlib', 'papermill'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "run one chapter" in done.stdout


def test_python_dash_m_is_the_same_command(root):
    done = subprocess.run([sys.executable, "-m", "geolib", "run", "nothing"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 2
    assert "geolib: unknown chapter 'nothing'; allowed: index, theory/" in done.stderr


def test_importing_geolib_alone_is_light_and_every_public_name_resolves():
    import geolib

    program = "import sys, geolib; assert not {'torch', 'ot', 'numpy'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
    for name in geolib.__all__:
        assert getattr(geolib, name) is not None
    with pytest.raises(AttributeError):
        geolib.nothing  # noqa: B018


def test_usage_error_is_a_value_error():
    assert issubclass(UsageError, ValueError)
