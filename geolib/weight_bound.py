"""The bound of the curve's length by the squares of the weights, link by link."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from geolib.continuity import as_tracks, speed
from geolib.networks import ResNet
from geolib.tracks import Tracks

__all__ = ["LengthBound", "length_bound"]

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
#: The sides of each link of the proof, rising.
_CHAIN = ("speeds", "operator", "frobenius", "radial", "weights")


@dataclass(frozen=True)
class LengthBound:
    r"""Both sides of the bound, block by block, and what stands between them.

    Arrays have one entry a block, shape (n,). Those from `speeds` to `weights` are in the unit of the points and rise
    in this order; each step up is one link of the proof.

    Attributes
    ----------
    radius
        R, the largest norm of a point at the input of any block.
    entry_radius
        R_0, the largest norm at the input of the first block.
    squares
        :math:`|W_1|_F^2 + |W_2|_F^2`.
    products
        :math:`|W_2|_{op} \, |W_1|_{op}`, a Lipschitz constant of the block's step.
    speeds
        :math:`\lVert v_k \rVert_{L^2(\mu_k)}`, the left side.
    operator
        The products times the root mean square of the input's norm.
    frobenius
        :math:`|W_2|_F \, |W_1|_F` times the same.
    radial
        :math:`|W_2|_F \, |W_1|_F \, R`.
    weights
        :math:`\frac R2 (|W_1|_F^2 + |W_2|_F^2)`, the right side.
    """

    radius: float
    entry_radius: float
    squares: np.ndarray
    products: np.ndarray
    speeds: np.ndarray
    operator: np.ndarray
    frobenius: np.ndarray
    radial: np.ndarray
    weights: np.ndarray

    @property
    def length(self) -> float:
        """The left side, summed over blocks: the length of the curve."""
        return float(self.speeds.sum())

    @property
    def bound(self) -> float:
        """The right side, summed over blocks."""
        return float(self.weights.sum())

    @property
    def ratio(self) -> float:
        """Bound over length, at least 1; infinite for a network that moves no point."""
        return self.bound / self.length if self.length > 0 else float("inf")

    @property
    def factors(self) -> dict[str, float]:
        """What each link loses, named by its upper side: a factor of at least 1 on the sum over blocks.

        Their product is `ratio`. NaN where the lower side is zero.
        """
        sums = {name: float(getattr(self, name).sum()) for name in _CHAIN}
        links = itertools.pairwise(_CHAIN)
        return {upper: sums[upper] / sums[lower] if sums[lower] > 0 else float("nan") for lower, upper in links}


def length_bound(network: nn.Module, tracks: Tracks | Any) -> LengthBound:
    r"""Bound the length of the curve that a residual network draws by the squares of its weights.

    .. math:: \sum_k \lVert v_k \rVert_{L^2(\mu_k)} \le
        \frac R2 \sum_k \big( |W_1^{(k)}|_F^2 + |W_2^{(k)}|_F^2 \big)

    for blocks :math:`x + W_2 \, s(W_1 x)` and points of norm at most R at the input of every block: the statement of
    slide 24 of :cite:`gai_lecture` with a constant. The stem is no part of it.

    Parameters
    ----------
    network
        A `ResNet` without biases, n blocks.
    tracks
        Of points through it: what `record` returned, or an array of shape (n + 1, points, dim).

    Raises
    ------
    TypeError
        For any other network: without skips, with biases, normalisation or convolutions the inequality need not hold.
    ValueError
        For tracks that cannot be this network's, or are not finite.
    """
    blocks = _blocks(network)
    points = as_tracks(tracks.points if isinstance(tracks, Tracks) else tracks)
    width = blocks[0].inner.in_features
    if (len(points) - 1, points.shape[2]) != (len(blocks), width):
        raise ValueError(
            f"a network of {len(blocks)} blocks and width {width} has tracks of shape ({len(blocks) + 1}, points, "
            f"{width}); got {points.shape}"
        )
    norms = np.linalg.norm(points[:-1], axis=2)  # (n, points)
    mean, radius = np.sqrt(np.square(norms).mean(1)), norms.max()
    first, second = (
        [getattr(block, name).weight.detach().cpu().double() for block in blocks] for name in ("inner", "outer")
    )
    frobenius, operator = (
        np.array([[float(torch.linalg.matrix_norm(w, order)) for w in maps] for maps in (first, second)])
        for order in ("fro", 2)
    )
    squares, products = np.square(frobenius).sum(0), operator.prod(0)
    return LengthBound(
        radius=float(radius), entry_radius=float(norms[0].max()), squares=squares, products=products,
        speeds=speed(points), operator=products * mean, frobenius=frobenius.prod(0) * mean,
        radial=frobenius.prod(0) * radius, weights=radius / 2 * squares,
    )  # fmt: skip


def _blocks(network: nn.Module) -> list[Any]:
    """Return the blocks of a network for which the bound is proved."""
    parts = list(network.modules())
    if any(isinstance(part, _NORMS) for part in parts):
        _refuse(network, "normalisation undoes the scale of the weights before it, so that their squares bound nothing")
    if any(isinstance(part, nn.modules.conv._ConvNd) for part in parts):
        _refuse(network, "the norm of a convolution's kernel is not the norm of its map, which uses it at every place")
    if not isinstance(network, ResNet):
        _refuse(network, "the step of a block without a skip, W2 s(W1 x) - x, does not vanish with its weights")
    blocks: list[Any] = list(cast(nn.Sequential, network.blocks))
    if any(layer.bias is not None for block in blocks for layer in (block.inner, block.outer)):
        _refuse(network, "a bias moves points however small the matrices are")
    return blocks


def _refuse(network: nn.Module, why: str) -> None:
    raise TypeError(f"the bound holds for a ResNet of blocks x + W2 s(W1 x); got {type(network).__name__}: {why}")
