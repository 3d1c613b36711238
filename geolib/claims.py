"""Values published in the paper's public material."""

from __future__ import annotations

from importlib import resources
from typing import Any

__all__ = ["published"]


def published(place: str) -> dict[str, Any]:
    """Return what was read off a place in the paper's public material, for example ``slide_34``.

    A dictionary with the figure's data set, weight decays, reading errors, and per network and score the list of
    values, one a weight decay, with the half length of the error bars as `spread`.
    """
    import yaml

    places = yaml.safe_load((resources.files("geolib") / "published.yml").read_text("utf-8"))
    if place not in places:
        raise ValueError(f"nothing published was read at {place!r}; choose one of {', '.join(places)}")
    return dict(places[place])
