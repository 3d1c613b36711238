"""Tracks are the network's own representations, recorded without side effects."""

import pytest
import torch
from torch import nn

import geolib


class Affine(nn.Module):
    """A network with known tracks: stem x, blocks x -> x + k."""

    def __init__(self, *shifts: float) -> None:
        super().__init__()
        self.stem = nn.Identity()
        self.blocks = nn.ModuleList(Shift(s) for s in shifts)


class Shift(nn.Module):
    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, x):
        return x + self.by


def test_tracks_of_known_blocks():
    tracks = geolib.record(Affine(1.0, 10.0), [[0.0, 5.0], [1.0, 6.0], [2.0, 7.0]])
    assert tracks.points.tolist() == [
        [[0, 5], [1, 6], [2, 7]],
        [[1, 6], [2, 7], [3, 8]],
        [[11, 16], [12, 17], [13, 18]],
    ]
    assert tracks.layers == 2


@pytest.mark.parametrize("kind", [geolib.ResNet, geolib.PlainNet])
def test_tracks_run_from_stem_to_last_block(kind):
    network = kind((1, 8, 8), 10, width=12, blocks=3, seed=1)
    x = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    points = geolib.record(network, x).points
    assert points.shape == (4, 5, 12)
    assert not points.requires_grad
    torch.testing.assert_close(points[0], network.stem(x))
    torch.testing.assert_close(network.head(points[-1]), network(x))


def test_many_points_are_recorded_in_their_order():
    x = torch.arange(10000.0)[:, None]
    points = geolib.record(Affine(0.5), x).points
    assert torch.equal(points, torch.stack([x, x + 0.5]))


def test_maps_of_images_are_flattened():
    assert geolib.record(Affine(1.0), torch.zeros(2, 3, 4, 4)).points.shape == (2, 2, 48)


def test_recording_leaves_the_network_as_it_was():
    network = geolib.ResNet(4, 2, width=3, blocks=2)
    network.train()
    network.blocks[0].eval()
    before = [module.training for module in network.modules()]
    state = torch.get_rng_state()
    geolib.record(network, torch.zeros(1, 4))
    assert [module.training for module in network.modules()] == before
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in network.parameters())


def test_recording_happens_in_evaluation_mode_and_modes_return_after_an_error():
    network = Affine(1.0)
    network.blocks.append(nn.Dropout(0.5))
    network.train()
    assert torch.equal(
        geolib.record(network, torch.ones(4, 3)).points[1], geolib.record(network, torch.ones(4, 3)).points[2]
    )
    network.blocks.append(nn.Linear(3, 2))
    with pytest.raises(ValueError, match=r"stem's output shape \(4, 3\); block 3 gave \(4, 2\)"):
        geolib.record(network, torch.ones(4, 3))
    assert network.training
    assert network.blocks[1].training


@pytest.mark.parametrize("lacking", ["stem", "blocks"])
def test_refuses_a_network_without_stem_or_blocks(lacking):
    network = Affine(1.0)
    delattr(network, lacking)
    with pytest.raises(TypeError, match="Affine lacks one of them"):
        geolib.record(network, torch.ones(4, 3))


def test_refuses_no_points_no_blocks_and_a_single_unbatched_point():
    with pytest.raises(ValueError, match=r"at least one point and one block; got inputs of shape \(0, 3\), 1 blocks"):
        geolib.record(Affine(1.0), torch.ones(0, 3))
    with pytest.raises(ValueError, match="0 blocks"):
        geolib.record(Affine(), torch.ones(4, 3))
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        geolib.record(Affine(1.0), torch.ones(3))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_refuses_values_that_are_not_finite_and_names_the_layer(bad):
    with pytest.raises(ValueError, match=r"layer 2 of 3 \(0 is the stem\)"):
        geolib.record(Affine(1.0, bad, 1.0), torch.ones(4, 3))
