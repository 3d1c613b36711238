"""The bound of the curve's length by the weights: it holds, is attained, and is refused where it need not hold."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import geolib

CHAIN = ("speeds", "operator", "frobenius", "radial", "weights")


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
    for lower, upper in itertools.pairwise(CHAIN):
        assert (getattr(found, lower) <= getattr(found, upper) * (1 + 1e-12)).all(), (lower, upper)
    assert found.ratio >= 1 - 1e-12
    assert np.prod(list(found.factors.values())) == pytest.approx(found.ratio)
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
    np.testing.assert_allclose(found.speeds, [3 / 2**0.5])
    np.testing.assert_allclose(found.operator, [3 * 5**0.5 * 2.5**0.5])
    np.testing.assert_allclose(found.radial, [3 * 5**0.5 * 2])
    assert found.bound == pytest.approx(14)


@pytest.mark.parametrize("blocks", [1, 2, 7])
def test_a_point_on_a_circle_attains_the_bound(blocks):
    net, point = circling(blocks)
    found = geolib.length_bound(net, geolib.record(net, point))
    assert found.bound == pytest.approx(found.length, rel=1e-12)
    assert found.length == pytest.approx(1.7 * blocks * 2 * np.sin(0.3 / blocks / 2), rel=1e-12)
    for factor in found.factors.values():
        assert factor == pytest.approx(1, rel=1e-12)


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
    assert np.isnan(found.factors["operator"])


def test_single_precision_is_measured_in_double():
    net = geolib.ResNet(5, 3, width=6, blocks=4, seed=1)
    found = geolib.length_bound(net, geolib.record(net, inputs().float()))
    assert found.weights.dtype == np.float64
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
