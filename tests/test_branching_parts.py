"""A part that branches on the values of its clip, as an operator of one's own: torch runs it, on whole windows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import co3d_compile
from co3d_compile.errors import ArtifactError, CaptureError
from co3d_compile.ops.flow import Flow
from co3d_compile.ops.operation import Call, Operation, Refused
from co3d_compile.testing.alive import make_alive, wandering_video
from co3d_compile.testing.law import check_law, windows_of

CLIP = (1, 3, 8, 4, 5)


def by_brightness(y: Tensor) -> Tensor:
    """Frames backwards where the clip grows brighter; no capture sees which."""
    if y[:, :, -1].mean() > y[:, :, 0].mean():
        return y.flip(2)
    return y * 2


turned = torch.library.custom_op("co3d_tests::by_brightness", mutates_args=())(by_brightness)


@turned.register_fake
def _(y: Tensor) -> Tensor:
    return torch.empty_like(y)


class ByBrightness(Operation):
    targets = ("co3d_tests.by_brightness.default",)

    def flow(self, call: Call) -> Flow:
        raise Refused("which branch it takes depends on the whole clip", "one of the branches for every clip")


class Branching(nn.Module):
    def __init__(self, *, as_operator: bool) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 4, 3, padding=1)
        self.after = nn.Conv3d(4, 2, 3, padding=1)
        self.as_operator = as_operator

    def tail(self, y: Tensor) -> Tensor:
        return self.after(turned(y) if self.as_operator else by_brightness(y))

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.conv(x))


def test_python_that_branches_on_values_is_refused_with_what_to_do() -> None:
    with pytest.raises(CaptureError) as refused:
        co3d_compile.compile(Branching(as_operator=False).eval(), CLIP)

    assert str(refused.value).startswith("(top level): its control flow depends on the values in the video\n")
    assert (
        "try: compute both branches and select with torch.where, or make the part that branches an operator of"
        in str(refused.value)
    )


def test_as_an_operator_it_runs_on_whole_windows() -> None:
    torch.manual_seed(0)
    model = Branching(as_operator=True).eval()
    make_alive(model, wandering_video(CLIP))
    features = model.conv(wandering_video((1, 3, 19, 4, 5), seed=3))
    branches = {bool(y[:, :, -1].mean() > y[:, :, 0].mean()) for y in features.unfold(2, 8, 1).movedim(-1, 2).unbind(3)}

    network = check_law(
        model,
        CLIP,
        reference=lambda video: windows_of(model.tail, 8)(model.conv(video)),
        stacked=True,
        alive=False,
        ops=[ByBrightness()],
    )

    assert branches == {True, False}
    assert network.report.exact
    assert network.report.last_resorts[0].refusals[0].reason == "which branch it takes depends on the whole clip"
    assert network.verify(model).passed


def test_a_file_asks_for_its_rule(tmp_path: Path) -> None:
    model = Branching(as_operator=True).eval()
    network = co3d_compile.compile(model, CLIP, ops=[ByBrightness()])
    network.save(tmp_path / "net.pt")
    video = wandering_video((1, 3, 13, 4, 5))

    with pytest.raises(ArtifactError, match=r"co3d_tests.by_brightness.default: .*ByBrightness"):
        co3d_compile.load(tmp_path / "net.pt")
    loaded = co3d_compile.load(tmp_path / "net.pt", ops=[ByBrightness()])

    assert torch.equal(loaded.forward(video), network.forward(video))
