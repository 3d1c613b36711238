"""Measure a network of a sweep."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import nn

from geolib.configs import Config
from geolib.data import Dataset
from geolib.descent import Training, device_of
from geolib.scores import is_dead, track_scores
from geolib.tracks import record

__all__ = ["Measure", "measured", "scores"]

#: Returns numbers and arrays by name, of a network, the data and the network's config.
Measure = Callable[[nn.Module, Dataset, Mapping[str, Any]], Mapping[str, Any]]


def measured(
    network: nn.Module, run: Training, *, config: Config, data: Dataset, measure: Measure, points: int
) -> dict[str, Any]:
    """Return a network's ``status``, its ``metrics`` by name, and by name its ``arrays`` as tensors; see `sweep`."""
    metrics = {"epochs": float(len(run.losses) - run.diverged)}
    if run.diverged:
        return {"status": "diverged", "metrics": metrics, "arrays": {}}
    if device_of(network).type != "cpu":
        network = copy.deepcopy(network).cpu()  # so that a measure need not know where networks train
    try:
        tracks = record(network, data.x_test[:points])
    except ValueError:  # a representation is not finite: the last steps lost it after a finite loss
        return {"status": "diverged", "metrics": metrics, "arrays": {}}
    for name in ("train_accuracy", "test_accuracy", "sum_of_rates"):
        metrics[name] = float(getattr(run, name))
    if any(map(is_dead, tracks.stages)):
        return {"status": "dead", "metrics": metrics, "arrays": {}}
    try:
        own = {name: _tensor(value) for name, value in measure(network, data, asdict(config)).items()}
        if taken := metrics.keys() & own.keys():
            raise ValueError(f"measure must not return what the sweep itself does: {', '.join(sorted(taken))}")
    except Exception as error:
        error.add_note(f"while measuring the network of {config}")
        raise
    arrays = {name: value for name, value in own.items() if value.ndim}
    numbers = {name: value.item() for name, value in own.items() if not value.ndim}
    finite = {name: float(value) for name, value in numbers.items() if math.isfinite(value)}
    status = "trained" if len(finite) == len(numbers) else "non-finite"
    return {"status": status, "metrics": metrics | finite, "arrays": arrays}


def _tensor(value: Any) -> torch.Tensor:
    """Return a copy that holds nothing else: of a slice, the whole tensor would be stored."""
    return value.detach().cpu().clone() if isinstance(value, torch.Tensor) else torch.from_numpy(np.array(value))


def scores(network: nn.Module, data: Dataset, config: Mapping[str, Any], *, points: int) -> dict[str, float]:
    """Return the scores of a network over the first test points."""
    return track_scores(record(network, data.x_test[:points]))
