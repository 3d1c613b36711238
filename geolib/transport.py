r"""Exact optimal transport between finite point clouds with the cost :math:`|x - y|^2`.

All arithmetic is in float64. Clouds are centred before their inner products are formed: a common or separate
translation changes every assignment's cost by the same amount, so it cannot change which is optimal, and it is what
would lose digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

__all__ = [
    "OptimalAssignments",
    "as_clouds",
    "displacement_interpolation",
    "mean_square",
    "optimal_assignments",
    "wasserstein2",
]

#: Reduced costs up to this share of max|x| max|y| (centred) count as zero. It lies above the rounding of a sum of a few
#: thousand products in float64. One point 10^4 times farther out than all others makes ties among those look closer.
TIE_TOLERANCE = 1e-12
#: Potentials that fall by no more than this have converged; a solver's own rounding can leave cycles this negative.
_ROUNDING = 1e-14


def wasserstein2(x: Any, y: Any) -> float:
    r"""Return the 2-Wasserstein distance of two uniform empirical measures.

    .. math:: W_2(\mu, \nu)^2 = \min_{\pi} \sum_{ij} \pi_{ij} |x_i - y_j|^2, \qquad
        \textstyle\sum_j \pi_{ij} = \frac1m, \; \sum_i \pi_{ij} = \frac1n

    :cite:`peyre2019computational` (section 2.3). In the units of the points.

    Parameters
    ----------
    x, y
        Points, shapes (m, dim) and (n, dim); m and n may differ.

    Raises
    ------
    ValueError
        For empty, non-finite or wrongly shaped input.
    """
    x, y = as_clouds(x, y)
    if len(x) == len(y):
        columns = optimal_assignments(x, y).columns
        return float(np.sqrt(mean_square(x - y[columns])))
    plan, _ = _network_simplex(_normalised_cost(x, y), np.full(len(x), len(y)), np.full(len(y), len(x)))
    i, j = np.nonzero(plan)
    return float(np.sqrt(np.average(np.square(x[i] - y[j]).sum(1), weights=plan[i, j])))


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
    s = times[..., None, None]
    curve: np.ndarray = (1 - s) * x + s * y[optimal_assignments(x, y).columns]
    return curve


@dataclass(frozen=True)
class OptimalAssignments:
    r"""All optimal assignments of two clouds of m points, as the perfect matchings of a graph.

    With dual potentials u, v the pair (i, j) has the reduced cost :math:`c_{ij} - u_i - v_j \ge 0`. By complementary
    slackness an assignment is optimal exactly when all its pairs have reduced cost zero, so the optimal assignments
    are the perfect matchings of the equality graph.

    Attributes
    ----------
    columns
        One optimal assignment: point i of x goes to point ``columns[i]`` of y. Shape (m,).
    equality
        Pairs of reduced cost zero up to the tie tolerance, shape (m, m), boolean.
    """

    columns: np.ndarray
    equality: np.ndarray

    def extreme_identity(self, *, most: bool) -> np.ndarray:
        """Return an optimal assignment with the most, or the fewest, pairs (i, i).

        An optimal assignment can only be changed along cycles of the equality graph, so each strongly connected
        component of rows is an assignment problem of its own, with cost +-1 for a pair (i, i).
        """
        columns = self.columns.copy()
        # Edge i -> k: row i could take the column that row k has.
        _, component = connected_components(csr_array(self.equality[:, self.columns]), connection="strong")
        order = np.argsort(component, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(component[order])) + 1):
            if len(rows) > 1:
                free = self.columns[rows]
                identity = (rows[:, None] == free[None, :]).astype(np.float64)
                forbidden = np.where(self.equality[np.ix_(rows, free)], 0.0, 2.0 * len(rows))
                _, chosen = linear_sum_assignment((-identity if most else identity) + forbidden)
                columns[rows] = free[chosen]
        return columns


def optimal_assignments(x: Any, y: Any) -> OptimalAssignments:
    r"""Find every optimal assignment of cloud x to cloud y: :math:`\min_\sigma \sum_i |x_i - y_{\sigma(i)}|^2`.

    A solver's answer is not taken on trust: potentials that prove it optimal are computed from it by shortest paths
    in the residual graph (Bellman-Ford), and a negative cycle sends the problem to the next solver.

    Parameters
    ----------
    x, y
        Points, both of shape (m, dim).
    """
    x, y = as_clouds(x, y, same_size=True)
    cost, tolerance = _normalised_cost(x, y), _tie_tolerance(x, y)
    for solve in (_simplex_assignment, _augmenting_path_assignment):
        columns, start = solve(cost)
        is_assignment = np.bincount(columns, minlength=len(x)).max() == 1
        reduced = _reduced_cost(cost, columns, start) if is_assignment else None
        if reduced is not None:
            return OptimalAssignments(columns=columns, equality=reduced <= tolerance)
    raise RuntimeError(f"no solver found a certified assignment of {len(x)} points; please report the two clouds")


def _simplex_assignment(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    ones = np.ones(len(cost))
    plan, potentials = _network_simplex(cost, ones, ones)
    return plan.argmax(1), potentials


def _augmenting_path_assignment(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return linear_sum_assignment(cost)[1], np.zeros(len(cost))


def _network_simplex(cost: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return POT's optimal plan for integer masses, so that no flow is rounded, and the columns' potentials."""
    import ot

    plan, log = ot.emd(a.astype(np.float64), b.astype(np.float64), cost, numItermax=10**9, log=True)
    return plan, log["v"]


def _reduced_cost(cost: np.ndarray, columns: np.ndarray, v: np.ndarray) -> np.ndarray | None:
    """Return the reduced costs under potentials for which `columns` is optimal, or None if there are none.

    Bellman-Ford in place of the row minima: ``v_j <- min_i (v_{s(i)} + c_ij - c_is(i))`` until nothing falls, which
    takes at most m rounds unless the residual graph has a negative cycle.
    """
    rows = np.arange(len(cost))
    detour = cost - cost[rows, columns][:, None]
    for _ in range(len(cost) + 1):
        shortest = np.minimum(v, (detour + v[columns][:, None]).min(0))
        if (v - shortest).max() <= _ROUNDING:
            reduced: np.ndarray = detour + v[columns][:, None] - v[None, :]
            return reduced
        v = shortest
    return None


def _normalised_cost(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return ``-<x_i, y_j>`` of the centred clouds, scaled into [-1, 1]: |x_i - y_j|^2 up to terms of i or j alone."""
    x, y = x - x.mean(0), y - y.mean(0)
    x, y = x / (_radius(x) or 1.0), y / (_radius(y) or 1.0)
    cost: np.ndarray = -(x @ y.T)
    return cost


def _tie_tolerance(x: np.ndarray, y: np.ndarray) -> float:
    """Return the largest reduced cost, on the scale of `_normalised_cost`, that rounding alone can explain.

    A coordinate of size c is stored to c * 2^-53, which an offset makes large against the centred cloud.
    """
    storage = sum(_radius(z) / (_radius(z - z.mean(0)) or np.inf) for z in (x, y))
    return TIE_TOLERANCE + 16 * float(np.finfo(np.float64).eps) * storage


def _radius(x: np.ndarray) -> float:
    """Return the largest norm, without the overflow and underflow of its square."""
    largest = np.abs(x).max()
    return float(largest * np.linalg.norm(x / largest, axis=1).max()) if largest > 0 else 0.0


def mean_square(x: np.ndarray) -> float:
    """Return the mean over points of the squared norm, in the square of the points' unit."""
    return float(np.square(x).sum(1).mean())


def as_clouds(x: Any, y: Any, *, same_size: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Check two clouds and return them in float64."""
    clouds = []
    for name, value in (("x", x), ("y", y)):
        cloud = np.asarray(value, dtype=np.float64)
        if cloud.ndim != 2 or 0 in cloud.shape:
            raise ValueError(f"{name} must be points of shape (m, dim) with m, dim >= 1; got shape {cloud.shape}")
        if not np.isfinite(cloud).all():
            raise ValueError(f"{name} must be finite; {np.isnan(cloud).sum()} values are NaN, the rest infinite")
        clouds.append(cloud)
    x, y = clouds
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"x and y must lie in one space; got dimensions {x.shape[1]} and {y.shape[1]}")
    if same_size and len(x) != len(y):
        raise ValueError(f"an assignment pairs clouds of equal size; got {len(x)} and {len(y)} points")
    return x, y
