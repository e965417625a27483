"""A published network against what its users build by hand from ``continual-inference``: gates of single frames too."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import co3d_compile
from benchmarks.peer import peer_network
from benchmarks.state import measured_peer
from co3d_compile.testing.law import assert_same
from tests.peers.agreement import alive, video_like
from tests.peers.stepping import stepped
from tests.test_golden import GOLDEN
from tests.zoo_models import ZOO

pytestmark = [pytest.mark.peers, pytest.mark.slow]


def test_x3d_with_gates_of_frames_answers_as_the_one_built_by_hand() -> None:
    """No clip model makes its gates from single frames, so the original is no oracle for these numbers."""
    clip = ZOO["x3d_xs"].clip(frames=4, size=32)
    torch.manual_seed(0)
    model = alive(ZOO["x3d_xs"].build(frames=4, size=32), clip).double()  # so deep, float32 rounding grows to percents
    model.blocks[-1].activation = None  # softmax would hide how far apart the classes' scores are
    video = video_like(clip, frames=40).double()

    stream = co3d_compile.compile(model, video[:, :, :4]).stream()
    answers = [stream.push(frame) for frame in video.unbind(2)]
    ours = [(tick, scores) for tick, scores in enumerate(answers) if isinstance(scores, Tensor)]
    peer = peer_network(model).double()  # after ours: the library changes the layers that it takes over
    theirs = stepped(peer, video)

    assert len(ours) > 8
    assert [tick for tick, _ in ours] == theirs.ticks
    assert_same(torch.stack([scores for _, scores in ours], 2), theirs.elements, 2, "our scores against the peer's")


def test_x3d_built_by_hand_allocates_what_golden_says() -> None:
    """Squares of the maps that a kernel needs: for a kernel of 3, two partial sums of two frames each."""
    wanted = GOLDEN["state_floats"]["X3D-M 16x224"]["peer library really allocates"]

    peer = measured_peer(ZOO["x3d_m"].build(), ZOO["x3d_m"].clip(), pooled=16)

    assert (peer.numbers, peer.delay) == (wanted, 43)
