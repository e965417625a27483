"""The paper's accounting against golden.json, to the unit, and on networks small enough to count by hand."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

import co3d_compile
from co3d_compile.errors import InputError
from co3d_compile.report.paper import PaperAccounting
from co3d_compile.report.paper_text import render_paper
from tests.paper_versions import as_in_the_paper
from tests.test_golden import GOLDEN
from tests.zoo_models import ZOO

CLIPS = {
    "X3D-XS 4x160": ("x3d_xs", None, None),
    "X3D-S": ("x3d_s", None, None),
    "X3D-M": ("x3d_m", None, None),
    "X3D-L": ("x3d_l", None, None),
    "I3D-R50": ("i3d", None, None),
    "Slow-8x8 8x256": ("slow", None, None),
    "SlowFast-4x16 32x256": ("slowfast_4x16", 32, 256),
    "SlowFast-8x8 32x256": ("slowfast_8x8", 32, 256),
    "R(2+1)D-18 8x112": ("r2plus1d_18", 8, None),
    "R(2+1)D-18 16x112": ("r2plus1d_18", 16, None),
}
STEPS = {
    "CoX3D-S": ("x3d_s", (13, 16, 32, 64, 96)),
    "CoX3D-M": ("x3d_m", (16, 32, 64, 96)),
    "CoX3D-L": ("x3d_l", (16, 32, 64, 96)),
    "CoSlow-8": ("slow", (8,)),
    "CoI3D-8, emitting tick": ("i3d", (4,)),
}
STATE: dict[str, int] = GOLDEN["state_floats"]["X3D-M 16x224"]


class StridedBlock(nn.Module):
    """The worked example of design.md, section 3: at its own rate the shortcut waits one element and a half."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(1, 2, (3, 1, 1), stride=(2, 1, 1), padding=(1, 0, 0))
        self.conv2 = nn.Conv3d(2, 2, (5, 1, 1), padding=(4, 0, 0), dilation=(2, 1, 1), bias=False)
        self.shortcut = nn.Conv3d(1, 2, 1, stride=(2, 1, 1), bias=False)

    def forward(self, clip: Tensor) -> Tensor:
        x = clip.abs()
        return self.conv2(self.conv1(x).relu()) + self.shortcut(x)


class Classifier(nn.Module):
    """A gate, a pool over the clip, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(2, 4, (1, 3, 3), padding=(0, 1, 1))
        self.norm = nn.BatchNorm3d(4)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Conv3d(4, 3, 1), nn.ReLU(), nn.Conv3d(3, 4, 1))
        self.pool = nn.AdaptiveAvgPool3d(1)
        self.head = nn.Linear(4, 5)

    def forward(self, clip: Tensor) -> Tensor:
        x = self.norm(self.conv(clip))
        return self.head(self.pool(x * self.gate(x).sigmoid()).flatten(1))


def counted(model: nn.Module, shapes: Any, **options: Any) -> PaperAccounting:
    with torch.device("meta"):
        clip = [torch.empty(shape) for shape in shapes] if isinstance(shapes, list) else torch.empty(shapes)
        return co3d_compile.compile(model.to("meta"), clip, **options).accounting("paper")


@cache
def paper(name: str, frames: int | None = None, size: int | None = None, window: int | None = None) -> PaperAccounting:
    with torch.device("meta"):
        model = as_in_the_paper(name, frames, size)
    return counted(model, ZOO[name].clips(frames, size), window=window)


def steps() -> list[Any]:
    tables = [(name, row) for row in GOLDEN["paper_flops"]["step"] for name in STEPS if row.startswith(name)]
    return [
        pytest.param(STEPS[name][0], window, wanted, id=f"{name}-{window}")
        for name, row in tables
        for window, wanted in zip(STEPS[name][1], _listed(GOLDEN["paper_flops"]["step"][row]), strict=True)
    ]


def _listed(entry: int | list[int]) -> list[int]:
    return [entry] if isinstance(entry, int) else entry


def test_every_row_is_checked() -> None:
    assert CLIPS.keys() == GOLDEN["paper_flops"]["clip"].keys()
    assert len(steps()) == sum(len(_listed(entry)) for entry in GOLDEN["paper_flops"]["step"].values())


@pytest.mark.slow
@pytest.mark.parametrize("row", CLIPS)
def test_flops_of_a_clip(row: str) -> None:
    assert paper(*CLIPS[row]).clip_flops == GOLDEN["paper_flops"]["clip"][row]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "window", "wanted"), steps())
def test_flops_of_a_step(name: str, window: int, wanted: int) -> None:
    assert paper(name, window=window).step_flops == wanted


@pytest.mark.slow
def test_state_of_x3d_m_and_its_parts() -> None:
    def numbers(what: str, path: str = "") -> int:
        return sum(part.numbers for part in accounting.state if part.what == what and part.path.startswith(path))

    accounting = paper("x3d_m")

    assert numbers("partial sums", "blocks.0.") == STATE["stem conv"]
    assert numbers("partial sums") - numbers("partial sums", "blocks.0.") == STATE["block convs"]
    assert numbers("residual") == STATE["residuals at block input"]
    assert numbers("pool") == STATE["head pool (k-1)"]
    assert accounting.state_numbers == STATE["paper form, total"]


@pytest.mark.slow
@pytest.mark.parametrize(("row", "frames"), [("X3D-M_4", 4), ("X3D-M", 16), ("X3D-M_64", 64)])
def test_worst_case_of_a_regular_network(row: str, frames: int) -> None:
    assert paper("x3d_m", frames).clip_numbers == GOLDEN["state_floats"]["regular network, worst case"][row]


def test_flops_by_hand() -> None:
    accounting = counted(Classifier(), (1, 2, 6, 4, 4))
    conv, gate, head = 4 * 16 * 2 * 9, 3 * 4 + 4 * 3, 4 * 5
    maps = 4 * 16

    once = gate + 3 + 4 + 3 + head + 5
    assert accounting.clip_flops == 6 * (conv + maps + 2 * maps + maps + maps) + once
    assert accounting.step_flops == conv + maps + 4 * maps + maps + maps + gate + 3 + 4 + 2 * 3 + (4 + 1)


def test_a_longer_window_counts_one_addition_per_number_that_it_takes_in() -> None:
    short, long = (counted(Classifier(), (1, 2, 6, 4, 4), window=window) for window in (6, 11))

    assert long.step_flops == short.step_flops + 5 * 4
    assert long.clip_flops == short.clip_flops
    assert long.state_numbers == short.state_numbers + 5 * 4


def test_flops_of_every_phase_of_a_strided_block() -> None:
    accounting = counted(StridedBlock(), (1, 1, 8, 2, 2))
    conv1, relu, conv2, shortcut = 2 * 4 * 3 + 2 * 4, 2 * 2 * 4, 2 * 4 * 10, 2 * 4

    assert accounting.step_flops_by_phase == (shortcut, conv1 + relu + conv2)
    assert accounting.step_flops == conv1 + relu + conv2


def test_state_of_a_strided_block() -> None:
    """Partial sums have the output's channels; the residual waits before the strided shortcut, in frames."""
    parts = counted(StridedBlock(), (1, 1, 8, 2, 2)).state

    # conv1 waits 1 frame, conv2 4 of its own elements, that is 8 frames
    assert [(part.path, part.what, part.elements, part.numbers) for part in parts] == [
        ("conv1", "partial sums", 2, 2 * 2 * 4),
        ("conv2", "partial sums", 8, 8 * 2 * 4),
        ("", "residual", 9, 9 * 4),
    ]


def test_what_the_paper_has_no_form_for_is_counted_as_its_history() -> None:
    (part,) = counted(Differences(), (1, 2, 6, 4, 4)).state

    assert (part.what, part.numbers) == ("other", 2 * 4 * 4)


class Differences(nn.Module):
    """Of neighbours, laid out as windows of two."""

    def forward(self, clip: Tensor) -> Tensor:
        return clip.unfold(2, 2, 1).diff(dim=-1)


def test_the_batch_of_the_example_changes_nothing() -> None:
    assert counted(Classifier(), (3, 2, 6, 4, 4)) == counted(Classifier(), (1, 2, 6, 4, 4))


def test_text_holds_the_totals() -> None:
    accounting = counted(Classifier(), (1, 2, 6, 4, 4))
    console = Console(file=io.StringIO(), width=80)
    console.print(render_paper(accounting))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()

    for number in (accounting.clip_flops, accounting.step_flops, accounting.state_numbers, accounting.clip_numbers):
        assert f"{number:,}" in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_another_convention_is_refused() -> None:
    with torch.device("meta"):
        network = co3d_compile.compile(Classifier(), torch.empty(1, 2, 6, 4, 4))

    with pytest.raises(InputError, match=r"convention is 'ours'\n  try: 'paper', or report"):
        network.accounting("ours")  # type: ignore[arg-type]
