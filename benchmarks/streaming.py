"""Peak memory of the statistics of tracks, streamed and from stored tracks: ``python benchmarks/streaming.py``."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from memory import ENVIRONMENT, growth

import geolib


def measure(points: int = 10_000, width: int = 784, layers: int = 50) -> dict[str, Any]:
    """Measure both ways on one untrained `ResNet`, each in a fresh interpreter.

    Returns
    -------
    dict
        ``streamed_bytes`` and ``stored_bytes``: growth of the process's peak memory over network and inputs, which
        both ways are given; ``tracks_bytes``: size of the array of tracks alone, which any way of storing takes;
        ``ratio`` = tracks_bytes / streamed_bytes, the least favourable; ``ratio_of_peaks`` = stored / streamed;
        ``lss_difference``, the largest relative difference of the two ways' LSS.
    """
    streamed, stored = (run(way, points, width, layers) for way in ("streamed", "stored"))
    tracks = (layers + 1) * points * width * 4
    return {
        "points": points,
        "width": width,
        "layers": layers,
        "streamed_bytes": streamed["bytes"],
        "stored_bytes": stored["bytes"],
        "tracks_bytes": tracks,
        "ratio": tracks / streamed["bytes"],
        "ratio_of_peaks": stored["bytes"] / streamed["bytes"],
        "lss_difference": abs(np.array(streamed["lss"]) / np.array(stored["lss"]) - 1).max(),
    }


def run(way: str, points: int, width: int, layers: int) -> dict[str, Any]:
    """Run one way in a fresh interpreter."""
    command = [sys.executable, __file__, way, str(points), str(width), str(layers)]
    answer: dict[str, Any] = json.loads(
        subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True).stdout
    )
    return answer


def streamed(network: torch.nn.Module, x: torch.Tensor) -> geolib.TrackStatistics:
    """Accumulate the statistics layer by layer."""
    return geolib.track_statistics(network, x)


def stored(network: torch.nn.Module, x: torch.Tensor) -> geolib.TrackStatistics:
    """Store the tracks and then compute the same statistics."""
    return geolib.TrackStatistics.of(geolib.record(network, x).points)


def peak_growth(way: Callable[..., geolib.TrackStatistics], points: int, width: int, layers: int) -> dict[str, Any]:
    """Return by how much this process's peak memory grows, and the LSS."""
    network = geolib.ResNet(width, 10, width=width, blocks=layers)
    x = torch.randn(points, width, generator=torch.Generator().manual_seed(0))
    way(network, x[:2])  # what is loaded or set up once
    grown, statistics = growth(lambda: way(network, x))
    return {"bytes": grown, "lss": statistics.line_shape_score.tolist()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", nargs="?", choices=["both", "streamed", "stored"], default="both")
    parser.add_argument("sizes", nargs="*", type=int, help="points, width, layers", default=[10_000, 784, 50])
    given = parser.parse_args()
    ways = {"streamed": streamed, "stored": stored}
    answer = measure(*given.sizes) if given.way == "both" else peak_growth(ways[given.way], *given.sizes)
    print(json.dumps(answer, indent=2 if given.way == "both" else None))
