"""Pieces of a graph as data: they survive text, run as the graph did, and call nothing but pure operators."""

from __future__ import annotations

import operator

import pytest
import torch
from torch import Tensor, fx, nn

from co3d_compile.capture.export import quiet
from co3d_compile.errors import ArtifactError
from co3d_compile.ops.bodies import Body, BodyCall, Item, body_of, read_by
from co3d_compile.plan.operators import require_callable_body


class Piece(nn.Module):
    """Several results, a literal list, an infinite number, a cast, a factory, a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, second = (x @ self.weight.T).chunk(2, 1)
        filled = torch.cat([first, torch.zeros(x.shape[0], 1)], 1).masked_fill(first[:, :1] > 9, -torch.inf)
        return filled.double(), second.max(1).indices


def captured(module: nn.Module, *inputs: Tensor) -> tuple[list[fx.Node], list[fx.Node]]:
    with quiet():
        exported = torch.export.export(module.eval(), inputs, strict=False).run_decompositions({})
    calls = [node for node in exported.graph.nodes if node.op == "call_function" and node.users]
    outputs = next(iter(reversed(exported.graph.nodes))).args[0]
    return calls, list(outputs)


def test_a_body_runs_as_the_graph_did() -> None:
    module = Piece()
    x = torch.randn(2, 3)
    calls, outputs = captured(module, x)
    inputs = read_by(calls)
    expected = module(x)

    body = Body.from_text(body_of(calls, inputs, outputs).to_text())
    made = body.run([x if node.op == "placeholder" and node.name == "x" else module.weight for node in inputs])

    require_callable_body(body.to_text())
    assert body == body_of(calls, inputs, outputs)
    assert len(inputs) == 2
    for one, other in zip(made, expected, strict=True):
        assert torch.equal(one, other)


def test_sizes_pass_between_calls() -> None:
    """As in a graph whose shapes depend on the data."""

    class Kept(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            kept = x[x > 0]
            return kept.reshape(kept.shape[0] * 1, 1).expand(kept.shape[0], 2 * 3) + torch.zeros(kept.shape[0], 6)

    x = torch.tensor([1.0, -1.0, 2.0, 3.0])
    calls, outputs = captured(Kept(), x)

    body = body_of(calls, read_by(calls), outputs)

    assert "aten.sym_size.int" in body.to_text()
    require_callable_body(body.to_text())
    assert torch.equal(Body.from_text(body.to_text()).run([x])[0], Kept()(x))


def test_a_body_recast_makes_its_own_tensors_in_the_other_dtype() -> None:
    zeros = BodyCall("aten.zeros.default", {"size": [2], "dtype": torch.float32})
    cast = BodyCall("aten._to_copy.default", {"self": Item(1), "dtype": torch.float32})
    body = Body(1, (zeros, cast), (1, 2))

    made = body.recast(torch.float32, torch.float64).run([torch.zeros(1)])

    assert [tensor.dtype for tensor in made] == [torch.float64, torch.float32]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        "[1,[],[1]]",
        "[1,[],[-1]]",
        '[1,[["aten.relu.default",{"self":{"item":1}},null]],[1]]',
        '[1,[["aten.relu.default",[],null]],[1]]',
        "[1,[[7,{},null]],[1]]",
        '[1,[["aten.relu.default",{"self":{"item":0}},"two"]],[1]]',
        '[1,[["aten.relu.default",{"self":{"call":0}},null]],[1]]',
    ],
)
def test_text_that_is_no_body(text: str) -> None:
    with pytest.raises(ArtifactError, match="try: compile the model again"):
        Body.from_text(text)


@pytest.mark.parametrize("target", ["aten.from_file.default", "aten.relu_.default", "os.system", "operator.attrgetter"])
def test_operator_that_no_body_may_call(target: str) -> None:
    text = Body(1, (BodyCall(target, {"self": Item(0)}),), (1,)).to_text()

    with pytest.raises(ArtifactError, match=f"the plan calls '{target}', which is no operator"):
        require_callable_body(text)


def test_arithmetic_is_of_numbers() -> None:
    body = Body(2, (BodyCall("operator.mul", {"0": Item(0), "1": Item(1)}),), (2,))

    assert body.run([3, 4]) == [operator.mul(3, 4)]
