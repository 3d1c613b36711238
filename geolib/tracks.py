"""A point's path through a network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

__all__ = ["Tracks", "record", "representations"]

_BATCH = 4096


@dataclass(frozen=True)
class Tracks:
    """The representations of a set of points after the stem and after each block.

    Attributes
    ----------
    points
        Tensor of shape (layers + 1, points, dim): ``points[k, i]`` is the representation of point i after k blocks,
        ``points[0]`` the stem's output. On the CPU, in the network's precision.
    """

    points: torch.Tensor

    @property
    def layers(self) -> int:
        """Number of steps of each track, n in the scores."""
        return len(self.points) - 1


def record(network: nn.Module, x: Any) -> Tracks:
    """Send points through a network and keep their representation after the stem and after each block.

    Parameters
    ----------
    network
        A module with a `stem` and an iterable `blocks`, whose representations all have one shape, as `ResNet` and
        `PlainNet`. It is run in evaluation mode without gradients and left as it was.
    x
        Inputs of shape (points, ...), a tensor or an array.

    Raises
    ------
    TypeError
        If the network has no `stem` or `blocks`.
    ValueError
        For no points, no block, representations of changing shape, or values that are not finite.
    """
    with representations(network, x, _BATCH) as batches:
        # Copied layer by layer, since a block that works in place overwrites the representation it was given.
        parts = [torch.stack([layer.cpu().clone() for layer in layers]) for layers in batches]
    return Tracks(torch.cat(parts, dim=1))


@contextmanager
def representations(network: nn.Module, x: Any, batch_size: int) -> Iterator[Iterator[Iterator[torch.Tensor]]]:
    """Run a network on one batch of points after another, and on each batch layer by layer.

    The context holds the network in evaluation mode without gradients, and leaves it as it was, also after an error.
    Nothing is kept: a representation lives as long as the caller holds it and, where a block works in place, is
    overwritten when the next one is asked for.

    Yields
    ------
    iterator
        For each batch an iterator of its representations after the stem and after each block, of shape (batch, dim).

    Raises
    ------
    TypeError, ValueError
        As `record`, on entry or once the layer at fault is reached; and for a batch size below 1.
    """
    stem, blocks = getattr(network, "stem", None), getattr(network, "blocks", None)
    if not callable(stem) or blocks is None:
        raise TypeError(f"tracks need a network with a stem and blocks; {type(network).__name__} lacks one of them")
    x = torch.as_tensor(x)
    if x.ndim < 2 or len(x) == 0 or len(blocks) == 0:
        raise ValueError(
            f"tracks need at least one point and one block; got inputs of shape {tuple(x.shape)}, {len(blocks)} blocks"
        )
    if batch_size < 1:
        raise ValueError(f"a batch holds at least one point; got batch_size {batch_size}")
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.no_grad():
            yield (_layers(stem, blocks, batch) for batch in x.split(batch_size))
    finally:
        for module, mode in modes.items():
            module.training = mode


def _layers(stem: Any, blocks: Any, x: torch.Tensor) -> Iterator[torch.Tensor]:
    x = stem(x)
    shape = x.shape
    yield _checked(x, 0, len(blocks))
    for k, block in enumerate(blocks, start=1):
        x = block(x)
        if x.shape != shape:
            raise ValueError(
                "a track lives in one space, so every block must keep the stem's output shape "
                f"{tuple(shape)}; block {k} gave {tuple(x.shape)}"
            )
        yield _checked(x, k, len(blocks))


def _checked(x: torch.Tensor, layer: int, layers: int) -> torch.Tensor:
    if not torch.isfinite(x).all():
        raise ValueError(
            f"tracks need finite representations; layer {layer} of {layers} (0 is the stem) holds NaN or infinity"
        )
    return x.flatten(1)
