"""Residual and plain convolutional networks: stages of blocks at constant shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from geolib.networks import check_gain, initialise

__all__ = ["NORMS", "ConvPlainNet", "ConvResNet", "image_sides"]

#: Side of the images on which the first stage works, about: the stem's stride is the side of the inputs over this.
_SIDE = 8
NORMS = ("batch", "layer")


def image_sides(input_shape: Sequence[int], stages: int) -> list[tuple[int, int]]:
    """Return height and width of the images that each stage works on.

    The first stage's are about 8 by 8: 32 by 32 for CIFAR become 8 by 8, 28 by 28 for MNIST become 9 by 9, and images
    of fewer than 16 pixels a side keep their size. Each further stage halves them, rounding up.

    Parameters
    ----------
    input_shape
        Shape of one input, (channels, height, width).
    stages
        Number of stages.

    Raises
    ------
    ValueError
        For another shape, no stage, or more stages than an image can be halved for.
    """
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise ValueError(f"convolutions need inputs of shape (channels, height, width); got {tuple(input_shape)}")
    if stages < 1:
        raise ValueError(f"a convolutional network needs at least one stage; got {stages}")
    height, width = input_shape[1:]
    stem = _stem_geometry(input_shape)
    sides = [(_outputs(height, **stem), _outputs(width, **stem))]
    while len(sides) < stages:
        height, width = sides[-1]
        if min(height, width) < 2:
            raise ValueError(
                f"each stage after the first halves the image, and stage {len(sides)} of {stages} has only {height} by "
                f"{width} pixels left for inputs of shape {tuple(input_shape)}; take at most {len(sides)} stages"
            )
        sides.append((_outputs(height, **_TRANSITION), _outputs(width, **_TRANSITION)))
    return sides


_TRANSITION = {"kernel_size": 3, "stride": 2, "padding": 1}


def _stem_geometry(input_shape: Sequence[int]) -> dict[str, int]:
    stride = max(1, min(input_shape[1:]) // _SIDE)
    kernel = max(3, stride)  # every pixel is seen, and by a stride of 1 with its neighbours
    return {"kernel_size": kernel, "stride": stride, "padding": (kernel - stride + 1) // 2}


def _outputs(side: int, *, kernel_size: int, stride: int, padding: int) -> int:
    return (side + 2 * padding - kernel_size) // stride + 1


def _norm(norm: str | None, channels: int) -> nn.Module:
    if norm is None:
        return nn.Identity()
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.GroupNorm(1, channels)


class ConvPlainBlock(nn.Module):
    """``x -> N2 K2 relu(N1 K1 x)``: two 3 by 3 convolutions K around a ReLU, each with its norm N if there is one."""

    def __init__(self, channels: int, norm: str | None, bias: bool) -> None:
        super().__init__()
        self.inner = nn.utils.skip_init(nn.Conv2d, channels, channels, 3, padding=1, bias=bias)
        self.inner_norm = _norm(norm, channels)
        self.outer = nn.utils.skip_init(nn.Conv2d, channels, channels, 3, padding=1, bias=bias)
        self.outer_norm = _norm(norm, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(points, channels, height, width)`` to the same shape."""
        hidden = torch.relu(self.inner_norm(self.inner(x)))
        return self.outer_norm(self.outer(hidden))  # type: ignore[no-any-return]


class ConvResidualBlock(ConvPlainBlock):
    """``x -> x + N2 K2 relu(N1 K1 x)``: the same maps added to the identity, and no ReLU after the sum."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(points, channels, height, width)`` to the same shape."""
        return x + super().forward(x)


class _Stage(nn.Module):
    """An entry, which sets the shape, and blocks, which keep it."""

    def __init__(self, entry: nn.Module, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.entry = entry
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map what the stage before gave to this stage's last representation."""
        return self.blocks(self.entry(x))  # type: ignore[no-any-return]


class _ConvNetwork(nn.Module):
    """Stages of blocks at constant shape, the mean over pixels, a linear head."""

    _block: type[ConvPlainBlock]
    default_gain: float

    def __init__(
        self,
        input_shape: Sequence[int],
        classes: int,
        *,
        width: int = 32,
        blocks: int = 4,
        stages: int = 1,
        norm: str | None = None,
        bias: bool = False,
        gain: float | None = None,
        seed: int = 0,
    ) -> None:
        """Build and initialise the network.

        The entry of the first stage, the stem, is a convolution whose stride makes images of about 8 by 8, see
        `image_sides`; the entry of each further stage is a 3 by 3 convolution of stride 2 that doubles the channels and
        halves the image. Entries are affine: they have a bias, and neither norm nor ReLU. ``network.stages`` holds the
        stages, each with its `entry` and its `blocks`, and the class scores are
        ``network.head(network.pool(last representation))``.

        Parameters
        ----------
        input_shape
            Shape of one input, ``(channels, height, width)``.
        classes
            Number of outputs.
        width
            Channels of the first stage.
        blocks
            Blocks a stage, n in the scores of each stage.
        stages
            Number of stages; stage k has ``2^(k-1) width`` channels.
        norm
            After each convolution of a block: None; ``"batch"``, batch norm, which in evaluation mode uses the running
            mean and variance of the training batches, and so does nothing in an untrained network, whose running mean
            is 0 and variance 1; or ``"layer"``, layer norm over channels and pixels of each point. Norms have a gain
            and a shift for each channel, that start at 1 and 0, but for the gain of a block's last norm, see `gain`.
        bias
            Whether the blocks' convolutions have a bias. Without bias and norm a block's velocity has ``v(0) = 0`` and
            ``|v(x)| <= |K2| |K1| |x|``, as the dense blocks', with the operator norms of the two convolutions.
        gain
            Scale of the blocks' output at initialisation. The kernels' entries are normal with variance ``2 / fan_in``
            in the first convolution and ``gain^2 / fan_in`` in the second, ``fan_in`` being 9 times the channels. With
            a norm, which would undo this scale, the second has variance ``1 / fan_in`` and `gain` is the initial gain
            of the block's last norm. Either way ``gain = 0`` starts a residual block at the identity. By default 1 for
            the plain network and 0.25 for the residual one. At gain 1 and without norm a plain block changes the mean
            square, on average over its weights, only by what the zeros around the image take: an 8 by 8 image whose
            pixels have one mean square keeps 0.74 of it.
        seed
            Seed of the initialisation; no global random state is read or changed.

        Raises
        ------
        ValueError
            For inputs that are not images, an empty size, an unknown norm, more stages than the image can be halved
            for, or a gain that is negative or not finite.
        """
        super().__init__()
        sides = image_sides(input_shape, stages)
        if min(classes, width, blocks) < 1:
            raise ValueError(
                f"a convolutional network needs at least one class, channel and block a stage; got {classes} classes, "
                f"width {width}, {blocks} blocks"
            )
        if norm is not None and norm not in NORMS:
            raise ValueError(f"unknown norm {norm!r}; choose None, {' or '.join(map(repr, NORMS))}")
        gain = check_gain(self.default_gain if gain is None else gain)
        parts, before = [], input_shape[0]
        for k in range(len(sides)):
            channels, geometry = width * 2**k, _TRANSITION if k else _stem_geometry(input_shape)
            entry = nn.utils.skip_init(nn.Conv2d, before, channels, **geometry)
            parts.append(_Stage(entry, [self._block(channels, norm, bias) for _ in range(blocks)]))
            before = channels
        self.stages = nn.Sequential(*parts)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.utils.skip_init(nn.Linear, before, classes)
        self._initialise(gain, torch.Generator().manual_seed(seed))

    def _initialise(self, gain: float, generator: torch.Generator) -> None:
        variance: dict[nn.Module, float] = {}
        for block in (module for module in self.modules() if isinstance(module, ConvPlainBlock)):
            last: Any = block.outer_norm
            normed = not isinstance(last, nn.Identity)
            variance |= {block.inner: 2.0, block.outer: 1.0 if normed else gain**2}
            if normed:
                nn.init.constant_(last.weight, gain)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                initialise(layer, variance.get(layer, 1.0), generator)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map inputs ``(points, channels, height, width)`` to class scores ``(points, classes)``."""
        return self.head(self.pool(self.stages(x)))  # type: ignore[no-any-return]


class ConvResNet(_ConvNetwork):
    """Residual convolutional network: blocks ``x -> x + K2 relu(K1 x)`` of 3 by 3 convolutions, in stages."""

    _block = ConvResidualBlock
    default_gain = 0.25


class ConvPlainNet(_ConvNetwork):
    """Plain convolutional network: blocks ``x -> K2 relu(K1 x)``, the ConvResNet of the same sizes without skips."""

    _block = ConvPlainBlock
    default_gain = 1.0
