"""Train and measure many networks in one pass."""

from __future__ import annotations

import contextlib
import functools
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import threadpoolctl
import torch
from torch import nn

from geolib import checkpoints as files
from geolib.configs import Config, check_images, group, read_configs
from geolib.data import Dataset, load_dataset
from geolib.scores import is_dead, track_scores
from geolib.stacking import train_together
from geolib.tracks import record
from geolib.training import Training, train

__all__ = ["sweep"]

Measure = Callable[[nn.Module, Dataset, Mapping[str, Any]], Mapping[str, float]]


def sweep(
    configs: Sequence[Mapping[str, Any]],
    dataset: str,
    *,
    measure: Measure | None = None,
    points: int = 500,
    jobs: int = -1,
    checkpoints: str | Path | None = None,
    progress: str = "training",
) -> pd.DataFrame:
    """Train and measure one network for each config, many at once.

    Networks of equal shape and schedule train together, a layer of all of them in one batched product, see
    `train_together`; groups of them, and wide or convolutional networks one by one, go to processes of one thread each.
    Which networks share a group follows from the configs alone, so the result does not depend on `jobs`. It does not
    depend on the backend either: under ``joblib.parallel_config(backend="dask")`` the groups go to a Dask cluster.

    Parameters
    ----------
    configs
        For each network ``kind`` (``"resnet"`` or ``"plain"``) and ``seed``, of its initialisation and of the order of
        the points; and as one likes ``width`` (64), ``blocks`` (10), ``bias`` (False), ``gain`` (see `ResNet`),
        ``weight_decay`` (0), ``learning_rate`` (0.003), ``momentum`` (0.9), ``batch_size`` (32), ``epochs`` (60; 0
        measures the untrained network), and ``validation``: a share of the training points to hold out, picked by the
        seed; it takes the place of the test points. ``form`` is ``"dense"``, or ``"conv"`` for a `ConvResNet` or
        `ConvPlainNet`, whose ``width`` counts the channels of the first stage (32) and ``blocks`` those of each stage
        (4); with it go ``stages`` (1), ``norm`` (None, ``"batch"`` or ``"layer"``) and ``decay_gains`` (False), whether
        weight decay acts on the norms' gains too.
    dataset
        Name of a data set, see `load_dataset`; it is standardized.
    measure
        ``measure(network, data, config)`` returns metrics by name. It is called for each network that neither diverged
        nor is dead, and may be a function of a notebook. By default `track_scores` over the first test points.
    points
        Number of test points, the first ones, that the default `measure` uses and that say whether a network is dead.
    jobs
        Number of processes; -1 is one a core.
    checkpoints
        Folder to keep finished groups in; a sweep that finds them there does not repeat them. They depend on configs,
        data set, geolib, and the source of `measure`; anything else in the folder is let alone. By default
        ``$GEOLIB_CHECKPOINTS``, without which nothing is kept.
    progress
        What the progress bar on standard error is called.

    Returns
    -------
    pandas.DataFrame
        One row for each network and metric, in the order of the configs. Columns: each key that some config names, then
        ``status``, ``metric`` and ``value``. The status is ``trained``; ``dead``, see `is_dead`, in any of its
        stages; ``diverged`` if the loss or a representation stopped being finite; or ``non-finite`` if a metric came
        out as NaN or infinity, which is left out. Every network has the metric ``epochs``, finished with a finite loss;
        those that did not diverge have ``train_accuracy``, ``test_accuracy`` and ``sum_of_rates``; those that are not
        dead either, the measured ones.

    Raises
    ------
    ValueError
        Before anything trains: for an unknown key, a value that is not allowed, a config given twice, no config, more
        stages than the images can be halved for, or an unknown data set.
    """
    import joblib
    from tqdm import tqdm

    configs = list(configs)
    read = read_configs(configs)
    if points < 1:
        raise ValueError(f"points counts test points to measure by and must be >= 1; got {points}")
    check_images(read, load_dataset(dataset).x_train.shape[1:])
    _check_splits(read, load_dataset(dataset))  # loaded here first, so that the processes need not download it each
    measure = measure or functools.partial(_scores, points=points)
    folder = checkpoints or os.environ.get("GEOLIB_CHECKPOINTS")
    about = [dataset, points, files.library_digest(), files.identity(measure)] if folder else []
    results: dict[int, files.Result] = {}
    calls = []
    for positions in group(read):
        members = [read[position] for position in positions]
        key = files.key_of([asdict(config) for config in members], *about)
        path = Path(folder).absolute() / f"{key}.json" if folder else None
        if path and (found := files.load(path, key, len(members))):
            results |= dict(zip(positions, found, strict=True))
        else:
            calls.append(joblib.delayed(_run_group)(positions, members, dataset, measure, points, path))
    backend, _ = joblib.parallel.get_active_backend()
    order = "generator_unordered" if backend.supports_return_generator else "list"  # Dask returns all at the end
    with tqdm(total=len(read), initial=len(results), desc=progress, unit="network", mininterval=1) as bar:
        for positions, found in joblib.Parallel(n_jobs=jobs, return_as=order)(calls):
            results |= dict(zip(positions, found, strict=True))
            bar.update(len(positions))
    return _table(read, list(dict.fromkeys(key for config in configs for key in config)), results)


def _check_splits(configs: Sequence[Config], data: Dataset) -> None:
    for number, config in enumerate(configs):
        held_out = round((config.validation or 0) * len(data.x_train))
        if config.validation is not None and not 0 < held_out < len(data.x_train):
            raise ValueError(
                f"config {number}: validation = {config.validation} of {len(data.x_train)} training points holds out "
                f"{held_out}; both parts need at least one point"
            )


def _table(configs: Sequence[Config], keys: list[str], results: Mapping[int, files.Result]) -> pd.DataFrame:
    rows = [
        [*(getattr(config, key) for key in keys), status, metric, value]
        for position, config in enumerate(configs)
        for status, metrics in [results[position]]
        for metric, value in metrics.items()
    ]
    return pd.DataFrame(rows, columns=[*keys, "status", "metric", "value"])


def _run_group(
    positions: list[int], configs: Sequence[Config], dataset: str, measure: Measure, points: int, path: Path | None
) -> tuple[list[int], list[files.Result]]:
    """Train and measure a group of networks on one thread; keep the results in the file `path`, named by its key."""
    with _one_thread():
        data = _standardized(dataset)
        if configs[0].validation is not None:
            data = data.validation_split(configs[0].validation, seed=configs[0].seed)
        networks = [_build(config, data) for config in configs]
        runs = _train(networks, configs, data)
        results = [_measured(*each, data, measure, points) for each in zip(networks, runs, configs, strict=True)]
    if path:
        files.save(path, path.stem, results)
    return positions, results


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        with threadpoolctl.threadpool_limits(1):
            torch.set_num_threads(1)
            yield
    finally:
        torch.set_num_threads(before)


@functools.lru_cache(maxsize=1)
def _standardized(name: str) -> Dataset:
    return load_dataset(name).standardized()


def _build(config: Config, data: Dataset) -> Any:
    names = ["width", "blocks", "bias", "gain", "seed", *(["stages", "norm"] if config.form == "conv" else [])]
    own = {name: getattr(config, name) for name in names}
    return config.network(data.x_train.shape[1:], data.classes, **own)


def _train(networks: Sequence[Any], configs: Sequence[Config], data: Dataset) -> list[Training]:
    first = configs[0]
    schedule: dict[str, Any] = {name: getattr(first, name) for name in ("epochs", "momentum", "batch_size")}
    own: dict[str, Any] = {
        name: [getattr(config, name) for config in configs] for name in ("weight_decay", "seed", "learning_rate")
    }
    if len(networks) > 1:
        return train_together(networks, data, **{f"{name}s": values for name, values in own.items()}, **schedule)
    if first.decay_gains:
        schedule["decay_gains"] = True
    return [train(networks[0], data, **{name: value for name, (value,) in own.items()}, **schedule)]


def _measured(
    network: nn.Module, run: Training, config: Config, data: Dataset, measure: Measure, points: int
) -> files.Result:
    metrics = {"epochs": float(len(run.losses) - run.diverged)}
    if run.diverged:
        return "diverged", metrics
    try:
        tracks = record(network, data.x_test[:points])
    except ValueError:  # a representation is not finite: the last steps lost it after a finite loss
        return "diverged", metrics
    for name in ("train_accuracy", "test_accuracy", "sum_of_rates"):
        metrics[name] = float(getattr(run, name))
    if any(map(is_dead, tracks.stages)):
        return "dead", metrics
    try:
        own = {name: float(value) for name, value in measure(network, data, asdict(config)).items()}
        if taken := metrics.keys() & own.keys():
            raise ValueError(f"measure must not return what the sweep itself does: {', '.join(sorted(taken))}")
    except Exception as error:
        error.add_note(f"while measuring the network of {config}")
        raise
    finite = {name: value for name, value in own.items() if math.isfinite(value)}
    return "trained" if len(finite) == len(own) else "non-finite", metrics | finite


def _scores(network: nn.Module, data: Dataset, config: Mapping[str, Any], *, points: int) -> dict[str, float]:
    """Return the scores of a network over the first test points."""
    return track_scores(record(network, data.x_test[:points]))
