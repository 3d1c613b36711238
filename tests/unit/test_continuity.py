"""Speed, length and action of the curve of clouds."""

import numpy as np
import pytest
import torch

import geolib

RNG = np.random.default_rng(0)


def line(layers=4, shift=(3.0, 4.0), pace=1.0):
    start = RNG.normal(size=(7, 2))
    t = np.linspace(0, 1, layers + 1) ** pace
    return start + t[:, None, None] * np.array(shift)


def test_a_translation_at_even_pace_has_its_distance_as_length_and_its_square_as_action():
    points = line()
    np.testing.assert_allclose(geolib.speed(points), [1.25] * 4)
    assert geolib.curve_length(points) == pytest.approx(5)
    assert geolib.action(points) == pytest.approx(25)


def test_a_bad_pace_costs_action_and_no_length():
    points = line(layers=200, pace=2.0)
    assert geolib.curve_length(points) == pytest.approx(5)
    assert geolib.action(points) == pytest.approx(25 * 4 / 3, rel=1e-3)  # the integral of (2 t)^2


def test_a_half_circle_is_pi_half_times_as_long_as_its_chord():
    angle = np.linspace(0, np.pi, 501)
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1)[:, None]
    assert geolib.curve_length(points) == pytest.approx(np.pi, rel=1e-5)
    assert geolib.action(points) == pytest.approx(np.pi**2, rel=1e-5)


def test_clouds_of_unequal_displacement_take_the_mean_square_within_a_layer():
    points = np.zeros((3, 2, 1))
    points[1:, 0], points[2:, 1] = 3, 4
    np.testing.assert_allclose(geolib.speed(points), [3 / np.sqrt(2), 4 / np.sqrt(2)])


def test_length_bounds_the_distance_of_the_end_clouds():
    points = RNG.normal(size=(6, 40, 3)).cumsum(0)
    distance = geolib.wasserstein2(points[0], points[-1])
    assert distance <= geolib.curve_length(points) <= np.sqrt(geolib.action(points))


def test_the_geodesic_attains_the_distance():
    x, y = RNG.normal(size=(2, 30, 3))
    curve = geolib.displacement_interpolation(x, y, np.linspace(0, 1, 6))
    distance = geolib.wasserstein2(x, y)
    assert geolib.curve_length(curve) == pytest.approx(distance)
    assert geolib.action(torch.from_numpy(curve)) == pytest.approx(distance**2)


@pytest.mark.parametrize("function", [geolib.speed, geolib.curve_length, geolib.action])
@pytest.mark.parametrize(
    ("points", "words"),
    [
        (np.zeros((1, 3, 2)), "at least one layer"),
        (np.zeros((3, 0, 2)), r"got \(3, 0, 2\)"),
        (np.zeros((3, 2)), r"got \(3, 2\)"),
        (np.array([[[0.0]], [[np.nan]]]), "1 values are not"),
    ],
)
def test_refusals(function, points, words):
    with pytest.raises(ValueError, match=words):
        function(points)
