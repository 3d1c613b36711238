"""What counts as deciding a number, and what does not."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from geolib import sources
from geolib.chapters import find_chapter
from geolib.provenance import page_digest, source_digest
from geolib.sources import computing_pins, digest_files, library_digest, names_used


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("import geolib\ngeolib.sweep([], 'digits')", {"sweep"}),
        ("from geolib import record, train as fit", {"record", "train"}),
        ("from geolib.scores import is_dead", {"scores"}),
        ("import geolib.transport", {"transport"}),
        ("other.sweep()\nimport numpy", set()),
    ],
)
def test_names_that_code_takes_from_geolib(code, names):
    assert names_used([code]) == names


def test_code_with_a_magic_may_use_anything():
    assert names_used(["%matplotlib inline"]) >= {"scores", "sweeping", "plotting", "book"}


@pytest.fixture
def library(tmp_path, monkeypatch) -> Path:
    """A package like geolib: a imports b inside a function, c stands apart."""
    files = {
        "__init__.pyi": "from .a import run as run\nfrom .c import draw as draw\n",
        "a.py": "def run():\n    from geolib import b\n    return b\n",
        "b.py": "B = 1\n",
        "c.py": "draw = 1\n",
        "data.toml": "x = 1\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text, "utf-8")
    monkeypatch.setattr(sources, "_LIBRARY", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "changes"), [("a.py", True), ("b.py", True), ("data.toml", True), ("c.py", False), ("__init__.pyi", False)]
)
def test_only_modules_that_are_reached_count(library, file, changes):
    before = library_digest(["run"])
    with (library / file).open("a", encoding="utf-8") as stream:
        stream.write("\n# more\n")
    assert (library_digest(["run"]) != before) is changes


def test_what_python_loads_for_the_scores_is_what_counts_for_them(tmp_path):
    """An independent path: a copy of geolib without the modules that were not reached still scores."""
    used = "import geolib\nprint(geolib.optimal_transport_score([[0.0], [1.0]], [[0.0], [1.0]]).score)"
    here, names = Path(sources.__file__).parent, names_used([used])
    reached = [path for path in here.glob("*.py") if _changes(here, path, tmp_path / path.stem, names)]
    copy = tmp_path / "copy/geolib"
    copy.mkdir(parents=True)
    for path in [*reached, here / "__init__.py", here / "__init__.pyi"]:
        (copy / path.name).write_bytes(path.read_bytes())
    assert {"scores", "assignment", "transport"} <= {path.stem for path in reached}
    assert not {"book", "sweeping", "plotting"} & {path.stem for path in reached}
    done = subprocess.run([sys.executable, "-c", used], cwd=copy.parent, capture_output=True, text=True)
    assert done.stdout == "1.0\n", done.stderr


def _changes(here: Path, path: Path, copy: Path, names: set[str]) -> bool:
    """Tell whether an edit of one module changes the digest."""
    shutil.copytree(here, copy, ignore=shutil.ignore_patterns("__pycache__"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "_LIBRARY", copy)
        before = library_digest(names)
        (copy / path.name).write_text(path.read_text("utf-8") + "\n# more\n", "utf-8")
        return library_digest(names) != before


def test_a_folder_counts_with_all_its_files(tmp_path):
    digests = [digest_files([tmp_path / "absent"])]
    (tmp_path / "absent/below").mkdir(parents=True)
    for name, text in (("one", "1"), ("below/two", "2"), ("below/two", "3")):
        (tmp_path / "absent" / name).write_text(text, "utf-8")
        digests.append(digest_files([tmp_path / "absent"]))
    assert len(set(digests)) == 4


def test_the_pins_that_count_are_those_of_what_geolib_computes_with(root):
    lock = (root / "requirements.lock").read_text("utf-8")
    pinned = {line.partition("==")[0] for line in computing_pins(lock)}
    assert {"torch", "numpy", "pot", "scipy", "scikit-learn"} <= pinned
    assert not {"sphinx", "sphinx-proof", "jupyter-book", "papermill", "pytest", "selenium"} & pinned


@pytest.mark.parametrize(("package", "changes"), [("torch", True), ("Scikit_Learn", True), ("sphinx", False)])
def test_only_a_pin_of_what_computes_decides_numbers(book, package, changes):
    lock, chapter = book / "requirements.lock", find_chapter(book, "part/small")
    lock.write_text(f"{package}==1\n", "utf-8")
    before = source_digest(chapter, {})
    lock.write_text(f"{package}==2\n", "utf-8")
    assert (source_digest(chapter, {}) != before) is changes
    lock.unlink()  # a copy of the book alone has none
    assert source_digest(chapter, {}) != before or not changes


def test_text_and_drawing_decide_no_number(book):
    path = book / "book/part/small.md"

    def digests():
        chapter = find_chapter(book, "part/small")
        return source_digest(chapter, {}), page_digest(chapter, "laptop", chapter.defaults)

    first = digests()
    path.write_text(path.read_text("utf-8").replace("# A chapter", "# Another"), "utf-8")
    assert digests() == first
    path.write_text(path.read_text("utf-8") + "\n```{code-cell} ipython3\ngeolib.plotting\n```\n", "utf-8")
    drawn = digests()
    assert drawn[0] == first[0]
    assert drawn[1] != first[1]
    path.write_text(path.read_text("utf-8").replace("import geolib", "import geolib\nx = 1"), "utf-8")
    assert digests()[0] != first[0]
