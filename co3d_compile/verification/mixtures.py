"""The original with its mixtures of frames made as the stream makes them: of one, of the last, or of all so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, fx

from co3d_compile.layout import Layout
from co3d_compile.ops.flow import Way
from co3d_compile.ops.running_norm import NORMED
from co3d_compile.plan.plan import Plan, PlanNode
from co3d_compile.program.interpret import call_node
from co3d_compile.program.program import Program, bound_arguments, is_getitem, target_name
from co3d_compile.runtime.elements import block_length, joined_elements, part_of_block
from co3d_compile.verification.recording import Replacement, put_in_place


class Mixtures:
    """The nodes at which a mixture ends, and what they give element by element, by the original's own operators.

    Args:
        record: finds what the running original computed for a node of the graph, by name.
    """

    def __init__(self, plan: Plan, program: Program, record: Callable[[str], Tensor]) -> None:
        self._plan = plan
        self._program = program
        self._record = record
        self._nodes: Mapping[str, fx.Node] = {node.name: node for node in program.graph.nodes}
        self._makers = {name: one for one in plan.nodes for name in one.outputs}
        self.ends = {one.name: one for one in plan.nodes if one.way is Way.MIXING}

    def replacements(self, calls: Mapping[str, int]) -> dict[int, Replacement]:
        """By number of the original's call."""

        def replacing(one: PlanNode) -> Replacement:
            return lambda func, args, kwargs: put_in_place(func, args, self.result(one, self._sources(one)))

        return {calls[name]: replacing(one) for name, one in self.ends.items() if name in calls}

    def _sources(self, one: PlanNode) -> dict[str, Tensor]:
        return {name: self._record(name) for name in self.sources(one)}

    def sources(self, one: PlanNode) -> list[str]:
        """What it is made of and the original's calls are known for: of several results of a call, what that reads."""
        found: list[str] = []
        for name in one.reads:
            if name in one.outputs:
                continue
            found += [name] if name in self._nodes else self.sources(self._makers[name])
        return list(dict.fromkeys(found))

    def result(self, one: PlanNode, record: Mapping[str, Tensor]) -> Tensor:
        """All elements of what a mixture gives, from those of what it reads."""
        layout = self._plan.values[one.name].layout
        sources = {name: record[name] for name in self.sources(one)}
        count = min(block_length(tensor, self._layout(name), layout.batch) for name, tensor in sources.items())
        elements = []
        for n in range(count):
            known: dict[fx.Node, Any] = {
                self._nodes[name]: self._clip_for(tensor, name, one, n) for name, tensor in sources.items()
            }
            made = self._value_of(self._nodes[one.name], known)
            last = block_length(made, layout, layout.batch) - 1
            elements.append(part_of_block(made, layout, layout.batch, last, 1))
        return joined_elements(elements, layout, layout.batch)

    def _clip_for(self, source: Tensor, name: str, one: PlanNode, n: int) -> Tensor:
        """A clip that ends with element n: the last elements, or this one all along; or all up to it."""
        layout = self._layout(name)
        if one.target == NORMED:
            return part_of_block(source, layout, layout.batch, 0, n + 1)
        places: Sequence[int] = [n] * layout.time
        if one.reading.count > 1:
            places = [max(0, n - layout.time + 1 + place) for place in range(layout.time)]
        parts = [part_of_block(source, layout, layout.batch, place, 1) for place in places]
        return joined_elements(parts, layout, layout.batch)

    def _value_of(self, node: fx.Node, known: dict[fx.Node, Any]) -> Any:
        if node not in known:
            inputs = {read: self._value_of(read, known) for read in node.all_input_nodes if read.op != "get_attr"}
            known[node] = self._called(node, inputs)
        return known[node]

    def _called(self, node: fx.Node, inputs: dict[fx.Node, Any]) -> Any:
        given = bound_arguments(node) if not is_getitem(node) else {}
        if target_name(node) != "aten.layer_norm.default" or given["weight"] is not None or given["bias"] is not None:
            return call_node(self._program, node, inputs)
        # all elements so far are more or fewer than the clip's, whose sizes a layer norm has as literals
        value = inputs[given["input"]]
        sizes = value.shape[-len(given["normalized_shape"]) :]
        return node.target(value, sizes, None, None, given["eps"])  # type: ignore[operator]

    def _layout(self, name: str) -> Layout:
        return self._plan.values[name].layout
