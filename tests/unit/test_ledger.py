"""The ledger on a book with planted results: false ones are refuted, smoke proves nothing, tampering is seen."""

import copy
import json
import shutil

import pytest
import yaml

from geolib import judge_statement, ledger_table, published, show_ledger, show_ledger_summary
from geolib.__main__ import main
from geolib.chapters import UsageError, find_chapter
from geolib.claims import CONDITIONS, read_claims, rules_digest
from geolib.evidence import read_result
from geolib.ledger import ledger_rows
from geolib.ledger_check import check_ledger
from geolib.ledger_views import ledger_text
from geolib.provenance import grid_digest, source_digest
from geolib.results import variant_name
from geolib.rules import RULES
from geolib.scores import line_shape_null
from geolib.verdicts import MINIMUM_SEEDS

SEEDS = [100, 101, 102, 103, 104]
GAMMAS = [0, 5e-4, 1e-3, 5e-3, 1e-2]
CHAPTER = """---
geolib:
  parameters:
    dataset: {enum: [digits, mnist, cifar10, cifar100]}
---

# A chapter

```{code-cell} ipython3
:tags: [parameters]

dataset: str = "digits"
seeds: list[int] = [100]
limit_train: int = 0
```
"""


@pytest.fixture
def ledger_book(tmp_path, root, monkeypatch):
    """A book with the real rules, a stub of every chapter they name, and no results; the current folder."""
    (tmp_path / "book/scales").mkdir(parents=True)
    shutil.copy(root / "book/claims.yml", tmp_path / "book")
    names = {s["chapter"] for row in rows_of(read_claims(tmp_path)).values() for s in row["settings"]}
    names.add("deviations")
    for name in names:
        (tmp_path / f"book/{name}.md").parent.mkdir(exist_ok=True)
        (tmp_path / f"book/{name}.md").write_text(CHAPTER, "utf-8")
    (tmp_path / "book/index.md").write_text("# Index\n", "utf-8")
    contents = {"format": "jb-book", "root": "book/index", "chapters": [{"file": f"book/{n}"} for n in sorted(names)]}
    (tmp_path / "_toc.yml").write_text(yaml.safe_dump(contents), "utf-8")
    for scale in ("laptop", "paper", "smoke"):
        entry = {name: {"parameters": {"seeds": SEEDS}} for name in names}
        (tmp_path / f"book/scales/{scale}.yml").write_text(yaml.safe_dump(entry), "utf-8")
    (tmp_path / "requirements.lock").write_text("torch==1\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows_of(claims):
    return claims["statements"] | claims["published"]


def plant(book, setting, world, *, limit=0, folder=None):
    """Write a results file with five seeds at five weight decays in which `world` says what each network scores."""
    chapter = find_chapter(book, setting["chapter"])
    parameters = {"dataset": setting["dataset"], "seeds": SEEDS, "limit_train": limit}
    fields = {k: v for k, v in setting["network"].items() if k not in ("kind", "arm", "blocks", "width")}
    networks = [
        {"kind": kind, "blocks": blocks, "width": width, "arm": arm, **fields}
        for kind in ("resnet", "plain") for blocks in (10, 4) for width in (64, 16, 8)
        for arm in ("none", "decay0", "decay", "penalty")
    ]  # fmt: skip

    def record(network, seed, gamma, trained):
        scores = world(network, 0 if gamma is None else GAMMAS.index(gamma), trained)
        drawn = {name: value + 1e-4 * (seed - 102) for name, value in scores.items()}
        decay = {"weight_decay": gamma} if trained else {}
        return {**network, "seed": seed, **decay, "dead": False, "diverged": False, **drawn}

    # One network a kind and weight decay, but for the chapters with several depths, or several widths and arms.
    depths = bool(setting.get("per"))
    many = chapter.name == "controls/geodesicity"
    width = setting["network"].get("width", 64)
    swept = [
        n for n in networks
        if (depths or n["blocks"] == 10) and (many or (n["width"], n["arm"]) == (width, "none"))
    ]  # fmt: skip
    numbers = {
        "runs": [record(n, s, g, True) for n in swept for s in SEEDS
                 for g in (GAMMAS if n["arm"] == "none" else GAMMAS[:1])],
        "untrained": [record(n, s, None, False) for n in swept for s in SEEDS],
        "best": {"resnet": 1e-3, "plain": 1e-3}, "lss_nulls": {"walk": 4.0},
        "chapter": chapter.name, "scale": setting["scale"], "parameters": parameters,
        "scale_sha256": grid_digest(chapter, setting["scale"], parameters),
        "rules_sha256": rules_digest(book, chapter.name),
    }  # fmt: skip
    made = {"command": "geolib run x", "commit": "abc", "source_sha256": source_digest(chapter, parameters)}
    name = chapter.name + variant_name(chapter, setting["scale"], parameters)
    path = book / "results" / (folder or setting["scale"]) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"numbers": numbers, "provenance": made}), "utf-8")
    return path


def trained_below(metric, low, before):
    return lambda network, k, trained: {metric: low if trained else before}


def trend(sign):
    return lambda network, k, trained: {"lss": 2 + sign * 0.2 * k, "train_accuracy": 0.98}


def pair(metric, resnet, plain):
    def world(network, k, trained):
        after, before = resnet if network["kind"] == "resnet" else plain
        return {metric: after if trained else before}

    return world


def arms(**of):
    return lambda network, k, trained: {
        "train_loss": 0.1, **dict(zip(("lss", "asymmetry"), of.get(network["arm"], (1, 1)), strict=True))
    }  # fmt: skip


def asymmetry(sign, cost, shrunk):
    return lambda network, k, trained: {
        "asymmetry": 0.5 + sign * 0.05 * k, "train_accuracy": 0.98, "cost_ratio": cost, "shrunk_cost_ratio": shrunk
    }  # fmt: skip


def geodesic(ratio):
    return lambda network, k, trained: {"length_ratio": ratio, "action_ratio": 1.5, "walk_length_ratio": 3.0}


def bound(sign):
    return lambda network, k, trained: {"curve_length": 9 - k, "weight_bound": 90 + sign * k, "bound_ratio": 9.0}


def ranks(one, sign, other, level):
    return lambda network, k, trained: {
        "train_accuracy": 0.98, one: 2 - 0.2 * k, other: level + sign * 0.01 * k
    }  # fmt: skip


#: Statement -> a world in which it is true, and one for each way in which it can be false.
WORLDS = {
    "C1": [trained_below("lss", 2, 3), trained_below("lss", 3.6, 3.9), trained_below("lss", 2, 1.5)],
    "C2": [trained_below("lss", 2, 3), trained_below("lss", 4.4, 5), trained_below("lss", 2, 1.5)],
    "C3": [trend(-1), trend(1)],
    "C4": [trend(-1), trend(1)],
    "C5": [trend(-1), trend(1)],
    "C6": [pair("ots", (0.9, 0.5), (0.2, 0.4)), pair("ots", (0.2, 0.9), (0.9, 0.2))],
    "C7": [lambda *_: {"ots": 0.9, "matched_ots": 0.5}, lambda *_: {"ots": 0.5, "matched_ots": 0.9}],
    "C8": [asymmetry(-1, 0.9, 0.5), asymmetry(1, 0.9, 0.5), asymmetry(-1, 0.5, 0.9)],
    "C9": [geodesic(1.05), geodesic(1.3)],
    "C10": [bound(-1), bound(1)],
    "C11": [ranks("lss", 1, "train_accuracy", 0.7), ranks("lss", -1, "train_accuracy", 0.7)],
    "C12": [ranks("lss", 1, "test_accuracy", 0.7), ranks("lss", -1, "test_accuracy", 0.7)],
    "C13": [
        pair("violations", (0.005, 0.1), (0.2, 0.2)), pair("violations", (0.05, 0.1), (0.2, 0.2)),
        pair("violations", (0.005, 0.001), (0.2, 0.2)), pair("violations", (0.005, 0.1), (0.001, 0.2)),
    ],
    "C14": [
        arms(decay0=(2, 0.8), decay=(1, 0.2), penalty=(1.1, 0.25)),
        arms(decay0=(2, 0.8), decay=(1, 0.2), penalty=(1.9, 0.25)),
        arms(decay0=(2, 0.8), decay=(1, 0.2), penalty=(1.1, 0.7)),
    ],
}  # fmt: skip


def judged(book, name):
    return [row for row in ledger_rows(book) if row["id"] == name]


@pytest.mark.parametrize("name", [f"C{k}" for k in range(1, 15)])
def test_true_results_support_and_each_false_one_refutes(ledger_book, name):
    settings = read_claims(ledger_book)["statements"][name]["settings"]
    assert {row["verdict"] for row in judged(ledger_book, name)} == {"not run at this scale"}
    conditions = read_claims(ledger_book)["statements"][name]["conditions"]
    true, *false = WORLDS[name]
    assert len(false) == len(conditions)
    for world, verdict in [(true, "supported"), *((world, "refuted") for world in false)]:
        for setting in settings:
            plant(ledger_book, setting, world)
        rows = judged(ledger_book, name)
        assert len(rows) >= len(settings)
        assert [(row["setting"], row["verdict"]) for row in rows] == [(row["setting"], verdict) for row in rows]
        for row in rows:
            assert [one["verdict"] for one in row["conditions"]].count("refuted") == (verdict == "refuted")
            assert (row["count"], row["commit"], row["command"]) == (5, "abc", "geolib run x")
            assert row["low"] <= row["mean"] <= row["high"]


def test_a_setting_is_split_by_depth(ledger_book):
    setting = read_claims(ledger_book)["statements"]["C11"]["settings"][0]
    plant(ledger_book, setting, WORLDS["C11"][0])
    rows = [row for row in judged(ledger_book, "C11") if row["dataset"] == "mnist" and "plain" in row["setting"]]
    assert [row["setting"] for row in rows] == [
        "paper, mnist, plain, width 64, blocks 4, all gammas", "paper, mnist, plain, width 64, blocks 10, all gammas",
    ]  # fmt: skip


def test_smoke_results_support_and_refute_nothing(ledger_book, capsys):
    statements = read_claims(ledger_book)["statements"]
    before = ledger_rows(ledger_book)
    for name, row in statements.items():
        for setting in row["settings"]:
            smoke = {**setting, "scale": "smoke"}
            plant(ledger_book, smoke, WORLDS[name][0])
            plant(ledger_book, smoke, WORLDS[name][1], folder="../_build/smoke/results")
    assert list((ledger_book / "results/smoke").rglob("*.json"))
    assert ledger_rows(ledger_book) == before
    assert not {row["verdict"] for row in before} & {"supported", "refuted", "within", "outside"}
    # Nor when they lie where the results of another scale belong.
    misplaced = plant(
        ledger_book, {**statements["C3"]["settings"][0], "scale": "smoke"}, WORLDS["C3"][0], folder="laptop"
    )
    assert main(["ledger"]) == 2
    assert "holds a run of figures/resnet_vs_plain at scale smoke" in capsys.readouterr().err
    assert main(["ledger", "--check"]) == 1
    misplaced.unlink()
    # Nor when a rule asks for it.
    change_claims(ledger_book, lambda claims: claims["statements"]["C3"]["settings"][0].update(scale="smoke"))
    with pytest.raises(UsageError, match="scale 'smoke'; only laptop and paper may judge"):
        ledger_rows(ledger_book)


def change_claims(book, change):
    path = book / "book/claims.yml"
    claims = copy.deepcopy(yaml.safe_load(path.read_text("utf-8")))
    change(claims)
    path.write_text(json.dumps(claims), "utf-8")


@pytest.fixture
def recorded(ledger_book, capsys):
    """A book with two results and its ledger; the first result's path."""
    settings = read_claims(ledger_book)["statements"]["C3"]["settings"]
    paths = [plant(ledger_book, setting, WORLDS["C3"][0]) for setting in settings]
    assert main(["ledger"]) == 0
    assert "C3" in capsys.readouterr().out
    return paths[0]


def check(capsys):
    capsys.readouterr()
    status = main(["ledger", "--check"])
    output = capsys.readouterr()
    return status, output.out, output.err.splitlines()


def test_an_untouched_ledger_passes_and_the_check_writes_nothing(ledger_book, recorded, capsys):
    path = ledger_book / "results/ledger.json"
    before = {p: p.read_bytes() for p in (ledger_book / "results").rglob("*.json")}
    assert check(capsys) == (0, "every row of the ledger follows from the results\n", [])
    assert {p: p.read_bytes() for p in (ledger_book / "results").rglob("*.json")} == before
    rows = json.loads(path.read_text("utf-8"))["rows"]
    parts = "id statement place metric setting published reading_error mean low high count verdict why scale chapter"
    assert {*parts.split(), "command", "commit"} <= rows[0].keys()


@pytest.mark.parametrize(
    ("part", "value"), [("verdict", "refuted"), ("mean", -0.3), ("published", 1), ("command", "true"), ("why", "")]
)
def test_a_tampered_row_is_seen(ledger_book, recorded, capsys, part, value):
    path = ledger_book / "results/ledger.json"
    content = json.loads(path.read_text("utf-8"))
    row = next(row for row in content["rows"] if row["id"] == "C3")
    row[part] = value
    path.write_text(json.dumps(content), "utf-8")
    status, _, faults = check(capsys)
    assert status == 1
    assert len(faults) == 1
    assert "C3 (figures/resnet_vs_plain: laptop, digits, resnet" in faults[0]
    assert f"{part} is {value!r}, but the results and rules give" in faults[0]


def test_a_missing_or_an_added_row_and_a_missing_or_broken_ledger_are_seen(ledger_book, recorded, capsys):
    path = ledger_book / "results/ledger.json"
    content = json.loads(path.read_text("utf-8"))
    taken = content["rows"].pop()
    path.write_text(json.dumps({"rows": [*content["rows"], taken | {"id": "C15"}]}), "utf-8")
    status, _, faults = check(capsys)
    assert (status, len(faults)) == (1, 2)
    assert any("C15" in fault and "is no row of the ledger" in fault for fault in faults)
    path.write_text("{", "utf-8")
    assert "cannot be read" in check(capsys)[2][0]
    path.unlink()
    assert check(capsys)[2] == ["geolib: results/ledger.json is missing: run geolib ledger"]


def rewrite(path, change):
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), "utf-8")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["rows"].insert(0, c["rows"][0] | {"verdict": "refuted"}), "stands there 2 times"),
        (lambda c: c["rows"].reverse(), "its rows are not in the ledger's order"),
        (lambda c: c.update(note="all supported"), "holds 'note' beside its rows"),
    ],
)
def test_a_doubled_row_another_order_and_another_part_are_seen(ledger_book, recorded, capsys, change, words):
    rewrite(ledger_book / "results/ledger.json", change)
    status, _, faults = check(capsys)
    assert (status, len(faults)) == (1, 1)
    assert words in faults[0]


def derived(numbers):
    """Let a results file say all that follows from its records and parameters."""
    numbers["validation"] = [
        {"kind": kind, "weight_decay": gamma, "seed": 0, "validation_accuracy": accuracy}
        for kind in ("resnet", "plain") for gamma, accuracy in ((0, 0.5), (1e-3, 0.9), (1e-2, 0.9))
    ]  # fmt: skip
    numbers["shifts"] = [{"kind": "resnet", "metric": "lss", "mean": mean} for mean in (-0.2, 0.1)]
    numbers["ranges"] = {"resnet": {"lss": [-0.2, 0.1]}}
    numbers["parameters"] |= {"blocks": 4, "width": 8, "form": "dense"}
    numbers["lss_nulls"] = {"walk": line_shape_null(4, 8).mean(), "independent": {"4": 1.0}}


def of_dimension(numbers):
    numbers["untrained"][0]["dimension"] = 3.0
    numbers["lss_nulls"]["walk"] = line_shape_null(4, 3).mean()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda n: None, None),
        (of_dimension, None),
        (lambda n: (n["parameters"].update(form="conv"), n["lss_nulls"].update(walk=1.0)), None),
        (lambda n: n["best"].update(resnet=1e-2), "best is {'resnet': 0.01"),
        (lambda n: n["ranges"]["resnet"].update(lss=[-2, 2]), "ranges is"),
        (lambda n: n["lss_nulls"].update(walk=n["lss_nulls"]["walk"] * (1 + 1e-6)), "the null 'walk' of LSS is"),
        (lambda n: n["lss_nulls"].update(stroll=1.0), "what it derives cannot be computed again"),
        (lambda n: n["validation"][0].pop("seed"), "what it derives cannot be computed again"),
    ],
)
def test_what_a_result_derives_is_computed_again(ledger_book, recorded, change, words):
    rewrite(recorded, lambda content: derived(content["numbers"]))
    rewrite(recorded, lambda content: change(content["numbers"]))
    main(["ledger"])
    faults = check_ledger(ledger_book).faults
    assert len(faults) == (words is not None)
    assert not faults or words in faults[0]


def test_a_result_without_a_parameter_of_its_scale_is_seen(ledger_book, recorded):
    rewrite(recorded, lambda content: content["numbers"]["parameters"].pop("seeds"))
    faults = check_ledger(ledger_book).faults
    assert any("it does not say its seeds, which the scale laptop sets" in fault for fault in faults)


@pytest.mark.parametrize("name", ["resnet_vs_plain@digits", "resnet_vs_plain@mnist", "resnet_vs_plain@-1000"])
def test_a_result_whose_name_is_not_its_parameters_is_refused(ledger_book, recorded, capsys, name):
    assert read_result(ledger_book, recorded).path.endswith("laptop/figures/resnet_vs_plain.json")
    recorded.rename(recorded.with_name(f"{name}.json"))
    assert main(["ledger"]) == 2
    assert f"{name}.json holds a run whose parameters name it figures/resnet_vs_plain.json" in capsys.readouterr().err
    assert len(check_ledger(ledger_book).faults) == 1


def test_a_tampered_result_is_seen(recorded, capsys):
    content = json.loads(recorded.read_text("utf-8"))
    for record in content["numbers"]["runs"]:
        record["lss"] = 4 - record["lss"]
    recorded.write_text(json.dumps(content), "utf-8")
    status, _, faults = check(capsys)
    assert status == 1
    assert any("verdict is 'supported', but the results and rules give 'refuted'" in fault for fault in faults)


def test_a_result_that_does_not_parse_is_seen(recorded, capsys):
    recorded.write_text(recorded.read_text("utf-8")[:-20], "utf-8")
    status, _, faults = check(capsys)
    assert (status, len(faults)) == (1, 1)
    assert "resnet_vs_plain.json is no results file" in faults[0]
    assert main(["ledger"]) == 2


def test_a_grid_changed_after_its_run_is_seen(ledger_book, recorded, capsys):
    path = ledger_book / "book/scales/laptop.yml"
    entry = yaml.safe_load(path.read_text("utf-8"))
    entry["figures/resnet_vs_plain"]["parameters"]["seeds"] = [100, 101]
    path.write_text(yaml.safe_dump(entry), "utf-8")
    status, _, faults = check(capsys)
    assert status == 1
    assert "its entry in book/scales/laptop.yml changed after the run" in faults[0]
    assert "it ran with seeds = [100, 101, 102, 103, 104], the scale laptop says [100, 101]" in faults[1]


@pytest.mark.parametrize(
    "change",
    [
        lambda claims: claims["statements"]["C3"]["conditions"][0].update(below=-5),
        lambda claims: claims["statements"]["C1"]["settings"][0].update(gamma=0.001),
        lambda claims: claims["published"]["slide_34"]["plain"]["ots"]["value"].__setitem__(0, 0.2),
        lambda claims: claims["published"]["slide_34"]["reading_error"].update(lss=1),
        lambda claims: claims.update(first_seed=0),
    ],
)
def test_a_rule_changed_after_its_run_is_seen(ledger_book, recorded, capsys, change):
    change_claims(ledger_book, change)
    main(["ledger"])  # writing the ledger anew does not hide it
    status, _, faults = check(capsys)
    assert status == 1
    assert any("a rule for figures/resnet_vs_plain in book/claims.yml changed after the run" in f for f in faults)


def test_a_result_that_names_no_rules_is_seen(ledger_book, recorded, capsys):
    content = json.loads(recorded.read_text("utf-8"))
    del content["numbers"]["rules_sha256"]
    recorded.write_text(json.dumps(content), "utf-8")
    assert "does not say under which rules it ran" in check(capsys)[2][0]


def test_an_earlier_version_is_listed_and_is_no_fault(ledger_book, recorded, capsys):
    (ledger_book / "requirements.lock").write_text("torch==2\n", "utf-8")
    status, output, faults = check(capsys)
    assert (status, faults) == (0, [])
    assert "results/laptop/figures/resnet_vs_plain.json: computed with an earlier version" in output
    assert check_ledger(ledger_book).earlier == tuple(
        f"results/{place}.json" for place in ("laptop/figures/resnet_vs_plain", "paper/figures/resnet_vs_plain@mnist")
    )


def test_an_earlier_version_stands_beside_the_verdict_and_is_not_written(ledger_book, recorded):
    assert not ledger_table()["earlier"].any()
    before = (ledger_book / "results/ledger.json").read_bytes()
    (ledger_book / "requirements.lock").write_text("torch==2\n", "utf-8")
    table = ledger_table()
    ran = table["commit"] != ""
    assert (table["earlier"] == ran).all()
    words = "computed with an earlier version"
    assert show_ledger(table, "statements").data.count(f"<br>{words}") == ran[table["group"] == "statements"].sum()
    assert f"supported, {words} (resnet vs plain, laptop, digits" in show_ledger_summary(table).data
    assert words in ledger_text(ledger_rows(ledger_book), 400)
    assert main(["ledger"]) == 0
    assert (ledger_book / "results/ledger.json").read_bytes() == before
    assert words.encode() not in before
    assert b'"earlier"' not in before


@pytest.mark.parametrize(("commit", "uncommitted"), [("abc+", True), ("", True), (None, True), ("abc", False)])
def test_a_run_of_uncommitted_changes_is_listed_and_is_no_fault(ledger_book, recorded, commit, uncommitted):
    rewrite(recorded, lambda content: content["provenance"].update(commit=commit))
    main(["ledger"])
    found = check_ledger(ledger_book)
    assert not found.faults
    path = "results/laptop/figures/resnet_vs_plain.json"
    line = f"{path}: no commit holds what it was computed with (commit {commit!r})"
    assert found.uncommitted == ((line,) if uncommitted else ())


def test_the_digest_sees_rules_and_no_words(ledger_book):
    before = rules_digest(ledger_book, "figures/resnet_vs_plain")
    assert before != rules_digest(ledger_book, "figures/tracks")

    def reword(claims):
        for row in rows_of(claims).values():
            row |= {"statement": "x", "place": "y", "note": "z", "changed": [{"date": "2026-01-01", "what": "words"}]}
            row["settings"][0]["command"] = "x"
        claims["statements"] = dict(reversed(claims["statements"].items()))
        claims["statements"]["C12"]["conditions"][0]["below"] = -1  # another chapter's

    change_claims(ledger_book, reword)
    assert rules_digest(ledger_book, "figures/resnet_vs_plain") == before


def test_bad_claims_are_one_sentence(ledger_book, capsys):
    change_claims(ledger_book, lambda claims: claims["statements"]["C3"]["settings"][0].pop("gamma"))
    assert main(["ledger"]) == 2
    assert "a setting of C3 lacks gamma" in capsys.readouterr().err
    for text in ("[", "a: 1", "[]"):
        (ledger_book / "book/claims.yml").write_text(text, "utf-8")
        assert main(["ledger", "--check"]) in (1, 2)
        assert main(["ledger"]) == 2
    assert capsys.readouterr().err.count("\n") == 6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["C3"]["conditions"][0].update(bellow=1), "says bellow, which the rule slope does not know"),
        (lambda c: c["C3"]["conditions"][0].update(over="walk"), "says over, which the rule slope does not know"),
        (lambda c: c["C3"]["conditions"][0]["entry"].update(belwo=1), "says belwo in entry"),
        (lambda c: c["C1"]["conditions"][0].update(rule="median"), "has the rule 'median'; choose one of mean"),
        (lambda c: c["C1"]["conditions"][0].pop("rule"), "has the rule None"),
        (lambda c: c["C1"].pop("conditions"), "C1 has no conditions"),
        (lambda c: c["C1"].update(conditions=[]), "C1 has no conditions"),
        (lambda c: c["C1"].pop("settings"), "C1 has no settings"),
        (lambda c: c.update(C1=None), "C1 has no conditions"),
        (lambda c: c["C1"]["settings"][0].update(gamma="bset"), "C1 is to be judged at gamma 'bset'"),
        (lambda c: c["C1"]["settings"][0].update(gamma="same"), "give best, any, all or a number"),
        (lambda c: c["C8"]["conditions"][0].update(gamma="1e-3"), "C8 is to be judged at gamma '1e-3'"),
    ],
)
def test_a_rule_that_says_what_nothing_reads_is_one_sentence(ledger_book, capsys, change, words):
    change_claims(ledger_book, lambda claims: change(claims["statements"]))
    assert main(["ledger"]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_every_kind_of_rule_says_what_it_reads():
    assert CONDITIONS.keys() == RULES.keys()


# Published numbers.


def tracks(book, place="slide_31", **of):
    setting = read_claims(book)["published"][place]["settings"][0]
    return {**setting, "network": {"kind": "resnet"}, **of}


def numbers_of(book, group):
    return [row for row in ledger_rows(book) if row["group"] == group]


def test_a_published_number_lies_within_or_outside_and_is_never_refuted(ledger_book):
    plant(ledger_book, tracks(ledger_book), lambda *_: {"lss": 1.12, "ots": 0.5})
    lss, ots = numbers_of(ledger_book, "slide_31")[:2]
    assert (lss["published"], lss["verdict"], lss["reading_error"]) == (1.12, "within", 0)
    assert (ots["published"], ots["verdict"]) == (0.96, "outside")
    assert "not widened: no deviations of ots were measured on mnist" in ots["why"]
    other = numbers_of(ledger_book, "slide_31")[2]
    assert (other["scale"], other["verdict"]) == ("laptop", "not run at this scale")


def test_deviations_on_the_same_data_widen_the_interval(ledger_book):
    plant(ledger_book, tracks(ledger_book), lambda *_: {"lss": 1.3, "ots": 0.5})
    assert numbers_of(ledger_book, "slide_31")[0]["verdict"] == "outside"
    moved = [{"kind": "resnet", "metric": "lss", "mean": mean} for mean in (-0.2, 0.1)]
    moved += [{"kind": "resnet", "metric": "lss"}, {"kind": "plain", "metric": "lss"}]
    for dataset, suffix, verdict in (("digits", "", "outside"), ("mnist", "@mnist", "within")):
        given = {"dataset": dataset, "seeds": SEEDS, "epochs": 10, "weight_decay": 1e-3}
        numbers = {"ranges": {"resnet": {"lss": [-0.2, 0.1]}}, "shifts": moved, "parameters": given}
        setting = {"chapter": "deviations", "scale": "paper"}
        content = {"numbers": numbers | setting, "provenance": {}}
        (ledger_book / f"results/paper/deviations{suffix}.json").write_text(json.dumps(content), "utf-8")
        lss, ots = numbers_of(ledger_book, "slide_31")[:2]
        assert (lss["verdict"], ots["verdict"]) == (verdict, "outside")
    assert lss["why"] == (
        "widened by the deviations at scale paper, 10 epochs, gamma 0.001: -0.2 to +0.1; "
        "1 of 3 shifts have no mean: networks died or diverged"
    )
    assert (lss["earlier"], ots["earlier"]) == (True, False)  # the deviations name no sources


def test_other_data_and_reduced_runs_are_not_comparable(ledger_book):
    settings = read_claims(ledger_book)["published"]["slide_33"]["settings"]
    full = {**settings[1], "per": "blocks"}
    plant(ledger_book, full, lambda *_: {"lss": 3.0, "train_accuracy": 0.9})
    rows = numbers_of(ledger_book, "slide_33")
    assert len(rows) == 32
    assert {row["verdict"] for row in rows[:16]} == {"not run at this scale"}
    at = [row for row in rows[16:] if row["published"] == 0.967]
    assert (at[0]["verdict"], at[0]["mean"]) == ("not comparable", pytest.approx(0.9))
    assert "other data: ours mnist, published CIFAR-10" in at[0]["why"]
    missing = next(row for row in rows[16:] if row["published"] == 0.79)  # gamma .2 is not in the planted grid
    assert (missing["verdict"], missing["mean"]) == ("not run at this scale", None)
    reduced = {**settings[0], "per": "blocks"}
    plant(ledger_book, reduced, lambda *_: {"lss": 2.25, "train_accuracy": 0.9}, limit=20000)
    row = next(row for row in numbers_of(ledger_book, "slide_33") if row["published"] == 2.25)
    assert (row["verdict"], row["why"]) == ("not comparable", "a reduced run: 20000 training points")
    assert "reduced to 20000 training points" in row["setting"]
    plant(ledger_book, reduced, lambda *_: {"lss": 2.25, "train_accuracy": 0.9})
    row = next(row for row in numbers_of(ledger_book, "slide_33") if row["published"] == 2.25)
    assert row["verdict"] == "within"


def test_a_reduced_run_judges_only_where_the_setting_allows_it(ledger_book):
    statements = read_claims(ledger_book)["statements"]
    plant(ledger_book, statements["C3"]["settings"][1], WORLDS["C3"][0], limit=1000)
    row = judged(ledger_book, "C3")[1]
    assert (row["verdict"], row["why"]) == ("not run at this scale", "only a reduced run of 1000 training points")
    plant(ledger_book, statements["C11"]["settings"][2], WORLDS["C11"][0], limit=1000)
    rows = [row for row in judged(ledger_book, "C11") if row["dataset"] == "cifar10"]
    assert {row["verdict"] for row in rows} == {"supported"}
    assert all("reduced to 1000 training points" in row["setting"] for row in rows)


def test_few_seeds_and_dead_networks_compare_nothing(ledger_book):
    few = tracks(ledger_book)
    path = plant(ledger_book, few, lambda *_: {"lss": 1.12, "ots": 0.96})
    content = json.loads(path.read_text("utf-8"))
    content["numbers"]["parameters"]["seeds"] = SEEDS[:4]
    path.write_text(json.dumps(content), "utf-8")
    assert numbers_of(ledger_book, "slide_31")[0]["verdict"] == "too few seeds"
    content["numbers"]["parameters"]["seeds"] = SEEDS
    for record in content["numbers"]["runs"]:
        record["dead"] = record["seed"] == 102
    path.write_text(json.dumps(content), "utf-8")
    assert numbers_of(ledger_book, "slide_31")[0]["verdict"] == "no verdict"


# The book's own rules.


def test_the_claims_are_complete(root):
    claims = read_claims(root)
    assert list(claims["statements"]) == [f"C{k}" for k in range(1, 15)]
    assert "after pilots" in claims["thresholds"]
    for row in rows_of(claims).values():
        assert row["place"]
        for setting in row["settings"]:
            words = setting["command"].split()
            assert words[:3] == ["geolib", "run", setting["chapter"]]
            assert words[words.index("--scale") + 1] == setting["scale"]
            assert setting["seeds"] >= MINIMUM_SEEDS
    for row in claims["statements"].values():
        assert {condition["rule"] for condition in row["conditions"]} <= RULES.keys()
        assert row["statement"]
        assert row["conditions"]
    numbers = {row["id"]: row["published"] for row in ledger_rows(root) if row["published"] is not None}
    assert [sum(name.startswith(slide) for name in numbers) for slide in ("S31", "S33", "S34")] == [2, 16, 30]
    for name, place in claims["published"].items():
        values = [
            v for kind in ("resnet", "plain", "unnamed") for e in place.get(kind, {}).values() for v in e["value"]
        ]
        assert sorted(values) == sorted(numbers[key] for key in numbers if key.startswith(name.replace("slide_", "S")))
    assert all(row["verdict"] == "not run at this scale" for row in ledger_rows(root) if row["dataset"] == "cifar100")


def test_published_values(root, monkeypatch, tmp_path):
    monkeypatch.chdir(root / "book/figures")
    slide = published("slide_34")
    assert slide["weight_decays"] == [0, 5e-4, 1e-3, 5e-3, 1e-2]
    for kind in ("resnet", "plain"):
        for score in ("test_accuracy", "ots", "lss"):
            entry = slide[kind][score]
            assert len(entry["value"]) == 5
            assert len(entry.get("spread", entry["value"])) == 5
    assert slide["resnet"]["ots"]["value"][-1] == 0.86
    assert published("slide_31")["resnet"]["lss"]["value"] == [1.12]
    deep = published("slide_33")
    assert len(deep["weight_decays"]) == len(deep["unnamed"]["lss"]["value"]) == 8
    assert max(deep["unnamed"]["train_accuracy"]["value"]) == 0.967
    with pytest.raises(ValueError, match="choose one of slide_31, slide_33, slide_34"):
        published("slide_99")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no book"):
        published("slide_34")


# What a reader sees.


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_fits_the_terminal(ledger_book, recorded, width):
    text = ledger_text(ledger_rows(ledger_book), width)
    assert max(map(len, text.splitlines())) <= width
    assert "C14: weight decay acts through kinetic energy" in text.replace("\n", " ")
    assert "6 supported" in text  # C1, C2 and C3 in both settings


def test_the_pages_show_every_row_with_its_link_and_command(ledger_book, recorded):
    table = ledger_table()
    shown = "".join(show_ledger(table, group).data for group in table["group"].unique())
    assert shown.count("<tr><td data-label='setting'>") == len(table)
    assert "href='figures/resnet_vs_plain.html'" in shown
    assert "<code>geolib run x</code>" in shown
    assert "4.6 ± 0.03" in shown
    assert "<td data-label='ours'>slope of lss below 0: -" in shown
    assert "lss / walk null below 0.8: " in shown
    assert "nan" not in shown
    glance = show_ledger_summary(table).data
    assert "- **C3**, weight decay lowers the ResNet's LSS: supported (" in glance
    assert "supported (resnet vs plain, laptop, digits; resnet vs plain, paper, mnist)" in glance
    assert (
        "- **Numbers of slide 34**: 30 not run at this scale (paper, cifar100); "
        "20 no verdict (paper, mnist); 10 not comparable (paper, mnist)"
    ) in glance
    assert len(glance.splitlines()) == 17


def test_a_chapter_yet_to_come_is_not_run_and_no_link(ledger_book):
    (ledger_book / "_toc.yml").write_text("format: jb-book\nroot: book/index\n", "utf-8")
    table = ledger_table()
    assert set(table["verdict"]) == {"not run"}
    assert "href" not in show_ledger(table, "statements").data
    assert "not run" in show_ledger_summary(table).data


def test_the_committed_ledger_follows_from_the_committed_results(root):
    found = check_ledger(root)
    assert not found.faults


def test_a_page_is_judged_by_the_rule_of_the_ledger(root, monkeypatch):
    monkeypatch.chdir(root)
    runs = [
        {"kind": "plain", "blocks": blocks, "seed": seed, "weight_decay": decay, "lss": 5 - rank, "dead": False,
         "diverged": False, "train_accuracy": 0.3 + 0.1 * (rank if blocks == 10 else 3 - rank)}
        for blocks in (10, 30) for seed in range(100, 105) for rank, decay in enumerate((0, 1e-3, 1e-2))
    ]  # fmt: skip
    answers = {
        blocks: judge_statement("C11", {"runs": runs}, {"kind": "plain", "blocks": blocks}) for blocks in (10, 30)
    }
    assert {blocks: finding.verdict for blocks, finding in answers.items()} == {10: "supported", 30: "refuted"}
    assert answers[10].interval.mean == -1


def separations(resnet, untrained, plain):
    """What a page publishes whose ResNets, at the best gamma 1e-3, have so large shares of violating pairs."""
    network = {"dead": False, "diverged": False}
    runs = [
        {**network, "kind": kind, "seed": seed, "weight_decay": decay, "violations": share + 1e-4 * seed}
        for kind, chosen in (("resnet", resnet), ("plain", plain))
        for decay, share in ((0, 0.5), (1e-3, chosen)) for seed in range(5)
    ]  # fmt: skip
    before = [{**network, "kind": "resnet", "seed": seed, "violations": untrained + 2e-4 * seed} for seed in range(5)]
    return {"runs": runs, "untrained": before, "best": {"resnet": 1e-3, "plain": 1e-3}}


@pytest.mark.parametrize(
    ("shares", "each", "whole"),
    [
        ((0.001, 0.02, 0.3), ["supported"] * 3, "supported"),
        ((0.02, 0.03, 0.3), ["refuted", "supported", "supported"], "refuted"),
        ((0.001, -0.0002, 0.3), ["supported", "refuted", "supported"], "refuted"),
        ((0.001, 0.0008, 0.3), ["supported", "undetermined", "supported"], "undetermined"),
        ((0.001, 0.02, 0.0), ["supported", "supported", "refuted"], "refuted"),
    ],
)
def test_a_page_is_judged_by_all_conditions_of_a_statement_at_the_ledgers_gamma(root, monkeypatch, shares, each, whole):
    monkeypatch.chdir(root)
    found = judge_statement("C13", separations(*shares), {"kind": "resnet"})
    assert [condition["verdict"] for condition in found.conditions] == each
    assert found.verdict == whole
    assert found.interval.mean == found.conditions[0]["mean"] == pytest.approx(shares[0] + 2e-4)
    assert found.conditions[2]["mean"] == pytest.approx(shares[0] - shares[2])
    assert found.why.split(" | ") == [condition["why"] for condition in found.conditions]


def test_a_page_without_scores_gets_no_verdict(root, monkeypatch):
    monkeypatch.chdir(root)
    numbers = separations(0.001, 0.02, 0.3)
    numbers["runs"] = [run for run in numbers["runs"] if run["kind"] == "resnet"]
    found = judge_statement("C13", numbers, {"kind": "resnet"})
    assert [condition["verdict"] for condition in found.conditions] == ["supported", "supported", "no verdict"]
    assert (found.verdict, found.conditions[2]["mean"]) == ("no verdict", None)


def test_a_statement_that_its_settings_judge_at_different_gammas_judges_no_page(root, monkeypatch):
    monkeypatch.chdir(root)
    claims = read_claims(root)
    settings = claims["statements"]["C13"]["settings"]
    settings.append({**settings[0], "gamma": 0})
    monkeypatch.setattr("geolib.judgements.read_claims", lambda root: claims)
    with pytest.raises(ValueError, match=r"C13 .* one choice of weight decays"):
        judge_statement("C13", separations(0.001, 0.02, 0.3), {"kind": "resnet"})


def test_a_changed_rule_says_so_on_the_page(root, monkeypatch):
    monkeypatch.chdir(root)
    table = ledger_table()
    changes = {change for each in table["changed"] for change in each}
    shown = show_ledger(table, "statements").data
    assert changes
    assert all(f"Rule changed {change}" in shown for change in changes)
