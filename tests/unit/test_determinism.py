"""One training, repeated: the same bits at one thread, nearly the same scores at two."""

import pytest
import torch

import geolib
from geolib.training import THREAD_TOLERANCE


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize(("name", "kind"), [("resnet", geolib.ResNet), ("plain", geolib.PlainNet)])
def test_one_thread_repeats_its_bits_and_two_hardly_change_the_scores(threads, name, kind):
    data = geolib.load_dataset("digits").standardized().reduced(600, seed=0)

    def train(count):
        threads(count)
        network = kind((1, 8, 8), 10, seed=1)
        run = geolib.train(network, data, weight_decay=0.01, epochs=3, seed=1)
        score = geolib.line_shape_score(geolib.record(network, data.x_test).points).mean()
        return run, score, torch.cat([p.detach().flatten() for p in network.parameters()])

    one, again, two = train(1), train(1), train(2)
    assert one[0] == again[0]
    assert one[1] == again[1]
    assert torch.equal(one[2], again[2])
    tolerance = THREAD_TOLERANCE[name]
    assert two[1] == pytest.approx(one[1], rel=tolerance)
    assert two[0].train_accuracy == pytest.approx(one[0].train_accuracy, abs=tolerance)
    assert two[0].test_accuracy == pytest.approx(one[0].test_accuracy, abs=tolerance)
