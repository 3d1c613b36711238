"""The bound of the curve's length by the squares of the weights, link by link."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from geolib.continuity import as_tracks, speed
from geolib.networks import ResidualBlock, ResNet
from geolib.tracks import Tracks

__all__ = ["LengthBound", "length_bound"]

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
#: How far a recorded step may be from the one that the weights give, as a share of what a block may move or keep.
#: A step in single precision is within a few 1e-7 of it.
_TOLERANCE = 1e-5


@dataclass(frozen=True)
class LengthBound:
    r"""Both sides of the bound, block by block, and what stands between them.

    Attributes
    ----------
    radius
        R, the largest norm of a point at the input of any block.
    entry_radius
        R_0, the largest norm at the input of the first block.
    squares
        Shape (n,): :math:`|W_1|_F^2 + |W_2|_F^2` of each block.
    products
        Shape (n,): :math:`|W_2|_{op} \, |W_1|_{op}`, a Lipschitz constant of the block's step.
    chain
        Shape (5, n), in the unit of the points. Down a column the numbers rise, and each step down is one link of the
        proof: the left side :math:`\lVert v_k \rVert_{L^2(\mu_k)}`; with :math:`\lVert x \rVert` the root mean square
        of the norms at the block's input, :math:`|W_2|_{op} |W_1|_{op} \lVert x \rVert` and
        :math:`|W_2|_F |W_1|_F \lVert x \rVert`; :math:`|W_2|_F |W_1|_F R`; and the right side
        :math:`\frac R2 (|W_1|_F^2 + |W_2|_F^2)`.
    """

    radius: float
    entry_radius: float
    squares: np.ndarray
    products: np.ndarray
    chain: np.ndarray

    @property
    def length(self) -> float:
        """The left side, summed over blocks: the length of the curve."""
        return float(self.chain[0].sum())

    @property
    def bound(self) -> float:
        """The right side, summed over blocks."""
        return float(self.chain[-1].sum())

    @property
    def ratio(self) -> float:
        """Bound over length, at least 1; infinite for a network that moves no point."""
        return self.bound / self.length if self.length > 0 else float("inf")


def length_bound(network: nn.Module, tracks: Tracks | Any) -> LengthBound:
    r"""Bound the length of the curve that a residual network draws by the squares of its weights.

    .. math:: \sum_k \lVert v_k \rVert_{L^2(\mu_k)} \le
        \frac R2 \sum_k \big( |W_{1,k}|_F^2 + |W_{2,k}|_F^2 \big)

    for steps :math:`v_k(x) = W_{2,k} \max(W_{1,k} x, 0)`, k = 0, ..., n - 1, and points of norm at most R at the input
    of every block: the statement of slide 24 of :cite:`gai_lecture` with a constant. The stem is no part of it.

    Parameters
    ----------
    network
        A `ResNet` without biases, n blocks.
    tracks
        Of points through it: what `record` returned, or an array of shape (n + 1, points, dim).

    Raises
    ------
    TypeError
        For any other network: without skips, with biases, normalisation or convolutions, or with blocks of another
        class the inequality need not hold.
    ValueError
        For tracks that are not finite or not this network's: of another shape, or with a step that its weights do not
        give, up to single precision. For weights that are not finite.
    """
    blocks = _blocks(network)
    points = as_tracks(tracks.points if isinstance(tracks, Tracks) else tracks)
    width = blocks[0].inner.in_features
    if (len(points) - 1, points.shape[2]) != (len(blocks), width):
        raise ValueError(
            f"a network of {len(blocks)} blocks and width {width} has tracks of shape ({len(blocks) + 1}, points, "
            f"{width}); got {points.shape}"
        )
    first, second = (_matrices(blocks, name) for name in ("inner", "outer"))
    frobenius, operator = (
        torch.stack([torch.linalg.matrix_norm(maps, order) for maps in (first, second)]).numpy() for order in ("fro", 2)
    )
    norms = np.linalg.norm(points[:-1], axis=2)  # (n, points)
    _check_steps(points, first, second, _TOLERANCE * (1 + frobenius.prod(0))[:, None] * norms)
    mean, radius = np.sqrt(np.square(norms).mean(1)), float(norms.max())
    squares, products = np.square(frobenius).sum(0), operator.prod(0)
    chain = [speed(points), products * mean, frobenius.prod(0) * mean, frobenius.prod(0) * radius, radius / 2 * squares]
    return LengthBound(radius, float(norms[0].max()), squares, products, np.stack(chain))


def _matrices(blocks: list[ResidualBlock], name: str) -> torch.Tensor:
    """Return one of the two matrices of each block, shape (n, width, width), in double precision."""
    matrices = [getattr(block, name).weight.detach().cpu().double() for block in blocks]
    for k, matrix in enumerate(matrices):
        if not torch.isfinite(matrix).all():
            raise ValueError(f"a bound needs finite weights; blocks[{k}].{name}.weight holds NaN or infinity")
    return torch.stack(matrices)


def _check_steps(points: np.ndarray, first: torch.Tensor, second: torch.Tensor, tolerance: np.ndarray) -> None:
    """Refuse tracks with a step that is not W2 relu(W1 x); the tolerance has shape (n, points)."""
    x = torch.from_numpy(points[:-1])
    steps = torch.relu(x @ first.mT) @ second.mT
    away = np.linalg.norm(np.diff(points, axis=0) - steps.numpy(), axis=2)
    if (away > tolerance).any():
        k, i = np.unravel_index(np.argmax(away - tolerance), away.shape)
        raise ValueError(
            f"these tracks are not this network's: x + W2 relu(W1 x) is not where blocks[{k}] leads; point {i} is "
            f"{away[k, i]:.3g} away from it"
        )


def _blocks(network: nn.Module) -> list[ResidualBlock]:
    """Return the blocks of a network for which the bound is proved."""
    parts = list(network.modules())
    if any(isinstance(part, _NORMS) for part in parts):
        _refuse(network, "normalisation undoes the scale of the weights before it, so that their squares bound nothing")
    if any(isinstance(part, nn.modules.conv._ConvNd) for part in parts):
        _refuse(network, "the norm of a convolution's kernel is not the norm of its map, which uses it at every place")
    if not isinstance(network, ResNet):
        _refuse(network, "the step of a block without a skip, W2 relu(W1 x) - x, does not vanish with its weights")
    blocks = list(cast(Iterable[Any], network.blocks))
    for k, block in enumerate(blocks):
        if not isinstance(block, ResidualBlock):
            _refuse(network, f"blocks[{k}] is a {type(block).__name__}")
    if any(layer.bias is not None for block in blocks for layer in (block.inner, block.outer)):
        _refuse(network, "a bias moves points however small the matrices are")
    return blocks


def _refuse(network: nn.Module, why: str) -> None:
    raise TypeError(f"the bound holds for a ResNet of blocks x + W2 relu(W1 x); got {type(network).__name__}: {why}")
