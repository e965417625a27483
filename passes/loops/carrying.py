"""Which nodes carry something on since the start of the video."""

from __future__ import annotations

from torch import fx

from co3d_compile.ops.flow import Way
from co3d_compile.program.program import flow_of, is_getitem


def is_carried_on(node: fx.Node) -> bool:
    return (
        node.op == "call_function"
        and not is_getitem(node)
        and "flow" in node.meta
        and flow_of(node).way is Way.RECURRENT
    )
