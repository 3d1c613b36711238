"""Training against steps done by hand."""

import math

import pytest
import torch
from torch import nn

import geolib
from geolib.training import accuracy


@pytest.fixture
def tiny() -> geolib.Dataset:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(40) % 2
    x = torch.randn(40, 1, 2, 2, generator=generator) + 3 * y[:, None, None, None]
    return geolib.Dataset("tiny", 2, x[:30], y[:30], x[30:], y[30:])


def linear(seed: int = 0) -> nn.Sequential:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.LayerNorm(2))
    with torch.no_grad():
        network[1].weight.normal_(generator=torch.Generator().manual_seed(seed))
        network[1].bias.fill_(0.5)
    return network


def test_one_epoch_of_full_batches_by_hand(tiny):
    network, twin = linear(), linear()
    geolib.train(network, tiny, weight_decay=0.1, epochs=2, seed=0, learning_rate=0.2, momentum=0.5, batch_size=30)
    velocity = [torch.zeros_like(p) for p in twin.parameters()]
    for step in range(2):
        loss = nn.functional.cross_entropy(twin(tiny.x_train), tiny.y_train)
        loss = loss + 0.1 / 2 * twin[1].weight.square().sum()  # the matrix, not the biases, not the norm's gain
        gradients = torch.autograd.grad(loss, list(twin.parameters()))
        rate = 0.2 * (1 + math.cos(math.pi * step / 2)) / 2
        with torch.no_grad():
            for p, v, g in zip(twin.parameters(), velocity, gradients, strict=True):
                v.mul_(0.5).add_(g)
                p.sub_(rate * v)
    for p, q in zip(network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


def test_result_reports_losses_accuracies_and_the_sum_of_rates(tiny):
    network = geolib.ResNet((1, 2, 2), 2, width=8, blocks=2)
    run = geolib.train(network, tiny, weight_decay=0, epochs=30, seed=0, learning_rate=0.01, batch_size=8)
    assert len(run.losses) == 30
    assert run.losses[-1] < run.losses[0]
    assert run.train_accuracy == accuracy(network, tiny.x_train, tiny.y_train) > 0.9
    assert run.test_accuracy == accuracy(network, tiny.x_test, tiny.y_test)
    steps = 30 * 4  # 30 points in batches of 8, the last one smaller
    assert run.sum_of_rates == pytest.approx(sum(0.005 * (1 + math.cos(math.pi * k / steps)) for k in range(steps)))
    assert not run.diverged


def test_first_epochs_loss_is_the_mean_over_points_at_a_negligible_rate(tiny):
    network = linear()
    expected = nn.functional.cross_entropy(network(tiny.x_train), tiny.y_train).item()
    run = geolib.train(network, tiny, weight_decay=0, epochs=1, seed=0, learning_rate=1e-12, batch_size=7)
    assert run.losses[0] == pytest.approx(expected, rel=1e-5)


def test_same_seed_same_weights_other_seed_other_weights(tiny):
    def weights(seed):
        network = geolib.ResNet((1, 2, 2), 2, width=4, blocks=1)
        geolib.train(network, tiny, weight_decay=0, epochs=2, seed=seed, batch_size=8)
        return network.head.weight.tolist()

    state = torch.get_rng_state()
    assert weights(1) == weights(1)
    assert weights(1) != weights(2)
    assert torch.equal(torch.get_rng_state(), state)


def test_strong_decay_shrinks_the_matrices(tiny):
    norms = []
    for decay in (0.0, 1.0):
        network = geolib.ResNet((1, 2, 2), 2, width=8, blocks=2)
        geolib.train(network, tiny, weight_decay=decay, epochs=20, seed=0, learning_rate=0.05)
        norms.append(sum(p.square().sum().item() for p in network.parameters() if p.ndim > 1))
    assert norms[1] < 0.2 * norms[0]


def test_divergence_ends_the_run_and_is_reported(tiny):
    network = geolib.PlainNet((1, 2, 2), 2, width=8, blocks=4, gain=3)
    run = geolib.train(network, tiny, weight_decay=0, epochs=50, seed=0, learning_rate=1e6)
    assert run.diverged
    assert len(run.losses) < 50
    assert not math.isfinite(run.losses[-1])


def test_no_epoch_measures_the_network_as_it_is(tiny):
    network, twin = linear(), linear()
    run = geolib.train(network, tiny, weight_decay=0.1, epochs=0, seed=0)
    assert (run.losses, run.sum_of_rates, run.diverged) == ((), 0.0, False)
    assert run.train_accuracy == accuracy(twin, tiny.x_train, tiny.y_train)
    assert all(map(torch.equal, network.parameters(), twin.parameters()))


def test_accuracy_is_measured_in_evaluation_mode_and_in_batches():
    network = nn.Sequential(nn.Dropout(0.9), nn.Identity())
    x = torch.eye(2).repeat(5000, 1)
    y = torch.tensor([0, 1]).repeat(5000)
    assert accuracy(network, x, y) == 1
    assert network.training
    assert accuracy(network, x, 1 - y) == 0


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"weight_decay": -1e-3}, "weight_decay multiplies a penalty"),
        ({"weight_decay": math.nan}, "weight_decay"),
        ({"learning_rate": 0}, "learning_rate must be finite and > 0; got 0"),
        ({"learning_rate": math.inf}, "learning_rate"),
        ({"momentum": 1}, r"momentum must lie in \[0, 1\)"),
        ({"epochs": -1}, "at least 0 epochs"),
        ({"batch_size": 0}, "1 point a batch"),
    ],
)
def test_refuses(tiny, setting, message):
    with pytest.raises(ValueError, match=message):
        geolib.train(linear(), tiny, **({"weight_decay": 0, "epochs": 1, "seed": 0} | setting))


@pytest.mark.parametrize("decay_gains", [False, True])
def test_gains_decay_if_asked_and_the_biases_of_norms_never(tiny, decay_gains):
    """At a zero gradient only decay moves a weight: w - rate * decay * w in one step."""
    norms = [nn.GroupNorm(1, 1), nn.LayerNorm((1, 2, 2)), nn.BatchNorm2d(1)]
    head = nn.Linear(4, 2)
    network = nn.Sequential(*norms, nn.Flatten(), head)
    with torch.no_grad():
        head.weight.zero_()  # so no gradient reaches the norms
        for norm in norms:
            norm.bias.fill_(0.5)
    geolib.train(
        network, tiny, weight_decay=0.1, epochs=1, seed=0, learning_rate=0.2, batch_size=30, decay_gains=decay_gains
    )
    for norm in norms:
        torch.testing.assert_close(norm.weight, torch.full_like(norm.weight, 1 - 0.02 * decay_gains))
        assert (norm.bias == 0.5).all()
