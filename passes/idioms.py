"""Spellings of one operation in several calls become the one operator that computes it in a single sweep."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from co3d_compile.program.program import Program, target_name

aten = torch.ops.aten


def fuse_idioms(program: Program) -> Program:
    """``x * sigmoid(x)`` becomes ``silu(x)``.

    Law: values change by rounding alone; the product keeps its name.
    """
    if any(program.operations.is_own(target) for target in ("aten.mul.Tensor", "aten.sigmoid.default")):
        return program
    for node in list(program.calls):
        if target_name(node) == "aten.mul.Tensor":
            _fuse_silu(node)
    program.graph.eliminate_dead_code()
    return program


def _fuse_silu(product: fx.Node) -> None:
    for one, x in (product.args, reversed(product.args)):
        gate = _sigmoid(one)
        if gate is not None and gate.args == (x,) and list(gate.users) == [product]:
            product.target = aten.silu.default
            product.args, product.kwargs = (x,), {}
            return


def _sigmoid(value: Any) -> fx.Node | None:
    called = isinstance(value, fx.Node) and value.op == "call_function"
    return value if called and target_name(value) == "aten.sigmoid.default" else None
