"""One node of a plan made ready to run: its rule, its arguments, and how its operands are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from co3d_compile.errors import InternalError
from co3d_compile.layout import Layout
from co3d_compile.ops.flow import Absent, Taps, Way
from co3d_compile.ops.operation import Block, Operation, overload
from co3d_compile.ops.table import OperationTable
from co3d_compile.plan.plan import Plan, PlanNode, ValueRef, WeightRef
from co3d_compile.runtime.elements import filled_elements, joined_elements, part_of_block
from co3d_compile.runtime.state import Element

Lookup = Callable[[str], Tensor]


class NodeRunner:
    """Runs one node on elements or blocks of its operands.

    Args:
        constants: finds a weight, or the result of a static node, by name.
        shares_alone: what taps add to an output, without what is added to it once.
    """

    def __init__(
        self,
        plan: Plan,
        node: PlanNode,
        constants: Lookup,
        operations: OperationTable,
        *,
        shares_alone: bool = False,
    ) -> None:
        rule = operations.rule_for(node.target)
        self.node = node
        self.shares_alone = shares_alone
        self.rule: Operation | None = rule
        self.constants = constants
        self.layouts = tuple(plan.values[name].layout for name in node.outputs)
        read = (*_value_names(node.arguments.values()), *node.reads)
        self.operand_layouts = {name: plan.values[name].layout for name in read}
        streams = [plan.values[name] for name in node.reads]
        self._read_layouts = tuple(value.layout for value in streams)
        with_time = [value.layout for value in streams if value.has_time]
        self.reads: Layout = (with_time or [value.layout for value in streams] or list(self.layouts))[0]
        self._tensor_layouts = tuple(
            self.operand_layouts[ref.name] if isinstance(ref, ValueRef) else None
            for ref in _references(node.arguments.values())
        )
        self.reads_whole_elements = len(with_time) < len(streams)

    @property
    def takes_operands_as_they_are(self) -> bool:
        """No operand is expanded before the operator sees it."""
        return all(layout == self._wanted(layout) for layout in self.operand_layouts.values())

    def run(self, operands: Mapping[str, Tensor], elements: int, width: int, batch: int) -> tuple[Tensor, ...]:
        """The outputs for operands of ``width`` elements along time, of which ``elements`` come out."""
        layouts = (self._read_layouts, self._tensor_layouts)
        block = Block(self.node.target, self.reads, self.layouts, elements, width, batch, *layouts)
        arguments = {name: self._resolved(value, operands, block) for name, value in self.node.arguments.items()}
        if self.node.carried:
            arguments["carried"] = [operands.get(name) for name in self.node.carried]
        rule = self.rule
        if self.shares_alone and rule is not None:
            arguments = dict(rule.share_of_taps(arguments))
        # only what is computed from weights alone may lack a rule: it has no time that one would have to know of
        outputs = (
            overload(self.node.target)(**arguments) if rule is None else rule.run(rule.adapted(arguments, block), block)
        )
        return tuple(outputs) if isinstance(outputs, (tuple, list)) else (outputs,)

    def run_taps(
        self, taps: Sequence[Sequence[Element]], batch: int, like: Tensor, n: int, count: int = 1
    ) -> list[tuple[Tensor, ...]]:
        """Per output its elements n, n+1, ... from the elements that they read, one list per read value."""
        how = self.node.reading
        operands = {
            name: operand
            for name, elements, read in zip(self.node.reads, taps, self.node.taps, strict=True)
            if (operand := self._operand(elements, read, self.operand_layouts[name], batch, like)) is not None
        }
        reaches = self.node.way in (Way.WINDOW, Way.COLLAPSE, Way.GATE, Way.MIXING)
        width = max(how.dilation * (len(taps[0]) - 1) + 1, how.repeats) if reaches else 1
        outputs = self.run(operands, count, width, batch)
        if how.produces is None:
            return [(output,) for output in outputs]
        return [
            tuple(part_of_block(output, layout, batch, how.skipped(n) + place, 1) for place in range(count))
            for output, layout in zip(outputs, self.layouts, strict=True)
        ]

    def _operand(
        self, elements: Sequence[Element], taps: Taps, layout: Layout, batch: int, like: Tensor
    ) -> Tensor | None:
        there = [element for element in elements if element is not None]
        if len(there) < len(elements) and not taps.partial:
            if taps.fill is Absent.NOTHING:
                return None
            if taps.fill is None:
                raise InternalError(f"{self.node.path}: {self.node.name} reads an element that does not exist")
            there = filled_elements(elements, layout, batch, taps.constant, like)
        return joined_elements(spaced(there, taps.dilation) * taps.repeats, layout, batch)

    def _resolved(self, value: Any, operands: Mapping[str, Tensor], block: Block) -> Any:
        match value:
            case WeightRef(name):
                return self.constants(name)
            case ValueRef(name):
                is_absent = name in self.node.reads and name not in operands
                return None if is_absent else self._tensor(name, operands, block)
            case list():
                return [self._resolved(entry, operands, block) for entry in value]
            case _:
                return value

    def _tensor(self, name: str, operands: Mapping[str, Tensor], block: Block) -> Tensor:
        tensor = operands[name] if name in operands else self.constants(name)
        layout = self.operand_layouts[name]
        wanted = self._wanted(layout)
        return tensor if layout == wanted else tensor.expand(wanted.running_shape(block.width, block.batch))

    def _wanted(self, layout: Layout) -> Layout:
        """The operand's layout as the operator takes it."""
        if self.rule is None or not self.rule.broadcasts:
            return layout.solid()
        return layout.solid(self.rule.whole_dims(self.node.arguments, layout.rank))


def spaced(elements: list[Tensor], dilation: int) -> list[Tensor]:
    """A dilated window with unread elements put back between the taps, as the operator expects."""
    return [part for element in elements for part in (*[elements[0]] * (dilation - 1), element)][dilation - 1 :]


def _value_names(values: Any) -> list[str]:
    return [found.name for found in _references(values) if isinstance(found, ValueRef)]


def _references(values: Any) -> list[ValueRef | WeightRef]:
    found: list[ValueRef | WeightRef] = []
    for value in values:
        if isinstance(value, (ValueRef, WeightRef)):
            found.append(value)
        elif isinstance(value, list):
            found.extend(_references(value))
    return found
