"""The loop of a training: order of the points, learning rate, losses, what is watched, and taking up after a kill."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from geolib import checkpoints
from geolib.data import Dataset

__all__ = ["Learner", "Training", "Watch", "accuracy", "check_epochs", "check_settings", "descend", "device_of"]

#: Seconds between two checkpoints of a running training, at least.
CHECKPOINT_SECONDS = 30.0


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
    watched
        For each epoch of `at` that the run reached, what `watch` returned.
    """

    losses: tuple[float, ...]
    train_accuracy: float
    test_accuracy: float
    sum_of_rates: float
    diverged: bool
    watched: Mapping[int, Any] = field(default_factory=dict, compare=False)


#: Called with a network in training and the run so far, as if it ended there.
Watch = Callable[[nn.Module, Training], Any]


class Learner(Protocol):
    """Networks that take their steps side by side."""

    @property
    def networks(self) -> Sequence[nn.Module]:
        """The networks, which hold the current weights after `write` only."""

    @property
    def device(self) -> torch.device:
        """Where the losses of a step lie."""

    def descend(self, batch: torch.Tensor, rates: torch.Tensor) -> torch.Tensor:
        """Take one step on the points of index `batch`, shape (networks, batch); return the losses before it."""

    def write(self, k: int) -> None:
        """Bring the k-th network up to the last step."""

    def state(self) -> dict[str, Any]:
        """Return weights and velocities, as `torch.load` reads them with ``weights_only``."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state."""


@dataclass
class _State:
    """How far a training is."""

    orders: list[torch.Tensor]  # generator states at the start of the epoch
    total: torch.Tensor  # sum of the epoch's losses over its points so far, (networks,)
    sums: torch.Tensor  # of the learning rates, (networks,)
    running: list[int]  # networks that have not diverged
    losses: list[list[float]]
    sum_of_rates: list[float]  # at the last epoch that each network took part in
    watched: list[dict[int, Any]]
    ended: dict[int, dict[str, torch.Tensor]]  # weights of those that diverged
    epoch: int = 0
    batch: int = 0  # steps done in this epoch


def descend(
    learner: Learner,
    dataset: Dataset,
    settings: Mapping[str, Any],
    *,
    seeds: Sequence[int],
    learning_rates: Sequence[float],
    epochs: int,
    batch_size: int,
    at: Collection[int],
    watches: Sequence[Watch] | None,
    checkpoint: Path | None,
) -> list[Training]:
    """Run the loop that `train` and `train_together` share; `settings` are the learner's own, for the checkpoint."""
    check_epochs(at, epochs)
    if bool(len(at)) != bool(watches):
        raise ValueError("a training is watched by a function after chosen epochs; got one of watch and at only")
    at = frozenset(map(int, at))
    points, count, networks = len(dataset.x_train), len(learner.networks), learner.networks
    largest = torch.tensor(learning_rates, dtype=torch.float64)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    state = _State(
        orders=[], total=torch.zeros(count, device=learner.device), sums=torch.zeros_like(largest),
        running=list(range(count)), losses=[[] for _ in seeds], sum_of_rates=[0.0 for _ in seeds],
        watched=[{} for _ in seeds], ended={},
    )  # fmt: skip
    key, saved = "", time.monotonic()
    if checkpoint:
        schedule = [list(seeds), list(learning_rates), epochs, batch_size, sorted(at)]
        key = _key(networks, dataset, dict(settings), schedule)
        if found := checkpoints.read(checkpoint, key):
            learner.restore(found.pop("learner"))
            state = _State(**found)
            state.total = state.total.to(learner.device)
            for generator, order in zip(generators, state.orders, strict=True):
                generator.set_state(order)
            for k, weights in state.ended.items():
                networks[k].load_state_dict(weights)

    def save_if_due() -> None:
        nonlocal saved
        if checkpoint and time.monotonic() - saved >= CHECKPOINT_SECONDS:
            checkpoints.write(checkpoint, key, vars(state) | {"learner": learner.state()})
            saved = time.monotonic()

    def run_of(k: int) -> Training:
        return Training(
            losses=tuple(state.losses[k]),
            train_accuracy=accuracy(networks[k], dataset.x_train, dataset.y_train),
            test_accuracy=accuracy(networks[k], dataset.x_test, dataset.y_test),
            sum_of_rates=state.sum_of_rates[k],
            diverged=k not in state.running,
        )

    ends: dict[int, Training] = {}
    # The same bits each time also on a GPU, and no products of ten-bit fractions there.
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        while True:
            state.orders = [generator.get_state() for generator in generators]
            for k in state.running:
                if watches and state.epoch in at and state.epoch not in state.watched[k]:
                    learner.write(k)
                    run = run_of(k)
                    state.watched[k][state.epoch] = watches[k](networks[k], run)
                    if state.epoch == epochs:
                        ends[k] = run
                    save_if_due()
            if state.epoch == epochs or not state.running:
                break
            order = torch.stack([torch.randperm(points, generator=generator) for generator in generators])
            parts = order.split(batch_size, dim=1)  # each (networks, batch)
            for batch in parts[state.batch :]:
                step = state.epoch * len(parts) + state.batch
                rates = largest * (1 + math.cos(math.pi * step / (epochs * len(parts)))) / 2
                state.total += learner.descend(batch, rates) * batch.shape[1]
                state.sums += rates
                state.batch += 1
                save_if_due()
            _close_epoch(state, learner, points)
    for k in state.running:
        learner.write(k)
    return [replace(ends.get(k) or run_of(k), watched=state.watched[k]) for k in range(count)]


def _close_epoch(state: _State, learner: Learner, points: int) -> None:
    for k in list(state.running):
        state.losses[k].append(float(state.total[k]) / points)
        state.sum_of_rates[k] = float(state.sums[k])
        if not math.isfinite(state.losses[k][-1]):
            learner.write(k)
            state.ended[k] = {name: value.clone() for name, value in learner.networks[k].state_dict().items()}
            state.running.remove(k)
    state.total.zero_()
    state.epoch, state.batch = state.epoch + 1, 0


def _key(networks: Sequence[nn.Module], dataset: Dataset, settings: Any, schedule: Any) -> str:
    """Return a digest of all that a training depends on, at its start."""
    weights = [value for network in networks for value in network.state_dict().values()]
    data = [dataset.x_train, dataset.y_train, dataset.x_test, dataset.y_test]
    digest = checkpoints.tensor_digest(*weights, *data)
    return checkpoints.key_of(list(map(repr, networks)), settings, schedule, digest, checkpoints.computed_with())


def device_of(network: nn.Module) -> torch.device:
    """Return the device of the first parameter, the CPU if there is none."""
    return next((p.device for p in network.parameters()), torch.device("cpu"))


def accuracy(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Return the share of points whose largest class score is that of their label, in [0, 1]."""
    was_training, device = network.training, device_of(network)
    network.eval()
    with torch.no_grad():
        labels = torch.cat([network(part.to(device)).argmax(1) for part in x.split(4096)])
    network.train(was_training)
    return float((labels.to(y.device) == y).double().mean())


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


def check_epochs(at: Collection[int], epochs: int) -> None:
    """Raise a ValueError that says why if a run of so many epochs cannot be watched after those of `at`."""
    if not isinstance(at, Collection):
        raise ValueError(f"at lists the epochs to measure after; got {at!r}")
    for epoch in at:
        whole = isinstance(epoch, Integral) and not isinstance(epoch, bool)
        if not (whole and 0 <= epoch <= epochs):
            raise ValueError(
                f"at names epochs, whole numbers from 0 (before training) to {epochs}, when the run ends; got {epoch!r}"
            )
