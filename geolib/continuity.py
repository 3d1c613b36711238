"""The continuity equation along a network: its weak form, and the speed, length and action of the layers' curve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from geolib.tracks import check_shape

__all__ = ["WeakForm", "action", "curve_length", "mean_velocity", "speed", "weak_form"]


@dataclass(frozen=True)
class WeakForm:
    """Both sides of the continuity equation in weak form, for one test function.

    Attributes
    ----------
    rate
        Shape (steps,): how fast the mean of the test function changes over each step.
    transport
        Shape (steps,): the mean of its slope along the velocity, at the beginning of each step.
    """

    rate: np.ndarray
    transport: np.ndarray

    @property
    def defect(self) -> float:
        """The largest difference between the two sides, over all steps."""
        return float(np.abs(self.rate - self.transport).max())


def weak_form(phi: Callable[[torch.Tensor], torch.Tensor], points: Any, velocities: Any, times: Any) -> WeakForm:
    r"""Return both sides of the continuity equation in weak form along moving points, one a step.

    .. math:: \frac{1}{t_{j+1} - t_j} \Big( \int \varphi \, d\mu_{t_{j+1}} - \int \varphi \, d\mu_{t_j} \Big)
        \quad\text{and}\quad \int \langle \nabla \varphi, v_{t_j} \rangle \, d\mu_{t_j}

    for the empirical measure :math:`\mu_t` of the points. They differ by the error of the finite difference, which for
    straight steps is at most :math:`\frac{t_{j+1} - t_j}{2} \sup |D^2 \varphi| \int |v_{t_j}|^2 d\mu_{t_j}`
    (chapter 8.1 of :cite:`ambrosio2008gradient`).

    Parameters
    ----------
    phi
        The test function, written in torch: takes points of shape (m, d), returns their values, shape (m,).
    points
        Shape (steps + 1, m, d).
    velocities
        Shape (steps, m, d): each point's at the beginning of each step.
    times
        Shape (steps + 1,), increasing.

    Raises
    ------
    ValueError
        For shapes that do not fit, times that do not increase, or values that are not finite, those of phi and of its
        slope included.
    """
    tracks, speeds, t = as_tracks(points), _as_array(velocities), _as_array(times)
    if speeds.shape != (len(tracks) - 1, *tracks.shape[1:]) or t.shape != tracks.shape[:1]:
        raise ValueError(
            f"points of shape {tracks.shape} need velocities of shape {(len(tracks) - 1, *tracks.shape[1:])} and "
            f"{len(tracks)} times; got {speeds.shape} and {t.shape}"
        )
    if not (np.isfinite(speeds).all() and np.isfinite(t).all() and (np.diff(t) > 0).all()):
        raise ValueError("velocities must be finite and times must increase")
    means, slopes = zip(*(_mean_and_slope(phi, cloud) for cloud in torch.from_numpy(tracks)), strict=True)
    transport = (np.stack(slopes[:-1]) * speeds).sum(2).mean(1)
    return WeakForm(np.diff(means) / np.diff(t), transport)


def _mean_and_slope(phi: Callable[[torch.Tensor], torch.Tensor], cloud: torch.Tensor) -> tuple[float, np.ndarray]:
    """Return a test function's mean over points of shape (m, d), and its slope at each."""
    with torch.enable_grad():  # the caller may have switched gradients off
        values = phi(cloud.requires_grad_())
        if values.shape != cloud.shape[:1]:
            raise ValueError(
                f"phi must give one value a point, shape {tuple(cloud.shape[:1])}; got {tuple(values.shape)}"
            )
        # A function that does not depend on the place is not connected to it, and its slope is zero.
        found = torch.autograd.grad(values.sum(), cloud, allow_unused=True)[0] if values.requires_grad else None
    slope = torch.zeros_like(cloud) if found is None else found
    if not (torch.isfinite(values).all() and torch.isfinite(slope).all()):
        raise ValueError("phi and its slope must be finite at all points; it gave NaN or infinity")
    return float(values.detach().double().mean()), slope.detach().numpy()


def mean_velocity(points: Any, velocities: Any) -> np.ndarray:
    r"""Return at each point the mean velocity of all points at the same place.

    .. math:: v(y) = \mathbb E[\,u \mid x = y\,]

    the velocity field of a cloud whose points are at x and move with u, for places that several points may share.
    Places are the same when all their coordinates are equal as floating-point numbers.

    Parameters
    ----------
    points, velocities
        Both of shape (m, d).

    Raises
    ------
    ValueError
        For shapes that do not fit, or values that are not finite.
    """
    x, u = _as_array(points), _as_array(velocities)
    if x.ndim != 2 or 0 in x.shape or x.shape != u.shape or not (np.isfinite(x).all() and np.isfinite(u).all()):
        raise ValueError(f"points and velocities must be finite and of one shape (m, d); got {x.shape} and {u.shape}")
    # Adding zero turns -0 into 0: they are one place.
    places, index = np.unique(x + 0.0, axis=0, return_inverse=True)
    sums = np.zeros_like(places)
    np.add.at(sums, index.reshape(-1), u)
    field: np.ndarray = (sums / np.bincount(index.reshape(-1))[:, None])[index.reshape(-1)]
    return field


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
    array = _as_array(points)
    check_shape(array.shape)
    if not np.isfinite(array).all():
        raise ValueError(f"tracks must be finite; {int((~np.isfinite(array)).sum())} values are not")
    return array


def _as_array(values: Any) -> np.ndarray:
    """Return a copy in float64 of a list, an array, or a tensor, wherever it lies and whether it has a gradient."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    return np.array(values, dtype=np.float64)
