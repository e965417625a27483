"""Tensors made from nothing. Those of one value stay one number and broadcast over whatever they meet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from co3d_compile.layout import Layout, Spread
from co3d_compile.ops.flow import Flow, alone
from co3d_compile.ops.operation import Block, Call, Operation, Sample


class Filled(Operation):
    targets = ("aten.zeros.default", "aten.ones.default", "aten.full.default")
    spreads = True

    def flow(self, call: Call) -> Flow:
        return alone(Layout(tuple((Spread(size),) if size > 1 else () for size in call.shapes[0]), 1, 1))

    def adapted(self, arguments: Mapping[str, Any], block: Block) -> Mapping[str, Any]:
        return {**arguments, "size": list(block.layouts[0].running_shape(1, 1))}

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("zeros beside", lambda x: torch.cat([x, torch.zeros(x.shape[0], 1, *x.shape[2:])], 1)),
            Sample("a value added", lambda x: x + torch.full_like(x, 0.5)),
            Sample("ones multiplied", lambda x: x * x.new_ones(x.shape)),
        )
