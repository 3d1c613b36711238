"""What several test modules share."""

import os
from pathlib import Path

import pytest

CHAPTER = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
geolib:
  parameters:
    seeds: {minItems: 2, uniqueItems: true, items: {minimum: 0}, contains: {const: 1}}
    rate: {exclusiveMinimum: 0, maximum: 1}
    dataset: {enum: [digits, mnist]}
    names: {items: {enum: [a, b]}}
    count: {minimum: 1}
---

# A chapter

```{code-cell} ipython3
import geolib
```

```{code-cell} ipython3
:tags: [parameters]

seeds: list[int] = [1, 2]
rate: float = 0.5
dataset: str = "digits"
names: list[str] = ["a"]
count: int = 3
loud: bool = False
title: str = "plain"
```

```{code-cell} ipython3
BODY
```
"""

PUBLISH = """numbers = {"seeds": seeds, "rate": rate, "dataset": dataset, "count": count, "loud": loud, "title": title}
geolib.publish_numbers(numbers, f"count {count}")"""


def write_chapter(book: Path, body: str, name: str = "part/small") -> None:
    path = book / "book" / f"{name}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(CHAPTER.replace("BODY", body), "utf-8")


def require(present: bool, what: str) -> None:
    """Skip a test for want of `what`; with CI=true, where all of it must be installed, fail."""
    if not present and os.environ.get("CI") == "true":
        pytest.fail(f"CI must have {what}")
    if not present:
        pytest.skip(f"needs {what}")
