"""Sweeps: one table, whatever runs them, stops them or goes wrong in a network."""

import functools
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import distributed
import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import geolib
from geolib import descent
from geolib.checkpoints import identity
from geolib.configs import Config, group, read_configs
from geolib.training import accuracy

SMALL = {"width": 8, "blocks": 2, "epochs": 1}
CONFIGS = [
    {"kind": kind, "seed": seed, "weight_decay": decay, **SMALL}
    for kind in ("plain", "resnet")
    for decay in (0, 0.01)
    for seed in (3, 1, 2, 0, 4)
]


def values(table, **config):
    """Metrics of the one network that the config names."""
    rows = table[np.logical_and.reduce([table[key] == value for key, value in config.items()])]
    assert not rows["metric"].duplicated().any()
    return dict(zip(rows["metric"], rows["value"], strict=True))


def threads(network, data, config):
    return {"threads": torch.get_num_threads()}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return geolib.sweep(CONFIGS, "digits", jobs=2)


def test_one_row_a_network_and_metric_in_the_order_of_the_configs(table):
    assert list(table) == [*CONFIGS[0], "status", "metric", "value"]
    networks = table.drop_duplicates(list(CONFIGS[0]))
    assert networks[list(CONFIGS[0])].to_dict("records") == CONFIGS
    assert set(table["status"]) == {"trained"}
    first = table["metric"][:10].tolist()
    assert first[:4] == ["epochs", "train_accuracy", "test_accuracy", "sum_of_rates"]
    assert first[4:] == ["lss", "lss_median", "ots", "ots_upper", "cost_ratio", "displacement"]
    assert table["metric"].tolist() == first * len(CONFIGS)
    assert np.isfinite(table["value"]).all()


def test_each_network_is_the_one_that_a_single_run_trains(table):
    data = geolib.load_dataset("digits").standardized()
    for kind, cls in {"resnet": geolib.ResNet, "plain": geolib.PlainNet}.items():
        network = cls((1, 8, 8), 10, width=8, blocks=2, seed=1)
        run = geolib.train(network, data, weight_decay=0.01, epochs=1, seed=1)
        points = geolib.record(network, data.x_test).points.double().numpy()
        ots = geolib.optimal_transport_score(points[0], points[-1])
        ours = values(table, kind=kind, seed=1, weight_decay=0.01)
        assert ours["test_accuracy"] == pytest.approx(run.test_accuracy, abs=0.01)
        assert ours["train_accuracy"] == pytest.approx(run.train_accuracy, abs=0.01)
        assert ours["sum_of_rates"] == run.sum_of_rates
        assert ours["lss"] == pytest.approx(geolib.line_shape_score(points).mean(), rel=1e-3)
        assert ours["ots"] == pytest.approx(ots.lower, abs=0.01)
        assert ours["ots_upper"] == pytest.approx(ots.upper, abs=0.01)
        assert ours["cost_ratio"] == pytest.approx(ots.cost_ratio, rel=1e-3)
        moved = np.square(points[-1] - points[0]).sum(1).mean() / points[0].var(0).sum()
        assert ours["displacement"] == pytest.approx(moved, rel=1e-3)


def test_a_wide_network_is_trained_alone():
    def measure(network, data, config):
        return {"norm": network.head.weight.detach().norm()}

    configs = [{"kind": "resnet", "seed": seed, "width": 130, "blocks": 1, "epochs": 1} for seed in (0, 1)]
    found = geolib.sweep(configs, "digits", measure=measure, jobs=1)
    data = geolib.load_dataset("digits").standardized()
    network = geolib.ResNet((1, 8, 8), 10, width=130, blocks=1, seed=1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    geolib.train(network, data, weight_decay=0, epochs=1, seed=1)
    torch.set_num_threads(threads)
    assert values(found, seed=1)["norm"] == network.head.weight.detach().norm()


def test_the_number_of_processes_changes_nothing(table, capsys):
    pd.testing.assert_frame_equal(geolib.sweep(CONFIGS, "digits", jobs=1, progress="counting"), table, check_exact=True)
    assert "counting: 100%" in capsys.readouterr().err


def test_the_readmes_dask_cluster_gives_the_same_table(table, root):
    *_, lines = re.findall(r"```python\n(.*?)```", (root / "README.md").read_text("utf-8"), re.S)
    names = {"geolib": geolib, "configs": CONFIGS}
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=40) as local:
        exec(lines.replace("tcp://scheduler:8786", local.scheduler_address), names)
        with names["client"] as client, joblib.parallel_config(backend="dask"):
            counted = geolib.sweep(CONFIGS[:2], "digits", measure=threads)
            loaded = client.run(lambda: "geolib.sweeping" in sys.modules)
    pd.testing.assert_frame_equal(names["table"], table, check_exact=True)
    assert counted.loc[counted["metric"] == "threads", "value"].tolist() == [1, 1]
    assert any(loaded.values())  # the workers did it


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_process_computes_on_one_thread_and_the_callers_come_back(jobs):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = geolib.sweep(CONFIGS[:8], "digits", measure=threads, jobs=jobs)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert found.loc[found["metric"] == "threads", "value"].tolist() == [1] * 8


def test_a_network_that_diverges_or_dies_is_a_row_that_says_so():
    calm = [{"kind": "resnet", "seed": seed, **SMALL} for seed in (0, 1)]
    dead = {"kind": "plain", "seed": 0, "gain": 0, **SMALL}
    storm = {"kind": "resnet", "seed": 2, "learning_rate": 1e8, **SMALL}
    found = geolib.sweep([calm[0], storm, dead, calm[1]], "digits", jobs=1)
    status = found.drop_duplicates(["kind", "seed"])["status"].tolist()
    assert status == ["trained", "diverged", "dead", "trained"]
    assert values(found, status="diverged") == {"epochs": 0}
    assert list(values(found, status="dead")) == ["epochs", "train_accuracy", "test_accuracy", "sum_of_rates"]
    assert np.isfinite(found["value"]).all()
    alone = geolib.sweep(calm, "digits", jobs=1)
    for seed in (0, 1):
        assert values(found, kind="resnet", seed=seed) == values(alone, kind="resnet", seed=seed)
    assert found["gain"].tolist()[:1] == [0.25]  # the default, where another config names the key


def test_weights_that_overflow_after_a_finite_loss_have_diverged():
    (row,) = geolib.sweep(
        [{"kind": "resnet", "seed": 0, "width": 2, "blocks": 300, "gain": 1e3, "epochs": 0}], "digits", jobs=1
    ).to_dict("records")
    assert (row["status"], row["metric"], row["value"]) == ("diverged", "epochs", 0)


def test_metrics_that_are_not_finite_are_left_out_and_said():
    def measure(network, data, config):
        return {"fine": config["seed"], "odd": math.nan if config["seed"] else 1.0, "far": -math.inf}

    found = geolib.sweep(CONFIGS[:2], "digits", measure=measure, jobs=2)
    assert set(found["status"]) == {"non-finite"}
    for seed in (3, 1):
        own = values(found, seed=seed)
        assert own["fine"] == seed
        assert not {"odd", "far"} & own.keys()


def test_no_epoch_measures_the_untrained_network():
    found = geolib.sweep([{"kind": "resnet", "seed": 7, **SMALL, "epochs": 0}], "digits", points=50, jobs=1)
    network = geolib.ResNet((1, 8, 8), 10, width=8, blocks=2, seed=7)
    data = geolib.load_dataset("digits").standardized()
    own = values(found, seed=7)
    assert (own["epochs"], own["sum_of_rates"]) == (0, 0)
    assert own["test_accuracy"] == accuracy(network, data.x_test, data.y_test)
    track = geolib.record(network, data.x_test[:50]).points.double().numpy()
    assert own["lss"] == geolib.line_shape_score(track).mean()


def test_validation_takes_the_place_of_the_test_points():
    def measure(network, data, config):
        return {"points": len(data.x_test), "sum": data.x_test.double().sum(), "rest": len(data.x_train)}

    configs = [{"kind": "resnet", "seed": seed, "validation": 0.25, **SMALL, "epochs": 0} for seed in (0, 1)]
    found = geolib.sweep(configs, "digits", measure=measure, jobs=1)
    whole = geolib.load_dataset("digits").standardized()
    for seed in (0, 1):
        held_out = whole.validation_split(0.25, seed=seed)
        own = values(found, seed=seed)
        assert (own["points"], own["rest"]) == (len(held_out.x_test), len(held_out.x_train))
        assert own["sum"] == held_out.x_test.double().sum()
        network = geolib.ResNet((1, 8, 8), 10, width=8, blocks=2, seed=seed)
        assert own["test_accuracy"] == accuracy(network, held_out.x_test, held_out.y_test)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wieght": 1}, "config 1 has the unknown key 'wieght'; choose from kind, seed, form, width"),
        ({"kind": "conv"}, "config 1: kind must be 'resnet' or 'plain'; got 'conv'"),
        ({"kind": ["plain"]}, "kind must be"),
        ({"seed": -1}, "seed must be a whole number from 0"),
        ({"seed": 1.0}, "seed must be a whole number"),
        ({"seed": None}, "seed must be a whole number"),
        ({"width": True}, "width must be a whole number >= 1; got True"),
        ({"blocks": 0}, "blocks must be a whole number >= 1; got 0"),
        ({"bias": 1}, "bias must be True or False; got 1"),
        ({"gain": math.inf}, "gain must be a finite number >= 0; got inf"),
        ({"weight_decay": "0"}, "weight_decay must be a finite number >= 0; got '0'"),
        ({"weight_decay": None}, "weight_decay must be a finite number >= 0; got None"),
        ({"learning_rate": 0}, "learning_rate must be a finite number > 0; got 0"),
        ({"momentum": 1}, r"momentum must be a number in \[0, 1\); got 1"),
        ({"batch_size": 0}, "batch_size must be a whole number >= 1"),
        ({"epochs": -1}, "epochs must be a whole number >= 0; got -1"),
        ({"validation": 1}, r"validation must be a number in \(0, 1\); got 1"),
        ({"validation": 1e-9}, "config 1: validation = 1e-09 of 1297 training points holds out 0"),
        ({"seed": 0}, "config 1 repeats config 0"),
        ({"seed": 0, "gain": 0.25, "momentum": np.float64(0.9)}, "config 1 repeats config 0"),
    ],
)
def test_refuses_before_anything_trains(change, message):
    good = {"kind": "resnet", "seed": 0}
    with pytest.raises(ValueError, match=message):
        geolib.sweep([good, {"kind": "resnet", "seed": 1} | change], "digits", jobs=1)


def test_refuses_what_is_no_list_of_configs():
    with pytest.raises(ValueError, match="at least one config"):
        geolib.sweep([], "digits")
    with pytest.raises(ValueError, match="config 0 lacks 'seed', which must be a whole number"):
        geolib.sweep([{"kind": "plain"}], "digits")
    with pytest.raises(ValueError, match="config 0 must map names to values; got 'kind'"):
        geolib.sweep(["kind"], "digits")
    with pytest.raises(ValueError, match="unknown data set 'cats'"):
        geolib.sweep(CONFIGS, "cats")
    with pytest.raises(ValueError, match="points counts test points"):
        geolib.sweep(CONFIGS, "digits", points=0)


def test_a_failing_measure_names_the_network():
    with pytest.raises(ZeroDivisionError) as caught:
        geolib.sweep(CONFIGS[:1], "digits", measure=lambda *_: {"a": 1 / 0}, jobs=1)
    assert "kind='plain', seed=3" in caught.value.__notes__[0]
    with pytest.raises(ValueError, match="must not return what the sweep itself does: epochs"):
        geolib.sweep(CONFIGS[:1], "digits", measure=lambda *_: {"epochs": 1}, jobs=1)


KINDS = st.sampled_from(["resnet", "plain"])
NETWORKS = st.builds(
    Config, kind=KINDS, seed=st.integers(0, 99), width=st.sampled_from([8, 128, 129]), epochs=st.integers(0, 1),
    weight_decay=st.sampled_from([0.0, 0.1]), validation=st.sampled_from([None, 0.2]),
)  # fmt: skip


@given(st.lists(NETWORKS, min_size=1, max_size=60, unique=True))
def test_groups_follow_from_the_configs_alone(configs):
    groups = group(configs)
    assert groups == group(configs)
    assert sorted(position for positions in groups for position in positions) == list(range(len(configs)))
    sizes = {}
    for positions in groups:
        members = [configs[position] for position in positions]
        assert len({config.common for config in members}) == 1
        assert len({(c.kind, c.width, c.epochs, c.validation) for c in members}) == 1
        if members[0].validation:
            assert len({config.seed for config in members}) == 1  # one set of points
        sizes.setdefault(members[0].common, []).append(len(members))
        assert len(members) <= (1 if members[0].width > 128 else 8)
    assert all(max(each) - min(each) <= 1 for each in sizes.values())


def test_ten_networks_keep_two_processes_busy():
    groups = group(read_configs([{"kind": "resnet", "seed": seed} for seed in range(10)]))
    assert groups == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]


SLOW = """
import os, time
from pathlib import Path
import geolib

configs = [{"kind": kind, "seed": seed, "width": 8, "blocks": 2, "epochs": 1} for kind in ("resnet", "plain")
           for seed in range(9)]


def measure(network, data, config):
    with Path("log").open("a") as log:
        log.write(f"{config['kind']}{config['seed']} ")
    while len(Path("log").read_text().split()) == int(os.environ["STOP_AT"]):
        time.sleep(0.01)
    return {"norm": float(network.head.weight.norm().detach())}


geolib.sweep(configs, "digits", measure=measure, jobs=1, checkpoints="kept").to_pickle("table.pkl")
"""


def test_a_killed_sweep_resumes_to_the_same_table_without_repeating_groups(tmp_path):
    def start(stop_at):
        environment = os.environ | {"STOP_AT": str(stop_at)}
        return subprocess.Popen([sys.executable, "slow.py"], cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)

    (tmp_path / "slow.py").write_text(SLOW)
    log, kept = tmp_path / "log", tmp_path / "kept"
    killed = start(12)  # in the third of four groups, of 4, 5, 4 and 5 networks
    deadline = time.monotonic() + 60
    while not (log.exists() and len(log.read_text().split()) == 12):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert len(list(kept.iterdir())) == 2
    assert start(0).wait() == 0
    networks = [f"{kind}{seed}" for kind in ("resnet", "plain") for seed in range(9)]
    assert log.read_text().split() == networks[:12] + networks[9:]
    assert len(list(kept.iterdir())) == 4
    configs = [{"kind": kind, "seed": seed, **SMALL} for kind in ("resnet", "plain") for seed in range(9)]
    whole = geolib.sweep(configs, "digits", measure=lambda net, *_: {"norm": net.head.weight.detach().norm()}, jobs=1)
    resumed = pd.read_pickle(tmp_path / "table.pkl")
    pd.testing.assert_frame_equal(resumed, whole, check_exact=True, check_like=True)


@pytest.fixture
def kept(tmp_path) -> Path:
    return tmp_path / "kept"


def once(configs, measure, kept, **how):
    """Sweep; return the number of networks measured, not read, and the table."""
    log = kept.parent / "measured"
    log.write_text("")

    def counted(network, data, config):
        with log.open("a") as file:
            file.write("x")
        return measure(network, data, config)

    table = geolib.sweep(configs, "digits", measure=counted, jobs=1, checkpoints=kept, **how)
    return len(log.read_text()), table


def test_what_decides_a_result_decides_whether_it_is_taken_up(kept):
    factor = 1.0

    def scaled(config):
        return factor * config["seed"]

    def measure(network, data, config):
        return {"scaled": scaled(config)}

    count, first = once(CONFIGS[:10], measure, kept)
    assert count == 10
    count, again = once(CONFIGS[:10], measure, kept)
    assert count == 0
    pd.testing.assert_frame_equal(first, again, check_exact=True)
    factor = 2.0  # held by a function that the measure calls
    count, other = once(CONFIGS[:10], measure, kept)
    assert count == 10
    assert values(other, seed=3, weight_decay=0)["scaled"] == 6
    factor = 1.0
    assert once(CONFIGS[:10], measure, kept)[0] == 0
    assert once(CONFIGS[:10], measure, kept, points=400)[0] == 10
    assert once(CONFIGS[:10], measure, kept, limit_train=1000)[0] == 10
    assert once(CONFIGS[:10], measure, kept, at=(0,))[0] == 20
    assert once(CONFIGS[:9], measure, kept)[0] == 9  # other groups
    assert once(CONFIGS[:10], lambda *_: {"scaled": 0}, kept)[0] == 10


SHIFT = [1.0]


def shifted(network, data, config):
    return {name: sum(shift * config["seed"] for shift in SHIFT) for name in ("shifted",)}


def test_globals_within_comprehensions_and_partial_arguments_count(monkeypatch):
    first = identity(shifted)
    assert identity(shifted) == first
    monkeypatch.setattr(sys.modules[__name__], "SHIFT", [2.0])
    assert identity(shifted) != first
    one, two = (functools.partial(shifted, scale) for scale in (1, 2))
    assert identity(one) == identity(functools.partial(shifted, 1)) != identity(two)


def test_what_cannot_be_told_apart_is_never_taken_up():
    names = {}
    exec("def measure(network, data, config): return {}", names)  # no source
    assert identity(names["measure"]) != identity(names["measure"])
    lock = threading.Lock()  # cannot be pickled
    assert identity(lambda *_: {"a": lock}) != identity(lambda *_: {"a": lock})


def cut(path):
    path.write_bytes(path.read_bytes()[:1000])


def no_pickle(path):
    path.write_text("[]")


def other_key(path):
    torch.save(torch.load(path, weights_only=True) | {"key": "0"}, path)


def old_format(path):
    torch.save(["key"], path)


@pytest.mark.parametrize("damage", [cut, no_pickle, other_key, old_format])
def test_a_damaged_file_is_redone(kept, damage):
    def measure(network, data, config):
        return {"norm": network.head.weight.detach().norm()}

    _, first = once(CONFIGS[:10], measure, kept)
    one, two = sorted(kept.glob("*.pt"))
    damage(one)
    (kept / "foreign.pt").write_text("{}")
    (kept / "foreign").mkdir()
    count, again = once(CONFIGS[:10], measure, kept)
    assert count == 5
    pd.testing.assert_frame_equal(first, again, check_exact=True)
    assert {path.name for path in kept.iterdir()} == {one.name, two.name, "foreign.pt", "foreign"}


def weights(network, data, config):
    return {"head": network.head.weight, "norm": network.head.weight.detach().double().norm(), "rows": np.arange(3)}


def test_epochs_on_the_way_are_what_separate_measurements_of_the_same_training_give():
    """At 0 the untrained network, at the end the one that nobody watched."""
    own = {"kind": "resnet", "width": 8, "blocks": 2, "weight_decay": 0.01}
    watched = geolib.sweep([{**own, "seed": seed, "epochs": 2} for seed in (0, 1)], "digits", at=(0, 1, 2), jobs=1)
    assert list(watched) == [*own, "seed", "epochs", "epoch", "status", "metric", "value"]
    assert watched["epoch"].drop_duplicates().tolist() == [0, 1, 2]
    for epochs in (0, 2):
        alone = geolib.sweep([{**own, "seed": seed, "epochs": epochs} for seed in (0, 1)], "digits", jobs=1)
        for seed in (0, 1):
            assert values(watched, seed=seed, epoch=epochs) == values(alone, seed=seed)
    steps = 2 * 41
    half = sum(0.0015 * (1 + math.cos(math.pi * step / steps)) for step in range(41))
    assert values(watched, seed=1, epoch=1)["sum_of_rates"] == pytest.approx(half)
    assert values(watched, seed=1, epoch=1)["epochs"] == 1


def test_a_diverged_network_has_no_rows_for_epochs_it_did_not_reach():
    storm = {"kind": "resnet", "seed": 2, "learning_rate": 1e8, **SMALL, "epochs": 3}
    found = geolib.sweep([storm], "digits", at=(0, 2), jobs=1)
    assert found.drop_duplicates("epoch")[["epoch", "status"]].to_numpy().tolist() == [[0, "trained"], [3, "diverged"]]


def test_arrays_come_back_also_from_files(kept):
    configs = CONFIGS[:2]
    first = geolib.sweep(configs, "digits", measure=weights, at=(0,), jobs=1, checkpoints=kept)
    again = geolib.sweep(configs, "digits", measure=weights, at=(0,), jobs=1, checkpoints=kept)
    assert list(first)[-3:] == ["metric", "value", "array"]
    for table in (first, again):
        rows = table[table["metric"] == "head"]
        assert rows["value"].isna().all()
        norms = table.loc[table["metric"] == "norm", "value"]
        assert [np.linalg.norm(np.float64(array)) for array in rows["array"]] == pytest.approx(norms.tolist())
        assert all(array.shape == (10, 8) for array in rows["array"])
        assert all(array.tolist() == [0, 1, 2] for array in table.loc[table["metric"] == "rows", "array"])
        assert table.loc[table["metric"] == "norm", "array"].isna().all()
    pd.testing.assert_frame_equal(first.drop(columns="array"), again.drop(columns="array"), check_exact=True)
    for path in kept.iterdir():
        torch.load(path, weights_only=True)


def test_a_limit_keeps_one_subset_for_all_and_the_test_points_whole():
    def measure(network, data, config):
        return {"train": data.x_train.sum((1, 2, 3)), "test": len(data.x_test), "mean": data.x_train.double().mean()}

    found = geolib.sweep(CONFIGS[:3], "digits", measure=measure, limit_train=100, jobs=1)
    kept = geolib.load_dataset("digits").reduced(100, seed=0).standardized()
    arrays = found.loc[found["metric"] == "train", "array"]
    assert len(arrays) == 3
    assert all(np.array_equal(array, kept.x_train.sum((1, 2, 3))) for array in arrays)
    assert set(found.loc[found["metric"] == "test", "value"]) == {500}
    assert found.loc[found["metric"] == "mean", "value"].to_numpy() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"at": (0, 2)}, "whole numbers from 0 .* to 1, when the run ends; got 2"),
        ({"limit_train": 9}, "from 10, one a class, to 1297, all there are; got 9"),
        ({"limit_train": 1298}, "got 1298"),
        ({"limit_train": 100.0}, "a whole number of training points"),
    ],
)
def test_refuses_epochs_and_limits_before_anything_trains(how, message):
    with pytest.raises(ValueError, match=message):
        geolib.sweep(CONFIGS[:1], "digits", jobs=1, measure=lambda *_: {"a": 1 / 0}, **how)


def test_the_folder_comes_from_the_environment(kept, monkeypatch):
    monkeypatch.setenv("GEOLIB_CHECKPOINTS", str(kept))
    geolib.sweep(CONFIGS[:1], "digits", jobs=1)
    assert len(list(kept.iterdir())) == 1


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.delenv("GEOLIB_CHECKPOINTS", raising=False)
    monkeypatch.setattr(descent, "CHECKPOINT_SECONDS", 0.0)  # else the state of a running group were not due either
    monkeypatch.chdir(tmp_path)
    geolib.sweep(CONFIGS[:1], "digits", jobs=1)
    assert list(tmp_path.rglob("*")) == []


def test_gains_decay_only_where_the_config_says_so():
    configs = [
        {"kind": "resnet", "seed": 0, "form": "conv", "width": 4, "blocks": 1, "norm": "batch", "gain": 1.0,
         "weight_decay": 1.0, "learning_rate": 0.01, "epochs": 2, "decay_gains": decays}
        for decays in (True, False)
    ]  # fmt: skip

    def gain(network, data, config):
        return {"gain": network.stages[0].blocks[0].inner_norm.weight.abs().mean()}

    table = geolib.sweep(configs, "digits", measure=gain, limit_train=200, jobs=1)
    decayed, kept = table[table["metric"] == "gain"]["value"]
    assert decayed < 0.9 < kept
