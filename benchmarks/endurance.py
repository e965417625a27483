"""Memory of a long stream, read at intervals: ``python -m benchmarks.endurance [--network x3d_xs] [--frames 100000]``.

Each network streams in the process that the command starts, alone. Resident and peak memory must stay where they are
after the first readings, and the state as large as it was.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import co3d_compile
from co3d_compile.network import Network
from tests.zoo_models import ZOO

READINGS = 20
VIDEO = 64
"""Different frames that come in turn, so that no reading depends on one frame's values."""


@dataclass(frozen=True)
class Reading:
    """Memory of the process after so many frames, in bytes.

    Attributes:
        resident: in use now.
        peak: the most that was ever in use.
        state: what the stream's state holds.
        seconds: since the first frame.
    """

    frames: int
    resident: int
    peak: int
    state: int
    seconds: float


class Wide(nn.Module):
    """A strided residual block, a gate and a head over the clip.

    An element of each tensor before the head holds 32 KiB: if one stayed behind at every tick, 1,000 frames would
    take 32 MiB.
    """

    shape = (1, 8, 8, 32, 32)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(8, 8, (3, 1, 1), padding=(1, 0, 0))
        self.norm = nn.BatchNorm3d(8)
        self.pool = nn.MaxPool3d((3, 1, 1), stride=1, padding=(1, 0, 0))
        self.long = nn.Conv3d(8, 8, (3, 1, 1), stride=(2, 1, 1), padding=(1, 0, 0))
        self.short = nn.Conv3d(8, 8, 1, stride=(2, 1, 1))
        self.gate = nn.Conv3d(8, 8, 1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()
        x = self.long(self.pool(x)) + self.short(x)
        x = x * self.gate(x.mean((2, 3, 4), keepdim=True)).sigmoid()
        scores: Tensor = self.head(x.mean((2, 3, 4)))
        return scores


def _wide() -> tuple[Network, tuple[int, ...]]:
    return co3d_compile.compile(Wide().eval(), Wide.shape), Wide.shape


def _x3d_xs() -> tuple[Network, tuple[int, ...]]:
    model = ZOO["x3d_xs"]
    return co3d_compile.compile(model.build(), model.clip()), model.clip()


NETWORKS: dict[str, Callable[[], tuple[Network, tuple[int, ...]]]] = {"wide": _wide, "x3d_xs": _x3d_xs}


def stream(network: Network, clip: tuple[int, ...], frames: int, readings: int = READINGS) -> Iterator[Reading]:
    """Push so many frames; read the memory so many times, at equal intervals."""
    running = network.stream()
    batch, channels, _, *size = clip
    video = torch.randn(VIDEO, batch, channels, *size)
    begin = time.perf_counter()
    for frame in range(1, frames + 1):
        running.push(video[frame % VIDEO])
        if frame % (frames // readings) == 0:
            yield Reading(frame, _resident(), _peak(), running.state.bytes, round(time.perf_counter() - begin, 1))


def _resident() -> int:
    return _status("VmRSS")


def _peak() -> int:
    # not getrusage(2): its ru_maxrss begins with the peak of the process that started this one
    return _status("VmHWM")


def _status(field: str) -> int:
    """Bytes of a field of /proc/self/status (proc_pid_status(5)), which tells kibibytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, default="wide")
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--readings", type=int, default=READINGS)
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    network, clip = NETWORKS[options.network]()
    with torch.no_grad():
        for reading in stream(network, clip, options.frames, options.readings):
            print(json.dumps(asdict(reading)), flush=True)


if __name__ == "__main__":
    main()
