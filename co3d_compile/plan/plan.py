"""A compiled network as data: values and their histories, nodes, and what fires at each phase."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction
from functools import cached_property
from typing import Any

import torch

from co3d_compile.clock.periodic import Periodic
from co3d_compile.clock.timing import Timing
from co3d_compile.errors import Refusal
from co3d_compile.layout import Layout
from co3d_compile.ops.flow import Taps, Way
from co3d_compile.ops.table import Origin
from co3d_compile.structure import Structure


class Form(Enum):
    """What a node that reads several elements keeps between ticks (design.md, section 4)."""

    DIRECT = "direct"  # the elements
    TRANSPOSED = "transposed"  # what they add to the outputs under way


@dataclass(frozen=True)
class ValueRef:
    """An argument that is a value of the plan."""

    name: str


@dataclass(frozen=True)
class WeightRef:
    """An argument that is a weight, by its name in the original's ``state_dict``, or a captured constant."""

    name: str


@dataclass(frozen=True)
class Value:
    """A tensor of the network.

    Attributes:
        path: the module path of the user's model that made it.
        layout: its shape in the example clip.
        timing: None for what is computed from weights alone.
        keep: elements that its history holds between ticks; 0: none is read later than it is made.
        sums: elements under way that are held between ticks as partial sums, where its node is in transposed form.
        again: elements that are made again where they are read, in place of being kept.
        state_dtype: what is held between ticks is rounded to it, where it is narrower; None: nothing is.
    """

    name: str
    path: str
    layout: Layout
    dtype: torch.dtype
    timing: Timing | None
    keep: int = 0
    sums: int = 0
    again: int = 0
    state_dtype: torch.dtype | None = None

    @property
    def held_dtype(self) -> torch.dtype:
        """Of what is held between ticks."""
        return narrower(self.dtype, self.state_dtype)

    @property
    def is_rounded(self) -> bool:
        """What is held between ticks has fewer digits than what was made."""
        return self.held_dtype != self.dtype

    @property
    def has_time(self) -> bool:
        return self.timing is not None and self.layout.time_dim is not None


@dataclass(frozen=True)
class PlanNode:
    """One operation.

    Attributes:
        target: for instance ``aten.conv3d.default``.
        arguments: by the operator's names, for the example clip, with references for tensors.
        reads: the streaming values it reads: those of the arguments in their order, then what it carries itself.
        taps: per read value, how it is read.
        outputs: the values it makes.
        macs: multiply-accumulates for one element and one stream.
        clip_macs: the same for all elements of the example clip.
        resizable: a window whose width ``compile(window=)`` sets.
        accumulates: its taps add up, so that it may take the transposed form.
        held: ticks that it fires later than it could, so that less is kept.
        recomputes: it fires whenever its elements are read, the older ones again; none of them is kept.
    """

    name: str
    path: str
    target: str
    arguments: Mapping[str, Any]
    reads: tuple[str, ...]
    taps: tuple[Taps, ...]
    way: Way
    outputs: tuple[str, ...]
    macs: int = 0
    clip_macs: int = 0
    resizable: bool = False
    accumulates: bool = False
    form: Form = Form.DIRECT
    held: int = 0
    recomputes: bool = False

    @property
    def reading(self) -> Taps:
        """How the first value is read."""
        return self.taps[0]

    @property
    def carried(self) -> tuple[str, ...]:
        """Its own outputs that it reads again."""
        return tuple(name for name in self.reads if name in self.outputs)


@dataclass(frozen=True)
class Firing:
    """One run of one node.

    Attributes:
        node: index into ``Plan.nodes``.
        element: the first element that it makes, at tick ``phase``; ``Plan.rate`` of the output is added each period.
        count: how many it makes at once.
        backs: per read value, per tap: how many elements behind the newest one it stands; of elements that are made
            again, how many behind the newest of those that the tick makes.
    """

    node: int
    element: int
    count: int
    backs: tuple[tuple[int, ...], ...]

    def elements(self, node: PlanNode) -> Fraction:
        """How many elements it makes."""
        return Fraction(self.count)

    def macs(self, node: PlanNode) -> int:
        """Multiply-accumulates, of one stream."""
        return int(node.macs * self.elements(node))


@dataclass(frozen=True)
class Feeding:
    """One element taken into the partial sums of a node in transposed form.

    Attributes:
        node: index into ``Plan.nodes``.
        element: the element taken, at tick ``phase``.
        back: how many elements behind the newest one it stands.
        begun: how many outputs begin with it.
        shares: per output that reads it: the tap, and how many outputs behind the newest one under way it stands.
        done: how many outputs behind the newest one under way the output stands that it completes; None: no output.
    """

    node: int
    element: int
    back: int
    begun: int
    shares: tuple[tuple[int, int], ...]
    done: int | None

    def elements(self, node: PlanNode) -> Fraction:
        """How much of its outputs, counted in elements, it adds to."""
        return Fraction(len(self.shares), node.reading.count)

    def macs(self, node: PlanNode) -> int:
        """Multiply-accumulates, of one stream."""
        return int(node.macs * self.elements(node))


def feeding_of(place: int, taps: Taps, element: int, back: int) -> Feeding:
    """How the node at a place takes an element that stands so far behind the newest one."""
    begun, done = taps.begun(element), taps.completed(element)
    return Feeding(
        node=place,
        element=element,
        back=back,
        begun=begun - taps.begun(element - 1),
        shares=tuple((tap, begun - n) for tap, n in taps.fed_by(element)),
        done=begun - done if done > taps.completed(element - 1) else None,
    )


@dataclass(frozen=True)
class PlanInput:
    """One input.

    Attributes:
        shape: of the example clip.
        rate: ticks between two of its frames.
        grid: frames from one that a clip takes to the next (a slow pathway at a dense rate).
    """

    value: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    time_axis: int
    rate: int
    grid: int = 1

    @property
    def clip_ticks(self) -> int:
        """Ticks that the example clip spans."""
        return self.shape[self.time_axis] * self.rate * self.grid


@dataclass(frozen=True)
class Approximation:
    """Why an output does not obey the law everywhere."""

    path: str
    reason: str


@dataclass(frozen=True)
class PlanOutput:
    """One output tensor; ``value`` is None for a constant None in the original's structure.

    Attributes:
        carried: the modules that carry something on from frame to frame, for ever: it depends on the whole past.
    """

    name: str
    value: str
    approximations: tuple[Approximation, ...] = ()
    carried: tuple[str, ...] = ()


@dataclass(frozen=True)
class LastResort:
    """A part that runs on whole windows.

    Attributes:
        node: the one that runs it.
        refusals: what in it could not be streamed, and made the rest follow.
    """

    node: str
    refusals: tuple[Refusal, ...]


@dataclass(frozen=True)
class Numbers:
    """So many numbers of a dtype, held in a narrower one if there is one (``Value.state_dtype``)."""

    dtype: torch.dtype
    count: int
    state_dtype: torch.dtype | None = None

    @property
    def bytes(self) -> int:
        return self.count * narrower(self.dtype, self.state_dtype).itemsize


@dataclass(frozen=True)
class Leeway:
    """What was allowed beyond the smallest state at unchanged delay, and what there would be without it.

    Attributes:
        balance: the heaviest tick was made as light as possible.
        extra_delay: ticks that outputs were allowed to be later.
        heaviest_tick: otherwise, in multiply-accumulates of one stream.
        held: otherwise, by one stream between ticks.
    """

    balance: bool
    extra_delay: int
    heaviest_tick: int
    held: tuple[Numbers, ...]


@dataclass(frozen=True)
class StateChoice:
    """How the state was made small: what one stream would hold under other choices.

    Attributes:
        prefer: ``memory``: as little as can be; ``speed``: transposed forms only where they move fewer bytes.
        earliest: if every window kept its inputs, and everything fired as early as it can.
        smallest: the least there is, at unchanged delay.
        leeway: None where nothing was allowed for anything but this.
    """

    prefer: str
    earliest: tuple[Numbers, ...]
    smallest: tuple[Numbers, ...]
    leeway: Leeway | None = None


@dataclass(frozen=True)
class FrameTrial:
    """The original on frames of another size.

    Attributes:
        macs: multiply-accumulates for the example clip with such frames, all streams together; None: it failed.
        refusal: how.
    """

    height: int
    width: int
    macs: int | None
    refusal: str = ""


@dataclass(frozen=True)
class Plan:
    """The compiled network.

    Attributes:
        period: ticks after which the schedule repeats.
        values: by name, inputs first, then in the order in which they are made.
        statics: nodes that read only weights; they run once.
        schedule: per phase what runs, in order.
        in_structure: positional and keyword arguments, as the model takes them.
        structure: what the model returns.
        dense: an answer at every frame, also where the network is strided.
        fixed_batch: why the batch cannot change, or empty.
        passes: names of the user's own passes that the plan was made with.
        own_rules: by target, where the rules come from that are not built in.
        last_resorts: the parts that run on whole windows.
        trials: what the original does with frames of other sizes; none where there is no original to run.
    """

    period: int
    inputs: tuple[PlanInput, ...]
    values: Mapping[str, Value]
    statics: tuple[PlanNode, ...]
    nodes: tuple[PlanNode, ...]
    schedule: tuple[tuple[Firing | Feeding, ...], ...]
    outputs: tuple[PlanOutput, ...]
    in_structure: Structure
    structure: Structure
    weights: tuple[str, ...]
    state: StateChoice
    start: str = "zeros"
    dense: bool = False
    fixed_batch: str = ""
    passes: tuple[str, ...] = ()
    own_rules: Mapping[str, Origin] = field(default_factory=dict)
    last_resorts: tuple[LastResort, ...] = ()
    trials: tuple[FrameTrial, ...] = ()

    @cached_property
    def makers(self) -> Mapping[str, PlanNode]:
        """By value, the node that makes it."""
        return {name: node for node in self.nodes for name in node.outputs}

    @cached_property
    def node_timings(self) -> tuple[Timing, ...]:
        """Per node the timing of what it makes."""
        return tuple(self.timing(node.outputs[0]) for node in self.nodes)

    @cached_property
    def first_tick(self) -> int:
        """The tick of the earliest element: below 0 where elements lie wholly in the padding before the video."""
        return min(0, *(timing.clock(0) for timing in self.node_timings), 0)

    @cached_property
    def steady_tick(self) -> int:
        """From this tick on every element read exists."""
        first_reads = [
            timing.clock(max(0, _first_whole(taps)))
            for node, timing in zip(self.nodes, self.node_timings, strict=True)
            for taps in node.taps
        ]
        waits = [timing.clock.least or 0 for timing in self.node_timings]
        return max([0, *first_reads, *waits]) + 1

    def feeding_clock(self, node: PlanNode) -> Periodic:
        """Of a node in transposed form: element of its input to the tick at which it is taken."""
        return feeding_clock(self.timing(node.reads[0]), node.reading, self.timing(node.outputs[0]))

    @property
    def output_names(self) -> list[str]:
        """Where each output stands in the structure that the model returns; ``output`` for a single tensor."""
        return [place or "output" for place in self.structure.places()]

    def timing(self, value: str) -> Timing:
        return timing_of(self.values[value])

    @cached_property
    def rounded_state(self) -> Mapping[str, Value]:
        """By name in a state, the values whose elements or partial sums are rounded there."""
        rounded = [value for value in self.values.values() if value.is_rounded]
        kept = {value.name: value for value in rounded if value.keep}
        return kept | {sums_of(value.name): value for value in rounded if value.sums}

    def rate(self, value: str) -> int:
        """Elements per period."""
        clock = self.timing(value).clock
        return self.period * len(clock.offsets) // clock.step

    def lateness(self, value: str) -> int:
        """Ticks that a value is later than it could be."""
        return next((node.held for node in self.nodes if value in node.outputs), 0)

    def length(self, value: str, frames: int) -> int:
        """Elements of a video of so many frames."""
        return self.timing(value).count(frames)


def _first_whole(taps: Taps) -> int:
    """The first output whose taps are all elements."""
    n = taps.index.last.count_through(taps.step * (taps.count - 1) - 1)
    return n if taps.awaits is None else max(n, taps.index.first.count_through(-1))


def narrower(own: torch.dtype, wished: torch.dtype | None) -> torch.dtype:
    """The wished dtype where it takes fewer bytes."""
    return own if wished is None or wished.itemsize >= own.itemsize else wished


def timing_of(value: Value) -> Timing:
    """The timing of a value that streams."""
    assert value.timing is not None
    return value.timing


def feeding_clock(source: Timing, taps: Taps, made: Timing) -> Periodic:
    """Element to the tick at which the transposed form takes it: the last one that an output reads completes it."""
    return source.clock + (made.clock(0) - source.clock(taps.index.last(0)))


def sums_of(value: str) -> str:
    """The name under which a state holds the partial sums of a value."""
    return f"{value}.sums"
