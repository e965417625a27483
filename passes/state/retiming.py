"""Forms and firing ticks for which the least is kept, at the delay that outputs may have.

The register-minimisation retiming of Leiserson and Saxe ("Retiming synchronous circuitry", 1991): a node that fires r
ticks later than it could lets its operands wait and its result appear r ticks later; who reads x at least
``kept(r_reader - r_x)`` elements back makes x keep as many. Elements of strided tensors last several ticks, and forms
are a choice, so that it is solved over integers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from co3d_compile.errors import InternalError
from co3d_compile.passes.state.aims import Aims
from co3d_compile.passes.state.constraints import Link, When, lateness_between, require_kept, require_waiting
from co3d_compile.passes.state.forms import bytes_moved_more, has_transposed_form, prefers_speed
from co3d_compile.passes.state.histories import element_bytes, held_numbers, place_histories
from co3d_compile.passes.state.integer_program import IntegerProgram
from co3d_compile.passes.state.lateness import lateness, most_useful_delay
from co3d_compile.passes.state.reads import Read, reads_of
from co3d_compile.passes.state.recomputation import recomputable
from co3d_compile.passes.state.work import Balance, heaviest_tick, work_by_phase, works_of
from co3d_compile.plan.plan import Form, Leeway, Numbers, PlanNode, StateChoice, Value, timing_of

SHARE = 1e-3
"""By which the heaviest tick, and then the state, may be above the least: a proof of the last digits takes minutes."""
BRANCHES = 200
"""Of the search for outputs that are less late at the same work and state."""


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

    @property
    def work_by_phase(self) -> tuple[int, ...]:
        """Multiply-accumulates of one stream."""
        return work_by_phase(self.values, self.nodes, self.period)

    def choosable(self, prefer: str) -> dict[int, PlanNode]:
        """By index, the nodes that may take the transposed form."""
        return {
            place: node
            for place, node in enumerate(self.nodes)
            if has_transposed_form(node, self.values) and (prefer == "memory" or prefers_speed(node, self.values))
        }


def smallest_state(wiring: Wiring, aims: Aims) -> tuple[Wiring, StateChoice]:
    """The same network with forms, firing ticks and histories.

    Law: no value changes, no output comes out later than ``extra_delay`` allows, and no choice of forms and firing
    ticks keeps less (under ``speed``: no choice among the forms that move the fewest bytes); with ``balance``: no
    choice has a heaviest tick that is lighter, and of those that have it so light none keeps less, by more than SHARE.
    """
    earliest = wiring.with_histories().held
    smallest = _Choice(wiring, Aims()).made()
    without = replace(aims, balance=False, extra_delay=0)
    bound = smallest if without == Aims() else _Choice(wiring, without).made()
    choice = StateChoice(aims.prefer, earliest, smallest.held)
    if aims.is_bound:
        return bound, choice
    leeway = Leeway(aims.balance, aims.extra_delay, max(bound.work_by_phase), bound.held)
    return _Choice(wiring, aims).made(), replace(choice, leeway=leeway)


@dataclass
class _Choice:
    """The integer program of one network, and its solution read back.

    Attributes:
        state: what each variable adds to the bytes kept.
        moved: what each form adds to the bytes moved.
    """

    wiring: Wiring
    aims: Aims
    program: IntegerProgram = field(default_factory=IntegerProgram)
    state: dict[int, int] = field(default_factory=dict)
    moved: dict[int, int] = field(default_factory=dict)
    balance: Balance | None = None

    def made(self) -> Wiring:
        wiring = self.wiring
        late = min(self.aims.extra_delay, most_useful_delay(len(wiring.nodes), wiring.period))
        reads = reads_of(wiring.values, wiring.nodes, dict.fromkeys(wiring.outputs, late), wiring.period)
        most = {read.reader: read.most for read in reads}
        later = {place: self.program.variable(most.get(place, 0)) for place in range(len(wiring.nodes))}
        forms = {place: self._form(node) for place, node in wiring.choosable(self.aims.prefer).items()}
        kept = {name: self._kept(value) for name, value in wiring.values.items() if value.timing is not None}
        again = self._again() if self.aims.recompute else {}
        for read in reads:
            self.program.require(lateness_between(later, read), -read.slack)
            self._require(read, later, kept, forms.get(read.reader), again)
        self._keep_what_is_carried(kept)
        solution = self._solved(most, later, forms)
        held = {place: solution[variable] for place, variable in later.items()}
        transposed = {place for place, variable in forms.items() if solution[variable]}
        recomputed = {name for name, link in again.items() if solution[link.variable]}
        chosen = _applied(wiring, held, transposed, recomputed).with_histories()
        self._require_as_solved(chosen, solution)
        return chosen

    def _require_as_solved(self, chosen: Wiring, solution: Sequence[int]) -> None:
        held = sum(numbers.bytes for numbers in chosen.held)
        if held != sum(weight * solution[variable] for variable, weight in self.state.items()):
            raise InternalError("the state that was chosen is not the state that the histories hold")
        if self.balance is not None:
            heaviest = solution[self.balance.heaviest] * self.balance.unit
            if max(chosen.work_by_phase) > heaviest:
                raise InternalError("the heaviest tick that was chosen is not the heaviest of the schedule")

    def _solved(self, most: Mapping[int, int], later: Mapping[int, int], forms: Mapping[int, int]) -> list[int]:
        """What is asked for first, then what is left to choose."""
        wiring = self.wiring
        makers = {name: later[place] for place, node in enumerate(wiring.nodes) for name in node.outputs}
        clocks = {name: timing_of(wiring.values[name]).clock for name in wiring.outputs}
        late = lateness(self.program, clocks, makers)
        rest = self.moved | dict.fromkeys(later.values(), 1)
        works = works_of(wiring.values, wiring.nodes, most, forms)
        if not self.aims.balance or not works:
            return self.program.minimise(self.state, *[late] * bool(self.aims.extra_delay), rest)
        self.balance = heaviest_tick(self.program, wiring.period, works, later, forms)
        solution = self.program.minimise({self.balance.heaviest: 1}, self.state, gap=SHARE)
        if self.aims.extra_delay:
            solution = self.program.improve(late, solution, BRANCHES)
        self.program.fix(self.balance.choices, solution)
        return self.program.minimise(rest)

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
            waited, variable = lateness_between(later, read), kept[read.value]
            when = When(unless=(*lifted, *([] if form is None else [form])), only=tuple(passed))
            require_kept(self.program, read, waited, variable, when)
            if form is not None:
                require_waiting(self.program, read, waited, variable, When(tuple(lifted), (*passed, form)))
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
