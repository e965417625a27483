"""Find, for the nodes of the captured graph, the call of the running model that computes the same tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from co3d_compile.program.interpret import graph_values
from co3d_compile.program.program import Program
from co3d_compile.verification.recording import Watch, fingerprint

Fingerprint = tuple[tuple[int, ...], torch.dtype, tuple[float, ...]]


@dataclass(frozen=True)
class Matching:
    """Calls of the original, in order, and which of them computes which node of the graph.

    Attributes:
        operators: the original's operator calls on a clip.
        literals: their arguments without tensors.
        calls: node name to the number of its call.
        views: calls that give a part of other memory: put another tensor there, and a later write goes astray.
    """

    operators: list[str]
    literals: list[tuple[Any, ...]]
    calls: dict[str, int]
    views: frozenset[int]

    @property
    def replaceable(self) -> frozenset[str]:
        """Nodes whose call's result can be put in the place of the model's own."""
        return frozenset(name for name, call in self.calls.items() if call not in self.views)


def match_calls(program: Program, run: Callable[[Sequence[Tensor]], Any], clip: Sequence[Tensor]) -> Matching:
    """Run graph and model on one clip, and match equal tensors in order.

    Args:
        run: calls the original on flat tensors.
    """
    seen: list[Fingerprint | None] = []

    def note(number: int, name: str, result: Tensor) -> None:
        seen.extend([None] * (number - len(seen)))
        seen.append(fingerprint(result) if result.is_floating_point() and result.numel() else None)

    with Watch(note) as watch:
        run(clip)
    made_by = {
        node.name: (str(node.target), tuple(value for value in node.args if not _holds_nodes(value)))
        for node in program.calls
    }
    calls: dict[str, int] = {}
    last = -1
    for name, value in graph_values(program, clip):
        if not value.is_floating_point() or not value.numel():
            continue
        wanted = fingerprint(value)
        places = [n for n, one in enumerate(seen) if one is not None and _same(one, wanted)]
        operator, literals = made_by.get(name, ("", ()))
        of_same_operator = [n for n in places if watch.operators[n] == operator]
        of_same_call = [n for n in of_same_operator if watch.literals[n] == literals]
        found = _nearest(last, of_same_call, of_same_operator, places)
        if found is not None:
            calls[name] = found
            last = max(last, found)
    return Matching(watch.operators, watch.literals, calls, frozenset(watch.views))


def _holds_nodes(value: Any) -> bool:
    return isinstance(value, fx.Node) or (isinstance(value, (list, tuple)) and any(map(_holds_nodes, value)))


def _nearest(last: int, *candidates: Sequence[int]) -> int | None:
    """The first place after the last one found; of equal tensors, the likeliest candidate."""
    later = [n for places in candidates for n in places if n > last]
    return next(iter([*later, *(n for places in candidates for n in places)]), None)


def _same(one: Fingerprint, other: Fingerprint) -> bool:
    # graph and model run the same kernels; only the order of a sum inside one may differ
    close = torch.finfo(one[1]).eps * 64
    scale = max(one[2][1], other[2][1], 1e-30)
    return one[:2] == other[:2] and all(abs(a - b) <= close * scale for a, b in zip(one[2], other[2], strict=True))
