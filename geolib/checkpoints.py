"""Keep finished parts of a sweep as JSON files that name all they depend on."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import math
import os
import types
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["identity", "key_of", "library_digest", "load", "save"]

#: A network's status and its metrics.
Result = tuple[str, dict[str, float]]


def key_of(*parts: Any) -> str:
    """Return the SHA-256 of JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@functools.cache
def library_digest() -> str:
    """Return the SHA-256 of geolib's own files and the versions of what it computes with."""
    import numpy
    import scipy
    import torch

    digest = hashlib.sha256(f"{numpy.__version__} {scipy.__version__} {torch.__version__}".encode())
    for path in sorted(path for path in Path(__file__).parent.iterdir() if path.is_file()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def identity(function: Callable[..., Any]) -> str:
    """Return a digest of a function's source, of the values it closes over, and of those of the functions it calls.

    Functions of other modules count by name only. What has no source, or holds a value that cannot be pickled, gets a
    new digest each time, so that no file is ever taken for its result.
    """
    return key_of(_describe(function, getattr(function, "__module__", None), set()))


def _describe(value: Any, module: str | None, seen: set[int]) -> Any:
    import joblib

    if isinstance(value, functools.partial):
        return [_describe(part, module, seen) for part in (value.func, *value.args, *value.keywords.items())]
    if isinstance(value, tuple):
        return [_describe(part, module, seen) for part in value]
    if inspect.ismodule(value):
        return value.__name__
    if inspect.isroutine(value) or inspect.isclass(value):
        if value.__module__ != module:
            return f"{value.__module__}.{value.__qualname__}"
        if id(value) in seen:
            return value.__qualname__
        seen.add(id(value))
    try:
        if inspect.isfunction(value):
            cells = [cell.cell_contents for cell in value.__closure__ or ()]
            names = sorted(_names(value.__code__) & value.__globals__.keys())
            around = [(name, value.__globals__[name]) for name in names] + list(
                zip(value.__code__.co_freevars, cells, strict=True)
            )
            held = [(name, _describe(part, module, seen)) for name, part in around]
            defaults = _describe((value.__defaults__ or (), *(value.__kwdefaults__ or {}).items()), module, seen)
            return [inspect.getsource(value), held, defaults]
        return inspect.getsource(value) if inspect.isclass(value) else joblib.hash(value)
    except Exception:
        return uuid.uuid4().hex


def _names(code: types.CodeType) -> set[str]:
    """Return the names that a function uses, also within its comprehensions and inner functions."""
    inner = (_names(constant) for constant in code.co_consts if isinstance(constant, types.CodeType))
    return set(code.co_names).union(*inner)


def load(path: Path, key: str, networks: int) -> list[Result] | None:
    """Return the results that `save` wrote for this key and number of networks, or None if the file is not that."""
    try:
        content = json.loads(path.read_text("utf-8"))
        results = [(entry["status"], entry["metrics"]) for entry in content["networks"]]
        whole = content["key"] == key and len(results) == networks
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return results if whole and all(_is_result(*result) for result in results) else None


def _is_result(status: Any, metrics: Any) -> bool:
    return (
        isinstance(status, str)
        and isinstance(metrics, Mapping)
        and all(isinstance(value, float) and math.isfinite(value) for value in metrics.values())
    )


def save(path: Path, key: str, results: Sequence[Result]) -> None:
    """Write results to a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    networks = [{"status": status, "metrics": metrics} for status, metrics in results]
    try:
        part.write_text(json.dumps({"key": key, "networks": networks}, allow_nan=False), "utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
