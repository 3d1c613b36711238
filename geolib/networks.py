"""Residual and plain networks of equal depth, width and parameter count."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

__all__ = ["PlainNet", "ResNet", "check_gain", "initialise"]


def check_gain(gain: float) -> float:
    """Return `gain`; raise a ValueError if no random weights can have this scale."""
    if not (math.isfinite(gain) and gain >= 0):
        raise ValueError(f"gain is a scale of random weights and must be finite and >= 0; got {gain}")
    return gain


def initialise(layer: nn.Linear | nn.Conv2d, variance: float, generator: torch.Generator) -> None:
    """Draw a layer's weights from a normal distribution of variance ``variance / fan_in``; set its biases to zero."""
    fan_in = layer.weight[0].numel()
    nn.init.normal_(layer.weight, std=math.sqrt(variance / fan_in), generator=generator)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class PlainBlock(nn.Module):
    """``x -> W2 relu(W1 x)``: two linear maps around a ReLU."""

    def __init__(self, width: int, bias: bool) -> None:
        super().__init__()
        self.inner = nn.utils.skip_init(nn.Linear, width, width, bias=bias)
        self.outer = nn.utils.skip_init(nn.Linear, width, width, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(points, width)`` to ``(points, width)``."""
        return self.outer(torch.relu(self.inner(x)))  # type: ignore[no-any-return]


class ResidualBlock(PlainBlock):
    """``x -> x + W2 relu(W1 x)``: the same two maps added to the identity."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(points, width)`` to ``(points, width)``."""
        return x + super().forward(x)


class _Network(nn.Module):
    """A linear stem, blocks at constant width, a linear head."""

    _block: type[PlainBlock]
    default_gain: float

    def __init__(
        self,
        input_shape: int | Sequence[int],
        classes: int,
        *,
        width: int = 64,
        blocks: int = 10,
        bias: bool = False,
        gain: float | None = None,
        seed: int = 0,
    ) -> None:
        """Build and initialise the network.

        Parameters
        ----------
        input_shape
            Shape of one input, for example ``(1, 28, 28)``, or its number of features; the stem flattens it.
        classes
            Number of outputs.
        width
            Dimension of the representation that the blocks transform.
        blocks
            Number of blocks, n in the scores.
        bias
            Whether the blocks' linear maps have a bias. Off by default: the bound of a block's displacement by its
            weights, ``|v(x)| <= |W2| |W1| |x|``, needs ``v(0) = 0``.
        gain
            Scale of the blocks' second map at initialisation. Entries are normal with variance ``2 / width`` in the
            first map and ``gain^2 / width`` in the second, so that ``gain = 1`` keeps the mean square of a plain
            block's output equal to its input's, and ``gain = 0`` starts a residual block at the identity. By default 1
            for the plain network and 0.25 for the residual one, whose steps add up.
        seed
            Seed of the initialisation; no global random state is read or changed.
        """
        super().__init__()
        features = math.prod([input_shape] if isinstance(input_shape, int) else input_shape)
        if min(features, classes, width, blocks) < 1:
            raise ValueError(
                f"a network needs at least one input feature, class, unit of width and block; got {features} features, "
                f"{classes} classes, width {width}, {blocks} blocks"
            )
        gain = check_gain(self.default_gain if gain is None else gain)
        self.stem = nn.Sequential(nn.Flatten(), nn.utils.skip_init(nn.Linear, features, width))
        self.blocks = nn.Sequential(*(self._block(width, bias) for _ in range(blocks)))
        self.head = nn.utils.skip_init(nn.Linear, width, classes)
        self._initialise(gain, torch.Generator().manual_seed(seed))

    def _initialise(self, gain: float, generator: torch.Generator) -> None:
        variance = {id(block.inner): 2.0 for block in self.blocks} | {id(block.outer): gain**2 for block in self.blocks}
        for layer in (module for module in self.modules() if isinstance(module, nn.Linear)):
            initialise(layer, variance.get(id(layer), 1.0), generator)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map inputs ``(points, *input_shape)`` to class scores ``(points, classes)``."""
        return self.head(self.blocks(self.stem(x)))  # type: ignore[no-any-return]


class ResNet(_Network):
    """Residual network: blocks ``x -> x + W2 relu(W1 x)`` between a linear stem and a linear head."""

    _block = ResidualBlock
    default_gain = 0.25


class PlainNet(_Network):
    """Plain network: blocks ``x -> W2 relu(W1 x)``, the ResNet of the same sizes without its skips."""

    _block = PlainBlock
    default_gain = 1.0
