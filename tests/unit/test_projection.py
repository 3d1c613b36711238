"""The plane is the right one, its sign is settled, what it hides is said; the choice of points is fair."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import geolib
from geolib.projection import unpack_tracks


def planar(rng, dim=7, layers=4, points=30):
    """Return tracks in a random plane of a space, their coordinates in it, and the plane's axes."""
    axes = np.linalg.qr(rng.normal(size=(dim, 2)))[0].T
    coordinates = rng.normal(size=(layers + 1, points, 2)) * [3, 1]
    return coordinates @ axes + rng.normal(size=dim), coordinates, axes


def test_planar_tracks_are_recovered_up_to_a_rigid_motion():
    path, coordinates, axes = planar(np.random.default_rng(0))
    projection = geolib.Projection.fit(path)
    drawn = projection(path)
    assert drawn.shape == coordinates.shape
    assert projection.variance_explained(path) == pytest.approx(1)
    gaps, true_gaps = (np.linalg.norm(p.reshape(-1, 1, 2) - p.reshape(1, -1, 2), axis=2) for p in (drawn, coordinates))
    assert gaps == pytest.approx(true_gaps)
    assert projection.axes @ projection.axes.T == pytest.approx(np.eye(2))
    assert projection.axes @ axes.T @ axes == pytest.approx(projection.axes)  # they span the same plane
    assert drawn.reshape(-1, 2).mean(0) == pytest.approx([0, 0])


def test_variance_explained_is_the_share_of_the_two_largest_principal_variances():
    # Independent axes with exactly known variances: +-a_k along axis k, nothing else.
    widths = np.array([1.0, 4.0, 2.0, 3.0])
    points = np.concatenate([np.diag(widths), -np.diag(widths)])
    projection = geolib.Projection.fit(points + 100)
    assert projection.variance_explained(points) == pytest.approx((16 + 9) / (1 + 4 + 9 + 16))
    assert np.abs(projection.axes) == pytest.approx(np.eye(4)[[1, 3]])
    # Other points are judged about their own mean, in the same plane.
    assert projection.variance_explained(points[[0, 4]] - 7) == pytest.approx(0)
    assert projection.variance_explained(points[[1, 5, 3, 7]] - 7) == pytest.approx(1)


def test_the_sign_is_settled_by_the_largest_entry_and_does_not_follow_the_order_of_points():
    path, _, _ = planar(np.random.default_rng(1))
    projection = geolib.Projection.fit(path)
    largest = np.abs(projection.axes).argmax(1)
    assert (projection.axes[[0, 1], largest] > 0).all()
    for other in (path[::-1], path[:, ::-1], path * 10 - 3):
        assert geolib.Projection.fit(other).axes == pytest.approx(projection.axes)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.ones((5, 3)), "all the same have no principal axes"),
        (np.ones((5, 1)), r"dim >= 2; got shape \(5, 1\)"),
        (np.ones((1, 4)), r"got shape \(1, 4\)"),
        (np.ones(4), r"got shape \(4,\)"),
        (np.array([[1, 2], [np.nan, 0], [0, 0]]), "values that are not finite"),
    ],
)
def test_refuses_what_spans_no_plane(points, message):
    with pytest.raises(ValueError, match=message):
        geolib.Projection.fit(points)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(1, 70))
def test_the_choice_of_points_is_balanced(labels, count):
    labels = np.array(labels)
    chosen = geolib.balanced_choice(labels, count)
    assert len(chosen) == min(count, len(labels))
    assert (np.diff(chosen) > 0).all()
    taken = {label: (labels[chosen] == label).sum() for label in np.unique(labels)}
    most = max(taken.values())
    for label, number in taken.items():
        own = np.flatnonzero(labels == label)
        assert number >= most - 1 or number == len(own)  # behind the others only when it has run out
        assert set(own[:number]) <= set(chosen)  # the first ones of the class


def test_the_first_of_each_class_are_chosen():
    assert geolib.balanced_choice([3, 3, 3, 1, 1, 2], 4).tolist() == [0, 3, 4, 5]  # class 1 has its turn before 3
    with pytest.raises(ValueError, match="count >= 1"):
        geolib.balanced_choice([1], 0)


def test_walks_share_starts_and_step_lengths_and_nothing_else():
    path = torch.randn(6, 400, 40, generator=torch.Generator().manual_seed(0)).cumsum(0)
    path[3] = path[2]  # a step of length zero stays one
    walk = geolib.random_walk_like(geolib.Tracks((path,)), seed=1).points
    assert torch.equal(walk[0], path[0].double())
    lengths, own = (np.linalg.norm(np.diff(p.double().numpy(), axis=0), axis=2) for p in (walk, path))
    assert lengths == pytest.approx(own)
    steps = np.diff(walk.numpy(), axis=0)[[0, 1, 3, 4]]
    cosines = (steps[1:] * steps[:-1]).sum(2) / (own[[1, 3, 4]] * own[[0, 1, 3]])
    assert abs(cosines.mean()) < 4 / np.sqrt(40 * cosines.size)
    assert not torch.equal(walk, geolib.random_walk_like(geolib.Tracks((path,)), seed=2).points)
    both = geolib.random_walk_like(geolib.Tracks((path, path[:2])), seed=1)
    assert [stage.shape for stage in both.stages] == [path.shape, path[:2].shape]


def test_a_walk_of_even_steps_scores_as_the_random_walk_null():
    starts = torch.randn(500, 64, generator=torch.Generator().manual_seed(0))
    straight = starts + torch.arange(11.0)[:, None, None]
    walk = geolib.random_walk_like(geolib.Tracks((straight,)))
    null = geolib.line_shape_null(10, 64).mean()
    assert geolib.track_scores(walk)["lss"] == pytest.approx(null, rel=0.02)


def test_packed_tracks_come_back_to_four_digits():
    path = np.random.default_rng(0).normal(size=(5, 8, 2)) * 10.0 ** np.arange(-4, 4)[:, None]
    text = geolib.pack_tracks(path)
    assert len(text) == 8
    assert unpack_tracks(text) == pytest.approx(path, rel=1e-3)
    assert geolib.pack_tracks(unpack_tracks(text)) == text
