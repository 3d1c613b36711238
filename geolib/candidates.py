"""The assignment problem on a growing set of pairs, by which a near-optimal assignment is improved."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

__all__ = ["Candidates", "Pairs", "cycles"]

#: Levels to which costs are rounded for the first solution of a sparse problem; speed only.
_LEVELS = 2**16
#: Points for each pass along the candidates in the first round, doubled in every further one: early potentials need not
#: be exact, and the more points, the more a pass over all pairs costs beside one over the candidates; speed only.
_POINTS_A_PASS = 500


@dataclass(frozen=True)
class Pairs:
    """Pairs (i, j) with their costs."""

    i: torch.Tensor
    j: torch.Tensor
    cost: torch.Tensor


class Candidates:
    """The assignment problem on a growing set of pairs: enough of them, and its solution is the whole problem's."""

    def __init__(self, size: int) -> None:
        self.size, self.rounds, self.solved = size, 0, False
        self.key, self.cost = np.empty(0, dtype=np.int64), np.empty(0)

    def add(self, pairs: Pairs) -> bool:
        """Add pairs, each once and sorted by column; tell whether there is anything left to improve."""
        before = len(self.key)
        key = (pairs.j * self.size + pairs.i).cpu().numpy()
        self.key, first = np.unique(np.concatenate([self.key, key]), return_index=True)
        self.cost = np.concatenate([self.cost, pairs.cost.cpu().numpy()])[first]
        return len(self.key) > before or not self.solved

    def improve(self, columns: torch.Tensor, v: torch.Tensor, rounding: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a better assignment within the candidates, in the end the best, and potentials that show it.

        Of all such potentials those in the middle between the nearest below v and the nearest above: with slack to
        both sides they break fewer of the pairs that are no candidates yet.
        """
        j, i = np.divmod(self.key, self.size)
        old = v.cpu().numpy()
        held = self._nearly_best(columns.cpu().numpy(), old, i, j)
        passes, self.rounds = max(2, self.size // _POINTS_A_PASS) << self.rounds, self.rounds + 1
        held, below, self.solved = self._cancel_cycles(held, old, i, j, rounding, passes)
        length = self.cost - self._cost_of(held)[i]
        order = np.argsort(i, kind="stable")
        above = -_nearest_below(-old, j[order], held[i[order]], length[order], rounding, passes)
        return torch.from_numpy(held).to(v.device), torch.from_numpy((below + above) / 2).to(v.device)

    def _nearly_best(self, held: np.ndarray, v: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Return the best assignment for costs rounded to few levels: on nearly equal costs scipy's solver may hang."""
        reduced = self.cost - (self._cost_of(held) - v[held])[i] - v[j]
        reduced -= reduced.min()
        levels = 1 + np.round(reduced * (_LEVELS / (reduced.max() or 1.0)))  # a sparse matrix takes zeros for absent
        graph = csr_array((levels, (i, j)), shape=(self.size, self.size))
        return np.asarray(min_weight_full_bipartite_matching(graph)[1], dtype=np.int64)

    def _cancel_cycles(
        self, held: np.ndarray, v: np.ndarray, i: np.ndarray, j: np.ndarray, rounding: float, passes: int
    ) -> tuple[np.ndarray, np.ndarray, bool]:
        """Improve an assignment along the negative cycles that predecessors close; tell whether all paths ended."""
        held, v, own, holder = held.copy(), v.copy(), self._cost_of(held), np.argsort(held)
        parent = np.full(self.size, self.size)  # of a column: the column that its predecessor row holds
        via = np.empty(self.size, dtype=np.int64)  # and the pair that leads here
        active = np.ones(self.size, dtype=bool)  # rows whose own potential changed
        for _ in range(passes):
            pair = np.flatnonzero(active[i])
            into, length = j[pair], self.cost[pair] - (own - v[held])[i[pair]]
            first = np.flatnonzero(np.diff(into, prepend=-1))
            low = np.minimum.reduceat(length, first)
            falls = low < v[into[first]] - rounding
            if not falls.any():
                return held, v, True
            limit = np.repeat(np.where(falls, low, -np.inf), np.diff(first, append=len(pair)))
            shortest = pair[length <= limit]
            via[j[shortest]], parent[j[shortest]] = shortest, held[i[shortest]]
            fallen = into[first[falls]]
            v[fallen] = low[falls]
            cyclic = cycles(torch.from_numpy(parent)).numpy()
            if len(cyclic):
                better = via[cyclic]
                held[i[better]], own[i[better]], holder[j[better]] = j[better], self.cost[better], i[better]
                parent[:] = self.size
            active[:] = False
            active[holder[fallen]] = True
            active[holder[cyclic]] = True
        return held, v, False

    def _cost_of(self, held: np.ndarray) -> np.ndarray:
        return self.cost[np.searchsorted(self.key, held.astype(np.int64) * self.size + np.arange(self.size))]


def _nearest_below(
    v: np.ndarray, source: np.ndarray, target: np.ndarray, length: np.ndarray, rounding: float, passes: int
) -> np.ndarray:
    """Return the largest potentials below v with ``v_target <= v_source + length`` on each edge, or some above them.

    Edges of one target stand together; no cycle is negative. It stops after so many passes.
    """
    v, active = v.copy(), np.ones(len(v), dtype=bool)
    for _ in range(passes):
        edges = np.flatnonzero(active[source])
        ends = target[edges]
        first = np.flatnonzero(np.diff(ends, prepend=-1))
        low = np.minimum.reduceat(v[source[edges]] + length[edges], first)
        falls = low < v[ends[first]] - rounding
        if not falls.any():
            break
        fallen = ends[first[falls]]
        v[fallen] = low[falls]
        active[:] = False
        active[fallen] = True
    return v


def cycles(parent: torch.Tensor) -> torch.Tensor:
    """Return the nodes on the cycles of a graph in which each node has one parent; a root's is the number of nodes."""
    end = len(parent)
    jump = torch.cat([parent, parent.new_tensor([end])])
    for _ in range(end.bit_length()):  # afterwards each pointer leads at least as many steps back as there are nodes
        jump = jump[jump]
    on_cycles: torch.Tensor = torch.unique(jump[jump < end])
    return on_cycles
