"""What takes the frames of a whole clip together and keeps time, made from a frame or from the last frames instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from co3d_compile.clock.timing import trailing_map
from co3d_compile.layout import Dim, Factor, Layout, Mark
from co3d_compile.ops.bodies import Body
from co3d_compile.ops.flow import Absent, Flow, Taps, Way
from co3d_compile.ops.operation import Block, Call, Operation, Sample
from co3d_compile.ops.windows import body_macs, rows_of, written_out

_LIBRARY = torch.library.Library("co3d_compile", "FRAGMENT")  # type: ignore[no-untyped-call]
_LIBRARY.define(  # type: ignore[no-untyped-call]
    "mixing(Tensor[] boundaries, Tensor[] constants, str body, int[] layout, int width, bool trailing) -> Tensor"
)

_CODES = {Mark.TIME: -1, Mark.BATCH: -2}
_NEXT_DIM = 0


@torch.library.impl(_LIBRARY, "mixing", "CompositeImplicitAutograd")
def _on_the_clip(
    boundaries: Sequence[Tensor],
    constants: Sequence[Tensor],
    body: str,
    layout: Sequence[int],
    width: int,
    trailing: bool,
) -> Tensor:
    made: Tensor = Body.from_text(body).run([*boundaries, *constants])[0]
    return made


class Mixing(Operation):
    """The body on ``width`` elements, of which the last is the answer.

    They are the last ones of the stream (``trailing``; the first stands in for those before it), or one standing still.
    """

    targets = ("co3d_compile.mixing.default",)
    broadcasts = True

    def flow(self, call: Call) -> Flow:
        layout = Layout(decoded_dims(call["layout"]), *call.sizes)
        width = call["width"]
        taps = Taps(repeats=width)
        if call["trailing"]:
            taps = Taps(trailing_map(width), width, fill=Absent.EDGE)
        fixed = f"it holds the sizes of a clip of batch {layout.batch}" if layout.batch > 1 else ""
        return Flow(Way.MIXING, (layout,), taps, fixed_batch=fixed)

    def run(self, arguments: Mapping[str, Any], block: Block) -> Tensor:
        body, width = Body.from_text(arguments["body"]), arguments["width"]
        boundaries = [
            written_out(tensor, layout.with_time(width), block.batch)
            for tensor, layout in zip(arguments["boundaries"], block.operands, strict=True)
        ]
        layout = block.layouts[0]
        if block.batch == layout.batch:
            return _last(body.run([*boundaries, *arguments["constants"]])[0], layout, width, block.batch)
        rows = [
            _last(body.run([*row, *arguments["constants"]])[0], layout, width, 1)
            for row in rows_of(boundaries, block, width)
        ]
        return _side_by_side(rows, layout)

    def macs(self, call: Call, flow: Flow) -> int:
        return body_macs(Body.from_text(call["body"]), [*call["boundaries"], *call["constants"]])

    def samples(self) -> tuple[Sample, ...]:
        return ()


def encoded_dims(layout: Layout) -> list[int]:
    """A layout's dimensions as an operator takes them."""
    codes: list[int] = []
    for place, dim in enumerate(layout.solid().dims):
        codes += [_NEXT_DIM] if place else []
        codes += [_code(factor) for factor in dim]
    return codes


def _code(factor: Factor) -> int:
    if isinstance(factor, Mark):
        return _CODES[factor]
    assert isinstance(factor, int)
    return factor


def decoded_dims(codes: Sequence[int]) -> tuple[Dim, ...]:
    marks = {code: mark for mark, code in _CODES.items()}
    dims: list[list[Factor]] = [[]]
    for code in codes:
        if code == _NEXT_DIM:
            dims.append([])
        else:
            dims[-1].append(marks.get(code, code))
    return tuple(tuple(dim) for dim in dims)


def _last(made: Tensor, layout: Layout, width: int, batch: int) -> Tensor:
    """The last element along time."""
    dim = layout.time_dim
    assert dim is not None
    outer, count, inner = layout.around(Mark.TIME, width, batch)
    apart = made.reshape(*made.shape[:dim], outer, count, inner, *made.shape[dim + 1 :])
    return apart.select(dim + 1, count - 1).reshape(layout.running_shape(1, batch))


def _side_by_side(rows: Sequence[Tensor], layout: Layout) -> Tensor:
    """One tensor of all streams."""
    dim = layout.batch_dim
    assert dim is not None
    outer, _, inner = layout.around(Mark.BATCH, 1, 1)
    apart = [row.reshape(*row.shape[:dim], outer, 1, inner, *row.shape[dim + 1 :]) for row in rows]
    return torch.cat(apart, dim + 1).reshape(layout.running_shape(1, len(rows)))
