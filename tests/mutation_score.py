"""Fail unless the tests notice at least 85% of the changes mutmut made; run after ``mutmut run``."""

import json
import subprocess
import sys
from pathlib import Path

GOAL = 0.85

subprocess.run([Path(sys.executable).parent / "mutmut", "export-cicd-stats"], check=True)
stats = json.loads(Path("mutants/mutmut-cicd-stats.json").read_text("utf-8"))
noticed, total = stats["killed"] + stats["timeout"], stats["total"] - stats["skipped"]
print(f"mutants: {noticed} of {total} noticed ({noticed / total:.1%}), goal {GOAL:.0%}; {stats}")
sys.exit(noticed < GOAL * total)
