"""Statistics of tracks, accumulated layer by layer without storing the tracks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from geolib.tracks import check_shape, representations, stage_count

__all__ = ["TrackStatistics", "track_statistics"]

# Large enough for a matrix product to be efficient, small enough that a batch is little beside the network's weights.
_BATCH = 256


@dataclass(frozen=True)
class TrackStatistics:
    r"""What a track's points tell about its shape and pace, for tracks that need not be stored.

    With the steps :math:`d_l = x^{(l)} - x^{(l-1)}, l = 1, \dots, n` of each track; all but the last attribute have
    one entry per point, shape (points,), and lengths are in the unit of the representations.

    Attributes
    ----------
    layers
        Number of steps of each track, n.
    line_shape_score
        LSS, as `geolib.line_shape_score` defines it: NaN for a track that never moves.
    path_length
        :math:`\sum_l |d_l|`.
    displacement
        :math:`|x^{(n)} - x^{(0)}|`, at most the path length, with equality exactly for a straight track.
    step_deviation
        Standard deviation of the step length over the n steps of a track, those of length zero included,
        :math:`\sqrt{\frac1n \sum_l (|d_l| - m)^2}` with m the `step_mean`.
    moving_steps
        Number of steps of non-zero length.
    spread, magnitude
        Root mean square distance of the points from their mean, and from the origin: shape (2,), in the first cloud
        and in the last.
    """

    layers: int
    line_shape_score: np.ndarray
    path_length: np.ndarray
    displacement: np.ndarray
    step_deviation: np.ndarray
    moving_steps: np.ndarray
    spread: np.ndarray
    magnitude: np.ndarray

    @property
    def step_mean(self) -> np.ndarray:
        """Mean length of a track's n steps, those of length zero included; shape (points,)."""
        return self.path_length / self.layers

    @property
    def step_variation(self) -> np.ndarray:
        """Coefficient of variation of the step length, `step_deviation` / `step_mean`; shape (points,).

        It is 0 exactly at constant speed, as a geodesic has, and at most sqrt(n - 1), for a track that moves in one
        step only. It does not depend on the unit, and is NaN for a track that never moves.
        """
        still = self.path_length == 0
        variation: np.ndarray = self.step_deviation / np.where(still, np.nan, self.step_mean)
        return variation

    @property
    def dead(self) -> bool:
        """Whether these are the tracks of a dead network, by the rule of `geolib.is_dead`."""
        return bool((self.moving_steps == 0).mean() > 0.01 or (self.spread <= 1e-6 * self.magnitude).any())

    @classmethod
    def of(cls, points: Any) -> TrackStatistics:
        """Return the statistics of stored tracks.

        Parameters
        ----------
        points
            Tracks of shape (layers + 1, points, dim). They are read in blocks of points and converted to float64 block
            by block, so that a memory-mapped array is never in memory as a whole.

        Raises
        ------
        ValueError
            For a wrong shape, no layer, no point, or values that are not finite.
        """
        path = np.asarray(points)
        check_shape(path.shape)
        starts = range(0, path.shape[1], _BATCH)
        return _accumulate((_finite(layer[start : start + _BATCH]) for layer in path) for start in starts)


def track_statistics(
    network: nn.Module, x: Any, *, stage: int | None = None, batch_size: int = _BATCH
) -> TrackStatistics:
    """Return the statistics of the tracks of points through a network, without storing the tracks.

    The memory taken is that of a few arrays of shape (batch_size, dim), dim the size of one representation, beside the
    network, its inputs and the results: it depends neither on the number of layers nor, but for the results' five
    numbers per point, on the number of points. Sums are in float64.

    The results are those of ``TrackStatistics.of(record(network, x).stages[stage])`` to the last digit, where the
    network computes a point alike in batches of any size; its products may round otherwise, in its own precision.

    Parameters
    ----------
    network, x
        As for `geolib.record`; the network is run in evaluation mode without gradients and left as it was.
    stage
        Position of the stage whose tracks are meant, counted from 0 as in ``Tracks.stages``; a network of one stage
        needs none. The stages after it are not computed.
    batch_size
        Number of points that are sent through the network at a time.

    Raises
    ------
    TypeError
        If the network has neither `stem` and `blocks` nor `stages` of an `entry` and `blocks` each.
    ValueError
        For no points, no block, representations of changing shape, values that are not finite, an empty batch, or a
        stage that the network lacks, or none where it has several.
    """
    stages = stage_count(network)
    if stage is None and stages == 1:
        stage = 0
    if stage not in range(stages):
        raise ValueError(f"stage must be one of 0 to {stages - 1}, for a network of {stages} stages; got {stage}")
    with representations(network, x, batch_size, last=stage) as batches:
        return _accumulate((_copied(layer) for position, layer in layers if position == stage) for layers in batches)


def _copied(layer: torch.Tensor) -> np.ndarray:
    # Not a view: a block that works in place overwrites the representation it was given.
    copy: np.ndarray = layer.cpu().to(torch.float64, copy=True).numpy()
    return copy


def _finite(layer: np.ndarray) -> np.ndarray:
    points = np.array(layer, dtype=np.float64, order="C")
    if not np.isfinite(points).all():
        raise ValueError("a track with NaN or infinite points has no shape; every value must be finite")
    return points


def _accumulate(batches: Iterable[Iterator[np.ndarray]]) -> TrackStatistics:
    """Accumulate batches of points, each an iterator of the layers' float64 arrays of shape (batch, dim)."""
    parts: list[tuple[np.ndarray, ...]] = []
    clouds: list[_Cloud] = []
    with np.errstate(under="ignore"):
        for layers in batches:
            sums = _TrackSums(next(layers))
            for points in layers:
                sums.add(points)
            parts.append(sums.per_point())
            ends = (_Cloud.of(sums.first), _Cloud.of(sums.last))
            clouds = [old.merge(new) for old, new in zip(clouds, ends, strict=True)] if clouds else list(ends)
    score, path_length, displacement, deviation, moving = (np.concatenate(part) for part in zip(*parts, strict=True))
    return TrackStatistics(
        layers=sums.layers,
        line_shape_score=score,
        path_length=path_length,
        displacement=displacement,
        step_deviation=deviation,
        moving_steps=moving,
        spread=np.array([cloud.spread for cloud in clouds]),
        magnitude=np.array([cloud.magnitude for cloud in clouds]),
    )


class _TrackSums:
    """Running sums over the layers of some tracks, of which only the first and the latest points are held."""

    def __init__(self, start: np.ndarray) -> None:
        self.first = self.last = start
        self.layers = 0
        self.directions = np.zeros_like(start)
        self.path_length, self.root = np.zeros(len(start)), np.zeros(len(start))
        self.moving = np.zeros(len(start), dtype=np.int64)

    def add(self, points: np.ndarray) -> None:
        """Take the steps from the latest points to these."""
        step = points - self.last
        self.last = points
        length = _normalise(step)
        self.directions += step
        self.moving += length > 0
        # Welford's update of the sum of squares about the mean, kept as its root, which neither vanishes nor overflows.
        n = self.layers
        if n > 0:
            np.hypot(self.root, np.sqrt(n / (n + 1)) * (length - self.path_length / n), out=self.root)
        self.path_length += length
        self.layers = n + 1

    def per_point(self) -> tuple[np.ndarray, ...]:
        """Return LSS, path length, displacement, deviation of the step length, number of moving steps."""
        with np.errstate(divide="ignore", invalid="ignore"):
            score = self.moving / np.linalg.norm(self.directions, axis=1)
        deviation = self.root / np.sqrt(self.layers)
        return score, self.path_length, _normalise(self.last - self.first), deviation, self.moving


@dataclass(frozen=True)
class _Cloud:
    """Number of points, mean, and root of the sum of squared distances from it (Chan, Golub and LeVeque's merge)."""

    count: int
    mean: np.ndarray
    root: float

    @classmethod
    def of(cls, points: np.ndarray) -> _Cloud:
        mean = points.mean(0)
        return cls(len(points), mean, _length(_normalise(points - mean)))

    def merge(self, other: _Cloud) -> _Cloud:
        count, gap = self.count + other.count, other.mean - self.mean
        between = math.sqrt(self.count * other.count / count) * _length(gap)
        return _Cloud(count, self.mean + gap * (other.count / count), math.hypot(self.root, other.root, between))

    @property
    def spread(self) -> float:
        return self.root / math.sqrt(self.count)

    @property
    def magnitude(self) -> float:
        return math.hypot(self.spread, _length(self.mean))


def _normalise(vectors: np.ndarray) -> np.ndarray:
    """Divide each row by its length, a row of zeros excepted, in place; return the lengths."""
    # Divided by its largest entry first, so that the square of a tiny or huge step neither vanishes nor overflows.
    largest = np.maximum(vectors.max(1), -vectors.min(1))
    vectors /= np.where(largest > 0, largest, 1)[:, None]
    length = np.linalg.norm(vectors, axis=1)
    vectors /= np.where(length > 0, length, 1)[:, None]
    lengths: np.ndarray = largest * length
    return lengths


def _length(vector: np.ndarray) -> float:
    return float(_normalise(vector[None].copy())[0])
