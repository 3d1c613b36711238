"""Train one network, or measure many trainings at once."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from geolib.data import Dataset, load_dataset

__all__ = ["Training", "accuracy", "run_many", "train"]


@dataclass(frozen=True)
class Training:
    """What a training run ended with.

    Attributes
    ----------
    losses
        Mean cross-entropy of each epoch's batches, in nats, without the weight-decay term; shorter than the number of
        epochs if the run diverged.
    train_accuracy, test_accuracy
        Share of points classified correctly after the last epoch, in [0, 1].
    sum_of_rates
        Sum of the learning rates of the steps taken, by which weight decay acts.
    diverged
        Whether the loss stopped being finite, which ends the run at that epoch.
    """

    losses: tuple[float, ...]
    train_accuracy: float
    test_accuracy: float
    sum_of_rates: float
    diverged: bool


def train(
    network: nn.Module,
    dataset: Dataset,
    *,
    weight_decay: float,
    epochs: int,
    seed: int,
    learning_rate: float = 0.003,
    momentum: float = 0.9,
    batch_size: int = 32,
) -> Training:
    r"""Train `network` in place by stochastic gradient descent with momentum and weight decay.

    The objective is

    .. math:: \frac1m \sum_i \ell(f(x_i), y_i) + \frac\gamma2 \sum_j \lVert W_j \rVert_F^2

    with the cross-entropy :math:`\ell` and the sum over all weight matrices and kernels, not over biases and norm
    gains (parameters with fewer than two axes). The decay is part of the gradient, so it passes through the momentum.
    The learning rate falls from `learning_rate` to zero along a half cosine over the steps of the whole run.

    Parameters
    ----------
    network
        Maps ``(points, channels, height, width)`` to class scores ``(points, classes)``.
    dataset
        Its training part is fitted, its test part only measured at the end.
    weight_decay
        The coefficient :math:`\gamma \ge 0`.
    epochs
        Passes over the training part, >= 1.
    seed
        Seed of the order of the points; initialisation is the network's own.
    learning_rate, momentum, batch_size
        Of the optimiser; the last batch of an epoch may be smaller.
    """
    _check_settings(weight_decay=weight_decay, learning_rate=learning_rate, momentum=momentum)
    if epochs < 1 or batch_size < 1:
        raise ValueError(f"a run needs at least 1 epoch and 1 point a batch; got epochs={epochs}, {batch_size=}")
    x, y = dataset.x_train, dataset.y_train
    decayed = [p for p in network.parameters() if p.ndim >= 2]
    others = [p for p in network.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.SGD([g for g in groups if g["params"]], lr=learning_rate, momentum=momentum)
    steps = epochs * math.ceil(len(x) / batch_size)
    step, sum_of_rates = 0, 0.0
    generator = torch.Generator().manual_seed(seed)
    losses: list[float] = []
    network.train()
    for _ in range(epochs):
        total = torch.zeros(())
        for batch in torch.randperm(len(x), generator=generator).split(batch_size):
            loss = nn.functional.cross_entropy(network(x[batch]), y[batch])
            optimiser.zero_grad()
            loss.backward()
            rate = learning_rate * (1 + math.cos(math.pi * step / steps)) / 2
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
            step, sum_of_rates = step + 1, sum_of_rates + rate
            total += loss.detach() * len(batch)
        losses.append(float(total) / len(x))
        if not math.isfinite(losses[-1]):
            break
    return Training(
        losses=tuple(losses),
        train_accuracy=accuracy(network, x, y),
        test_accuracy=accuracy(network, dataset.x_test, dataset.y_test),
        sum_of_rates=sum_of_rates,
        diverged=not math.isfinite(losses[-1]),
    )


def accuracy(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Return the share of points whose largest class score is that of their label, in [0, 1]."""
    was_training = network.training
    network.eval()
    with torch.no_grad():
        labels = torch.cat([network(part).argmax(1) for part in x.split(4096)])
    network.train(was_training)
    return float((labels == y).double().mean())


def run_many(
    measure: Callable[..., Mapping[str, Any]],
    configs: Sequence[Mapping[str, Any]],
    dataset: str,
    *,
    jobs: int = -1,
    progress: str = "training",
) -> list[dict[str, Any]]:
    """Call ``measure(dataset, **config)`` for every config, in parallel processes.

    Each process computes on one thread and loads the standardized data set once, so results do not depend on `jobs`.

    Parameters
    ----------
    measure
        Trains and measures one network; returns its row of results, without the config.
    configs
        Keyword arguments of the calls.
    dataset
        Name of a data set, see `load_dataset`.
    jobs
        Number of processes; -1 is one a core.
    progress
        What the progress bar on standard error is called.

    Returns
    -------
    list of dict
        For each config, in the order given, the config with the row that `measure` returned.
    """
    import joblib
    from tqdm import tqdm

    load_dataset(dataset)  # here first, so that the processes find the files and do not each download them
    with joblib.parallel_config("loky", inner_max_num_threads=1):
        rows: Iterable[Mapping[str, Any]] = joblib.Parallel(n_jobs=jobs, return_as="generator")(
            joblib.delayed(_measure_one)(measure, dataset, config) for config in configs
        )
        bar = tqdm(rows, progress, total=len(configs), unit="network", mininterval=1)
        return [{**config, **row} for config, row in zip(configs, bar, strict=True)]


def _measure_one(
    measure: Callable[..., Mapping[str, Any]], dataset: str, config: Mapping[str, Any]
) -> Mapping[str, Any]:
    torch.set_num_threads(1)
    return measure(_standardized(dataset), **config)


@functools.lru_cache(maxsize=1)
def _standardized(name: str) -> Dataset:
    return load_dataset(name).standardized()


def _check_settings(*, weight_decay: float, learning_rate: float, momentum: float) -> None:
    if not (math.isfinite(weight_decay) and weight_decay >= 0):
        raise ValueError(f"weight_decay multiplies a penalty and must be finite and >= 0; got {weight_decay}")
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise ValueError(f"learning_rate must be finite and > 0; got {learning_rate}")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must lie in [0, 1), else past gradients never fade; got {momentum}")
