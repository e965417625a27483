"""In-place operators in the captured graph: rewritten from the graph alone where that is safe, else by torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

import co3d_compile
from co3d_compile.capture.writes import without_writes
from co3d_compile.errors import CaptureError
from co3d_compile.testing.law import check_law
from tests.functions import Function

CLIP = (1, 2, 6, 4, 5)


def exported(model: nn.Module) -> fx.Graph:
    with torch.no_grad():
        return torch.export.export(model.eval(), (torch.randn(CLIP),), strict=False).graph


def conv() -> nn.Module:
    return nn.Conv3d(2, 2, 3, padding=1)


def added_to_itself(x: Tensor, conv: nn.Module) -> Tensor:
    y = conv(x)
    other = y
    y += x
    return other * y


def written_twice(x: Tensor, conv: nn.Module) -> Tensor:
    return conv(x).relu_().mul_(2.0).add_(x)


def viewed_afterwards(x: Tensor, conv: nn.Module) -> Tensor:
    y = conv(x).relu_()
    return y.transpose(3, 4).flatten(3) + y.flatten(3)


def of_a_copy(x: Tensor, conv: nn.Module) -> Tensor:
    return conv(x)[:, :, :, 1:].contiguous().relu_()


def through_dropout(x: Tensor, conv: nn.Module) -> Tensor:
    """In eval mode dropout gives the very tensor that it takes."""
    y = conv(x)
    return nn.functional.dropout(y, training=False).relu_() + y


SAFE: dict[str, Callable[..., Tensor]] = {
    "added to itself": added_to_itself,
    "written twice": written_twice,
    "viewed afterwards": viewed_afterwards,
    "of a copy": of_a_copy,
    "through dropout": through_dropout,
}


def seen_by_a_view(x: Tensor, conv: nn.Module) -> Tensor:
    y = conv(x)
    turned = y.transpose(3, 4)
    y.relu_()
    return turned


def through_a_view(x: Tensor, conv: nn.Module) -> Tensor:
    y = conv(x)
    y.transpose(3, 4).relu_()
    return y


def through_einsum(x: Tensor, conv: nn.Module) -> Tensor:
    """A view, though its schema does not say so."""
    y = conv(x)
    return torch.einsum("ncthw->nctwh", y).relu_() + y.mT


def half_of_it(x: Tensor, conv: nn.Module) -> Tensor:
    y = conv(x)
    y[:, :1].relu_()
    return y


def one_of_two(x: Tensor, conv: nn.Module) -> Tensor:
    y = conv(x)
    first, second = y.chunk(2, 1)
    first.relu_()
    return torch.cat((y, second), 1)


def rounded(x: Tensor, conv: nn.Module) -> Tensor:
    """The sum of single and double precision, in single."""
    return conv(x).add_(x.double())


UNSAFE: dict[str, Callable[..., Tensor]] = {
    "seen by a view": seen_by_a_view,
    "through a view": through_a_view,
    "through einsum": through_einsum,
    "half of it": half_of_it,
    "one of two": one_of_two,
    "rounded": rounded,
}


@pytest.mark.parametrize("name", SAFE)
def test_what_an_operator_has_just_made_is_written_to(name: str) -> None:
    graph = exported(Function(SAFE[name], conv=conv()))

    assert without_writes(graph)
    assert not any(str(node.target).split(".")[1].endswith("_") for node in graph.nodes if node.op == "call_function")
    check_law(Function(SAFE[name], conv=conv()), CLIP)


@pytest.mark.parametrize("name", UNSAFE)
def test_what_others_see_is_left_to_torch(name: str) -> None:
    assert not without_writes(exported(Function(UNSAFE[name], conv=conv())))
    check_law(Function(UNSAFE[name], conv=conv()), CLIP)


def test_statistics_that_are_written_are_left_to_torch() -> None:
    def normed(x: Tensor, norm: Any) -> Tensor:
        return nn.functional.batch_norm(x, norm.running_mean, norm.running_var, training=True)

    assert not without_writes(exported(Function(normed, norm=nn.BatchNorm3d(2))))


def test_a_graph_that_does_not_tell_who_shares_memory_is_left_to_torch() -> None:
    graph = exported(Function(written_twice, conv=conv()))
    for node in graph.nodes:
        if node.op == "call_function":
            node.meta["val"] = torch.empty_like(node.meta["val"])

    assert not without_writes(graph)


class Remembering(nn.Module):
    """Writes to its buffers; what of them it returns, ``use`` decides."""

    def __init__(self, use: Callable[[Tensor, nn.Module], Tensor]) -> None:
        super().__init__()
        self.conv = conv()
        self.use = use
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("frames", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        self.calls += 1
        self.frames = self.frames + x.shape[2]
        self.mean.copy_(y.mean((0, 2, 3, 4)))
        return self.use(y, self)


USES: dict[str, Callable[[Tensor, Any], Tensor]] = {
    "nothing": lambda y, _: y.relu(),
    "what it has just written": lambda y, model: y.mean((3, 4)) + model.mean[0],
}


@pytest.mark.parametrize("use", USES)
def test_a_write_to_a_buffer_that_no_output_is_made_of_is_dropped(use: str) -> None:
    torch.manual_seed(0)
    model = Remembering(USES[use]).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    network = co3d_compile.compile(model, CLIP)
    result = network.verify(model)

    assert result.passed, str(result)
    for weights in (model.state_dict(), network.state_dict()):
        torch.testing.assert_close(weights, before, rtol=0, atol=0)


def test_a_write_to_a_buffer_that_outputs_are_made_of_is_refused() -> None:
    model = Remembering(lambda y, model: y * model.calls + model.frames)

    with pytest.raises(CaptureError) as refusal:
        co3d_compile.compile(model.eval(), CLIP)

    assert str(refusal.value) == (
        "calls, frames: the model writes to its own buffers in forward, so its answer depends on what it saw before\n"
        "  try: a model whose forward leaves its buffers alone"
    )
