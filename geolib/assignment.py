r"""The optimal assignments of two point clouds under the cost :math:`|x - y|^2`, with a proof.

An assignment :math:`\sigma` is optimal exactly when there are dual potentials u, v with

.. math:: r_{ij} = c_{ij} - u_i - v_j \ge 0, \qquad r_{i \sigma(i)} = 0,

that is, when the residual graph (row i may take column j from the row that holds it) has no negative cycle
:cite:`peyre2019computational` (section 3.2). Everything here is one method: shortest paths in that graph by Bellman
and Ford. Either they converge, and are the potentials, or their predecessors close a negative cycle, along which the
assignment improves. A map close to optimal transport starts from its own pairing and needs little more than one pass
over the costs. One far from it is handed to POT's network simplex, whose answer is then proved in the same way.

Costs are formed block by block, in float64, and never stored: memory grows with m times the block.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, min_weight_full_bipartite_matching

__all__ = ["OptimalAssignments", "optimal_assignments"]

#: Reduced costs up to this share of max|x| max|y| (centred) count as zero. It lies above the rounding of a sum of a few
#: thousand products in float64. One point 10^4 times farther out than all others makes ties among those look closer.
TIE_TOLERANCE = 1e-12
#: Pairs that enter the sparse problem for each column whose potential falls, about; affects the speed only.
_NEIGHBOURS = 8
#: Share of columns whose potential falls in the first pass from which the map is far from optimal; speed only.
_FAR = 0.95
#: Passes over all rows after which shortest paths are taken not to converge, cycle or not; speed only.
_PATIENCE = 1.25
#: Levels to which costs are rounded for the first solution of a sparse problem; speed only.
_LEVELS = 2**16
#: Reduced costs held at a time: the larger of this number and 64 rows.
_BLOCK = 2**19


@dataclass(frozen=True)
class OptimalAssignments:
    r"""All optimal assignments of two clouds of m points, as the perfect matchings of a graph.

    By complementary slackness an assignment is optimal exactly when all its pairs have reduced cost zero, so the
    optimal assignments are the perfect matchings of the equality graph.

    Attributes
    ----------
    columns
        One optimal assignment: point i of x goes to point ``columns[i]`` of y. Shape (m,).
    equality
        The pairs (i, j) of reduced cost zero up to the tie tolerance, shape (pairs, 2).
    potentials
        Dual potentials v of the columns for the centred costs: ``-<x_i, y_j> - v_j`` is smallest over j where j =
        ``columns[i]``, up to the gap. Shape (m,).
    gap
        Duality gap: mean cost of `columns` minus the bound that the potentials prove, in the square of the unit.
    certified
        Whether the gap is within the tie tolerance.
    """

    columns: np.ndarray
    equality: np.ndarray
    potentials: np.ndarray
    gap: float
    certified: bool

    def extreme_identity(self, *, most: bool) -> np.ndarray:
        """Return an optimal assignment with the most, or the fewest, pairs (i, i).

        An optimal assignment can only be changed along cycles of the equality graph, so pairs between strongly
        connected components of rows drop out, and what is left is an assignment problem that falls apart into them.
        """
        i, j = self.equality.T
        size = len(self.columns)
        holder = np.empty(size, dtype=np.intp)
        holder[self.columns] = np.arange(size)
        # Edge i -> k: row i could take the column that row k has.
        graph = csr_array((np.ones(len(i), dtype=np.int8), (i, holder[j])), shape=(size, size))
        components, component = connected_components(graph, connection="strong")
        if components == size:
            return self.columns
        inside = component[i] == component[holder[j]]
        i, j = i[inside], j[inside]
        weights = np.where((i == j) == most, 1.0, 2.0)
        _, columns = min_weight_full_bipartite_matching(csr_array((weights, (i, j)), shape=(size, size)))
        return np.asarray(columns, dtype=np.intp)


def optimal_assignments(x: torch.Tensor, y: torch.Tensor) -> OptimalAssignments:
    r"""Find every optimal assignment of cloud x to cloud y: :math:`\min_\sigma \sum_i |x_i - y_{\sigma(i)}|^2`.

    Parameters
    ----------
    x, y
        Points, float64, both of shape (m, dim), on one device: there the costs are formed.

    Raises
    ------
    RuntimeError
        If rounding keeps every route from a proof.
    """
    costs = _Costs(x, y)
    columns = torch.arange(len(x), device=x.device)
    v = costs.of(columns) / 2  # The potentials for which the identity map is optimal.
    proof = _certify(costs, columns, v, far=_FAR)
    if isinstance(proof, _NoProof) and proof.far:
        columns, v = _network_simplex(costs)
        proof = _certify(costs, columns, v)
    candidates = _Candidates(len(x))
    while isinstance(proof, _NoProof):
        if not candidates.add(proof.pairs):
            raise RuntimeError(f"no certified assignment of these {len(x)} points was found; please report the clouds")
        columns, v = candidates.improve(columns, proof.v, costs.rounding(v))
        proof = _certify(costs, columns, v)
    return proof


class _Costs:
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

    def rounding(self, *potentials: torch.Tensor) -> float:
        """Return a bound on the rounding of a reduced cost.

        A sum of n products is off by at most n 2^-53 times the sum of their sizes; the sizes of the coordinates'
        products sum to at most 1, and the potentials come on top.
        """
        return (self.x.shape[1] + 8) * 2.0**-53 * (1 + sum(float(p.abs().max()) for p in potentials))

    def reduced(
        self, rows: torch.Tensor, u: torch.Tensor, columns: torch.Tensor, v: torch.Tensor
    ) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield the reduced costs ``block[j, i]`` of some rows and columns, for one slice of the columns after another.

        Potentials ride along as two more coordinates, so that one matrix product gives the whole; a block is only good
        until the next one.
        """
        left = torch.cat([self.y[columns], torch.ones_like(v)[:, None], v[:, None]], 1)
        right = torch.cat([-self.x[rows], -u[:, None], -torch.ones_like(u)[:, None]], 1).T
        step = min(max(64, _BLOCK // len(rows)), len(columns))
        buffer = torch.empty(step, len(rows), dtype=left.dtype, device=left.device)
        for start in range(0, len(columns), step):
            part = left[start : start + step]
            yield slice(start, start + len(part)), torch.mm(part, right, out=buffer[: len(part)])


@dataclass(frozen=True)
class _Pairs:
    """Pairs (i, j) with their costs."""

    i: torch.Tensor
    j: torch.Tensor
    cost: torch.Tensor


@dataclass(frozen=True)
class _NoProof:
    """What shortest paths left behind that did not converge.

    Attributes
    ----------
    v
        Potentials of the columns.
    pairs
        Pairs close to the shortest into each column whose potential fell.
    far
        Whether nearly all potentials fell at once.
    """

    v: torch.Tensor
    pairs: _Pairs
    far: bool


def _certify(
    costs: _Costs, columns: torch.Tensor, v: torch.Tensor, *, far: float = math.inf
) -> OptimalAssignments | _NoProof:
    """Prove an assignment optimal by potentials of its residual graph, started from v, or find a negative cycle.

    ``v_j <- min_i (v_s(i) + c_ij - c_is(i))`` until nothing falls; only rows whose potential fell are scanned again.
    Row i and the column that it holds share the index i in here. A fall counts only above the bound on its rounding,
    and a potential that fell leaves all pairs scanned before farther from tight: no second look at them is needed.
    If more than a share `far` of the potentials in the first block fall, it stops there.
    """
    size, own, v = len(columns), costs.of(columns), v[columns]
    rows = every = torch.arange(size, device=v.device)
    parent, short = torch.full_like(every, size), torch.zeros_like(v)
    width, scanned, seen = math.nan, 0, [_Pairs(every, every, own)]
    while len(rows):
        u = own[rows] - v[rows]
        rounding = costs.rounding(u, v)
        place = torch.full_like(every, -1).index_copy(0, rows, torch.arange(len(rows), device=v.device))
        low, shortest = torch.empty_like(v), parent.clone()
        for part, block in costs.reduced(rows, u, columns, v):
            held = (place[part] >= 0).nonzero()[:, 0]
            block[held, place[part][held]] = math.inf  # a row's own column is no change
            low[part] = block.amin(1)
            near = (low[part] <= costs.tolerance).nonzero()[:, 0]
            if len(near) == 0:
                continue
            chosen, j = block[near], near + part.start
            falls = low[j] < -rounding
            if scanned + part.start == 0 and float(falls.sum()) >= far * len(block):
                return _NoProof(v, seen[0], far=True)
            shortest[j[falls]] = rows[chosen[falls].argmin(1)]
            width = max(_spread(chosen[:64]), costs.tolerance) if math.isnan(width) else width
            limit = torch.where(falls, low[j] + width, costs.tolerance)
            a, b = (chosen <= limit[:, None]).nonzero().T
            seen.append(_Pairs(rows[b], j[a], chosen[a, b] + u[b] + v[j[a]]))
        falls = low < -rounding
        short = torch.where(falls, 0, torch.minimum(short, low))
        v, parent = torch.where(falls, v + low, v), torch.where(falls, shortest, parent)
        scanned += len(rows)
        rows = falls.nonzero()[:, 0]
        if len(rows) and (scanned + len(rows) > _PATIENCE * size or len(_cycles(parent))):
            break
    pairs = _Pairs(*(torch.cat([getattr(p, name) for p in seen]) for name in ("i", "j", "cost")))
    if len(rows):
        back = torch.empty_like(v).index_copy(0, columns, v)
        return _NoProof(back, _Pairs(pairs.i, columns[pairs.j], pairs.cost), far=False)
    tied = pairs.cost - (own - v)[pairs.i] - v[pairs.j] <= costs.tolerance
    key = torch.unique(pairs.i[tied] * size + columns[pairs.j[tied]]).cpu().numpy()
    gap = float(short.abs().sum()) / size
    return OptimalAssignments(
        columns=columns.cpu().numpy(),
        equality=np.stack(np.divmod(key, size), 1),
        potentials=(torch.empty_like(v).index_copy(0, columns, v) * (costs.unit / 2)).cpu().numpy(),
        gap=gap * costs.unit,
        certified=gap <= costs.tolerance,
    )


def _spread(block: torch.Tensor) -> float:
    """Return about how far above a row's smallest value the next few lie."""
    least = torch.topk(block, min(_NEIGHBOURS, block.shape[1]), dim=1, largest=False).values
    return float((least[:, -1] - least[:, 0]).median())


def _cycles(parent: torch.Tensor) -> torch.Tensor:
    """Return the nodes on the cycles of a graph in which each node has one parent; a root's is the number of nodes."""
    end = len(parent)
    jump = torch.cat([parent, parent.new_tensor([end])])
    for _ in range(end.bit_length()):  # afterwards each pointer leads at least as many steps back as there are nodes
        jump = jump[jump]
    return torch.unique(jump[jump < end])


class _Candidates:
    """The assignment problem on a growing set of pairs: enough of them, and its solution is the whole problem's."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.key, self.cost = np.empty(0, dtype=np.int64), np.empty(0)

    def add(self, pairs: _Pairs) -> bool:
        """Add pairs, each once and sorted by column; tell whether there were new ones."""
        before = len(self.key)
        key = (pairs.j * self.size + pairs.i).cpu().numpy()
        self.key, first = np.unique(np.concatenate([self.key, key]), return_index=True)
        self.cost = np.concatenate([self.cost, pairs.cost.cpu().numpy()])[first]
        return len(self.key) > before

    def improve(self, columns: torch.Tensor, v: torch.Tensor, rounding: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the best assignment within the candidates, and potentials of the columns that prove it there.

        Of all such potentials those in the middle between the nearest below v and the nearest above: with slack to
        both sides they break fewer of the pairs that are no candidates yet.
        """
        j, i = np.divmod(self.key, self.size)
        old = v.cpu().numpy()
        held = self._nearly_best(columns.cpu().numpy(), old, i, j)
        held, below = self._cancel_cycles(held, old, i, j, rounding)
        length = self.cost - self._cost_of(held)[i]
        order = np.argsort(i, kind="stable")
        above = -_nearest_below(-old, j[order], held[i[order]], length[order], rounding)
        return torch.from_numpy(held).to(v.device), torch.from_numpy((below + above) / 2).to(v.device)

    def _nearly_best(self, held: np.ndarray, v: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Return the best assignment for costs rounded to few levels: on nearly equal costs scipy's solver may hang."""
        reduced = self.cost - (self._cost_of(held) - v[held])[i] - v[j]
        reduced -= reduced.min()
        levels = 1 + np.round(reduced * (_LEVELS / (reduced.max() or 1.0)))  # a sparse matrix takes zeros for absent
        graph = csr_array((levels, (i, j)), shape=(self.size, self.size))
        return np.asarray(min_weight_full_bipartite_matching(graph)[1], dtype=np.int64)

    def _cancel_cycles(
        self, held: np.ndarray, v: np.ndarray, i: np.ndarray, j: np.ndarray, rounding: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Improve an assignment along the negative cycles that predecessors close, until shortest paths converge."""
        held, v, own, holder = held.copy(), v.copy(), self._cost_of(held), np.argsort(held)
        parent = np.full(self.size, self.size)  # of a column: the column that its predecessor row holds
        via = np.empty(self.size, dtype=np.int64)  # and the pair that leads here
        active = np.ones(self.size, dtype=bool)  # rows whose own potential changed
        while True:
            pair = np.flatnonzero(active[i])
            into, length = j[pair], self.cost[pair] - (own - v[held])[i[pair]]
            first = np.flatnonzero(np.diff(into, prepend=-1))
            low = np.minimum.reduceat(length, first)
            falls = low < v[into[first]] - rounding
            if not falls.any():
                return held, v
            limit = np.repeat(np.where(falls, low, -np.inf), np.diff(first, append=len(pair)))
            shortest = pair[length <= limit]
            via[j[shortest]], parent[j[shortest]] = shortest, held[i[shortest]]
            fallen = into[first[falls]]
            v[fallen] = low[falls]
            cyclic = _cycles(torch.from_numpy(parent)).numpy()
            if len(cyclic):
                better = via[cyclic]
                held[i[better]], own[i[better]], holder[j[better]] = j[better], self.cost[better], i[better]
                parent[:] = self.size
            active[:] = False
            active[holder[fallen]] = True
            active[holder[cyclic]] = True

    def _cost_of(self, held: np.ndarray) -> np.ndarray:
        return self.cost[np.searchsorted(self.key, held.astype(np.int64) * self.size + np.arange(self.size))]


def _nearest_below(
    v: np.ndarray, source: np.ndarray, target: np.ndarray, length: np.ndarray, rounding: float
) -> np.ndarray:
    """Return the largest potentials below v with ``v_target <= v_source + length`` on every edge, no cycle negative.

    Edges of one target stand together.
    """
    v, active = v.copy(), np.ones(len(v), dtype=bool)
    while True:
        edges = np.flatnonzero(active[source])
        ends = target[edges]
        first = np.flatnonzero(np.diff(ends, prepend=-1))
        low = np.minimum.reduceat(v[source[edges]] + length[edges], first)
        falls = low < v[ends[first]] - rounding
        if not falls.any():
            return v
        fallen = ends[first[falls]]
        v[fallen] = low[falls]
        active[:] = False
        active[fallen] = True


def _network_simplex(costs: _Costs) -> tuple[torch.Tensor, torch.Tensor]:
    """Return POT's optimal assignment and the columns' potentials; the costs are stored for it, m by m."""
    import ot

    ones, device = np.ones(len(costs.x)), costs.x.device
    plan, log = ot.emd(ones, ones, -(costs.x @ costs.y.T).cpu().numpy(), numItermax=10**9, log=True)
    columns = plan.argmax(1)
    if len(np.unique(columns)) < len(columns):  # no assignment: better to start from one that is none too good
        columns = np.arange(len(columns))
    return torch.from_numpy(columns).to(device), torch.from_numpy(log["v"]).to(device)


def radius(x: torch.Tensor) -> float:
    """Return the largest norm, without the overflow and underflow of its square."""
    largest = float(x.abs().max())
    return largest * float(torch.linalg.vector_norm(x / largest, dim=1).max()) if largest > 0 else 0.0
