"""Statements are judged by the differences of the seeds that both arms have."""

import pandas as pd

import geolib


def arm(values, seeds=range(5)):
    return pd.DataFrame({"lss": values}, index=list(seeds))


def test_arms_are_paired_by_seed_not_by_order():
    low, high = arm([1.0, 2, 3, 4, 5]), arm([5.2, 4.1, 3.2, 2.1, 1.2], reversed(range(5)))
    table = geolib.verdict_table({"a": high, "b": low}, {"up": ("lss", "a", "b"), "down": ("lss", "b", "a")})
    assert table["verdict"].to_dict() == {"up": "supported", "down": "refuted"}
    assert table.loc["up", "said to be higher"] == geolib.format_interval(high["lss"].tolist())
    assert table.loc["up", "said to be lower"] == geolib.format_interval(low["lss"].tolist())


def test_a_missing_seed_or_score_gives_no_verdict():
    arms = {"a": arm([1.0, 2, 3, 4, 5]), "b": arm([0.0] * 4, range(4)), "dead": pd.DataFrame(index=range(5))}
    table = geolib.verdict_table(arms, {"one short": ("lss", "a", "b"), "no score": ("lss", "a", "dead")})
    assert set(table["verdict"]) == {"no verdict"}
    assert set(table["said to be lower"]) == {"no scores"}


def test_two_seeds_judge_nothing():
    arms = {"a": arm([2.0, 3], range(2)), "b": arm([0.0, 1], range(2))}
    assert geolib.verdict_table(arms, {"s": ("lss", "a", "b")})["verdict"].tolist() == ["too few seeds"]
