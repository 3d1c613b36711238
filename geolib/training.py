"""Train one network."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import nn

from geolib.data import Dataset
from geolib.descent import Training, Watch, accuracy, check_settings, descend, device_of

__all__ = ["THREAD_TOLERANCE", "Training", "accuracy", "train"]

#: How far one training at one torch thread may end from the same at two: relative for the mean LSS, absolute for
#: accuracies. At one thread it repeats bit for bit; more threads add in another order, and training magnifies that.
#: Over three and five epochs on digits, 64 units wide and 10 blocks deep, with weight decay 0 and 0.01, the LSS of
#: residual networks parted by less than 1e-8 and their accuracies not at all; those of plain ones by up to 1.1% and
#: 0.016. Longer trainings of plain networks may part further: their scores are comparable across seeds, not by bits.
THREAD_TOLERANCE = {"resnet": 1e-3, "plain": 0.03}


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
    decay_gains: bool = False,
    at: Collection[int] = (),
    watch: Watch | None = None,
    checkpoint: Path | None = None,
) -> Training:
    r"""Train `network` in place by stochastic gradient descent with momentum and weight decay.

    The objective is

    .. math:: \frac1m \sum_i \ell(f(x_i), y_i) + \frac\gamma2 \sum_j \lVert W_j \rVert_F^2

    with the cross-entropy :math:`\ell` and the sum over all weight matrices and kernels, not over biases and, unless
    `decay_gains`, not over the gains of norms. The decay is part of the gradient, so it passes through the momentum.
    The learning rate falls from `learning_rate` to zero along a half cosine over the steps of the whole run. It trains
    where the network lies, on the CPU or a GPU.

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
    decay_gains
        Whether the gains of batch, layer, group and instance norms decay too; their biases never do.
    at
        Epochs, 0 (before the first step) to `epochs`, after which `watch` is called, unless the run diverged.
    watch
        ``watch(network, run)`` gets the network as it then is, not to be changed, and the run as if it ended there.
        What it returns, made of numbers, strings, tensors, dicts and lists, comes back as ``watched[epoch]``.
    checkpoint
        File for the state of the running training, written every half minute; a training that finds it continues there
        and ends with the same bits as one that was never stopped. A file that is damaged or belongs to another network,
        data set, setting or version of geolib is ignored; what `watch` does is not compared. Whoever gave the file
        removes it.

    Raises
    ------
    ValueError
        Before anything trains, for a setting that no run can have or an epoch of `at` that the run does not reach.
    """
    check_settings(weight_decay, learning_rate, momentum, epochs, batch_size)
    learner = _Single(network, dataset, weight_decay, momentum, decay_gains)
    settings = {"weight_decay": weight_decay, "momentum": momentum, "decay_gains": decay_gains}
    network.train()
    (run,) = descend(
        learner, dataset, settings, seeds=[seed], learning_rates=[learning_rate], epochs=epochs, batch_size=batch_size,
        at=at, watches=[watch] if watch else None, checkpoint=checkpoint,
    )  # fmt: skip
    return run


class _Single:
    """One network and its optimiser."""

    def __init__(
        self, network: nn.Module, dataset: Dataset, weight_decay: float, momentum: float, decay_gains: bool
    ) -> None:
        self.networks, self.device = (network,), device_of(network)
        self._x, self._y = dataset.x_train.to(self.device), dataset.y_train.to(self.device)
        decayed, others = _split(network, decay_gains)
        groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
        # The rate is set before each step.
        self._optimiser = torch.optim.SGD([group for group in groups if group["params"]], lr=0.0, momentum=momentum)

    def descend(self, batch: torch.Tensor, rates: torch.Tensor) -> torch.Tensor:
        """Take one step on the points of index `batch`, shape (1, batch); return the loss before it."""
        points = batch[0].to(self.device)
        loss = nn.functional.cross_entropy(self.networks[0](self._x[points]), self._y[points])
        self._optimiser.zero_grad()
        loss.backward()
        for group in self._optimiser.param_groups:
            group["lr"] = float(rates[0])
        self._optimiser.step()
        return loss.detach()[None]

    def write(self, k: int) -> None:
        """Do nothing: the network itself takes the steps."""

    def state(self) -> dict[str, Any]:
        """Return weights, buffers and velocities."""
        return {"network": self.networks[0].state_dict(), "optimiser": self._optimiser.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        self.networks[0].load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])


_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def _split(network: nn.Module, decay_gains: bool) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the parameters that decay and the others."""
    norms = [module for module in network.modules() if isinstance(module, _NORMS)]
    within = {id(p) for norm in norms for p in norm.parameters()}  # a layer norm over an image has three axes
    gains = {id(norm.weight) for norm in norms} if decay_gains else set()
    decays = {id(p) for p in network.parameters() if (p.ndim >= 2 and id(p) not in within) or id(p) in gains}
    return [p for p in network.parameters() if id(p) in decays], [
        p for p in network.parameters() if id(p) not in decays
    ]
