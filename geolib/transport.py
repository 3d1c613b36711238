"""Distances and geodesics between finite point clouds, by exact optimal transport with the cost |x - y|^2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from geolib.assignment import optimal_assignments
from geolib.costs import radius

__all__ = ["as_clouds", "displacement_interpolation", "mean_square", "wasserstein2"]


def wasserstein2(x: Any, y: Any) -> float:
    r"""Return the 2-Wasserstein distance of two uniform empirical measures.

    .. math:: W_2(\mu, \nu)^2 = \min_{\pi} \sum_{ij} \pi_{ij} |x_i - y_j|^2, \qquad
        \textstyle\sum_j \pi_{ij} = \frac1m, \; \sum_i \pi_{ij} = \frac1n

    :cite:`peyre2019computational` (section 2.3). In the units of the points.

    Parameters
    ----------
    x, y
        Points, arrays or tensors of shapes (m, dim) and (n, dim); m and n may differ. On a GPU it is computed there.

    Raises
    ------
    ValueError
        For empty, non-finite or wrongly shaped input.
    """
    x, y = as_clouds(x, y)
    if len(x) == len(y):
        return float(mean_square(x - y[optimal_assignments(x, y).columns]) ** 0.5)
    import ot

    a, b = (z - z.mean(0) for z in (x, y))
    cost = -((a / (radius(a) or 1.0)) @ (b / (radius(b) or 1.0)).T).cpu().numpy()
    # Integer masses, so that no flow is rounded.
    plan = ot.emd(np.full(len(x), float(len(y))), np.full(len(y), float(len(x))), cost, numItermax=10**9)
    i, j = np.nonzero(plan)
    square = (x[i] - y[j]).square().sum(1).cpu().numpy()
    return float(np.sqrt(np.average(square, weights=plan[i, j])))


def displacement_interpolation(x: Any, y: Any, t: float | Sequence[float]) -> np.ndarray:
    r"""Return the points of the Wasserstein geodesic from cloud x to cloud y at time t.

    .. math:: x_i(t) = (1 - t) x_i + t \, y_{\sigma(i)}

    with an optimal assignment :math:`\sigma`: McCann's displacement interpolation :cite:`mccann1997convexity`.

    Parameters
    ----------
    x, y
        Points, both of shape (m, dim).
    t
        Times in [0, 1]: a number, or a sequence of T numbers.

    Returns
    -------
    array
        Shape (m, dim) for a number t, (T, m, dim) for a sequence.
    """
    x, y = as_clouds(x, y, same_size=True)
    times = np.asarray(t, dtype=np.float64)
    if times.ndim > 1 or not ((times >= 0) & (times <= 1)).all():
        raise ValueError(f"t is a time, or a sequence of times, on a curve that lives on [0, 1]; got {t}")
    s, start, end = times[..., None, None], x.cpu().numpy(), y[optimal_assignments(x, y).columns].cpu().numpy()
    curve: np.ndarray = (1 - s) * start + s * end
    return curve


def mean_square(x: torch.Tensor) -> float:
    """Return the mean over points of the squared norm, in the square of the points' unit."""
    return float(x.square().sum(1).mean())


def as_clouds(x: Any, y: Any, *, same_size: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Check two clouds and return them in float64, on the GPU if one of them lies there."""
    clouds = []
    for name, value in (("x", x), ("y", y)):
        cloud = (
            value.detach() if isinstance(value, torch.Tensor) else torch.from_numpy(np.array(value, dtype=np.float64))
        )
        cloud = (cloud if cloud.device.type in ("cpu", "cuda") else cloud.cpu()).double()
        if cloud.ndim != 2 or 0 in cloud.shape:
            raise ValueError(
                f"{name} must be points of shape (m, dim) with m, dim >= 1; got shape {tuple(cloud.shape)}"
            )
        if not torch.isfinite(cloud).all():
            raise ValueError(f"{name} must be finite; {int(cloud.isnan().sum())} values are NaN, the rest infinite")
        clouds.append(cloud)
    x, y = clouds
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"x and y must lie in one space; got dimensions {x.shape[1]} and {y.shape[1]}")
    if same_size and len(x) != len(y):
        raise ValueError(f"an assignment pairs clouds of equal size; got {len(x)} and {len(y)} points")
    device = next((z.device for z in clouds if z.is_cuda), x.device)
    return x.to(device), y.to(device)
