"""State and delay of networks: as compiled, by the paper's accounting, and as ``continual-inference`` allocates it.

``python -m benchmarks.state [--only x3d_m slow] [--without-peer]`` prints numbers (of 4 bytes here) for one stream.
What the peer allocates is measured: the network is built by hand from the library's modules, stepped until it answers,
and the buffers that it then holds are added up. It steps on torch's meta device: every buffer has its size, and
nothing is computed. Whether its answers are right is another matter (docs/architecture.md).
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.networks import compiled
from benchmarks.peer import allocated_numbers, peer_network
from benchmarks.subjects import SUBJECTS, Subject
from co3d_compile.network import Network

NETWORKS = ("x3d_s", "x3d_m", "slow", "i3d", "csn", "r3d_18", "mc3_18", "r2plus1d_18", "s3d", "unet")
NO_PEER = {"unet": "it has nothing that makes several elements of one"}
PATIENCE = 1000
"""Steps after which a peer that gives no answer is given up."""


@dataclass(frozen=True)
class Peer:
    """What the peer holds when it answers, and how many frames it took before its first answer."""

    numbers: int
    delay: int


def measured_peer(model: nn.Module, clip: tuple[int, ...], pooled: int) -> Peer:
    """Step the peer's network until it answers, then count.

    Args:
        pooled: elements along time that the head takes together.
    """
    network = without_numbers(peer_network(model, pooled))
    model.to("meta")  # what the library's closures still hold
    batch, channels, _, *size = clip
    frame = torch.empty(batch, channels, *size, device="meta")
    with torch.no_grad():
        for steps in range(PATIENCE):
            if isinstance(network.forward_step(frame), Tensor):
                return Peer(allocated_numbers(network), steps)
    raise RuntimeError(f"no answer in {PATIENCE} steps")


def without_numbers(network: nn.Module) -> Any:
    """The peer's network on the meta device, but for its counters, whose values decide what it does."""
    network.to("meta")
    for module in network.modules():
        for counter in ("state_index", "stride_index"):
            if hasattr(module, counter):
                setattr(module, counter, torch.tensor(0))
    return network


def row_of(name: str, *, with_peer: bool) -> list[str]:
    """One line of the table."""
    network = compiled(SUBJECTS[name])
    totals, (output, *_) = network.report.totals, network.report.outputs
    paper = network.accounting("paper").state_numbers
    ours = [str(output.delay), f"{totals.state_elements:,}", f"{totals.state_bytes:,}", f"{paper:,}"]
    return [name, *ours, *(_peer_cells(name, SUBJECTS[name], network) if with_peer else ["", "", ""])]


def _peer_cells(name: str, subject: Subject, network: Network) -> list[str]:
    if name in NO_PEER:
        return ["", f"- ({NO_PEER[name]})", ""]
    assert not isinstance(subject.clip, list)
    peer = measured_peer(subject.make(), subject.clip, _last_pooled(network))
    ratio = peer.numbers / network.report.totals.state_elements
    return [str(peer.delay), f"{peer.numbers:,}", f"{ratio:.2f}"]


def _last_pooled(network: Network) -> int:
    """Elements that the last window over the whole clip takes together."""
    return next((node.reading.count for node in reversed(network.plan.nodes) if node.reading.count > 1), 1)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SUBJECTS, default=NETWORKS)
    parser.add_argument("--without-peer", action="store_true", help="nothing is computed, only counted")
    options = parser.parse_args(arguments)
    logging.getLogger("continual").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    table = Table("network", "delay", "state", "bytes", "paper's form", "peer's delay", "peer's state", "peer / state")
    for name in options.only:
        print(name, file=sys.stderr)
        table.add_row(*row_of(name, with_peer=not options.without_peer))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
