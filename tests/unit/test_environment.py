"""pyproject.toml, requirements.lock and environment.yml describe one environment: the one that runs."""

import importlib.metadata
import inspect
import re
import tomllib

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import geolib


def pins(root) -> dict[str, Requirement]:
    lines = [line for line in (root / "requirements.lock").read_text("utf-8").splitlines() if not line.startswith("#")]
    parsed = [Requirement(line) for line in lines]
    assert len({canonicalize_name(pin.name) for pin in parsed}) == len(parsed)
    return {canonicalize_name(pin.name): pin for pin in parsed}


def test_the_lock_pins_exactly_without_hashes_or_local_suffixes(root):
    text = (root / "requirements.lock").read_text("utf-8")
    assert "--hash" not in text
    for pin in pins(root).values():
        assert re.fullmatch(r"==[0-9][^,+*]*", str(pin.specifier)), pin
    assert str(pins(root)["torch"].specifier) == "==2.13.0"


def test_every_range_of_pyproject_admits_its_pin(root):
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    extras = project["project"]["optional-dependencies"]
    ranges = [
        *project["project"]["dependencies"],
        *extras["book"],
        *extras["test"],
        *project["build-system"]["requires"],
    ]
    locked = pins(root)
    for text in ranges:
        needed = Requirement(text)
        pin = locked[canonicalize_name(needed.name)]
        (version,) = (spec.version for spec in pin.specifier)
        assert needed.specifier.contains(version), f"{text} does not admit {pin}"


def test_conda_installs_the_same_lock(root):
    environment = yaml.safe_load((root / "environment.yml").read_text("utf-8"))
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert pip == ["-r requirements.lock", "-e ."]  # conda writes these lines into a requirements file of pip
    python = next(entry for entry in environment["dependencies"] if str(entry).startswith("python="))
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    assert Requirement(f"python{project['requires-python']}").specifier.contains(python.removeprefix("python="))


def test_this_environment_is_the_locked_one(root):
    for name, pin in pins(root).items():
        if pin.marker is None or pin.marker.evaluate():
            found = importlib.metadata.version(name)
            assert pin.specifier.contains(found), f"{name} {found} is installed, the lock says {pin}"


def test_the_lock_is_closed_under_dependencies(root):
    locked = pins(root)
    for name, pin in locked.items():
        if pin.marker is not None and not pin.marker.evaluate():
            continue
        for text in importlib.metadata.requires(name) or []:
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                # A plain build of torch also asks for its CUDA packages, which a lock for every machine leaves out.
                known = canonicalize_name(needed.name) in locked
                assert known or name == "torch", f"{name} needs {text}, which is not pinned"


def test_versions_agree_across_files(root):
    version = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    citation = yaml.safe_load((root / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == version == importlib.metadata.version("geolib")
    assert citation["authors"] == [{"name": "geolib developers"}]


def test_no_public_name_hides_a_module(root):
    """With a name like a module's, lazy loading gives `geolib` a class that no worker process can be sent."""
    public = {name for name in geolib.__all__ if not inspect.ismodule(getattr(geolib, name))}
    assert not public & {path.stem for path in (root / "geolib").glob("*.py")}


def test_every_bibliography_key_that_is_cited_exists(root):
    keys = set(re.findall(r"^@\w+\{([^,]+),", (root / "book/references.bib").read_text("utf-8"), re.M))
    sources = [*root.glob("book/**/*.md"), *root.glob("geolib/*.py")]
    cited = {
        key.strip()
        for path in sources
        for group in re.findall(r"(?:\{cite\}|:cite:)`([^`]+)`", path.read_text("utf-8"))
        for key in group.split(",")
    }
    assert cited
    assert cited <= keys


def test_the_readmes_examples_run(root, capsys, tmp_path, monkeypatch):
    one, many, _ = re.findall(r"```python\n(.*?)```", (root / "README.md").read_text("utf-8"), re.S)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(one, "README.md", "exec"), names)
    straightness, transport, length = capsys.readouterr().out.splitlines()
    assert 1 <= float(straightness) < 3
    assert transport.startswith("TransportScore(score=")
    assert float(length) > 0
    exec(compile(many, "README.md", "exec"), names)
    assert "cost_ratio" in capsys.readouterr().out
    assert len(names["table"].groupby(["kind", "weight_decay", "seed"])) == 20
