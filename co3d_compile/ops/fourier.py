"""Fourier transforms along dimensions other than time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from co3d_compile.layout import Layout, Mark
from co3d_compile.ops.flow import Flow, alone
from co3d_compile.ops.operation import Call, Operation, Refused, Sample, canonical_dims

KINDS = ("fft", "ifft", "rfft", "irfft")


class Fourier(Operation):
    targets = tuple(f"aten.fft_{kind}{axes}.default" for kind in KINDS for axes in ("", "2", "n"))

    def flow(self, call: Call) -> Flow:
        layout: Layout = call["self"].layout
        dims = _transformed(call, layout.rank)
        if any(isinstance(factor, Mark) for dim in dims for factor in layout.dims[dim]):
            raise Refused(
                "it runs along time, so every frame of the clip meets every other",
                "transform frames, or pool over time",
            )
        return alone(
            layout.with_dims([(call.shapes[0][n],) if n in dims else dim for n, dim in enumerate(layout.dims)])
        )

    def samples(self) -> tuple[Sample, ...]:
        weight = torch.randn(4, 3)
        return (
            Sample(
                "filtered",
                lambda x: torch.fft.irfft2(torch.fft.rfft2(x, norm="ortho") * weight, s=(4, 5), norm="ortho"),
            ),
            Sample("there and back", lambda x: torch.fft.ifft2(torch.fft.fft2(x) * 1j).imag),
            Sample("of rows", lambda x: torch.fft.irfft(torch.fft.rfft(x, dim=3), n=6, dim=3)),
            Sample("of channels, and back", lambda x: torch.fft.ifft(torch.fft.fft(x, dim=1), dim=1).real),
            Sample("amplitudes", lambda x: torch.fft.fftn(x, dim=(1, 4)).abs()),
            Sample("last axes", lambda x: torch.fft.irfftn(torch.fft.rfftn(x, dim=(3, 4)), s=(4, 4))),
            Sample("inverse of all", lambda x: torch.fft.ifftn(x, dim=(1, 3)).real),
            Sample("a frame late", lambda x: _late(torch.fft.rfft2(x)).abs()),
            Sample("over time", lambda x: torch.fft.rfft(x, dim=2).abs(), refusal="it runs along time"),
        )


def _transformed(call: Call, rank: int) -> Sequence[int]:
    """The dimensions that it runs along (torch.fft: where none are given, as many of the last as sizes are)."""
    dims, sizes = call["dim"], call.arguments.get("s")
    if dims is None and sizes is not None:
        return range(rank - len(sizes), rank)
    return canonical_dims(dims, rank)


def _late(x: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(x[:, :, :1]), x[:, :, :-1]], 2)
