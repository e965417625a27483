"""The heaviest tick made lighter, and outputs that may come later for it: never at the cost of the law."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn

import co3d_compile
from co3d_compile.errors import InputError, UnsupportedError
from co3d_compile.passes.scheduling import schedule_firings
from co3d_compile.passes.state.forms import has_transposed_form
from co3d_compile.passes.state.histories import held_numbers, place_histories
from co3d_compile.plan.plan import Form, Plan, PlanNode, Value, timing_of
from co3d_compile.report.data import Report
from co3d_compile.testing.alive import wandering_video
from co3d_compile.testing.law import check_law
from tests.layers import RandomNetwork
from tests.networks import networks
from tests.test_random_networks import drawn, has_one_delay, runs
from tests.test_report import text_of
from tests.zoo_models import ZOO

PAGE = Path(__file__).parents[1] / "docs" / "balance.md"
CLIP = (1, 2, 12, 4, 4)


class Strided(nn.Sequential):
    """All that is deep fires at one tick of four."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv3d(2, 3, 3, stride=(2, 1, 1), padding=1),
            nn.ReLU(),
            nn.Conv3d(3, 4, 3, stride=(2, 1, 1), padding=1),
            nn.Conv3d(4, 4, 3, padding=1),
            nn.Conv3d(4, 5, 1),
        )


class Shortcut(nn.Module):
    """A branch that may wait, and one that may not."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv3d(2, 4, 1, stride=(2, 1, 1))
        self.first = nn.Conv3d(2, 3, 3, stride=(2, 1, 1), padding=1)
        self.second = nn.Conv3d(3, 4, 3, padding=1)

    def forward(self, clip: Tensor) -> Tensor:
        return self.second(self.first(clip)) + self.down(clip)


class Twins(nn.Module):
    """Two answers that come together, and one of another rate."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Conv3d(2, 3, 3, stride=(2, 1, 1), padding=1)
        self.one, self.other = nn.Conv3d(3, 9, 1), nn.Conv3d(3, 8, 1)
        self.coarse = nn.Conv3d(3, 4, 3, stride=(2, 1, 1), padding=1)

    def forward(self, clip: Tensor) -> dict[str, Tensor]:
        features = self.trunk(clip)
        return {"one": self.one(features), "other": self.other(features), "coarse": self.coarse(features)}


class EarlyAnswer(nn.Module):
    """A wide answer that is there at once, and waits for one that is there later."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv3d(2, 6, 1)
        self.late = nn.MaxPool3d((5, 3, 3), 1, (2, 1, 1))

    def forward(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        wide = self.wide(clip)
        return wide, wide.sum(1, keepdim=True) + wide + self.late(clip).mean(1, keepdim=True)


MODELS = {"strided": Strided, "shortcut": Shortcut}


def compiled(model: nn.Module, **options: Any) -> co3d_compile.Network:
    torch.manual_seed(0)
    return co3d_compile.compile(model.eval(), CLIP, **options)


def work(plan: Plan, nodes: tuple[PlanNode, ...], values: dict[str, Value]) -> list[int]:
    schedule = schedule_firings(values, nodes, plan.period)
    return [sum(run.macs(nodes[run.node]) for run in runs) for runs in schedule]


def choices(plan: Plan, extra: int) -> Iterator[tuple[tuple[PlanNode, ...], dict[str, Value]]]:
    """The network with every choice of forms and firing ticks, by their definition."""
    early = {name: at_later(value, -plan.lateness(name)) for name, value in plan.values.items()}
    outputs = {output.value for output in plan.outputs}
    options = [tuple(Form) if has_transposed_form(node, early) else (Form.DIRECT,) for node in plan.nodes]
    for later in firing_ticks(plan, early, outputs, extra, len(plan.nodes) - 1, {}):
        made = {name: later[place] for place, node in enumerate(plan.nodes) for name in node.outputs}
        values = {name: at_later(value, made.get(name, 0)) for name, value in early.items()}
        for forms in product(*options):
            yield tuple(replace(node, form=form) for node, form in zip(plan.nodes, forms, strict=True)), values


def firing_ticks(
    plan: Plan, early: dict[str, Value], outputs: set[str], extra: int, place: int, later: dict[int, int]
) -> Iterator[dict[int, int]]:
    """Ticks later for the nodes up to a place, given those behind it."""
    if place < 0:
        yield later
        return
    (name,) = plan.nodes[place].outputs
    bounds = [extra] if name in outputs else []
    for reader, node in enumerate(plan.nodes):
        for read, taps in zip(node.reads, node.taps, strict=True):
            if read == name:
                source, made = timing_of(early[name]).clock, timing_of(early[node.outputs[0]]).clock
                bounds.append(later[reader] + min(made(n) - source(taps.index.last(n)) for n in range(16)))
    for ticks in range(min(bounds) + 1):
        yield from firing_ticks(plan, early, outputs, extra, place - 1, {**later, place: ticks})


def at_later(value: Value, ticks: int) -> Value:
    timing = timing_of(value)
    return replace(value, timing=replace(timing, clock=timing.clock + ticks))


@pytest.mark.slow
@pytest.mark.parametrize("extra", [0, 1, 2])
@pytest.mark.parametrize("name", MODELS)
def test_no_choice_has_a_lighter_heaviest_tick_nor_less_state_at_that(name: str, extra: int) -> None:
    plan = compiled(MODELS[name]()).plan
    tried = list(choices(plan, extra))
    heaviest = [max(work(plan, nodes, values)) for nodes, values in tried]
    least = min(heaviest)
    held = [
        sum(numbers.bytes for numbers in held_numbers(place_histories(values, nodes, plan.period)))
        for (nodes, values), heavy in zip(tried, heaviest, strict=True)
        if heavy == least
    ]

    totals = compiled(MODELS[name](), balance=True, extra_delay=extra).report.totals

    assert len(tried) > 4
    assert (totals.heaviest_tick, totals.state_bytes) == (least, min(held))


@pytest.mark.slow
@pytest.mark.parametrize("extra", [0, 1, 3])
@pytest.mark.parametrize("model", [Strided, Shortcut, Twins, EarlyAnswer])
def test_the_law_holds_and_only_ticks_move(model: type[nn.Module], extra: int) -> None:
    torch.manual_seed(0)
    net = check_law(model(), CLIP, lengths=(5, 13, 18), batch=2, balance=True, extra_delay=extra)

    earliest = compiled(model()).report.outputs
    assert [one.delay - one.late for one in net.report.outputs] == [one.delay for one in earliest]
    assert net.verify(model_of(net, model)).passed


def model_of(net: co3d_compile.Network, make: type[nn.Module]) -> nn.Module:
    """The original with the network's weights."""
    model = make().eval()
    model.load_state_dict(net.state_dict())
    return model


def test_a_later_output_makes_the_heaviest_tick_lighter() -> None:
    """Four convolutions at one tick of four: at unchanged delay none of them may wait for another tick."""
    as_it_is, balanced, later = (
        compiled(Strided(), **options).report
        for options in ({}, {"balance": True}, {"balance": True, "extra_delay": 1})
    )

    assert balanced.totals.heaviest_tick <= as_it_is.totals.heaviest_tick
    assert later.totals.heaviest_tick < balanced.totals.heaviest_tick
    assert later.totals.macs_per_frame == as_it_is.totals.macs_per_frame
    assert [output.late for output in later.outputs] == [1]


def test_a_later_output_alone_makes_the_state_smaller() -> None:
    early, late = (check_law(EarlyAnswer(), CLIP, extra_delay=extra).report for extra in (0, 2))

    assert late.totals.state_bytes < early.totals.state_bytes == late.totals.leeway.state_bytes
    assert late.totals.smallest_state_bytes == early.totals.state_bytes
    assert [output.late for output in late.outputs] == [2, 0]


def test_what_came_together_still_does() -> None:
    outputs = {output.name: output for output in compiled(Twins(), balance=True, extra_delay=3).report.outputs}
    one, other, coarse = (outputs[f"['{name}']"] for name in ("one", "other", "coarse"))

    assert one.delay == other.delay
    assert max(one.late, coarse.late) > 0


@pytest.mark.slow
@drawn(8)
@given(networks(), st.integers(0, 3))
def test_random_networks_obey_the_law_and_get_no_heavier_tick(network: RandomNetwork, extra: int) -> None:
    torch.manual_seed(0)
    model = network.trunk()
    clip = wandering_video(network.clip)
    assume(runs(model, clip))
    try:
        before = co3d_compile.compile(model, clip).report.totals
    except UnsupportedError:
        assume(False)
    assume(before.period > 1 and any(before.macs_by_phase))
    options = {"balance": True, "extra_delay": extra}
    after = check_law(model, network.clip, least_delay=has_one_delay(network), **options).report.totals

    assert after.heaviest_tick <= before.heaviest_tick == after.leeway.heaviest_tick
    assert after.leeway.state_bytes == before.state_bytes
    assert after.macs_per_frame <= before.macs_per_frame + len(after.macs_by_phase)


def test_frames_are_those_that_elements_stand_for_however_late_they_come() -> None:
    net = compiled(Strided(), balance=True, extra_delay=3)
    (output,) = net.report.outputs
    stream, came = net.stream(), []
    for frame in wandering_video((1, 2, 21, 4, 4)).unbind(2):
        stream.push(frame)
        came += [(one.element, one.tick, one.frame) for one in stream.emissions]

    assert output.late > 0
    assert came == [(n, 4 * n + output.delay, 4 * n) for n in range(len(came))]
    assert len(came) > 2


def test_a_file_remembers_what_was_allowed(tmp_path: Path) -> None:
    net = compiled(Strided(), balance=True, extra_delay=2)
    net.save(tmp_path / "net.pt")

    loaded = co3d_compile.load(tmp_path / "net.pt")

    assert loaded.plan == net.plan
    assert Report.from_dict(loaded.report.to_dict()) == net.report


def test_the_text_tells_what_was_gained_and_what_it_costs() -> None:
    report = compiled(Strided(), balance=True, extra_delay=1).report
    totals, text = report.totals, " ".join(text_of(report).split())

    assert f"heaviest tick {totals.heaviest_tick:,} MACs, {totals.unevenness:.2f} times the mean" in text
    assert f"otherwise {totals.leeway.heaviest_tick:,} MACs, without balance and 1 tick of extra delay" in text
    assert f"otherwise {totals.leeway.state_bytes:,} bytes without balance and 1 tick of extra delay" in text
    assert f"delay {report.outputs[0].delay} ticks 1 of them added" in text
    assert "otherwise" not in text_of(compiled(Strided()).report)


def test_far_more_delay_than_is_of_use_changes_nothing() -> None:
    enough, plenty = (compiled(Strided(), balance=True, extra_delay=extra).report for extra in (20, 10**9))

    assert plenty.totals.macs_by_phase == enough.totals.macs_by_phase
    assert plenty.totals.state_bytes == enough.totals.state_bytes


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"extra_delay": -1}, "extra_delay is -1\n  try: a number of ticks from 0 up"),
        ({"extra_delay": True}, "extra_delay is True\n  try: a number of ticks from 0 up"),
        ({"extra_delay": 1.5}, "extra_delay is 1.5\n  try: a number of ticks from 0 up"),
        ({"balance": 1}, "balance is 1\n  try: True or False"),
        (
            {"balance": True, "recompute": True},
            "balance and recompute: what is made again is work at the ticks that read it, and balance would not "
            "count it\n  try: one of them",
        ),
    ],
)
def test_bad_values_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError) as refused:
        compiled(Strided(), **options)

    assert str(refused.value) == told


ROWS = {
    "none": {},
    "`balance=True`": {"balance": True},
    "`balance=True, extra_delay=1`": {"balance": True, "extra_delay": 1},
    "`balance=True, extra_delay=3`": {"balance": True, "extra_delay": 3},
}


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
def test_the_page_tells_the_numbers_of_r3d_18(row: str) -> None:
    network = ZOO["r3d_18"]
    with torch.device("meta"):
        totals = co3d_compile.compile(network.build(), torch.empty(network.clip()), **ROWS[row]).report.totals

    written = f"| {row} | {totals.heaviest_tick:,} | {totals.unevenness:.2f} | {totals.state_bytes:,} |"
    assert written in PAGE.read_text().splitlines()
