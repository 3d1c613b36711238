"""Time of a sweep against a plain loop over its networks, on one core and on two.

Prints one JSON object: settings, median seconds of each way, and the loop's median over each.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

# Before torch: the loop runs on one thread from the start, as the sweep's processes do.
os.environ["OMP_NUM_THREADS"] = "1"

import torch

import geolib

DATASET = "digits"
SCHEDULE: dict[str, Any] = {"epochs": 10, "batch_size": 32}
SIZE = {"width": 64, "blocks": 10}
ROUNDS = 5
CONFIGS: list[dict[str, Any]] = [
    {"kind": kind, "weight_decay": decay, "seed": seed, "learning_rate": 0.003}
    for kind in ("resnet", "plain")
    for decay in (0, 1e-3)
    for seed in range(5)
]


def loop() -> None:
    """Train the networks one after the other."""
    kinds = {"resnet": geolib.ResNet, "plain": geolib.PlainNet}
    data = geolib.load_dataset(DATASET).standardized()
    for config in CONFIGS:
        own = dict(config)
        network = kinds[own.pop("kind")](data.x_train.shape[1:], data.classes, seed=own["seed"], **SIZE)
        geolib.train(network, data, **own, **SCHEDULE)


def sweep(jobs: int) -> None:
    """Train the same networks through `geolib.sweep`, measuring nothing else."""
    configs = [config | SIZE | SCHEDULE for config in CONFIGS]
    geolib.sweep(configs, DATASET, measure=lambda network, data, config: {}, jobs=jobs)


def measure() -> dict[str, Any]:
    """Return settings, median seconds, and how many times as fast as the loop the sweep is."""
    torch.set_num_threads(1)
    ways: dict[str, Callable[[], None]] = {
        "loop": loop,
        "sweep, one core": lambda: sweep(1),
        "sweep, two cores": lambda: sweep(2),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    sweep(2)  # starts the processes, which is done once
    for _ in range(ROUNDS):  # in turn, so that a machine that slows down does so for all
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - started)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    return {
        "settings": {"dataset": DATASET, "networks": len(CONFIGS), **SIZE, **SCHEDULE, "rounds": ROUNDS},
        "seconds": {name: round(value, 3) for name, value in median.items()},
        "range": {name: [round(min(times), 3), round(max(times), 3)] for name, times in seconds.items()},
        "times as fast as the loop": {
            name: round(median["loop"] / value, 2) for name, value in median.items() if name != "loop"
        },
    }


if __name__ == "__main__":
    print(json.dumps(measure(), indent=1))
