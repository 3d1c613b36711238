"""Running chapters: whole results or none, failures with their place, nothing left after Ctrl-C."""

import json
import os
import shlex
import signal
import subprocess
import sys

import nbformat
import psutil
import pytest
import yaml
from bs4 import BeautifulSoup
from helpers import PUBLISH, write_chapter

from geolib import book as book_module
from geolib import provenance as provenance_module
from geolib import reproduce
from geolib.__main__ import main
from geolib.chapters import find_chapter, resolve_parameters
from geolib.provenance import commit, page_digest, source_digest
from geolib.publishing import publish_numbers
from geolib.results import notebook_path


def files(folder) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} if folder.exists() else set()


def test_a_run_writes_notebook_and_numbers_and_the_same_numbers_again(book, capsys):
    assert main(["run", "part/small"]) == 0
    output = capsys.readouterr()
    assert "part/small (" in output.out
    assert "count 5" in output.out
    assert "part/small  cell" in output.err  # progress: chapter, cell, elapsed, first line
    assert files(book / "_build") == {"laptop/notebooks/part/small.ipynb"}
    path = book / "results/laptop/part/small.json"
    first = json.loads(path.read_text("utf-8"))
    numbers = first["numbers"]
    assert numbers["parameters"]["count"] == numbers["count"] == 5
    assert (numbers["chapter"], numbers["scale"]) == ("part/small", "laptop")
    assert len(numbers["scale_sha256"]) == 64
    made = first["provenance"]
    assert made["command"] == "geolib run part/small --scale laptop"
    assert made["versions"]["torch"].startswith("2.13")
    assert {"commit", "date", "hardware", "threads", "wall_seconds", "source_sha256"} <= set(made)
    assert main(["run", "part/small"]) == 0
    assert json.dumps(json.loads(path.read_text("utf-8"))["numbers"]) == json.dumps(numbers)


def test_other_parameters_are_kept_apart_from_the_scales_results(book, capsys):
    title = 'it\'s "quoted"\\ \n\'\'\'""" {x} $y; import os'
    assert main(["run", "part/small", "-p", "dataset=mnist", "-p", f"title={title}"]) == 0
    assert not (book / "results").exists()
    (numbers,) = (book / "_build/laptop/variants").rglob("*.json")
    found = json.loads(numbers.read_text("utf-8"))
    assert found["numbers"]["title"] == title  # data, whatever it looks like
    assert found["numbers"]["count"] == 50
    assert numbers.with_suffix(".ipynb").is_file()
    assert str(numbers) in capsys.readouterr().out
    words = shlex.split(found["provenance"]["command"])
    assert words[:4] == ["geolib", "run", "part/small", "--scale"]
    assert "dataset=mnist" in words
    assert f"title={title}" in words
    assert "count" not in found["provenance"]["command"]


def test_a_parameter_given_its_own_value_is_no_variant(book):
    assert main(["run", "part/small", "-p", "count=5"]) == 0
    assert (book / "results/laptop/part/small.json").is_file()


def test_smoke_numbers_are_no_results(book):
    assert main(["run", "part/small", "--scale", "smoke"]) == 0
    assert not (book / "results").exists()
    assert json.loads((book / "_build/smoke/results/part/small.json").read_text("utf-8"))["numbers"]["count"] == 1


@pytest.mark.parametrize(
    ("body", "reported"),
    [
        ("values = [1]\nvalues[3]", "failed in cell 5 (values = [1]) with IndexError: list index out of range"),
        ("import os\nos._exit(1)", "its kernel died"),
    ],
)
def test_a_failing_cell_is_exit_1_with_its_place_and_keeps_the_partial_notebook(book, capsys, body, reported):
    assert main(["run", "part/small"]) == 0
    before = (book / "results/laptop/part/small.json").read_text("utf-8")
    write_chapter(book, body)
    capsys.readouterr()
    assert main(["run", "part/small"]) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("geolib: part/small failed")
    assert reported in message
    kept = book / "_build/laptop/notebooks/part/small.failed.ipynb"
    assert str(kept) in message
    assert nbformat.read(kept, as_version=4).cells
    assert (book / "results/laptop/part/small.json").read_text("utf-8") == before
    assert files(book / "_build") == {"laptop/notebooks/part/small.ipynb", "laptop/notebooks/part/small.failed.ipynb"}
    write_chapter(book, PUBLISH)
    assert main(["run", "part/small"]) == 0
    assert not kept.exists()


def test_publishing_twice_fails_and_keeps_the_notebook(book, capsys):
    write_chapter(book, "geolib.publish_numbers({}, 'a')\ngeolib.publish_numbers({}, 'b')")
    assert main(["run", "part/small"]) == 1
    assert "part/small failed: a chapter publishes its numbers once, not 2 times" in capsys.readouterr().err
    assert (book / "_build/laptop/notebooks/part/small.failed.ipynb").is_file()
    assert not (book / "results").exists()


def test_a_chapter_cannot_overwrite_what_it_ran_under(book):
    write_chapter(book, "geolib.publish_numbers({'scale': 'paper', 'parameters': 0}, 'a')")
    assert main(["run", "part/small"]) == 0
    numbers = json.loads((book / "results/laptop/part/small.json").read_text("utf-8"))["numbers"]
    assert numbers["scale"] == "laptop"
    assert numbers["parameters"]["count"] == 5


def test_published_numbers_come_back_as_from_the_file(capsys):
    import numpy as np

    given = {"a": np.float32(0.5), 1: (np.int64(2), None, "x", np.nan), "b": [np.bool_(True), -np.inf]}
    assert publish_numbers(given, "s") == {"a": 0.5, "1": [2, None, "x", None], "b": [True, None]}


WORKING = """import sys, time

def work(network, data, config):
    print("working", file=sys.stderr, flush=True)
    time.sleep(60)

print("working", file=sys.stderr, flush=True)
configs = [{"kind": kind, "seed": 0, "epochs": 0} for kind in ("resnet", "plain")]
geolib.sweep(configs, "digits", measure=work, jobs=2)"""


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_no_half_written_result_and_no_process(book, ending):
    assert main(["run", "part/small"]) == 0
    before = {name: (book / name).read_bytes() for name in files(book)}
    write_chapter(book, WORKING)
    before["book/part/small.md"] = (book / "book/part/small.md").read_bytes()
    process = subprocess.Popen(
        [sys.executable, "-m", "geolib", "run", "part/small"],
        cwd=book, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert any("working" in line for line in process.stderr)
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    os.killpg(process.pid, ending)  # as a terminal does: to the whole group
    _, rest = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "interrupted; earlier results are as they were" in rest
    assert "Traceback" not in rest
    assert {name: (book / name).read_bytes() for name in files(book)} == before
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


RESUMING = """configs = [{"kind": kind, "seed": 0, "epochs": 0} for kind in ("resnet", "plain")]

def work(network, data, config):
    if config["kind"] == "plain" and not Path("through").exists():
        raise RuntimeError("stopped")
    with Path("log").open("a") as log:
        log.write(config["kind"] + " ")
    return {"here": 1.0}

from pathlib import Path
geolib.publish_numbers(geolib.sweep(configs, "digits", measure=work, jobs=1).to_dict("list"), "resumed")"""


def test_a_chapter_resumes_its_sweeps_until_its_sources_change(book, capsys):
    write_chapter(book, RESUMING)
    log, kept = book / "book/part/log", book / "_build/laptop/notebooks/part/small.checkpoints"
    assert main(["run", "part/small"]) == 1
    assert "RuntimeError: stopped" in capsys.readouterr().err
    assert len([path for path in kept.glob("*/*") if path.suffix in (".json", ".pt")]) == 1
    (kept / "0123").mkdir()  # as of other sources
    (book / "book/part/through").touch()
    assert main(["run", "part/small"]) == 0
    assert log.read_text().split() == ["resnet", "plain"]
    assert not (kept / "0123").exists()
    assert "GEOLIB_CHECKPOINTS" not in os.environ
    made = json.loads((book / "results/laptop/part/small.json").read_text("utf-8"))["provenance"]
    assert made["resumed"]


def test_who_asks_for_a_run_gets_one_and_a_page_that_only_draws_anew_does_not_train(book):
    (book / "book/part/through").parent.mkdir(exist_ok=True)
    (book / "book/part/through").touch()
    write_chapter(book, RESUMING)
    log, results = book / "book/part/log", book / "results/laptop/part/small.json"
    assert main(["run", "part/small"]) == 0
    recorded = results.read_bytes()
    assert main(["run", "part/small"]) == 0
    assert log.read_text().split() == ["resnet", "plain"] * 2
    assert results.read_bytes() == recorded  # the same numbers of the same sources keep their provenance
    write_chapter(book, RESUMING + "\n```\n\n```{code-cell} ipython3\n'drawn from the numbers'")
    assert main(["book"]) == 0
    assert log.read_text().split() == ["resnet", "plain"] * 2
    assert results.read_bytes() == recorded
    assert "drawn from the numbers" in (book / "_build/laptop/html/book/part/small.html").read_text("utf-8")
    assert main(["run", "part/small"]) == 0
    assert log.read_text().split() == ["resnet", "plain"] * 3


def test_networks_keep_the_rules_under_which_they_were_trained(book, monkeypatch):
    """A rule that changed after the training shows as such, until the chapter is run again."""
    (book / "book/part/through").touch()
    write_chapter(book, RESUMING)
    results = book / "results/laptop/part/small.json"

    def ruled(rules: str, command: str) -> str:
        monkeypatch.setattr(reproduce, "rules_digest", lambda *_: rules)
        monkeypatch.setattr(provenance_module, "rules_digest", lambda *_: rules)
        assert main([command] if command == "book" else ["run", "part/small"]) == 0
        return json.loads(results.read_text("utf-8"))["numbers"]["rules_sha256"]

    assert ruled("old", "run") == "old"
    before = results.read_bytes()
    assert ruled("new", "book") == "old"
    assert results.read_bytes() == before
    assert ruled("new", "run") == "new"


def test_new_words_reach_the_page_without_a_run(book, capsys):
    assert main(["book", "--scale", "smoke"]) == 0
    path = book / "book/part/small.md"
    path.write_text(path.read_text("utf-8").replace("# A chapter", "# A better title"), "utf-8")
    capsys.readouterr()
    assert main(["book", "--scale", "smoke"]) == 0
    assert capsys.readouterr().out.startswith("part/small (unchanged, ")
    assert "A better title" in (book / "_build/smoke/html/book/part/small.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        (["-p", "dataset=mnist"], "results/laptop/part/small@mnist.json"),
        (["--limit-train", "7"], "results/laptop/part/small@-7.json"),
        (["-p", "dataset=mnist", "--limit-train", "7"], "results/laptop/part/small@mnist-7.json"),
        (["-p", "dataset=mnist", "--limit-train", "0"], "results/laptop/part/small@mnist.json"),
        (["--scale", "smoke", "--limit-train", "7"], "_build/smoke/results/part/small@-7.json"),
    ],
)
def test_another_data_set_and_a_reduced_run_have_results_of_their_own(book, arguments, where):
    path = book / "book/part/small.md"
    path.write_text(path.read_text("utf-8").replace("count: int = 3", "count: int = 3\nlimit_train: int = 0"), "utf-8")
    assert main(["run", "part/small", *arguments]) == 0
    found = json.loads((book / where).read_text("utf-8"))
    assert found["numbers"]["dataset"] == ("mnist" if "mnist" in where else "digits")
    assert ("--limit-train 7" in found["provenance"]["command"]) is ("-7" in where)


def test_a_chapter_that_cannot_be_reduced_says_so(book, capsys):
    assert main(["run", "part/small", "--limit-train", "7"]) == 2
    assert "part/small has no parameter 'limit_train'" in capsys.readouterr().err


def test_checkpoints_of_other_sources_go_at_the_next_run(tmp_path):
    goal = tmp_path / "small.ipynb"
    folder = tmp_path / "small.checkpoints"
    for name in ("old", "new"):
        (folder / name).mkdir(parents=True)
        (folder / name / "group.pt").touch()

    def interrupted():
        with reproduce._checkpoints(goal, "new", "rules", reuse=False) as earlier:
            assert earlier.interrupted
            assert os.environ["GEOLIB_CHECKPOINTS"] == str(folder / "new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in folder.iterdir()] == ["new"]
    with reproduce._checkpoints(goal, "newer", "rules", reuse=False) as earlier:
        assert not earlier.interrupted
    assert not folder.exists()


def test_an_unchanged_chapter_is_found_and_any_change_makes_it_stale(book, monkeypatch):
    chapter = find_chapter(book, "part/small")
    parameters = resolve_parameters(chapter, "laptop", {})
    assert reproduce.find_outcome(chapter, "laptop", parameters) is None
    ran = reproduce.run_chapter(chapter, "laptop", parameters)
    found = reproduce.find_outcome(chapter, "laptop", parameters)
    assert (found.notebook, found.numbers, found.summary) == (ran.notebook, ran.numbers, "count 5")
    assert reproduce.find_outcome(chapter, "laptop", {**parameters, "count": 6}) is None
    assert reproduce.find_outcome(chapter, "smoke", parameters) is None
    digest = source_digest(chapter, parameters)
    (book / "requirements.lock").write_text("torch==2\n", "utf-8")
    assert source_digest(chapter, parameters) != digest
    assert reproduce.find_outcome(chapter, "laptop", parameters) is None
    (book / "requirements.lock").write_text("torch==1\n", "utf-8")
    assert reproduce.find_outcome(chapter, "laptop", parameters) == found
    ran.numbers.write_text("{}", "utf-8")
    assert reproduce.find_outcome(chapter, "laptop", parameters) is None


def test_commit_is_named_and_marked_when_there_are_changes(book):
    assert commit(book) == ""
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", *command], cwd=book, check=True)
    head = commit(book)
    assert len(head) == 40
    (book / "results").mkdir()
    (book / "results/new.json").write_text("{}")
    assert commit(book) == head  # results do not make the code another one
    (book / "book/index.md").write_text("# Changed\n")
    assert commit(book) == head + "+"


def test_building_the_book_runs_what_changed_and_renders(book, capsys):
    assert main(["book", "--scale", "smoke"]) == 0
    output = capsys.readouterr().out.splitlines()
    assert output[0].startswith("part/small (ran, ")
    index = book / "_build/smoke/html/index.html"
    assert output[-1] == f"The book is at {index}"
    page = BeautifulSoup((book / "_build/smoke/html/book/part/small.html").read_text("utf-8"), "html.parser").get_text()
    assert "supports no claim" in page
    assert "How this page was made" in page
    assert "geolib run part/small --scale smoke" in page
    stamp = (book / "_build/smoke/html/book/part/small.html").stat().st_mtime_ns
    assert main(["book", "--scale", "smoke"]) == 0
    assert capsys.readouterr().out.startswith("part/small (unchanged, ")
    assert (book / "_build/smoke/html/book/part/small.html").stat().st_mtime_ns == stamp


def test_a_failing_chapter_stops_the_book_and_keeps_the_old_site(book, capsys):
    assert main(["book", "--scale", "smoke"]) == 0
    page = (book / "_build/smoke/html/book/part/small.html").read_text("utf-8")
    write_chapter(book, "1 / 0")
    assert main(["book", "--scale", "smoke"]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert (book / "_build/smoke/html/book/part/small.html").read_text("utf-8") == page


@pytest.mark.parametrize("attempt", [1, 2])
def test_a_warning_of_the_renderer_is_an_error_each_time(book, capsys, attempt):
    (book / "book/index.md").write_text("# Index\n\n{doc}`nowhere`\n", "utf-8")
    for _ in range(attempt):
        capsys.readouterr()
        assert main(["book", "--scale", "smoke"]) == 1
    assert "nowhere" in capsys.readouterr().err


def test_a_file_that_a_chapter_reads_makes_it_stale(book):
    path = book / "book/part/small.md"
    path.write_text(path.read_text("utf-8").replace("geolib:\n", "geolib:\n  inputs: [measured/times.json]\n"), "utf-8")

    def digests(cell: str):
        write = path.read_text("utf-8")
        path.write_text(write.replace("import geolib\n", f"import geolib\n{cell}\n"), "utf-8")
        chapter = find_chapter(book, "part/small")
        assert chapter.inputs == ("measured/times.json",)
        (book / "measured").mkdir(exist_ok=True)
        for text in ("1", "2"):
            (book / "measured/times.json").write_text(text, "utf-8")
            yield source_digest(chapter, {}), page_digest(chapter, "laptop", chapter.defaults)

    first, second = digests("# reads nothing")
    assert first[0] == second[0]  # what no computing cell names decides no number
    assert first[1] != second[1]
    first, second = digests("open('../../measured/times.json')")
    assert first[0] != second[0]
    assert first[1] != second[1]


def test_a_broken_chapter_is_a_usage_error_of_the_book(book, capsys):
    path = book / "book/part/small.md"
    path.write_text(path.read_text("utf-8").replace("count: int = 3", "count = 3"), "utf-8")
    assert main(["book"]) == 2
    assert "may only hold lines" in capsys.readouterr().err


def test_a_run_is_stamped_with_the_source_it_started_from(book):
    cell = "\\n```{code-cell} ipython3\\n1\\n```\\n"
    write_chapter(book, f"import pathlib\npathlib.Path('small.md').open('a').write('{cell}')")
    before = source_digest(chapter := find_chapter(book, "part/small"), {})
    assert main(["run", "part/small"]) == 0
    stamp = nbformat.read(notebook_path(chapter, "laptop"), as_version=4).metadata["geolib_run"]
    chapter, parameters = find_chapter(book, "part/small"), resolve_parameters(chapter, "laptop", {})
    assert source_digest(chapter, {}) != before
    assert stamp["provenance"]["source_sha256"] != source_digest(chapter, parameters)
    assert reproduce.find_outcome(chapter, "laptop", parameters) is None


def test_a_chapter_that_changes_while_the_book_is_built_is_noticed(book, monkeypatch):
    real = reproduce.run_chapter

    def run_and_edit(chapter, *arguments, **options):
        outcome = real(chapter, *arguments, **options)
        text = chapter.path.read_text("utf-8").replace("import geolib", "import geolib\nmore = 1")
        chapter.path.write_text(text, "utf-8")
        return outcome

    monkeypatch.setattr(book_module, "run_chapter", run_and_edit)
    with pytest.raises(book_module.SiteError, match="changed while the book was being built"):
        book_module.build_site(book, "smoke")


def test_plain_jupytext_and_papermill_run_a_chapter_in_a_pipe(book):
    pipe = "jupytext --to ipynb -o - book/part/small.md | papermill --cwd book/part -p count 8 - executed.ipynb"
    subprocess.run(["bash", "-o", "pipefail", "-c", pipe], check=True, env=environment())
    cells = nbformat.read(book / "executed.ipynb", as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert any(o.get("metadata", {}).get("geolib_numbers", {}).get("numbers", {}).get("count") == 8 for o in outputs)


def environment() -> dict[str, str]:
    """Put this interpreter's console commands first on the path."""
    return os.environ | {"PATH": f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"}  # noqa: PTH120


def test_stage_switches_execution_off(book):
    assert main(["book", "--scale", "smoke"]) == 0
    staged = yaml.safe_load((book / "_build/smoke/stage/_config.yml").read_text("utf-8"))
    assert staged["execute"]["execute_notebooks"] == "off"
