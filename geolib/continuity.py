"""The continuity equation along a network: the speed, length and action of the curve that the layers draw."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from geolib.tracks import check_shape

__all__ = ["action", "curve_length", "speed"]


def speed(points: Any) -> np.ndarray:
    r"""Return how fast each layer moves the cloud, in the mean square over its points.

    .. math:: \lVert v_k \rVert_{L^2(\mu_k)} = \Big( \frac1m \sum_i |x_i^{(k+1)} - x_i^{(k)}|^2 \Big)^{1/2}

    (slide 24 of :cite:`gai_lecture`), each layer taking one unit of time.

    Parameters
    ----------
    points
        Tracks of shape (layers + 1, points, dim).

    Returns
    -------
    array
        Shape (layers,), in the unit of the points.

    Raises
    ------
    ValueError
        For a wrong shape, no layer, no point, or values that are not finite.
    """
    tracks = as_tracks(points)
    steps: np.ndarray = np.sqrt(np.square(np.diff(tracks, axis=0)).sum(2).mean(1))
    return steps


def curve_length(points: Any) -> float:
    r"""Return the length of the curve of clouds, moved along straight lines from layer to layer.

    .. math:: \sum_k \lVert v_k \rVert_{L^2(\mu_k)} \ge W_2(\mu_0, \mu_n)

    the length form of Benamou and Brenier :cite:`benamou2000computational`, slide 24 of :cite:`gai_lecture`. It does
    not depend on the pace. In the unit of the points.

    Parameters
    ----------
    points
        Tracks of shape (layers + 1, points, dim).
    """
    return float(speed(points).sum())


def action(points: Any) -> float:
    r"""Return the action (twice the mean kinetic energy) of the curve of clouds, run through in unit time.

    .. math:: \int_0^1 \frac1m \sum_i |\dot x_i(t)|^2 \, dt = n \sum_k \lVert v_k \rVert_{L^2(\mu_k)}^2
        \ge W_2^2(\mu_0, \mu_n)

    for straight lines between layers and 1/n of the time for each :cite:`benamou2000computational`. At least the square
    of `curve_length`, and equal to it exactly at even pace. In the square of the points' unit.

    Parameters
    ----------
    points
        Tracks of shape (layers + 1, points, dim).
    """
    steps = speed(points)
    return float(len(steps) * np.square(steps).sum())


def as_tracks(points: Any) -> np.ndarray:
    """Check tracks and return them in float64."""
    array = points.detach().cpu().numpy() if isinstance(points, torch.Tensor) else np.asarray(points)
    check_shape(array.shape)
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"tracks must be finite; {int((~np.isfinite(array)).sum())} values are not")
    return array
