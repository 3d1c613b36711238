"""Wasserstein distance, optimal map and geodesic between normal distributions, in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["GaussianMap", "bures_distance", "gaussian_map", "gaussian_wasserstein2"]

#: Asymmetry, and negative eigenvalues, up to this share of the largest count as rounding.
_ROUNDING = 1e-10
#: Share of the largest eigenvalue below which one counts as zero: a map that divided by it would be noise.
_SINGULAR = 1e-12


def bures_distance(cov0: Any, cov1: Any) -> float:
    r"""Return the Wasserstein distance of two centred normal distributions, known as the Bures distance.

    .. math:: d_B(\Sigma_0, \Sigma_1)^2 = \mathrm{tr}\,\Sigma_0 + \mathrm{tr}\,\Sigma_1
        - 2 \, \mathrm{tr} \big( \Sigma_0^{1/2} \Sigma_1 \Sigma_0^{1/2} \big)^{1/2}
        = \min_U \lVert \Sigma_0^{1/2} - \Sigma_1^{1/2} U \rVert_F^2

    over orthogonal U :cite:`olkin1982distance,bhatia2019bures`. The second form is the one computed: it does not
    subtract large numbers that are nearly equal.

    Parameters
    ----------
    cov0, cov1
        Covariance matrices of shape (dim, dim), symmetric and positive semi-definite; they may be singular.

    Returns
    -------
    float
        In the unit of the points.

    Raises
    ------
    ValueError
        For a wrong shape, values that are not finite, or a matrix that is no covariance.
    """
    first, second = _covariance(cov0, "cov0"), _covariance(cov1, "cov1")
    _same_dimension(first, second)
    root0, root1 = _power(first, 0.5), _power(second, 0.5)
    left, _, right = np.linalg.svd(root1 @ root0)
    return float(np.linalg.norm(root0 - root1 @ (left @ right)))


def gaussian_wasserstein2(mean0: Any, cov0: Any, mean1: Any, cov1: Any) -> float:
    r"""Return the 2-Wasserstein distance of two normal distributions.

    .. math:: W_2^2 = |m_0 - m_1|^2 + d_B(\Sigma_0, \Sigma_1)^2

    with :math:`d_B` the `bures_distance` :cite:`olkin1982distance`. In the unit of the points.

    Parameters
    ----------
    mean0, mean1
        Means of shape (dim,).
    cov0, cov1
        Covariance matrices of shape (dim, dim), positive semi-definite; they may be singular.
    """
    spread = bures_distance(cov0, cov1)
    start, end = (_mean(mean, np.shape(cov0)[0], name) for mean, name in ((mean0, "mean0"), (mean1, "mean1")))
    return float(np.hypot(np.linalg.norm(start - end), spread))


@dataclass(frozen=True)
class GaussianMap:
    r"""The optimal map between two normal distributions, :math:`T(x) = m_1 + B (x - m_0)`.

    Attributes
    ----------
    matrix
        B, symmetric and positive semi-definite, shape (dim, dim).
    mean0, mean1
        Means of the two distributions, shape (dim,).
    cov0
        Covariance of the first, shape (dim, dim).
    """

    matrix: np.ndarray
    mean0: np.ndarray
    mean1: np.ndarray
    cov0: np.ndarray

    def __call__(self, points: Any, t: float = 1.0) -> np.ndarray:
        r"""Move points of shape (..., dim) along the geodesic to time t: :math:`(1 - t) x + t \, T(x)`."""
        x = np.asarray(points, dtype=np.float64)
        if x.ndim < 1 or x.shape[-1] != len(self.mean0):
            raise ValueError(f"this map moves points of shape (..., {len(self.mean0)}); got shape {x.shape}")
        moved: np.ndarray = (1 - _time(t)) * x + t * (self.mean1 + (x - self.mean0) @ self.matrix)
        return moved

    def moments(self, t: float) -> tuple[np.ndarray, np.ndarray]:
        r"""Return mean and covariance of the geodesic at time t; it is normal all along.

        .. math:: (1 - t) m_0 + t m_1, \qquad M_t \Sigma_0 M_t, \quad M_t = (1 - t) I + t B

        :cite:`mccann1997convexity`.
        """
        between = (1 - _time(t)) * np.eye(len(self.mean0)) + t * self.matrix
        return (1 - t) * self.mean0 + t * self.mean1, between @ self.cov0 @ between


def gaussian_map(mean0: Any, cov0: Any, mean1: Any, cov1: Any) -> GaussianMap:
    r"""Return the optimal map from one normal distribution to another.

    .. math:: T(x) = m_1 + B (x - m_0), \qquad
        B = \Sigma_0^{-1/2} \big( \Sigma_0^{1/2} \Sigma_1 \Sigma_0^{1/2} \big)^{1/2} \Sigma_0^{-1/2}

    the gradient of a convex function, and the only optimal map :cite:`olkin1982distance,brenier1991polar`.

    Parameters
    ----------
    mean0, mean1
        Means of shape (dim,).
    cov0
        Covariance matrix of shape (dim, dim), positive definite: from a flat distribution no optimal
        map need exist.
    cov1
        Covariance matrix of shape (dim, dim), positive semi-definite; it may be singular.

    Raises
    ------
    ValueError
        As `bures_distance`, and for a singular `cov0`.
    """
    first, second = _covariance(cov0, "cov0"), _covariance(cov1, "cov1")
    _same_dimension(first, second)
    start, end = _mean(mean0, len(first), "mean0"), _mean(mean1, len(first), "mean1")
    eigenvalues = np.linalg.eigvalsh(first)
    if eigenvalues[0] <= _SINGULAR * eigenvalues[-1]:
        raise ValueError(
            "cov0 must be positive definite, or no optimal map need exist; its eigenvalues reach from "
            f"{eigenvalues[0]:.2g} to {eigenvalues[-1]:.2g}"
        )
    root, inverse = _power(first, 0.5), _power(first, -0.5)
    matrix = inverse @ _power(root @ second @ root, 0.5) @ inverse
    return GaussianMap((matrix + matrix.T) / 2, start, end, first)


def _power(matrix: np.ndarray, exponent: float) -> np.ndarray:
    """Return a power of a symmetric positive semi-definite matrix; negative eigenvalues are rounding and become 0."""
    eigenvalues, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    power: np.ndarray = (vectors * np.maximum(eigenvalues, 0) ** exponent) @ vectors.T
    return power


def _covariance(value: Any, name: str) -> np.ndarray:
    matrix = np.array(value, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise ValueError(f"{name} must be a matrix of shape (dim, dim) with dim >= 1; got shape {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise ValueError(f"{name} must be finite; {int((~np.isfinite(matrix)).sum())} entries are not")
    asymmetry = float(np.abs(matrix - matrix.T).max())
    if asymmetry > _ROUNDING * np.abs(matrix).max():
        raise ValueError(f"{name} must be symmetric, as covariances are; entries differ by up to {asymmetry:.2g}")
    eigenvalues = np.linalg.eigvalsh(matrix)
    if eigenvalues[0] < -_ROUNDING * max(eigenvalues[-1], 0.0):
        raise ValueError(
            f"{name} must have no negative eigenvalue, or a variance would be negative; got {eigenvalues[0]:.2g}"
        )
    return (matrix + matrix.T) / 2


def _mean(value: Any, dim: int, name: str) -> np.ndarray:
    mean = np.array(value, dtype=np.float64)
    if mean.shape != (dim,) or not np.isfinite(mean).all():
        raise ValueError(f"{name} must be a finite vector of shape ({dim},), as its covariance says; got {value}")
    return mean


def _same_dimension(first: np.ndarray, second: np.ndarray) -> None:
    if first.shape != second.shape:
        raise ValueError(f"both must lie in one space; got covariances of {len(first)} and {len(second)} dimensions")


def _time(t: float) -> float:
    if not 0 <= t <= 1:
        raise ValueError(f"t is a time on a curve that lives on [0, 1]; got {t}")
    return t
