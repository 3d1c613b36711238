"""Trainings that are watched, killed and taken up again end with the bits of those left alone."""

import os
import signal
import subprocess
import sys
import time
import zipfile

import pytest
import torch

import geolib
from geolib import checkpoints, descent
from geolib.stacking import train_together

RUN = """
import json, os, sys, time
from pathlib import Path
import torch
import geolib
from geolib import descent
from geolib.stacking import train_together

torch.set_num_threads(1)
descent.CHECKPOINT_SECONDS = 0.0
data = geolib.load_dataset("digits").standardized().reduced(300, seed=0)
path, pause = Path("state.pt"), float(os.environ["PAUSE"])
norm = torch.nn.BatchNorm1d(4)
alone = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4), norm, torch.nn.Linear(4, 10))
with torch.no_grad():
    for k, p in enumerate(alone.parameters()):
        p.copy_(torch.linspace(-0.5, 1, p.numel()).reshape(p.shape).sin() + k / 10)
networks = [geolib.PlainNet((1, 8, 8), 10, width=8, blocks=2, seed=seed) for seed in range(3)]


def watch(network, run):
    with Path("log").open("a") as log:
        log.write("watched ")
    time.sleep(pause)
    return {"weight": [p for p in network.parameters()][-1].detach().clone(), "text": f"{len(run.losses)}"}


schedule = {"epochs": 4, "at": (0, 2, 3), "checkpoint": path}
if sys.argv[1] == "alone":
    networks = [alone]
    runs = [geolib.train(alone, data, weight_decay=0.01, seed=3, decay_gains=True, watch=watch, **schedule)]
else:  # the second one diverges in the first epoch
    runs = train_together(networks, data, weight_decays=[0.0, 0.0, 0.1], seeds=[1, 2, 3],
                          learning_rates=[0.01, 1e8, 0.003], watches=[watch] * 3, **schedule)
torch.save({"weights": [net.state_dict() for net in networks], "losses": [run.losses for run in runs],
            "rest": [[run.train_accuracy, run.test_accuracy, run.sum_of_rates, run.diverged] for run in runs],
            "watched": [dict(run.watched) for run in runs]}, sys.argv[2])
"""


def start(folder, which, result, pause):
    (folder / "run.py").write_text(RUN)
    return subprocess.Popen(
        [sys.executable, "run.py", which, result], cwd=folder, env=os.environ | {"PAUSE": str(pause)}
    )


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a.nan_to_num(7), b.nan_to_num(7))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b or (a != a and b != b)


@pytest.mark.parametrize("which", ["alone", "together"])
def test_killed_trainings_end_with_the_same_bits(tmp_path, which):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    whole.mkdir()
    resumed.mkdir()
    assert start(whole, which, "result.pt", 0).wait() == 0
    watched = len((whole / "log").read_text().split())
    assert watched == {"alone": 3, "together": 3 + 2 * 2}[which]
    log = resumed / "log"
    for stop in (2, watched):  # the second kill falls into the last epochs
        killed = start(resumed, which, "result.pt", 0.3)
        deadline = time.monotonic() + 60
        while not (log.exists() and len(log.read_text().split()) >= stop):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        state = torch.load(resumed / "state.pt", weights_only=True)
        assert state["key"]
    assert not (resumed / "result.pt").exists()
    assert start(resumed, which, "result.pt", 0).wait() == 0
    # Only what was being watched at each of the two kills is watched again.
    assert len(log.read_text().split()) <= watched + 2
    first, second = (torch.load(folder / "result.pt", weights_only=True) for folder in (whole, resumed))
    assert first["rest"][-1][-1] is False
    assert [list(each) for each in first["watched"]] == {"alone": [[0, 2, 3]], "together": [[0, 2, 3], [0], [0, 2, 3]]}[
        which
    ]
    assert equal(first, second)


@pytest.fixture
def data() -> geolib.Dataset:
    return geolib.load_dataset("digits").standardized().reduced(100, seed=0)


class StoppedError(RuntimeError):
    pass


def stop(network, run):
    raise StoppedError


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


def test_the_state_of_other_data_is_ignored(stopped, monkeypatch, data):
    _, go_on = stopped
    other = geolib.load_dataset("digits").standardized().reduced(100, seed=1)
    assert steps_taken(monkeypatch, lambda: go_on(data=other)) == 3 * 4


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
