"""Exact transport against closed forms, an independent solver, and its own certificate."""

import numpy as np
import pytest
import torch

from geolib.transport import displacement_interpolation, wasserstein2


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


def test_single_precision_input_is_computed_in_double():
    rng = np.random.default_rng(10)
    x, y = (rng.normal(size=(2, 80, 5)) + 100).astype(np.float32)
    assert wasserstein2(x, y) == wasserstein2(x.astype(np.float64), y.astype(np.float64))
    assert displacement_interpolation(x, y, 0.3).dtype == np.float64


def test_every_cloud_of_integers_is_accepted():
    assert wasserstein2([[0], [1]], [[2], [3]]) == 2
