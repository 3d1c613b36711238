"""One record a network, whatever became of it; the best setting by validation, fairly compared."""

import numpy as np
import pandas as pd
import pytest

import geolib

KEYS = ["kind", "seed", "weight_decay"]


def table(*rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=[*KEYS, "status", "metric", "value"])


def test_records_hold_keys_metrics_and_how_the_network_ended():
    found = geolib.records(
        table(
            ("plain", 1, 0.1, "dead", "epochs", 2.0),
            ("plain", 1, 0.1, "dead", "test_accuracy", 0.1),
            ("plain", 0, 0.1, "diverged", "epochs", 0.0),
            ("resnet", 0, 0.1, "trained", "epochs", 2.0),
            ("resnet", 0, 0.1, "trained", "lss", 1.5),
            ("resnet", 0, 0.1, "trained", "track", np.nan),
        ),
        KEYS,
    )
    assert found == [
        {"kind": "plain", "seed": 1, "weight_decay": 0.1, "test_accuracy": 0.1, "dead": True, "diverged": False},
        {"kind": "plain", "seed": 0, "weight_decay": 0.1, "diverged": True},
        {"kind": "resnet", "seed": 0, "weight_decay": 0.1, "lss": 1.5, "dead": False, "diverged": False},
    ]
    assert list(found[0]) == [*KEYS, "test_accuracy", "dead", "diverged"]


def test_a_sweeps_own_table_becomes_records_that_json_can_hold():
    small = {"width": 8, "blocks": 2, "epochs": 1}
    configs = [{"kind": "resnet", "seed": 0, **small}, {"kind": "plain", "seed": 0, "gain": 0, **small}]
    swept = geolib.sweep(configs, "digits", points=20, jobs=1)
    alive, dead = geolib.records(swept, ["kind", "seed"])
    for record, config in ((alive, configs[0]), (dead, configs[1])):
        rows = swept[(swept["kind"] == config["kind"]) & (swept["metric"] != "epochs")]
        assert {name: record[name] for name in rows["metric"]} == dict(zip(rows["metric"], rows["value"], strict=True))
        assert all(type(value) in (str, int, float, bool) for value in record.values())
    assert (alive["dead"], dead["dead"], "lss" in alive, "lss" in dead) == (False, True, True, False)


def test_another_view_of_the_same_networks_adds_metrics_but_not_their_status():
    after = table(("plain", 0, 0.1, "dead", "test_accuracy", 0.1))
    control = table(("plain", 0, 0.1, "trained", "shrunk_ots", 1.0))
    (record,) = geolib.records(pd.concat([after, control]), KEYS)
    assert (record["dead"], record["test_accuracy"], record["shrunk_ots"]) == (True, 0.1, 1.0)


def test_refuses_keys_that_do_not_tell_networks_apart():
    two = table(("plain", 0, 0.1, "trained", "lss", 1.0), ("plain", 0, 0.2, "trained", "lss", 1.0))
    with pytest.raises(ValueError, match=r"kind, seed = \('plain', 0\) has two values of lss"):
        geolib.records(two, ["kind", "seed"])
    with pytest.raises(ValueError, match="no column blocks; its columns are kind, seed"):
        geolib.records(two, ["kind", "blocks"])


def test_validation_accuracy_is_that_of_the_held_out_points_and_zero_after_divergence():
    found = geolib.validation_records(
        table(("plain", 0, 0.1, "trained", "test_accuracy", 0.7), ("plain", 1, 0.1, "diverged", "epochs", 0.0)), KEYS
    )
    assert found == [
        {"kind": "plain", "seed": 0, "weight_decay": 0.1, "validation_accuracy": 0.7},
        {"kind": "plain", "seed": 1, "weight_decay": 0.1, "validation_accuracy": 0.0},
    ]


def tried(kind, **accuracies):
    return [
        {"kind": kind, "weight_decay": gamma, "seed": seed, "validation_accuracy": accuracy}
        for gamma, values in zip((0.1, 0.0, 0.01), accuracies.values(), strict=True)
        for seed, accuracy in enumerate(values)
    ]


def test_the_best_mean_is_chosen_for_each_kind_and_a_tie_goes_to_the_smaller():
    # Tenths are not exact in binary: 0.1 + 0.2 and 0.15 + 0.15 tie only up to rounding.
    validation = tried("plain", a=(0.1, 0.2), b=(0.05, 0.2), c=(0.15, 0.15)) + tried(
        "resnet", a=(1, 0), b=(1, 1), c=(1, 1)
    )
    plain, resnet = geolib.best_settings(validation, ["weight_decay"])
    assert plain == {"kind": "plain", "weight_decay": 0.01, "validation_accuracy": pytest.approx(0.15)}
    assert resnet == {"kind": "resnet", "weight_decay": 0.0, "validation_accuracy": 1.0}


def test_two_settings_are_chosen_together_and_ties_settled_in_their_order():
    validation = [
        {"kind": "plain", "blocks": 3, "rate": rate, "gain": gain, "seed": 0, "validation_accuracy": accuracy}
        for rate, gain, accuracy in ((0.3, 1, 0.9), (0.1, 2, 0.9), (0.1, 4, 0.9), (0.05, 1, 0.8))
    ]
    (best,) = geolib.best_settings(validation, ["rate", "gain"], by=["kind", "blocks"])
    assert best == {"kind": "plain", "blocks": 3, "rate": 0.1, "gain": 2, "validation_accuracy": 0.9}


def test_settings_tried_with_other_seeds_are_not_compared():
    with pytest.raises(ValueError, match=r"kind = \('plain',\): every setting must be tried with the same seeds"):
        geolib.best_settings(tried("plain", a=(0.1, 0.2), b=(0.3,), c=(0.1, 0.1)), ["weight_decay"])
