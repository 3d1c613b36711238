"""Tracks in the plane: which to draw, onto which plane, and what a random walk would look like there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from geolib.tracks import Tracks

__all__ = ["Projection", "balanced_choice", "pack_tracks", "random_walk_like", "unpack_tracks"]


@dataclass(frozen=True)
class Projection:
    """Orthogonal projection onto the plane of the first two principal components of a set of points.

    Attributes
    ----------
    mean
        The points' mean, shape (dim,), which goes to the origin.
    axes
        The two principal axes, orthonormal, shape (2, dim). Of the two signs of an axis, the one that makes its entry
        of largest absolute value positive.
    """

    mean: np.ndarray
    axes: np.ndarray

    @classmethod
    def fit(cls, points: Any) -> Projection:
        """Find the plane of largest variance.

        Parameters
        ----------
        points
            Shape (..., dim): tracks of shape (layers + 1, points, dim) are pooled over their layers.

        Raises
        ------
        ValueError
            For fewer than two points, one dimension, values that are not finite, or points that are all the same.
        """
        cloud = _cloud(points)
        mean = cloud.mean(0)
        _, spread, axes = np.linalg.svd(cloud - mean, full_matrices=False)
        if spread[0] <= 1e-12 * np.abs(cloud).max():
            raise ValueError("points that are all the same have no principal axes")
        axes = axes[:2]
        largest = np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], 1)
        return cls(mean, axes * np.sign(largest))

    def __call__(self, points: Any) -> np.ndarray:
        """Project points of shape (..., dim) to coordinates in the plane, shape (..., 2), in their own unit."""
        coordinates: np.ndarray = (np.asarray(points, dtype=np.float64) - self.mean) @ self.axes.T
        return coordinates

    def variance_explained(self, points: Any) -> float:
        r"""Return the share of the variance of points, about their own mean, that lies in the plane.

        .. math:: \sum_i |A (x_i - \bar x)|^2 \Big/ \sum_i |x_i - \bar x|^2

        with A the axes. For the points of the fit it is the share of the first two principal components; for others,
        such as the same tracks at another epoch, it says how much of them the plane shows.
        """
        cloud = _cloud(points)
        cloud -= cloud.mean(0)
        return float(np.square(cloud @ self.axes.T).sum() / np.square(cloud).sum())


def _cloud(points: Any) -> np.ndarray:
    cloud = np.array(points, dtype=np.float64)
    cloud = cloud.reshape(-1, cloud.shape[-1]) if cloud.ndim > 1 else cloud
    if cloud.ndim != 2 or min(cloud.shape) < 2 or not np.isfinite(cloud).all():
        raise ValueError(
            "a projection onto a plane needs finite points of shape (..., dim), two of them at least, with dim >= 2; "
            f"got shape {np.shape(points)}{'' if np.isfinite(cloud).all() else ' with values that are not finite'}"
        )
    return cloud


def balanced_choice(labels: Any, count: int) -> np.ndarray:
    """Choose points of all classes in nearly equal numbers: the first ones of each class.

    The classes take turns in the order of their labels, each giving its next point, until `count` are chosen; a class
    that has run out is passed over.

    Parameters
    ----------
    labels
        Class of each point, shape (points,).
    count
        Number of points to choose; all of them if there are fewer.

    Returns
    -------
    array
        Positions of the chosen points, ascending, shape (min(count, points),).
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or count < 1:
        raise ValueError(f"a choice takes labels of shape (points,) and a count >= 1; got {labels.shape}, {count}")
    turn = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        turn[labels == label] = np.arange((labels == label).sum())
    return np.sort(np.lexsort((labels, turn))[:count])


def random_walk_like(tracks: Tracks, *, seed: int = 0) -> Tracks:
    """Draw random walks that start where tracks start and take steps as long as theirs, in random directions.

    What a score or a picture of the tracks shares with such walks is owed to starts and step lengths alone.

    Parameters
    ----------
    tracks
        As `geolib.record` returns them; a stage's walks start where the stage's tracks do.
    seed
        Seed of the directions, which are independent and isotropic.

    Returns
    -------
    Tracks
        Walks of the same shapes, in float64.
    """
    rng = np.random.default_rng(seed)
    walks = []
    for stage in tracks.stages:
        path = stage.double().numpy()
        steps = np.diff(path, axis=0)
        directions = rng.standard_normal(steps.shape)
        directions *= np.linalg.norm(steps, axis=2, keepdims=True) / np.linalg.norm(directions, axis=2, keepdims=True)
        walks.append(torch.from_numpy(np.concatenate([path[:1], directions]).cumsum(0)))
    return Tracks(tuple(walks))


def pack_tracks(paths: Any) -> list[str]:
    """Write tracks in the plane as text: for each point ``x0 y0 x1 y1 ...``, to four significant digits.

    Parameters
    ----------
    paths
        Shape (layers + 1, points, 2).
    """
    tracks = np.asarray(paths, dtype=np.float64).swapaxes(0, 1)
    return [" ".join(f"{value:.4g}" for value in track.ravel()) for track in tracks]


def unpack_tracks(text: Sequence[str]) -> np.ndarray:
    """Read what `pack_tracks` wrote; shape (layers + 1, points, 2)."""
    tracks = np.array([line.split() for line in text], dtype=np.float64)
    return tracks.reshape(len(text), -1, 2).swapaxes(0, 1)
