"""Normal distributions: distance, map and geodesic against closed forms and against exact transport of samples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import sqrtm

import geolib

SEEDS = st.integers(0, 2**32 - 1)


def normal(rng, dim=3, rank=None):
    factor = rng.normal(size=(dim, rank or 2 * dim))
    return rng.normal(size=dim), factor @ factor.T / dim


def trace_formula(cov0, cov1):
    root = sqrtm(cov0).real
    return np.trace(cov0 + cov1 - 2 * sqrtm(root @ cov1 @ root).real)


@given(SEEDS)
def test_the_distance_is_that_of_the_trace_formula(seed):
    rng = np.random.default_rng(seed)
    (mean0, cov0), (mean1, cov1) = normal(rng), normal(rng)
    bures = trace_formula(cov0, cov1)
    assert geolib.bures_distance(cov0, cov1) ** 2 == pytest.approx(bures, rel=1e-6)
    distance = geolib.gaussian_wasserstein2(mean0, cov0, mean1, cov1)
    assert distance**2 == pytest.approx(((mean0 - mean1) ** 2).sum() + bures, rel=1e-6)


def test_in_one_dimension_it_is_the_distance_of_mean_and_standard_deviation():
    assert geolib.gaussian_wasserstein2([1], [[4]], [4], [[36]]) == pytest.approx(5)  # 3, 4, 5
    transport = geolib.gaussian_map([1], [[4]], [4], [[36]])
    np.testing.assert_allclose(transport([[1.0], [2.0]]), [[4], [7]])


def test_covariances_that_commute_differ_by_their_roots():
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    a, b = np.array([1.0, 2, 3, 0.5]), np.array([2.0, 2, 1, 5])
    cov0, cov1 = (axes * a**2) @ axes.T, (axes * b**2) @ axes.T
    assert geolib.bures_distance(cov0, cov1) == pytest.approx(np.linalg.norm(a - b))
    transport = geolib.gaussian_map(np.zeros(4), cov0, np.zeros(4), cov1)
    np.testing.assert_allclose(transport.matrix, (axes * (b / a)) @ axes.T, atol=1e-12)


def test_a_translation_costs_its_length_and_nothing_more():
    mean, cov = normal(np.random.default_rng(1))
    shift = np.array([2.0, -1, 2])
    assert geolib.gaussian_wasserstein2(mean, cov, mean + shift, cov) == pytest.approx(3, abs=1e-12)
    np.testing.assert_allclose(geolib.gaussian_map(mean, cov, mean + shift, cov).matrix, np.eye(3), atol=1e-12)


def test_equal_distributions_have_distance_zero_without_loss_of_half_the_digits():
    mean, cov = normal(np.random.default_rng(2), dim=8)
    assert geolib.gaussian_wasserstein2(mean, cov, mean, cov) < 1e-13


@given(SEEDS)
def test_the_map_is_symmetric_positive_and_takes_one_distribution_to_the_other(seed):
    rng = np.random.default_rng(seed)
    (mean0, cov0), (mean1, cov1) = normal(rng), normal(rng)
    transport = geolib.gaussian_map(mean0, cov0, mean1, cov1)
    assert transport.matrix.tolist() == transport.matrix.T.tolist()
    assert np.linalg.eigvalsh(transport.matrix)[0] > 0
    np.testing.assert_allclose(transport.matrix @ cov0 @ transport.matrix, cov1, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(transport(mean0), mean1, atol=1e-12)
    back = geolib.gaussian_map(mean1, cov1, mean0, cov0)
    np.testing.assert_allclose(back.matrix @ transport.matrix, np.eye(3), atol=1e-5)


@given(SEEDS)
def test_the_pairing_by_the_map_is_optimal_for_every_sample(seed):
    rng = np.random.default_rng(seed)
    (mean0, cov0), (mean1, cov1) = normal(rng), normal(rng)
    x = rng.multivariate_normal(mean0, cov0, size=40)
    assert geolib.optimal_transport_score(x, geolib.gaussian_map(mean0, cov0, mean1, cov1)(x)).lower == 1


def test_the_cost_of_the_map_is_the_distance():
    (mean0, cov0), (mean1, cov1) = (normal(np.random.default_rng(seed)) for seed in (3, 4))
    shift = np.eye(3) - geolib.gaussian_map(mean0, cov0, mean1, cov1).matrix
    cost = ((mean0 - mean1) ** 2).sum() + np.trace(shift @ cov0 @ shift)
    assert geolib.gaussian_wasserstein2(mean0, cov0, mean1, cov1) ** 2 == pytest.approx(cost)


@given(SEEDS)
def test_it_is_a_metric_that_rotations_and_scale_respect(seed):
    rng = np.random.default_rng(seed)
    a, b, c = (normal(rng) for _ in range(3))
    distance = geolib.gaussian_wasserstein2(*a, *b)
    assert distance == pytest.approx(geolib.gaussian_wasserstein2(*b, *a))
    assert distance <= geolib.gaussian_wasserstein2(*a, *c) + geolib.gaussian_wasserstein2(*c, *b) + 1e-12
    turn = 3 * np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turned = [(turn @ mean, turn @ cov @ turn.T) for mean, cov in (a, b)]
    assert geolib.gaussian_wasserstein2(*turned[0], *turned[1]) == pytest.approx(3 * distance)


def test_the_geodesic_has_constant_speed_and_its_points_follow_it():
    rng = np.random.default_rng(5)
    (mean0, cov0), (mean1, cov1) = normal(rng), normal(rng)
    transport = geolib.gaussian_map(mean0, cov0, mean1, cov1)
    length = geolib.gaussian_wasserstein2(mean0, cov0, mean1, cov1)
    times = [0, 0.2, 0.7, 1]
    for s in times:
        for t in times:
            distance = geolib.gaussian_wasserstein2(*transport.moments(s), *transport.moments(t))
            assert distance == pytest.approx(abs(s - t) * length, abs=1e-7)
    x = rng.multivariate_normal(mean0, cov0, size=50)
    mean, cov = transport.moments(0.3)
    half = transport(x, 0.3)
    matrix = 0.7 * np.eye(3) + 0.3 * transport.matrix
    np.testing.assert_allclose(half.mean(0) - mean, matrix @ (x.mean(0) - mean0), atol=1e-12)
    np.testing.assert_allclose(np.cov(half.T) - cov, matrix @ (np.cov(x.T) - cov0) @ matrix, atol=1e-12)


def test_the_distance_takes_flat_distributions_and_single_points():
    zero, flat = np.zeros((2, 2)), np.diag([4.0, 0])
    assert geolib.gaussian_wasserstein2([0, 0], zero, [3, 4], zero) == 5
    assert geolib.bures_distance(zero, np.eye(2)) == pytest.approx(np.sqrt(2))
    assert geolib.bures_distance(flat, np.diag([0, 9.0])) == pytest.approx(np.sqrt(13))
    rank_one = normal(np.random.default_rng(6), rank=1)[1]
    assert geolib.bures_distance(rank_one, rank_one) < 1e-7


def test_a_map_onto_a_flat_distribution_exists_and_one_from_it_is_refused():
    flat = np.diag([4.0, 0])
    transport = geolib.gaussian_map([0, 0], np.eye(2), [0, 0], flat)
    np.testing.assert_allclose(transport.matrix, np.diag([2.0, 0]), atol=1e-12)
    with pytest.raises(ValueError, match="positive definite"):
        geolib.gaussian_map([0, 0], flat, [0, 0], np.eye(2))


@pytest.mark.parametrize(
    ("cov", "words"),
    [
        ([[1, 0.5], [0, 1]], "symmetric"),
        ([[1, 2], [2, 1]], "negative eigenvalue"),
        ([[-1.0, 0], [0, -2]], "negative eigenvalue"),
        ([[np.nan, 0], [0, 1]], "finite"),
        ([1, 2], "shape"),
        (np.zeros((2, 3)), "shape"),
        (np.zeros((0, 0)), "shape"),
        (np.eye(3), "one space"),
    ],
)
def test_what_is_no_covariance_is_refused(cov, words):
    with pytest.raises(ValueError, match=words):
        geolib.bures_distance(np.eye(2), cov)
    with pytest.raises(ValueError, match=words):
        geolib.gaussian_map([0, 0], np.eye(2), [0, 0], cov)


@pytest.mark.parametrize("mean", [[0], [0, np.nan], 0, [[0, 0]]])
def test_a_mean_that_does_not_fit_is_refused(mean):
    with pytest.raises(ValueError, match="mean1"):
        geolib.gaussian_wasserstein2([0, 0], np.eye(2), mean, np.eye(2))


def test_points_of_another_space_and_times_off_the_curve_are_refused():
    transport = geolib.gaussian_map([0, 0], np.eye(2), [0, 0], np.eye(2))
    with pytest.raises(ValueError, match="shape"):
        transport(np.zeros((4, 3)))
    for t in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match=r"\[0, 1\]"):
            transport.moments(t)
        with pytest.raises(ValueError, match=r"\[0, 1\]"):
            transport([0, 0], t)
