"""The critical path: which layers make the delay of an output."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from torch import Tensor, nn

import co3d_compile
from co3d_compile.errors import Co3dError
from co3d_compile.plan.plan import Plan, Value
from co3d_compile.report.data import DelayPart
from co3d_compile.report.delays import Delays
from co3d_compile.testing.alive import wandering_video
from tests.layers import RandomNetwork
from tests.networks import networks, upward_networks
from tests.test_random_networks import runs
from tests.test_report import StridedBlock, TwoPools

FEW = settings(max_examples=10, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))


class Branches(nn.Module):
    """Two convolutions against one that looks further ahead, and their sum without its last six elements."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(1, 1, (2, 1, 1))
        self.near = nn.Sequential(*(nn.Conv3d(1, 1, (3, 1, 1), padding=(1, 0, 0)) for _ in range(2)))
        self.far = nn.Conv3d(1, 1, (7, 1, 1), padding=(3, 0, 0))

    def forward(self, clip: Tensor) -> Tensor:
        clip = self.stem(clip)
        return (self.near(clip) + self.far(clip))[:, :, :-6]


def parts_of(model: nn.Module) -> list[list[tuple[str, str, int]]]:
    report = co3d_compile.compile(model, (1, 1, 12, 4, 4)).report
    return [[(part.path, part.cause, part.ticks) for part in output.critical_path] for output in report.outputs]


def adds_up(path: tuple[DelayPart, ...], delay: int) -> bool:
    sums = [sum(part.ticks for part in path[: place + 1]) for place in range(len(path))]
    return sums == [part.sum for part in path] and sum(part.ticks for part in path) == delay


def held(plan: Plan, nodes: dict[str, int]) -> Plan:
    """The plan with nodes that fire so many ticks later; the schedule is not made anew."""

    def later(value: Value) -> Value:
        assert value.timing is not None
        ticks = nodes.get(value.name, 0)
        return replace(value, timing=replace(value.timing, clock=value.timing.clock + ticks))

    return replace(plan, values={name: later(value) for name, value in plan.values.items()})


def test_a_strided_block_waits_in_ticks() -> None:
    report = co3d_compile.compile(StridedBlock(), (1, 1, 8, 2, 2)).report

    assert report.outputs[0].critical_path == (
        DelayPart("conv3d", "conv1", "conv3d", "lookahead", 1, 1),
        DelayPart("conv3d_1", "conv2", "conv3d", "lookahead", 2, 3),
    )


def test_the_path_goes_through_the_branch_that_comes_last() -> None:
    """And what is cut off at the end makes elements wait: a video has the first one from frame 7 on."""
    assert parts_of(Branches()) == [
        [("stem", "lookahead", 1), ("far", "lookahead", 3), ("", "cut", 3)],
    ]


def test_every_output_has_its_path() -> None:
    report = co3d_compile.compile(TwoPools(), (1, 2, 6, 4, 4)).report

    paths = {output.name: [(part.path, part.ticks) for part in output.critical_path] for output in report.outputs}
    assert paths == {"['pooled']": [("far", 2), ("", 4)], "['frames']": [("far", 2)]}


def test_a_crop_at_the_start_takes_delay_back() -> None:
    """Frames that are padded on take it, as they come before the first."""
    model = nn.Sequential(nn.Conv3d(1, 1, (5, 1, 1)), nn.ConstantPad3d((0, 0, 0, 0, 3, 0), 0.0))

    assert parts_of(model) == [[("0", "lookahead", 4), ("1", "lookahead", -3)]]


def test_a_held_node_is_named_where_it_makes_the_delay() -> None:
    """Held behind the others, so that the output comes later: it is on the path, apart from what it reads ahead."""
    plan = co3d_compile.compile(StridedBlock(), (1, 1, 8, 2, 2)).plan
    late = held(plan, {"conv3d_1": 4, "add": 4})

    path = Delays(late).critical_path("add")
    assert [(part.path, part.cause, part.ticks) for part in path] == [
        ("conv1", "lookahead", 1),
        ("conv2", "lookahead", 2),
        ("conv2", "held", 4),
    ]
    assert adds_up(path, late.timing("add").delay)


def test_a_shortcut_that_is_held_to_meet_the_other_branch_does_not_make_the_delay() -> None:
    """It comes at the same tick as the branch that makes the delay; listed first, it still is not on the path."""
    plan = co3d_compile.compile(StridedBlock(), (1, 1, 8, 2, 2)).plan
    (add,) = (node for node in plan.nodes if node.name == "add")
    late = held(plan, {"conv3d_2": 3 - plan.timing("conv3d_2").delay})
    delays = Delays(replace(late, nodes=(*late.nodes[:-1], replace(add, reads=add.reads[::-1]))))

    assert [(part.path, part.ticks) for part in delays.critical_path("add")] == [("conv1", 1), ("conv2", 2)]
    assert (delays.late("conv3d_2"), delays.late("add")) == (3, 0)


@pytest.mark.slow
@FEW
@given(networks(head=False))
def test_the_parts_sum_to_the_delay_on_random_networks(network: RandomNetwork) -> None:
    check_sums(network)


@pytest.mark.slow
@FEW
@given(upward_networks())
def test_the_parts_sum_to_the_delay_where_the_rate_goes_up(network: RandomNetwork) -> None:
    check_sums(network)


def check_sums(network: RandomNetwork) -> None:
    """Also that nothing is held, as long as every node fires as early as it can, and all sums of the report."""
    torch.manual_seed(0)
    model, clip = network.trunk(), wandering_video(network.clip)
    assume(runs(model, clip))
    try:
        report = co3d_compile.compile(model, clip).report
    except Co3dError:
        assume(False)

    for output in report.outputs:
        assert adds_up(output.critical_path, output.delay)
    whole = report.modules[0]
    assert whole.layers == len(report.layers)
    assert whole.clip_macs == report.totals.clip_macs
    assert whole.state_bytes == report.totals.state_bytes
    assert whole.macs_per_frame == pytest.approx(report.totals.macs_per_frame)
