"""Forms and firing ticks: as little is kept as any choice of them would keep, and the law holds under each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from torch import Tensor, nn

import co3d_compile
from co3d_compile.errors import InputError, UnsupportedError
from co3d_compile.network import Network
from co3d_compile.passes.state.aims import Aims
from co3d_compile.passes.state.forms import has_transposed_form
from co3d_compile.passes.state.histories import place_histories
from co3d_compile.passes.state.reads import reads_of
from co3d_compile.passes.state.retiming import Wiring, smallest_state
from co3d_compile.plan.plan import Form, Plan, PlanNode, Value, timing_of
from co3d_compile.testing.alive import make_alive, wandering_video
from co3d_compile.testing.law import check_law
from tests.layers import RandomNetwork
from tests.networks import networks
from tests.test_random_networks import drawn, has_one_delay, runs

MOST_CHOICES = 4000
"""Networks with more choices are not searched by brute force."""


class Block(nn.Module):
    """The worked example of design.md, section 3, with channels and sizes to choose."""

    def __init__(self, channels: int, wider: int, spatial: int = 1) -> None:
        super().__init__()
        stride = (2, spatial, spatial)
        self.first = nn.Conv3d(channels, wider, 3, stride=stride, padding=1, bias=False)
        self.second = nn.Conv3d(wider, wider, (3, 1, 1), padding=(1, 0, 0))
        self.shortcut = nn.Conv3d(channels, wider, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu()) + self.shortcut(x)


class Expanding(nn.Module):
    """What a 1x1x1 convolution expands is read far back by one convolution, and nearer by another."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.expand = nn.Conv3d(3, 12, 1)
        self.norm = nn.BatchNorm3d(12)
        self.near = nn.Conv3d(12, 12, 3, stride=(stride, 1, 1), padding=1, groups=12)
        self.far = nn.Conv3d(12, 12, (5, 1, 1), (stride, 1, 1), (4, 0, 0), (2, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        wide = self.norm(self.expand(x)).relu()
        return self.near(wide) + self.far(wide)


def form_of(net: Network, path: str) -> str:
    return next(layer.form for layer in net.report.layers if layer.path == path and layer.operation != "input")


def unheld(plan: Plan) -> Wiring:
    """The plan's values and nodes as they are before anything is chosen."""
    values = dict(plan.values)
    for node in plan.nodes:
        for name in node.outputs:
            timing = timing_of(values[name])
            earliest = replace(timing, clock=timing.clock + -node.held)
            values[name] = replace(values[name], timing=earliest, keep=0, sums=0)
    nodes = [replace(node, held=0, form=Form.DIRECT) for node in plan.nodes]
    return Wiring(values, nodes, {output.value for output in plan.outputs}, plan.period)


def held_bytes(values: dict[str, Value], nodes: list[PlanNode], period: int) -> int:
    placed = place_histories(values, nodes, period)
    sizes = [(v.keep + v.sums, v.layout.running_shape(1, 1), v.dtype.itemsize) for v in placed.values()]
    return sum(count * torch.Size(shape).numel() * size for count, shape, size in sizes)


def all_choices(wiring: Wiring) -> Iterator[tuple[dict[str, Value], list[PlanNode]]]:
    """Every choice of firing ticks that delays no output, with every choice of forms."""
    reads = reads_of(wiring.values, wiring.nodes, dict.fromkeys(wiring.outputs, 0), wiring.period)
    most = {read.reader: read.most for read in reads}
    places = range(len(wiring.nodes))
    forms = [tuple(Form) if has_transposed_form(node, wiring.values) else (Form.DIRECT,) for node in wiring.nodes]
    for held in product(*(range(most.get(place, 0) + 1) for place in places)):
        waits = ((held[r.reader] - (0 if r.maker is None else held[r.maker]), -r.slack) for r in reads)
        if any(wait < least for wait, least in waits):
            continue
        for chosen in product(*forms):
            values = dict(wiring.values)
            for place, node in enumerate(wiring.nodes):
                for name in node.outputs:
                    timing = timing_of(values[name])
                    values[name] = replace(values[name], timing=replace(timing, clock=timing.clock + held[place]))
            yield values, [replace(node, form=form) for node, form in zip(wiring.nodes, chosen, strict=True)]


def count_of_choices(wiring: Wiring) -> int:
    reads = reads_of(wiring.values, wiring.nodes, dict.fromkeys(wiring.outputs, 0), wiring.period)
    most = {read.reader: read.most for read in reads}
    count = 1
    for place, node in enumerate(wiring.nodes):
        count *= (most.get(place, 0) + 1) * (2 if has_transposed_form(node, wiring.values) else 1)
    return count


def compiled(network: RandomNetwork) -> Network | None:
    """A random network that keeps time; None where the original has no answer, or nothing of it streams."""
    torch.manual_seed(0)
    model = network.trunk()
    clip = wandering_video(network.clip)
    if not runs(model, clip):
        return None
    try:
        return co3d_compile.compile(make_alive(model, clip), network.clip)
    except UnsupportedError:
        return None


def test_a_narrow_output_keeps_partial_sums_and_a_narrow_input_its_elements() -> None:
    narrowing = co3d_compile.compile(nn.Conv3d(8, 2, (3, 1, 1), padding=(1, 0, 0)), (1, 8, 6, 4, 4))
    widening = co3d_compile.compile(nn.Conv3d(2, 8, (3, 1, 1), padding=(1, 0, 0)), (1, 2, 6, 4, 4))
    frame, sizes = 4 * 4, torch.float32.itemsize

    assert (form_of(narrowing, ""), narrowing.report.totals.state_bytes) == ("transposed", 2 * 2 * frame * sizes)
    assert (form_of(widening, ""), widening.report.totals.state_bytes) == ("direct", 2 * 2 * frame * sizes)


def test_a_history_that_is_there_for_someone_else_costs_nothing() -> None:
    """Alone the narrowing convolution would keep sums; beside a wide reader of the same history it keeps nothing."""

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.narrow = nn.Conv3d(4, 2, (3, 1, 1), padding=(1, 0, 0))
            self.wide = nn.Conv3d(4, 9, (3, 1, 1), padding=(1, 0, 0))

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([self.narrow(x), self.wide(x)], 1)

    net = co3d_compile.compile(Both(), (1, 4, 6, 4, 4))

    assert form_of(net, "narrow") == form_of(net, "wide") == "direct"
    assert net.report.totals.state_elements == 2 * 4 * 16


def test_a_strided_window_holds_no_more_sums_than_are_under_way() -> None:
    """``ceil(d(k-1)/s)`` outputs (design.md, section 4)."""
    for kernel, stride, dilation in [(3, 2, 1), (5, 2, 1), (3, 2, 2), (3, 1, 3), (2, 3, 1), (4, 3, 2)]:
        conv = nn.Conv3d(9, 1, (kernel, 1, 1), (stride, 1, 1), 0, (dilation, 1, 1))
        (node,) = co3d_compile.compile(conv, (1, 9, 24, 2, 2)).plan.nodes

        assert node.reading.under_way == -(-dilation * (kernel - 1) // stride)


def test_the_shortcut_waits_where_it_is_narrower() -> None:
    """3 frames would wait before the strided shortcut, 2 elements behind it (design.md, section 3)."""
    after = co3d_compile.compile(Block(4, 4, spatial=2), (1, 4, 12, 8, 8))
    before = co3d_compile.compile(Block(1, 16), (1, 1, 12, 8, 8))
    waits = {net: next(node.held for node in net.plan.nodes if node.path == "shortcut") for net in (after, before)}

    assert waits[after] == 0
    assert waits[before] > 0


@pytest.mark.parametrize("aims", [{}, {"prefer": "speed"}, {"recompute": True}], ids=str)
@pytest.mark.parametrize("channels", [(4, 4, 2), (1, 16, 1), (16, 2, 1)])
def test_the_law_holds_under_every_choice(aims: dict[str, Any], channels: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    width, wider, spatial = channels
    clip = (1, width, 12, 8, 8)

    check_law(Block(width, wider, spatial), clip, lengths=(12, 17, 5), **aims)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_what_an_expansion_makes_is_made_again_in_place_of_being_kept(stride: int) -> None:
    """The longest reader wants 9 elements of 3 channels in place of 9 of 12, and 5 of them made at each tick."""
    torch.manual_seed(0)
    net = check_law(Expanding(stride), (1, 3, 16, 6, 6), lengths=(16, 23, 9), recompute=True)
    totals = net.report.totals
    expansion = 12 * 3 * 6 * 6
    read = {0, 2, 4, 6, 8} | {3, 4, 5}  # taps of the dilated and of the plain convolution, around the same middle
    layers = {layer.path: layer for layer in net.report.layers}

    assert totals.state_elements == 8 * 3 * 6 * 6
    assert totals.state_bytes < totals.smallest_state_bytes <= 8 * 12 * 6 * 6 * 4
    assert layers["expand"].macs_per_frame == expansion * len(read) / stride
    assert totals.recomputed_macs == pytest.approx(expansion * len(read) / stride - expansion)
    assert (layers["expand"].again, layers["expand"].history) == (8, 0)


def test_nothing_is_made_again_unless_it_is_asked_for() -> None:
    totals = co3d_compile.compile(Expanding(1), (1, 3, 16, 6, 6)).report.totals

    assert totals.recomputed_macs == 0
    assert totals.state_bytes == totals.smallest_state_bytes


@pytest.mark.slow
@drawn(30)
@given(networks())
def test_random_networks_that_make_elements_again_obey_the_law(network: RandomNetwork) -> None:
    torch.manual_seed(0)
    model = network.trunk()
    clip = wandering_video(network.clip)
    longer = wandering_video((*network.clip[:2], network.frames + 6, *network.clip[3:]))
    assume(runs(model, clip) and runs(model, longer))
    try:
        net = check_law(
            model,
            network.clip,
            lengths=(network.frames, network.frames + 6),
            least_delay=has_one_delay(network),
            recompute=True,
        )
    except UnsupportedError:
        assume(False)
    totals = net.report.totals

    assert totals.state_bytes <= totals.smallest_state_bytes <= totals.earliest_state_bytes


@pytest.mark.slow
@drawn(40)
@given(networks())
def test_no_choice_keeps_less(network: RandomNetwork) -> None:
    net = compiled(network)
    assume(net is not None)
    assert net is not None
    wiring = unheld(net.plan)
    assume(1 < count_of_choices(wiring) <= MOST_CHOICES)
    least = min(held_bytes(values, nodes, wiring.period) for values, nodes in all_choices(wiring))

    assert net.report.totals.state_bytes == least


@pytest.mark.slow
@drawn(60)
@given(networks())
def test_the_state_is_never_larger_than_all_direct_and_earliest(network: RandomNetwork) -> None:
    net = compiled(network)
    assume(net is not None)
    assert net is not None
    totals = net.report.totals
    wiring = unheld(net.plan)
    fast, choice = smallest_state(wiring, Aims("speed"))

    assert totals.state_bytes == totals.smallest_state_bytes <= sum(n.bytes for n in fast.held)
    assert sum(n.bytes for n in fast.held) <= totals.earliest_state_bytes
    assert totals.earliest_state_bytes == held_bytes(dict(wiring.values), list(wiring.nodes), wiring.period)
    assert choice.smallest == net.plan.state.smallest


@pytest.mark.parametrize("model", ["residual", "narrowing", "pools"])
def test_a_running_state_holds_the_bytes_of_the_report(model: str) -> None:
    torch.manual_seed(0)
    made = {
        "residual": Block(4, 2),
        "narrowing": nn.Sequential(nn.Conv3d(4, 1, (4, 3, 3)), nn.Conv3d(1, 1, (3, 1, 1), padding=(1, 0, 0))),
        "pools": nn.Sequential(nn.Conv3d(4, 4, 1), nn.MaxPool3d((3, 2, 2), stride=2), nn.AvgPool3d((3, 1, 1), 1)),
    }[model]
    net = co3d_compile.compile(made, (1, 4, 16, 8, 8))
    state = net.initial_state()
    held = []
    for frame in torch.randn(40, 1, 4, 8, 8):
        _, state = net.step(frame, state)
        held.append(state.bytes)

    assert max(held) == net.report.totals.state_bytes
    assert max(held[-net.plan.period :]) == net.report.totals.state_bytes


def test_an_unknown_preference_is_refused() -> None:
    with pytest.raises(InputError, match=r"prefer is 'size'\n  try: one of memory, speed"):
        co3d_compile.compile(nn.Conv3d(2, 2, 3), (1, 2, 6, 6, 6), prefer="size")  # type: ignore[arg-type]
