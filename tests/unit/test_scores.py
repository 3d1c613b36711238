"""LSS, OTS and displacement against closed forms, invariances, an independent enumeration, and refusals."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import geolib
from geolib.scores import is_dead, line_shape_null, line_shape_score, optimal_transport_score


def straight(lengths: list[float], direction: list[float]) -> np.ndarray:
    """One track along `direction` with steps of the given lengths, shape (layers + 1, 1, dim)."""
    return np.concatenate([[0], np.cumsum(lengths)])[:, None, None] * np.array(direction)


def random_rotation(dim: int, rng: np.random.Generator) -> np.ndarray:
    return np.linalg.qr(rng.normal(size=(dim, dim)))[0]


def plane_rotation(dim: int, angle: float) -> np.ndarray:
    """Rotation by `angle` in each of the dim / 2 coordinate planes."""
    c, s = math.cos(angle), math.sin(angle)
    return np.kron(np.eye(dim // 2), [[c, -s], [s, c]])


# --- LSS, closed forms ---


@pytest.mark.parametrize("lengths", [[1.0], [1, 1, 1], [0.1, 5, 2.5, 1e-9], [1e-300, 1e-200], [1e200, 1e300]])
def test_lss_of_a_straight_line_is_one_at_any_pace(lengths):
    assert line_shape_score(straight(lengths, [0.6, 0.8])) == pytest.approx([1.0], rel=1e-15)


@pytest.mark.parametrize("layers", [2, 5, 40])
def test_lss_of_a_semicircle(layers):
    # n chords turn by pi/n each; their unit vectors sum to a vector of length 1 / sin(pi / 2n).
    angle = np.linspace(0, math.pi, layers + 1)
    arc = np.stack([np.cos(angle), np.sin(angle)], axis=-1)[:, None, :]
    assert line_shape_score(arc) == pytest.approx([layers * math.sin(math.pi / (2 * layers))], rel=1e-12)


def test_lss_of_a_right_angle_ignores_the_lengths_of_its_steps():
    corner = np.array([[0, 0], [7, 0], [7, 0.01]], dtype=float)[:, None]
    assert line_shape_score(corner) == pytest.approx([math.sqrt(2)], rel=1e-14)


def test_lss_leaves_out_steps_of_length_zero_and_counts_the_others():
    corner = np.array([[0, 0], [1, 0], [1, 0], [1, 2], [1, 2]], dtype=float)[:, None]
    assert line_shape_score(corner) == pytest.approx([math.sqrt(2)], rel=1e-14)


def test_lss_is_nan_for_a_track_that_never_moves_and_infinite_for_directions_that_cancel():
    still, back = np.zeros((3, 1, 2)), np.array([[0, 0], [1, 0], [0, 0]], dtype=float)[:, None]
    score = line_shape_score(np.concatenate([still, back], axis=1))
    assert np.isnan(score[0])
    assert score[1] == math.inf


def test_lss_scores_each_track_on_its_own():
    line, corner = straight([1, 1], [1.0, 0.0]), np.array([[0, 0], [1, 0], [1, 1]], dtype=float)[:, None]
    assert line_shape_score(np.concatenate([line, corner], axis=1)) == pytest.approx([1, math.sqrt(2)])


def test_lss_of_tracks_of_very_different_size_in_one_call():
    corner = np.array([[0, 0], [1, 0], [1, 1]], dtype=float)[:, None]
    scores = line_shape_score(np.concatenate([corner * 1e-200, corner * 1e200, 0 * corner], axis=1))
    assert scores[:2] == pytest.approx([math.sqrt(2)] * 2)
    assert np.isnan(scores[2])


def test_lss_is_computed_in_double_precision_and_without_warnings():
    track = np.random.default_rng(9).normal(size=(5, 7, 3)).astype(np.float32)
    still = np.zeros((5, 1, 3), dtype=np.float32)
    with np.errstate(all="raise"):
        scores = line_shape_score(np.concatenate([track, still], axis=1))
    assert scores[:-1].tolist() == line_shape_score(track.astype(np.float64)).tolist()
    assert scores.dtype == np.float64


def test_lss_takes_tensors():
    assert line_shape_score(torch.from_numpy(straight([1, 2], [1.0, 0.0]))) == pytest.approx([1.0])


@given(st.integers(0, 2**32 - 1), st.floats(-50, 50), st.sampled_from([1e-150, 1e-3, 7.0, 1e120]))
def test_lss_is_at_least_one_and_ignores_translation_rotation_and_scale(seed, shift, scale):
    rng = np.random.default_rng(seed)
    track = rng.normal(size=(6, 4, 3))
    score = line_shape_score(track)
    assert (score >= 1 - 1e-12).all()
    assert line_shape_score(track + shift) == pytest.approx(score, rel=1e-9)
    assert line_shape_score(track @ random_rotation(3, rng)) == pytest.approx(score, rel=1e-9)
    assert line_shape_score(track * scale) == pytest.approx(score, rel=1e-9)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((3, 2)), "shape"),
        (np.zeros((1, 4, 2)), "at least one layer"),
        (np.zeros((3, 0, 2)), "point"),
        (np.zeros((3, 4, 0)), "dimension"),
        (np.full((3, 1, 2), np.nan), "finite"),
        (np.array([[[0.0]], [[np.inf]]]), "finite"),
    ],
)
def test_lss_refuses(points, message):
    with pytest.raises(ValueError, match=message):
        line_shape_score(points)


# --- dead networks ---


def test_a_moving_spread_out_network_is_alive():
    tracks = np.random.default_rng(0).normal(size=(4, 200, 3)) + 50
    assert not is_dead(tracks)
    assert not is_dead(tracks * 1e-30)
    assert is_dead(torch.zeros(4, 200, 3))


@pytest.mark.parametrize(("still", "dead"), [(2, False), (3, True)])
def test_more_than_one_percent_of_still_tracks_is_dead(still, dead):
    tracks = np.random.default_rng(1).normal(size=(4, 200, 3))
    tracks[:, :still] = tracks[0, :still]
    assert is_dead(tracks) == dead


@pytest.mark.parametrize("layer", [0, -1])
def test_a_cloud_that_is_one_point_is_dead_although_its_tracks_are_straight(layer):
    tracks = np.random.default_rng(2).normal(size=(2, 100, 3))
    tracks[layer] = np.float32(3.7) + np.random.default_rng(3).normal(size=(100, 3)) * 1e-7
    assert line_shape_score(tracks) == pytest.approx(np.ones(100))
    assert is_dead(tracks)


# --- nulls ---


def test_walk_null_in_high_dimension_is_about_sqrt_n():
    assert line_shape_null(10, 64, draws=4000).mean() / math.sqrt(10) == pytest.approx(1.01, abs=0.02)


def test_walk_null_on_a_line_has_the_binomial_mean():
    # In one dimension the directions are signs: LSS = 3 / |sum of 3 signs| = 1 with probability 1/4, else 3.
    scores = line_shape_null(3, 1, draws=20000)
    assert set(np.round(scores, 12)) == {1.0, 3.0}
    assert scores.mean() == pytest.approx(0.25 * 1 + 0.75 * 3, abs=0.03)


def test_independent_layers_have_lss_about_n():
    # Unit steps between independent normal points telescope: cos(s_l, s_{l+1}) is -1/2 and further steps are
    # orthogonal, so |sum|^2 is n - (n - 1) = 1 in high dimension.
    assert np.median(line_shape_null(10, 2000, kind="independent", draws=500)) == pytest.approx(10, rel=0.02)


def test_null_is_reproducible_and_follows_its_seed():
    assert line_shape_null(4, 3, draws=5).tolist() == line_shape_null(4, 3, draws=5, seed=0).tolist()
    assert line_shape_null(4, 3, draws=5, seed=1).tolist() != line_shape_null(4, 3, draws=5).tolist()
    assert line_shape_null(4, 3).shape == (2000,)


@pytest.mark.parametrize("arguments", [(0, 3), (3, 0)])
def test_null_refuses_empty_sizes(arguments):
    with pytest.raises(ValueError, match="draws >= 1; got"):
        line_shape_null(*arguments)


def test_null_takes_one_layer_one_dimension_one_draw_and_refuses_no_draw():
    assert line_shape_null(1, 1, draws=1).tolist() == [1.0]
    with pytest.raises(ValueError, match="draws >= 1"):
        line_shape_null(1, 1, draws=0)


def test_null_refuses_an_unknown_kind():
    with pytest.raises(ValueError, match="unknown null 'drift'; choose 'walk' or 'independent'"):
        line_shape_null(3, 3, kind="drift")


# --- OTS, closed forms ---


def test_translation_is_optimal_and_unique():
    x = np.random.default_rng(0).normal(size=(200, 5))
    result = optimal_transport_score(x, x + 3)
    assert (result.score, result.lower, result.upper, result.cost_ratio) == (1, 1, 1, 1)
    assert result.assignment.tolist() == list(range(200))


def test_gradient_of_a_convex_function_is_optimal():
    # Brenier: x -> A x + tanh(x) with A symmetric positive definite is the gradient of a convex function.
    rng = np.random.default_rng(1)
    x, root = rng.normal(size=(300, 4)), rng.normal(size=(4, 4))
    result = optimal_transport_score(x, x @ (root @ root.T + 0.01 * np.eye(4)) + np.tanh(x))
    assert result.lower == 1


def test_rotation_in_low_dimension_is_not_optimal():
    x = np.random.default_rng(2).normal(size=(500, 8))
    result = optimal_transport_score(x, x @ plane_rotation(8, math.pi / 4).T)
    assert result.upper < 0.2
    assert result.cost_ratio < 0.95


def test_swapped_pair_loses_both_points():
    x = np.arange(10.0)[:, None]
    y = x.copy()
    y[[3, 4]] = y[[4, 3]]
    result = optimal_transport_score(x, y)
    assert result.lower == result.upper == 0.8
    assert result.assignment.tolist() == [0, 1, 2, 4, 3, 5, 6, 7, 8, 9]
    assert result.cost_ratio == 0  # x and y are the same cloud: W2 = 0, yet the map moves two points


def test_reflection_of_the_line_has_the_known_cost_ratio():
    # x -> -x on {-2, -1, 1, 2}: W2 = 0 for a symmetric cloud shifted by 1, so W2^2 = 1 and E|x - f(x)|^2 = 1 + 4 E x^2.
    x = np.array([-2.0, -1, 1, 2])[:, None]
    assert optimal_transport_score(x, 1 - x).cost_ratio == pytest.approx(1 / 11, rel=1e-14)


# --- OTS, ties ---


@pytest.mark.parametrize("order", [lambda n: np.arange(n), lambda n: np.random.default_rng(3).permutation(n)])
def test_constant_map_has_the_whole_range(order):
    x = np.random.default_rng(4).normal(size=(60, 3))[order(60)]
    result = optimal_transport_score(x, np.full((60, 3), 0.1))
    assert (result.lower, result.upper, result.score) == (0, 1, 0)
    assert result.cost_ratio == 1
    assert sorted(result.assignment) == list(range(60))


def test_identity_on_distinct_points_is_one():
    x = np.random.default_rng(5).normal(size=(50, 3))
    result = optimal_transport_score(x, x)
    assert (result.lower, result.upper, result.cost_ratio) == (1, 1, 1)


def test_a_single_point_is_always_optimal():
    result = optimal_transport_score([[1.0, 2.0]], [[5.0, 6.0]])
    assert (result.lower, result.upper, result.cost_ratio) == (1, 1, 1)


def test_duplicated_images_tie_pairwise():
    # Points 2k and 2k+1 share one image: either pairing of the two is optimal.
    x = np.arange(12.0)[:, None]
    y = np.repeat(np.arange(6.0), 2)[:, None] * 5
    result = optimal_transport_score(x, y)
    assert (result.lower, result.upper) == (0, 1)


def test_square_turned_by_a_right_angle_ties_without_duplicates():
    # The corners of a square against its edge midpoints: each midpoint is equally near to two corners, and the two
    # rotations of the pairing are the only optimal assignments.
    corners = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]], dtype=float)
    midpoints = np.array([[0, 1], [-1, 0], [0, -1], [1, 0]], dtype=float)
    result = optimal_transport_score(corners, midpoints)
    assert (result.lower, result.upper) == (0, 1)
    assert result.assignment.tolist() == [3, 0, 1, 2]


def brute_force(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Lower, upper and minimal mean cost by trying every permutation, in exact integer arithmetic."""
    cost = ((x[:, None] - y[None]) ** 2).sum(2)
    rows = list(range(len(x)))
    totals = {p: int(cost[rows, list(p)].sum()) for p in itertools.permutations(rows)}
    least = min(totals.values())
    fixed = [sum(i == j for i, j in enumerate(p)) for p, total in totals.items() if total == least]
    return min(fixed) / len(x), max(fixed) / len(x), least / len(x)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 2), st.sampled_from([0.0, 1e4, -1e4]))
def test_range_over_all_optimal_assignments_agrees_with_enumeration(seed, size, dim, offset):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(-2, 3, size=(2, size, dim))  # a coarse lattice: many ties
    lower, upper, least = brute_force(x, y)
    result = optimal_transport_score(x / 8 + offset, y / 8)
    assert (result.lower, result.upper) == (lower, upper)
    own = float(((x - y) ** 2).sum(1).mean())
    unshifted = optimal_transport_score(x / 8, y / 8)
    assert unshifted.cost_ratio == pytest.approx(least / own if own else 1.0, abs=1e-12)
    assert (unshifted.assignment == np.arange(size)).mean() == lower


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100))
def test_range_does_not_depend_on_the_order_of_the_points_nor_on_the_frame(seed, scale):
    rng = np.random.default_rng(seed)
    x = rng.integers(-2, 3, size=(12, 2)).astype(float)
    y = x @ np.array([[0.0, -1.0], [1.0, 0.0]]) + rng.integers(-1, 2, size=(12, 2))
    first = optimal_transport_score(x, y)
    order, turn = rng.permutation(12), random_rotation(2, rng)
    for other in (
        optimal_transport_score(x[order], y[order]),
        optimal_transport_score(x @ turn, y @ turn),
        optimal_transport_score(x * scale, y * scale),
        optimal_transport_score(x + 1e4, y + 1e4),
    ):
        assert (other.lower, other.upper) == (first.lower, first.upper)
        assert other.cost_ratio == pytest.approx(first.cost_ratio, rel=1e-6)


@pytest.mark.parametrize("offset", [1e4, -1e4, 1e6])
def test_offset_does_not_change_a_score_without_ties(offset):
    rng = np.random.default_rng(6)
    x = rng.normal(size=(300, 16))
    y = x @ random_rotation(16, rng)
    plain, moved = optimal_transport_score(x, y), optimal_transport_score(x + offset, y + offset)
    assert moved.lower == plain.lower
    assert moved.upper == plain.upper
    assert moved.assignment.tolist() == plain.assignment.tolist()
    assert moved.cost_ratio == pytest.approx(plain.cost_ratio, rel=1e-9)


def test_cost_ratio_is_one_exactly_when_the_own_pairing_is_optimal():
    # A tie keeps the map's pairing optimal although the assignment with fewest identity pairs is another one.
    x = np.random.default_rng(12).normal(size=(40, 3))
    assert optimal_transport_score(x, np.full((40, 3), 0.1)).cost_ratio == 1
    y = np.random.default_rng(13).permutation(x)
    assert optimal_transport_score(x, x @ np.diag([2.0, 3.0, 0.1]) + 7).cost_ratio == 1
    assert optimal_transport_score(x, y).cost_ratio < 1


def test_scores_are_frozen():
    result = optimal_transport_score([[0.0]], [[1.0]])
    with pytest.raises(AttributeError):
        result.score = 1.0


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((0, 2)), np.zeros((0, 2)), r"x must be points of shape \(m, dim\)"),
        (np.zeros((3, 2)), np.zeros((3, 0)), r"y must be points of shape \(m, dim\)"),
        (np.zeros(3), np.zeros(3), "got shape"),
        (np.zeros((3, 2)), np.zeros((3, 3)), "one space; got dimensions 2 and 3"),
        (np.zeros((3, 2)), np.zeros((4, 2)), "equal size; got 3 and 4 points"),
        (np.array([[np.nan]]), np.array([[0.0]]), "x must be finite; 1 values are NaN"),
        (np.array([[0.0]]), np.array([[np.inf]]), "y must be finite; 0 values are NaN"),
    ],
)
def test_ots_refuses(x, y, message):
    with pytest.raises(ValueError, match=message):
        optimal_transport_score(x, y)


def test_public_names_are_these_functions():
    assert geolib.line_shape_score is line_shape_score
    assert geolib.optimal_transport_score is optimal_transport_score


# --- displacement and the scores of stages ---


def test_displacement_of_a_translation_and_of_a_scaling():
    """|c|^2 over the trace of the covariance; and (s - 1)^2 for x -> s x of centred points. No unit matters."""
    x = np.random.default_rng(0).standard_normal((50, 3))
    c = np.array([3.0, 0.0, 4.0])
    assert geolib.displacement(x, x + c) == pytest.approx(25 / np.trace(np.cov(x.T, bias=True)))
    assert geolib.displacement(7 * x, 7 * (x + c)) == pytest.approx(geolib.displacement(x, x + c))
    centred = x - x.mean(0)
    assert geolib.displacement(centred, torch.tensor(1.5 * centred)) == pytest.approx(0.25)
    with pytest.raises(ValueError, match="equal size"):
        geolib.displacement(x, x[:3])
    with pytest.raises(ValueError, match="spread of the points, which is 0 for these 4"):
        geolib.displacement(np.ones((4, 2)), np.zeros((4, 2)))


def test_scores_of_tracks_are_the_mean_over_stages_and_each_stage():
    rng = np.random.default_rng(0)
    stages = tuple(torch.tensor(rng.standard_normal((4, 30, dim))) for dim in (2, 5))
    stages[0][:, 3] = 1.0  # a track that never moves
    found = geolib.track_scores(geolib.Tracks(stages))
    for k, stage in enumerate(stages, start=1):
        lss = geolib.line_shape_score(stage)
        transport = geolib.optimal_transport_score(stage[0], stage[-1])
        own = {
            "lss": np.nanmean(lss),
            "lss_median": np.nanmedian(lss),
            "ots": transport.lower,
            "ots_upper": transport.upper,
            "cost_ratio": transport.cost_ratio,
            "displacement": geolib.displacement(stage[0], stage[-1]),
        }
        assert geolib.track_scores(geolib.Tracks((stage,))) == pytest.approx(own)
        assert {name: found[f"{name}_stage{k}"] for name in own} == pytest.approx(own)
    assert list(found)[:6] == list(own)
    assert len(found) == 18
    assert all(found[name] == (found[f"{name}_stage1"] + found[f"{name}_stage2"]) / 2 for name in own)


def test_scores_of_tracks_that_never_move_are_not_defined():
    found = geolib.track_scores(geolib.Tracks((torch.randn(1, 5, 2).repeat(3, 1, 1),)))
    assert math.isnan(found["lss"])
    assert math.isnan(found["lss_median"])
