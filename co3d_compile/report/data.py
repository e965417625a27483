"""The report as data. Times are in ticks, sizes for one stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from co3d_compile.errors import ArtifactError, Refusal
from co3d_compile.plan.encoding import decode
from co3d_compile.plan.plan import Approximation
from co3d_compile.report.formula import Formula

SCHEMA = 1

Cause = Literal["lookahead", "cut", "held"]
Law = Literal["exact", "approximate", "affected"]


@dataclass(frozen=True)
class InputReport:
    """One input.

    Attributes:
        shape: of the example clip.
        rate: ticks between two of its frames.
        time_axis: the dimension of time.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    rate: int
    time_axis: int


@dataclass(frozen=True)
class OutputFormulas:
    """An output's times as expressions in ``W``, the elements of the windows over the whole clip."""

    delay: Formula
    receptive_field: Formula
    steady_tick: Formula


@dataclass(frozen=True)
class Deviation:
    """How far a stream's answers for a random clip are from the original's, relative to these.

    Attributes:
        largest, median: over the elements of the clip.
        rounding: the largest, from the answers of the same network with its state in full; None: nothing is rounded.
    """

    largest: float
    median: float
    rounding: float | None = None


@dataclass(frozen=True)
class DelayPart:
    """What one layer adds to the delay of an output.

    Attributes:
        layer: its name; ``path`` and ``operation`` as of the layer.
        cause: ``lookahead``: it reads elements later than its own; ``cut``: the original cuts elements off at the end,
            and this one waits until it is sure to stay; ``held``: it fires later than it could.
        ticks: below 0 where it reads only elements that are earlier than its own.
        sum: of the parts up to this one.
    """

    layer: str
    path: str
    operation: str
    cause: Cause
    ticks: int
    sum: int


@dataclass(frozen=True)
class OutputReport:
    """One output tensor.

    Attributes:
        name: its place in the structure that the model returns, for instance ``[0]`` or ``['logits']``.
        path: the module that makes it.
        shape: for the example clip.
        approximations: why it is not exact; empty for an exact output.
        stride: ticks after which its clock repeats.
        elements: that come out in one stride.
        delay: frames before the first element.
        carried: modules that carry something on since the start: the element depends on the whole past.
        receptive_field: frames that one element depends on; of what is carried, the frames that enter at each step.
        steady_tick: the tick of the first element that has seen no padding.
        padding: aggregated temporal padding, in frames: how far the first element reaches back before the video.
        critical_path: the layers that make the delay, from the input to the output; their ticks sum to the delay.
        late: ticks of the delay that ``extra_delay`` added.
        deviation: of an approximate output, once it has been measured.
    """

    name: str
    path: str
    shape: tuple[int, ...]
    approximations: tuple[Approximation, ...]
    stride: int
    elements: int
    delay: int
    receptive_field: int
    steady_tick: int
    padding: int
    formulas: OutputFormulas
    critical_path: tuple[DelayPart, ...] = ()
    carried: tuple[str, ...] = ()
    deviation: Deviation | None = None
    late: int = 0

    @property
    def exact(self) -> bool:
        return not self.approximations


@dataclass(frozen=True)
class ReadReport:
    """One tensor that a layer reads.

    Attributes:
        layer: the name of the layer that makes it.
        tick: when the newest of its elements that go into the reader's first element is there.
        wait: ticks from then until the reader runs.
    """

    layer: str
    tick: int
    wait: int


@dataclass(frozen=True)
class LayerReport:
    """One operation, or one input.

    Attributes:
        path: the module of the user's model.
        operation: for instance ``conv3d``; ``input`` for an input.
        shape: of one element.
        stride, elements, delay: its clock, as of an output.
        span: the first and the last input frame that its first element depends on; below 0 lies padding.
        reads: what it reads of other layers.
        kernel: elements that it reads for one that it makes.
        padding: frames of its own temporal padding before the video, which the stream strips.
        shift: frames of padding that its first element has seen, its own and that of all layers before it.
        padded_share: of the elements that the example clip gives, those that have seen padding, 0 to 1: there the
            stream differs from what the layer was trained on.
        law: ``exact``; ``approximate``: made under a policy; ``affected``: depends on what is approximate,
            or on a state that is rounded.
        macs_per_frame: multiply-accumulates, mean over a period.
        clip_macs: the same for the example clip.
        form: ``direct`` or ``transposed``: whether elements that it reads are kept for it, or partial sums.
        held: ticks that it fires later than it could, so that less is kept.
        history: elements of what it makes that are kept between ticks, for whoever reads back.
        needed_by: the layer that reads furthest back; empty where nothing is kept.
        sums: elements under way that are kept as partial sums.
        again: elements that are made again where they are read, in place of being kept.
        state_bytes: of that history and these sums.
        macs_share, state_share: of the totals, 0 to 1.
    """

    name: str
    path: str
    operation: str
    shape: tuple[int, ...]
    stride: int
    elements: int
    delay: int
    span: tuple[int, int]
    reads: tuple[ReadReport, ...]
    kernel: int
    padding: int
    shift: int
    padded_share: float
    law: Law
    macs_per_frame: float
    macs_share: float
    clip_macs: int
    form: str
    held: int
    history: int
    needed_by: str
    sums: int
    again: int
    state_bytes: int
    state_share: float


@dataclass(frozen=True)
class ModuleReport:
    """A module of the user's model, with all that is in it.

    Attributes:
        path: empty for the whole model.
        depth: names in the path.
        layers: operations and inputs in it.
        approximate: of these, the ones made under a policy.
        padding: frames of temporal padding of its layers, summed.
        shift, padded_share: the most among its layers, as of a layer.
        macs_per_frame, macs_share, clip_macs, state_bytes, state_share: summed over its layers.
    """

    path: str
    depth: int
    layers: int
    approximate: int
    padding: int
    shift: int
    padded_share: float
    macs_per_frame: float
    macs_share: float
    clip_macs: int
    state_bytes: int
    state_share: float


@dataclass(frozen=True)
class FiringReport:
    """One layer at one phase.

    Attributes:
        layer: its name.
        elements: that it makes there; none where it only takes one into its partial sums.
        macs: multiply-accumulates for them.
    """

    layer: str
    elements: int
    macs: int


@dataclass(frozen=True)
class LastResortReport:
    """A part that runs on whole windows, because it cannot be streamed.

    Attributes:
        path: the module with which it begins.
        macs: multiply-accumulates for one window.
        refusals: why: what in it cannot be streamed, and what could be done.
    """

    path: str
    macs: int
    refusals: tuple[Refusal, ...]


@dataclass(frozen=True)
class TotalFormulas:
    """Totals as expressions in ``W``, as for outputs, ``B``, the streams in lockstep, and the frames' size ``H x X``.

    Attributes:
        clip_macs: of the original, for a clip as long as the example.
    """

    clip_macs: Formula
    macs_per_frame: Formula
    state_bytes: Formula


@dataclass(frozen=True)
class FrameReport:
    """How sizes and costs follow from the height and width of the frames, ``H`` and ``X`` in formulas.

    Attributes:
        size: height and width in the example clip; None where its inputs have no frames of one size.
        least: the smallest height and width that formulas hold for; None: they hold for the clip's alone.
        step: they hold for sizes that differ from the clip's by a multiple of so much.
        checked: the original's cost, counted at other sizes, is theirs.
        fixed_by: the module that takes no other size; empty at the top level, and where there is none.
        reason: why formulas hold for the clip's size alone; empty where they do not.
    """

    size: tuple[int, int] | None
    least: tuple[int, int] | None
    step: int = 1
    checked: bool = False
    fixed_by: str = ""
    reason: str = ""


@dataclass(frozen=True)
class LeewayReport:
    """What was allowed for lighter ticks or less state, and what there would be otherwise.

    Attributes:
        balance: the heaviest tick was made as light as possible.
        extra_delay: ticks that outputs were allowed to be later.
        heaviest_tick: MACs of the heaviest tick otherwise.
        state_bytes: state otherwise.
    """

    balance: bool
    extra_delay: int
    heaviest_tick: int
    state_bytes: int


@dataclass(frozen=True)
class Totals:
    """The whole network.

    Attributes:
        period: ticks after which the schedule repeats.
        clip_macs: multiply-accumulates of the original for the example clip.
        macs_per_frame: of the stream, mean over a period.
        macs_by_phase: of each tick of a period.
        recomputed_macs: of ``macs_per_frame``, what makes elements again in place of keeping them.
        saving: ``clip_macs`` over ``macs_per_frame``.
        state_elements: numbers that are kept between ticks.
        state_dtype: the narrower dtype that state is rounded to; None: every tensor's own.
        full_state_bytes: what the same numbers would take if they were not rounded.
        prefer: what the state was chosen for: ``memory`` or ``speed``.
        earliest_state_bytes: if every window kept its inputs, and everything fired as early as it can.
        smallest_state_bytes: the least there is, with no output later than it could be.
        leeway: None where the state alone decided, and no output was allowed to be later.
        parameters: numbers in the weights that the network uses, buffers among them.
        share_streamed: of ``clip_macs``, what does not run on whole windows as a last resort; 0 to 1.
        gates: parts that are made under a policy, because the original makes them from the whole clip.
    """

    period: int
    clip_macs: int
    macs_per_frame: float
    macs_by_phase: tuple[int, ...]
    recomputed_macs: float
    saving: float
    share_streamed: float
    state_elements: int
    state_bytes: int
    state_dtype: str | None
    full_state_bytes: int
    prefer: str
    earliest_state_bytes: int
    smallest_state_bytes: int
    parameters: int
    weight_bytes: int
    gates: int
    formulas: TotalFormulas
    leeway: LeewayReport | None = None

    @property
    def heaviest_tick(self) -> int:
        """MACs."""
        return max(self.macs_by_phase)

    @property
    def lightest_tick(self) -> int:
        """MACs."""
        return min(self.macs_by_phase)

    @property
    def unevenness(self) -> float:
        """The heaviest tick over the mean: 1 where all ticks are alike."""
        return self.heaviest_tick / self.macs_per_frame if self.macs_per_frame else 1.0


@dataclass(frozen=True)
class Report:
    """What is known of a compiled network.

    Attributes:
        rate: ``native``: outputs as often as the strided network gives them; ``dense``: at every frame.
        layers: in the order in which they run, inputs first.
        modules: the layers summed by the tree of modules, each module before those in it.
        schedule: per phase (tick modulo ``totals.period``) the layers that fire, in order.
    """

    start: str
    rate: str
    inputs: tuple[InputReport, ...]
    outputs: tuple[OutputReport, ...]
    totals: Totals
    layers: tuple[LayerReport, ...]
    modules: tuple[ModuleReport, ...]
    frame: FrameReport
    schedule: tuple[tuple[FiringReport, ...], ...]
    last_resorts: tuple[LastResortReport, ...] = ()

    @property
    def clip_macs(self) -> Formula:
        """Multiply-accumulates of the original for a clip."""
        return self.totals.formulas.clip_macs

    @property
    def macs_per_frame(self) -> Formula:
        """Multiply-accumulates of the stream, mean over a period."""
        return self.totals.formulas.macs_per_frame

    @property
    def state_bytes(self) -> Formula:
        """What is kept between ticks: ``report.state_bytes.subs(W=64)``."""
        return self.totals.formulas.state_bytes

    @property
    def exact(self) -> bool:
        """Every output obeys the law."""
        return all(output.exact for output in self.outputs)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON, under a versioned schema: the attributes by their names."""
        return {"schema": SCHEMA, "exact": self.exact, **asdict(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Back from ``to_dict``, also after a turn through JSON.

        Raises:
            ArtifactError: another schema, or not a report.
        """
        if data.get("schema") != SCHEMA:
            raise ArtifactError(
                f"the report has schema {data.get('schema')}; this version reads {SCHEMA}\n"
                "  try: the version of co3d-compile that wrote it"
            )
        fields = {name: value for name, value in data.items() if name not in ("schema", "exact")}
        report = decode(fields, cls, "report")
        assert isinstance(report, cls)
        return report
