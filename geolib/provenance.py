"""What a result was computed from: sources, commit, versions, machine."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geolib.chapters import Chapter, resolve_parameters, scale_values
from geolib.checkpoints import key_of
from geolib.claims import rules_digest
from geolib.results import numbers_path, recorded_paths, variant_name
from geolib.sources import computing_pins, digest_files, library_digest, names_used

__all__ = ["commit", "grid_digest", "hardware", "page_digest", "provenance", "source_digest"]

_PACKAGES = ("geolib", "numpy", "scipy", "POT", "scikit-learn", "torch")


def provenance(chapter: Chapter, scale: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run about to start depends on: command, commit, hash of the sources, date, machine, versions."""
    given = _given(chapter, scale, parameters)
    limit = ["--limit-train", str(given.pop("limit_train"))] if "limit_train" in given else []
    command = ["geolib", "run", chapter.name, "--scale", scale]
    for name, value in given.items():
        command += ["-p", f"{name}={_argument(value)}"]
    return {
        "command": shlex.join([*command, *limit]),
        "commit": commit(chapter.root),
        "source_sha256": source_digest(chapter, parameters),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "hardware": hardware(),
        "threads": 1,
        "versions": {"python": platform.python_version()}
        | {package: importlib.metadata.version(package) for package in _PACKAGES},
    }


def _given(chapter: Chapter, scale: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that have to be named on the command line to get these values at this scale."""
    overrides = {"dataset": parameters["dataset"]} if "dataset" in parameters else {}
    usual = resolve_parameters(chapter, scale, overrides)
    own = resolve_parameters(chapter, scale, {})
    return {
        name: value
        for name, value in parameters.items()
        if value != usual[name] or (name == "dataset" and value != own[name])
    }


def _argument(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def commit(root: Path) -> str:
    """Return the commit of the working tree, with a '+' if it has changes outside results/, or '' without git."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", ".", ":!results")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def hardware() -> str:
    """Return processor, cores, memory and, if there is one that torch may use, the GPU of this machine."""
    import psutil

    cpu = f"{_processor()}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB"
    if not shutil.which("nvidia-smi"):  # asked first, because torch takes seconds to load
        return cpu
    import torch

    return f"{cpu}, {torch.cuda.get_device_name()}" if torch.cuda.is_available() else cpu


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def source_digest(chapter: Chapter, parameters: Mapping[str, Any]) -> str:
    """Return the SHA-256 of all that decides a chapter's numbers.

    That is its parameters, its cells down to the one that publishes, the part of geolib and those of its inputs that
    these cells name, and the locked versions of what geolib computes with; neither its text nor what only draws.
    """
    named = [name for name in chapter.inputs if any(Path(name).name in cell for cell in chapter.computing)]
    inputs = digest_files([chapter.root / name for name in named])
    used = library_digest(names_used(chapter.computing))
    lock = chapter.root / "requirements.lock"
    pins = computing_pins(lock.read_text("utf-8") if lock.exists() else "")
    return key_of(parameters, chapter.computing, used, pins, inputs)


def page_digest(chapter: Chapter, scale: str, parameters: Mapping[str, Any]) -> str:
    """Return the SHA-256 of all that decides what a run leaves: its numbers, the rules for them, and what draws."""
    own = numbers_path(chapter, scale, variant_name(chapter, scale, parameters))
    drawn = [path for path in recorded_paths(chapter) if path != own and "recorded" in names_used(chapter.code)]
    drawn += [chapter.root / name for name in chapter.inputs]
    if "results" in chapter.inputs:  # whether these are of an earlier version hangs on the chapters' sources
        drawn += [chapter.root / "_toc.yml", *sorted((chapter.root / "book").rglob("*.md"))]
    library = sorted(path for path in Path(__file__).parent.iterdir() if path.is_file())
    rules = rules_digest(chapter.root, chapter.name)
    return key_of(source_digest(chapter, parameters), rules, chapter.code, digest_files([*drawn, *library]))


def grid_digest(chapter: Chapter, scale: str, parameters: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the parameters that the scale file sets for the chapter on this run's data set."""
    return key_of(scale_values(chapter, scale, parameters.get("dataset")))
