"""Networks trained together against the same networks trained one by one."""

import math
from dataclasses import replace

import pytest
import torch

import geolib
from geolib.stacking import train_together

SETTINGS = [  # weight decay, learning rate, seed of the order
    (0.0, 0.003, 5),
    (0.1, 0.003, 5),
    (0.0, 0.01, 5),
    (0.0, 0.003, 6),
    (1e-3, 0.02, 7),
]


@pytest.fixture(scope="module")
def digits() -> geolib.Dataset:
    data = geolib.load_dataset("digits").standardized()
    return replace(data, x_train=data.x_train[:331], y_train=data.y_train[:331])  # the last batch is a smaller one


def build(kind, count, **sizes):
    return [kind((1, 8, 8), 10, **{"width": 24, "blocks": 4, **sizes}, seed=seed) for seed in range(count)]


def together(networks, data, settings=SETTINGS, **schedule):
    decays, rates, seeds = zip(*settings, strict=True)
    return train_together(networks, data, weight_decays=decays, learning_rates=rates, seeds=seeds, **schedule)


def one_by_one(networks, data, settings=SETTINGS, **schedule):
    return [
        geolib.train(network, data, weight_decay=decay, learning_rate=rate, seed=seed, **schedule)
        for network, (decay, rate, seed) in zip(networks, settings, strict=True)
    ]


def distance(a, b):
    """Largest distance of two networks' parameters, relative to each parameter's norm."""
    pairs = zip(a.parameters(), b.parameters(), strict=True)
    return max(((p - q).norm() / q.norm()).item() for p, q in pairs)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", [geolib.ResNet, geolib.PlainNet])
def test_ten_steps_together_are_ten_steps_alone(digits, kind, bias):
    # float32 rounds each product to about 1e-7; ten steps carry that to about 1e-6, and 1e-5 leaves room.
    few, single = build(kind, 5, bias=bias), build(kind, 5, bias=bias)
    before = build(kind, 5, bias=bias)
    schedule = {"epochs": 1, "batch_size": 34, "momentum": 0.8}
    runs, alone = together(few, digits, **schedule), one_by_one(single, digits, **schedule)
    for k in range(5):
        assert distance(few[k], single[k]) < 1e-5 < distance(before[k], single[k])
        assert runs[k].losses == pytest.approx(alone[k].losses, rel=1e-5)
        assert runs[k].sum_of_rates == alone[k].sum_of_rates
    assert distance(few[0], few[1]) > 1e-3


@pytest.mark.parametrize("kind", [geolib.ResNet, geolib.PlainNet])
def test_scores_after_a_training_agree(digits, kind):
    few, single = build(kind, 3), build(kind, 3)
    runs, alone = (
        train(networks, digits, SETTINGS[:3], epochs=8) for train, networks in ((together, few), (one_by_one, single))
    )
    for a, b, run, other in zip(few, single, runs, alone, strict=True):
        tracks = [geolib.record(network, digits.x_test).points.double().numpy() for network in (a, b)]
        lss = [geolib.line_shape_score(track).mean() for track in tracks]
        ots = [geolib.optimal_transport_score(track[0], track[-1]) for track in tracks]
        assert lss[0] == pytest.approx(lss[1], rel=1e-3)
        assert ots[0].score == pytest.approx(ots[1].score, abs=0.01)
        assert ots[0].cost_ratio == pytest.approx(ots[1].cost_ratio, rel=1e-3)
        assert run.test_accuracy == pytest.approx(other.test_accuracy, abs=0.01)
        assert run.train_accuracy == pytest.approx(other.train_accuracy, abs=0.01)
        assert run.losses == pytest.approx(other.losses, rel=1e-2)


def test_a_network_that_diverges_leaves_the_others_bit_for_bit(digits):
    calm, stormy = build(geolib.PlainNet, 3), build(geolib.PlainNet, 3)
    runs = together(calm, digits, SETTINGS[:3], epochs=3)
    rest = together(stormy, digits, [SETTINGS[0], (0.0, 1e6, 0), SETTINGS[2]], epochs=3)
    for k in (0, 2):
        assert runs[k] == rest[k]
        assert all(map(torch.equal, calm[k].parameters(), stormy[k].parameters()))
    assert rest[1].diverged
    assert len(rest[1].losses) == 1
    assert not math.isfinite(rest[1].losses[-1])
    (alone,) = one_by_one(build(geolib.PlainNet, 2)[1:], digits, [(0.0, 1e6, 0)], epochs=3)
    assert rest[1].sum_of_rates == alone.sum_of_rates


def test_all_diverge(digits):
    runs = together(build(geolib.PlainNet, 2), digits, [(0.0, 1e6, 0)] * 2, epochs=50)
    assert all(run.diverged and len(run.losses) < 50 for run in runs)


def test_no_epoch_changes_nothing(digits):
    networks, before = build(geolib.ResNet, 2), build(geolib.ResNet, 2)
    runs = together(networks, digits, SETTINGS[:2], epochs=0)
    assert runs == one_by_one(before, digits, SETTINGS[:2], epochs=0)
    for network, twin in zip(networks, before, strict=True):
        assert all(map(torch.equal, network.parameters(), twin.parameters()))


def test_no_global_randomness(digits):
    state = torch.get_rng_state()
    together(build(geolib.ResNet, 2), digits, SETTINGS[:2], epochs=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_refuses(digits):
    with pytest.raises(ValueError, match="one class and one shape; got 0"):
        together([], digits, SETTINGS[:1], epochs=1)
    with pytest.raises(ValueError, match="one class and one shape; got 2"):
        together([*build(geolib.ResNet, 1), *build(geolib.PlainNet, 1)], digits, SETTINGS[:2], epochs=1)
    with pytest.raises(ValueError, match="one class and one shape; got 2"):
        together([*build(geolib.ResNet, 1), *build(geolib.ResNet, 1, blocks=5)], digits, SETTINGS[:2], epochs=1)
    with pytest.raises(
        ValueError, match="each of 3 networks needs its own settings; got 2 weight decays, 2 seeds and 2 learning"
    ):
        together(build(geolib.ResNet, 3), digits, SETTINGS[:2], epochs=1)
    with pytest.raises(ValueError, match="weight_decay"):
        together(build(geolib.ResNet, 1), digits, [(-1, 0.1, 0)], epochs=1)
