"""Run every benchmark, print the ratios and write ``benchmarks/results.json``: ``make bench``."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from geolib.provenance import commit, hardware

HERE = Path(__file__).parent
SCRIPTS = ("assignment", "sweep", "streaming")
PACKAGES = ("geolib", "numpy", "scipy", "POT", "lapx", "torch", "joblib")


def main() -> None:
    """Run the scripts one after the other, each in a fresh interpreter, nothing beside them."""
    started = time.perf_counter()
    results: dict[str, Any] = {name: run(name) for name in SCRIPTS}
    results["provenance"] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": commit(HERE.parent),
        "hardware": hardware(),
        "versions": {"python": platform.python_version()}
        | {package: importlib.metadata.version(package) for package in PACKAGES},
        "wall_seconds": round(time.perf_counter() - started),
    }
    (HERE / "results.json").write_text(json.dumps(results, indent=1, allow_nan=False) + "\n", "utf-8")
    print(report(results))


def run(name: str) -> dict[str, Any]:
    """Return what a script prints; what it shows of its progress goes to standard error."""
    done = subprocess.run([sys.executable, str(HERE / f"{name}.py")], stdout=subprocess.PIPE, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def report(results: dict[str, Any]) -> str:
    """Return the ratios as lines of text."""
    lines = ["Exact optimal-transport score on MNIST tracks, one thread: how many times as long the others take,"]
    lines += [
        "median over seeds (worst); `product`: share of geolib's time that one float32 product of all costs takes"
    ]
    for row in results["assignment"]["ratios"]:
        ways = (f"{way} {r['median']:.3g} ({r['worst']:.3g})" for way, r in row.items() if isinstance(r, dict))
        ots = f"OTS {min(row['ots']):.3f} to {max(row['ots']):.3f}"
        lines.append(f"  m = {row['m']}, {row['map']}, weight decay {row['weight_decay']:g}, {ots}: {', '.join(ways)}")
    lines.append(f"  memory at 10,000 points: {results['assignment']['bytes at 10,000 points'] / 1e6:.0f} MB")
    fast = results["sweep"]["times as fast as the loop"]
    lines.append("Sweep against a loop: " + ", ".join(f"{way} {ratio}" for way, ratio in fast.items()))
    streaming = results["streaming"]
    lines.append(f"Tracks stored against streamed, memory: {streaming['ratio']:.0f}")
    made = results["provenance"]
    lines.append(f"{made['hardware']}; {made['versions']}; {made['wall_seconds']} s")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
