"""The costs of matching two point clouds, formed block by block."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

__all__ = ["Costs", "radius"]

#: Reduced costs up to this share of max|x| max|y| (centred) count as zero. It lies above the rounding of a sum of a few
#: thousand products in float64. One point 10^4 times farther out than all others makes ties among those look closer.
TIE_TOLERANCE = 1e-12
#: Reduced costs held at a time: the larger of this number and 64 rows.
_BLOCK = 2**19


class Costs:
    r"""The costs :math:`c_{ij} = -\langle x_i, y_j \rangle` of two centred clouds of radius 1.

    Up to terms of i or j alone, which do not change an optimal assignment, they are
    :math:`|x_i - y_j|^2 / (2 \max|x| \max|y|)`. Centring changes no assignment either; an offset would lose digits.

    Attributes
    ----------
    x, y
        The centred and scaled clouds, shape (m, dim).
    unit
        What a cost of 1 is in the square of the points' unit, :math:`2 \max|x| \max|y|`.
    tolerance
        The largest reduced cost that counts as zero.
    """

    def __init__(self, x: torch.Tensor, y: torch.Tensor) -> None:
        far = radius(x), radius(y)
        x, y = x - x.mean(0), y - y.mean(0)
        near = radius(x), radius(y)
        self.x, self.y = x / (near[0] or 1.0), y / (near[1] or 1.0)
        self.unit = 2 * near[0] * near[1]
        # A coordinate of size c is stored to c * 2^-53, which an offset makes large against the centred cloud.
        storage = 16 * 2.0**-52 * sum(a / b if b else 0.0 for a, b in zip(far, near, strict=True))
        self.tolerance = max(TIE_TOLERANCE, self.rounding()) + storage

    def of(self, columns: torch.Tensor) -> torch.Tensor:
        """Return the cost of each pair (i, columns[i]), shape (m,)."""
        return -(self.x * self.y[columns]).sum(1)

    def rounding(self, *potentials: torch.Tensor, unit: float = 2.0**-53) -> float:
        """Return a bound on the rounding of a reduced cost, in the precision of this unit.

        Each of n products is off by two roundings of its factors and its own, their sum by n - 1 more: by
        ``k unit / (1 - k unit)`` times the sum of the products' sizes, k = n + 2. Those of the coordinates sum to at
        most 1 (k allows for their own rounding), the potentials come on top.
        """
        k = (self.x.shape[1] + 8) * unit
        return k / (1 - k) * (1 + sum(float(p.abs().max()) for p in potentials)) if k < 1 else math.inf

    def near(
        self, rows: torch.Tensor, u: torch.Tensor, columns: torch.Tensor, v: torch.Tensor
    ) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
        """Yield, block by block, the columns that some of these rows are nearly tight with, and their reduced costs.

        Row ``rows[k]`` holds column ``rows[k]`` of `columns`; that pair does not count and its entry is infinite.
        Single precision only sorts out columns, all of whose reduced costs lie above the tie tolerance by more than
        its rounding; the others are computed anew. Where most columns of a block are near, it is left aside. Its
        products are numpy's: torch may be set to give them fewer digits (TF32, bfloat16). On a GPU there are none.

        Yields
        ------
        part
            The block: positions in `columns` that were looked at.
        near
            Those of them that are near.
        block
            Their reduced costs in double precision, shape (near, rows), good until the next one.
        """
        # Potentials ride along as two more coordinates, so that one matrix product gives the whole.
        left = torch.cat([self.y[columns], torch.ones_like(v)[:, None], v[:, None]], 1)
        right = torch.cat([-self.x[rows], -u[:, None], -torch.ones_like(u)[:, None]], 1).T
        screen = self.tolerance + self.rounding(u, v, unit=2.0**-24)
        place = torch.full_like(columns, -1).index_copy(0, rows, torch.arange(len(rows), device=v.device))
        step = min(max(64, _BLOCK // len(rows)), len(columns))
        exact, crowded = torch.empty(step, len(rows), dtype=v.dtype, device=v.device), v.is_cuda
        left32, right32 = (side.float().cpu().numpy() for side in (left, right))
        rough = np.empty((step, len(rows)), dtype=np.float32)
        for start in range(0, len(columns), step):
            part = slice(start, min(start + step, len(columns)))
            near = torch.arange(part.start, part.stop, device=v.device)
            if not crowded:
                block = torch.from_numpy(np.matmul(left32[part], right32, out=rough[: len(near)]))
                _without_own(block, place[near])
                few = near[block.amin(1) <= screen]
                crowded = 2 * len(few) > len(near)
                near = few
            if len(near):
                block = torch.mm(left[near], right, out=exact[: len(near)])
                _without_own(block, place[near])
                yield part, near, block


def _without_own(block: torch.Tensor, place: torch.Tensor) -> None:
    """Set the entry of each row of the block to infinity whose place is not negative."""
    held = (place >= 0).nonzero()[:, 0]
    block[held, place[held]] = math.inf


def radius(x: torch.Tensor) -> float:
    """Return the largest norm, without the overflow and underflow of its square."""
    largest = float(x.abs().max())
    return largest * float(torch.linalg.vector_norm(x / largest, dim=1).max()) if largest > 0 else 0.0
