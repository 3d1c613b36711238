"""Convolutional networks: shapes, closed forms, tracks of every stage, and sweeps of them."""

import dataclasses
import math

import pytest
import torch
from torch import nn

import geolib
from geolib import sweeping
from geolib.configs import group, read_configs
from geolib.convolution import image_sides
from geolib.scores import is_dead

KINDS = [geolib.ConvResNet, geolib.ConvPlainNet]
SMALL = {"width": 3, "blocks": 2, "stages": 2}
NORMS = [None, "batch", "layer"]


def images(points: int = 5, shape: tuple[int, ...] = (1, 8, 8), seed: int = 0) -> torch.Tensor:
    return torch.randn(points, *shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("shape", "sides"),
    [
        ((3, 32, 32), [(8, 8), (4, 4), (2, 2), (1, 1)]),
        ((1, 28, 28), [(9, 9), (5, 5), (3, 3), (2, 2), (1, 1)]),
        ((1, 8, 8), [(8, 8), (4, 4)]),
        ((3, 16, 16), [(8, 8)]),
        ((3, 96, 96), [(8, 8), (4, 4)]),
        ((1, 1, 1), [(1, 1)]),
        ((1, 32, 20), [(16, 10), (8, 5)]),
    ],
)
def test_images_of_each_stage(shape, sides):
    assert image_sides(shape, len(sides)) == sides
    tracks = geolib.record(geolib.ConvResNet(shape, 4, width=2, blocks=1, stages=len(sides)), images(2, shape))
    assert [stage.shape for stage in tracks.stages] == [(2, 2, 2 * 2**k * h * w) for k, (h, w) in enumerate(sides)]


@pytest.mark.parametrize("norm", NORMS)
def test_the_two_kinds_differ_by_the_skip_alone(norm):
    residual, plain = (kind((3, 32, 32), 10, **SMALL, norm=norm, gain=0.5, seed=5) for kind in KINDS)
    pairs = list(zip(residual.named_parameters(), plain.named_parameters(), strict=True))
    assert all(a == b and torch.equal(p, q) for (a, p), (b, q) in pairs)
    x = images(4, (3, 8, 8))
    first, second = residual.stages[0].blocks[1].eval(), plain.stages[0].blocks[1].eval()
    torch.testing.assert_close(first(x), x + second(x))


def test_number_of_parameters():
    network = geolib.ConvPlainNet((1, 28, 28), 10, width=4, blocks=3, stages=2)
    stem, transition, head = 9 * 4 + 4, 9 * 4 * 8 + 8, 8 * 10 + 10
    kernels = stem + 3 * 2 * 9 * 4**2 + transition + 3 * 2 * 9 * 8**2 + head
    assert sum(p.numel() for p in network.parameters()) == kernels
    normed = geolib.ConvPlainNet((1, 28, 28), 10, width=4, blocks=3, stages=2, norm="layer", bias=True)
    assert sum(p.numel() for p in normed.parameters()) == kernels + 3 * 2 * 3 * (4 + 8)  # bias, gain, shift


def test_one_pixel_by_hand():
    # Around one pixel lie zeros, so that of each 3 by 3 kernel only the centre acts, as a matrix.
    network = geolib.ConvResNet((2, 1, 1), 2, width=2, blocks=1)
    block = network.stages[0].blocks[0]
    with torch.no_grad():
        network.stages[0].entry.weight[:, :, 1, 1] = torch.eye(2)
        block.inner.weight[:, :, 1, 1] = torch.tensor([[1.0, -1], [0, 2]])
        block.outer.weight[:, :, 1, 1] = torch.tensor([[1.0, 0.5], [3, 1]])
        network.head.weight.copy_(torch.tensor([[1.0, 0], [1, 1]]))
    points = geolib.record(network, torch.tensor([1.0, 2]).view(1, 2, 1, 1)).points
    assert points.tolist() == [[[1, 2]], [[1 + 2, 2 + 4]]]  # relu((-1, 4)) = (0, 4) -> (2, 4)
    assert network(torch.tensor([1.0, 2]).view(1, 2, 1, 1)).tolist() == [[3, 9]]


def test_a_layer_normed_block_is_what_the_formula_says():
    block = geolib.ConvPlainNet((1, 8, 8), 2, width=3, blocks=1, norm="layer", gain=0.7, seed=1).stages[0].blocks[0]

    def normed(z):
        return (z - z.mean((1, 2, 3), keepdim=True)) / (z.var((1, 2, 3), keepdim=True, correction=0) + 1e-5).sqrt()

    x = images(4, (3, 8, 8))
    hidden = torch.relu(normed(nn.functional.conv2d(x, block.inner.weight, padding=1)))
    torch.testing.assert_close(block(x), 0.7 * normed(nn.functional.conv2d(hidden, block.outer.weight, padding=1)))


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_without_bias_and_norm_keep_the_origin_and_entries_do_not(kind):
    network = kind((1, 8, 8), 2, **SMALL, seed=3)
    zero = torch.zeros(1, 3, 8, 8)
    assert torch.equal(network.stages[0].blocks(zero), zero)
    assert all(p.ndim == 4 for stage in network.stages for p in stage.blocks.parameters())
    biased = kind((1, 8, 8), 2, **SMALL, bias=True)
    assert sum(p.ndim == 1 for stage in biased.stages for p in stage.blocks.parameters()) == 8
    assert network.stages[1].entry.bias.tolist() == [0] * 6


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("training", [False, True])
def test_gain_zero_starts_a_residual_network_at_the_identity(norm, training):
    network = geolib.ConvResNet((1, 8, 8), 2, **SMALL, norm=norm, gain=0).train(training)
    x = images(4, (3, 8, 8))
    assert torch.equal(network.stages[0].blocks(x), x)


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_the_gain_under_a_norm_is_that_of_the_blocks_last_norm(norm):
    for kind, default in zip(KINDS, (0.25, 1.0), strict=True):
        for gain, expected in ((None, default), (0.5, 0.5)):
            block = kind((1, 8, 8), 2, width=3, norm=norm, gain=gain).stages[0].blocks[1]
            assert block.outer_norm.weight.tolist() == [expected] * 3
            assert block.inner_norm.weight.tolist() == [1] * 3
            assert block.outer_norm.bias.tolist() == block.inner_norm.bias.tolist() == [0] * 3


def test_initial_scales():
    network = geolib.ConvResNet((20, 8, 8), 300, width=60, blocks=1, stages=2, gain=0.5, seed=3)
    block = network.stages[0].blocks[0]
    normed = geolib.ConvResNet((20, 8, 8), 300, width=60, blocks=1, norm="batch", gain=0.5).stages[0].blocks[0]
    for layer, variance in (
        (network.stages[0].entry, 1 / 180),
        (block.inner, 2 / 540),
        (block.outer, 0.25 / 540),
        (normed.inner, 2 / 540),
        (normed.outer, 1 / 540),
        (network.stages[1].entry, 1 / 540),
        (network.head, 1 / 120),
    ):
        assert float(layer.weight.detach().std()) == pytest.approx(math.sqrt(variance), rel=0.02)


def test_a_plain_block_keeps_the_mean_square_but_for_the_border_on_average():
    # A pixel is seen by 9 outputs, by 6 at an edge, by 4 in a corner: over both convolutions the mean of (seen / 9)^2.
    x = images(4, (32, 8, 8)).sign()
    kept = [
        geolib.ConvPlainNet((1, 8, 8), 2, width=32, blocks=1, seed=seed).stages[0].blocks(x).detach().square().mean()
        for seed in range(100)
    ]
    expected = (36 + 24 * (6 / 9) ** 2 + 4 * (4 / 9) ** 2) / 64
    assert expected == pytest.approx(0.74, abs=0.005)
    assert float(torch.stack(kept).mean()) == pytest.approx(expected, rel=0.03)


def test_seed_decides_and_no_global_random_state_is_used():
    state = torch.get_rng_state()
    first, same, other = (geolib.ConvResNet((1, 8, 8), 2, **SMALL, seed=seed) for seed in (7, 7, 8))
    assert torch.equal(torch.get_rng_state(), state)
    x = images()
    assert torch.equal(first(x), same(x))
    assert not torch.equal(first(x), other(x))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_shape": (64,)}, r"shape \(channels, height, width\); got \(64,\)"),
        ({"input_shape": (1, 0, 8)}, r"got \(1, 0, 8\)"),
        ({"width": 0}, "at least one class, channel and block a stage; got 2 classes, width 0, 4 blocks"),
        ({"blocks": 0}, "0 blocks"),
        ({"classes": 0}, "0 classes"),
        ({"stages": 0}, "at least one stage; got 0"),
        ({"stages": 5}, r"stage 4 of 5 has only 1 by 1 pixels left for inputs of shape \(1, 8, 8\); take at most 4 st"),
        ({"norm": "group"}, "unknown norm 'group'; choose None, 'batch' or 'layer'"),
        ({"gain": -1}, "finite and >= 0; got -1"),
        ({"gain": math.nan}, "finite and >= 0"),
    ],
)
def test_refuses_what_is_no_network(change, message):
    with pytest.raises(ValueError, match=message):
        geolib.ConvPlainNet(**({"input_shape": (1, 8, 8), "classes": 2} | change))


# --- tracks ---


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", NORMS)
def test_tracks_of_each_stage_are_what_hooks_see_and_end_before_the_head(kind, norm):
    network = kind((1, 8, 8), 4, **SMALL, norm=norm, seed=2)
    network(images(50, seed=9))  # in training mode: batch norm has seen points
    seen = []
    modules = [module for stage in network.stages for module in (stage.entry, *stage.blocks)]
    handles = [module.register_forward_hook(lambda *given: seen.append(given[2].flatten(1))) for module in modules]
    scores = network.eval()(images())
    for handle in handles:
        handle.remove()
    before = {name: value.clone() for name, value in network.train().state_dict().items()}
    tracks = geolib.record(network, images())
    assert [stage.shape for stage in tracks.stages] == [(3, 5, 3 * 64), (3, 5, 6 * 16)]
    assert torch.equal(tracks.stages[0], torch.stack(seen[:3]))
    assert torch.equal(tracks.stages[1], torch.stack(seen[3:]))
    torch.testing.assert_close(network.head(network.pool(tracks.stages[1][-1].view(5, 6, 4, 4))), scores)
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_recording_runs_each_module_once():
    network = geolib.ConvResNet((1, 8, 8), 4, **SMALL)
    calls = []
    for module in network.modules():
        module.register_forward_hook(lambda module, *_: calls.append(module))
    geolib.record(network, images())
    assert len(calls) == len(set(calls))
    geolib.track_statistics(network, images(), stage=0)
    assert calls.count(network.stages[0].entry) == 2
    assert calls.count(network.stages[1].entry) == 1  # what comes after the stage asked for is not computed


def test_one_stage_has_points_and_several_have_none():
    one = geolib.record(geolib.ConvResNet((1, 8, 8), 4, width=3, blocks=2), images())
    assert one.points is one.stages[0]
    assert one.layers == 2
    several = geolib.record(geolib.ConvResNet((1, 8, 8), 4, **SMALL), images())
    for name in ("points", "layers"):
        with pytest.raises(ValueError, match=r"have 2 stages, each in a space of its own; choose one of \.stages"):
            getattr(several, name)


@pytest.mark.parametrize("stage", [0, 1])
def test_streamed_statistics_of_a_stage_are_those_of_its_stored_tracks(stage):
    network = geolib.ConvPlainNet((1, 8, 8), 4, **SMALL, seed=1)
    stored = geolib.TrackStatistics.of(geolib.record(network, images(20)).stages[stage])
    streamed = geolib.track_statistics(network, images(20), stage=stage, batch_size=7)
    for field in dataclasses.fields(stored):
        assert getattr(streamed, field.name) == pytest.approx(getattr(stored, field.name), rel=1e-4)
    alone = geolib.track_statistics(geolib.ConvPlainNet((1, 8, 8), 4, width=3, blocks=2), images())
    assert alone.layers == 2


@pytest.mark.parametrize("stage", [None, 2, -1])
def test_statistics_refuse_a_stage_that_is_none(stage):
    with pytest.raises(ValueError, match=f"one of 0 to 1, for a network of 2 stages; got {stage}"):
        geolib.track_statistics(geolib.ConvResNet((1, 8, 8), 4, **SMALL), images(), stage=stage)


def test_errors_name_the_layer_and_its_stage():
    network = geolib.ConvResNet((1, 8, 8), 4, **SMALL).train()
    with torch.no_grad():
        network.stages[1].blocks[0].outer.weight[0, 0, 1, 1] = math.inf
    for measure in (geolib.record, lambda *given: geolib.track_statistics(*given, stage=1)):
        with pytest.raises(ValueError, match=r"layer 1 of 2 \(0 is the entry\) of stages\[1\] holds NaN or infinity"):
            measure(network, images())
    assert network.training
    network.stages[0].blocks.append(nn.MaxPool2d(2))
    with pytest.raises(ValueError, match=r"the entry's output shape \(5, 3, 8, 8\); block 3 of stages\[0\] gave"):
        geolib.record(network, images())
    network.stages[1].blocks = nn.Sequential()
    with pytest.raises(ValueError, match=r"one point and one block in each stage; got .*, 0 blocks"):
        geolib.record(network, images())
    del network.stages[1].blocks
    with pytest.raises(TypeError, match=r"stages that have an entry and blocks each; ConvResNet lacks one of them"):
        geolib.record(network, images())


def test_a_stem_and_blocks_come_before_stages():
    network = geolib.ResNet(4, 2, width=3, blocks=2)
    network.stages = nn.ModuleList([nn.Identity()])
    assert geolib.record(network, torch.ones(2, 4)).points.shape == (3, 2, 3)


# --- training and sweeps ---

CONV = {"kind": "resnet", "seed": 0, "form": "conv", "width": 3, "blocks": 1, "epochs": 0}


@pytest.fixture(scope="module")
def photographs(data_root) -> geolib.Dataset:
    data = geolib.load_dataset("cifar10")
    names = ("x_train", "y_train", "x_test", "y_test")
    return dataclasses.replace(data, **{name: getattr(data, name)[:200] for name in names}).standardized()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", NORMS)
def test_a_short_training_on_real_images_lowers_the_loss(kind, norm, photographs):
    network = kind((3, 32, 32), 10, width=8, blocks=2, stages=2, norm=norm)
    run = geolib.train(network, photographs, weight_decay=1e-3, epochs=12, seed=0, learning_rate=0.03)
    assert not run.diverged
    assert run.losses[-1] < run.losses[0] - 0.2


def test_a_sweep_of_stages_scores_each_and_builds_what_the_config_says():
    config = CONV | {"stages": 2, "norm": "layer", "kind": "plain"}
    found = geolib.sweep([config], "digits", points=60, jobs=1)
    assert list(found)[: len(config)] == list(config)
    own = dict(zip(found["metric"], found["value"], strict=True))
    data = geolib.load_dataset("digits").standardized()
    network = geolib.ConvPlainNet((1, 8, 8), 10, width=3, blocks=1, stages=2, norm="layer", seed=0)
    expected = geolib.track_scores(geolib.record(network, data.x_test[:60]))
    assert {name: own[name] for name in expected} == pytest.approx(expected)
    assert set(found["status"]) == {"trained"}


def test_a_network_with_one_dead_stage_is_dead(monkeypatch):
    def build(config, data):
        network = geolib.ConvResNet((1, 8, 8), 10, **SMALL)
        for block in network.stages[config.seed].blocks:
            nn.init.zeros_(block.outer.weight)
        stages = geolib.record(network, data.x_test[:500]).stages
        assert [is_dead(stage) for stage in stages] == [config.seed == 0, config.seed == 1]
        return network

    monkeypatch.setattr(sweeping, "_build", build)
    found = geolib.sweep([CONV, CONV | {"seed": 1}], "digits", jobs=1)
    assert set(found["status"]) == {"dead"}
    assert "lss" not in set(found["metric"])


def test_convolutional_networks_stay_alone_and_dense_ones_share():
    configs = [{"kind": "resnet", "seed": seed, "form": form} for form in ("conv", "dense") for seed in range(3)]
    assert group(read_configs(configs)) == [[0], [1], [2], [3, 4, 5]]


def test_defaults_of_each_form():
    conv, dense, plain = read_configs(
        [{"kind": "resnet", "seed": 0, "form": "conv"}, {"kind": "resnet", "seed": 0},
         {"kind": "plain", "seed": 0, "form": "conv", "width": 5, "norm": "batch", "decay_gains": True}]
    )  # fmt: skip
    assert (conv.width, conv.blocks, conv.stages, conv.norm, conv.decay_gains, conv.gain) == (
        32,
        4,
        1,
        None,
        False,
        0.25,
    )
    assert (dense.width, dense.blocks, dense.form, dense.gain) == (64, 10, "dense", 0.25)
    assert (plain.width, plain.norm, plain.decay_gains, plain.gain) == (5, "batch", True, 1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"form": "deep"}, "form must be 'dense' or 'conv'; got 'deep'"),
        ({"norm": "group"}, "norm must be 'batch', 'layer' or None; got 'group'"),
        ({"stages": 0}, "stages must be a whole number >= 1; got 0"),
        ({"decay_gains": 1, "norm": "batch"}, "decay_gains must be True or False; got 1"),
        ({"decay_gains": True}, "decay_gains = True needs a norm, 'batch' or 'layer'"),
        ({"stages": 5}, "config 1: each stage after the first halves the image, and stage 4 of 5"),
        ({"form": "dense", "stages": 2}, "config 1: stages = 2 needs form = 'conv'; dense networks have one stage"),
        ({"form": "dense", "norm": "layer"}, "norm = 'layer' needs form = 'conv'"),
        ({"form": "dense", "decay_gains": True}, "decay_gains = True needs form = 'conv'"),
    ],
)
def test_a_sweep_refuses_before_anything_trains(change, message):
    with pytest.raises(ValueError, match=message):
        geolib.sweep([CONV, CONV | {"seed": 1} | change], "digits", jobs=1)
