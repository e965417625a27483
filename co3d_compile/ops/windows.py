"""The window of last resort: what cannot be streamed runs, as captured, on a whole clip's elements at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import lcm
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental import _config
from torch.utils.flop_counter import FlopCounterMode

from co3d_compile.clock.timing import Timing, sliding_map
from co3d_compile.layout import Dim, Layout, Mark
from co3d_compile.ops.bodies import Body
from co3d_compile.ops.flow import Flow, Taps, Way
from co3d_compile.ops.operation import Block, Call, Facts, Operation, Sample

_LIBRARY = torch.library.Library("co3d_compile", "FRAGMENT")  # type: ignore[no-untyped-call]
_LIBRARY.define(  # type: ignore[no-untyped-call]
    "window(Tensor[] boundaries, Tensor[] constants, str body) -> Tensor[]"
)


@torch.library.impl(_LIBRARY, "window", "CompositeImplicitAutograd")
def _on_the_clip(boundaries: Sequence[Tensor], constants: Sequence[Tensor], body: str) -> list[Tensor]:
    return Body.from_text(body).run([*boundaries, *constants])


class Window(Operation):
    """Reads a clip's elements of each of its boundaries; all windows of one number begin at the same input frame."""

    targets = ("co3d_compile.window.default",)
    broadcasts = True

    def flow(self, call: Call) -> Flow:
        boundaries: Sequence[Facts] = call["boundaries"]
        layouts = [facts.layout for facts in boundaries]
        timings = [facts.timing for facts in boundaries if facts.timing is not None]
        ticks = lcm(*(timing.clock.step for timing in timings))
        each = tuple(_taps(layout, timing, ticks) for layout, timing in zip(layouts, timings, strict=True))
        answers = tuple(_answer(shape, *call.sizes) for shape in call.shapes)
        return Flow(Way.COLLAPSE, answers, each[0], each, fixed_batch=_fixed_batch(answers))

    def run(self, arguments: Mapping[str, Any], block: Block) -> list[Tensor]:
        body = Body.from_text(arguments["body"])
        boundaries = [
            written_out(tensor, layout, block.batch)
            for tensor, layout in zip(arguments["boundaries"], block.operands, strict=True)
        ]
        constants = arguments["constants"]
        rows = rows_of(boundaries, block) if block.batch != block.reads.batch else iter([boundaries])
        made = [body.run([*row, *constants]) for row in rows]
        return made[0] if len(made) == 1 else [torch.cat(parts) for parts in zip(*made, strict=True)]

    def macs(self, call: Call, flow: Flow) -> int:
        return body_macs(Body.from_text(call["body"]), [*call["boundaries"], *call["constants"]])

    def samples(self) -> tuple[Sample, ...]:
        front = nn.Conv3d(2, 2, 1)
        return (
            Sample("backwards", lambda x: front(x).flip(2), collapses=True),
            Sample("frame against frame", lambda x: _attention(front(x)), collapses=True),
            Sample(
                "with an answer for the whole clip",
                lambda x: x.sort(2).values * front(x).mean(2, keepdim=True),
                collapses=True,
            ),
            Sample("some frames", lambda x: _loudest(front(x)), (1, 2, 8, 4, 5), collapses=True),
        )


def rows_of(boundaries: Sequence[Tensor], block: Block, width: int | None = None) -> Iterator[list[Tensor]]:
    """The operands of one stream at a time, for a body that holds the sizes of a clip of one.

    Args:
        width: elements along time; None: the clip's.
    """
    layouts = [layout if width is None else layout.with_time(width) for layout in block.operands]
    for row in range(block.batch):
        yield [_row(tensor, layout, row, block.batch) for tensor, layout in zip(boundaries, layouts, strict=True)]


def body_macs(body: Body, inputs: Sequence[Facts]) -> int:
    """Multiply-accumulates of one run; where a size depends on values, as if every element were chosen."""

    def counted(device: str) -> int:
        tensors = [_sample(facts, device) for facts in inputs]
        every = _config.patch(meta_nonzero_assume_all_nonzero=True)  # type: ignore[attr-defined]
        with FlopCounterMode(display=False) as counter, torch.no_grad(), every:
            body.run(tensors)
        return int(counter.get_total_flops()) // 2

    try:
        return counted("meta")
    except (RuntimeError, NotImplementedError):
        # an operator in it needs values, and shapes alone have none
        return counted("cpu")


def _sample(facts: Facts, device: str) -> Tensor:
    shape = facts.layout.shape
    if device == "cpu" and facts.dtype.is_floating_point:
        return torch.randn(shape, generator=torch.Generator().manual_seed(0), device="cpu").to(facts.dtype)
    return torch.ones(shape, dtype=facts.dtype, device=device)


def _taps(layout: Layout, timing: Timing, ticks: int) -> Taps:
    """The elements of a window that begins every so many ticks; of what is one element a window, that one."""
    count = 1 if layout.time_dim is None else layout.time
    stride = ticks * len(timing.clock.offsets) // timing.clock.step
    return Taps(sliding_map(count, stride), count)


def _answer(shape: Sequence[int], time: int, batch: int) -> Layout:
    """What comes out for a clip has no elements of its own, whatever axes it has."""
    dims: list[Dim] = [(size,) for size in shape]
    if shape and shape[0] == batch:
        dims[0] = (Mark.BATCH,)
    return Layout(tuple(dims), time, batch)


def _fixed_batch(answers: Sequence[Layout]) -> str:
    batch = answers[0].batch
    if any(layout.batch_dim is None for layout in answers):
        return f"it runs on whole windows, and what it gives for a clip of batch {batch} has no axis of that size first"
    return f"it runs on whole windows, with the sizes of a clip of batch {batch}" if batch > 1 else ""


def written_out(tensor: Tensor, layout: Layout, batch: int) -> Tensor:
    """As a clip has it: at full size, and in the memory order of its axes."""
    count = 1 if layout.time_dim is None else layout.time
    return tensor.expand(layout.solid().running_shape(count, batch)).contiguous()


def _row(tensor: Tensor, layout: Layout, row: int, batch: int) -> Tensor:
    dim = layout.batch_dim
    if dim is None:
        return tensor
    solid = layout.solid()
    outer, _, inner = solid.around(Mark.BATCH, layout.time, batch)
    apart = tensor.reshape(*tensor.shape[:dim], outer, batch, inner, *tensor.shape[dim + 1 :])
    return apart.select(dim + 1, row).reshape(solid.running_shape(layout.time, 1))


def _attention(x: Tensor) -> Tensor:
    frames = x.transpose(1, 2).flatten(2)
    return (frames @ frames.mT).softmax(-1) @ frames


def _loudest(x: Tensor) -> Tensor:
    """Of a size that only the values tell."""
    loudness = x.mean((1, 3, 4))
    return torch.stack([one[:, keep].mean(1) for one, keep in zip(x, loudness >= loudness.mean(), strict=True)])
