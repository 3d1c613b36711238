"""Sub-steps of a residual network and the weak form of the continuity equation, against what is known."""

import numpy as np
import pytest
import torch
from torch import nn

import geolib

RNG = np.random.default_rng(0)


class Shift(nn.Module):
    """x -> x + A x + b."""

    def __init__(self, matrix, shift):
        super().__init__()
        self.matrix, self.shift = nn.Parameter(torch.tensor(matrix)), nn.Parameter(torch.tensor(shift))

    def forward(self, x):
        return x + x @ self.matrix.T + self.shift


def network(*blocks):
    net = nn.Module()
    net.stem, net.blocks = nn.Identity(), nn.ModuleList(blocks)
    return net


def linear(matrix, shift=(0.0, 0.0)):
    return Shift(matrix, list(shift))


def growth(rate):
    return linear([[rate, 0.0], [0.0, rate]])


def test_one_step_a_block_is_the_network_itself():
    net = geolib.ResNet(5, 3, width=7, blocks=4, seed=1)
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    flow = geolib.refined_flow(net, x, 1)
    np.testing.assert_allclose(flow.points, geolib.record(net.double(), x.double()).points, rtol=1e-12)
    np.testing.assert_allclose(flow.velocities, np.diff(flow.points, axis=0), atol=1e-12)
    np.testing.assert_array_equal(flow.times, range(5))


def test_the_network_is_left_as_it_was():
    net = geolib.ResNet(5, 3, width=7, blocks=2)
    net.train()
    geolib.refined_flow(net, torch.ones(2, 5), 3)
    assert net.training
    assert net.stem[1].weight.dtype == torch.float32
    assert all(p.requires_grad for p in net.parameters())


def test_substeps_of_a_linear_field_compound_interest():
    x = RNG.normal(size=(5, 2))
    for s in (1, 3, 10):
        flow = geolib.refined_flow(network(growth(-0.5), growth(0.25)), x, s)
        np.testing.assert_allclose(flow.points[-1], x * (1 - 0.5 / s) ** s * (1 + 0.25 / s) ** s)
        assert flow.points.shape == (2 * s + 1, 5, 2)
        assert flow.velocities.shape == (2 * s, 5, 2)
        np.testing.assert_allclose(flow.velocities[0], -0.5 * x)
        np.testing.assert_allclose(flow.velocities[s], 0.25 * flow.points[s])
        np.testing.assert_allclose(flow.times[[0, s, -1]], [0, 1, 2])


@pytest.mark.parametrize(("scheme", "order"), [("euler", 1), ("rk4", 4)])
def test_the_schemes_converge_to_a_rotation_at_their_order(scheme, order):
    x = RNG.normal(size=(5, 2))
    net = network(linear([[0.0, -1.0], [1.0, 0.0]]))
    turned = x @ np.array([[np.cos(1), -np.sin(1)], [np.sin(1), np.cos(1)]]).T
    errors = [np.abs(geolib.refined_flow(net, x, s, scheme=scheme).points[-1] - turned).max() for s in (16, 32)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)


def test_the_fields_are_the_blocks_steps():
    net = geolib.ResNet(4, 2, width=3, blocks=2, seed=5).double()
    x = torch.from_numpy(RNG.normal(size=(6, 3)))
    for field, block in zip(geolib.velocity_fields(net), net.blocks, strict=True):
        torch.testing.assert_close(field(x), (block(x) - x).detach())


@pytest.mark.parametrize("substeps", [0, -1, 1.5, True, "2"])
def test_refuses_what_is_no_number_of_steps(substeps):
    with pytest.raises(ValueError, match="whole number >= 1"):
        geolib.refined_flow(network(growth(1.0)), np.ones((2, 2)), substeps)


def test_refuses_networks_without_a_flow():
    with pytest.raises(ValueError, match="PlainNet has plain ones"):
        geolib.refined_flow(geolib.PlainNet(4, 2), torch.ones(2, 4), 2)
    with pytest.raises(TypeError, match="Linear lacks one of them"):
        geolib.velocity_fields(nn.Linear(2, 2))
    with pytest.raises(TypeError, match="Module lacks one"):
        geolib.velocity_fields(network())
    with pytest.raises(TypeError, match="ConvResNet lacks one"):
        geolib.velocity_fields(geolib.ConvResNet((1, 8, 8), 2))


def test_refuses_points_and_schemes_that_it_cannot_follow():
    with pytest.raises(ValueError, match="euler, rk4; got 'midpoint'"):
        geolib.refined_flow(network(growth(1.0)), np.ones((2, 2)), 1, scheme="midpoint")
    for x in (np.ones((2, 2, 2)), np.ones((0, 2))):
        with pytest.raises(ValueError, match="stem's outputs must have shape"):
            geolib.refined_flow(network(growth(1.0)), x, 1)
    with pytest.raises(ValueError, match="stem's outputs must be finite; 2 values"):
        geolib.refined_flow(network(growth(1.0)), [[1.0, np.nan], [np.inf, 0.0]], 1)


def test_refuses_a_block_that_changes_the_width_by_name():
    for width in (1, 3):  # a width of 1 could be broadcast
        with pytest.raises(ValueError, match=rf"block 2 \(Linear\) turned \(4, 2\) into \(4, {width}\)"):
            geolib.refined_flow(network(growth(1.0), nn.Linear(2, width)), np.ones((4, 2)), 1)


def test_a_foreign_block_is_taken_at_its_word():
    x = torch.from_numpy(RNG.normal(size=(6, 2)))
    layer = nn.Linear(2, 2).double()
    torch.testing.assert_close(geolib.velocity_fields(network(layer))[0](x), (layer(x) - x).detach())


def test_points_may_carry_a_gradient():
    x = torch.ones(3, 2, dtype=torch.float64)
    expected = geolib.refined_flow(network(growth(0.5)), x, 2).points
    np.testing.assert_array_equal(geolib.refined_flow(network(growth(0.5)), x.requires_grad_(), 2).points, expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with CUDA")
def test_a_network_on_a_gpu_is_followed_on_the_cpu_and_left_there():
    net, x = geolib.ResNet(5, 3, width=7, blocks=2, seed=1), torch.ones(4, 5)
    expected = geolib.refined_flow(net, x, 3).points
    net.cuda()
    for given in (x, x.cuda(), x.numpy()):
        np.testing.assert_array_equal(geolib.refined_flow(net, given, 3).points, expected)
    assert net.stem[1].weight.is_cuda


def wave(z):
    return torch.cos(z @ torch.tensor([1.0, 2.0]).double())


def test_the_weak_form_is_exact_for_a_linear_test_function():
    points = RNG.normal(size=(4, 9, 2)).cumsum(0)
    times = np.array([0, 0.5, 0.7, 2])
    velocities = np.diff(points, axis=0) / np.diff(times)[:, None, None]
    both = geolib.weak_form(lambda z: z @ torch.tensor([3.0, -1.0]).double(), points, velocities, times)
    np.testing.assert_allclose(both.rate, both.transport, atol=1e-12)
    np.testing.assert_allclose(both.rate, velocities.mean(1) @ [3, -1])
    assert both.defect < 1e-12


def test_the_defect_is_within_the_taylor_bound_and_halves_with_the_step():
    net, x = geolib.ResNet(2, 2, width=2, blocks=3, seed=4), torch.from_numpy(RNG.normal(size=(40, 2)))
    defects = []
    for s in (64, 128):
        flow = geolib.refined_flow(net, x, s)
        both = geolib.weak_form(wave, flow.points, flow.velocities, flow.times)
        bound = 5 / (2 * s) * np.square(flow.velocities).sum(2).mean(1)
        assert (np.abs(both.rate - both.transport) <= bound).all()
        defects.append(both.defect)
    assert defects[0] / defects[1] == pytest.approx(2, abs=0.1)


def test_a_wrong_velocity_leaves_a_defect():
    flow = geolib.refined_flow(network(growth(-0.5)), RNG.normal(size=(40, 2)), 64)
    right = geolib.weak_form(wave, flow.points, flow.velocities, flow.times).defect
    wrong = geolib.weak_form(wave, flow.points, 1.5 * flow.velocities, flow.times).defect
    assert wrong > 10 * right


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"velocities": np.zeros((2, 3, 2))}, r"velocities of shape \(1, 3, 2\) and 2 times; got \(2, 3, 2\)"),
        ({"times": [0, 1, 2]}, r"got \(1, 3, 2\) and \(3,\)"),
        ({"times": [1, 1]}, "must increase"),
        ({"velocities": np.full((1, 3, 2), np.inf)}, "must be finite"),
        ({"points": np.zeros((1, 3, 2))}, "at least one layer"),
        ({"phi": lambda z: z}, r"one value a point, shape \(3,\); got \(3, 2\)"),
        ({"phi": lambda z: z.sum()}, r"got \(\)"),
        ({"phi": lambda z: wave(z) * np.nan}, "phi and its slope must be finite"),
        ({"phi": lambda z: z[:, 0].sqrt()}, "phi and its slope must be finite"),  # 0, of infinite slope
        ({"phi": lambda z: torch.full((3,), np.inf)}, "phi and its slope must be finite"),
    ],
)
def test_the_weak_form_refuses(changes, words):
    given = {"phi": wave, "points": np.zeros((2, 3, 2)), "velocities": np.zeros((1, 3, 2)), "times": [0, 1]}
    with pytest.raises(ValueError, match=words):
        geolib.weak_form(**{**given, **changes})


@pytest.mark.parametrize(
    "phi", [lambda z: torch.full((len(z),), 2.0), lambda z: torch.full((len(z),), 2), lambda z: 0 * z.sum(1) + 2]
)
def test_a_constant_has_no_rate_and_no_transport(phi):
    both = geolib.weak_form(phi, RNG.normal(size=(3, 5, 2)), RNG.normal(size=(2, 5, 2)), [0, 1, 2])
    np.testing.assert_array_equal([both.rate, both.transport], 0)


def test_a_test_function_with_weights_of_its_own_that_ignores_the_place_is_a_constant_too():
    weight = torch.tensor(2.0, requires_grad=True)
    both = geolib.weak_form(lambda z: weight.expand(len(z)), np.zeros((2, 5, 2)), np.ones((1, 5, 2)), [0, 1])
    assert both.defect == 0


def test_the_weak_form_needs_neither_gradients_nor_arrays_from_its_caller():
    points, velocities = RNG.normal(size=(3, 5, 2)), RNG.normal(size=(2, 5, 2))
    expected = geolib.weak_form(wave, points, velocities, [0, 1, 2])
    given = [torch.tensor(values, requires_grad=True) for values in (points, velocities, [0.0, 1.0, 2.0])]
    with torch.no_grad():
        inside = geolib.weak_form(wave, *given)
    for both in (inside, geolib.weak_form(wave, *given)):
        np.testing.assert_array_equal([both.rate, both.transport], [expected.rate, expected.transport])
    assert given[0].grad is None
    x, u = (tensor[0] for tensor in given[:2])
    np.testing.assert_array_equal(geolib.mean_velocity(x, u), geolib.mean_velocity(points[0], velocities[0]))


def test_points_at_one_place_share_their_mean_velocity():
    x = np.array([[0.0, 1], [-0.0, 1], [2, 2], [0, 1]])
    u = np.array([[3.0, 0], [0, 3], [5, 5], [0, 0]])
    np.testing.assert_allclose(geolib.mean_velocity(x, u), [[1, 1], [1, 1], [5, 5], [1, 1]])


def test_the_mean_velocity_gives_the_same_transport_and_no_more_energy():
    x = RNG.integers(0, 3, size=(60, 2)).astype(float)
    u = RNG.normal(size=x.shape)
    v = geolib.mean_velocity(x, u)
    slope = RNG.normal(size=(3, 3, 2))[x[:, 0].astype(int), x[:, 1].astype(int)]  # depends on the place alone
    assert (slope * v).sum() == pytest.approx((slope * u).sum())
    assert np.square(u).sum() == pytest.approx(np.square(v).sum() + np.square(u - v).sum())
    assert np.square(v).sum() < np.square(u).sum()


@pytest.mark.parametrize(
    ("x", "u"),
    [(np.ones((2, 2)), np.ones((3, 2))), (np.ones(2), np.ones(2)), (np.ones((1, 2)), np.full((1, 2), np.nan))],
)
def test_the_mean_velocity_refuses(x, u):
    with pytest.raises(ValueError, match="finite and of one shape"):
        geolib.mean_velocity(x, u)
