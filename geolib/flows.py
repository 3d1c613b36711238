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

__all__ = [
    "Field",
    "Flow",
    "as_points",
    "check_count",
    "check_substeps",
    "refined_flow",
    "runge_kutta",
    "velocity_fields",
]

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

    (slide 18 of :cite:`gai_lecture`), of a copy of the block on the CPU, in double precision and evaluation mode. A
    field raises a ValueError, which names the block, where that changes the shape of its input.

    Parameters
    ----------
    network
        A module with a `stem` and an iterable of residual `blocks` on points of shape (m, d), as `ResNet`. A foreign
        block is taken at its word: only the blocks of `PlainNet` are known to be plain, since any map can be written
        as x + v(x).

    Raises
    ------
    TypeError
        If the network has no stem or no blocks.
    ValueError
        For a `PlainNet`: a block that adds nothing to its input is not the step of a flow.
    """
    stem, blocks = (getattr(network, name, None) for name in ("stem", "blocks"))
    if not callable(stem) or blocks is None or not list(blocks):
        raise TypeError(f"a flow needs a network with a stem and blocks; {type(network).__name__} lacks one of them")
    if any(isinstance(block, PlainBlock) and not isinstance(block, ResidualBlock) for block in blocks):
        raise ValueError(
            f"a flow needs residual blocks, x + v(x), whose v can be followed in smaller steps; "
            f"{type(network).__name__} has plain ones"
        )
    return tuple(_field(block, f"block {k} ({type(block).__name__})") for k, block in enumerate(blocks, start=1))


def _field(block: nn.Module, name: str) -> Field:
    own = _copied(block)

    def field(x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = own(x)
        if y.shape != x.shape:
            raise ValueError(
                f"a flow stays in one space, so every block must keep the shape of its input; {name} turned "
                f"{tuple(x.shape)} into {tuple(y.shape)}"
            )
        return y - x

    return field


def _copied(module: nn.Module) -> nn.Module:
    return copy.deepcopy(module).cpu().double().eval().requires_grad_(False)


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
        Inputs of the stem, shape (m, ...), a tensor on any device or an array.
    substeps
        Steps a block, s.
    scheme
        ``euler``, or ``rk4``: the classical Runge-Kutta method of order four, for reference solutions.

    Raises
    ------
    TypeError, ValueError
        As `velocity_fields`; for a number of substeps that is no whole number >= 1, an unknown scheme, points that
        are not finite, or a stem or a block whose output is not of shape (m, d).
    """
    check_substeps(substeps)
    if scheme not in _SCHEMES:
        raise ValueError(f"scheme is one of {', '.join(_SCHEMES)}; got {scheme!r}")
    fields = velocity_fields(network)
    stem = _copied(network.stem)  # type: ignore[arg-type]
    with torch.no_grad():
        z = _checked(stem(_in_double(x)), "the stem's outputs")
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
    check_count(substeps, "substeps counts the steps a block is cut into")


def check_count(value: int, meaning: str, least: int = 1) -> None:
    """Raise a ValueError, which begins with what the value means, for what is no whole number >= `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{meaning}: a whole number >= {least}; got {value!r}")


def as_points(fields: Sequence[Field], x: Any) -> torch.Tensor:
    """Check that there are fields and finite points; return the points in double precision."""
    if not len(fields):
        raise ValueError("a density moves along at least one velocity field; got none")
    return _checked(_in_double(x), "points")


def _in_double(x: Any) -> torch.Tensor:
    """Return points on the CPU in double precision, those of a list without a detour through single precision."""
    return torch.as_tensor(x if isinstance(x, torch.Tensor) else np.asarray(x)).detach().cpu().double()


def _checked(points: torch.Tensor, name: str) -> torch.Tensor:
    """Return points; raise a ValueError for others than finite ones of shape (m, d)."""
    if points.ndim != 2 or 0 in points.shape:
        raise ValueError(f"{name} must have shape (m, d), at least one point and dimension; got {tuple(points.shape)}")
    if not torch.isfinite(points).all():
        raise ValueError(f"{name} must be finite; {int((~torch.isfinite(points)).sum())} values are NaN or infinite")
    return points
