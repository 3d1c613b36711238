"""Time of the exact optimal-transport score against ot.emd, scipy and lapx, on tracks of networks trained here.

Prints one JSON object. Needs MNIST (see `geolib.load_dataset`); takes about eight minutes on two cores.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

# Before numpy and torch: every way is timed on one thread.
os.environ["OMP_NUM_THREADS"] = "1"

import lap
import numpy as np
import ot
import torch
from memory import ENVIRONMENT, growth
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

import geolib

ROUNDS = 5
SCHEDULE: dict[str, Any] = {"epochs": 10, "batch_size": 128}  # all else as geolib has it by default
SEEDS = (100, 101, 102)
#: Kinds of map: network, width, and weight decays: none and one.
MAPS: dict[str, dict[str, Any]] = {
    "ResNet": {"kind": "resnet", "width": 64, "weight_decays": (0, 5e-3)},
    "narrow ResNet": {"kind": "resnet", "width": 8, "weight_decays": (0, 1e-3)},
    "plain": {"kind": "plain", "width": 64, "weight_decays": (0, 5e-3)},
}
#: For each number of points, the maps and ways to time there: not the slow ones, lapx on maps far from the identity and
#: all but geolib at 10,000 points, to keep the whole within a quarter of an hour.
GRID: list[tuple[int, str, tuple[str, ...]]] = [
    *((m, name, ("geolib", "emd", "scipy", "lapx")) for m in (250, 500, 1000) for name in MAPS),
    (2000, "ResNet", ("geolib", "emd", "scipy", "lapx")),
    (2000, "narrow ResNet", ("geolib", "emd", "scipy")),
    (2000, "plain", ("geolib", "emd", "scipy")),
    (10_000, "ResNet", ("geolib",)),
]


def score(x: torch.Tensor, y: torch.Tensor) -> float:
    """Score the pairing by geolib: range over ties, cost ratio and certificate included."""
    return geolib.optimal_transport_score(x, y).score


def emd(x: torch.Tensor, y: torch.Tensor) -> float:
    """Score it by POT's network simplex, as its documentation shows."""
    a, b = x.double().numpy(), y.double().numpy()
    plan = ot.emd([], [], ot.dist(a, b), numItermax=10**9)
    return float((plan.argmax(1) == np.arange(len(a))).mean())


def scipy(x: torch.Tensor, y: torch.Tensor) -> float:
    """Score it by scipy's solver."""
    columns = linear_sum_assignment(cdist(x.double().numpy(), y.double().numpy(), "sqeuclidean"))[1]
    return float((columns == np.arange(len(columns))).mean())


def lapx(x: torch.Tensor, y: torch.Tensor) -> float:
    """Score it by lapx's solver."""
    rows = lap.lapjv(cdist(x.double().numpy(), y.double().numpy(), "sqeuclidean"), return_cost=False)[0]
    return float((rows == np.arange(len(rows))).mean())


def product(x: torch.Tensor, y: torch.Tensor) -> None:
    """Form the costs in single precision, the least that a method which stores them does."""
    x @ y.T


WAYS: dict[str, Callable[[torch.Tensor, torch.Tensor], Any]] = {
    "geolib": score,
    "emd": emd,
    "scipy": scipy,
    "lapx": lapx,
    "product": product,
}


def measure(rounds: int = ROUNDS) -> dict[str, Any]:
    """Return settings, the tracks' scores, seconds of each way on each track, and the ratios that the page shows."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        trained = train(Path(folder))
        runs = [
            time_ways(x[:m], y[:m], ways, rounds) | {"m": m, "map": name} | about
            for m, name, ways in GRID
            for about, x, y in trained[name]
            if m >= 2000 or about["seed"] == SEEDS[0]
        ]
        memory = max(peak_growth(Path(folder), about["file"]) for about, _, _ in trained["ResNet"])
    for run in runs:
        del run["file"]
    return {
        "settings": {"dataset": "mnist", **SCHEDULE, "rounds": rounds, "threads": 1, "seeds": list(SEEDS)},
        "runs": runs,
        "bytes at 10,000 points": memory,
        "ratios": ratios(runs),
    }


def train(folder: Path) -> dict[str, list[tuple[dict[str, Any], torch.Tensor, torch.Tensor]]]:
    """Train the networks; return for each map its weight decays and seeds with the tracks' first and last points."""

    def keep(network: Any, data: geolib.Dataset, config: Mapping[str, Any]) -> dict[str, float]:
        torch.save(geolib.record(network, data.x_test).points[[0, -1]].clone(), folder / file_of(config))
        return {}

    trained: dict[str, list[tuple[dict[str, Any], torch.Tensor, torch.Tensor]]] = {}
    for name, spec in MAPS.items():
        configs = [
            {"kind": spec["kind"], "width": spec["width"], "weight_decay": decay, "seed": seed} | SCHEDULE
            for decay in spec["weight_decays"]
            for seed in SEEDS
        ]
        table = geolib.sweep(configs, "mnist", measure=keep, progress=f"training {name}")
        accuracy = table[table["metric"] == "test_accuracy"]["value"].tolist()
        trained[name] = [
            (
                {"weight_decay": c["weight_decay"], "seed": c["seed"], "file": file_of(c), "test_accuracy": share},
                *torch.load(folder / file_of(c), weights_only=True),
            )
            for c, share in zip(configs, accuracy, strict=True)
        ]
    return trained


def file_of(config: Mapping[str, Any]) -> str:
    """Return the name under which a network's tracks are kept."""
    return "-".join(f"{config[key]:g}" if key != "kind" else config[key] for key in sorted(config) if key in KEYS)


KEYS = ("kind", "width", "weight_decay", "seed")


def time_ways(x: torch.Tensor, y: torch.Tensor, ways: tuple[str, ...], rounds: int) -> dict[str, Any]:
    """Return each way's median seconds and score; in turn, so that a machine that slows down does so for all."""
    seconds: dict[str, list[float]] = {way: [] for way in (*ways, "product")}
    answers = {}
    score(x, y)  # what is loaded once
    for _ in range(rounds):
        for way in seconds:
            started = time.perf_counter()
            answers[way] = WAYS[way](x, y)
            seconds[way].append(time.perf_counter() - started)
    return {
        "ots": answers["geolib"],
        "scores": {way: answers[way] for way in ways},
        "seconds": {way: statistics.median(times) for way, times in seconds.items()},
    }


def ratios(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return, for each map, decay and m, geolib's advantage over each way: median over seeds, and worst."""
    groups: dict[tuple[int, str, float], list[dict[str, Any]]] = {}
    for run in runs:
        groups.setdefault((run["m"], run["map"], run["weight_decay"]), []).append(run)
    rows = []
    for (m, name, decay), group in groups.items():
        row: dict[str, Any] = {"m": m, "map": name, "weight_decay": decay, "ots": [run["ots"] for run in group]}
        for way in group[0]["seconds"]:
            if way != "geolib":
                values = [run["seconds"][way] / run["seconds"]["geolib"] for run in group]
                row[way] = {"median": statistics.median(values), "worst": min(values)}
        rows.append(row)
    return rows


def peak_growth(folder: Path, file: str) -> int:
    """Return by how much the memory of a fresh process grows when it scores 10,000 points, in bytes."""
    command = [sys.executable, __file__, str(folder / file)]
    return int(subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True).stdout)


def score_and_weigh(path: str) -> int:
    """Score the tracks in a file and return the growth of this process's peak memory."""
    x, y = torch.load(path, weights_only=True)
    score(x[:100], y[:100])  # what is loaded or set up once
    return growth(lambda: score(x, y))[0]


if __name__ == "__main__":
    print(score_and_weigh(sys.argv[1]) if len(sys.argv) > 1 else json.dumps(measure(), indent=1))
