"""The two architectures differ by the skip alone."""

import math

import pytest
import torch

import geolib

SIZES = {"width": 16, "blocks": 4}


def test_equal_parameter_counts_and_equal_matrices_at_equal_seed_and_gain():
    residual = geolib.ResNet(20, 3, seed=5, gain=0.5, **SIZES)
    plain = geolib.PlainNet(20, 3, seed=5, gain=0.5, **SIZES)
    assert [tuple(p.shape) for p in residual.parameters()] == [tuple(p.shape) for p in plain.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(residual.parameters(), plain.parameters(), strict=True))
    assert sum(p.numel() for p in plain.parameters()) == 20 * 16 + 16 + 4 * 2 * 16 * 16 + 16 * 3 + 3


def test_blocks_are_what_the_formula_says():
    residual = geolib.ResNet(20, 3, seed=1, gain=0.7, **SIZES)
    plain = geolib.PlainNet(20, 3, seed=1, gain=0.7, **SIZES)
    x = torch.randn(7, 16, generator=torch.Generator().manual_seed(0))
    inner, outer = residual.blocks[2].inner.weight, residual.blocks[2].outer.weight
    step = torch.relu(x @ inner.T) @ outer.T
    torch.testing.assert_close(plain.blocks[2](x), step)
    torch.testing.assert_close(residual.blocks[2](x), x + step)


@pytest.mark.parametrize("kind", [geolib.ResNet, geolib.PlainNet])
def test_blocks_have_no_bias_unless_asked(kind):
    assert all(p.ndim == 2 for p in kind(20, 3, **SIZES).blocks.parameters())
    assert sum(p.ndim == 1 for p in kind(20, 3, bias=True, **SIZES).blocks.parameters()) == 8
    assert kind(20, 3, **SIZES).stem[1].bias.tolist() == [0] * 16


def test_gain_zero_starts_a_residual_network_at_the_identity():
    network = geolib.ResNet(20, 3, gain=0, **SIZES)
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(network.blocks(x), x)


def test_gain_one_keeps_the_mean_square_through_a_plain_block_on_average():
    # Over random weights E|W2 relu(W1 x)|^2 = |x|^2; one network of width 64 scatters by sqrt(7 / 64).
    x = torch.ones(1, 64)
    squares = [geolib.PlainNet(2, 2, blocks=1, seed=seed).blocks(x).detach().square().mean() for seed in range(300)]
    assert float(torch.stack(squares).mean()) == pytest.approx(1, abs=0.08)


def test_initial_scales():
    network = geolib.ResNet(300, 400, width=200, blocks=2, gain=0.5, seed=3)
    block = network.blocks[0]
    for weight, variance in (
        (network.stem[1].weight, 1 / 300),
        (block.inner.weight, 2 / 200),
        (block.outer.weight, 0.25 / 200),
        (network.head.weight, 1 / 200),
    ):
        assert float(weight.detach().std()) == pytest.approx(math.sqrt(variance), rel=0.02)


@pytest.mark.parametrize("kind", [geolib.ResNet, geolib.PlainNet])
@pytest.mark.parametrize("standardized", [False, True])
def test_defaults_of_network_and_training_learn(kind, standardized):
    digits = geolib.load_dataset("digits")
    digits = digits.standardized() if standardized else digits
    network = kind(digits.x_train.shape[1:], digits.classes, seed=100)
    assert geolib.train(network, digits, weight_decay=5e-4, epochs=30, seed=100).test_accuracy > 0.9


def test_seed_decides_and_no_global_random_state_is_used():
    state = torch.get_rng_state()
    same, other = geolib.ResNet(5, 2, seed=7), geolib.ResNet(5, 2, seed=8)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(same.stem[1].weight, geolib.ResNet(5, 2, seed=7).stem[1].weight)
    assert not torch.equal(same.stem[1].weight, other.stem[1].weight)


def test_images_of_any_shape_are_flattened():
    assert geolib.PlainNet((3, 4, 5), 2).stem[1].in_features == 60
    assert geolib.PlainNet((3, 4, 5), 2)(torch.zeros(6, 3, 4, 5)).shape == (6, 2)


@pytest.mark.parametrize("sizes", [{"width": 0}, {"blocks": 0}, {"input_shape": 0}, {"classes": 0}])
def test_refuses_empty_sizes(sizes):
    with pytest.raises(ValueError, match="at least one input feature, class, unit of width and block"):
        geolib.ResNet(**({"input_shape": 3, "classes": 2} | sizes))


@pytest.mark.parametrize("gain", [-1, math.nan, math.inf])
def test_refuses_a_gain_that_is_no_scale(gain):
    with pytest.raises(ValueError, match="finite and >= 0"):
        geolib.ResNet(3, 2, gain=gain)
