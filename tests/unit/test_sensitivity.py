"""Shifts are paired by seed; ranges hold the baseline and no variation that has no value."""

import pytest

from geolib import shift_ranges, shifts, student_t_interval


def runs(**values):
    """Records of ``kind_variation=(value of seed 0, of seed 1, ...)``, None for a missing one."""
    return [
        {"variation": name.split("_")[1], "kind": name.split("_")[0], "seed": seed}
        | ({} if value is None else {"lss": value})
        for name, each in values.items()
        for seed, value in enumerate(each)
    ]


def test_a_shift_is_the_mean_of_differences_within_seeds():
    # The seeds differ by far more than the variation does; only pairing shows a shift of 0.1 to 0.3.
    (row,) = shifts(runs(plain_base=(1, 5, 9), plain_wide=(1.1, 5.2, 9.3)), ["lss"], baseline="base")
    interval = student_t_interval([0.1, 0.2, 0.3])
    assert row == {
        "variation": "wide", "kind": "plain", "metric": "lss", "seeds": 3, "missing": 0,
        "mean": pytest.approx(0.2), "low": pytest.approx(interval.low), "high": pytest.approx(interval.high),
    }  # fmt: skip


def test_seeds_are_paired_whatever_their_order():
    records = runs(plain_base=(1, 5), plain_wide=(2, 7))
    assert shifts(records, ["lss"], baseline="base") == shifts(records[::-1], ["lss"], baseline="base")


def test_a_missing_value_leaves_no_mean_and_is_counted():
    for records in (
        runs(plain_base=(1, 5, 9), plain_wide=(None, 5, None)),
        runs(plain_base=(None, 5, None), plain_wide=(1, 5, 9)),
    ):
        (row,) = shifts(records, ["lss"], baseline="base")
        assert row == {"variation": "wide", "kind": "plain", "metric": "lss", "seeds": 3, "missing": 2}


def test_other_seeds_are_refused():
    with pytest.raises(
        ValueError, match=r"wide, plain: seeds \[0, 1\] cannot be paired with the baseline's \[0, 1, 2\]"
    ):
        shifts(runs(plain_base=(1, 5, 9), plain_wide=(1, 5)), ["lss"], baseline="base")
    with pytest.raises(ValueError, match=r"cannot be paired with the baseline's \[\]"):
        shifts(runs(plain_base=(1, 5), resnet_wide=(1, 5)), ["lss"], baseline="base")


def test_ranges_span_the_mean_shifts_and_zero():
    records = runs(
        plain_base=(1, 1),
        plain_wide=(2, 4),
        plain_deep=(3, 6),
        plain_dead=(None, 9),
        resnet_base=(1, 1),
        resnet_deep=(0, 0),
    )
    assert shift_ranges(shifts(records, ["lss"], baseline="base")) == {
        "plain": {"lss": [0.0, 3.5]},
        "resnet": {"lss": [-1.0, 0.0]},
    }
