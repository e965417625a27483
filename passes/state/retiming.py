"""Forms and firing ticks for which the least is kept, at unchanged output delay.

The register-minimisation retiming of Leiserson and Saxe ("Retiming synchronous circuitry", 1991): a node that fires r
ticks later than it could lets its operands wait and its result appear r ticks later; who reads x at least
``kept(r_reader - r_x)`` elements back makes x keep as many. Elements of strided tensors last several ticks, and forms
are a choice, so that it is solved over integers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from co3d_compile.errors import InternalError
from co3d_compile.passes.state.aims import Aims
from co3d_compile.passes.state.forms import bytes_moved_more, has_transposed_form, prefers_speed
from co3d_compile.passes.state.histories import element_bytes, held_numbers, place_histories
from co3d_compile.passes.state.integer_program import IntegerProgram
from co3d_compile.passes.state.reads import Read, reads_of
from co3d_compile.passes.state.recomputation import recomputable
from co3d_compile.plan.plan import Form, Numbers, PlanNode, StateChoice, Value, timing_of


@dataclass(frozen=True)
class Wiring:
    """What is chosen for: a plan's values and nodes before anything is kept, all firing as early as they can.

    Attributes:
        outputs: values that the network gives out.
    """

    values: Mapping[str, Value]
    nodes: Sequence[PlanNode]
    outputs: Collection[str]
    period: int

    def with_histories(self) -> Wiring:
        return replace(self, values=place_histories(self.values, self.nodes, self.period))

    @property
    def held(self) -> tuple[Numbers, ...]:
        """What one stream holds between ticks."""
        return held_numbers(self.values)

    def choosable(self, prefer: str) -> dict[int, PlanNode]:
        """By index, the nodes that may take the transposed form."""
        return {
            place: node
            for place, node in enumerate(self.nodes)
            if has_transposed_form(node, self.values) and (prefer == "memory" or prefers_speed(node, self.values))
        }


def smallest_state(wiring: Wiring, aims: Aims) -> tuple[Wiring, StateChoice]:
    """The same network with forms, firing ticks and histories.

    Law: no value changes, no output comes out later, and no choice of forms and firing ticks keeps less (under
    ``speed``: no choice among the forms that move the fewest bytes).
    """
    earliest = wiring.with_histories().held
    smallest = _Choice(wiring, Aims()).made()
    chosen = smallest if aims == Aims() else _Choice(wiring, aims).made()
    return chosen, StateChoice(aims.prefer, earliest, smallest.held)


@dataclass
class _Choice:
    """The integer program of one network, and its solution read back."""

    wiring: Wiring
    aims: Aims
    program: IntegerProgram = field(default_factory=IntegerProgram)
    state: dict[int, int] = field(default_factory=dict)
    moved: dict[int, int] = field(default_factory=dict)

    def made(self) -> Wiring:
        wiring = self.wiring
        reads = reads_of(wiring.values, wiring.nodes, dict.fromkeys(wiring.outputs, 0), wiring.period)
        most = {read.reader: read.most for read in reads}
        later = {place: self.program.variable(most.get(place, 0)) for place in range(len(wiring.nodes))}
        forms = {place: self._form(node) for place, node in wiring.choosable(self.aims.prefer).items()}
        kept = {name: self._kept(value) for name, value in wiring.values.items() if value.timing is not None}
        again = self._again() if self.aims.recompute else {}
        for read in reads:
            self.program.require(_difference(later, read), -read.slack)
            self._require(read, later, kept, forms.get(read.reader), again)
        self._keep_what_is_carried(kept)
        solution = self.program.minimise(self.state, self.moved | dict.fromkeys(later.values(), 1))
        held = {place: solution[variable] for place, variable in later.items()}
        transposed = {place for place, variable in forms.items() if solution[variable]}
        recomputed = {name for name, link in again.items() if solution[link.variable]}
        chosen = _applied(wiring, held, transposed, recomputed).with_histories()
        if sum(numbers.bytes for numbers in chosen.held) != sum(
            weight * solution[variable] for variable, weight in self.state.items()
        ):
            raise InternalError("the state that was chosen is not the state that the histories hold")
        return chosen

    def _form(self, node: PlanNode) -> int:
        """1 where the node takes the transposed form."""
        variable = self.program.variable(1)
        self.state[variable] = node.reading.under_way * element_bytes(self.wiring.values[node.outputs[0]])
        self.moved[variable] = bytes_moved_more(node, self.wiring.values)
        return variable

    def _kept(self, value: Value) -> int:
        variable = self.program.variable()
        self.state[variable] = element_bytes(value)
        return variable

    def _again(self) -> dict[str, Link]:
        """1 where a value's elements are made again."""
        wiring = self.wiring
        links: dict[str, Link] = {}
        makers = {name: place for place, node in enumerate(wiring.nodes) for name in node.outputs}
        for name, source in recomputable(wiring.values, wiring.nodes, wiring.outputs).items():
            links[name] = Link(self.program.variable(1), source, makers[name], makers.get(source))
            self.moved[links[name].variable] = wiring.nodes[makers[name]].macs + element_bytes(wiring.values[name])
        return links

    def _require(
        self,
        read: Read,
        later: Mapping[int, int],
        kept: Mapping[str, int],
        form: int | None,
        again: Mapping[str, Link],
    ) -> None:
        """What is read is kept until then, or what it is made from, and so on."""
        makers = {link.maker: link.variable for link in again.values()}
        unread = [makers[read.reader]] if read.reader in makers else []
        passed: list[int] = []
        while True:
            link = again.get(read.value)
            lifted = [*unread, *([] if link is None else [link.variable])]
            waited, variable = _difference(later, read), kept[read.value]
            when = When(unless=(*lifted, *([] if form is None else [form])), only=tuple(passed))
            _require_kept(self.program, read, waited, variable, when)
            if form is not None:
                _require_waiting(self.program, read, waited, variable, When(tuple(lifted), (*passed, form)))
            if link is None:
                return
            passed.append(link.variable)
            source = timing_of(self.wiring.values[link.source])
            read = replace(read, value=link.source, maker=link.source_maker, source=source)

    def _keep_what_is_carried(self, kept: Mapping[str, int]) -> None:
        """What a node reads of its own does not depend on when it fires."""
        values = place_histories(self.wiring.values, self.wiring.nodes, self.wiring.period)
        for node in self.wiring.nodes:
            for name in node.carried:
                self.program.require({kept[name]: 1}, values[name].keep)


@dataclass(frozen=True)
class Link:
    """A value that may be made again.

    Attributes:
        variable: 1 where it is.
        source: what it is made from.
        maker, source_maker: indices of the nodes that make them; None for an input.
    """

    variable: int
    source: str
    maker: int
    source_maker: int | None


@dataclass(frozen=True)
class When:
    """A constraint's condition: none of some variables is 1, and all of others are."""

    unless: tuple[int, ...] = ()
    only: tuple[int, ...] = ()

    def require(self, program: IntegerProgram, terms: Mapping[int, int], least: int, lack: int) -> None:
        """The terms are no less than ``least`` where the condition holds. ``lack``: how far they may be below it."""
        lack = max(0, lack)
        free = dict.fromkeys(self.unless, lack) | dict.fromkeys(self.only, -lack)
        program.require({**terms, **free}, least - lack * len(self.only))


def _difference(later: Mapping[int, int], read: Read) -> dict[int, int]:
    """How much later the reader fires than its operand is made."""
    terms = {later[read.reader]: 1}
    return terms if read.maker is None else terms | {later[read.maker]: -1}


def _require_kept(program: IntegerProgram, read: Read, waited: Mapping[int, int], kept: int, when: When) -> None:
    """``kept`` is no less than the direct form needs."""
    steps = read.steps
    least, until = steps[0]
    when.require(program, {kept: 1}, least, least)
    span = read.source.clock.step
    regular = [(least + place, until + place * span) for place in range(len(steps))]
    if steps[:-1] == tuple(regular[:-1]) and steps[-1][0] == regular[-1][0] and steps[-1][1] <= regular[-1][1]:
        if len(steps) > 1:
            bound = span * least - until
            when.require(program, {kept: span, **_negated(waited)}, bound, read.most + bound)
        return
    # a staircase of uneven steps: one variable per step, and each needs the one before it
    climbed = [program.variable(1) for _ in steps[1:]]
    heights = [high - low for (low, _), (high, _) in pairwise(steps)]
    widths = [high - low for (_, low), (_, high) in pairwise(steps)]
    when.require(program, {**dict(zip(climbed, widths, strict=True)), **_negated(waited)}, -until, read.most - until)
    for lower, upper in pairwise(climbed):
        program.require({lower: 1, upper: -1}, 0)
    when.require(program, {kept: 1, **{v: -h for v, h in zip(climbed, heights, strict=True)}}, least, steps[-1][0])


def _require_waiting(program: IntegerProgram, read: Read, waited: Mapping[int, int], kept: int, when: When) -> None:
    """In transposed form an operand is kept until it is taken: ``ceil(ticks / stride)`` elements."""
    when.require(program, {kept: read.source.clock.step, **_negated(waited)}, read.slack, read.most + read.slack)


def _negated(terms: Mapping[int, int]) -> dict[int, int]:
    return {variable: -factor for variable, factor in terms.items()}


def _applied(
    wiring: Wiring, held: Mapping[int, int], transposed: Collection[int], recomputed: Collection[str]
) -> Wiring:
    """The wiring with later clocks, other forms, and elements made again."""
    values = dict(wiring.values)
    nodes = list(wiring.nodes)
    for place, node in enumerate(wiring.nodes):
        form = Form.TRANSPOSED if place in transposed else Form.DIRECT
        nodes[place] = replace(node, held=held[place], form=form, recomputes=node.outputs[0] in recomputed)
        for name in node.outputs if held[place] else ():
            timing = timing_of(values[name])
            values[name] = replace(values[name], timing=replace(timing, clock=timing.clock + held[place]))
    return replace(wiring, values=values, nodes=tuple(nodes))
