"""From a sweep's table to records, one a network; and the setting that does best on held-out points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

__all__ = ["best_settings", "records", "validation_records"]


def records(table: pd.DataFrame, keys: Sequence[str]) -> list[dict[str, Any]]:
    """Turn a sweep's table into one flat record a network.

    Parameters
    ----------
    table
        As `sweep` returns it, or several of them under one another: rows that agree in `keys` are one network, and the
        first row says its status.
    keys
        Columns that tell the networks of the table apart, for example ``["kind", "seed", "weight_decay"]``.

    Returns
    -------
    list of dict
        In the order of the table. Each has the keys, then the network's metrics that are numbers, but not the number
        of epochs it finished, then ``dead`` (see `is_dead`) and ``diverged``, True or False. What a network does not
        have is absent: a diverged one has no metrics, and whether it is dead is unknown.

    Raises
    ------
    ValueError
        For a key that is no column, or keys that leave two values for one metric.
    """
    keys = list(keys)
    if unknown := [key for key in keys if key not in table]:
        raise ValueError(f"the table has no column {', '.join(unknown)}; its columns are {', '.join(map(str, table))}")
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    ends: dict[tuple[Any, ...], dict[str, bool]] = {}
    columns = zip(*(table[column].tolist() for column in ("status", "metric", "value", *keys)), strict=True)
    for status, metric, value, *own in columns:
        network = tuple(own)
        record = found.setdefault(network, dict(zip(keys, own, strict=True)))
        end = {"diverged": True} if status == "diverged" else {"dead": status == "dead", "diverged": False}
        ends.setdefault(network, end)
        if metric == "epochs" or pd.isna(value):  # an array has no value of its own
            continue
        if metric in record:
            raise ValueError(f"{', '.join(keys)} = {network} has two values of {metric}; name more keys to tell apart")
        record[metric] = value
    return [record | ends[network] for network, record in found.items()]


def validation_records(table: pd.DataFrame, keys: Sequence[str]) -> list[dict[str, Any]]:
    """Turn the table of a sweep with held-out points into records of `keys` and ``validation_accuracy``.

    A network that diverged counts as accuracy 0, so that it is never chosen for its lack of a value.
    """
    return [
        {key: record[key] for key in keys} | {"validation_accuracy": record.get("test_accuracy", 0.0)}
        for record in records(table, keys)
    ]


def best_settings(
    validation: Sequence[Mapping[str, Any]], choose: Sequence[str], *, by: Sequence[str] = ("kind",)
) -> list[dict[str, Any]]:
    """Choose the setting with the best mean validation accuracy over seeds; ties go to the smaller.

    Parameters
    ----------
    validation
        Records with `by`, `choose`, ``seed`` and ``validation_accuracy``.
    choose
        What to choose, for example ``["weight_decay"]``; ties are settled in this order.
    by
        A choice is made for each value of these, in the order in which they come up.

    Returns
    -------
    list of dict
        For each value of `by`: `by`, the chosen values, and their mean ``validation_accuracy``. Means that differ by
        less than 5e-13, as rounding can make them, are ties.

    Raises
    ------
    ValueError
        If two settings of one choice were tried with different seeds: their means could not be compared.
    """
    tried: dict[tuple[Any, ...], dict[tuple[Any, ...], dict[int, float]]] = {}
    for record in validation:
        group, setting = (tuple(record[key] for key in keys) for keys in (by, choose))
        accuracies = tried.setdefault(group, {}).setdefault(setting, {})
        accuracies[record["seed"]] = record["validation_accuracy"]
    chosen = []
    for group, settings in tried.items():
        if len({frozenset(accuracies) for accuracies in settings.values()}) > 1:
            raise ValueError(f"{', '.join(by)} = {group}: every setting must be tried with the same seeds")
        mean = {setting: round(sum(each.values()) / len(each), 12) for setting, each in settings.items()}
        best = min(mean, key=lambda setting: (-mean[setting], setting))
        values = dict(zip((*by, *choose), group + best, strict=True))
        chosen.append(values | {"validation_accuracy": mean[best]})
    return chosen
