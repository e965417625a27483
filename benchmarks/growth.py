"""How compile time grows with the graph: chains of residual blocks from about 50 to 2,000 nodes.

``python -m benchmarks.growth`` prints seconds for capture and for the passes.
"""

from __future__ import annotations

import time

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from co3d_compile.capture.capture import capture
from co3d_compile.capture.clip import read_clip
from co3d_compile.passes import compile_program, rewrite
from co3d_compile.passes.time_axes import plan_as_read

BLOCKS = (8, 32, 128, 330)


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv3d(channels, channels, 3, padding=1), nn.BatchNorm3d(channels), nn.ReLU())
        self.second = nn.Conv3d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(self.first(x)))


def main() -> None:
    table = Table("nodes", "capture s", "passes s", "passes ms / node")
    for count in BLOCKS:
        model = nn.Sequential(*[Block(2) for _ in range(count)]).eval()
        begin = time.perf_counter()
        program = capture(model, read_clip((1, 2, 8, 4, 4), torch.float32, torch.device("cpu")))
        captured = time.perf_counter()
        plan = plan_as_read(rewrite(program), None, compile_program)
        done = time.perf_counter()
        nodes = len(plan.nodes)
        seconds = f"{captured - begin:.2f}", f"{done - captured:.2f}", f"{(done - captured) / nodes * 1e3:.2f}"
        table.add_row(str(nodes), *seconds)
    Console().print(table)


if __name__ == "__main__":
    main()
