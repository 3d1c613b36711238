r"""The optimal assignments of two point clouds under the cost :math:`|x - y|^2`, with a proof.

An assignment :math:`\sigma` is optimal exactly when there are dual potentials u, v with

.. math:: r_{ij} = c_{ij} - u_i - v_j \ge 0, \qquad r_{i \sigma(i)} = 0,

that is, when the residual graph (row i may take column j from the row that holds it) has no negative cycle
:cite:`peyre2019computational` (section 3.2). Everything here is one method: shortest paths in that graph by Bellman
and Ford. Either they converge, and are the potentials, or their predecessors close a negative cycle, along which the
assignment improves. A map close to optimal transport starts from its own pairing and needs little more than one pass
over the costs. One far from it is handed to POT's network simplex, whose answer is then proved in the same way.

Costs are formed block by block and not stored: memory grows with m, beside 24 bytes for each tied pair. Only the
simplex needs them all at once. What is concluded rests on float64; float32 sorts out pairs that are far from tight.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, min_weight_full_bipartite_matching

from geolib.candidates import Candidates, Pairs, cycles
from geolib.costs import Costs

__all__ = ["OptimalAssignments", "optimal_assignments"]

#: Pairs that enter the sparse problem for each column whose potential falls, about; affects the speed only.
_NEIGHBOURS = 6
#: Share of columns whose potential falls in the first pass from which the map is far from optimal; speed only.
_FAR = 0.95
#: Number of points below which the simplex is the fastest way to improve any assignment; speed only.
_FEW = 1000
#: Passes over all rows after which shortest paths are given up at first, cycle or not; affects the speed only.
_PATIENCE = 2.0


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
        i, j = self._exchangeable.T
        if len(i) == len(self.columns):  # each row can only keep its column
            return self.columns
        weights = np.where((i == j) == most, 1.0, 2.0)
        _, columns = min_weight_full_bipartite_matching(csr_array((weights, (i, j)), shape=(len(self.columns),) * 2))
        return np.asarray(columns, dtype=np.intp)

    @functools.cached_property
    def _exchangeable(self) -> np.ndarray:
        """The pairs that are in some optimal assignment: those within one component, shape (pairs, 2)."""
        i, j = self.equality.T
        size = len(self.columns)
        holder = np.empty(size, dtype=np.intp)
        holder[self.columns] = np.arange(size)
        # Edge i -> k: row i could take the column that row k has.
        graph = csr_array((np.ones(len(i), dtype=np.int8), (i, holder[j])), shape=(size, size))
        _, component = connected_components(graph, connection="strong")
        inside: np.ndarray = self.equality[component[i] == component[holder[j]]]
        return inside


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
    costs = Costs(x, y)
    columns = torch.arange(len(x), device=x.device)
    v = costs.of(columns) / 2  # The potentials for which the identity map is optimal.
    proof = _certify(costs, columns, v, far=_FAR)
    if isinstance(proof, _NoProof) and (proof.far or len(x) < _FEW):
        columns, v = _network_simplex(costs)
        proof = _certify(costs, columns, v)
    candidates, patience = Candidates(len(x)), _PATIENCE
    while isinstance(proof, _NoProof):
        if not candidates.add(proof.pairs):  # the candidates' best is at hand: its paths end, however long they are
            if patience == math.inf:
                raise RuntimeError(f"no certified assignment of these {len(x)} points was found; please report them")
            patience = math.inf
        columns, v = candidates.improve(columns, proof.v, costs.rounding(v))
        proof = _certify(costs, columns, v, patience=patience)
    return proof


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
    pairs: Pairs
    far: bool


def _certify(
    costs: Costs, columns: torch.Tensor, v: torch.Tensor, *, far: float = math.inf, patience: float = _PATIENCE
) -> OptimalAssignments | _NoProof:
    """Prove an assignment optimal by potentials of its residual graph, started from v, or find a negative cycle.

    ``v_j <- min_i (v_s(i) + c_ij - c_is(i))`` until nothing falls; only rows whose potential fell are scanned again.
    Row i and the column that it holds share the index i in here. A fall counts only above the bound on its rounding,
    and a potential that fell leaves all pairs scanned before farther from tight: no second look at them is needed.
    If a share `far` of the potentials in the first block fall, it stops there; after `patience` passes, in any case.
    """
    size, own, v = len(columns), costs.of(columns), v[columns]
    rows = every = torch.arange(size, device=v.device)
    parent, short = torch.full_like(every, size), torch.zeros_like(v)
    width, scanned, seen = math.nan, 0, [Pairs(every, every, own)]
    while len(rows):
        u = own[rows] - v[rows]
        rounding = costs.rounding(u, v)
        low, shortest = torch.full_like(v, math.inf), parent.clone()
        for part, j, block in costs.near(rows, u, columns, v):
            low[j] = least = block.amin(1)
            falls = least < -rounding
            if scanned + part.start == 0 and float(falls.sum()) >= far * part.stop:
                return _NoProof(v, seen[0], far=True)
            shortest[j[falls]] = rows[block[falls].argmin(1)]
            width = max(_spread(block[:64]), costs.tolerance) if math.isnan(width) else width
            limit = torch.where(falls, least + width, costs.tolerance)
            a, b = (block <= limit[:, None]).nonzero().T
            seen.append(Pairs(rows[b], j[a], block[a, b] + u[b] + v[j[a]]))
        falls = low < -rounding
        short = torch.where(falls, 0, torch.minimum(short, low))
        v, parent = torch.where(falls, v + low, v), torch.where(falls, shortest, parent)
        scanned += len(rows)
        rows = falls.nonzero()[:, 0]
        if len(rows) and (scanned + len(rows) > patience * size or len(cycles(parent))):
            break
    pairs = Pairs(*(torch.cat([getattr(p, name) for p in seen]) for name in ("i", "j", "cost")))
    if len(rows):
        back = torch.empty_like(v).index_copy(0, columns, v)
        return _NoProof(back, Pairs(pairs.i, columns[pairs.j], pairs.cost), far=False)
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


def _network_simplex(costs: Costs) -> tuple[torch.Tensor, torch.Tensor]:
    """Return POT's optimal assignment and the columns' potentials; the costs are stored for it, m by m."""
    import ot

    ones, device = np.ones(len(costs.x)), costs.x.device
    plan, log = ot.emd(ones, ones, -(costs.x @ costs.y.T).cpu().numpy(), numItermax=10**9, log=True)
    columns = plan.argmax(1)
    if len(np.unique(columns)) < len(columns):  # no assignment: better to start from one that is none too good
        columns = np.arange(len(columns))
    return torch.from_numpy(columns).to(device), torch.from_numpy(log["v"]).to(device)
