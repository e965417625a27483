"""Einstein sums: frames alone where time is a free index; fully connected over the clip where it is summed over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod

import torch

from co3d_compile.layout import Dim, Layout, Mark
from co3d_compile.ops.broadcast import joined
from co3d_compile.ops.flow import Flow, alone, collapsed
from co3d_compile.ops.operation import Call, Facts, Operation, Refused, Sample
from co3d_compile.ops.products import MIXING

Term = tuple[str, ...]
"""The indices of one operand, in order; those of an ellipsis are numbered from the last."""


class Einsum(Operation):
    """As torch has it (``torch.einsum``): with ellipses, diagonals and an output that may be left out."""

    targets = ("aten.einsum.default",)

    def flow(self, call: Call) -> Flow:
        terms, output = indices_of(call)
        operands: list[Facts] = call["tensors"]
        timed = {name for term, facts in zip(terms, operands, strict=True) for name in _marked(term, facts, Mark.TIME)}
        streams = {
            name for term, facts in zip(terms, operands, strict=True) for name in _marked(term, facts, Mark.BATCH)
        }
        if len(timed) > 1 or any(term.count(name) > 1 for term in terms for name in timed):
            raise MIXING
        if streams.difference(output) and call.sizes[1] > 1:
            raise Refused("the streams of a batch are summed into one", "keep the batch as a dimension of its own")
        kept = [_kept(term, facts, output) for term, facts in zip(terms, operands, strict=True)]
        layout = joined(kept, call.sizes)
        if timed <= set(output):
            return alone(layout)
        if sum(facts.has_time for facts in operands) > 1:
            raise MIXING
        return collapsed(layout, width=call.sizes[0])

    def macs(self, call: Call, flow: Flow) -> int:
        """Two operands at a time, in the order that torch was told, or from the left."""
        terms, output = indices_of(call)
        sizes = _sizes(call, terms, flow.taps.count)
        pending, path = [set(term) for term in terms], list(call.arguments.get("path") or [])
        macs = 0
        while len(pending) > 1:
            places = sorted(path[:2] or (0, 1), reverse=True)
            path = path[2:]
            one, other = (pending.pop(place) for place in places)
            needed = set(output).union(*pending)
            summed = {name for name in one & other if name not in needed and sizes[name] > 1}
            if summed:
                macs += prod(sizes[name] for name in summed | ((one | other) & needed))
            pending.insert(len(pending) if path else 0, (one | other) & needed)
        return macs

    def samples(self) -> tuple[Sample, ...]:
        weight = torch.linspace(-1, 1, 6).reshape(2, 3)
        return (
            Sample("by a matrix", lambda x: torch.einsum("ncthw,cd->ndthw", x, weight)),
            Sample("axes in another order", lambda x: torch.einsum("ncthw -> wtnhc", x), (1, 2, 8, 4, 5)),
            Sample("without an output", lambda x: torch.einsum("ncthw", x)),
            Sample("ellipses", lambda x: torch.einsum("nc...,cd->n...d", x, weight)),
            Sample("of two streams", lambda x: torch.einsum("nctij,nctkj->nctik", x, x.relu()), (2, 2, 8, 4, 5)),
            Sample("places weighed", lambda x: torch.einsum("ncthw,ncthw->nct", x, x.sigmoid())),
            Sample("three operands", lambda x: torch.einsum("ncthw,cd,nctkw->ndthk", x, weight, x.relu())),
            Sample("diagonal", lambda x: torch.einsum("ncthh->nct", x), (1, 2, 8, 4, 4)),
            Sample("summed over time", lambda x: torch.einsum("ncthw,t->nchw", x, torch.ones(8)), collapses=True),
            Sample(
                "frame against frame",
                lambda x: torch.einsum("ncthw,ncshw->nts", x, x),
                refusal="it is a product over time",
            ),
            Sample(
                "a weight for each frame",
                lambda x: torch.einsum("ncthw,t->ncthw", x, torch.arange(8.0)),
                refusal="an operand of 8 fixed values lies along time",
            ),
            Sample(
                "over the batch",
                lambda x: torch.einsum("ncthw->cthw", x),
                (2, 2, 8, 4, 5),
                refusal="the streams of a batch are summed",
            ),
        )


def indices_of(call: Call) -> tuple[list[Term], Term]:
    """The indices of the operands and of the output."""
    given, arrow, wanted = str(call["equation"]).replace(" ", "").partition("->")
    operands: Sequence[Facts] = call["tensors"]
    terms = [_term(text, facts.layout.rank) for text, facts in zip(given.split(","), operands, strict=True)]
    ellipsis = max(([name for name in term if not name.isalpha()] for term in terms), key=len)
    if arrow:
        head, dots, tail = wanted.partition("...")
        return terms, (*head, *(ellipsis if dots else ()), *tail)
    once = sorted(name for name in given if name.isalpha() and given.count(name) == 1)
    return terms, (*ellipsis, *once)


def _term(text: str, rank: int) -> Term:
    head, dots, tail = text.partition("...")
    count = rank - len(head) - len(tail) if dots else 0
    return (*head, *(str(place) for place in range(-count, 0)), *tail)


def _marked(term: Term, facts: Facts, mark: Mark) -> set[str]:
    return {name for name, dim in zip(term, facts.layout.dims, strict=True) if mark in dim}


def _kept(term: Term, facts: Facts, output: Term) -> Facts:
    """An operand with its dimensions where the output has them; without those that are summed over."""
    dims: Mapping[str, Dim] = dict(zip(term, facts.layout.dims, strict=True))
    return replace(facts, layout=facts.layout.with_dims([dims.get(name, ()) for name in output]))


def _sizes(call: Call, terms: Sequence[Term], width: int) -> dict[str, int]:
    """Of every index, for one element, or for those that are summed over."""
    sizes: dict[str, int] = {}
    for term, facts in zip(terms, call["tensors"], strict=True):
        layout: Layout = facts.layout.with_time(width) if facts.has_time else facts.layout
        for name, size in zip(term, layout.shape, strict=True):
            # a constant has the clip's size where the stream has one element
            sizes[name] = size if facts.has_time else sizes.get(name, size)
    return sizes
