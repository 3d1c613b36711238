"""A point's path through a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

__all__ = ["Tracks", "record"]

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
    stem, blocks = getattr(network, "stem", None), getattr(network, "blocks", None)
    if not callable(stem) or blocks is None:
        raise TypeError(f"tracks need a network with a stem and blocks; {type(network).__name__} lacks one of them")
    x = torch.as_tensor(x)
    if x.ndim < 2 or len(x) == 0 or len(blocks) == 0:
        raise ValueError(
            f"tracks need at least one point and one block; got inputs of shape {tuple(x.shape)}, {len(blocks)} blocks"
        )
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.no_grad():
            points = torch.cat([_path(stem, blocks, part) for part in x.split(_BATCH)], dim=1)
    finally:
        for module, mode in modes.items():
            module.training = mode
    finite = torch.isfinite(points).flatten(1).all(1)
    if not finite.all():
        raise ValueError(
            f"tracks need finite representations; layer {int((~finite).nonzero()[0])} of {len(blocks)} "
            "(0 is the stem) holds NaN or infinity"
        )
    return Tracks(points)


def _path(stem: Any, blocks: Any, x: torch.Tensor) -> torch.Tensor:
    path = [stem(x)]
    for block in blocks:
        path.append(block(path[-1]))
        if path[-1].shape != path[0].shape:
            raise ValueError(
                "a track lives in one space, so every block must keep the stem's output shape "
                f"{tuple(path[0].shape)}; block {len(path) - 1} gave {tuple(path[-1].shape)}"
            )
    return torch.stack(path).flatten(2).cpu()
