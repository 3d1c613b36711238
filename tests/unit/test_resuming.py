"""Trainings that are watched, killed and taken up again end with the bits of those left alone."""

import multiprocessing
import os
import signal
import zipfile

import pytest
import torch

import geolib
from geolib import checkpoints, descent, stacking, training
from geolib.stacking import train_together

# Processes that start without the caller's state, and without importing torch anew.
FRESH = multiprocessing.get_context("forkserver")
FRESH.set_forkserver_preload(["torch", "pytest", "sklearn.datasets"])


def digits(points: int, seed: int = 0) -> geolib.Dataset:
    return geolib.load_dataset("digits").standardized().reduced(points, seed=seed)


def train_watched(folder, which, stop):
    """Train in a process that is killed when a network is watched for the `stop`-th time; note results and watches."""
    torch.set_num_threads(1)
    descent.CHECKPOINT_SECONDS = 0.0
    log = folder / "log"

    def watch(network, run):
        with log.open("a") as file:
            file.write("x")
        if log.stat().st_size == stop:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"weight": list(network.parameters())[-1].detach().clone(), "text": f"{len(run.losses)}"}

    data, schedule = digits(70), {"epochs": 4, "at": (0, 2, 3), "checkpoint": folder / "state.pt"}
    if which == "alone":
        networks = [geolib.ResNet((1, 8, 8), 10, width=4, blocks=1)]
        networks[0].blocks.append(torch.nn.BatchNorm1d(4))
        runs = [geolib.train(*networks, data, weight_decay=0.01, seed=3, decay_gains=True, watch=watch, **schedule)]
    else:  # the second one diverges in the first epoch
        networks = [geolib.PlainNet((1, 8, 8), 10, width=8, blocks=2, seed=seed) for seed in range(3)]
        own = {"weight_decays": [0.0, 0.0, 0.1], "seeds": [1, 2, 3], "learning_rates": [0.01, 1e8, 0.003]}
        runs = train_together(networks, data, **own, watches=[watch] * 3, **schedule)
    result = {
        "weights": [network.state_dict() for network in networks],
        "losses": [run.losses for run in runs],
        "rest": [[run.train_accuracy, run.test_accuracy, run.sum_of_rates, run.diverged] for run in runs],
        "watched": [dict(run.watched) for run in runs],
    }
    torch.save(result, folder / "result.pt")


def exit_of(*arguments):
    process = FRESH.Process(target=train_watched, args=arguments, daemon=True)
    process.start()
    process.join(120)
    return process.exitcode


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a.nan_to_num(7), b.nan_to_num(7))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b or (a != a and b != b)


@pytest.mark.parametrize(
    ("which", "epochs"), [("alone", [[0, 2, 3]]), ("together", [[0, 2, 3], [0], [0, 2, 3]])], ids=["alone", "together"]
)
def test_killed_trainings_end_with_the_same_bits(tmp_path, which, epochs):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    whole.mkdir()
    resumed.mkdir()
    assert exit_of(whole, which, None) == 0
    watched = (whole / "log").stat().st_size
    assert watched == sum(map(len, epochs))
    # What is being watched at a kill is watched again, and nothing else; the second kill falls into the last watch.
    for stop in (2, watched + 1):
        assert exit_of(resumed, which, stop) == -signal.SIGKILL
        assert torch.load(resumed / "state.pt", weights_only=True)["key"]
        assert not (resumed / "result.pt").exists()
    assert exit_of(resumed, which, None) == 0
    assert (resumed / "log").stat().st_size == watched + 2
    first, second = (torch.load(folder / "result.pt", weights_only=True) for folder in (whole, resumed))
    assert [run[-1] for run in first["rest"]] == [len(reached) == 1 for reached in epochs]
    assert [list(each) for each in first["watched"]] == epochs
    assert equal(first, second)


@pytest.fixture(scope="module")
def data() -> geolib.Dataset:
    return digits(100)


class StoppedError(RuntimeError):
    pass


def stop(network, run):
    raise StoppedError


@pytest.fixture
def one_thread():
    """More threads may add in another order each time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def train_one(data, checkpoint):
    network = geolib.ConvResNet((1, 8, 8), 10, width=3, blocks=1, norm="batch")
    run = geolib.train(network, data, weight_decay=0.1, epochs=3, seed=1, learning_rate=0.03, checkpoint=checkpoint)
    return [network], [run]


def train_two(data, checkpoint):
    networks = [geolib.ResNet((1, 8, 8), 10, width=4, blocks=1, bias=True, seed=seed) for seed in range(2)]
    own = {"weight_decays": [0.0, 0.1], "seeds": [1, 2], "learning_rates": [0.01, 0.03]}
    return networks, train_together(networks, data, **own, epochs=3, checkpoint=checkpoint)


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize(("train", "learner"), [(train_one, training._Single), (train_two, stacking._Stack)])
def test_trainings_that_break_off_within_an_epoch_end_with_the_same_bits(
    tmp_path, data, monkeypatch, one_thread, train, learner, steps
):
    """Of three epochs of four batches each start takes so many steps, and breaks off in the next one."""
    networks, runs = train(data, None)
    path, descend, taken, batches = tmp_path / "state.pt", learner.descend, [], []

    def breaking(self, *given):
        losses = descend(self, *given)
        if len(taken) == steps:
            raise StoppedError
        taken.append(1)
        return losses

    monkeypatch.setattr(learner, "descend", breaking)
    monkeypatch.setattr(descent, "CHECKPOINT_SECONDS", 0.0)
    for _ in range(11 // steps):
        with pytest.raises(StoppedError):
            train(data, path)
        taken.clear()
        batches.append(checkpoints.read(path, torch.load(path, weights_only=True)["key"])["batch"])
    resumed, ends = train(data, path)
    assert batches == [(number * steps - 1) % 4 + 1 for number in range(1, 11 // steps + 1)]
    assert ends == runs  # losses, sum of the rates, accuracies
    for network, other in zip(networks, resumed, strict=True):
        assert equal(dict(network.state_dict()), dict(other.state_dict()))


@pytest.fixture
def stopped(tmp_path, data, monkeypatch):
    """A training that broke off after its first epoch, and what it takes to go on with it."""
    monkeypatch.setattr(descent, "CHECKPOINT_SECONDS", 0.0)
    path = tmp_path / "state.pt"

    def go_on(watch=lambda network, run: len(run.losses), decay=0.0, data=data, epochs=3, at=(1,), seed=0, width=4):
        network = geolib.ResNet((1, 8, 8), 10, width=width, blocks=1)
        run = geolib.train(
            network, data, weight_decay=decay, epochs=epochs, seed=seed, at=at, watch=watch, checkpoint=path
        )
        return network, run

    with pytest.raises(StoppedError):
        go_on(stop)
    return path, go_on


def steps_taken(monkeypatch, run):
    count = []
    step = torch.optim.SGD.step
    monkeypatch.setattr(torch.optim.SGD, "step", lambda self: count.append(1) or step(self))
    run()
    return len(count)


def test_a_training_continues_where_it_stopped(stopped, monkeypatch):
    _, go_on = stopped
    assert steps_taken(monkeypatch, go_on) == 2 * 4  # of three epochs of four batches
    assert go_on()[1].watched == {1: 1}


@pytest.mark.parametrize(
    "change", [{"decay": 0.1}, {"epochs": 2}, {"at": (0, 1)}, {"seed": 1}, {"width": 5}], ids=lambda change: str(change)
)
def test_the_state_of_another_training_is_ignored(stopped, monkeypatch, change):
    _, go_on = stopped
    assert steps_taken(monkeypatch, lambda: go_on(**change)) == change.get("epochs", 3) * 4


def test_the_state_of_other_data_is_ignored(stopped, monkeypatch):
    _, go_on = stopped
    assert steps_taken(monkeypatch, lambda: go_on(data=digits(100, seed=1))) == 3 * 4


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "flipped"])
def test_a_damaged_state_is_ignored(stopped, monkeypatch, damage):
    path, go_on = stopped
    raw = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda info: info.file_size)
    flip = largest.header_offset + 300  # within the largest tensor, where torch alone would not notice
    damaged = {
        "cut": raw[: len(raw) // 2],
        "empty": b"",
        "text": b"{}",
        "flipped": raw[:flip] + bytes([raw[flip] ^ 1]) + raw[flip + 1 :],
    }
    path.write_bytes(damaged[damage])
    assert steps_taken(monkeypatch, go_on) == 3 * 4


def test_checkpoints_hold_no_code_and_come_whole(tmp_path):
    path = tmp_path / "folder" / "kept.pt"
    content = {"numbers": [1.5, 2], "tensor": torch.arange(3), "text": "a", "none": None}
    checkpoints.write(path, "key", content)
    assert equal(checkpoints.read(path, "key"), content)
    assert checkpoints.read(path, "other") is None
    assert checkpoints.read(tmp_path / "absent.pt", "key") is None
    checkpoints.write(path, "key", {"path": tmp_path})  # an object of a class: not read back
    assert checkpoints.read(path, "key") is None
    with pytest.raises(AttributeError):
        checkpoints.write(path, "key", {"function": lambda: 0})  # cannot be written: the old file stays
    assert path.exists()
    assert [each.name for each in path.parent.iterdir()] == ["kept.pt"]


def test_nothing_is_written_before_half_a_minute(tmp_path, data):
    path = tmp_path / "state.pt"
    geolib.train(
        geolib.ResNet((1, 8, 8), 10, width=4, blocks=1), data, weight_decay=0, epochs=1, seed=0, checkpoint=path
    )
    assert not path.exists()


def test_watching_changes_no_bit_and_sees_the_run_so_far(data):
    def build():
        return [geolib.PlainNet((1, 8, 8), 10, width=8, blocks=2, seed=seed) for seed in range(2)]

    def watch(network, run):
        points = geolib.record(network, data.x_test).points
        return run, network.head.weight.detach().clone(), points[-1].mean()

    settings = {"weight_decays": [0, 0.1], "seeds": [4, 5], "learning_rates": [0.01, 0.003], "epochs": 3}
    watched, free = build(), build()
    seen = train_together(watched, data, **settings, at=(3, 0, 1), watches=[watch, watch])
    assert seen == train_together(free, data, **settings)
    for a, b, run, start in zip(watched, free, seen, build(), strict=True):
        assert all(map(torch.equal, a.parameters(), b.parameters()))
        assert list(run.watched) == [0, 1, 3]
        so_far = [kept[0] for kept in run.watched.values()]
        assert [each.losses for each in so_far] == [(), run.losses[:1], run.losses]
        assert so_far[-1] == run
        assert so_far[0].test_accuracy == descent.accuracy(start, data.x_test, data.y_test)
        assert so_far[0].sum_of_rates == 0 < so_far[1].sum_of_rates < run.sum_of_rates
        assert torch.equal(run.watched[0][1], start.head.weight)
        assert torch.equal(run.watched[3][1], a.head.weight)
    alone = geolib.PlainNet((1, 8, 8), 10, width=8, blocks=2, seed=0)
    single = {"weight_decay": 0, "seed": 4, "learning_rate": 0.01, "epochs": 3}
    run = geolib.train(alone, data, **single, at=(0, 1, 3), watch=watch)
    twin = geolib.PlainNet((1, 8, 8), 10, width=8, blocks=2, seed=0)
    assert run == geolib.train(twin, data, **single)
    assert all(map(torch.equal, alone.parameters(), twin.parameters()))
    torch.testing.assert_close(run.watched[1][1], seen[0].watched[1][1])


@pytest.mark.parametrize(
    ("at", "watch", "message"),
    [
        ((2,), print, "whole numbers from 0 \\(before training\\) to 1, when the run ends; got 2"),
        ((-1,), print, "got -1"),
        ((0.5,), print, "got 0.5"),
        ((True,), print, "got True"),
        (1, print, "at lists the epochs to measure after; got 1"),
        ((1,), None, "watched by a function after chosen epochs; got one of watch and at only"),
        ((), print, "got one of watch and at only"),
    ],
)
def test_refuses_what_cannot_be_watched(data, at, watch, message):
    network = geolib.ResNet((1, 8, 8), 10, width=4, blocks=1)
    with pytest.raises(ValueError, match=message):
        geolib.train(network, data, weight_decay=0, epochs=1, seed=0, at=at, watch=watch)


def test_each_network_needs_its_watch(data):
    networks = [geolib.ResNet((1, 8, 8), 10, width=4, blocks=1, seed=seed) for seed in range(2)]
    with pytest.raises(ValueError, match="each of 2 networks needs its own watch; got 1"):
        train_together(
            networks,
            data,
            weight_decays=[0, 0],
            seeds=[0, 0],
            learning_rates=[1, 1],
            epochs=1,
            at=(1,),
            watches=[print],
        )
