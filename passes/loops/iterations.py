"""The iterations of an unrolled loop over frames, and whether they are one function of what is carried."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from co3d_compile.program.program import path_of

PATTERN = 2
"""The iteration that all others are held against: the first whose predecessor is no exception."""
ADDING = ("aten.add.Tensor", "aten.mul.Tensor", "aten.maximum.default", "aten.minimum.default")
"""What adds up over a clip when it is called frame by frame."""
SHORTEST = 4
"""Frames that a clip needs for that: the first, the pattern with one before it, and one to compare."""


class UnevenError(Exception):
    """The iterations are not one function of the carried state."""

    def __init__(self, node: fx.Node, reason: str) -> None:
        super().__init__(reason)
        self.node = node
        self.reason = reason


@dataclass(frozen=True)
class Frame:
    """The frame of a stream that an iteration reads, or the one before it (``lag`` 1)."""

    source: fx.Node
    lag: int


@dataclass(frozen=True)
class Role:
    """What an iteration makes in this place of its order, or what the one before it made."""

    place: int
    lag: int


@dataclass(frozen=True)
class Constant:
    """A tensor that no frame goes into."""

    node: fx.Node


Operand = Frame | Role | Constant


@dataclass
class Iterations:
    """A loop over ``count`` frames, taken apart.

    Attributes:
        literals: tensors that are neither weights nor buffers, by name.
        frames: per source the nodes that take its frames.
        rows: per iteration its calls in order; of the last one also what follows the loop.
        places: of a node of the loop: its iteration, and its place in the pattern.
        first: by place: what stands at the first iteration for what the second one reads.
        levels: node to the last frame that goes into it.
    """

    frames: Mapping[fx.Node, Mapping[int, fx.Node]]
    count: int
    literals: Mapping[str, Tensor]
    rows: list[list[fx.Node]] = field(default_factory=list)
    places: dict[fx.Node, tuple[int, int]] = field(default_factory=dict)
    first: dict[int, fx.Node] = field(default_factory=dict)
    levels: dict[fx.Node, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._frame_of = {node: (source, n) for source, taken in self.frames.items() for n, node in taken.items()}
        self._find_levels()

    @property
    def pattern(self) -> list[fx.Node]:
        return self.rows[PATTERN]

    @property
    def carries(self) -> bool:
        """An iteration reads what the one before it made, and does more than add to it."""
        return any(
            self.levels[node] > self.levels[read] and read not in self._frame_of
            for row in self.rows[1:-1]
            for node in row
            for read in node.all_input_nodes
            if read in self.levels and not (str(node.target) in ADDING and read.target == node.target)
        )

    @property
    def backward(self) -> list[fx.Node]:
        """The calls of a loop that begins with the last frame; empty if there is no such loop."""
        calls = [
            node
            for node in self.rows[-1]
            if any(read in self._frame_of and self._frame_of[read][1] < self.count - 1 for read in node.all_input_nodes)
            and any(read in self.levels and read not in self._frame_of for read in node.all_input_nodes)
        ]
        return calls if len(calls) >= self.count - 2 and not self.pattern else []

    def match(self) -> None:
        """Find every node's place in the pattern.

        Raises:
            UnevenError: an iteration differs.
        """
        self._match_whole(PATTERN - 1)
        for n in range(PATTERN, self.count - 1):
            self._match_whole(n)
        self._match_last()

    def operand(self, node: fx.Node, iteration: int) -> Operand | None:
        """What a node is to an iteration; None: nothing that a loop could know."""
        if node in self._frame_of:
            source, n = self._frame_of[node]
            return Frame(source, iteration - n) if iteration - n in (0, 1) else None
        if node in self.places:
            n, place = self.places[node]
            return Role(place, iteration - n) if iteration - n in (0, 1) else None
        if node in self.levels or streams(node):
            return None
        return Constant(node)

    def is_first(self, node: fx.Node) -> bool:
        """The first iteration can know it: it follows from its frames and constants."""
        return self.levels.get(node, -1) == 0 or (node not in self.levels and not streams(node))

    def same_constant(self, one: fx.Node, other: fx.Node) -> bool:
        """Equal by how they are made, as when each iteration makes its own zeros."""
        if one is other:
            return True
        if one.op != other.op or one in self.levels or other in self.levels:
            return False
        if one.op == "get_attr":
            found = [self.literals.get(str(node.target)) for node in (one, other)]
            return found[0] is not None and found[1] is not None and _equal(found[0], found[1])
        return one.op == "call_function" and same_call(one, other, self.same_constant)

    def _find_levels(self) -> None:
        beyond = self.count
        graph = next(iter(self.frames)).graph
        for node in graph.nodes:
            if node in self._frame_of:
                self.levels[node] = self._frame_of[node][1]
                continue
            read = [self.levels[one] for one in node.all_input_nodes if one in self.levels]
            if read and node.op == "call_function":
                known = all(one in self.levels or not streams(one) for one in node.all_input_nodes)
                self.levels[node] = max(read) if known else beyond
        made = [node for node in self.levels if node not in self._frame_of]
        self.rows = [[node for node in made if self.levels[node] == n] for n in range(self.count)]

    def _match_whole(self, iteration: int) -> None:
        row = self.rows[iteration]
        for place, node in enumerate(row):
            if place >= len(self.pattern):
                raise UnevenError(node, _counted(iteration, row, self.pattern))
            self.places[node] = (iteration, place)
            if not self._alike(node, place, iteration):
                raise UnevenError(node, f"what follows frame {iteration} differs from what follows frame {PATTERN}")
        if len(row) < len(self.pattern):
            node = self.pattern[len(row)]
            raise UnevenError(node, _counted(iteration, row, self.pattern))

    def _match_last(self) -> None:
        """Its calls stand in the pattern's order; what no one reads is gone, and what follows the loop is there too."""
        last = self.count - 1
        place = 0
        for node in self.rows[last]:
            for found in range(place, len(self.pattern)):
                if self._alike(node, found, last):
                    self.places[node] = (last, found)
                    place = found + 1
                    break

    def alike(self, one: fx.Node, other: fx.Node, same: Callable[[fx.Node, fx.Node], bool]) -> bool:
        """One operator with equal literals, on operands that are the same."""
        return same_call(one, other, same)

    def _alike(self, node: fx.Node, place: int, iteration: int) -> bool:
        def same(one: fx.Node, other: fx.Node) -> bool:
            return self._same_operand(self.operand(one, iteration), self._pattern_operand(other), one, iteration)

        return same_call(node, self.pattern[place], same)

    def _pattern_operand(self, node: fx.Node) -> Operand | None:
        if node not in self.places and node in self.levels and node not in self._frame_of:
            # the pattern's own places, and those of the iteration before it, before they are matched
            level = self.levels[node]
            if level in (PATTERN, PATTERN - 1):
                return Role(self.rows[level].index(node), PATTERN - level)
        return self.operand(node, PATTERN)

    def _same_operand(self, one: Operand | None, other: Operand | None, node: fx.Node, iteration: int) -> bool:
        if other is None:
            return False
        if isinstance(other, Role) and other.lag == 1 and iteration == 1:
            if not self.is_first(node):
                return False
            return self.first.setdefault(other.place, node) is node
        if isinstance(one, Constant) and isinstance(other, Constant):
            return self.same_constant(one.node, other.node)
        return one == other


def same_call(one: fx.Node, other: fx.Node, same: Callable[[fx.Node, fx.Node], bool]) -> bool:
    """One operator with equal literals, on operands that are the same."""
    if one.target != other.target or one.kwargs.keys() != other.kwargs.keys() or len(one.args) != len(other.args):
        return False
    pairs = [*zip(one.args, other.args, strict=True), *((one.kwargs[key], other.kwargs[key]) for key in one.kwargs)]
    return all(_same_argument(a, b, same) for a, b in pairs)


def _same_argument(one: Any, other: Any, same: Callable[[fx.Node, fx.Node], bool]) -> bool:
    if isinstance(one, fx.Node) and isinstance(other, fx.Node):
        return same(one, other)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(_same_argument(a, b, same) for a, b in zip(one, other, strict=True))
    return type(one) is type(other) and one == other


def _counted(iteration: int, row: Sequence[fx.Node], pattern: Sequence[fx.Node]) -> str:
    return f"{len(row)} calls follow frame {iteration}, {len(pattern)} follow frame {PATTERN}"


def streams(node: fx.Node) -> bool:
    """Frames go into it; also where its size depends on the video's values, so that nothing is known of it."""
    known = node.meta.get("facts")
    return not known or bool(known[0].streams)


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other)


def common_path(nodes: Sequence[fx.Node]) -> str:
    """The module that all of them belong to."""
    paths = [path_of(node).split(".") for node in nodes]
    common = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return ".".join(common)
