"""Several tensors side by side: cat and stack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from co3d_compile.layout import Dim, Layout, Mark
from co3d_compile.ops.broadcast import joined
from co3d_compile.ops.flow import Flow, alone
from co3d_compile.ops.operation import Block, Call, Facts, Operation, Refused, Sample, canonical_dim


class Cat(Operation):
    targets = ("aten.cat.default",)
    broadcasts = True

    def flow(self, call: Call) -> Flow:
        operands: list[Facts] = list(call["tensors"])
        dim = canonical_dim(call["dim"], len(call.shapes[0]))
        if any(isinstance(factor, Mark) for facts in operands for factor in facts.layout.dims[dim]):
            raise Refused("tensors are joined along time or the batch", "join them along channels")
        besides = joined([Facts(_with_dim(f.layout, dim, ()), f.dtype, f.timing) for f in operands], call.sizes)
        return alone(_with_dim(besides, dim, (call.shapes[0][dim],)))

    def whole_dims(self, arguments: Mapping[str, Any], rank: int) -> tuple[int, ...]:
        return (canonical_dim(arguments["dim"], rank),)

    def run(self, arguments: Mapping[str, Any], block: Block) -> Any:
        dim = canonical_dim(arguments["dim"], block.layouts[0].rank)
        shape = block.layouts[0].running_shape(block.elements, block.batch)
        return super().run({**arguments, "tensors": [_grown(part, shape, dim) for part in arguments["tensors"]]}, block)

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("channels", lambda x: torch.cat([x, x.relu(), x * 2], 1)),
            Sample("at other depths", lambda x: torch.cat([F.avg_pool3d(x, (3, 1, 1), 1, (1, 0, 0)), x], 1)),
            Sample("with zeros", lambda x: torch.cat([x, torch.zeros_like(x[:, :1])], 1)),
            Sample(
                "between constants",
                lambda x: torch.cat([x.new_zeros(len(x), 3, *x.shape[2:]), x, torch.ones_like(x)], 1),
            ),
            Sample("over time", lambda x: torch.cat([x, x], 2), refusal="tensors are joined along time"),
        )


class Stack(Operation):
    targets = ("aten.stack.default",)
    broadcasts = True

    def flow(self, call: Call) -> Flow:
        rank = len(call.shapes[0])
        dim = canonical_dim(call["dim"], rank)
        layout = joined(list(call["tensors"]), call.sizes)
        return alone(layout.with_dims([*layout.dims[:dim], (call.shapes[0][dim],), *layout.dims[dim:]]))

    def run(self, arguments: Mapping[str, Any], block: Block) -> Any:
        dim = canonical_dim(arguments["dim"], block.layouts[0].rank)
        shape = block.layouts[0].running_shape(block.elements, block.batch)
        part = shape[:dim] + shape[dim + 1 :]
        return super().run({**arguments, "tensors": [tensor.expand(part) for tensor in arguments["tensors"]]}, block)

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("a new axis", lambda x: torch.stack([x, x.relu()], 1)),
            Sample("last, at other depths", lambda x: torch.stack([x, F.avg_pool3d(x, (3, 1, 1), 1, (1, 0, 0))], -1)),
        )


def _with_dim(layout: Layout, place: int, dim: Dim) -> Layout:
    return layout.with_dims([dim if n == place else kept for n, kept in enumerate(layout.dims)])


def _grown(part: Tensor, shape: tuple[int, ...], dim: int) -> Tensor:
    sizes = [part.shape[n] if n == dim else size for n, size in enumerate(shape)]
    return part if list(part.shape) == sizes else part.expand(sizes)
