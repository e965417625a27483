"""The original with its gates made as the stream makes them: per frame, from the last frames, or from all so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from co3d_compile.layout import Layout
from co3d_compile.ops.flow import Way
from co3d_compile.passes.lowering import value_name
from co3d_compile.plan.plan import Plan, PlanNode, Value
from co3d_compile.program.interpret import call_node
from co3d_compile.program.program import Program, is_getitem, item_of, target_name, with_nodes_replaced
from co3d_compile.runtime.elements import block_length, joined_elements, part_of_block
from co3d_compile.verification.recording import put_in_place
from co3d_compile.verification.so_far import gate_so_far, statistics_so_far


@dataclass(frozen=True)
class Gate:
    """One collapse that is broadcast back: where it reads, under which policy.

    Attributes:
        statistic: by which it is carried on since the start; empty if it is not.
    """

    node: fx.Node
    plan: PlanNode
    source: fx.Node
    layout: Layout
    statistic: str = ""

    def value(self, program: Program, source: Tensor, n: int, batch: int) -> Any:
        """The gate of element n, by the original's own call."""

        def original(clip: Tensor) -> Any:
            return call_node(program, self.node, {self.source: clip})

        if self.statistic:
            return gate_so_far(self.node, self.statistic, original, source, self.layout, batch, n)
        return original(self.window(source, n, batch))

    def window(self, source: Tensor, n: int, batch: int) -> Tensor:
        """What the gate of element n is made from: the clip standing still at n, or the elements up to n."""
        taps = self.plan.reading
        first = n - taps.count + 1
        if taps.count == 1:
            places = [n] * self.layout.time
        else:
            places = [max(0, place) for place in range(max(0, first) if taps.partial else first, n + 1)]
        elements = [part_of_block(source, self.layout, batch, place, 1) for place in places]
        return joined_elements(elements, self.layout, batch)


class GatedJoins:
    """The nodes at which a gate meets the stream again, and what they give element by element.

    Args:
        record: finds what the running original computed for a node of the graph, by name.
    """

    def __init__(self, plan: Plan, program: Program, record: Callable[[str], Tensor]) -> None:
        self._plan = plan
        self._program = program
        self._record = record
        nodes = {node.name: node for node in program.graph.nodes}
        self._gates = {nodes[one.name]: _gate(plan, nodes[one.name], one) for one in plan.nodes if one.way is Way.GATE}
        self._behind = self._behind_gates()
        self.joins = [node for node in program.calls if self._is_join(node)]

    @property
    def sources(self) -> set[str]:
        """Nodes whose results must be on record."""
        return {name for gate in self._gates.values() for name in _recorded(gate.source)}

    @property
    def behind(self) -> set[str]:
        """Nodes that the original computes once a clip, and the stream for every element."""
        return {node.name for node in self._behind}

    def result(self, node: fx.Node, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A join's result, each element with its own gate."""
        layout = self._plan.values[node.name].layout
        operands = _operands(node)
        leaves, spec = pytree.tree_flatten((args, kwargs))
        tensors = [place for place, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
        if len(tensors) != len(operands):
            # the last of several calls, into which torch breaks down the one that joins
            return put_in_place(func, args, self.whole(node.name))
        count = next(
            block_length(leaves[place], layout, layout.batch)
            for place, operand in zip(tensors, operands, strict=True)
            if self._streams(operand) and operand not in self._behind
        )
        parts = []
        for n in range(count):
            element = list(leaves)
            for place, operand in zip(tensors, operands, strict=True):
                element[place] = self._element(node, operand, leaves[place], n)
            given, named = pytree.tree_unflatten(element, spec)
            parts.append(func(*given, **named))
        return put_in_place(func, args, joined_elements(parts, layout, layout.batch))

    def needed(self, name: str) -> set[str]:
        """Nodes whose results, of the whole video, a join's result follows from."""
        names: set[str] = set()
        for operand in self._named(name).all_input_nodes:
            if operand in self._behind:
                names.update(one for gate in self._gates_of(operand) for one in _recorded(gate.source))
            elif self._streams(operand):
                names.update(_recorded(operand))
        return names

    def whole(self, name: str) -> Tensor:
        """All elements of a join, from the record, where the original does not get so far on a whole video."""
        node = self._named(name)

        def value_of(operand: fx.Node) -> Any:
            if operand.op == "get_attr":
                return self._program.tensors[str(operand.target)]
            if operand in self._behind:
                return torch.empty(0)  # each element has its own
            if self._streams(operand):
                return self._whole(operand)
            return call_node(self._program, operand, {one: value_of(one) for one in operand.all_input_nodes})

        args = tuple(with_nodes_replaced(node.args, value_of))
        kwargs = {key: with_nodes_replaced(value, value_of) for key, value in node.kwargs.items()}
        result: Tensor = self.result(node, node.target, args, kwargs)
        return result

    def _named(self, name: str) -> fx.Node:
        return next(node for node in self.joins if node.name == name)

    def _gates_of(self, node: fx.Node) -> list[Gate]:
        """The gates that what lies behind some is made of."""
        if node in self._gates:
            return [self._gates[node]]
        return [gate for one in node.all_input_nodes if one in self._behind for gate in self._gates_of(one)]

    def _element(self, join: fx.Node, operand: fx.Node, whole: Tensor, n: int) -> Tensor:
        """Element n of what a join reads: of the stream, or the gate made for it."""
        value = self._value(operand)
        if value is None or value.timing is None:
            return whole
        if operand not in self._behind:
            return part_of_block(whole, value.layout, value.layout.batch, n, 1).clone()
        layout = self._plan.values[join.name].layout
        gate: Tensor = self._gate_at(operand, n, layout.batch)
        dim = layout.time_dim
        if dim is None or gate.dim() != layout.rank or target_name(join) == "aten.einsum.default":
            return gate
        # a gate that the model expands over its clip has equal elements
        return gate.narrow(dim, 0, 1)

    def _gate_at(self, node: fx.Node, n: int, batch: int) -> Any:
        known: dict[fx.Node, Any] = {}

        def value_of(wanted: fx.Node) -> Any:
            if wanted not in known:
                gate = self._gates.get(wanted)
                if gate is not None:
                    known[wanted] = gate.value(self._program, self._whole(gate.source), n, batch)
                else:
                    inputs = {one: value_of(one) for one in wanted.all_input_nodes if one.op != "get_attr"}
                    known[wanted] = call_node(self._program, wanted, inputs)
            return known[wanted]

        return value_of(node)

    def _whole(self, node: fx.Node) -> Any:
        """All elements of what a gate is made from; calls with several results are on record by what they read."""
        if not is_getitem(node):
            return self._record(node.name)
        call, place = item_of(node)
        inputs = {one: self._whole(one) for one in call.all_input_nodes if one.op != "get_attr"}
        return call_node(self._program, call, inputs)[place]

    def _behind_gates(self) -> set[fx.Node]:
        behind: set[fx.Node] = set()
        for node in self._program.graph.nodes:
            if node.op != "call_function":
                continue
            streams = [one for one in node.all_input_nodes if self._streams(one)]
            if node in self._gates or (streams and all(one in behind for one in streams)):
                behind.add(node)
        return behind

    def _is_join(self, node: fx.Node) -> bool:
        inputs = [one for one in node.all_input_nodes if self._streams(one)]
        return any(one in self._behind for one in inputs) and not all(one in self._behind for one in inputs)

    def _streams(self, node: fx.Node) -> bool:
        value = self._value(node)
        return value is not None and value.timing is not None

    def _value(self, node: fx.Node) -> Value | None:
        name = value_name(node)
        return self._plan.values.get(name) or self._plan.values.get(f"{name}.0")


def _recorded(node: fx.Node) -> list[str]:
    """The nodes whose results a node follows from, by those alone that have one result."""
    if not is_getitem(node):
        return [node.name]
    return [name for one in item_of(node)[0].all_input_nodes if one.op != "get_attr" for name in _recorded(one)]


def _operands(node: fx.Node) -> list[fx.Node]:
    """The tensors that a call reads, in the order of its arguments."""
    operands: list[fx.Node] = []
    for value in (*node.args, *node.kwargs.values()):
        with_nodes_replaced(value, operands.append)
    return operands


def _gate(plan: Plan, node: fx.Node, one: PlanNode) -> Gate:
    source = next(operand for operand in node.all_input_nodes if operand.op != "get_attr")
    statistic = statistics_so_far(plan).get(one.outputs[0], "")
    return Gate(node, one, source, plan.values[value_name(source)].layout, statistic)


def replacements_of(joins: GatedJoins, calls: Mapping[str, int]) -> dict[int, Any]:
    """By number of the original's call: the joins, gated element by element."""

    def replacing(node: fx.Node) -> Any:
        return lambda func, args, kwargs: joins.result(node, func, args, kwargs)

    return {calls[node.name]: replacing(node) for node in joins.joins if node.name in calls}
