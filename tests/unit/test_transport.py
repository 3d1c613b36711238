"""Exact transport against closed forms, an independent solver, and its own certificate."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from geolib import transport
from geolib.transport import displacement_interpolation, optimal_assignments, wasserstein2


def test_w2_of_a_translation_is_its_length():
    x = np.random.default_rng(0).normal(size=(100, 3))
    assert wasserstein2(x, x + np.array([3, 0, 4])) == pytest.approx(5, rel=1e-14)


def test_w2_on_the_line_pairs_sorted_points():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 200))
    expected = np.sqrt(np.mean((np.sort(x) - np.sort(y)) ** 2))
    assert wasserstein2(x[:, None], y[:, None]) == pytest.approx(expected, rel=1e-12)


def test_w2_of_clouds_of_unequal_size_is_the_quantile_distance():
    # Three points against two: the quantile functions differ on sixths of the unit interval.
    x, y = np.array([0.0, 1, 5])[:, None], np.array([2.0, 4])[:, None]
    square = (2 * (0 - 2) ** 2 + (1 - 2) ** 2 + (1 - 4) ** 2 + 2 * (5 - 4) ** 2) / 6
    assert wasserstein2(x, y) == pytest.approx(np.sqrt(square), rel=1e-14)
    assert wasserstein2(y, x) == pytest.approx(np.sqrt(square), rel=1e-14)
    assert wasserstein2(x, np.repeat(y, 3, axis=0)) == pytest.approx(np.sqrt(square), rel=1e-14)


def test_w2_of_gaussian_samples_under_their_monge_map():
    # Olkin and Pukelsheim: the map from N(0, A) to N(m, B) is affine and symmetric positive definite, and
    # W2^2 = |m|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2). Under the map itself the sample pairing is optimal.
    rng = np.random.default_rng(2)
    x = rng.normal(size=(400, 2)) * [1, 2]
    scale, shift = np.array([3, 0.5]), np.array([1, -1])
    y = x * scale + shift
    sample = np.sqrt(
        (np.square(x) * np.square(scale - 1)).sum(1).mean() + 2 * ((scale - 1) * shift * x.mean(0)).sum() + 2
    )
    assert wasserstein2(x, y) == pytest.approx(sample, rel=1e-12)
    exact = np.sqrt(2 + (1 * (3 - 1)) ** 2 + (2 * (0.5 - 1)) ** 2)
    assert wasserstein2(x, y) == pytest.approx(exact, rel=0.05)


def test_w2_is_exact_under_offsets():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, 150, 4))
    exact = wasserstein2(x, y)
    assert wasserstein2(x + 1e4, y + 1e4) == pytest.approx(exact, rel=1e-9)
    assert wasserstein2(x + 1e4, y) == pytest.approx(
        np.sqrt(exact**2 + 1e4**2 * 4 + 2e4 * (x - y).mean(0).sum()), rel=1e-12
    )


@pytest.mark.parametrize("scale", [1e-100, 1e-5, 1e100])
def test_w2_scales_with_the_clouds(scale):
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(2, 60, 3))
    assert wasserstein2(x * scale, y * scale) == pytest.approx(scale * wasserstein2(x, y), rel=1e-9)


def test_w2_of_a_cloud_to_itself_is_zero_and_takes_tensors():
    x = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    assert wasserstein2(x, x[torch.randperm(30, generator=torch.Generator().manual_seed(1))]) == 0


@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(1, 5), st.floats(0, 1))
def test_cost_agrees_with_an_independent_solver(seed, size, dim, closeness):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(size, dim))
    y = closeness * x + (1 - closeness) * rng.normal(size=(size, dim))
    cost = cdist(x, y, "sqeuclidean")
    rows, columns = linear_sum_assignment(cost)
    assert wasserstein2(x, y) ** 2 == pytest.approx(cost[rows, columns].mean(), rel=1e-12, abs=1e-15)


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 4))
def test_equality_graph_holds_every_optimal_pair(seed, size, dim):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(-2, 3, size=(2, size, dim)).astype(float)
    optimal = optimal_assignments(x, y)
    least = cdist(x, y, "sqeuclidean")[np.arange(size), optimal.columns].sum()
    for most in (False, True):
        columns = optimal.extreme_identity(most=most)
        assert sorted(columns) == list(range(size))
        assert optimal.equality[np.arange(size), columns].all()
        assert cdist(x, y, "sqeuclidean")[np.arange(size), columns].sum() == pytest.approx(least, rel=1e-12)


def test_near_ties_above_the_tolerance_are_no_ties():
    # Exchanging the two images costs 2 * gap * 1 more; the radii are about 1.
    for gap, tied in ((1e-6, False), (1e-10, False), (1e-14, True)):
        x, y = np.array([[-0.5], [0.5]]), np.array([[-gap], [gap], [-1.0], [1.0]])
        x = np.concatenate([x, [[-3], [3]]])
        optimal = optimal_assignments(x, y)
        assert (optimal.extreme_identity(most=False)[0] != 0) == tied
        assert optimal.extreme_identity(most=True).tolist() == [0, 1, 2, 3]


def test_tolerance_covers_what_storing_an_offset_costs():
    # Symmetric ties survive offsets of 1e4 only if the tolerance knows how coarsely such coordinates are stored.
    rng = np.random.default_rng(5)
    angle = rng.uniform(0, 2 * np.pi, 20)
    x = np.stack([np.cos(angle), np.sin(angle)], axis=1) / 3 + 1e4
    optimal = optimal_assignments(x, np.full((20, 2), 0.1) + 1e4)
    assert optimal.equality.all()


def test_a_wrong_first_solver_is_found_out_and_replaced(monkeypatch):
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(2, 40, 3))
    right = optimal_assignments(x, y).columns
    monkeypatch.setattr(transport, "_simplex_assignment", lambda cost: (np.arange(len(cost)), np.zeros(len(cost))))
    assert optimal_assignments(x, y).columns.tolist() == right.tolist()


def test_an_answer_that_is_no_permutation_is_not_certified(monkeypatch):
    x = np.random.default_rng(14).normal(size=(20, 2))
    zeros = np.zeros(20, dtype=int)
    monkeypatch.setattr(transport, "_simplex_assignment", lambda cost: (zeros, np.zeros(20)))
    assert optimal_assignments(x, x).columns.tolist() == list(range(20))


def test_two_wrong_solvers_are_an_error_not_an_answer(monkeypatch):
    for solver in ("_simplex_assignment", "_augmenting_path_assignment"):
        monkeypatch.setattr(transport, solver, lambda cost: (np.arange(len(cost)), np.zeros(len(cost))))
    x = np.arange(4.0)[:, None]
    with pytest.raises(RuntimeError, match="no solver found a certified assignment of 4 points"):
        optimal_assignments(x, x[::-1])


def test_reduced_costs_certify():
    rng = np.random.default_rng(7)
    cost = rng.normal(size=(30, 30))
    columns = linear_sum_assignment(cost)[1]
    reduced = transport._reduced_cost(cost, columns, np.zeros(30))
    assert reduced.min() >= -1e-13
    assert reduced[np.arange(30), columns] == pytest.approx(np.zeros(30), abs=1e-13)
    row, column = (reduced - cost)[:, 0], (reduced - cost)[0]
    assert reduced - cost == pytest.approx(row[:, None] + column - (reduced - cost)[0, 0], abs=1e-12)


def test_a_long_chain_of_relaxations_is_not_taken_for_a_cycle():
    # On an evenly spaced line from zero potentials the news travels one point a round: the worst case, m rounds.
    x = np.linspace(0, 1, 50)[:, None]
    cost = transport._normalised_cost(x, x)
    assert transport._reduced_cost(cost, np.arange(50), np.zeros(50)) is not None


def test_displacement_interpolation_is_a_geodesic_of_constant_speed():
    rng = np.random.default_rng(8)
    x, y = rng.normal(size=(2, 50, 2))
    times = [0, 0.25, 0.7, 1]
    curve = displacement_interpolation(x, y, times)
    assert curve.shape == (4, 50, 2)
    assert curve[0].tolist() == x.tolist()
    assert sorted(map(tuple, curve[-1])) == sorted(map(tuple, y))
    length = wasserstein2(x, y)
    for a, s in enumerate(times):
        for b, t in enumerate(times):
            assert wasserstein2(curve[a], curve[b]) == pytest.approx(abs(s - t) * length, abs=1e-12)


def test_displacement_interpolation_at_one_time_has_no_time_axis():
    x, y = np.array([[0.0, 0.0]]), np.array([[1.0, 2.0]])
    assert displacement_interpolation(x, y, 0.5).tolist() == [[0.5, 1.0]]


@pytest.mark.parametrize("t", [-0.1, 1.1, np.nan, [0, 2], [[0.5]]])
def test_displacement_interpolation_refuses_times_off_the_curve(t):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        displacement_interpolation([[0.0]], [[1.0]], t)


def test_displacement_interpolation_refuses_clouds_of_unequal_size():
    with pytest.raises(ValueError, match="equal size"):
        displacement_interpolation(np.zeros((2, 1)), np.zeros((3, 1)), 0.5)


def test_radius_is_the_largest_norm_at_any_scale():
    points = np.array([[3.0, 4.0], [0.0, -2.0], [5.0, 5.0]])
    for scale in (1e-200, 1e-3, 1.0, 1e200):
        assert transport._radius(points * scale) == pytest.approx(np.sqrt(50) * scale, rel=1e-14)
    assert transport._radius(np.zeros((2, 3))) == 0


def test_normalised_cost_is_the_squared_distance_up_to_terms_of_one_index():
    rng = np.random.default_rng(9)
    x, y = rng.normal(size=(2, 20, 3)) * 5 + [1, 20, 300]
    cost = transport._normalised_cost(x, y)
    assert np.abs(cost).max() <= 1
    radii = np.linalg.norm(x - x.mean(0), axis=1).max() * np.linalg.norm(y - y.mean(0), axis=1).max()
    rest = cdist(x, y, "sqeuclidean") / 2 - cost * radii
    centred = rest - rest.mean(0) - rest.mean(1, keepdims=True) + rest.mean()
    assert centred == pytest.approx(np.zeros((20, 20)), abs=1e-9)


def test_tie_tolerance_grows_with_how_far_the_clouds_are_from_the_origin():
    x = np.array([[1.0], [-1.0]])
    epsilon = np.finfo(np.float64).eps
    assert transport._tie_tolerance(x, x) == pytest.approx(transport.TIE_TOLERANCE + 32 * epsilon, rel=1e-9)
    far = transport._tie_tolerance(x + 1e6, x) - transport.TIE_TOLERANCE
    assert far == pytest.approx(16 * epsilon * (1e6 + 1 + 1), rel=1e-3)


def test_single_precision_input_is_computed_in_double():
    rng = np.random.default_rng(10)
    x, y = (rng.normal(size=(2, 80, 5)) + 100).astype(np.float32)
    assert wasserstein2(x, y) == wasserstein2(x.astype(np.float64), y.astype(np.float64))
    assert displacement_interpolation(x, y, 0.3).dtype == np.float64


def test_every_cloud_of_integers_is_accepted():
    assert wasserstein2([[0], [1]], [[2], [3]]) == 2


@pytest.mark.parametrize(("size", "dim"), [(400, 3072), (1000, 4)])
def test_large_problems_are_certified(size, dim):
    rng = np.random.default_rng(11)
    x = rng.normal(size=(size, dim))
    y = rng.normal(size=(size, dim)) + x.mean(1, keepdims=True)
    y[: size // 4] = y[size // 2 : size // 2 + size // 4]  # duplicates
    cost = cdist(x, y, "sqeuclidean")
    rows, columns = linear_sum_assignment(cost)
    assert wasserstein2(x, y) ** 2 == pytest.approx(cost[rows, columns].mean(), rel=1e-12)
