"""Keep work on disk as torch files that name all they depend on."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import types
import uuid
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geolib.files import replacing
from geolib.sources import library_digest

if TYPE_CHECKING:
    import torch

__all__ = ["computed_with", "identity", "key_of", "read", "tensor_digest", "write"]


def key_of(*parts: Any) -> str:
    """Return the SHA-256 of JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@functools.cache
def computed_with() -> str:
    """Return the SHA-256 of the part of geolib that trains and measures, and of the versions it computes with."""
    import numpy
    import scipy
    import torch

    return key_of(library_digest(["sweep"]), numpy.__version__, scipy.__version__, torch.__version__)


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


def tensor_digest(*tensors: torch.Tensor) -> str:
    """Return the SHA-256 of tensors: types, shapes and values."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def write(path: Path, key: str, content: Mapping[str, Any]) -> None:
    """Write numbers, strings, tensors, and dicts and lists of them, to a file, whole or not at all."""
    import torch

    with replacing(path) as part:
        torch.save({"key": key, "content": dict(content)}, part)


def read(path: Path, key: str) -> dict[str, Any] | None:
    """Return what `write` wrote for this key, or None if there is no such file, or another or a damaged one."""
    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip():  # torch does not compare the checksums it writes
                return None
        found = torch.load(path, weights_only=True, map_location="cpu")
        return dict(found["content"]) if found["key"] == key else None
    except Exception:  # whatever unpickling foreign bytes may raise
        return None
