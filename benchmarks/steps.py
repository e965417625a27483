"""A step against its clip and against ``continual-inference``, in separate processes that take turns.

``python -m benchmarks.steps [--networks x3d_m,slow] [--threads 2] [--rounds 9]`` prints medians and ratios of one run.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from statistics import median

from rich.console import Console
from rich.table import Table

NETWORKS = ("x3d_m", "slow")
REPETITIONS = {"clip": 1, "step": 8, "peer": 2}
CONTENDERS = tuple(REPETITIONS)


class Contender:
    """A worker process that waits for its turn."""

    def __init__(self, name: str, network: str, threads: int) -> None:
        command = [sys.executable, "-m", "benchmarks.worker", name, network, str(threads)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._repetitions = REPETITIONS[name]
        self._require(self._line() == "ready")

    def turn(self) -> float:
        """Milliseconds of one prediction."""
        assert self._process.stdin is not None
        print(self._repetitions, file=self._process.stdin, flush=True)
        return float(self._line())

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def _require(self, started: bool) -> None:
        if not started:
            raise RuntimeError(f"a contender did not start (exit {self._process.wait()})")


def measure(network: str, threads: int, rounds: int) -> dict[str, list[float]]:
    """Milliseconds per prediction of every contender, round by round."""
    contenders = {name: Contender(name, network, threads) for name in CONTENDERS}
    times: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for _ in range(rounds):
        for name, contender in contenders.items():
            times[name].append(contender.turn())
    for contender in contenders.values():
        contender.close()
    return times


def ratio(times: Sequence[float], others: Sequence[float]) -> float:
    """Median of the ratios within each round, which a drifting machine does not move."""
    return median(one / other for one, other in zip(times, others, strict=True))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args(arguments)
    table = Table("network", "clip ms", "step ms", "peer step ms", "clip / step", "peer / step")
    for network in options.networks.split(","):
        times = measure(network, options.threads, options.rounds)
        medians = [f"{median(times[name]):.1f}" for name in CONTENDERS]
        ratios = [f"{ratio(times[name], times['step']):.1f}" for name in ("clip", "peer")]
        table.add_row(network, *medians, *ratios)
    console = Console()
    console.print(table)
    console.print(f"{options.threads} threads, batch 1, float32, medians of {options.rounds} interleaved rounds")


if __name__ == "__main__":
    main()
