"""What decides a number: the code that makes it, with the part of geolib that this code reaches by its imports."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import re
from collections.abc import Iterable
from pathlib import Path

__all__ = ["computing_pins", "digest_files", "library_digest", "names_used"]

_LIBRARY = Path(__file__).parent


def names_used(code: Iterable[str]) -> set[str]:
    """Return the names that some code takes from geolib: ``geolib.name``, ``from geolib import name``, modules.

    Code that is not plain Python, as a cell with a magic command, may use anything: the answer then names every module.
    """
    try:
        trees = [ast.parse(text) for text in code]
    except SyntaxError:
        return {path.stem for path in _LIBRARY.glob("*.py")}
    return {name for tree in trees for node in ast.walk(tree) for name in _names(node)}


def _names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "geolib":
        return [node.attr]
    if isinstance(node, ast.ImportFrom) and node.module:
        package, _, module = node.module.partition(".")
        if package == "geolib":
            return [module] if module else [alias.name for alias in node.names]
    if isinstance(node, ast.Import):
        return [alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("geolib.")]
    return []


def library_digest(names: Iterable[str]) -> str:
    """Return the SHA-256 of the geolib modules behind public names or module names, of all they import, and of data.

    A module that these never import cannot change what they compute: editing it leaves the digest as it is.
    """
    home = _home_of_public_names()
    waiting = [home.get(name, name) for name in names]
    reached: set[Path] = {path for path in _LIBRARY.iterdir() if path.suffix == ".toml"}
    while waiting:
        path = _LIBRARY / f"{waiting.pop()}.py"
        if path not in reached and path.is_file():
            reached.add(path)
            waiting += [home.get(name, name) for name in names_used([path.read_text("utf-8")])]
    return digest_files(sorted(reached))


def _home_of_public_names() -> dict[str, str]:
    stub = ast.parse((_LIBRARY / "__init__.pyi").read_text("utf-8"))
    return {
        alias.name: node.module
        for node in stub.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }


def computing_pins(lock: str) -> list[str]:
    """Return those lines of a lock file that pin what geolib computes with, which are its own dependencies.

    Those of its extras render the book and run the tests: a number cannot depend on them.
    """
    needed = [text for text in importlib.metadata.requires("geolib") or [] if "extra ==" not in text]
    names = {_distribution(text) for text in needed}
    return [line for line in lock.splitlines() if _distribution(line) in names]


def _distribution(requirement: str) -> str:
    """Return the normalised name at the head of a requirement."""
    name = re.match(r"[A-Za-z0-9._-]*", requirement.strip())
    return re.sub(r"[._-]+", "-", name[0] if name else "").lower()


def digest_files(paths: Iterable[Path]) -> str:
    """Return the SHA-256 of files' names and contents; a folder counts with every file below it, an absent file too."""
    digest = hashlib.sha256()
    for path in paths:
        below = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        for file in below:
            content = file.read_bytes() if file.exists() else b""
            digest.update(file.name.encode() + b"\0" + content + b"\0")
    return digest.hexdigest()
