"""The benchmarks measure what they say, at a size that a test can afford."""

import runpy

import pytest


def test_the_memory_of_streaming_does_not_grow_with_depth_and_that_of_storing_does(root, monkeypatch):
    pytest.importorskip("resource")
    monkeypatch.syspath_prepend(root / "benchmarks")  # as for a script
    run = runpy.run_path(str(root / "benchmarks/streaming.py"))["run"]
    points, width, mebibyte = 1000, 256, 2**20
    shallow, deep = (run("streamed", points, width, layers)["bytes"] for layers in (5, 50))
    stored = run("stored", points, width, 50)["bytes"]
    # A batch of 256 points is 0.5 MiB in float64, and storing the 45 layers between takes 44 MiB in float32.
    assert 0 < deep < shallow + 2 * mebibyte < 12 * mebibyte
    assert stored > 51 * points * width * 4
