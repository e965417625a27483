"""The networks of docs/networks.md: published ones from packages, and those of ``examples/networks``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from examples.networks.catalogue import EXAMPLES, Example
from tests.zoo_models import ZOO, ZooModel

POOLS = (13, 16, 32, 64, 96)
"""Elements that X3D's head pools over time: the paper's extended receptive fields."""


@dataclass(frozen=True)
class Subject:
    """One row.

    Attributes:
        clip: shape of a clip, or a list of one for each pathway.
        options: for ``co3d_compile.compile``.
    """

    make: Callable[[], nn.Module]
    clip: tuple[int, ...] | list[tuple[int, ...]]
    options: Mapping[str, Any] = field(default_factory=dict)


def _published(model: ZooModel, **options: Any) -> Subject:
    return Subject(model.build, model.clips(), options)


def _own(example: Example) -> Subject:
    return Subject(example.build, example.clip(), example.options)


SUBJECTS: dict[str, Subject] = {
    **{name: _published(model) for name, model in ZOO.items()},
    **{
        f"{name}, pool {pool}": _published(ZOO[name], window=pool)
        for name in ("x3d_xs", "x3d_s", "x3d_m", "x3d_l")
        for pool in POOLS
        if pool != ZOO[name].frames
    },
    **{name: _own(example) for name, example in EXAMPLES.items()},
}
