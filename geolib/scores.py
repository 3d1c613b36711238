"""The paper's two scores, LSS and OTS, with the nulls they must be read against."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from geolib.assignment import optimal_assignments
from geolib.streaming import TrackStatistics
from geolib.tracks import Tracks
from geolib.transport import as_clouds, mean_square

__all__ = [
    "TransportScore",
    "displacement",
    "is_dead",
    "line_shape_null",
    "line_shape_score",
    "optimal_transport_score",
    "track_scores",
]


def line_shape_score(points: Any) -> np.ndarray:
    r"""Return how far from straight each track is (LSS).

    .. math:: \mathrm{LSS} = \frac{n}{\left| \sum_{l=1}^n s_l \right|}, \qquad
        s_l = \frac{x^{(l)} - x^{(l-1)}}{|x^{(l)} - x^{(l-1)}|}

    (slide 30 of :cite:`gai_lecture`). It is >= 1, with equality exactly when all steps have one direction; it
    does not see the lengths of the steps. A step of zero length has no direction: it is left out and n counts the
    others.

    Parameters
    ----------
    points
        Tracks of shape (layers + 1, points, dim).

    Returns
    -------
    array
        LSS of each track, shape (points,): NaN for a track that never moves, infinite if the directions cancel.

    Raises
    ------
    ValueError
        For a wrong shape, no layer, no point, or values that are not finite.
    """
    return TrackStatistics.of(points).line_shape_score


def is_dead(points: Any) -> bool:
    """Tell whether a network is dead: its scores would say nothing about it, however good they look.

    It is if more than 1% of the tracks never move, or if the first or the last cloud is one point up to the rounding
    of single precision (variance at most 1e-12 of the mean square).

    Parameters
    ----------
    points
        Tracks of shape (layers + 1, points, dim).
    """
    return TrackStatistics.of(points).dead


def line_shape_null(layers: int, dim: int, *, kind: str = "walk", draws: int = 2000, seed: int = 0) -> np.ndarray:
    """Simulate the LSS of tracks that follow no rule.

    Parameters
    ----------
    layers
        Steps of each track, n.
    dim
        Dimension of the space.
    kind
        ``walk``: independent isotropic steps (mean LSS about sqrt(n), more in low dimension); ``independent``:
        independent isotropic positions, as if each layer forgot the one before (about n: the steps telescope).
    draws
        Number of simulated tracks.
    seed
        Seed of the simulation.

    Returns
    -------
    array
        Simulated scores, shape (draws,).
    """
    if kind not in ("walk", "independent"):
        raise ValueError(f"unknown null {kind!r}; choose 'walk' or 'independent'")
    if min(layers, dim, draws) < 1:
        raise ValueError(f"a null needs layers, dim and draws >= 1; got {layers}, {dim}, {draws}")
    normal = np.random.default_rng(seed).standard_normal((layers + 1, draws, dim))
    return line_shape_score(normal.cumsum(0) if kind == "walk" else normal)


def displacement(start: Any, end: Any) -> float:
    r"""Return how far a map moves its points, in units of their spread.

    .. math:: \frac{\mathbb E |f(x) - x|^2}{\mathrm{tr}\,\mathrm{Cov}(x)}

    with the mean and the covariance over the given points. As it goes to zero, OTS and cost ratio go to 1 for any map.

    Parameters
    ----------
    start, end
        Points x and their images f(x), both of shape (m, dim), arrays or tensors.

    Raises
    ------
    ValueError
        For a wrong shape, values that are not finite, or points that have no spread.
    """
    x, y = as_clouds(start, end, same_size=True)
    spread = mean_square(x - x.mean(0))
    if not spread > 0:
        raise ValueError(f"a displacement is measured by the spread of the points, which is 0 for these {len(x)}")
    return mean_square(y - x) / spread


@dataclass(frozen=True)
class TransportScore:
    """How close a map's pairing is to optimal transport (OTS).

    Attributes
    ----------
    score
        The score, equal to `lower`: where several assignments are optimal, no claim is won by a tie.
    lower, upper
        Fewest and most pairs (x_i, f(x_i)) in any optimal assignment, as a share of all pairs.
    cost_ratio
        W2^2(x, f(x)) / mean |x_i - f(x_i)|^2, in [0, 1]; 1 exactly when f's own pairing is optimal.
    certified
        Whether dual potentials prove the assignments optimal, up to the tie tolerance: 1e-12 of the product of the two
        clouds' radii, more where an offset makes coordinates coarse.
    gap
        Duality gap: how far the assignment's mean cost can at most lie above the optimum, in the square of the unit.
    assignment
        An optimal assignment with the fewest identity pairs, shape (m,).
    """

    score: float
    lower: float
    upper: float
    cost_ratio: float
    certified: bool
    gap: float
    assignment: np.ndarray = field(repr=False)


def optimal_transport_score(x: Any, y: Any) -> TransportScore:
    r"""Score the map f with :math:`y_i = f(x_i)` against exact optimal transport (OTS).

    .. math:: \mathrm{OTS} = \frac1m \#\{ i : \sigma(i) = i \}, \qquad
        \sigma = \arg\min_\sigma \sum_i |x_i - y_{\sigma(i)}|^2

    (slide 30 of :cite:`gai_lecture`). The optimal assignment need not be unique, and a solver's pick then depends
    on the order of the points; `lower` and `upper` range over all of them and do not.

    Parameters
    ----------
    x, y
        Points and their images, both of shape (m, dim), arrays or tensors. Tensors on a GPU are computed there.
    """
    x, y = as_clouds(x, y, same_size=True)
    optimal = optimal_assignments(x, y)
    fewest, most = (optimal.extreme_identity(most=flag) for flag in (False, True))
    identity = np.arange(len(x))
    lower, upper = (float((columns == identity).mean()) for columns in (fewest, most))
    own = mean_square(x - y)
    ratio = min(mean_square(x - y[fewest]) / own, 1.0) if own > 0 and upper < 1 else 1.0
    return TransportScore(lower, lower, upper, ratio, optimal.certified, optimal.gap, fewest)


def track_scores(tracks: Tracks) -> dict[str, float]:
    """Return the scores of a network by its tracks, by name.

    Parameters
    ----------
    tracks
        As `geolib.record` returns them.

    Returns
    -------
    dict
        ``lss`` and ``lss_median``, mean and median of the line-shape score over the tracks that move; ``ots``, the
        optimal transport score by the fewest pairs, ``ots_upper`` by the most, ``cost_ratio`` and ``displacement`` of
        the map from the first to the last points. NaN for what is not defined.

        For tracks of several stages, each of these is the mean over the stages, followed by the stages' own, named
        ``lss_stage1``, counted from 1, and so on.

    Raises
    ------
    ValueError
        If the first points of a stage have no spread.
    """
    stages = [_stage_scores(stage) for stage in tracks.stages]
    if len(stages) == 1:
        return stages[0]
    means = {name: float(np.mean([scores[name] for scores in stages])) for name in stages[0]}
    return means | {f"{name}_stage{k}": value for k, own in enumerate(stages, start=1) for name, value in own.items()}


def _stage_scores(points: Any) -> dict[str, float]:
    scores = line_shape_score(points)
    scores = scores[~np.isnan(scores)]
    transport = optimal_transport_score(points[0], points[-1])
    return {
        "lss": float(scores.mean()) if len(scores) else float("nan"),
        "lss_median": float(np.median(scores)) if len(scores) else float("nan"),
        "ots": transport.lower,
        "ots_upper": transport.upper,
        "cost_ratio": transport.cost_ratio,
        "displacement": displacement(points[0], points[-1]),
    }
