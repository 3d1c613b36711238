"""The continuity equation solved on a grid by finite volumes: mass to rounding, no negative density, second order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from geolib.flows import Field, check_count

__all__ = ["Grid", "GridDensity", "solve_continuity"]

#: Up to this Courant number the scheme keeps densities from becoming negative.
_LARGEST_COURANT = 0.5


@dataclass(frozen=True)
class Grid:
    """A square of square cells, centred at the origin of the plane.

    Attributes
    ----------
    half_width
        Half of the square's side; the square reaches from ``-half_width`` to ``half_width`` in both coordinates.
    cells
        Number of cells along a side, at least 3.
    """

    half_width: float
    cells: int

    def __post_init__(self) -> None:
        if not (np.isfinite(self.half_width) and self.half_width > 0):
            raise ValueError(f"half_width is half of a square's side and must be finite and > 0; got {self.half_width}")
        check_count(self.cells, "cells counts the cells along a side", 3)

    @property
    def width(self) -> float:
        """The side of a cell, h."""
        return 2 * self.half_width / self.cells

    @property
    def centres(self) -> np.ndarray:
        """The cells' centres, shape (cells, cells, 2): rows along the second coordinate, columns along the first."""
        middle = self._edges[:-1] + self.width / 2
        return np.stack(np.meshgrid(middle, middle), axis=-1)

    @property
    def _edges(self) -> np.ndarray:
        return -self.half_width + self.width * np.arange(self.cells + 1)

    def mass(self, density: Any) -> np.ndarray:
        """Return the integral of densities of shape (..., cells, cells), shape (...); a ValueError for other shapes."""
        total: np.ndarray = self._checked(density).sum((-2, -1)) * self.width**2
        return total

    def _checked(self, density: Any) -> np.ndarray:
        """Return a copy in float64 of densities whose shape fits."""
        values = np.array(density, dtype=np.float64)
        if values.shape[-2:] != (self.cells, self.cells):
            raise ValueError(f"a density on this grid has shape (..., {self.cells}, {self.cells}); got {values.shape}")
        return values


@dataclass(frozen=True)
class GridDensity:
    """Densities on a grid at several times.

    Attributes
    ----------
    times
        Shape (times,), beginning with 0.
    densities
        Shape (times, ..., cells, cells): cell averages.
    steps
        Number of time steps taken.
    """

    times: np.ndarray
    densities: np.ndarray
    steps: int


def solve_continuity(
    fields: Sequence[Field], density: Any, grid: Grid, *, frames: int = 1, courant: float = 0.4
) -> GridDensity:
    r"""Solve the continuity equation on a grid, each field acting for one unit of time.

    .. math:: \partial_t \rho + \operatorname{div}(v_k \rho) = 0, \qquad k \le t < k + 1

    with walls that nothing passes. The flux through the middle of each face takes the density from upwind, linearly
    reconstructed :cite:`vanleer1979towards` with the monotonised central limiter (chapter 6 of
    :cite:`leveque2002finite`); time steps are Heun's, the strong-stability-preserving Runge-Kutta method of order two
    :cite:`gottlieb2001strong`. What leaves a cell enters its neighbour, so that the mass is kept to rounding, and no
    density becomes negative while

    .. math:: \frac{\Delta t}{h} \big( \max |v^1| + \max |v^2| \big) \le \frac12 .

    Parameters
    ----------
    fields
        Velocity fields in the plane, see `velocity_fields`.
    density
        Cell averages at the start, none negative, of shape (cells, cells), or (..., cells, cells) for several densities
        moved by the same fields.
    grid
        The cells.
    frames
        How many densities to keep for each field, at even distances in time; the start is kept too.
    courant
        Upper bound of the left side above, in (0, 1/2].

    Raises
    ------
    ValueError
        For no field, a wrong shape, densities that are negative or not finite, velocities that are not finite or not in
        the plane, a number of frames that is no whole number >= 1, or a Courant number out of range.
    """
    rho = grid._checked(density)
    if not np.isfinite(rho).all():
        raise ValueError(f"a density must be finite; {int((~np.isfinite(rho)).sum())} cells are NaN or infinite")
    if (rho < 0).any():
        raise ValueError(f"a density is nowhere negative; the smallest cell holds {rho.min()}")
    if not 0 < courant <= _LARGEST_COURANT:
        raise ValueError(f"courant must lie in (0, 1/2], or densities may become negative; got {courant}")
    check_count(frames, "frames counts the densities kept for each field")
    if not len(fields):
        raise ValueError("a density moves along at least one velocity field; got none")
    kept, total = [rho], 0
    for field in fields:
        faces = _face_velocities(field, grid)
        fastest = sum(float(np.abs(v).max()) for v in faces)
        each = max(1, int(np.ceil(fastest / grid.width / courant / frames)))
        ratio = 1 / (each * frames) / grid.width
        for _ in range(frames):
            for _ in range(each):
                rho = _heun(rho, faces, ratio)
            kept.append(rho)
        total += each * frames
    return GridDensity(np.arange(len(kept)) / frames, np.stack(kept), total)


def _face_velocities(field: Field, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Return the first velocity at inner vertical faces and the second at inner horizontal ones.

    Shapes (cells, cells - 1), the second transposed, so that both lie along their last axis.
    """
    inner, middle = grid._edges[1:-1], grid._edges[:-1] + grid.width / 2
    across, along = np.meshgrid(inner, middle)
    velocities = []
    for axis, places in enumerate([(across, along), (along, across)]):
        v = _velocities(field, torch.from_numpy(np.stack(places, axis=-1).reshape(-1, 2)))
        velocities.append(v[:, axis].reshape(across.shape))
    return velocities[0], velocities[1]


def _velocities(field: Field, places: torch.Tensor) -> np.ndarray:
    try:
        with torch.no_grad():
            v: np.ndarray = field(places).numpy()
    except RuntimeError as error:  # what torch raises where a layer does not fit its input
        raise ValueError(
            f"a grid in the plane needs a field that takes points of shape {tuple(places.shape)}; this one does not: "
            f"{error}"
        ) from error
    if v.shape != tuple(places.shape):
        raise ValueError(
            f"a grid in the plane needs a field that gives a velocity of two components at each place, shape "
            f"{tuple(places.shape)}; got {v.shape}"
        )
    if not np.isfinite(v).all():
        raise ValueError("a velocity field must be finite on the whole grid")
    return v


def _heun(rho: np.ndarray, faces: tuple[np.ndarray, np.ndarray], ratio: float) -> np.ndarray:
    """Take one step, the mean of the old density and of two forward Euler steps."""
    once = rho + ratio * _inflow(rho, faces)
    twice: np.ndarray = 0.5 * (rho + once + ratio * _inflow(once, faces))
    return twice


def _inflow(rho: np.ndarray, faces: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return how much flows into each cell in the time that velocity 1 takes for one cell."""
    vertical = _inflow_along_rows(rho.swapaxes(-1, -2), faces[1]).swapaxes(-1, -2)
    inflow: np.ndarray = vertical + _inflow_along_rows(rho, faces[0])
    return inflow


def _inflow_along_rows(rho: np.ndarray, v: np.ndarray) -> np.ndarray:
    rise = np.diff(rho, axis=-1)
    before, after = rise[..., :-1], rise[..., 1:]
    # At most twice the smaller one-sided rise: the values at a cell's two faces stay between those of its neighbours.
    size = np.minimum(2 * np.minimum(np.abs(before), np.abs(after)), np.abs(before + after) / 2)
    half = np.zeros_like(rho)
    half[..., 1:-1] = np.where(before * after > 0, np.sign(before) * size / 2, 0)
    flux = np.where(v > 0, v * (rho + half)[..., :-1], v * (rho - half)[..., 1:])
    inflow = np.zeros_like(rho)
    inflow[..., :-1] -= flux
    inflow[..., 1:] += flux
    return inflow
