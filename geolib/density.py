"""A density moved by velocity fields: by the change of variables through small steps, and along the exact flow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from geolib.flows import Field, as_points, check_substeps, runge_kutta

__all__ = ["CarriedDensity", "LogDensity", "carry_density", "flow_density"]

#: Takes points of shape (m, d), returns the logarithm of the density there, shape (m,); -inf where there is no mass.
LogDensity = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class CarriedDensity:
    """A density at the images of points.

    Attributes
    ----------
    points
        The images, shape (m, d).
    log_density
        Logarithm of the image density there, shape (m,): of the whole density where each step is injective, else of
        the part that comes from this one point; infinite where a step's determinant is zero.
    log_determinant
        Logarithm of the factor by which the map stretches volume at each point, shape (m,).
    smallest_determinant
        The smallest determinant of a step's Jacobian that was met; where it is not positive, a step folds the space.
    """

    points: np.ndarray
    log_density: np.ndarray
    log_determinant: np.ndarray
    smallest_determinant: float


def carry_density(fields: Sequence[Field], x: Any, log_density: LogDensity, substeps: int) -> CarriedDensity:
    r"""Carry a density through the steps x + v_k(x) / s by the change of variables.

    .. math:: \rho\big(F(x)\big) = \rho_0(x) \Big/ \prod_j \Big| \det\big(I + \tfrac1s D v_{k(j)}(x^{(j)})\big) \Big|

    with F the composition of all steps, s for each field (chapter 11 of :cite:`villani2009optimal`).

    Parameters
    ----------
    fields
        Velocity fields, each acting for one unit of time, see `velocity_fields`.
    x
        Points at which to start, shape (m, d).
    log_density
        Logarithm of the density at the start.
    substeps
        Steps a field, s. With s = 1 it is the network's own map.

    Raises
    ------
    ValueError
        For no field, points of a wrong shape or not finite, on the way too, a number of substeps that is no whole
        number >= 1, or a `log_density` or field that gives a wrong shape, NaN or +inf.
    """
    check_substeps(substeps)
    points = as_points(fields, x)
    with torch.no_grad():
        start, smallest = _evaluated(log_density, points), np.inf
        total = torch.zeros(len(points), dtype=torch.float64)
        for field in fields:
            linearised = _linearised(field)
            for _ in range(substeps):
                jacobian, v = linearised(points)
                step = torch.eye(points.shape[1]) + jacobian / substeps
                sign, logarithm = torch.linalg.slogdet(step)
                smallest = min(smallest, float((sign * logarithm.exp()).min()))
                total += logarithm
                points = points + v / substeps
    _check_finite(points, "the steps")
    carried = torch.where(start.isneginf(), start, start - total)  # no mass stays none where a determinant is zero
    return CarriedDensity(points.numpy(), carried.numpy(), total.numpy(), smallest)


def flow_density(fields: Sequence[Field], y: Any, log_density: LogDensity, substeps: int) -> np.ndarray:
    r"""Return the logarithm of the density that the flow has carried to given places.

    Traces each place back to where it came from and adds up what was compressed on the way:

    .. math:: \log \rho_n(y) = \log \rho_0(x(0)) - \int_0^n \operatorname{div} v_t(x(t)) \, dt, \qquad
        \dot x = v_t(x), \; x(n) = y

    (chapter 8.1 of :cite:`ambrosio2008gradient`), by the classical Runge-Kutta method of order four, the integral along
    with the path.

    Parameters
    ----------
    fields, log_density
        As for `carry_density`.
    y
        Places at the end, shape (m, d).
    substeps
        Runge-Kutta steps a field.

    Returns
    -------
    array
        Shape (m,).

    Raises
    ------
    ValueError
        As `carry_density`.
    """
    check_substeps(substeps)
    places = as_points(fields, y)
    # The integral travels as one more coordinate, whose velocity is the divergence.
    state = torch.cat([places, places.new_zeros(len(places), 1)], dim=1)
    with torch.no_grad():
        for field in reversed(fields):
            linearised = _linearised(field)

            def widened(state: torch.Tensor, linearised: Any = linearised) -> torch.Tensor:
                jacobian, v = linearised(state[:, :-1])
                return torch.cat([v, jacobian.diagonal(dim1=1, dim2=2).sum(1, keepdim=True)], dim=1)

            for _ in range(substeps):
                state = runge_kutta(widened, state, -1 / substeps)
        _check_finite(state, "the way back along the flow")
        density: np.ndarray = (_evaluated(log_density, state[:, :-1]) + state[:, -1]).numpy()
    return density


def _evaluated(log_density: LogDensity, points: torch.Tensor) -> torch.Tensor:
    """Return a density's logarithms at points, one each."""
    values = log_density(points)
    if values.shape != points.shape[:1]:
        raise ValueError(
            f"log_density must give one value a point, shape {tuple(points.shape[:1])}; got {tuple(values.shape)}"
        )
    wrong = values.isnan() | values.isposinf()
    if wrong.any():
        raise ValueError(
            f"log_density must be finite, or -inf where there is no mass; it gave NaN or +inf at {int(wrong.sum())} of "
            f"{len(points)} points"
        )
    return values.double()


def _check_finite(state: torch.Tensor, way: str) -> None:
    lost = int((~torch.isfinite(state)).any(1).sum())
    if lost:
        raise ValueError(
            f"{way} left the finite numbers at {lost} of {len(state)} points: the field grows too fast or is not "
            "finite itself"
        )


def _linearised(field: Field) -> Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """Return what gives the Jacobians, shape (m, d, d), and velocities, shape (m, d), of a field at points."""

    def twice(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        v = field(x[None])
        if v.shape != (1, *x.shape):
            raise ValueError(f"a field must give points of shape (m, d) velocities of that shape; got {tuple(v.shape)}")
        return v[0], v[0]

    return torch.func.vmap(torch.func.jacrev(twice, has_aux=True))
