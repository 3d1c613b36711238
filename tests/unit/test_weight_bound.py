"""The bound of the curve's length by the weights: it holds, is attained, and is refused where it need not hold."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import geolib
from geolib.networks import ResidualBlock


def network(seed=0, width=6, blocks=4, gain=1.0):
    return geolib.ResNet(5, 3, width=width, blocks=blocks, gain=gain, seed=seed).double()


def inputs(seed=0, points=9):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((points, 5)))


def circling(blocks, turn=0.3, radius=1.7):
    """A network whose one point goes round a circle in a random plane of 5-space, and the point."""
    plane = np.linalg.qr(np.random.default_rng(blocks).standard_normal((5, 2)))[0]
    angles = np.linspace(0, turn, blocks + 1)
    corners = torch.from_numpy(np.stack([np.cos(angles), np.sin(angles)], axis=1) @ plane.T)
    hidden = torch.tensor([0.6, 0.0, 0.8, 0.0, 0.0], dtype=torch.float64)  # of norm 1 and without negative entries
    net = geolib.ResNet(5, 3, width=5, blocks=blocks).double()
    with torch.no_grad():
        net.stem[1].weight.copy_(torch.eye(5))
        for block, start, step in zip(net.blocks, corners, corners.diff(dim=0), strict=False):
            c = step.norm() ** 0.5
            block.inner.weight.copy_(c * torch.outer(hidden, start))
            block.outer.weight.copy_(torch.outer(step / c, hidden))
    return net, radius * corners[:1]


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 6), st.floats(0.01, 3), st.floats(1e-3, 1e3)
)  # fmt: skip
def test_every_link_holds_for_random_networks(seed, width, blocks, gain, scale):
    net = network(seed, width, blocks, gain)
    found = geolib.length_bound(net, geolib.record(net, scale * inputs(seed)))
    assert found.chain.shape == (5, blocks)
    assert (found.chain[:-1] <= found.chain[1:] * (1 + 1e-12)).all()
    assert found.ratio >= 1 - 1e-12
    assert (found.length, found.bound) == tuple(found.chain[[0, -1]].sum(1))
    growth = np.prod(1 + found.products)
    assert found.length <= found.entry_radius * (growth - 1) * (1 + 1e-12)
    assert found.radius <= found.entry_radius * np.exp(found.squares.sum() / 2)


def test_both_sides_by_hand():
    net = geolib.ResNet(2, 1, width=2, blocks=1).double()
    with torch.no_grad():
        net.blocks[0].inner.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 0.0]]))
        net.blocks[0].outer.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 2.0]]))
    points = np.array([[[1.0, 0.0], [0.0, 2.0]], [[1.0, 3.0], [0.0, 2.0]]])  # (1, 0) moves by 3, (0, 2) stays
    found = geolib.length_bound(net, points)
    assert (found.radius, found.entry_radius) == (2, 2)
    np.testing.assert_allclose(found.squares, [9 + 1 + 4])
    np.testing.assert_allclose(found.products, [3 * 5**0.5])
    mean = 2.5**0.5  # the root of the mean of 1 and 4
    both = 3 * 5**0.5  # each matrix has one singular value, so that both norms agree
    np.testing.assert_allclose(found.chain, [[3 / 2**0.5], [both * mean], [both * mean], [both * 2], [14]])
    assert found.bound == pytest.approx(14)


@pytest.mark.parametrize("blocks", [1, 2, 7])
def test_a_point_on_a_circle_attains_the_bound(blocks):
    net, point = circling(blocks)
    found = geolib.length_bound(net, geolib.record(net, point))
    assert found.bound == pytest.approx(found.length, rel=1e-12)
    assert found.length == pytest.approx(1.7 * blocks * 2 * np.sin(0.3 / blocks / 2), rel=1e-12)
    np.testing.assert_allclose(found.chain, found.chain[[0]].repeat(5, axis=0), rtol=1e-12)


def test_a_cloud_with_spread_does_not_attain_it():
    net, point = circling(3)
    cloud = torch.cat([point, 0.99 * point])
    assert geolib.length_bound(net, geolib.record(net, cloud)).ratio > 1.001


@settings(max_examples=20, deadline=None)
@given(st.floats(1e-3, 1e3))
def test_scaled_points_scale_both_sides(scale):
    net = network()
    x = geolib.record(net, inputs()).points[0]
    tracks = [torch.stack(layers(net, s * x)) for s in (1, scale)]
    one, other = (geolib.length_bound(net, each) for each in tracks)
    assert other.length == pytest.approx(scale * one.length)
    assert other.bound == pytest.approx(scale * one.bound)


def layers(net, x):
    found = [x]
    for block in net.blocks:
        found.append(block(found[-1]).detach())
    return found


def test_a_network_that_moves_nothing_has_no_finite_ratio():
    net = network(gain=0)
    found = geolib.length_bound(net, geolib.record(net, inputs()))
    assert found.length == 0 < found.bound
    assert found.ratio == np.inf


def test_single_precision_is_measured_in_double():
    net = geolib.ResNet(5, 3, width=6, blocks=4, seed=1)
    found = geolib.length_bound(net, geolib.record(net, inputs().float()))
    assert found.chain.dtype == np.float64
    assert found.length < found.bound


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (geolib.PlainNet(5, 3, width=6, blocks=4), "without a skip"),
        (geolib.ResNet(5, 3, width=6, blocks=4, bias=True), "a bias moves points"),
        (geolib.ConvResNet((1, 8, 8), 3, width=4, norm="batch"), "normalisation undoes the scale"),
        (geolib.ConvResNet((1, 8, 8), 3, width=4, norm="layer"), "normalisation undoes the scale"),
        (geolib.ConvResNet((1, 8, 8), 3, width=4), "convolution's kernel"),
    ],
)
def test_networks_outside_the_hypotheses_are_refused_with_the_reason(net, words):
    with pytest.raises(TypeError, match=words):
        geolib.length_bound(net, np.zeros((5, 2, 6)))


def test_a_plain_block_and_a_bias_do_break_the_inequality():
    x = inputs()[:, :5] @ torch.randn(5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plain = geolib.PlainNet(5, 3, width=6, blocks=1).double()
    biased = geolib.ResNet(5, 3, width=6, blocks=1, bias=True).double()
    with torch.no_grad():
        for net in (plain, biased):
            for layer in (net.blocks[0].inner, net.blocks[0].outer):
                layer.weight.zero_()
        biased.blocks[0].outer.bias.fill_(1)
    for net in (plain, biased):
        assert geolib.curve_length(torch.stack(layers(net, x))) > 1  # and all squares are 0


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (np.zeros((4, 2, 6)), r"tracks of shape \(5, points, 6\); got \(4, 2, 6\)"),
        (np.zeros((5, 2, 7)), r"got \(5, 2, 7\)"),
        (np.full((5, 2, 6), np.nan), "must be finite"),
        (np.zeros((5, 0, 6)), "at least one layer, point"),
    ],
)
def test_tracks_that_cannot_be_the_networks_are_refused(points, words):
    with pytest.raises(ValueError, match=words):
        geolib.length_bound(network(), points)


@pytest.mark.parametrize("scale", [1e-3, 1, 1e3])
def test_random_tracks_of_the_right_shape_are_refused(scale):
    points = scale * np.random.default_rng(0).standard_normal((5, 9, 6))
    with pytest.raises(ValueError, match=r"not this network's: .* blocks\[\d\] leads; point \d is"):
        geolib.length_bound(network(), points)


def test_tracks_of_another_seed_or_with_one_point_off_are_refused_by_the_block():
    net = network()
    with pytest.raises(ValueError, match="not this network's"):
        geolib.length_bound(net, geolib.record(network(seed=1), inputs()))
    points = geolib.record(net, inputs()).points.clone()
    points[-1, 7] *= 1.01
    with pytest.raises(ValueError, match=r"blocks\[3\] leads; point 7 is"):
        geolib.length_bound(net, points)


@pytest.mark.parametrize("width", [6, 64, 256])
@pytest.mark.parametrize("gain", [0.0, 0.125, 3.0])
def test_what_a_network_records_in_single_precision_is_its_own(width, gain):
    net = geolib.ResNet(5, 3, width=width, blocks=2, gain=gain, seed=1)
    with torch.no_grad():
        net.stem[1].weight[0] *= 1e4  # coordinates of very different sizes
    geolib.length_bound(net, geolib.record(net, inputs().float()))


class Doubled(ResidualBlock):
    """A block whose step is twice that of its weights."""

    def forward(self, x):
        return 2 * super().forward(x) - x


def test_other_blocks_are_refused():
    plain, doubled = network(), network()
    plain.blocks[2] = geolib.PlainNet(5, 3, width=6, blocks=1).double().blocks[0]
    with pytest.raises(TypeError, match=r"got ResNet: blocks\[2\] is a PlainBlock"):
        geolib.length_bound(plain, geolib.record(plain, inputs()))
    doubled.blocks[1] = Doubled(6, False).double()
    with torch.no_grad():
        doubled.blocks[1].inner.weight.fill_(1)
        doubled.blocks[1].outer.weight.fill_(1)
    with pytest.raises(ValueError, match=r"not where blocks\[1\] leads"):
        geolib.length_bound(doubled, geolib.record(doubled, inputs()))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused_by_name(value):
    net = network()
    points = geolib.record(net, inputs())
    with torch.no_grad():
        net.blocks[2].outer.weight[1, 0] = value
    with pytest.raises(ValueError, match=r"blocks\[2\].outer.weight holds NaN or infinity"):
        geolib.length_bound(net, points)
