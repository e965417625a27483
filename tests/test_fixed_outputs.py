"""What a model returns besides its answers, and does not make from the video, comes with each of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import co3d_compile
from co3d_compile.errors import CaptureError

CLIP = (1, 3, 4, 6, 6)


class Returning(nn.Module):
    """A convolution, and a function that says what is returned."""

    def __init__(self, returned: Callable[[Tensor, nn.Parameter, Tensor], Any]) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 4, 3, padding=1)
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.register_buffer("classes", torch.arange(4))
        self.returned = returned

    def forward(self, x: Tensor) -> Any:
        return self.returned(self.conv(x), self.scale, self.classes)


RETURNED: dict[str, Callable[[Tensor, nn.Parameter, Tensor], Any]] = {
    "a parameter": lambda y, scale, classes: (y, scale),
    "a buffer, first": lambda y, scale, classes: (classes, y),
    "a literal": lambda y, scale, classes: {"out": y, "loss": torch.tensor(0.0)},
    "made from a parameter": lambda y, scale, classes: (y, [scale.exp()]),
    "made and expanded": lambda y, scale, classes: (scale.exp().expand(2, 3), y.mean((2, 3, 4))),
    "zeros": lambda y, scale, classes: (y.flip(2), torch.zeros(2)),
}


@pytest.mark.parametrize("name", RETURNED)
def test_what_does_not_follow_from_the_video_comes_with_each_answer(name: str) -> None:
    model = Returning(RETURNED[name]).eval()
    video = torch.randn(1, 3, 7, 6, 6)
    wanted = [leaf for leaf in torch.utils._pytree.tree_leaves(model(video)) if leaf.dim() < 2 or len(leaf) == 2]

    network = co3d_compile.compile(model, CLIP)
    stream = network.stream()
    answers = [answer for frame in video.unbind(2) if (answer := stream.push(frame)) is not None]

    assert len(wanted) == 1
    assert answers
    for answer in (*answers, network(video)):
        (found,) = [one for one in torch.utils._pytree.tree_leaves(answer) if one.dim() < 2 or len(one) == 2]
        torch.testing.assert_close(found, wanted[0], rtol=0, atol=0)
    assert len(network.report.outputs) == 1
    assert network.verify(model).passed
    assert network.deviation(model)[0].largest < 1e-4


def test_it_follows_the_weights_and_lets_gradients_through(tmp_path: Path) -> None:
    model = Returning(RETURNED["made from a parameter"]).eval()
    co3d_compile.compile(model, CLIP).save(tmp_path / "cont.pt")
    network = co3d_compile.load(tmp_path / "cont.pt")
    network.load_state_dict({**model.state_dict(), "scale": torch.tensor(2.0)})

    _, (made,) = network(torch.randn(CLIP))
    made.backward()

    torch.testing.assert_close(made.detach(), torch.tensor(2.0).exp())
    torch.testing.assert_close(network.weights.find("scale").grad, torch.tensor(2.0).exp())


def test_an_exported_program_is_verified_with_it() -> None:
    model = Returning(RETURNED["made from a parameter"]).eval()
    exported = torch.export.export(model, (torch.randn(CLIP),))

    assert co3d_compile.compile(exported, CLIP).verify(exported).passed


def test_a_model_that_makes_nothing_of_its_clip_is_refused() -> None:
    with pytest.raises(CaptureError, match="nothing that the model returns follows from the video"):
        co3d_compile.compile(Returning(lambda y, scale, classes: scale * 2), CLIP)
