"""Which elements come out at a tick, and the frames that they depend on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import co3d_compile
from co3d_compile.testing.alive import wandering_video

CLIP = (1, 2, 12, 4, 4)


class Several(nn.Module):
    """Outputs at two rates and delays, and one for the clip."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(2, 2, 3, padding=1)
        self.down = nn.Conv3d(2, 2, (3, 1, 1), stride=(2, 1, 1), padding=(1, 0, 0))

    def forward(self, x: Tensor) -> dict[str, Any]:
        x = self.stem(x)
        y = self.down(x)
        return {"fine": x, "coarse": (y, y.mean((2, 3, 4)))}


@pytest.fixture
def net() -> co3d_compile.Network:
    torch.manual_seed(0)
    return co3d_compile.compile(Several(), CLIP)


def test_each_output_comes_with_its_element_tick_and_frames(net: co3d_compile.Network) -> None:
    video = wandering_video((1, 2, 9, 4, 4))
    stream = net.stream()
    seen = []
    for frame in video.unbind(2):
        answer = stream.push(frame)
        seen.append([(one.output, one.element, one.frame, one.first_frame, one.last_frame) for one in stream.emissions])
        due = [answer["fine"], *answer["coarse"]] if answer else [None] * 3
        names = [
            name
            for name, leaf in zip(("['fine']", "['coarse'][0]", "['coarse'][1]"), due, strict=True)
            if leaf is not None
        ]
        assert names == [name for name, *_ in seen[-1]]

    assert seen[:4] == [
        [],
        [("['fine']", 0, 0, -1, 1)],
        [("['fine']", 1, 1, 0, 2), ("['coarse'][0]", 0, 0, -2, 2)],
        [("['fine']", 2, 2, 1, 3)],
    ]


def test_the_structure_comes_back_with_what_is_due(net: co3d_compile.Network) -> None:
    stream = net.stream()
    answers = [stream.push(frame) for frame in wandering_video((1, 2, 5, 4, 4)).unbind(2)]

    assert answers[0] is None
    assert answers[1]["fine"].shape == (1, 2, 1, 4, 4)
    assert answers[1]["coarse"] == (None, None)
    assert answers[2]["coarse"][0].shape == (1, 2, 1, 4, 4)


def test_a_flush_tells_all_that_it_brought_out(net: co3d_compile.Network) -> None:
    stream = net.stream()
    for frame in wandering_video((1, 2, 14, 4, 4)).unbind(2):
        stream.push(frame)
    stream.flush()

    assert [(one.output, one.element, one.tick, one.last_frame) for one in stream.emissions] == [
        ("['fine']", 13, 14, 14),
        ("['coarse'][0]", 6, 14, 14),
        ("['coarse'][1]", 1, 14, 14),
    ]


@pytest.mark.parametrize("start", ["zeros", "valid", "replicate"])
def test_as_many_are_told_as_come_out(start: Any) -> None:
    torch.manual_seed(0)
    net = co3d_compile.compile(Several(), CLIP, start=start)
    stream = net.stream()
    for tick, frame in enumerate(wandering_video((1, 2, 17, 4, 4)).unbind(2)):
        answer = stream.push(frame)
        due = [] if answer is None else [leaf for leaf in (answer["fine"], *answer["coarse"]) if leaf is not None]

        assert [one.tick for one in stream.emissions] == [tick] * len(due)
        assert stream.tick == tick + 1


def test_a_new_stream_has_brought_out_nothing(net: co3d_compile.Network) -> None:
    assert net.stream().emissions == ()
