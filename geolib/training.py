"""Train one network."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from geolib.data import Dataset

__all__ = ["Training", "accuracy", "check_settings", "train"]


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
        Passes over the training part; 0 only measures the network as it is.
    seed
        Seed of the order of the points; initialisation is the network's own.
    learning_rate, momentum, batch_size
        Of the optimiser; the last batch of an epoch may be smaller.
    """
    check_settings(weight_decay, learning_rate, momentum, epochs, batch_size)
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
        diverged=not all(map(math.isfinite, losses)),
    )


def accuracy(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Return the share of points whose largest class score is that of their label, in [0, 1]."""
    was_training = network.training
    network.eval()
    with torch.no_grad():
        labels = torch.cat([network(part).argmax(1) for part in x.split(4096)])
    network.train(was_training)
    return float((labels == y).double().mean())


def check_settings(weight_decay: float, learning_rate: float, momentum: float, epochs: int, batch_size: int) -> None:
    """Raise a ValueError that says why if no run can have these settings."""
    if not (math.isfinite(weight_decay) and weight_decay >= 0):
        raise ValueError(f"weight_decay multiplies a penalty and must be finite and >= 0; got {weight_decay}")
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise ValueError(f"learning_rate must be finite and > 0; got {learning_rate}")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must lie in [0, 1), else past gradients never fade; got {momentum}")
    if epochs < 0 or batch_size < 1:
        raise ValueError(f"a run needs at least 0 epochs and 1 point a batch; got {epochs=}, {batch_size=}")
