"""A point's path through a network."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

__all__ = ["Tracks", "check_shape", "record", "representations", "stage_count"]

_BATCH = 4096


@dataclass(frozen=True)
class Tracks:
    """The representations of a set of points after the entry of each stage and after each of its blocks.

    Attributes
    ----------
    stages
        One tensor of shape (blocks + 1, points, dim) for each stage of the network; most networks have one.
        ``stages[s][k, i]`` is the representation of point i after k blocks of the stage, ``stages[s][0]`` the output of
        the stage's entry, which is the stem for the first stage. On the CPU, in the network's precision; images are
        flattened, so that dim is channels * height * width.
    """

    stages: tuple[torch.Tensor, ...]

    @property
    def points(self) -> torch.Tensor:
        """The only stage's tensor, shape (layers + 1, points, dim); a ValueError for tracks of several stages."""
        if len(self.stages) != 1:
            raise ValueError(
                f"these tracks have {len(self.stages)} stages, each in a space of its own; choose one of .stages"
            )
        return self.stages[0]

    @property
    def layers(self) -> int:
        """Number of steps of each track, n in the scores; a ValueError for tracks of several stages."""
        return len(self.points) - 1


def record(network: nn.Module, x: Any) -> Tracks:
    """Send points through a network, once, and keep their representation after each entry and each block.

    Parameters
    ----------
    network
        A module with a `stem` and an iterable `blocks`, whose representations all have one shape, as `ResNet` and
        `PlainNet`; or else with `stages`, an iterable of modules with an `entry` and such `blocks` each, as
        `ConvResNet` and `ConvPlainNet`. It is run in evaluation mode without gradients and left as it was.
    x
        Inputs of shape (points, ...), a tensor or an array.

    Raises
    ------
    TypeError
        If the network has neither `stem` and `blocks` nor such `stages`.
    ValueError
        For no points, a stage without blocks, representations of changing shape within a stage, or values that are not
        finite.
    """
    # For each stage the batches' tensors of shape (blocks + 1, batch, dim).
    parts: list[list[torch.Tensor]] = [[] for _ in range(stage_count(network))]
    with representations(network, x, _BATCH) as batches:
        for layers in batches:
            for stage, run in itertools.groupby(layers, key=lambda layer: layer[0]):
                # Copied layer by layer, since a block that works in place overwrites the representation it was given.
                parts[stage].append(torch.stack([layer.cpu().clone() for _, layer in run]))
    return Tracks(tuple(torch.cat(part, dim=1) for part in parts))


def check_shape(shape: Sequence[int]) -> None:
    """Raise a ValueError for a shape that tracks of one stage cannot have."""
    if len(shape) != 3 or shape[0] < 2 or 0 in shape:
        raise ValueError(
            "tracks have shape (layers + 1, points, dim) with at least one layer, point and dimension; "
            f"got {tuple(shape)}"
        )


@contextmanager
def representations(
    network: nn.Module, x: Any, batch_size: int, *, last: int | None = None
) -> Iterator[Iterator[Iterator[tuple[int, torch.Tensor]]]]:
    """Run a network on one batch of points after another, and on each batch layer by layer.

    The context holds the network in evaluation mode without gradients, and leaves it as it was, also after an error.
    Nothing is kept: a representation lives as long as the caller holds it and, where a block works in place, is
    overwritten when the next one is asked for.

    Parameters
    ----------
    network, x
        As for `record`.
    batch_size
        Number of points that are sent through the network at a time.
    last
        Position of the stage to end with, by default the last one; what comes after it is not computed.

    Yields
    ------
    iterator
        For each batch an iterator of pairs: the position of a stage, and a representation of shape (batch, dim) in it,
        after its entry or after one of its blocks.

    Raises
    ------
    TypeError, ValueError
        As `record`, on entry or once the layer at fault is reached; and for a batch size below 1.
    """
    stages = _stages(network)
    x = torch.as_tensor(x)
    fewest = min((len(blocks) for _, blocks in stages), default=0)
    if x.ndim < 2 or len(x) == 0 or fewest == 0:
        raise ValueError(
            f"tracks need at least one point and one block{' in each stage' if len(stages) != 1 else ''}; "
            f"got inputs of shape {tuple(x.shape)}, {fewest} blocks"
        )
    if batch_size < 1:
        raise ValueError(f"a batch holds at least one point; got batch_size {batch_size}")
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.no_grad():
            yield (_layers(stages, batch, last) for batch in x.split(batch_size))
    finally:
        for module, mode in modes.items():
            module.training = mode


def stage_count(network: nn.Module) -> int:
    """Return the number of stages of a network that has tracks; a TypeError for others, as `record`."""
    return len(_stages(network))


def _stages(network: nn.Module) -> list[tuple[Any, Any]]:
    """Return the entry and the blocks of each stage."""
    stem, blocks, stages = (getattr(network, name, None) for name in ("stem", "blocks", "stages"))
    if callable(stem) and blocks is not None:
        return [(stem, blocks)]
    found = [(getattr(s, "entry", None), getattr(s, "blocks", None)) for s in stages] if stages is not None else []
    if not found or not all(callable(entry) and blocks is not None for entry, blocks in found):
        raise TypeError(
            "tracks need a network with a stem and blocks, or with stages that have an entry and blocks each; "
            f"{type(network).__name__} lacks one of them"
        )
    return found


def _layers(stages: list[tuple[Any, Any]], x: torch.Tensor, last: int | None) -> Iterator[tuple[int, torch.Tensor]]:
    for stage, (entry, blocks) in enumerate(stages):
        # Names a layer's place in errors: the position in `Tracks.stages` where there are several.
        place, start = (f" of stages[{stage}]", "entry") if len(stages) > 1 else ("", "stem")
        x = entry(x)
        shape = x.shape
        yield stage, _checked(x, 0, len(blocks), place, start)
        for k, block in enumerate(blocks, start=1):
            x = block(x)
            if x.shape != shape:
                raise ValueError(
                    f"a track lives in one space, so every block must keep the {start}'s output shape "
                    f"{tuple(shape)}; block {k}{place} gave {tuple(x.shape)}"
                )
            yield stage, _checked(x, k, len(blocks), place, start)
        if stage == last:
            return


def _checked(x: torch.Tensor, layer: int, layers: int, place: str, start: str) -> torch.Tensor:
    if not torch.isfinite(x).all():
        raise ValueError(
            f"tracks need finite representations; layer {layer} of {layers} (0 is the {start}){place} holds NaN or "
            "infinity"
        )
    return x.flatten(1)
