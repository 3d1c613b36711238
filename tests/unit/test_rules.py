"""Every kind of rule on records small enough to judge by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from geolib.evidence import Evidence, Result, Silence
from geolib.rules import Finding, combine, judge

SEEDS = [100, 101, 102, 103, 104]
WOBBLE = [-2, -1, 0, 1, 2]
#: Half of the 95% interval of five values with spacing 1: t_{4, .975} sqrt(2.5 / 5).
HALF = 2.7764451 * math.sqrt(0.5)
GAMMAS = [0, 1e-3, 1e-2, 1e-1]


def record(seed, kind="resnet", gamma=0.0, **metrics):
    return {"seed": seed, "kind": kind, "weight_decay": gamma, "dead": False, "diverged": False, **metrics}


def runs(mean, metric="lss", step=0.1, seeds=SEEDS, **fields):
    return [record(seed, **{metric: mean + step * w}, **fields) for seed, w in zip(seeds, WOBBLE, strict=False)]


def evidence(trained, untrained=(), *, gamma="best", seeds=SEEDS, **more):
    numbers = {
        "runs": trained, "untrained": list(untrained), "best": {"resnet": 0.0, "plain": 0.0},
        "lss_nulls": {"walk": 4.0}, "parameters": {"seeds": seeds},
    }  # fmt: skip
    return Evidence(numbers, {"kind": "resnet"}, gamma, **more)


def over_gamma(values, **fields):
    """Records with metric -> one mean a gamma; seeds spread by a hundredth."""
    return [
        record(seed, gamma=gamma, **{name: means[k] + 0.01 * w for name, means in values.items()}, **fields)
        for k, gamma in enumerate(GAMMAS) for seed, w in zip(SEEDS, WOBBLE, strict=True)
    ]  # fmt: skip


MEAN = {"rule": "mean", "metric": "lss", "over": "walk", "below": 0.8}


@pytest.mark.parametrize(
    ("mean", "verdict"), [(3.0, "supported"), (3.4, "refuted"), (3.2, "undetermined"), (3.05, "undetermined")]
)
def test_mean_against_a_null(mean, verdict):
    finding = judge(MEAN, evidence(runs(mean)))
    assert finding.verdict == verdict
    assert finding.interval.mean == pytest.approx(mean / 4)
    assert finding.interval.high == pytest.approx((mean + 0.1 * HALF) / 4, rel=1e-6)
    assert finding.interval.count == 5


def test_refutation_may_have_a_bound_of_its_own():
    rule = MEAN | {"refuted_above": 1}
    assert judge(rule, evidence(runs(3.6))).verdict == "undetermined"
    assert judge(rule, evidence(runs(4.4))).verdict == "refuted"


def test_at_most_holds_on_the_bound():
    rule = {"rule": "mean", "metric": "lss", "at_most": 1.1}
    assert judge(rule, evidence(runs(1.1, step=0))).verdict == "supported"
    assert judge(rule, evidence(runs(1.2, step=0.001))).verdict == "refuted"
    assert judge(rule, evidence(runs(1.1, step=0.001))).verdict == "undetermined"


@pytest.mark.parametrize(
    ("shift", "step", "verdict"), [(-0.5, 1, "supported"), (0.5, 1, "refuted"), (-0.5, -1, "undetermined")]
)
def test_paired_difference_by_seed(shift, step, verdict):
    trained, before = runs(3 + shift, step=step), runs(3.0, step=1)
    rule = {"rule": "paired", "metric": "lss", "against": {"trained": False}, "below": 0}
    finding = judge(rule, evidence(trained, before))
    assert finding.verdict == verdict
    assert finding.interval.mean == pytest.approx(shift)
    # One step apart the seeds cancel; turned round their spread doubles.
    assert finding.interval.high - finding.interval.low == pytest.approx(0 if step == 1 else 4 * HALF, abs=1e-6)


def test_paired_with_another_metric_and_with_another_weight_decay():
    both = [record(s, ots=0.9, matched_ots=0.5) for s in SEEDS] + [record(s, gamma=0.1, ots=0.2) for s in SEEDS]
    rule = {"rule": "paired", "metric": "ots", "above": 0}
    assert judge(rule | {"against": {"metric": "matched_ots"}}, evidence(both)).interval.mean == pytest.approx(0.4)
    assert judge(rule | {"against": {"gamma": 0.1}}, evidence(both)).interval.mean == pytest.approx(0.7)


@pytest.mark.parametrize(("before", "heading"), [((0.9, 0.1), "by architecture"), ((0.5, 0.4), "")])
def test_heading_unless_training_widens_the_gap(before, heading):
    trained = runs(0.9, "ots", 0.01) + runs(0.2, "ots", 0.01, kind="plain")
    untrained = runs(before[0], "ots", 0.01) + runs(before[1], "ots", 0.01, kind="plain")
    rule = {"rule": "paired", "metric": "ots", "against": {"kind": "plain"}, "above": 0, "heading": "by architecture"}
    finding = judge(rule, evidence(trained, untrained))
    assert (finding.verdict, finding.heading) == ("supported", heading)


SLOPE = {
    "rule": "slope", "metric": "lss", "below": 0, "gamma": "all",
    "entry": {"metric": "train_accuracy", "of": "zero", "within": 0.05},
}  # fmt: skip


@pytest.mark.parametrize(
    ("lss", "slope", "verdict"),
    [([9, 3, 2, 1], -1, "supported"), ([0, 1, 2, 3], 1, "refuted"), ([0, 5, 5, 5], 0, "undetermined")],
)
def test_slope_is_over_the_nonzero_gammas(lss, slope, verdict):
    finding = judge(SLOPE, evidence(over_gamma({"lss": lss, "train_accuracy": [1, 1, 1, 1]})))
    assert finding.verdict == verdict
    assert finding.interval.mean == pytest.approx(slope)
    assert "gamma 0.001, 0.01, 0.1" in finding.why


def test_slope_is_theil_sens_one_a_seed():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(4, 5))
    trained = [
        record(seed, gamma=gamma, lss=table[k, j], train_accuracy=1.0)
        for k, gamma in enumerate(GAMMAS) for j, seed in enumerate(SEEDS)
    ]  # fmt: skip
    pairs = [np.median([(y[k] - y[j]) / (k - j) for j in range(3) for k in range(j + 1, 3)]) for y in table[1:].T]
    assert judge(SLOPE, evidence(trained)).interval.mean == pytest.approx(np.mean(pairs))


def test_a_gamma_enters_when_its_networks_train_as_well_as_gamma_0s():
    entering = over_gamma({"lss": [9, 3, 2, 9], "train_accuracy": [1, 0.95, 0.96, 0.9]})
    finding = judge(SLOPE, evidence(entering))
    assert finding.verdict == "undetermined"
    assert "2 weight decays enter, 3 needed" in finding.why
    more = entering + [record(s, gamma=5e-2, lss=1.0 + 0.1 * k, train_accuracy=1.0) for k, s in enumerate(SEEDS)]
    finding = judge(SLOPE, evidence(more))
    assert finding.verdict == "supported"
    assert "gamma 0.001, 0.01, 0.05; over all of gamma 0.001, 0.01, 0.05, 0.1" in finding.why  # the bad one beside it


def test_a_network_that_died_for_its_gamma_keeps_that_gamma_out_but_not_one_among_good_ones():
    trained = over_gamma({"lss": [9, 3, 2, 1], "train_accuracy": [1, 1, 1, 1]})
    dead = [{"seed": s, "kind": "resnet", "weight_decay": 0.5, "dead": True, "train_accuracy": 0.1} for s in SEEDS]
    finding = judge(SLOPE, evidence(trained + dead))
    assert finding.verdict == "supported"
    assert "0.5" not in finding.why
    trained[6] = {"seed": 101, "kind": "resnet", "weight_decay": 1e-3, "dead": True, "train_accuracy": 1.0}
    assert judge(SLOPE, evidence(trained)).verdict == "no verdict"


def test_a_gamma_without_a_score_that_did_not_enter_leaves_the_verdict():
    trained = over_gamma({"lss": [9, 3, 2, 1], "train_accuracy": [1, 1, 1, 1]})
    bad = [record(s, gamma=0.5, train_accuracy=0.1) for s in SEEDS]
    finding = judge(SLOPE, evidence(trained + bad))
    assert finding.verdict == "supported"
    assert finding.why == "gamma 0.001, 0.01, 0.1; over all of gamma 0.001, 0.01, 0.1, 0.5 none"


@pytest.mark.parametrize("end", ["dead", "diverged"])
def test_a_reference_that_died_or_diverged_gives_no_verdict(end):
    trained = over_gamma({"lss": [9, 3, 2, 1], "train_accuracy": [0.2, 0.02, 0.01, 0.02]})
    trained[0] = {"seed": 100, "kind": "resnet", "weight_decay": 0.0, end: True}
    finding = judge(SLOPE, evidence(trained))
    assert (finding.verdict, finding.interval) == ("no verdict", None)
    assert "1 of 5 networks died or diverged" in finding.why


def test_a_missing_control_is_no_missing_run():
    paired = {"rule": "paired", "metric": "lss", "below": 0}
    for against in ({"trained": False}, {"kind": "plain"}):
        finding = judge(paired | {"against": against}, evidence(runs(3.0)))
        assert finding.verdict == "no verdict"
        assert "no " in finding.why
        elsewhere = evidence(runs(3.0, kind="other"))
        assert judge(paired | {"against": against}, elsewhere).verdict == "not run at this scale"


RANK = {"rule": "rank_correlation", "metric": "lss", "with": "train_accuracy", "below": 0, "gamma": "all"}


@pytest.mark.parametrize(
    ("accuracy", "rho", "verdict"),
    [([0.5, 0.6, 0.7, 0.8], -1, "supported"), ([0.8, 0.7, 0.6, 0.5], 1, "refuted"), ([0.6, 0.8, 0.5, 0.7], 0, "")],
)
def test_rank_correlation(accuracy, rho, verdict):
    finding = judge(RANK, evidence(over_gamma({"lss": [4, 3, 2, 1], "train_accuracy": accuracy})))
    assert finding.interval.mean == pytest.approx(rho)
    assert finding.verdict == (verdict or "undetermined")


def test_rank_correlation_is_spearmans():
    a, b = [4.0, 1, 3, 2], [0.9, 0.2, 0.3, 0.5]
    trained = over_gamma({"lss": a, "train_accuracy": b})
    rho = 1 - 6 * sum((x - y) ** 2 for x, y in zip([4, 1, 3, 2], [4, 1, 2, 3], strict=True)) / (4 * 15)
    assert judge(RANK, evidence(trained)).interval.mean == pytest.approx(rho)
    assert rho == pytest.approx(stats.spearmanr(a, b).statistic)


def test_rank_correlation_has_an_entry_a_ceiling_and_needs_ranks():
    table = {"lss": [4, 3, 2, 1], "train_accuracy": [0.5, 0.6, 0.7, 0.1]}
    entry = RANK | {"entry": {"metric": "train_accuracy", "above": 0.2}}
    assert "gamma 0, 0.001, 0.01" in judge(entry, evidence(over_gamma(table))).why
    dead = over_gamma(table | {"train_accuracy": [0.5, 0.6, 0.7, 0.8]})
    dead = [
        row | ({"dead": True} if row["weight_decay"] == GAMMAS[-1] and row["seed"] == SEEDS[0] else {}) for row in dead
    ]
    assert judge(entry, evidence(dead)).verdict == "no verdict"
    alive = RANK | {"entry": {"metric": "train_accuracy", "above": 0.2, "alive": True}}
    assert "gamma 0, 0.001, 0.01" in judge(alive, evidence(dead)).why
    best = RANK | {"entry": {"metric": "train_accuracy", "of": "best", "within": 0.15}}
    assert judge(best, evidence(over_gamma(table))).verdict == "undetermined"
    ceiling = RANK | {"ceiling": {"metric": "train_accuracy", "below": 0.99}}
    high = evidence(over_gamma({"lss": [4, 3, 2, 1], "train_accuracy": [1, 1.1, 1.2, 0.9]}))
    assert judge(ceiling, high).verdict == "undetermined"
    assert "below the ceiling of 0.99" in judge(ceiling, high).why
    constant = [record(s, gamma=g, lss=1.0, train_accuracy=g) for g in GAMMAS for s in SEEDS]
    assert judge(RANK, evidence(constant)).verdict == "no verdict"


SHARE = {
    "rule": "share", "metric": "lss", "within": 0.2, "gamma": "any", "from": {"arm": "a"}, "to": {"arm": "b"},
    "network": {"arm": "c"}, "matched": {"metric": "train_loss", "within": 0.05},
}  # fmt: skip


@pytest.mark.parametrize(
    ("ours", "loss", "verdict"),
    [
        (1.1, 1.0, "supported"), (0.9, 1.0, "supported"), (2.0, 1.0, "refuted"), (0.2, 1.0, "refuted"),
        (1.2, 1.0, "undetermined"), (1.1, 1.06, "undetermined"),
    ],
)  # fmt: skip
def test_share_of_a_gap(ours, loss, verdict):
    arms = [("a", 2.0, 1.0), ("b", 1.0, 1.0), ("c", ours, loss)]
    trained = [
        record(s, arm=arm, lss=lss + (0.01 * w if arm == "c" else 0), train_loss=train_loss)
        for arm, lss, train_loss in arms for s, w in zip(SEEDS, WOBBLE, strict=True)
    ]  # fmt: skip
    finding = judge(SHARE, evidence(trained))
    assert finding.verdict == verdict
    if loss == 1:
        assert finding.interval.mean == pytest.approx(ours - 1)


def test_share_of_a_gap_that_changes_sign_is_undetermined():
    trained = [record(s, arm=arm, lss=1.0 + w * (arm == "a"), train_loss=1.0)
               for arm in "abc" for s, w in zip(SEEDS, WOBBLE, strict=True)]  # fmt: skip
    assert judge(SHARE, evidence(trained)).verdict == "undetermined"


@pytest.mark.parametrize(
    ("change", "verdict", "why"),
    [
        (lambda r: r[:3] + r[4:], "no verdict", "no network of seed 103"),
        (lambda r: [{**r[0], "dead": True}, *r[1:]], "no verdict", "1 of 5 networks died or diverged"),
        (lambda r: [{**r[0], "diverged": True}, *r[1:]], "no verdict", "1 of 5 networks died or diverged"),
        (lambda r: [{**r[0], "lss": None}, *r[1:]], "no verdict", "lss is missing"),
        (lambda r: [{**r[0], "lss": math.nan}, *r[1:]], "no verdict", "lss is missing"),
        (lambda r: [*r, r[0]], "no verdict", "several networks of one seed"),
        (lambda r: [{**x, "kind": "plain"} for x in r], "not run at this scale", "no network with kind resnet"),
    ],
)
def test_what_gives_no_verdict(change, verdict, why):
    finding = judge(MEAN, evidence(change(runs(3.0))))
    assert finding.verdict == verdict
    assert why in finding.why
    assert finding.interval is None


def test_too_few_seeds_and_seeds_of_the_pilots():
    few = evidence(runs(3.0)[:4], seeds=SEEDS[:4])
    assert judge(MEAN, few).verdict == "too few seeds"
    assert judge(MEAN, evidence(runs(3.0), seeds=SEEDS)).verdict == "supported"
    ten = Evidence(few.numbers | {"runs": runs(3.0), "parameters": {"seeds": SEEDS}}, {"kind": "resnet"}, seeds=10)
    assert judge(MEAN, ten).verdict == "too few seeds"
    assert judge(MEAN, evidence(runs(3.0), first_seed=101)).verdict == "no verdict"


def test_fields_come_from_the_record_then_the_parameters_then_the_defaults():
    numbers = {"runs": [record(s, lss=1.0, blocks=b) for s in SEEDS for b in (2, 4)],
               "best": {"resnet": 0}, "parameters": {"seeds": SEEDS, "width": 8, "norm": None}}  # fmt: skip
    network = {"kind": "resnet", "blocks": "largest", "width": 8, "norm": "none", "form": "dense"}
    found = Evidence(numbers, network, defaults={"form": "dense"})
    assert len(found.values("lss")) == 5
    assert {one["blocks"] for one in found.records()} == {4}
    for wrong in ({"width": 64}, {"form": "conv"}, {"colour": "red"}):
        with pytest.raises(Silence, match="no network"):
            Evidence(numbers, network | wrong, defaults={"form": "dense"}).values("lss")


def test_no_best_gamma_no_null_no_beside():
    bare = evidence(runs(3.0))
    assert judge(MEAN, Evidence(bare.numbers | {"best": {}}, {"kind": "resnet"})).verdict == "no verdict"
    assert judge(MEAN, Evidence(bare.numbers | {"lss_nulls": {}}, {"kind": "resnet"})).verdict == "no verdict"
    assert judge(MEAN | {"beside": ["action_ratio"]}, bare).verdict == "no verdict"
    assert "lss 3" in judge(MEAN | {"beside": ["lss"]}, bare).why


def test_conditions_are_combined():
    def both(*verdicts):
        return combine([Finding(verdict) for verdict in verdicts])

    assert both("supported", "supported") == "supported"
    assert both("supported", "undetermined", "refuted") == "refuted"
    assert both("supported", "undetermined", "no verdict") == "undetermined"


@pytest.mark.parametrize(("path", "limit"), [("x@cifar10-20000.json", 20000), ("x@cifar10.json", 0), ("x.json", 0)])
def test_a_reduced_run_is_known_by_its_name_too(path, limit):
    assert Result(path, "paper", "x", {"parameters": {"limit_train": 0}}, {}).limit == limit
