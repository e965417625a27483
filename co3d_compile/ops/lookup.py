"""Tables that values are looked up in: embeddings, and the bins that values fall into."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F

from co3d_compile.layout import Layout
from co3d_compile.ops.flow import Flow, alone
from co3d_compile.ops.operation import Call, Facts, Operation, Refused, Sample


class Lookup(Operation):
    """Every value is looked up for itself, in a table that is the same for all."""

    targets = ("aten.embedding.default", "aten.bucketize.Tensor", "aten.searchsorted.Tensor")

    def flow(self, call: Call) -> Flow:
        table, looked_up = _parts(call.arguments)
        layout: Layout = looked_up.layout
        if table.streams:
            raise Refused("the table follows from the video", "a table that is constant")
        if table.layout.rank > 1 and call.target == "aten.searchsorted.Tensor":
            raise Refused("each row has a table of its own", "one table for all")
        if call.target == "aten.embedding.default":
            return alone(layout.with_dims([*layout.dims, (table.layout.shape[1],)]))
        return alone(layout)

    def samples(self) -> tuple[Sample, ...]:
        table, bounds = torch.randn(4, 3), torch.tensor([-0.5, 0.0, 0.5])
        return (
            Sample("embedded", lambda x: F.embedding(x.argmax(3), table)),
            Sample("bins", lambda x: torch.bucketize(x, bounds) * x),
            Sample("bins, by another name", lambda x: torch.searchsorted(bounds, x, right=True) * x),
            Sample(
                "a table of the video",
                lambda x: F.embedding(x.argmax(3), x.mean((0, 1, 2))[:, :3]),
                refusal="the table follows from the video",
            ),
            Sample(
                "a table for each",
                lambda x: torch.searchsorted(bounds.expand(*x.shape[:-1], 3).contiguous(), x),
                refusal="each row has a table",
            ),
        )


def _parts(arguments: Mapping[str, Any]) -> tuple[Facts, Facts]:
    """The table, and what is looked up in it."""
    if "weight" in arguments:
        return arguments["weight"], arguments["indices"]
    return arguments.get("boundaries") or arguments["sorted_sequence"], arguments["self"]
