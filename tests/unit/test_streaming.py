"""Statistics of tracks against closed forms and stored tracks, whatever the batches; refusals and side effects."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import geolib
from geolib.streaming import TrackStatistics, track_statistics

PER_POINT = ("line_shape_score", "path_length", "displacement", "step_deviation", "moving_steps")


class Add(nn.Module):
    def __init__(self, step) -> None:
        super().__init__()
        self.step = step

    def forward(self, x):
        return x + torch.as_tensor(self.step, dtype=x.dtype)


class AddInPlace(Add):
    def forward(self, x):
        return x.add_(self.step)


class Affine(nn.Module):
    def __init__(self, scale: float, shift: float) -> None:
        super().__init__()
        self.scale, self.shift = scale, shift

    def forward(self, x):
        return self.scale * x + self.shift


class Parabola(nn.Module):
    def forward(self, x):
        return x - 0.1 * x * x


class Double(nn.Module):
    """Doubles positive coordinates and leaves the others."""

    def forward(self, x):
        return torch.where(x > 0, 2 * x, x)


def network_of(*blocks: nn.Module) -> nn.Module:
    """A network whose tracks start at its inputs."""
    network = nn.Module()
    network.stem, network.blocks = nn.Identity(), nn.ModuleList(blocks)
    return network


def path(*points: tuple[float, ...]) -> np.ndarray:
    """One track through these points, shape (layers + 1, 1, dim)."""
    return np.array(points, dtype=float)[:, None]


# --- closed forms ---


@pytest.mark.parametrize("lengths", [[1.0], [2, 2, 2], [0.1, 5, 2.5, 1e-9], [3e-300, 1e-200], [1e200, 1e300]])
def test_a_straight_line_is_as_long_as_its_displacement(lengths):
    track = np.concatenate([[0], np.cumsum(lengths)])[:, None, None] * np.array([0.6, 0.8])
    with np.errstate(all="raise"):
        found = TrackStatistics.of(track)
    assert found.layers == len(lengths)
    assert found.line_shape_score == pytest.approx([1.0], rel=1e-15)
    assert found.path_length == pytest.approx([sum(lengths)], rel=1e-14, abs=0)
    assert found.displacement == pytest.approx([sum(lengths)], rel=1e-14, abs=0)
    assert found.moving_steps.tolist() == [len(lengths)]
    # Scaled to avoid the overflow of a plain variance.
    scaled = np.array(lengths) / max(lengths)
    assert found.step_deviation / max(lengths) == pytest.approx([scaled.std()], rel=1e-9, abs=1e-14)
    assert found.step_variation == pytest.approx([scaled.std() / scaled.mean()], rel=1e-9, abs=1e-14)


@pytest.mark.parametrize("layers", [2, 5, 40])
def test_chords_of_a_circle_arc(layers):
    # A quarter of a circle of radius 3 in n chords of length 2 r sin(pi / 4n); its ends are sqrt(2) r apart. The unit
    # chords turn by pi/2n each and sum to a vector of length sin(pi/4) / sin(pi/4n).
    angle = np.linspace(0, math.pi / 2, layers + 1)
    found = TrackStatistics.of(3 * np.stack([np.cos(angle), np.sin(angle)], axis=-1)[:, None])
    chord = 6 * math.sin(math.pi / (4 * layers))
    assert found.path_length == pytest.approx([layers * chord], rel=1e-13)
    assert found.step_mean == pytest.approx([chord], rel=1e-13)
    assert found.displacement == pytest.approx([3 * math.sqrt(2)], rel=1e-14)
    assert found.line_shape_score == pytest.approx(
        [layers * math.sin(math.pi / (4 * layers)) / math.sin(math.pi / 4)], rel=1e-13
    )
    assert found.step_variation == pytest.approx([0.0], abs=1e-14)


def test_a_path_around_a_corner():
    found = TrackStatistics.of(path((0, 0), (3, 0), (3, 0), (3, 4)))
    assert found.path_length == pytest.approx([7.0])
    assert found.displacement == pytest.approx([5.0])
    assert found.line_shape_score == pytest.approx([math.sqrt(2)])
    assert found.moving_steps.tolist() == [2]
    assert found.step_mean == pytest.approx([7 / 3])
    # Steps 3, 0, 4: mean square 25/3, so the variance is 25/3 - 49/9 = 26/9.
    assert found.step_deviation == pytest.approx([math.sqrt(26) / 3])
    assert found.step_variation == pytest.approx([math.sqrt(26) / 7])


@pytest.mark.parametrize("moving", [1, 3, 6])
def test_a_track_that_moves_once_has_the_largest_variation(moving):
    points = np.zeros((7, 1, 2))
    points[moving:] = 5.0
    assert TrackStatistics.of(points).step_variation == pytest.approx([math.sqrt(5)])


def test_a_track_that_never_moves_has_length_zero_and_no_shape_or_pace():
    with np.errstate(all="raise"):
        found = TrackStatistics.of(np.concatenate([np.full((4, 1, 2), 7.0), path((0, 0), (1, 0), (2, 0), (3, 0))], 1))
        variation = found.step_variation
    for values, second in [(found.line_shape_score, 1), (variation, 0)]:
        assert np.isnan(values[0])
        assert values[1] == pytest.approx(second)
    assert [found.path_length[0], found.displacement[0], found.step_deviation[0], found.moving_steps[0]] == [0] * 4


def test_directions_that_cancel_and_entries_too_small_to_square_warn_of_nothing():
    with np.errstate(all="raise"):
        found = TrackStatistics.of(np.concatenate([path((0, 0), (2, 0), (0, 0)), path((0, 0), (1, 1e-200), (2, 0))], 1))
    assert found.line_shape_score.tolist() == [math.inf, 1]
    assert found.path_length.tolist() == [4, 2]
    assert found.displacement.tolist() == [0, 2]
    assert np.issubdtype(found.moving_steps.dtype, np.integer)


@pytest.mark.parametrize("points", [2, 600])
def test_spread_and_magnitude_of_two_clouds(points):
    # Half of the points at (c, r), half at (c, -r): they lie r from their mean and sqrt(c^2 + r^2) from the origin. The
    # square of r is lost beside that of c in any plain mean of squares.
    side = np.repeat([1.0, -1.0], points // 2)
    clouds = [np.stack([np.full(points, c), r * side], axis=1) for c, r in [(0.0, 2.0), (1e9, 1e-3)]]
    found = TrackStatistics.of(np.stack(clouds))
    assert found.spread == pytest.approx([2, 1e-3], rel=1e-13)
    assert found.magnitude == pytest.approx([2, 1e9], rel=1e-14)
    assert found.dead
    assert not TrackStatistics.of(np.stack([clouds[0], clouds[0] + 1])).dead


def test_clouds_of_any_size_are_alive():
    tracks = np.random.default_rng(0).normal(size=(3, 50, 4))
    assert [TrackStatistics.of(tracks * scale).dead for scale in (1e-200, 1, 1e200)] == [False] * 3


# --- streamed against stored ---


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([geolib.ResNet, geolib.PlainNet]),
    st.integers(1, 12),
    st.integers(1, 6),
    st.integers(1, 25),
)
def test_streamed_statistics_are_those_of_stored_tracks_for_any_batch_size(seed, kind, points, blocks, batch_size):
    network = kind(5, 2, width=7, blocks=blocks, seed=seed).double()
    x = torch.from_numpy(np.random.default_rng(seed).normal(size=(points, 5)))
    streamed = track_statistics(network, x, batch_size=batch_size)
    tracks = geolib.record(network, x).points.numpy()
    steps = np.linalg.norm(np.diff(tracks, axis=0), axis=2)
    assert streamed.layers == blocks
    assert streamed.line_shape_score == pytest.approx(geolib.line_shape_score(tracks), rel=1e-10)
    assert streamed.path_length == pytest.approx(steps.sum(0), rel=1e-12)
    assert streamed.step_mean == pytest.approx(steps.mean(0), rel=1e-12)
    assert streamed.step_deviation == pytest.approx(steps.std(0), rel=1e-9, abs=1e-12 * steps.max())
    assert streamed.displacement == pytest.approx(np.linalg.norm(tracks[-1] - tracks[0], axis=1), rel=1e-12)
    assert streamed.moving_steps.tolist() == (steps > 0).sum(0).tolist()
    ends = tracks[[0, -1]]
    assert streamed.spread == pytest.approx(np.sqrt(ends.var(1).sum(1)), rel=1e-10, abs=1e-14)
    assert streamed.magnitude == pytest.approx(np.sqrt(np.square(ends).sum(2).mean(1)), rel=1e-12)
    assert streamed.dead == geolib.is_dead(tracks)


@pytest.mark.parametrize("batch_size", [1, 7, 256, 1000])
def test_streamed_statistics_are_bit_for_bit_the_stored_ones_of_the_same_representations(batch_size):
    # Sums and products of numbers are rounded alike in every batch, in single precision as well.
    network = network_of(*(Parabola() for _ in range(4)), Add(0.1), nn.ReLU(), AddInPlace(0.3))
    x = torch.randn(300, 4, generator=torch.Generator().manual_seed(1))
    streamed = track_statistics(network, x, batch_size=batch_size)
    stored = TrackStatistics.of(geolib.record(network, x).points)
    for name in PER_POINT:
        assert getattr(streamed, name).tolist() == getattr(stored, name).tolist(), name
    assert streamed.line_shape_score.tolist() == geolib.line_shape_score(geolib.record(network, x).points).tolist()
    assert streamed.line_shape_score.dtype == np.float64
    assert streamed.spread == pytest.approx(stored.spread, rel=1e-14)


def test_a_block_that_works_in_place_does_not_change_the_layer_before_it():
    for dtype in (torch.float32, torch.float64):
        network = network_of(Add(1.0), AddInPlace(2.0), AddInPlace(3.0))
        assert track_statistics(network, torch.zeros(3, 1, dtype=dtype)).path_length.tolist() == [6.0] * 3
        assert geolib.record(network, torch.zeros(1, 1, dtype=dtype)).points.flatten().tolist() == [0, 1, 3, 6]


def test_maps_of_images_are_points():
    found = track_statistics(network_of(Add(1.0)), torch.zeros(2, 3, 4, 4))
    assert found.path_length == pytest.approx([math.sqrt(48)] * 2)


@given(st.integers(0, 2**32 - 1), st.floats(-50, 50), st.sampled_from([1e-150, 1e-3, 7.0, 1e120]))
def test_lengths_ignore_translation_and_rotation_and_follow_the_unit(seed, shift, scale):
    rng = np.random.default_rng(seed)
    tracks = rng.normal(size=(6, 4, 3))
    turn, order = np.linalg.qr(rng.normal(size=(3, 3)))[0], rng.permutation(4)
    plain = TrackStatistics.of(tracks)
    moved = TrackStatistics.of((tracks @ turn + shift)[:, order])
    scaled = TrackStatistics.of(tracks * scale)
    for name in ("path_length", "displacement", "step_deviation", "step_mean"):
        assert getattr(moved, name) == pytest.approx(getattr(plain, name)[order], rel=1e-9)
        assert getattr(scaled, name) / scale == pytest.approx(getattr(plain, name), rel=1e-9)
    assert moved.spread == pytest.approx(plain.spread, rel=1e-9)
    assert scaled.magnitude / scale == pytest.approx(plain.magnitude, rel=1e-9)
    assert scaled.step_variation == pytest.approx(plain.step_variation, rel=1e-9)
    assert (plain.displacement <= plain.path_length).all()


@pytest.mark.parametrize(("still", "dead"), [(2, False), (3, True)])
def test_more_than_one_percent_of_still_tracks_is_dead_when_streamed_too(still, dead):
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(2)).abs()
    x[:still] *= -1
    network = network_of(nn.Identity(), Double())
    assert track_statistics(network, x, batch_size=64).dead == dead
    assert geolib.is_dead(geolib.record(network, x).points) == dead


def test_a_cloud_that_is_one_point_is_dead_although_its_batches_differ():
    wide = torch.randn(100, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    narrow = 3.7 + 1e-7 * wide
    shift = Add([1.0, 2.0, 3.0])
    assert not track_statistics(network_of(shift), wide, batch_size=9).dead
    assert track_statistics(network_of(Affine(1e7, -3.7e7)), narrow, batch_size=9).dead
    assert track_statistics(network_of(shift, Affine(1e-7, 3.7)), wide, batch_size=9).dead


def test_memory_mapped_tracks_are_read_from_disk(tmp_path):
    tracks = np.random.default_rng(4).normal(size=(4, 600, 3)).astype(np.float32)
    np.save(tmp_path / "tracks.npy", tracks)
    mapped = TrackStatistics.of(np.load(tmp_path / "tracks.npy", mmap_mode="r"))
    assert mapped.path_length.tolist() == TrackStatistics.of(tracks).path_length.tolist()


# --- side effects and refusals ---


def test_streaming_leaves_the_network_as_it_was_and_runs_it_in_evaluation_mode():
    network = network_of(Add(1.0), nn.Dropout(0.5), nn.Linear(4, 4))
    network.train()
    network.blocks[0].eval()
    before = [module.training for module in network.modules()]
    state = torch.get_rng_state()
    assert track_statistics(network, torch.ones(5, 4), batch_size=2).moving_steps.tolist() == [2] * 5
    assert [module.training for module in network.modules()] == before
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()
    assert all(p.grad is None for p in network.parameters())


@pytest.mark.parametrize(
    ("network", "error", "message"),
    [
        (nn.Linear(3, 3), TypeError, "Linear lacks one of them"),
        (network_of(), ValueError, r"got inputs of shape \(5, 3\), 0 blocks"),
        (network_of(Add(1.0), nn.Linear(3, 2)), ValueError, r"stem's output shape \(2, 3\); block 2 gave \(2, 2\)"),
        (network_of(Add(1.0), Add(math.nan)), ValueError, r"layer 2 of 2 \(0 is the stem\) holds NaN"),
    ],
)
def test_refuses_what_record_refuses_and_restores_modes(network, error, message):
    network.train()
    with pytest.raises(error, match=message):
        track_statistics(network, torch.ones(5, 3), batch_size=2)
    assert all(module.training for module in network.modules())
    assert torch.is_grad_enabled()


def test_refuses_empty_batches_and_a_bad_point_in_a_later_one():
    x = torch.ones(5, 3)
    with pytest.raises(ValueError, match="at least one point; got batch_size 0"):
        track_statistics(network_of(Add(1.0)), x, batch_size=0)
    x[4, 1] = math.nan
    with pytest.raises(ValueError, match="layer 0 of 1"):
        track_statistics(network_of(Add(1.0)), x, batch_size=2)


def test_statistics_are_frozen_and_public():
    assert geolib.track_statistics is track_statistics
    with pytest.raises(AttributeError):
        geolib.TrackStatistics.of(np.ones((2, 1, 1))).layers = 3
