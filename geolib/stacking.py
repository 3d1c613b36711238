"""Train dense networks of equal shape together: stacked weights, batched matrix products."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from geolib.data import Dataset
from geolib.descent import Training, Watch, check_settings, descend
from geolib.networks import PlainNet, ResNet

__all__ = ["train_together"]


def train_together(
    networks: Sequence[ResNet | PlainNet],
    dataset: Dataset,
    *,
    weight_decays: Sequence[float],
    seeds: Sequence[int],
    learning_rates: Sequence[float],
    epochs: int,
    momentum: float = 0.9,
    batch_size: int = 32,
    at: Collection[int] = (),
    watches: Sequence[Watch] | None = None,
    checkpoint: Path | None = None,
) -> list[Training]:
    """Train networks of equal shape in place, each as `train` would, a layer of all of them in one batched product.

    Objective, schedule and order of the points are those of `train`; only the rounding of the products differs: by less
    than 1e-5 of any parameter after ten steps. Training magnifies it as it does a change of the machine: over 800 steps
    on digits the scores of plain networks part by up to 2%, those of residual ones by less than 0.1%. No operation
    mixes two networks, so one that diverges leaves the others as they are, bit for bit.

    Parameters
    ----------
    networks
        Of one class and one shape.
    dataset
        As for `train`. The points are common to all networks, their order is not.
    weight_decays, seeds, learning_rates, watches
        One value a network, as for `train`. A network that diverged is not watched any more.
    epochs, momentum, batch_size, at, checkpoint
        As for `train`, common to all networks.

    Returns
    -------
    list of Training
        In the order of the networks.

    Raises
    ------
    ValueError
        For no network, networks of different shapes, not one value a network, or settings that `train` refuses.
    """
    shapes = {(type(net), tuple(p.shape for p in net.parameters())) for net in networks}
    if len(shapes) != 1:
        raise ValueError(f"networks train together if all have one class and one shape; got {len(shapes)} of them")
    if watches is not None and len(watches) != len(networks):
        raise ValueError(f"each of {len(networks)} networks needs its own watch; got {len(watches)}")
    if not len(networks) == len(weight_decays) == len(seeds) == len(learning_rates):
        raise ValueError(
            f"each of {len(networks)} networks needs its own settings; got {len(weight_decays)} weight decays, "
            f"{len(seeds)} seeds and {len(learning_rates)} learning rates"
        )
    for decay, rate in zip(weight_decays, learning_rates, strict=True):
        check_settings(decay, rate, momentum, epochs, batch_size)
    return descend(
        _Stack(networks, dataset, torch.tensor(weight_decays), momentum),
        dataset,
        {"weight_decays": list(weight_decays), "momentum": momentum},
        seeds=seeds,
        learning_rates=learning_rates,
        epochs=epochs,
        batch_size=batch_size,
        at=at,
        watches=watches,
        checkpoint=checkpoint,
    )


class _Stack:
    """The networks' weights, and one step of all of them."""

    def __init__(
        self, networks: Sequence[ResNet | PlainNet], dataset: Dataset, decay: torch.Tensor, momentum: float
    ) -> None:
        self.networks, self.device = networks, torch.device("cpu")
        self._x, self._y = dataset.x_train.flatten(1), dataset.y_train
        layers = [_linear_layers(network) for network in networks]
        self._layers = [_Layer(same_place, decay, momentum) for same_place in zip(*layers, strict=True)]
        self._stem, *blocks, self._head = self._layers
        self._blocks = list(zip(blocks[::2], blocks[1::2], strict=True))
        self._skip = float(isinstance(networks[0], ResNet))  # factor of a block's input in its output
        self._kept: dict[int, tuple[torch.Tensor, ...]] = {}

    def _memory(self, batch: int) -> tuple[torch.Tensor, ...]:
        """Return tensors to write a step's results to: new memory at every step would take longer than the products."""
        if batch not in self._kept:
            networks, width, features = self._stem.weight.shape
            blocks = len(self._blocks)
            sizes = [(networks, batch, features), (blocks + 1, networks, batch, width),
                     (blocks, networks, batch, width), (networks, batch, width), (networks, batch, width)]  # fmt: skip
            self._kept[batch] = tuple(map(torch.empty, sizes))
        return self._kept[batch]

    def descend(self, batch: torch.Tensor, rates: torch.Tensor) -> torch.Tensor:
        """Step down every network's gradient; return the losses before the step, shape (networks,).

        Parameters
        ----------
        batch
            Indices of each network's points, shape (networks, batch).
        rates
            Learning rates, shape (networks,).
        """
        x, rates, labels = self._x, rates.float()[:, None, None], self._y[batch].unsqueeze(2)
        inputs, states, hidden, by_hidden, by_state = self._memory(batch.shape[1])
        torch.index_select(x, 0, batch.flatten(), out=inputs.view(-1, x.shape[1]))
        self._stem.map(inputs, out=states[0])
        for k, (inner, outer) in enumerate(self._blocks):
            torch.relu_(inner.map(states[k], out=hidden[k]))
            outer.map(hidden[k], out=states[k + 1], plus=states[k], times=self._skip)
        logits = states.new_empty(*batch.shape, self._head.weight.shape[1])
        log_shares = torch.log_softmax(self._head.map(states[-1], out=logits), 2)  # (networks, batch, classes)
        losses = -log_shares.gather(2, labels).mean((1, 2))
        # The gradient of the mean cross-entropy by the class scores: predicted minus true shares, over the batch size.
        by_logits = log_shares.exp_().scatter_add_(2, labels, -torch.ones_like(labels, dtype=x.dtype))
        self._head.descend(states[-1], by_logits.div_(batch.shape[1]), rates, by_input=by_state)
        for k, (inner, outer) in reversed(list(enumerate(self._blocks))):
            outer.descend(hidden[k], by_state, rates, by_input=by_hidden)
            by_hidden.mul_(hidden[k].sign_())  # the derivative of the ReLU, 0 or 1
            inner.descend(states[k], by_hidden, rates, by_input=by_state, times=self._skip)
        self._stem.descend(inputs, by_state, rates)
        return losses

    @torch.no_grad()
    def write(self, k: int) -> None:
        """Copy the k-th weights into the k-th network."""
        for layer, module in zip(self._layers, _linear_layers(self.networks[k]), strict=True):
            module.weight.copy_(layer.weight[k])
            if layer.bias is not None:
                module.bias.copy_(layer.bias[k, 0])

    def state(self) -> dict[str, Any]:
        """Return weights and velocities."""
        return {"layers": [layer.tensors() for layer in self._layers]}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        for layer, kept in zip(self._layers, state["layers"], strict=True):
            for tensor, value in zip(layer.tensors(), kept, strict=True):
                tensor.copy_(value)


def _linear_layers(network: nn.Module) -> list[nn.Linear]:
    return [module for module in network.modules() if isinstance(module, nn.Linear)]


class _Layer:
    """The linear maps at one place of all networks, and their velocities."""

    def __init__(self, layers: Sequence[nn.Linear], decay: torch.Tensor, momentum: float) -> None:
        self.weight = torch.stack([layer.weight.detach() for layer in layers])  # (networks, out, in)
        self._velocity = torch.zeros_like(self.weight)
        self.bias: torch.Tensor | None = None
        if layers[0].bias is not None:
            self.bias = torch.stack([layer.bias.detach() for layer in layers])[:, None]  # (networks, 1, out)
            self._bias_velocity = torch.zeros_like(self.bias)
        self._decay, self._momentum = decay[:, None, None], momentum

    def tensors(self) -> list[torch.Tensor]:
        """Return weights and velocities."""
        matrices = [self.weight, self._velocity]
        return matrices if self.bias is None else [*matrices, self.bias, self._bias_velocity]

    def map(
        self, x: torch.Tensor, *, out: torch.Tensor, plus: torch.Tensor | None = None, times: float = 0.0
    ) -> torch.Tensor:
        """Write the images of x, (networks, batch, in), and `times` the tensor `plus` to `out`; return it."""
        if plus is not None and times:
            torch.baddbmm(plus, x, self.weight.mT, beta=times, out=out)
        else:
            torch.bmm(x, self.weight.mT, out=out)
        return out if self.bias is None else out.add_(self.bias)

    def descend(
        self,
        x: torch.Tensor,
        by_output: torch.Tensor,
        rates: torch.Tensor,
        *,
        by_input: torch.Tensor | None = None,
        times: float = 0.0,
    ) -> None:
        """Step down the gradient, given the layer's input x and the loss's gradient by its output.

        The gradient by the input is written to `by_input`, after `times` what stood there.
        """
        if by_input is not None:
            by_input.baddbmm_(by_output, self.weight, beta=times)
        # The product that gives the gradient by the weights adds it to the fading velocity at once.
        self._velocity.baddbmm_(by_output.mT, x, beta=self._momentum).addcmul_(self.weight, self._decay)
        self.weight.addcmul_(self._velocity, rates, value=-1)
        if self.bias is not None:
            self._bias_velocity.mul_(self._momentum).add_(by_output.sum(1, keepdim=True))
            self.bias.addcmul_(self._bias_velocity, rates, value=-1)
