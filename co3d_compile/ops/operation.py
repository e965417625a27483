"""The contract between an operation and the compiler."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from co3d_compile.clock.timing import Timing
from co3d_compile.layout import Layout
from co3d_compile.ops.flow import Flow, Taps


class Refused(Exception):
    """A rule's answer to a call that it cannot stream."""

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


@dataclass(frozen=True)
class Facts:
    """What is known of a tensor: its layout, and when it is a stream, its timing.

    ``timing is None``: a constant. ``layout.time_dim is None`` with a timing: each element is a whole tensor.
    ``known``: the values of a small constant that no training changes.
    """

    layout: Layout
    dtype: torch.dtype
    timing: Timing | None = None
    known: Tensor | None = field(default=None, compare=False)

    @property
    def streams(self) -> bool:
        return self.timing is not None

    @property
    def has_time(self) -> bool:
        return self.streams and self.layout.time_dim is not None


@dataclass(frozen=True)
class Call:
    """One call of an operation in the captured graph.

    Attributes:
        target: for instance ``aten.conv3d.default``.
        arguments: by the schema's names, with ``Facts`` for tensors.
        shapes: of the outputs, for the example clip.
        used: places of the outputs that something reads, where there are several.
        goes_on: what follows reads neighbours in time, though the clip has a single element there.
    """

    target: str
    arguments: Mapping[str, Any]
    shapes: tuple[tuple[int, ...], ...]
    used: frozenset[int] = frozenset()
    goes_on: bool = False

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    @property
    def operands(self) -> list[Facts]:
        """All tensors that go in, in order."""
        return [leaf for value in self.arguments.values() for leaf in _leaves(value)]

    @property
    def streaming(self) -> list[Facts]:
        return [facts for facts in self.operands if facts.streams]

    @property
    def sizes(self) -> tuple[int, int]:
        """Elements along time and streams in the example clip, as streaming operands have them; 1 where none is."""
        if not self.streaming:
            return 1, 1
        with_time = [facts.layout for facts in self.streaming if facts.has_time] or [f.layout for f in self.streaming]
        return with_time[0].time, with_time[0].batch


@dataclass(frozen=True)
class Block:
    """One run of an operation on some elements at once.

    Attributes:
        reads: layout of the streaming operand that has time (of the first one, if none has), for the example clip.
        layouts: of the outputs, for the example clip.
        elements: elements along time that come out.
        width: elements along time that go in.
        batch: streams.
        operands: layouts of all values that it reads, in their order.
        tensors: layouts of the tensors among the arguments, in their order; None for a weight.
    """

    target: str
    reads: Layout
    layouts: tuple[Layout, ...]
    elements: int
    width: int
    batch: int
    operands: tuple[Layout, ...] = ()
    tensors: tuple[Layout | None, ...] = ()


Step = Callable[[Sequence[Tensor | None]], Tensor]
"""One element from its taps, oldest first; None stands for padding. At least one tap exists."""


@dataclass(frozen=True)
class Accumulator:
    """The transposed form of a window: outputs under way, to which every element adds its share.

    Attributes:
        feed: an element, the tap under which an output reads it, and what that output has by now (None: nothing yet)
            to what it has then, in memory of its own.
        finish: what an output has from all its taps to the output; may write over it.
    """

    feed: Callable[[Tensor, int, Tensor | None], Tensor]
    finish: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Sample:
    """A call to try a rule on: the contract test streams it, or expects its refusal.

    Attributes:
        name: what is special about it.
        run: the call, a module or a function of a clip; its layers are drawn when ``samples`` is called.
        clip: shape of the clip; time lies on axis 2.
        refusal: a part of the reason, if it must be refused.
        as_streamed: the same for a video of any length, where the call itself depends on the clip's.
        multiple: the call takes videos whose frames this number divides.
        poison: what the call does not need it does not read; else it multiplies it by zero.
        collapses: one answer for the whole clip, so that the stream gives one for every window.
    """

    name: str
    run: Callable[[Tensor], Any]
    clip: tuple[int, ...] = (1, 2, 8, 4, 5)
    refusal: str = ""
    collapses: bool = False
    multiple: int = 1
    poison: bool = True
    as_streamed: Callable[[Tensor], Any] | None = None


class Operation(ABC):
    """A family of operations that treat time alike. Rules hold no state: one object serves every network."""

    targets: tuple[str, ...] = ()
    broadcasts = False
    """Operands may keep size 1 where the clip has more; otherwise they are expanded before a run."""

    spreads = False
    """What follows from weights alone keeps expanded dimensions at size 1, too."""

    def whole_dims(self, arguments: Mapping[str, Any], rank: int) -> tuple[int, ...]:
        """Dimensions in which an operand of that rank is expanded although the rule broadcasts."""
        return ()

    @abstractmethod
    def flow(self, call: Call) -> Flow:
        """How this call treats time.

        Raises:
            Refused: it cannot be streamed; says why and what to do.
        """

    def adapted(self, arguments: Mapping[str, Any], block: Block) -> Mapping[str, Any]:
        """The arguments for a block: literal sizes of the clip become those of the block; temporal padding is gone."""
        return arguments

    def run(self, arguments: Mapping[str, Any], block: Block) -> Any:
        """The outputs for a block of elements, from adapted arguments with tensors in place."""
        return overload(block.target)(**arguments)

    def stepper(self, arguments: Mapping[str, Any], reads: Layout, taps: Taps) -> Step | None:
        """A faster way than ``run`` to make one element from its taps, if there is one.

        Args:
            arguments: with tensors for weights; the streaming operand is missing.
            reads: layout of the streaming operand.
        """
        return None

    def accumulator(self, arguments: Mapping[str, Any], reads: Layout, taps: Taps) -> Accumulator | None:
        """The transposed form, for calls whose flow says that it ``accumulates``; arguments as for ``stepper``."""
        return None

    def share_of_taps(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """The arguments of a run that makes the share of some taps alone: without what is added once to an output."""
        return arguments

    def combined(self, total: Tensor, share: Tensor) -> Tensor:
        """What an output has from some taps and from others."""
        return total + share

    def samples(self) -> tuple[Sample, ...]:
        """Calls that cover each option that the rule accepts, and one for each that it refuses."""
        return ()

    def macs(self, call: Call, flow: Flow) -> int:
        """Multiply-accumulates for one element of the output, all streams of the example's batch together."""
        return 0


def _leaves(value: Any) -> Sequence[Facts]:
    if isinstance(value, Facts):
        return [value]
    if isinstance(value, (list, tuple)):
        return [leaf for entry in value for leaf in _leaves(entry)]
    return []


def canonical_dim(dim: int, rank: int) -> int:
    """A dimension counted from the front."""
    return dim % rank if rank else 0


def canonical_dims(dims: int | Sequence[int] | None, rank: int) -> tuple[int, ...]:
    """Dimensions counted from the front; None and the empty list mean all."""
    if dims is None or (not isinstance(dims, int) and not dims):
        return tuple(range(rank))
    listed = [dims] if isinstance(dims, int) else dims
    return tuple(canonical_dim(dim, rank) for dim in listed)


def overload(target: str) -> torch._ops.OpOverload:
    """The torch operator behind a target's name."""
    namespace, name, variant = target.split(".")
    found = getattr(getattr(getattr(torch.ops, namespace), name), variant)
    assert isinstance(found, torch._ops.OpOverload)
    return found


def per_spatial(value: int | Sequence[int], count: int) -> tuple[int, ...]:
    """One number or a list of one per spatial axis, as a tuple of ``count``."""
    listed = [value] if isinstance(value, int) else list(value)
    return tuple(listed * count if len(listed) == 1 else listed)
