"""The table of choices names what the chapter measures, all of it and nothing else."""

import re

import yaml


def test_every_measured_effect_is_a_variation_of_the_chapter_and_every_variation_is_in_the_table(root):
    chapter = (root / "book/deviations.md").read_text("utf-8")
    cell = re.search(r"variations = \{\n(.*?)\n\}", chapter, re.S)[1]
    changed = re.findall(r'^    "(.+?)": lambda', cell, re.M)
    views = re.findall(r'^ +(?:found\[)?"(.+?)"\]?(?::| =) (?:score\(|scores \|)', chapter, re.M)
    assert len(changed) > 10
    assert "tracks from the input on" in views
    parts = yaml.safe_load((root / "book/choices.yml").read_text("utf-8"))
    entries = [entry for part in parts.values() for entry in part]
    named = [name for entry in entries if isinstance(entry.get("effect"), list) for name in entry["effect"]]
    assert sorted(named) == sorted([*changed[1:], *views])  # the first is the baseline
    assert all(
        {"choice", "here", "public"} <= entry.keys() <= {"choice", "here", "public", "effect"} for entry in entries
    )
    assert len({entry["choice"] for entry in entries}) == len(entries)
