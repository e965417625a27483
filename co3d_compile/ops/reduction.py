"""Reductions over some dimensions: over time they collapse it, over others they treat frames alone."""

from __future__ import annotations

import torch

from co3d_compile.layout import Dim, Layout, Mark
from co3d_compile.ops.flow import Flow, alone, collapsed
from co3d_compile.ops.operation import Call, Operation, Refused, Sample, canonical_dims

STILL = ("mean", "amax", "amin", "max", "min", "logsumexp_mean")


class Reduction(Operation):
    """One output per call, but for ``max.dim`` and ``min.dim`` (values, positions)."""

    targets = (
        "aten.mean.dim",
        "aten.mean.default",
        "aten.sum.dim_IntList",
        "aten.sum.default",
        "aten.amax.default",
        "aten.amin.default",
        "aten.max.default",
        "aten.min.default",
        "aten.max.dim",
        "aten.min.dim",
        "aten.argmax.default",
        "aten.argmin.default",
        "aten.prod.dim_int",
        "aten.var.correction",
        "aten.std.correction",
        "aten.var.dim",
        "aten.std.dim",
        "aten.logsumexp.default",
        "aten.linalg_vector_norm.default",
        "aten.norm.ScalarOpt_dim",
        "aten.any.dim",
        "aten.all.dim",
        "aten.median.dim",
        "aten.nanmedian.dim",
        "aten.mode.default",
        "aten.kthvalue.default",
        "aten.quantile.scalar",
    )

    def flow(self, call: Call) -> Flow:
        facts = call["self"] if "self" in call.arguments else call["input"]
        dims = canonical_dims(call.arguments.get("dim"), facts.layout.rank)
        kept = reduced_layout(facts.layout, dims, keepdim=bool(call.arguments.get("keepdim", False)))
        layouts = (kept,) * len(call.shapes)
        reduced = {mark for dim in dims for mark in facts.layout.dims[dim] if isinstance(mark, Mark)}
        if Mark.BATCH in reduced and facts.layout.batch > 1:
            raise Refused("the streams of a batch are reduced into one", "reduce over other dimensions than the batch")
        if Mark.TIME not in reduced:
            return alone(*layouts)
        still = call.target.split(".")[1] in STILL
        resizable = call.target != "aten.kthvalue.default"
        return collapsed(*layouts, width=facts.layout.time, still=still, resizable=resizable)

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("mean over time", lambda x: x.mean(2), collapses=True),
            Sample("mean over time, kept", lambda x: x.mean(2, keepdim=True), collapses=True),
            Sample("mean over time and space", lambda x: x.mean((2, 3, 4)), collapses=True),
            Sample("sum over time and space", lambda x: x.sum((2, 4)), collapses=True),
            Sample("largest over time", lambda x: x.amax((2, 3)), collapses=True),
            Sample("smallest, with its place", lambda x: x.min(2).values, collapses=True),
            Sample("variance over time", lambda x: x.var(2), collapses=True),
            Sample("deviation over time", lambda x: x.std((2, 3), correction=0), collapses=True),
            Sample("logsumexp over time", lambda x: x.logsumexp(2), collapses=True),
            Sample("norm over time", lambda x: torch.linalg.vector_norm(x, dim=2), collapses=True),
            Sample("product over time", lambda x: x.prod(2), collapses=True),
            Sample("median over time", lambda x: x.median(2).values, collapses=True),
            Sample("second smallest over time", lambda x: x.kthvalue(2, 2).values, collapses=True),
            Sample("quantile over time", lambda x: x.quantile(0.3, 2), collapses=True),
            Sample("quantile over channels, kept", lambda x: x.quantile(0.3, 1, keepdim=True)),
            Sample("most frequent of a row", lambda x: (x * 2).round().mode(4).values),
            Sample("median of what is there", lambda x: x.nanmedian(1).values),
            Sample("variance and mean", lambda x: torch.cat(torch.var_mean(x, (1, 3), keepdim=True), 1)),
            Sample("deviation and mean", lambda x: torch.cat(torch.std_mean(x, 1, correction=0, keepdim=True), 1)),
            Sample("mean over space", lambda x: x.mean((3, 4))),
            Sample("mean over channels, kept", lambda x: x.mean(1, keepdim=True)),
            Sample("largest over space", lambda x: x.amax((3, 4), keepdim=True)),
            Sample("variance over channels", lambda x: x.var((1, 3))),
            Sample("over the batch", lambda x: x.mean(0), (2, 2, 8, 4, 5), refusal="the streams of a batch"),
        )


def reduced_layout(layout: Layout, dims: tuple[int, ...], *, keepdim: bool) -> Layout:
    kept: list[Dim] = []
    for place, dim in enumerate(layout.dims):
        if place not in dims:
            kept.append(dim)
        elif keepdim:
            kept.append(())
    return layout.with_dims(kept)
