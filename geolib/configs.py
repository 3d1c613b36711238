"""What a sweep may vary about a network: names, allowed values, defaults; and which networks train together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from numbers import Integral, Real
from typing import Any

from geolib.convolution import NORMS, ConvPlainNet, ConvResNet, image_sides
from geolib.networks import PlainNet, ResNet

__all__ = ["Config", "check_images", "group", "read_configs"]

#: The class of each form and kind of network.
_NETWORKS: dict[str, dict[str, type[Any]]] = {
    "dense": {"resnet": ResNet, "plain": PlainNet},
    "conv": {"resnet": ConvResNet, "plain": ConvPlainNet},
}
#: Sizes by default where they are not those of `Config`: a channel of a convolution costs far more than a dense unit.
_SIZES: dict[str, dict[str, int]] = {"dense": {}, "conv": {"width": 32, "blocks": 4}}
#: What dense networks cannot be given, with the value that stands for its absence.
_CONV_ONLY = {"stages": 1, "norm": None, "decay_gains": False}
#: Above this width, batched products save less than a quarter of the time of single ones, on a CPU core.
_WIDEST = 128
#: Networks trained together at most: more do not run faster, and a few groups keep all processes busy.
_MOST = 8


@dataclass(frozen=True, kw_only=True)
class Config:
    """One network of a sweep and its training; see `sweep`."""

    kind: str
    seed: int
    form: str = "dense"
    width: int = 64
    blocks: int = 10
    stages: int = 1
    norm: str | None = None
    bias: bool = False
    gain: float | None = None
    weight_decay: float = 0.0
    decay_gains: bool = False
    learning_rate: float = 0.003
    momentum: float = 0.9
    batch_size: int = 32
    epochs: int = 60
    validation: float | None = None

    @property
    def network(self) -> type[Any]:
        """The network's class."""
        return _NETWORKS[self.form][self.kind]

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


def _named(*names: str) -> tuple[Callable[[Any], bool], str]:
    return (lambda value: isinstance(value, str) and value in names, " or ".join(map(repr, names)))


_FLAG = (lambda value: isinstance(value, bool), "True or False")
_NOT_NEGATIVE = (_real(lambda value: 0 <= value < math.inf), "a finite number >= 0")
_ALLOWED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "kind": _named("resnet", "plain"),
    "seed": (_whole(0, 2**63 - 1), "a whole number from 0 to 2**63 - 1"),
    "form": _named(*_NETWORKS),
    "width": (_whole(1), "a whole number >= 1"),
    "blocks": (_whole(1), "a whole number >= 1"),
    "stages": (_whole(1), "a whole number >= 1"),
    "norm": (_named(*NORMS)[0], "'batch', 'layer' or None"),
    "bias": _FLAG,
    "gain": _NOT_NEGATIVE,
    "weight_decay": _NOT_NEGATIVE,
    "decay_gains": _FLAG,
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
    new = Config(**(_SIZES[values.get("form", "dense")] | values))
    _check_form(new, name)
    return new if new.gain is not None else replace(new, gain=new.network.default_gain)


def _check_form(config: Config, name: str) -> None:
    if config.form == "dense":
        for key, absent in _CONV_ONLY.items():
            if (value := getattr(config, key)) != absent:
                raise ValueError(
                    f"{name}: {key} = {value!r} needs form = 'conv'; dense networks have one stage and no norm, and so "
                    "no gains to decay"
                )
    if config.decay_gains and config.norm is None:
        raise ValueError(
            f"{name}: decay_gains = True needs a norm, 'batch' or 'layer'; without one there is no gain to decay"
        )


def check_images(configs: Sequence[Config], shape: Sequence[int]) -> None:
    """Raise a ValueError for the first convolutional network that has more stages than images of `shape` allow.

    Parameters
    ----------
    configs
        As `read_configs` returns them.
    shape
        Of one input, (channels, height, width).
    """
    for number, config in enumerate(configs):
        if config.form == "conv":
            try:
                image_sides(shape, config.stages)
            except ValueError as error:
                raise ValueError(f"config {number}: {error}") from None


def group(configs: Sequence[Config]) -> list[list[int]]:
    """Say which networks train together: groups of positions, a function of the configs alone.

    Networks of equal `common` settings are dealt in their order to groups of nearly equal size; wide ones and
    convolutional ones stay alone.
    """
    alike: dict[tuple[Any, ...], list[int]] = {}
    for position, config in enumerate(configs):
        alike.setdefault(config.common, []).append(position)
    groups = []
    for positions in alike.values():
        first = configs[positions[0]]
        most = _MOST if first.form == "dense" and first.width <= _WIDEST else 1
        count = math.ceil(len(positions) / most)
        ends = [len(positions) * k // count for k in range(count + 1)]
        groups += [positions[start:end] for start, end in itertools.pairwise(ends)]
    return groups
