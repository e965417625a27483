"""Compiling, traced once against traced again by torch: ``python -m benchmarks.compiling [--networks x3d_m,r3d_18]``.

Networks are compiled without numbers (on torch's meta device); both ways take turns in one process.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from statistics import median
from unittest.mock import patch

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import co3d_compile
from tests.zoo_models import ZOO

NETWORKS = ("r3d_18", "slow", "x3d_m")
ROUNDS = 5


def traced_again() -> AbstractContextManager[object]:
    """Every graph goes through ``run_decompositions`` of ``torch.export``, whatever it holds."""
    return patch("co3d_compile.capture.export.without_writes", lambda graph: False)


def seconds(model: nn.Module, clip: torch.Tensor, way: AbstractContextManager[object]) -> float:
    begin = time.perf_counter()
    with way:
        co3d_compile.compile(model, clip)
    return time.perf_counter() - begin


def measure(name: str, rounds: int) -> tuple[float, float]:
    """Medians of traced once and traced again."""
    with torch.device("meta"):
        model, clip = ZOO[name].build(), torch.empty(ZOO[name].clip())
        seconds(model, clip, traced_again())
        pairs = [(seconds(model, clip, nullcontext()), seconds(model, clip, traced_again())) for _ in range(rounds)]
    once, again = zip(*pairs, strict=True)
    return median(once), median(again)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    table = Table("network", "once, s", "again, s", "ratio", title=f"seconds to compile, medians of {options.rounds}")
    for name in options.networks.split(","):
        once, again = measure(name, options.rounds)
        table.add_row(name, f"{once:.2f}", f"{again:.2f}", f"{again / once:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
