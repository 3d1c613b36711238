import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from geolib import assignment, candidates, costs
from geolib.assignment import OptimalAssignments, optimal_assignments


def solve(x: np.ndarray, y: np.ndarray) -> OptimalAssignments:
    return optimal_assignments(torch.tensor(x, dtype=torch.float64), torch.tensor(y, dtype=torch.float64))


def least_cost(x: np.ndarray, y: np.ndarray) -> float:
    cost = cdist(x, y, "sqeuclidean")
    return cost[linear_sum_assignment(cost)].sum()


def swapped(x, rng):
    y = 1.1 * x
    y[:20] = y[:20][::-1]
    return x, y


def rotated(x, rng):
    turn, _ = np.linalg.qr(np.eye(x.shape[1]) + 0.5 * rng.normal(size=(x.shape[1],) * 2))
    return x, x @ turn


def duplicated(x, rng):
    y = x + 0.1 * rng.normal(size=x.shape)
    y[::3], x[1::4] = y[0], x[1]
    return x, y


#: Pairings from "the identity is optimal" to "nothing to do with it".
REGIMES = {
    "gradient of a convex function": lambda x, rng: (x, x + x**3),
    "translation": lambda x, rng: (x, x + 7),
    "swapped pairs": swapped,
    "noise": lambda x, rng: (x, x + 0.3 * rng.normal(size=x.shape)),
    "rotation": rotated,
    "duplicates": duplicated,
    "independent": lambda x, rng: (x, rng.normal(size=x.shape)),
    "reflection": lambda x, rng: (x, -x),
    "collapse to three points": lambda x, rng: (x, x[np.arange(len(x)) % 3]),
    "offset": lambda x, rng: (x + 100, x + 0.3 * rng.normal(size=x.shape) - 100),
    "single precision with an offset": lambda x, rng: tuple(
        (z + 100).astype(np.float32).astype(np.float64) for z in (x, x + 0.3 * rng.normal(size=x.shape))
    ),
    "tiny": lambda x, rng: (1e-9 * x, 1e-9 * (x + 0.3 * rng.normal(size=x.shape))),
    "huge and tiny": lambda x, rng: (1e9 * x, 1e-9 * (x + 0.3 * rng.normal(size=x.shape))),
}
#: Which solver takes the maps that are not optimal themselves, as (_FAR, _FEW): each alone answers everything.
ROUTES = {"by distance": (assignment._FAR, 0), "network simplex": (0.0, np.inf), "candidate pairs": (np.inf, 0)}


@pytest.fixture(params=ROUTES)
def route(request, monkeypatch):
    for name, value in zip(("_FAR", "_FEW"), ROUTES[request.param], strict=True):
        monkeypatch.setattr(assignment, name, value)
    return request.param


@pytest.mark.parametrize(("size", "dim"), [(60, 1), (150, 3), (400, 64)])
@pytest.mark.parametrize("regime", REGIMES)
def test_cost_is_scipys_in_every_regime(route, regime, size, dim):
    rng = np.random.default_rng(size)
    x, y = REGIMES[regime](rng.normal(size=(size, dim)), rng)
    found = solve(x, y)
    assert found.certified
    assert sorted(found.columns) == list(range(size))
    cost = cdist(x, y, "sqeuclidean")
    assert cost[np.arange(size), found.columns].sum() == pytest.approx(least_cost(x, y), rel=1e-12)


@pytest.mark.parametrize("size", [500, 2000])
def test_cost_is_scipys_in_the_dimension_of_images(size):
    rng = np.random.default_rng(11)
    x = rng.normal(size=(size, 3072))
    y = x + rng.normal(size=(size, 3072)) + rng.normal(size=(1, 3072)) * x.mean(1, keepdims=True)
    y[: size // 8] = y[size // 2 : size // 2 + size // 8]
    found = solve(x, y)
    assert found.certified
    assert np.square(x - y[found.columns]).sum() == pytest.approx(least_cost(x, y), rel=1e-12)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 5), st.floats(0, 1))
def test_cost_agrees_with_an_independent_solver(seed, size, dim, closeness):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(size, dim))
    y = closeness * x + (1 - closeness) * rng.normal(size=(size, dim))
    cost = cdist(x, y, "sqeuclidean")[np.arange(size), solve(x, y).columns].sum()
    assert cost == pytest.approx(least_cost(x, y), rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("regime", REGIMES)
def test_potentials_prove_optimality(route, regime):
    rng = np.random.default_rng(3)
    x, y = REGIMES[regime](rng.normal(size=(200, 5)), rng)
    found = solve(x, y)
    x, y = x - x.mean(0), y - y.mean(0)
    scale = np.linalg.norm(x, axis=1).max() * np.linalg.norm(y, axis=1).max()
    length = -(x @ y.T) - found.potentials
    own = length[np.arange(200), found.columns]
    assert (own - length.min(1)).max() <= 1e-13 * scale
    assert 2 * np.mean(own - length.min(1)) <= found.gap + 1e-13 * scale
    assert 0 <= found.gap <= 1e-12 * 2 * scale
    reduced = length - own[:, None]
    tied = np.zeros((200, 200), dtype=bool)
    tied[tuple(found.equality.T)] = True
    assert tied[reduced < 1e-13 * scale].all()
    assert not tied[reduced > 1e-11 * scale].any()


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 3), st.sampled_from(list(ROUTES)))
def test_range_is_that_of_all_optimal_permutations(seed, size, dim, chosen):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(-1, 2, size=(2, size, dim)).astype(float)
    cost = cdist(x, y, "sqeuclidean")
    rows = np.arange(size)
    permutations = np.array(list(itertools.permutations(range(size))))
    total = cost[rows, permutations].sum(1)
    identical = (permutations[total <= total.min() + 1e-9] == rows).sum(1)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in zip(("_FAR", "_FEW"), ROUTES[chosen], strict=True):
            patch.setattr(assignment, name, value)
        optimal = solve(x, y)
    for most, expected in ((False, identical.min()), (True, identical.max())):
        columns = optimal.extreme_identity(most=most)
        assert (columns == rows).sum() == expected
        assert cost[rows, columns].sum() == pytest.approx(total.min(), abs=1e-9)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 4))
def test_extremes_are_optimal_pairs_of_the_equality_graph(seed, size, dim):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(-2, 3, size=(2, size, dim)).astype(float)
    optimal = solve(x, y)
    pairs = set(map(tuple, optimal.equality.tolist()))
    for most in (False, True):
        columns = optimal.extreme_identity(most=most)
        assert sorted(columns) == list(range(size))
        assert pairs.issuperset(enumerate(columns.tolist()))
        assert cdist(x, y, "sqeuclidean")[np.arange(size), columns].sum() == pytest.approx(least_cost(x, y), rel=1e-12)


def test_a_constant_map_ties_everything():
    optimal = solve(np.random.default_rng(1).normal(size=(300, 4)), np.ones((300, 4)))
    assert len(optimal.equality) == 300**2
    assert (optimal.extreme_identity(most=False) == np.arange(300)).sum() == 0
    assert (optimal.extreme_identity(most=True) == np.arange(300)).all()


def test_an_optimal_map_needs_no_solver(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a solver was called")

    monkeypatch.setattr(assignment, "_network_simplex", refuse)
    monkeypatch.setattr(candidates, "min_weight_full_bipartite_matching", refuse)
    x = np.random.default_rng(2).normal(size=(1000, 4))
    for y in (x, 3 * x - 5, x + np.tanh(x), np.zeros_like(x)):
        optimal = solve(x, y)
        assert optimal.columns.tolist() == list(range(1000))
    assert solve(x, x + np.tanh(x)).extreme_identity(most=False).tolist() == list(range(1000))


def test_near_ties_above_the_tolerance_are_no_ties():
    # Exchanging the two images costs 2 * gap * 1 more; the radii are about 1.
    for gap, tied in ((1e-6, False), (1e-10, False), (1e-14, True)):
        x, y = np.array([[-0.5], [0.5]]), np.array([[-gap], [gap], [-1.0], [1.0]])
        x = np.concatenate([x, [[-3], [3]]])
        optimal = solve(x, y)
        assert (optimal.extreme_identity(most=False)[0] != 0) == tied
        assert optimal.extreme_identity(most=True).tolist() == [0, 1, 2, 3]


def test_tolerance_covers_what_storing_an_offset_costs():
    # Symmetric ties survive offsets of 1e4 only if the tolerance knows how coarsely such coordinates are stored.
    rng = np.random.default_rng(5)
    angle = rng.uniform(0, 2 * np.pi, 20)
    x = np.stack([np.cos(angle), np.sin(angle)], axis=1) / 3 + 1e4
    assert len(solve(x, np.full((20, 2), 0.1) + 1e4).equality) == 400


def test_tie_tolerance_grows_with_the_offset_and_the_dimension():
    x = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    epsilon = float(np.finfo(np.float64).eps)
    assert costs.Costs(x, x).tolerance == pytest.approx(costs.TIE_TOLERANCE + 32 * epsilon, rel=1e-9)
    far = costs.Costs(x + 1e6, x).tolerance - costs.TIE_TOLERANCE
    assert far == pytest.approx(16 * epsilon * (1e6 + 1 + 1), rel=1e-3)
    wide = torch.eye(40_000, 2, dtype=torch.float64).T
    assert costs.Costs(wide, wide).tolerance > 4 * costs.TIE_TOLERANCE


@pytest.mark.parametrize("dim", [1, 64, 3072])
def test_rounding_of_reduced_costs_stays_below_its_bound(dim):
    # The same products summed in extended precision. Vectors along one line make the bound as tight as it gets.
    rng = np.random.default_rng(dim)
    line = rng.uniform(0.5, 1, size=(1, dim)) * (1 + 1e-3 * rng.random((80, dim)))
    for x in (rng.normal(size=(80, dim)), line * rng.choice([-1, 1], size=(80, 1))):
        problem = costs.Costs(torch.tensor(x), torch.tensor(x[::-1].copy()))
        u, v = torch.tensor(rng.normal(size=(2, 80)))
        left, right = problem.x.numpy().astype(np.longdouble), problem.y.numpy().astype(np.longdouble)
        exact = -(right @ left.T) - u.numpy() - v.numpy()[:, None]
        for dtype, unit in ((torch.float64, 2.0**-53), (torch.float32, 2.0**-24)):
            a, b, c, d = (z.to(dtype) for z in (problem.y, problem.x, u, v))
            sides = (
                torch.cat([a, torch.ones_like(d)[:, None], d[:, None]], 1),
                torch.cat([-b, -c[:, None], -torch.ones_like(c)[:, None]], 1),
            )
            error = np.abs((sides[0] @ sides[1].T).numpy() - exact).max()
            assert 0 < error <= problem.rounding(u, v, unit=unit)


@pytest.mark.parametrize("dim", [1, 8, 3072])
def test_single_precision_hides_no_pair(dim):
    # Reduced costs from far below zero to far above it, many within single precision's rounding of zero.
    rng = np.random.default_rng(dim)
    x = torch.tensor(rng.normal(size=(150, dim)))
    problem = costs.Costs(x, x + 1e-4 * torch.tensor(rng.normal(size=(150, dim))))
    every, own = torch.arange(150), problem.of(torch.arange(150))
    for scale in (0, 1e-12, 1e-8, 1e-6, 1e-3):
        v = own / 2 + scale * torch.tensor(rng.normal(size=150))
        u = own - v
        exact = -(problem.y @ problem.x.T) - u - v[:, None]
        exact.fill_diagonal_(np.inf)
        wanted = set((exact.amin(1) <= problem.tolerance).nonzero()[:, 0].tolist())
        found = [(near, block.clone()) for _, near, block in problem.near(every, u, every, v)]
        assert wanted <= {j for near, _ in found for j in near.tolist()}
        for near, block in found:
            assert torch.allclose(block, exact[near], rtol=0, atol=problem.rounding(u, v))


@pytest.mark.parametrize("answer", ["identity", "reversed", "no assignment"])
def test_a_wrong_answer_of_the_simplex_is_found_out(monkeypatch, answer):
    import ot

    plans = {"identity": np.eye(40), "reversed": np.eye(40)[::-1], "no assignment": np.eye(40)[[0] * 40]}
    monkeypatch.setattr(ot, "emd", lambda *args, **kwargs: (plans[answer], {"v": np.zeros(40)}))
    monkeypatch.setattr(assignment, "_FEW", np.inf)
    x, y = np.random.default_rng(6).normal(size=(2, 40, 3))
    cost = cdist(x, y, "sqeuclidean")[np.arange(40), solve(x, y).columns].sum()
    assert cost == pytest.approx(least_cost(x, y), rel=1e-12)


def test_what_cannot_be_proved_is_an_error_not_an_answer(monkeypatch):
    def fail(costs, columns, v, **kwargs):
        every = torch.arange(len(v))
        return assignment._NoProof(v, candidates.Pairs(every, columns, costs.of(columns)), far=False)

    monkeypatch.setattr(assignment, "_certify", fail)
    x = np.arange(4.0)[:, None]
    with pytest.raises(RuntimeError, match="no certified assignment of these 4 points"):
        solve(x, x[::-1].copy())


def test_cycles_of_predecessors():
    def has_cycle(*parent):
        return len(candidates.cycles(torch.tensor(parent))) > 0

    assert not has_cycle(3, 3, 3)
    assert not has_cycle(1, 2, 3)
    assert has_cycle(1, 0, 3)
    assert has_cycle(1, 2, 0)
    assert not has_cycle(*range(1, 101))
    assert has_cycle(*range(1, 100), 0)


def test_a_long_chain_of_shortest_paths_is_not_taken_for_a_cycle():
    # On an evenly spaced line from zero potentials the news travels one point a round: the worst case, m rounds.
    x = torch.linspace(0, 1, 50, dtype=torch.float64)[:, None]
    problem = costs.Costs(x, x)
    proof = assignment._certify(problem, torch.arange(50), torch.zeros(50, dtype=torch.float64), patience=np.inf)
    assert isinstance(proof, OptimalAssignments)
    assert proof.columns.tolist() == list(range(50))


def test_costs_are_the_squared_distance_up_to_terms_of_one_index():
    rng = np.random.default_rng(9)
    x, y = rng.normal(size=(2, 20, 3)) * 5 + [1, 20, 300]
    problem = costs.Costs(torch.tensor(x), torch.tensor(y))
    cost = -(problem.x @ problem.y.T).numpy()
    assert np.abs(cost).max() <= 1
    rest = cdist(x, y, "sqeuclidean") - cost * problem.unit
    centred = rest - rest.mean(0) - rest.mean(1, keepdims=True) + rest.mean()
    assert centred == pytest.approx(np.zeros((20, 20)), abs=1e-9)


def test_radius_is_the_largest_norm_at_any_scale():
    points = torch.tensor([[3.0, 4.0], [0.0, -2.0], [5.0, 5.0]], dtype=torch.float64)
    for scale in (1e-200, 1e-3, 1.0, 1e200):
        assert costs.radius(points * scale) == pytest.approx(np.sqrt(50) * scale, rel=1e-14)
    assert costs.radius(torch.zeros(2, 3)) == 0


MEMORY = """
import resource, sys
import numpy as np, psutil, torch
from geolib.assignment import optimal_assignments

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

size = 12_000
x = torch.randn(size, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
y = x + x**3 + 0.7 * torch.sin(9 * x.flip(1))
optimal_assignments(x[:100], y[:100])
# The peak so far may lie above the present size. Filled up to it, any growth beyond is seen.
ballast = np.ones(max(0, peak() - psutil.Process().memory_info().rss), dtype=np.uint8)
before = peak()
assert 0.5 < (optimal_assignments(x, y).columns == range(size)).mean() < 1
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="peak memory is read through the resource module")
def test_costs_are_never_stored():
    # Even one byte for each of the 12,000^2 pairs would be 144 MB; the map is near optimal, so a solver is needed too.
    # Every large array is mapped on its own and unmapped when freed, so that the process's size is that of its arrays.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    run = subprocess.run([sys.executable, "-c", MEMORY], env=environment, capture_output=True, text=True, check=True)
    assert 1e6 < int(run.stdout) < 120e6


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with CUDA")
def test_clouds_on_a_gpu_give_the_same_answer():
    x = torch.randn(500, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for y in (x + x**3, x + 0.3 * x.flip(0), x.flip(1)):
        assert optimal_assignments(x.cuda(), y.cuda()).columns.tolist() == optimal_assignments(x, y).columns.tolist()
