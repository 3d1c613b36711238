"""Results files, the records in them that a row of the ledger is about, and what makes them unfit to judge."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geolib.chapters import UsageError, find_chapter, resolve_parameters
from geolib.claims import JUDGED_SCALES
from geolib.provenance import source_digest
from geolib.results import variant_name
from geolib.verdicts import MINIMUM_SEEDS

__all__ = ["Evidence", "Result", "Silence", "read_result", "result_paths"]


@dataclass(frozen=True)
class Result:
    """One committed results file.

    Attributes
    ----------
    path
        Where it lies, below the book's root.
    scale, chapter
        What its place says it is a run of.
    numbers, provenance
        Its two parts.
    earlier
        Whether chapter, library or its dependencies have changed since.
    """

    path: str
    scale: str
    chapter: str
    numbers: Mapping[str, Any]
    provenance: Mapping[str, Any]
    earlier: bool = False

    @property
    def uncommitted(self) -> bool:
        """Whether no commit holds what it was computed with."""
        commit = str(self.provenance.get("commit") or "")
        return not commit or commit.endswith("+")

    @property
    def dataset(self) -> str:
        """The data set of the run."""
        return str(self.numbers["parameters"].get("dataset", ""))

    @property
    def limit(self) -> int:
        """The number of training points it was reduced to, 0 for all."""
        named = re.search(r"@.*-(\d+)\.json$", self.path)
        return int(self.numbers["parameters"].get("limit_train") or (named[1] if named else 0))


def result_paths(root: Path) -> list[Path]:
    """Return the results files of the scales that may judge; those of smoke runs are none, wherever they lie."""
    return [path for scale in JUDGED_SCALES for path in sorted((root / "results" / scale).rglob("*.json"))]


def read_result(root: Path, path: Path) -> Result:
    """Read a results file; raise `UsageError` if it is none, or not of the chapter, scale and data its place names."""
    short = path.relative_to(root).as_posix()
    _, scale, below = short.split("/", 2)
    chapter = below.removesuffix(".json").partition("@")[0]
    try:
        content = json.loads(path.read_text("utf-8"))
        numbers, provenance = content["numbers"], dict(content["provenance"])
        records = [*numbers.get("runs", ()), *numbers.get("untrained", ())]
        sound = isinstance(numbers["parameters"], dict) and all(record.keys() >= {"seed"} for record in records)
        same = (numbers["scale"], numbers["chapter"]) == (scale, chapter)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{short} is no results file: {type(error).__name__}: {error}") from error
    if not sound or not all("weight_decay" in record for record in numbers.get("runs", ())):
        raise UsageError(f"{short} is no results file: a record has no seed or no weight_decay")
    if not same:
        raise UsageError(
            f"{short} holds a run of {numbers['chapter']} at scale {numbers['scale']}, not of {chapter} at {scale}"
        )
    try:
        source = find_chapter(root, chapter)
        named = {key: numbers["parameters"].get(key) for key in ("dataset", "limit_train")}
        known = {key: value for key, value in named.items() if value is not None and key in source.schemas}
        variant = variant_name(source, scale, resolve_parameters(source, scale, known))
    except UsageError as error:
        raise UsageError(f"{short}: {error}") from error
    if below != f"{chapter}{variant}.json":
        raise UsageError(f"{short} holds a run whose parameters name it {chapter}{variant}.json")
    earlier = provenance.get("source_sha256") != source_digest(source, numbers["parameters"])
    return Result(short, scale, chapter, numbers, provenance, earlier)


class Silence(Exception):  # noqa: N818 - no error: a verdict of its own
    """The records allow no judgement; `verdict` is what the row says instead, the message why."""

    def __init__(self, verdict: str, why: str):
        super().__init__(why)
        self.verdict = verdict


@dataclass(frozen=True)
class Evidence:
    """The records of one results file, and which of them a row is about.

    Attributes
    ----------
    numbers
        The numbers of the file, with `runs`, `untrained`, `best`, `lss_nulls`, `parameters`.
    network
        Field -> value that a record must have.
    gamma
        ``best``, ``any``, ``all`` or a weight decay.
    seeds
        The fewest seeds that may judge.
    first_seed
        The smallest seed that may judge.
    defaults
        Value of a field that neither record nor parameters have.
    """

    numbers: Mapping[str, Any]
    network: Mapping[str, Any]
    gamma: str | float = "best"
    seeds: int = MINIMUM_SEEDS
    first_seed: int = 0
    defaults: Mapping[str, Any] | None = None

    def field(self, record: Mapping[str, Any], name: str) -> Any:
        """Return a record's field: its own, else the run's parameter of that name, else the default."""
        for source in (record, self.numbers.get("parameters", {}), self.defaults or {}):
            if name in source:
                return "none" if source[name] is None else source[name]
        return None

    def records(self, trained: bool = True) -> list[Mapping[str, Any]]:
        """Return the records of the networks meant, at every weight decay."""
        every = self.numbers.get("runs" if trained else "untrained", [])
        plain = {name: value for name, value in self.network.items() if value != "largest"}
        found = [record for record in every if all(self.field(record, name) == plain[name] for name in plain)]
        for name in self.network.keys() - plain.keys():
            largest = max((self.field(record, name) for record in found), default=None)
            found = [record for record in found if self.field(record, name) == largest]
        return found

    def gammas(self) -> list[float]:
        """Return the weight decays of the networks meant, ascending."""
        return sorted({float(record["weight_decay"]) for record in self.records()})

    def values(
        self, metric: str, *, trained: bool = True, gamma: str | float | None = None, lost: float | None = None
    ) -> np.ndarray:
        """Return a metric, one value a seed in the order of the seeds.

        A dead or diverged network, a missing or doubled seed or a missing value raise `Silence`; with `lost`, a value
        that a dead or diverged network lacks is that number.
        """
        found = self.records(trained)
        gamma = self.gamma if gamma is None else gamma
        if trained and gamma != "any":
            wanted = self._best() if gamma == "best" else float(gamma)
            found = [record for record in found if math.isclose(record["weight_decay"], wanted, rel_tol=1e-9)]
        if not found:
            raise Silence("not run at this scale", f"no {'' if trained else 'untrained '}network{self._words(gamma)}")
        by_seed = {int(record["seed"]): record for record in found}
        expected = sorted(int(seed) for seed in self.numbers.get("parameters", {}).get("seeds", by_seed))
        if len(by_seed) < len(found):
            raise Silence("no verdict", f"several networks of one seed{self._words(gamma)}")
        if min([*expected, *by_seed]) < self.first_seed:
            raise Silence("no verdict", f"seeds below {self.first_seed} were used by the pilots")
        if len(expected) < max(MINIMUM_SEEDS, self.seeds):
            raise Silence("too few seeds", f"{len(expected)} seeds, {max(MINIMUM_SEEDS, self.seeds)} needed")
        missing = [seed for seed in expected if seed not in by_seed]
        if missing:
            raise Silence("no verdict", f"no network of seed {missing[0]}{self._words(gamma)}")
        failed = [seed for seed in expected if by_seed[seed].get("dead") or by_seed[seed].get("diverged")]
        if failed and lost is None:
            raise Silence("no verdict", f"{len(failed)} of {len(expected)} networks died or diverged")
        default = dict.fromkeys(failed, lost)
        values = [by_seed[seed].get(metric, default.get(seed)) for seed in expected]
        if not all(isinstance(value, (int, float)) and math.isfinite(value) for value in values):
            raise Silence("no verdict", f"{metric} is missing{self._words(gamma)}")
        return np.asarray(values, dtype=np.float64)

    def _best(self) -> float:
        kind, best = self.network.get("kind"), self.numbers.get("best", {})
        if best.get(kind) is None:
            raise Silence("no verdict", f"no weight decay of best validation accuracy for {kind}")
        return float(best[kind])

    def _words(self, gamma: str | float) -> str:
        fields = ", ".join(f"{name} {value}" for name, value in self.network.items())
        return f" with {fields}" + (f", gamma {gamma:g}" if isinstance(gamma, float) else "")
