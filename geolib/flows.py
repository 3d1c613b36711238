"""A residual network as a flow: the velocity field of each block, followed with several steps a block."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from geolib.networks import PlainBlock, ResidualBlock

__all__ = ["Field", "Flow", "check_substeps", "refined_flow", "runge_kutta", "velocity_fields"]

#: A velocity field: takes points of shape (m, d) in double precision, returns their velocities, of the same shape.
Field = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Flow:
    """Points on their way through a network, each block taking one unit of time.

    Attributes
    ----------
    times
        Shape (steps + 1,), from 0 to the number of blocks.
    points
        Shape (steps + 1, m, d), in float64; the first are the stem's outputs.
    velocities
        Shape (steps, m, d): the field at the beginning of each step.
    """

    times: np.ndarray
    points: np.ndarray
    velocities: np.ndarray


def velocity_fields(network: nn.Module) -> tuple[Field, ...]:
    r"""Return the velocity field of each block of a residual network.

    .. math:: v_k(x) = f_{k+1}(x) - x

    (slide 18 of :cite:`gai_lecture`), of a copy of the network in double precision and evaluation mode.

    Parameters
    ----------
    network
        A module with a `stem` and an iterable of residual `blocks` on points of shape (m, d), as `ResNet`.

    Raises
    ------
    TypeError
        If the network has no stem or no blocks.
    ValueError
        For a plain network: a block that adds nothing to its input is not the step of a flow.
    """
    stem, blocks = (getattr(network, name, None) for name in ("stem", "blocks"))
    if not callable(stem) or blocks is None or not list(blocks):
        raise TypeError(f"a flow needs a network with a stem and blocks; {type(network).__name__} lacks one of them")
    if any(isinstance(block, PlainBlock) and not isinstance(block, ResidualBlock) for block in blocks):
        raise ValueError(
            f"a flow needs residual blocks, x + v(x), whose v can be followed in smaller steps; "
            f"{type(network).__name__} has plain ones"
        )
    return tuple(_field(block) for block in blocks)


def _field(block: nn.Module) -> Field:
    own = copy.deepcopy(block).double().eval().requires_grad_(False)
    return lambda x: own(x) - x


def refined_flow(network: nn.Module, x: Any, substeps: int, *, scheme: str = "euler") -> Flow:
    r"""Send points through a residual network with several steps a block.

    .. math:: x \leftarrow x + \tfrac1s v_k(x), \quad s \text{ times for each block } k

    With s = 1 this is the network; as s grows it tends to the flow of :math:`\dot x = v_k(x)`, one unit of time for
    each block :cite:`weinan2017proposal`.

    Parameters
    ----------
    network
        As for `velocity_fields`.
    x
        Inputs of the stem, shape (m, ...), a tensor or an array.
    substeps
        Steps a block, s.
    scheme
        ``euler``, or ``rk4``: the classical Runge-Kutta method of order four, for reference solutions.

    Raises
    ------
    TypeError, ValueError
        As `velocity_fields`; for a number of substeps that is no whole number >= 1, an unknown scheme, points that
        are not finite, or a stem whose output is not of shape (m, d).
    """
    check_substeps(substeps)
    if scheme not in _SCHEMES:
        raise ValueError(f"scheme is one of {', '.join(_SCHEMES)}; got {scheme!r}")
    fields = velocity_fields(network)
    stem: Any = copy.deepcopy(network.stem)
    stem = stem.double().eval()
    with torch.no_grad():
        z = stem(torch.as_tensor(x).double())
        if z.ndim != 2 or 0 in z.shape or not torch.isfinite(z).all():
            raise ValueError(f"a flow starts from finite points of shape (m, d); the stem gave {tuple(z.shape)}")
        points, velocities = [z.numpy()], []
        for field in fields:
            for _ in range(substeps):
                v = field(z)
                z = z + v / substeps if scheme == "euler" else runge_kutta(field, z, 1 / substeps)
                velocities.append(v.numpy())
                points.append(z.numpy())
    times = np.arange(len(points)) / substeps
    return Flow(times, np.stack(points), np.stack(velocities))


_SCHEMES = ("euler", "rk4")


def runge_kutta(field: Field, x: torch.Tensor, step: float) -> torch.Tensor:
    """Take one step of the classical Runge-Kutta method of order four; a negative step goes back in time."""
    a = field(x)
    b = field(x + step / 2 * a)
    c = field(x + step / 2 * b)
    d = field(x + step * c)
    return x + step / 6 * (a + 2 * b + 2 * c + d)


def check_substeps(substeps: int) -> None:
    """Raise a ValueError for a number of steps a block that is no whole number >= 1."""
    if isinstance(substeps, bool) or not isinstance(substeps, (int, np.integer)) or substeps < 1:
        raise ValueError(f"substeps counts the steps a block is cut into: a whole number >= 1; got {substeps!r}")


def as_points(fields: Sequence[Field], x: Any) -> torch.Tensor:
    """Check that there are fields and finite points; return the points in double precision."""
    points = torch.as_tensor(x).double()
    if not len(fields):
        raise ValueError("a density moves along at least one velocity field; got none")
    if points.ndim != 2 or 0 in points.shape or not torch.isfinite(points).all():
        raise ValueError(f"points must be finite and of shape (m, d); got {tuple(points.shape)}")
    return points
