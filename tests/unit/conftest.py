from pathlib import Path

import pytest
from helpers import PUBLISH, write_chapter


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small book of one chapter, one plain page and two scales; the current folder."""
    write_chapter(tmp_path, PUBLISH)
    (tmp_path / "book/index.md").write_text("# Index\n\n{doc}`part/small`\n", "utf-8")
    (tmp_path / "book/scales").mkdir()
    (tmp_path / "book/scales/smoke.yml").write_text("part/small: {parameters: {count: 1}}\n", "utf-8")
    (tmp_path / "book/scales/laptop.yml").write_text(
        "part/small:\n  parameters: {count: 5}\n  by_dataset:\n    mnist: {count: 50, rate: 0.25}\n", "utf-8"
    )
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: book/index\nparts:\n- caption: A\n  chapters:\n  - file: book/part/small\n", "utf-8"
    )
    (tmp_path / "_config.yml").write_text("title: T\nauthor: A\nexecute: {execute_notebooks: auto}\n", "utf-8")
    (tmp_path / "requirements.lock").write_text("torch==1\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path
