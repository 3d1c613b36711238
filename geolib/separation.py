"""How far the tracks of two points stay apart, and the bound that a geodesic obeys, for all pairs of points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from geolib.continuity import as_tracks

__all__ = ["TrackSeparation", "track_distance"]

#: Squared distances held at a time, beside the results.
_BLOCK = 2**20
#: A distance violates the bound if it lies below it by more than this share: above the rounding of single precision.
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class TrackSeparation:
    r"""The distance of the tracks of each pair of points, and what a geodesic would have made of the pair's ends.

    With :math:`a = x_i^{(0)} - x_j^{(0)}` and :math:`b = x_i^{(n)} - x_j^{(n)}`; arrays have shape (pairs,), the pairs
    i < j in the order (0, 1), (0, 2), ..., (1, 2), ..., that of ``numpy.triu_indices(points, 1)``.

    Attributes
    ----------
    layers
        Number of steps of each track, n.
    distance
        :math:`\min_k |x_i^{(k)} - x_j^{(k)}|`, in the unit of the points.
    start, end
        :math:`|a|` and :math:`|b|`, in the unit of the points.
    inner
        :math:`\langle a, b \rangle`, in the square of that unit, up to about 1e-16 of the larger of
        :math:`|a|^2, |b|^2`.
    """

    layers: int
    distance: np.ndarray
    start: np.ndarray
    end: np.ndarray
    inner: np.ndarray

    @classmethod
    def of(cls, points: Any) -> TrackSeparation:
        """Measure every pair of tracks, in float64.

        Beside the results it takes a copy of the tracks in float64, and some megabytes that do not grow with the number
        of points.

        Parameters
        ----------
        points
            Tracks of shape (layers + 1, points, dim), of at least two points.

        Raises
        ------
        ValueError
            For a wrong shape, no layer, fewer than two points, or values that are not finite.
        """
        tracks = _pairable(points)
        start, end = (_nearest(tracks[[k]]) for k in (0, -1))
        change = _nearest(tracks[[-1]] - tracks[[0]])  # |a - b|^2, since a - b belongs to the displacements
        inner = (start + end - change) / 2
        return cls(len(tracks) - 1, np.sqrt(_nearest(tracks)), np.sqrt(start), np.sqrt(end), inner)

    @property
    def bound(self) -> np.ndarray:
        r"""The least distance that tracks with these ends can have along a geodesic.

        .. math:: \frac{|a| |b|}{\sqrt{|a|^2 + |b|^2}}

        (slide 29 of :cite:`gai_lecture`), the altitude of a right triangle with legs of lengths \|a\| and \|b\|:
        between the smaller of them and that over the square root of 2; 0 where one of them is 0.
        """
        small, large = np.minimum(self.start, self.end), np.maximum(self.start, self.end)
        ratio = small / np.where(large > 0, large, 1)
        altitude: np.ndarray = small / np.sqrt(1 + ratio**2)
        return altitude

    @property
    def cosine(self) -> np.ndarray:
        """Cosine of the angle of a and b; NaN where one of them is 0."""
        lengths = self.start * self.end
        cosine: np.ndarray = np.clip(self.inner / np.where(lengths > 0, lengths, np.nan), -1, 1)
        return cosine

    @property
    def straight(self) -> np.ndarray:
        r"""What the distance would be over all times, were both tracks straight between their ends and at one pace.

        .. math:: \min_{0 \le t \le 1} |(1 - t) a + t b|

        the distance of the origin from the segment from a to b.
        """
        return self._apart(self._closest_time())

    @property
    def straight_at_layers(self) -> np.ndarray:
        r"""What the distance would be, were the tracks straight and at even pace: over the times k / n, k = 0, ..., n.

        With D the distance over all times, `straight`, and :math:`D_n` this one,

        .. math:: 0 \le D_n - D \le \frac{|a - b|^2}{8 n^2 D} \quad \text{if } D > 0.
        """
        # The square is a parabola in t, so its least value on a grid is at a neighbour of its vertex.
        below = np.floor(self._closest_time() * self.layers)
        grid = [np.minimum(step, self.layers) / self.layers for step in (below, below + 1)]
        nearest: np.ndarray = np.minimum(*map(self._apart, grid))
        return nearest

    def violated(self, distance: np.ndarray | None = None, *, tolerance: float = _TOLERANCE) -> np.ndarray:
        """Say for each pair whether a distance lies below the bound by more than a share of it.

        A pair with a = 0 or b = 0 has the bound 0 and violates nothing.

        Parameters
        ----------
        distance
            Shape (pairs,). By default the tracks' own; or `straight`, or `straight_at_layers`.
        tolerance
            The share. The default covers the rounding of tracks in single precision.

        Raises
        ------
        ValueError
            For another shape: distances that do not belong to these pairs, one each.
        """
        given = self.distance if distance is None else np.asarray(distance)
        if given.shape != self.distance.shape:
            raise ValueError(f"one distance a pair is compared, shape {self.distance.shape}; got shape {given.shape}")
        below: np.ndarray = given < (1 - tolerance) * self.bound
        return below

    def _closest_time(self) -> np.ndarray:
        change = self.start**2 + self.end**2 - 2 * self.inner  # |a - b|^2
        time = (self.start**2 - self.inner) / np.where(change > 0, change, np.inf)
        clipped: np.ndarray = np.clip(time, 0, 1)
        return clipped

    def _apart(self, t: np.ndarray) -> np.ndarray:
        square = ((1 - t) * self.start) ** 2 + (t * self.end) ** 2 + 2 * t * (1 - t) * self.inner
        apart: np.ndarray = np.sqrt(np.maximum(square, 0))
        return apart


def track_distance(points: Any) -> np.ndarray:
    r"""Return the distance of the tracks of every pair of points.

    .. math:: d(\mathrm{track}(x_i), \mathrm{track}(x_j)) = \min_{0 \le k \le n} |x_i^{(k)} - x_j^{(k)}|

    (slide 27 of :cite:`gai_lecture`): how near the two points come while both pass the same layer.

    Parameters
    ----------
    points
        Tracks of shape (layers + 1, points, dim), of at least two points.

    Returns
    -------
    array
        Shape (points * (points - 1) / 2,), the pairs i < j in the order (0, 1), (0, 2), ..., (1, 2), ..., in the unit
        of the points.

    Raises
    ------
    ValueError
        For a wrong shape, no layer, fewer than two points, or values that are not finite.
    """
    distance: np.ndarray = np.sqrt(_nearest(_pairable(points)))
    return distance


def _pairable(points: Any) -> np.ndarray:
    tracks = as_tracks(points)
    if tracks.shape[1] < 2:
        raise ValueError("the distance of two tracks needs at least two points; got one")
    return tracks


def _nearest(layers: np.ndarray) -> np.ndarray:
    """Return the least squared distance over the layers for each pair i < j."""
    from scipy.spatial.distance import cdist

    m = layers.shape[1]
    nearest = np.empty(m * (m - 1) // 2)
    step, filled = max(1, min(64, _BLOCK // m)), 0
    for begin in range(0, m - 1, step):
        rows = slice(begin, min(begin + step, m - 1))
        # Differences are squared one by one: products of coordinates would lose the digits of close pairs.
        block = cdist(layers[0, rows], layers[0, begin:], "sqeuclidean")
        for layer in layers[1:]:
            np.minimum(block, cdist(layer[rows], layer[begin:], "sqeuclidean"), out=block)
        for row, values in enumerate(block, start=1):
            nearest[filled : filled + m - begin - row] = values[row:]
            filled += m - begin - row
    return nearest
