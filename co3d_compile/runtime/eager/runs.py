"""What the schedule lists, with everything found: where operands are, what runs, where results go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from co3d_compile.plan.plan import Feeding, Firing, Plan, sums_of
from co3d_compile.runtime.eager.accumulation import AccumulatingKernel
from co3d_compile.runtime.eager.kernels import Kernel
from co3d_compile.runtime.state import Element, cast

Elements = dict[str, tuple[Element, ...]]
"""What a tick can read: per value its history and what the tick has made, and the partial sums, oldest first."""

Run = Callable[[Elements, int], None]
"""Adds what it makes to the elements; takes the batch, too. In the middle of the video: all that is read exists."""


@dataclass(frozen=True)
class Fire:
    """A kernel run for some elements."""

    kernel: Kernel
    reads: tuple[tuple[str, tuple[int, ...]], ...]
    outputs: tuple[str, ...]
    element: int
    count: int

    def __call__(self, elements: Elements, batch: int) -> None:
        taps = [[elements[name][place] for place in places] for name, places in self.reads]
        results = self.kernel.run(taps, batch, self.element, self.count)
        for name, result in zip(self.outputs, results, strict=True):
            elements[name] = (*elements.get(name, ()), *result)


@dataclass(frozen=True)
class Feed:
    """An element taken into partial sums; places count from the newest output under way."""

    kernel: AccumulatingKernel
    read: str
    place: int
    sums: str
    begun: tuple[None, ...]
    shares: tuple[tuple[int, int], ...]
    done: int | None
    made: str

    def __call__(self, elements: Elements, batch: int) -> None:
        element = elements[self.read][self.place]
        held = elements[self.sums]
        sums = [*held, *self.begun]
        assert element is not None
        for tap, place in self.shares:
            sums[place] = self.kernel.feed(element, tap, sums[place])
        if self.done is not None:
            whole = sums[self.done]
            assert whole is not None
            elements[self.made] = (*elements.get(self.made, ()), self.kernel.finish(whole))
            sums[self.done] = None
        elements[self.sums] = tuple(sums[-len(held) :])


@dataclass(frozen=True)
class RoundedFeed:
    """An element taken into partial sums that are rounded at once: no tick holds those of all nodes in full."""

    feed: Feed
    dtype: torch.dtype

    def __call__(self, elements: Elements, batch: int) -> None:
        self.feed(elements, batch)
        elements[self.feed.sums] = tuple(cast(total, self.dtype) for total in elements[self.feed.sums])


def ready(plan: Plan, run: Firing | Feeding, kernel: Kernel | AccumulatingKernel) -> Run:
    """An entry of the schedule, ready to run."""
    node = plan.nodes[run.node]
    if isinstance(run, Feeding):
        assert isinstance(kernel, AccumulatingKernel)
        feed = Feed(
            kernel=kernel,
            read=node.reads[0],
            place=-1 - run.back,
            sums=sums_of(node.outputs[0]),
            begun=(None,) * run.begun,
            shares=tuple((tap, -1 - back) for tap, back in run.shares),
            done=None if run.done is None else -1 - run.done,
            made=kernel.outputs[0],
        )
        made = plan.values[node.outputs[0]]
        return RoundedFeed(feed, made.held_dtype) if made.is_rounded else feed
    assert not isinstance(kernel, AccumulatingKernel)
    reads = tuple((name, tuple(-1 - back for back in backs)) for name, backs in zip(node.reads, run.backs, strict=True))
    return Fire(kernel, reads, kernel.outputs, run.element, run.count)
