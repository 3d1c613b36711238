"""The distance of tracks, and the bound that straight tracks at one pace obey where ends do not turn against starts."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import geolib
from geolib.separation import TrackSeparation

seeds = st.integers(0, 2**32 - 1)


def straight(start, end, layers=10, pace=lambda t: t):
    t = pace(np.linspace(0, 1, layers + 1))[:, None, None]
    return (1 - t) * np.array(start, dtype=float) + t * np.array(end, dtype=float)


def wandering(seed, layers=4, points=9, dim=3):
    return np.random.default_rng(seed).normal(size=(layers + 1, points, dim)).cumsum(0)


def test_ends_at_right_angles_attain_the_bound():
    # a = (3, 0), b = (0, 4): the altitude of the triangle with sides 3, 4, 5, reached at t = 9/25
    tracks = straight([[3, 0], [0, 0]], [[0, 4], [0, 0]], layers=25)
    np.testing.assert_allclose(geolib.track_distance(tracks), [12 / 5])
    pair = TrackSeparation.of(tracks)
    np.testing.assert_allclose([pair.bound, pair.straight, pair.straight_at_layers], 12 / 5)
    np.testing.assert_allclose([*pair.start, *pair.end, *pair.inner, *pair.cosine], [3, 4, 0, 0], atol=1e-15)
    assert not pair.violated()


def test_a_layer_beside_the_closest_time_stays_above_the_bound():
    pair = TrackSeparation.of(straight([[3, 0], [0, 0]], [[0, 4], [0, 0]], layers=2))
    assert pair.distance[0] == pytest.approx(2.5)  # |(1.5, 2)| at t = 1/2
    assert pair.straight_at_layers[0] == pytest.approx(2.5)
    assert pair.straight[0] == pytest.approx(2.4)


def test_parallel_tracks_keep_their_distance_and_have_room():
    pair = TrackSeparation.of(straight([[0, 0], [0, 1]], [[5, 0], [5, 1]]))
    np.testing.assert_allclose([pair.distance, pair.straight, pair.straight_at_layers], 1)
    np.testing.assert_allclose(pair.bound, 2**-0.5)
    np.testing.assert_allclose(pair.cosine, 1)


def test_tracks_that_cross_at_one_time_meet_and_violate():
    pair = TrackSeparation.of(straight([[0, 0], [0, 1]], [[5, 1], [5, 0]]))
    np.testing.assert_allclose([pair.distance, pair.straight], 0, atol=1e-7)
    assert pair.violated()
    assert pair.violated(pair.straight)
    np.testing.assert_allclose(pair.cosine, -1)


def test_another_pace_breaks_the_bound_between_the_same_ends():
    early, late = straight([[0.0]], [[3.0]], pace=lambda t: t**0.3), straight([[1.0]], [[4.0]], pace=lambda t: t**4)
    pair = TrackSeparation.of(np.concatenate([early, late], axis=1))
    assert pair.violated()
    assert not pair.violated(pair.straight)  # the same ends, straight at one pace


def test_a_common_detour_is_not_seen():
    tracks = straight([[0, 0], [1, 2]], [[4, 0], [3, 5]])
    bent = tracks + np.sin(np.linspace(0, 7, 11))[:, None, None]
    np.testing.assert_allclose(geolib.track_distance(bent), geolib.track_distance(tracks))


def test_coinciding_ends_have_the_bound_zero_and_violate_nothing():
    pair = TrackSeparation.of(straight([[0, 0], [0, 1], [0, 0]], [[1, 1], [1, 1], [2, 2]]))
    np.testing.assert_array_equal(pair.bound[:2], 0)
    np.testing.assert_array_equal(pair.distance[:2], 0)
    assert not pair.violated()[:2].any()
    assert np.isnan(pair.cosine[:2]).all()


@given(seeds, st.integers(1, 6), st.integers(2, 12), st.integers(1, 4))
def test_brute_force_agrees(seed, layers, points, dim):
    x = wandering(seed, layers, points, dim)
    pairs = list(itertools.combinations(range(points), 2))
    d = [min(np.linalg.norm(layer[i] - layer[j]) for layer in x) for i, j in pairs]
    a, b = (np.array([layer[i] - layer[j] for i, j in pairs]) for layer in (x[0], x[-1]))
    lengths = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    t = np.linspace(0, 1, 2001)[:, None, None]
    apart = np.linalg.norm((1 - t) * a + t * b, axis=2).min(0)
    steps = np.linspace(0, 1, layers + 1)[:, None, None]
    found = TrackSeparation.of(x)
    np.testing.assert_allclose(found.distance, d)
    np.testing.assert_allclose(geolib.track_distance(x), d)
    np.testing.assert_allclose((found.start, found.end), lengths)
    np.testing.assert_allclose(found.inner, (a * b).sum(1), atol=1e-12 * max(map(max, lengths)) ** 2)
    np.testing.assert_allclose(found.bound, lengths[0] * lengths[1] / np.hypot(*lengths))
    np.testing.assert_allclose(found.straight, apart, atol=2e-3 * max(map(max, lengths)))
    assert (found.straight <= apart + 1e-7).all()
    at_layers = np.linalg.norm((1 - steps) * a + steps * b, axis=2).min(0)
    np.testing.assert_allclose(found.straight_at_layers, at_layers, atol=1e-6)


@given(seeds)
def test_closed_form_of_the_segments_distance(seed):
    pair = TrackSeparation.of(wandering(seed))
    a, b, inner = pair.start, pair.end, pair.inner
    gap = np.sqrt(a**2 + b**2 - 2 * inner)
    inside = inner < np.minimum(a, b) ** 2
    expected = np.where(inside, np.sqrt(np.maximum((a * b) ** 2 - inner**2, 0)) / gap, np.minimum(a, b))
    np.testing.assert_allclose(pair.straight, expected, rtol=1e-6, atol=1e-6)
    # Straight tracks violate the bound exactly where the ends turn against the starts.
    np.testing.assert_array_equal(pair.violated(pair.straight, tolerance=0), inner < 0)
    assert (pair.straight_at_layers - pair.straight <= gap**2 / (8 * pair.layers**2 * pair.straight) + 1e-12).all()


@given(seeds)
def test_the_bound_lies_between_the_shorter_end_and_its_half_diagonal(seed):
    pair = TrackSeparation.of(wandering(seed))
    shorter = np.minimum(pair.start, pair.end)
    assert (pair.bound <= shorter).all()
    assert (pair.bound >= shorter / np.sqrt(2) * (1 - 1e-12)).all()
    assert (pair.distance <= np.sqrt(2) * pair.bound * (1 + 1e-12)).all()  # the ends are layers


@given(seeds, st.integers(2, 25), st.integers(1, 4), st.integers(1, 9))
def test_optimal_assignments_never_violate(seed, points, dim, layers):
    x, y = np.random.default_rng(seed).normal(size=(2, points, dim)) * [[[3.0]], [[1.0]]]
    pair = TrackSeparation.of(geolib.displacement_interpolation(x, y, np.linspace(0, 1, layers + 1) ** 2))
    assert (pair.inner >= -1e-12).all()
    assert not pair.violated(tolerance=1e-9).any()


@given(seeds, st.floats(0.01, 100))
def test_rotation_translation_scale_and_order_of_points_do_not_matter(seed, scale):
    x = wandering(seed)
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    shift = rng.normal(size=(len(x), 1, 3))  # another one at each layer
    moved = TrackSeparation.of(scale * (x @ rotation) + shift)
    found = TrackSeparation.of(x)
    for name, power in {"distance": 1, "start": 1, "end": 1, "bound": 1, "straight": 1, "inner": 2}.items():
        size = scale**power
        np.testing.assert_allclose(getattr(moved, name), size * getattr(found, name), rtol=1e-6, atol=1e-5 * size)
    order = rng.permutation(x.shape[1])
    i, j = np.triu_indices(len(order), 1)
    square = np.zeros((len(order),) * 2)
    square[i, j] = square[j, i] = found.distance
    np.testing.assert_allclose(geolib.track_distance(x[:, order]), square[order[i], order[j]])


def test_pairs_of_many_blocks_stand_in_the_order_of_the_upper_triangle(monkeypatch):
    monkeypatch.setattr("geolib.separation._BLOCK", 50)
    x = wandering(0, layers=2, points=150, dim=2)
    i, j = np.triu_indices(150, 1)
    np.testing.assert_allclose(geolib.track_distance(x), np.linalg.norm(x[:, i] - x[:, j], axis=2).min(0))


def test_tracks_in_single_precision_are_taken_as_they_are():
    x = torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(geolib.track_distance(x), geolib.track_distance(x.double()))


@pytest.mark.parametrize("function", [geolib.track_distance, TrackSeparation.of])
@pytest.mark.parametrize(
    ("points", "words"),
    [
        (np.zeros((3, 1, 2)), "at least two points; got one"),
        (np.zeros((1, 3, 2)), "at least one layer"),
        (np.zeros((3, 4)), r"got \(3, 4\)"),
        (np.array([[[0.0], [1.0]], [[np.nan], [1.0]]]), "1 values are not"),
    ],
)
def test_refusals(function, points, words):
    with pytest.raises(ValueError, match=words):
        function(points)


@pytest.mark.parametrize("shape", [(36, 1), (1, 36), (1,), (), (35,)])
def test_distances_that_are_not_one_a_pair_are_refused(shape):
    pair = TrackSeparation.of(wandering(0))  # 36 pairs
    with pytest.raises(ValueError, match=r"shape \(36,\); got shape"):
        pair.violated(np.ones(shape))
