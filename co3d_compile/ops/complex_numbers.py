"""Complex numbers as pairs of real ones; capture spells the way back as ``complex`` of two parts."""

from __future__ import annotations

import torch

from co3d_compile.layout import Layout
from co3d_compile.ops.flow import Flow, alone
from co3d_compile.ops.operation import Call, Operation, Sample


class Pairs(Operation):
    """The pairs lie in a last dimension."""

    targets = ("aten.view_as_real.default",)

    def flow(self, call: Call) -> Flow:
        layout: Layout = call["self"].layout
        return alone(layout.with_dims([*layout.dims, (2,)]))

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("turned", lambda x: torch.view_as_real(torch.polar(x.exp(), x)).flatten(4)),
            Sample("there and back", lambda x: torch.view_as_complex(torch.stack([x, x.exp()], -1)).imag),
            Sample("pairs of channels", lambda x: torch.view_as_complex(x.movedim(1, -1).contiguous()).abs()),
        )
