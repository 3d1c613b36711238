"""Named data sets as tensors, every byte checked."""

from __future__ import annotations

import math
import os
import struct
import tomllib
from dataclasses import dataclass, replace
from importlib import resources
from numbers import Integral
from pathlib import Path

import numpy as np
import platformdirs
import torch

from geolib.fetch import DataError, Source, read_verified

__all__ = ["DataError", "Dataset", "load_dataset"]

_SOURCES = {
    name: Source(**entry)
    for name, entry in tomllib.loads((resources.files("geolib") / "datasets.toml").read_text("utf-8")).items()
}
_CLASSES = {"digits": 10, "mnist": 10, "fashion-mnist": 10, "cifar10": 10, "cifar100": 100}
#: Labels in front of each CIFAR record; the last one is the class (CIFAR-100 puts the coarse label first).
_CIFAR_LABELS = {"cifar10": 1, "cifar100": 2}


@dataclass(frozen=True)
class Dataset:
    """Images and labels, split into a training and a test part.

    Attributes
    ----------
    name
        The data set's name.
    classes
        Number of classes; labels are 0 .. classes - 1.
    x_train, x_test
        Images, float32, shape (points, channels, height, width), pixels in [0, 1] unless standardized.
    y_train, y_test
        Labels, int64, shape (points,).
    """

    name: str
    classes: int
    x_train: torch.Tensor
    y_train: torch.Tensor
    x_test: torch.Tensor
    y_test: torch.Tensor

    def standardized(self) -> Dataset:
        """Return the data with each channel at mean 0 and standard deviation 1 over the training images."""
        mean = self.x_train.mean((0, 2, 3), keepdim=True)
        std = self.x_train.std((0, 2, 3), keepdim=True)
        return replace(self, x_train=(self.x_train - mean) / std, x_test=(self.x_test - mean) / std)

    def reduced(self, points: int, *, seed: int) -> Dataset:
        """Keep a random subset of the training points, in their order; the test part stays whole.

        Parameters
        ----------
        points
            Number of training points to keep, from one a class to all.
        seed
            Seed of the choice.

        Raises
        ------
        ValueError
            For a number outside that range.
        """
        most = len(self.x_train)
        whole = isinstance(points, Integral) and not isinstance(points, bool)
        if not (whole and self.classes <= points <= most):
            raise ValueError(
                f"a subset of {self.name} keeps a whole number of training points from {self.classes}, one a class, "
                f"to {most}, all there are; got {points!r}"
            )
        kept = torch.randperm(most, generator=torch.Generator().manual_seed(seed))[:points].sort().values
        return replace(self, x_train=self.x_train[kept], y_train=self.y_train[kept])

    def validation_split(self, fraction: float, *, seed: int) -> Dataset:
        """Hold out a share of the training part; the result's test part is that share, the real test part is gone.

        Parameters
        ----------
        fraction
            Share of the training points held out, in (0, 1).
        seed
            Seed of the permutation that picks them.
        """
        points = len(self.x_train)
        held_out = round(fraction * points)
        if not 0 < held_out < points:
            raise ValueError(
                f"fraction {fraction} of {points} training points holds out {held_out}; "
                "both parts need at least one point"
            )
        order = torch.randperm(points, generator=torch.Generator().manual_seed(seed))
        out, kept = order[:held_out], order[held_out:]
        x, y = self.x_train, self.y_train
        return replace(self, x_train=x[kept], y_train=y[kept], x_test=x[out], y_test=y[out])


def load_dataset(name: str, root: str | Path | None = None) -> Dataset:
    """Load a data set by name.

    Parameters
    ----------
    name
        ``digits`` (inside scikit-learn, no download; 1,297 training and 500 test points, a fixed stratified split),
        ``mnist``, ``fashion-mnist``, ``cifar10`` or ``cifar100`` (their official splits).
    root
        Folder that holds ``mnist/``, ``fashion-mnist/``, ``cifar-10-batches-bin/``, ``cifar-100-binary/``; by default
        ``$GEOLIB_DATA``, else a cache folder of the user's. Absent files are downloaded there.

    Returns
    -------
    Dataset
        Pixels in [0, 1].

    Raises
    ------
    ValueError
        For an unknown name.
    DataError
        If a file is damaged, is not the official one, or cannot be downloaded.
    """
    if name == "digits":
        return _digits()
    if name not in _SOURCES:
        raise ValueError(f"unknown data set {name!r}; choose one of {', '.join(sorted(_CLASSES))}")
    root = Path(root or os.environ.get("GEOLIB_DATA") or platformdirs.user_cache_path("geolib")).expanduser()
    raw = read_verified(_SOURCES[name], root)
    if name in _CIFAR_LABELS:
        train = [_read_cifar(raw[file], _CIFAR_LABELS[name]) for file in raw if not file.startswith("test")]
        test = _read_cifar(next(raw[file] for file in raw if file.startswith("test")), _CIFAR_LABELS[name])
        x_train, y_train = np.concatenate([x for x, _ in train]), np.concatenate([y for _, y in train])
        x_test, y_test = test
    else:
        x_train, y_train, x_test, y_test = (
            _read_idx(raw[f"{split}-{kind}-ubyte"])
            for split in ("train", "t10k")
            for kind in ("images-idx3", "labels-idx1")
        )
    return _dataset(name, x_train, y_train, x_test, y_test, white=255)


def _digits() -> Dataset:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        x.reshape(-1, 8, 8), y, test_size=500, stratify=y, random_state=0
    )
    return _dataset("digits", x_train, y_train, x_test, y_test, white=16)


def _dataset(
    name: str, x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, *, white: float
) -> Dataset:
    def images(x: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(x.reshape(len(x), -1, *x.shape[-2:]).astype(np.float32) / np.float32(white))

    def labels(y: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(y.astype(np.int64))

    return Dataset(name, _CLASSES[name], images(x_train), labels(y_train), images(x_test), labels(y_test))


def _read_idx(raw: bytes) -> np.ndarray:
    """Parse the IDX format: 0, 0, type 8 (unsigned byte), number of axes, their lengths (big-endian), the bytes."""
    axes = raw[3] if raw[:3] == b"\x00\x00\x08" else 0
    header = 4 + 4 * axes
    shape = struct.unpack(f">{axes}I", raw[4:header]) if 0 < axes <= (len(raw) - 4) // 4 else ()
    if not shape or len(raw) != header + math.prod(shape):
        raise DataError(f"not an IDX file of unsigned bytes: header {raw[:16].hex()}, {len(raw)} bytes")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def _read_cifar(raw: bytes, label_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    """Parse CIFAR's binary version: records of `label_bytes` labels and 3 x 32 x 32 pixels."""
    record = label_bytes + 3 * 32 * 32
    if not raw or len(raw) % record:
        raise DataError(f"{len(raw)} bytes are not a whole number of CIFAR records of {record} bytes")
    rows = np.frombuffer(raw, np.uint8).reshape(-1, record)
    return rows[:, label_bytes:].reshape(-1, 3, 32, 32), rows[:, label_bytes - 1]
