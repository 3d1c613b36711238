"""Train and measure many networks in one pass."""

from __future__ import annotations

import contextlib
import functools
import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import threadpoolctl
import torch

from geolib import checkpoints as files
from geolib.configs import Config, check_images, group, read_configs
from geolib.data import Dataset, load_dataset
from geolib.descent import check_epochs
from geolib.measuring import Measure, measured, scores
from geolib.stacking import train_together
from geolib.training import train

__all__ = ["sweep"]

#: Of one network, for each epoch measured, what `measured` returns.
Result = dict[int, dict[str, Any]]
#: Seed of the training points that `limit_train` keeps, the same for every network of every sweep.
_SUBSET = 0


def sweep(
    configs: Sequence[Mapping[str, Any]],
    dataset: str,
    *,
    measure: Measure | None = None,
    at: Collection[int] = (),
    points: int = 500,
    limit_train: int | None = None,
    jobs: int = -1,
    checkpoints: str | Path | None = None,
    progress: str = "training",
) -> pd.DataFrame:
    """Train and measure one network for each config, many at once.

    Networks of equal shape and schedule train together, a layer of all of them in one batched product, see
    `train_together`; groups of them, and wide or convolutional networks one by one, go to processes of one thread each.
    Which networks share a group follows from the configs alone, so the result does not depend on `jobs`. It does not
    depend on the backend either: under ``joblib.parallel_config(backend="dask")`` the groups go to a Dask cluster.
    Convolutional networks train on a GPU if there is one, and are measured on the CPU.

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
        ``measure(network, data, config)`` returns metrics by name, numbers or arrays. It is called for each network
        that neither diverged nor is dead, and may be a function of a notebook. By default `track_scores` over the first
        test points.
    at
        Epochs after which each network is measured too, 0 for before training. The end is always measured.
    points
        Number of test points, the first ones, that the default `measure` uses and that say whether a network is dead.
    limit_train
        Number of training points to keep, a random choice that is the same for every network, see `Dataset.reduced`;
        what is standardized is the reduced data set. The test points stay whole. By default all are kept.
    jobs
        Number of processes; -1 is one a core.
    checkpoints
        Folder to keep finished groups in, and every half minute the state of running ones; a sweep that finds them
        there does not repeat them, and ends with the same bits as one that was never stopped. They depend on configs,
        data set, geolib, and the source of `measure`; anything else in the folder is let alone. By default
        ``$GEOLIB_CHECKPOINTS``, without which nothing is kept.
    progress
        What the progress bar on standard error is called.

    Returns
    -------
    pandas.DataFrame
        One row for each network, epoch measured and metric, in the order of the configs. Columns: each key that some
        config names, ``epoch`` if `at` is given, ``status``, ``metric`` and ``value``, and ``array`` if some metric is
        one: its value is then NaN. The status is ``trained``; ``dead``, see `is_dead`, in any of its stages;
        ``diverged`` if the loss or a representation stopped being finite; or ``non-finite`` if a metric came out as NaN
        or infinity, which is left out, while arrays are taken as they are. Every network has the metric ``epochs``,
        finished with a finite loss; those that did not diverge have ``train_accuracy``, ``test_accuracy`` and
        ``sum_of_rates``; those that are not dead either, the measured ones. One that diverged has no rows for epochs of
        `at` that it did not reach.

    Raises
    ------
    ValueError
        Before anything trains: for an unknown key, a value that is not allowed, a config given twice, no config, an
        epoch that some network does not reach, fewer training points than classes or more than there are, more stages
        than the images can be halved for, or an unknown data set.
    """
    import joblib
    from tqdm import tqdm

    configs = list(configs)
    read = read_configs(configs)
    if points < 1:
        raise ValueError(f"points counts test points to measure by and must be >= 1; got {points}")
    for config in read:
        check_epochs(at, config.epochs)
    data = load_dataset(dataset)  # here first, so that the processes need not download it each
    if limit_train is not None:
        data, limit_train = data.reduced(limit_train, seed=_SUBSET), int(limit_train)
    check_images(read, data.x_train.shape[1:])
    _check_splits(read, data)
    measure = measure or functools.partial(scores, points=points)
    work = _Work(dataset, limit_train, measure, frozenset(map(int, at)), points)
    folder = checkpoints or os.environ.get("GEOLIB_CHECKPOINTS")
    about: list[Any] = [dataset, limit_train, sorted(work.at), points]
    about += [files.computed_with(), files.identity(measure)] if folder else []
    results: dict[int, Result] = {}
    calls = []
    for positions in group(read):
        members = [read[position] for position in positions]
        key = files.key_of([asdict(config) for config in members], *about)
        path = Path(folder).absolute() / f"{key}.pt" if folder else None
        if path and (found := files.read(path, key)):
            results |= dict(zip(positions, found["networks"], strict=True))
        else:
            calls.append(joblib.delayed(_run_group)(positions, members, work, path))
    backend, _ = joblib.parallel.get_active_backend()
    order = "generator_unordered" if backend.supports_return_generator else "list"  # Dask returns all at the end
    with tqdm(total=len(read), initial=len(results), desc=progress, unit="network", mininterval=1) as bar:
        for positions, found in joblib.Parallel(n_jobs=jobs, return_as=order)(calls):
            results |= dict(zip(positions, found, strict=True))
            bar.update(len(positions))
    return _table(read, list(dict.fromkeys(key for config in configs for key in config)), results, epoch=bool(work.at))


def _check_splits(configs: Sequence[Config], data: Dataset) -> None:
    for number, config in enumerate(configs):
        held_out = round((config.validation or 0) * len(data.x_train))
        if config.validation is not None and not 0 < held_out < len(data.x_train):
            raise ValueError(
                f"config {number}: validation = {config.validation} of {len(data.x_train)} training points holds out "
                f"{held_out}; both parts need at least one point"
            )


@dataclass(frozen=True)
class _Work:
    """What all groups of a sweep share."""

    dataset: str
    limit_train: int | None
    measure: Measure
    at: frozenset[int]
    points: int


def _table(configs: Sequence[Config], keys: list[str], results: Mapping[int, Result], epoch: bool) -> pd.DataFrame:
    rows = [
        [*(getattr(config, key) for key in keys), when, found["status"], metric, value, array]
        for position, config in enumerate(configs)
        for when, found in results[position].items()
        for metric, value, array in [
            *((metric, value, None) for metric, value in found["metrics"].items()),
            *((metric, math.nan, array.numpy()) for metric, array in found["arrays"].items()),
        ]
    ]
    table = pd.DataFrame(rows, columns=[*keys, "epoch", "status", "metric", "value", "array"])
    unused = [] if epoch else ["epoch"]
    return table.drop(columns=unused if table["array"].notna().any() else [*unused, "array"])


def _run_group(
    positions: list[int], configs: Sequence[Config], work: _Work, path: Path | None
) -> tuple[list[int], list[Result]]:
    """Train and measure a group of networks on one thread; keep the results in the file `path`, named by its key."""
    with _one_thread():
        data = _standardized(work.dataset, work.limit_train)
        if configs[0].validation is not None:
            data = data.validation_split(configs[0].validation, seed=configs[0].seed)
        running = path.with_suffix(".running.pt") if path else None
        results = _train([_build(config, data) for config in configs], configs, data, work, running)
    if path and running:
        files.write(path, path.stem, {"networks": results})
        running.unlink(missing_ok=True)
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
def _standardized(name: str, limit_train: int | None) -> Dataset:
    data = load_dataset(name)
    return (data if limit_train is None else data.reduced(limit_train, seed=_SUBSET)).standardized()


def _build(config: Config, data: Dataset) -> Any:
    names = ["width", "blocks", "bias", "gain", "seed", *(["stages", "norm"] if config.form == "conv" else [])]
    own = {name: getattr(config, name) for name in names}
    return config.network(data.x_train.shape[1:], data.classes, **own)


def _train(
    networks: Sequence[Any], configs: Sequence[Config], data: Dataset, work: _Work, running: Path | None
) -> list[Result]:
    first = configs[0]
    schedule: dict[str, Any] = {name: getattr(first, name) for name in ("epochs", "momentum", "batch_size")}
    schedule |= {"at": work.at | {first.epochs}, "checkpoint": running}
    own: dict[str, Any] = {
        name: [getattr(config, name) for config in configs] for name in ("weight_decay", "seed", "learning_rate")
    }
    watches = [
        functools.partial(measured, config=config, data=data, measure=work.measure, points=work.points)
        for config in configs
    ]
    if len(networks) > 1:
        lists = {f"{name}s": values for name, values in own.items()}
        runs = train_together(networks, data, **lists, **schedule, watches=watches)
    else:
        if first.form == "conv" and torch.cuda.is_available():
            networks[0].to("cuda")
        single = {name: value for name, (value,) in own.items()}
        runs = [train(networks[0], data, **single, **schedule, watch=watches[0], decay_gains=first.decay_gains)]
    return [
        dict(run.watched) | ({first.epochs: watch(network, run)} if run.diverged else {})
        for network, run, watch in zip(networks, runs, watches, strict=True)
    ]
