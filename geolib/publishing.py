"""How a chapter hands its numbers to whatever executes it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["NUMBERS_KEY", "publish_numbers"]

#: Key of an output's metadata under which a notebook carries its numbers.
NUMBERS_KEY = "geolib_numbers"


def publish_numbers(numbers: Mapping[str, Any], summary: str) -> dict[str, Any]:
    """Publish a chapter's numbers and return them as they will be read from the file, to draw the figures from.

    To be called once in a chapter, after all that computes and before all that draws: what stands below it does not
    count as making the numbers. They travel as an output of the cell, so that any program that executes the notebook
    carries them; `geolib run` writes them to the chapter's JSON file.

    Parameters
    ----------
    numbers
        Nested dictionaries and lists of strings, numbers and None; NaN and infinity become None, no number.
    summary
        The chapter's result in one line.
    """
    from IPython.display import display

    plain: dict[str, Any] = _plain(numbers)
    display({"text/plain": summary}, raw=True, metadata={NUMBERS_KEY: {"numbers": plain, "summary": summary}})
    return plain


def _plain(value: Any) -> Any:
    """Turn numpy's scalars into Python's, NaN and infinity into None, as JSON needs."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    value = getattr(value, "item", lambda: value)()
    return None if isinstance(value, float) and not math.isfinite(value) else value
