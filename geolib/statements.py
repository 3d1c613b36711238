"""Statements that one mean lies above another, judged from values paired by seed."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from geolib.statistics import format_interval
from geolib.verdicts import paired_verdict

__all__ = ["verdict_table"]


def verdict_table(arms: Mapping[str, pd.DataFrame], statements: Mapping[str, tuple[str, str, str]]) -> pd.DataFrame:
    """Judge statements about arms that share their seeds.

    Parameters
    ----------
    arms
        For each arm's name its scores: a column a score, a row a seed, which is the index.
    statements
        For each statement a score, the arm said to be higher and the arm said to be lower.

    Returns
    -------
    pandas.DataFrame
        For each statement the two arms' means with half of their 95% intervals (``no scores`` if a run has none), and
        the `paired_verdict` on their differences: ``no verdict`` if a seed is missing in one of them.
    """
    rows = {}
    for statement, (score, high, low) in statements.items():
        seeds = arms[high].index.union(arms[low].index)
        higher, lower = (arms[arm].reindex(index=seeds, columns=[score])[score].tolist() for arm in (high, low))
        rows[statement] = [format_interval(higher), format_interval(lower), paired_verdict(higher, lower)]
    return pd.DataFrame(rows, index=["said to be higher", "said to be lower", "verdict"]).T
