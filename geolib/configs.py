"""What a sweep may vary about a network: names, allowed values, defaults; and which networks train together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from numbers import Integral, Real
from typing import Any

from geolib.networks import PlainNet, ResNet

__all__ = ["KINDS", "Config", "group", "read_configs"]

KINDS: dict[str, type[ResNet | PlainNet]] = {"resnet": ResNet, "plain": PlainNet}
#: Above this width, batched products save less than a quarter of the time of single ones, on a CPU core.
_WIDEST = 128
#: Networks trained together at most: more do not run faster, and a few groups keep all processes busy.
_MOST = 8


@dataclass(frozen=True, kw_only=True)
class Config:
    """One network of a sweep and its training; see `sweep`."""

    kind: str
    seed: int
    width: int = 64
    blocks: int = 10
    bias: bool = False
    gain: float | None = None
    weight_decay: float = 0.0
    learning_rate: float = 0.003
    momentum: float = 0.9
    batch_size: int = 32
    epochs: int = 60
    validation: float | None = None

    @property
    def common(self) -> tuple[Any, ...]:
        """What networks must share to be trained together."""
        own = ("seed", "gain", "weight_decay", "learning_rate")
        split = None if self.validation is None else self.seed  # the held-out points depend on the seed
        return (split, *(value for name, value in asdict(self).items() if name not in own))


def _whole(low: int, high: float = math.inf) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, Integral) and not isinstance(value, bool) and low <= int(value) <= high


def _real(allowed: Callable[[float], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, Real) and not isinstance(value, bool) and allowed(float(value))


_NOT_NEGATIVE = (_real(lambda value: 0 <= value < math.inf), "a finite number >= 0")
_ALLOWED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "kind": (lambda value: isinstance(value, str) and value in KINDS, "'resnet' or 'plain'"),
    "seed": (_whole(0, 2**63 - 1), "a whole number from 0 to 2**63 - 1"),
    "width": (_whole(1), "a whole number >= 1"),
    "blocks": (_whole(1), "a whole number >= 1"),
    "bias": (lambda value: isinstance(value, bool), "True or False"),
    "gain": _NOT_NEGATIVE,
    "weight_decay": _NOT_NEGATIVE,
    "learning_rate": (_real(lambda value: 0 < value < math.inf), "a finite number > 0"),
    "momentum": (_real(lambda value: 0 <= value < 1), "a number in [0, 1)"),
    "batch_size": (_whole(1), "a whole number >= 1"),
    "epochs": (_whole(0), "a whole number >= 0"),
    "validation": (_real(lambda value: 0 < value < 1), "a number in (0, 1)"),
}
_OPTIONAL = {field.name for field in fields(Config) if field.default is None}


def read_configs(configs: Sequence[Mapping[str, Any]]) -> list[Config]:
    """Check configs and fill in defaults.

    Raises
    ------
    ValueError
        For the first config that is no config or repeats another; says its number, counted from 0, the key, what was
        given and what is allowed.
    """
    read: dict[Config, int] = {}
    for number, config in enumerate(configs):
        new = _read(config, f"config {number}")
        if new in read:
            raise ValueError(f"config {number} repeats config {read[new]}; each network is trained once")
        read[new] = number
    if not read:
        raise ValueError("a sweep needs at least one config")
    return list(read)


def _read(config: Mapping[str, Any], name: str) -> Config:
    if not isinstance(config, Mapping):
        raise ValueError(f"{name} must map names to values; got {config!r}")
    for key in ("kind", "seed"):
        if key not in config:
            raise ValueError(f"{name} lacks {key!r}, which must be {_ALLOWED[key][1]}")
    values: dict[str, Any] = {}
    for key, value in config.items():
        if key not in _ALLOWED:
            raise ValueError(f"{name} has the unknown key {key!r}; choose from {', '.join(_ALLOWED)}")
        allowed, words = _ALLOWED[key]
        if not ((value is None and key in _OPTIONAL) or allowed(value)):
            raise ValueError(f"{name}: {key} must be {words}; got {value!r}")
        is_real = isinstance(value, Real) and not isinstance(value, bool)
        whole = isinstance(Config.__dataclass_fields__[key].default, int) or key == "seed"
        values[key] = (int(value) if whole else float(value)) if is_real else value  # numpy's numbers become Python's
    if values.get("gain") is None:
        values["gain"] = KINDS[values["kind"]].default_gain
    return Config(**values)


def group(configs: Sequence[Config]) -> list[list[int]]:
    """Say which networks train together: groups of positions, a function of the configs alone.

    Networks of equal `common` settings are dealt in their order to groups of nearly equal size; wide networks stay
    alone.
    """
    alike: dict[tuple[Any, ...], list[int]] = {}
    for position, config in enumerate(configs):
        alike.setdefault(config.common, []).append(position)
    groups = []
    for positions in alike.values():
        most = _MOST if configs[positions[0]].width <= _WIDEST else 1
        count = math.ceil(len(positions) / most)
        ends = [len(positions) * k // count for k in range(count + 1)]
        groups += [positions[start:end] for start, end in itertools.pairwise(ends)]
    return groups
